"""Generation: the latents that are decoded, prompts, beams, batches, ends, seeds, lengths, and what is refused. Beside
it stand full passes of the decoder, single sentences, and plain loops. Caches and families: `test_families.py`."""

import warnings

import pytest
import tiny
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    MaxTimeCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
    TextIteratorStreamer,
)

EXACTLY = {"max_new_tokens": 12, "min_new_tokens": 12}


@pytest.fixture
def model(make_model, batch):
    """A model whose latents and tokens matter, with estimated statistics, in evaluation mode."""
    model = make_model(posterior="bn_rms", latent_injection="both")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("injection"):
                parameter.normal_(std=1.0 if "memory" in name else 0.02)
            elif name.startswith("decoder") and parameter.dim() > 1:
                parameter.mul_(4)
        model.train()(**batch)
    return model.double().eval()


@pytest.fixture
def latents():
    return torch.randn(6, 8).double()


def shift_eos(model, amount):
    """Add to the logit of EOS, and little to others."""
    direction = model.decoder.lm_head.weight[model.config.eos_token_id]
    with torch.no_grad():
        model.decoder.transformer.ln_f.bias.copy_(amount * direction / direction.square().sum())


def full_logits(model, latents, ids):
    with torch.no_grad():
        return model.decode(latents, ids)[0]


def test_from_texts_the_posteriors_modes_are_decoded_unless_a_sample_is_asked_for(model, batch):
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        model.encoder.embeddings.token_type_embeddings.weight.mul_(30)  # or two types are nearly the same
    posterior = model.encode(**inputs)
    expected = model.generate(latents=posterior.mode(), **EXACTLY)
    assert torch.equal(model.generate(**inputs, **EXACTLY), expected)
    types = {"token_type_ids": torch.ones_like(batch["input_ids"])}
    of_types = model.generate(latents=model.encode(**inputs, **types).mode(), **EXACTLY)
    assert torch.equal(model.generate(**inputs, **types, **EXACTLY), of_types)
    assert not torch.equal(of_types, expected)
    torch.manual_seed(5)
    sample = posterior.sample()
    sampled = model.generate(**inputs, sample_posterior=True, seed=5, **EXACTLY)
    assert torch.equal(sampled, model.generate(latents=sample, **EXACTLY))
    assert not torch.equal(sampled, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 4},
        {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0},
        {"num_beams": 3, "early_stopping": True, "repetition_penalty": 1.3},
    ],
)
def test_a_text_does_not_depend_on_what_else_is_in_its_batch(model, latents, settings):
    """EOS is made likely, so that texts end at different lengths."""
    shift_eos(model, 1.8)
    together = model.generate(latents=latents, max_new_tokens=20, **settings)
    each = settings.get("num_return_sequences", 1)
    lengths = set()
    for row in range(6):
        alone = model.generate(latents=latents[row : row + 1], max_new_tokens=20, **settings)
        mine = together[row * each : (row + 1) * each]
        assert torch.equal(mine[:, : alone.shape[1]], alone)
        # Where the padding token is number 0, beam search pads with EOS.
        ends = torch.tensor([model.config.pad_token_id, model.config.eos_token_id])
        assert torch.isin(mine[:, alone.shape[1] :], ends).all()
        lengths.add(alone.shape[1])
    assert len(lengths) > 1  # or nothing was padded


def test_generation_stops_at_eos_and_pads_behind_it(model, latents):
    shift_eos(model, 1.8)
    ids = model.generate(latents=latents, max_new_tokens=25)
    ended = 0
    for row, logits in zip(ids, full_logits(model, latents, ids[:, :-1]), strict=True):
        picked = logits.argmax(-1)
        end = (picked == model.config.eos_token_id).nonzero()
        stop = int(end[0]) + 1 if len(end) else len(picked)
        ended += len(end) > 0
        assert torch.equal(row[1 : stop + 1], picked[:stop])
        assert (row[stop + 1 :] == model.config.pad_token_id).all()
    assert ended and ids.shape[1] < 26


def test_beam_scores_are_those_of_a_full_pass(model, latents):
    """Each returned beam is scored by its own latent, and by no other."""
    output = model.generate(
        latents=latents,
        num_beams=4,
        num_return_sequences=2,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
        **EXACTLY,
    )
    assert output.sequences.shape == (12, 13)

    def scores(latents):
        logits = full_logits(model, latents.repeat_interleave(2, 0), output.sequences[:, :-1])
        return logits.log_softmax(-1).gather(-1, output.sequences[:, 1:, None]).sum((1, 2))

    torch.testing.assert_close(output.sequences_scores.double(), scores(latents), rtol=1e-4, atol=1e-4)
    assert (scores(latents.flip(0)) - scores(latents)).abs().min() > 1e-2
    # More beams find texts at least as likely as the greedy ones.
    greedy = model.generate(latents=latents, **EXACTLY)
    logits = full_logits(model, latents, greedy[:, :-1])
    greedy_scores = logits.log_softmax(-1).gather(-1, greedy[:, 1:, None]).sum((1, 2))
    assert (output.sequences_scores[::2] >= greedy_scores - 1e-4).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.3},
        {"temperature": 2.0, "num_return_sequences": 4},
    ],
)
def test_sampling_by_a_seed(model, latents, settings):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    draws = [model.generate(latents=latents, do_sample=True, seed=seed, **settings, **EXACTLY) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert len(draws[0]) == 6 * settings.get("num_return_sequences", 1)
    if "num_return_sequences" in settings:
        assert len({tuple(row) for row in draws[0][:4].tolist()}) > 1
    # Without one the global state decides.
    free = [model.generate(latents=latents, do_sample=True, **settings, **EXACTLY) for _ in range(2)]
    assert not torch.equal(*free)


def test_what_is_sampled_has_the_decoders_probabilities(model):
    latents = torch.randn(1, 8).double()
    probabilities = full_logits(model, latents, torch.tensor([[model.config.decoder_start_token_id]]))[0, -1].softmax(
        -1
    )
    ids = model.generate(latents=latents.expand(4000, 8), do_sample=True, top_k=0, max_new_tokens=1, seed=0)[:, 1]
    frequencies = torch.bincount(ids, minlength=len(probabilities)) / 4000
    assert (frequencies - probabilities).abs().max() < 5 * (0.25 / 4000) ** 0.5
    assert probabilities.max() < 0.9


def test_stopping_criteria_streamers_and_generation_configs_are_transformers_own(model, latents, processor):
    tokenizer = processor.tokenizer
    greedy = model.generate(latents=latents[:1], max_new_tokens=12)
    # The first token that is more than a part of a character.
    place = next(i for i in range(1, 13) if "\ufffd" not in tokenizer.decode(greedy[0, i]))
    word = tokenizer.decode(greedy[0, place])
    criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, [word])])
    stopped = model.generate(latents=latents[:1], max_new_tokens=12, stopping_criteria=criteria)
    assert stopped.shape[1] == place + 1 < greedy.shape[1] and torch.equal(stopped, greedy[:, : stopped.shape[1]])
    at_once = StoppingCriteriaList([MaxTimeCriteria(0.0)])
    assert model.generate(latents=latents[:1], max_new_tokens=12, stopping_criteria=at_once).shape == (1, 2)
    streamer = TextIteratorStreamer(tokenizer, skip_special_tokens=True)
    model.generate(latents=latents[:1], max_new_tokens=12, streamer=streamer)
    assert "".join(streamer) == tokenizer.decode(greedy[0], skip_special_tokens=True)
    config = GenerationConfig(max_new_tokens=12, num_beams=2, eos_token_id=model.config.eos_token_id, pad_token_id=0)
    assert model.generate(latents=latents, generation_config=config).shape[0] == 6


def test_a_prompt_is_continued_under_each_latent(model, latents, processor):
    prompts = processor.encode_prompts(["The food", "My", "The old waiter likes", "", "My sister", "The"])
    ids = model.generate(latents=latents, **prompts, max_new_tokens=5)
    texts = processor.decode_texts(ids)
    beginnings = ["The food", "My", "The old waiter likes", "", "My sister", "The"]
    assert all(text.startswith(beginning) for text, beginning in zip(texts, beginnings, strict=True))
    same = processor.encode_prompts(["The food"] * 6)
    continued = model.generate(latents=latents, **same, max_new_tokens=5)
    assert len({tuple(row) for row in continued.tolist()}) > 1
    # A start token that is there already is not put there again.
    start = torch.full((6, 1), model.config.decoder_start_token_id)
    with_start = torch.cat([start, same["decoder_input_ids"]], 1)
    assert torch.equal(model.generate(latents=latents, decoder_input_ids=with_start, max_new_tokens=5), continued)


def test_beams_go_on_from_padded_prompts(model, latents, processor):
    texts = ["The food", "My", "The old waiter likes", "", "My sister", "The"]
    together = model.generate(latents=latents, **processor.encode_prompts(texts), num_beams=3, **EXACTLY)
    for row, text in enumerate(texts):
        alone = model.generate(
            latents=latents[row : row + 1], **processor.encode_prompts(text), num_beams=3, **EXACTLY
        )
        assert torch.equal(together[row, -alone.shape[1] :], alone[0])


def test_without_a_length_a_text_may_fill_the_decoders_positions(model, latents):
    shift_eos(model, -30.0)
    # 32 positions: one for the latent, one for the start token; the last token takes none.
    assert model.generate(latents=latents).shape == (6, 32)
    assert model.generate(latents=latents, max_new_tokens=31).shape == (6, 32)
    assert model.generate(latents=latents, max_length=7).shape == (6, 7)
    model.generation_config.max_new_tokens = 3
    assert model.generate(latents=latents).shape == (6, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either input_ids or latents"),
        ({"latents": torch.zeros(2, 8), "input_ids": torch.ones(2, 3).long()}, "either input_ids or latents"),
        ({"latents": torch.zeros(2, 7)}, r"latent_size=8\), got shape \(2, 7\)"),
        ({"latents": torch.zeros(8)}, r"got shape \(8,\)"),
        ({"latents": torch.zeros(0, 8)}, r"got shape \(0, 8\)"),
        ({"latents": torch.zeros(2, 8).long()}, "got torch.int64. Token ids of sentences"),
        ({"latents": [[0.0] * 8]}, "got list"),
        ({"latents": torch.tensor([[0.0] * 8, [float("nan")] * 8])}, "1 of 2 latents hold NaN.*row 1"),
        ({"latents": torch.full((2, 8), float("inf"))}, "2 of 2 latents hold NaN or infinite"),
        ({"latents": torch.zeros(2, 8), "sample_posterior": True}, "belong to input_ids"),
        ({"latents": torch.zeros(2, 8), "attention_mask": torch.ones(2, 3)}, "belong to input_ids"),
        ({"latents": torch.zeros(2, 8), "token_type_ids": torch.ones(2, 3)}, "belong to input_ids"),
        ({"latents": torch.zeros(2, 8), "past_key_values": object()}, "generate makes the cache"),
        ({"latents": torch.zeros(2, 8), "assistant_model": object()}, "would know nothing of the latent"),
        ({"inputs": torch.ones(2, 3).long()}, "passed as input_ids"),
        (
            {"latents": torch.zeros(2, 8), "decoder_inputs_embeds": torch.zeros(2, 1, 32)},
            "passed as decoder_input_ids",
        ),
        ({"input_ids": {"input_ids": [[1]]}}, r"result of a processor as \*\*inputs"),
        ({"latents": torch.zeros(2, 8), "guidance_scale": 1.5}, "guidance_scale is not available"),
        ({"latents": torch.zeros(2, 8), "prefill_chunk_size": 2}, "prompts are read at once"),
        ({"latents": torch.zeros(2, 8), "output_attentions": True}, "output_attentions is not available"),
        ({"latents": torch.zeros(2, 8), "max_new_tokens": 32}, "room for max_new_tokens=31, got 32"),
        ({"latents": torch.zeros(2, 8), "max_length": 33}, "room for max_new_tokens=31, got 32"),
        ({"latents": torch.zeros(2, 8), "decoder_input_ids": torch.full((2, 32), 5)}, "prompt of 33 .*32 positions"),
        ({"latents": torch.zeros(2, 8), "decoder_input_ids": torch.ones(3, 4).long()}, "each of 2 latents"),
        ({"latents": torch.zeros(2, 8), "decoder_attention_mask": torch.ones(2, 4)}, "without decoder_input_ids"),
        (
            {
                "latents": torch.zeros(1, 8),
                "decoder_input_ids": torch.ones(1, 3).long(),
                "decoder_attention_mask": torch.tensor([[1, 1, 0]]),
            },
            "padded on the left",
        ),
        (
            {
                "latents": torch.zeros(1, 8),
                "decoder_input_ids": torch.ones(1, 3).long(),
                "decoder_attention_mask": torch.ones(1, 4),
            },
            "does not fit",
        ),
    ],
)
def test_bad_input_is_refused(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        model.generate(**arguments)


def test_padding_of_a_batch_changes_no_text(trained_model, processor, texts):
    """Short sentences beside long ones, whose padding the encoder must not see."""
    some = sorted(texts, key=len)[:3] + sorted(texts, key=len)[-3:]
    inputs = processor(some, return_tensors="pt")
    together = processor.decode_texts(trained_model.generate(**inputs, max_new_tokens=20))
    assert together == [trained_model.reconstruct(text, max_new_tokens=20) for text in some]
    ids = trained_model.generate(inputs["input_ids"], max_new_tokens=20)
    assert processor.decode_texts(ids)[:3] != together[:3]


def test_nothing_is_warned_of_where_nothing_is_wrong(make_model, decoder_config, caplog):
    """GPT-2 has one token for padding and EOS, which the base class takes for a reason to look for padding."""
    config = GPT2Config(**{**decoder_config.to_dict(), "pad_token_id": decoder_config.eos_token_id})
    model = tiny.build_model(make_model().config.encoder, config, posterior="gaussian").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(latents=torch.randn(3, 8))
        model.generate(input_ids=torch.ones(3, 4).long(), attention_mask=torch.ones(3, 4).long())
    assert caplog.records == []


def test_without_a_length_and_with_many_positions_256_tokens_are_made(make_model, decoder_config):
    config = GPT2Config(**{**decoder_config.to_dict(), "n_positions": 400})
    model = tiny.build_model(make_model().config.encoder, config, posterior="gaussian").double().eval()
    shift_eos(model, -30.0)
    assert model.generate(latents=torch.randn(1, 8)).shape == (1, 257)


def test_the_start_token_is_the_configurations_where_no_other_is_named(model, latents):
    expected = model.generate(latents=latents, max_new_tokens=3)
    model.generation_config.decoder_start_token_id = None
    model.config.decoder_start_token_id = 7
    assert (model.generate(latents=latents, max_new_tokens=3)[:, 0] == 7).all()
    assert not (expected[:, 0] == 7).any()


def test_a_model_in_training_mode_is_refused(model, latents):
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        model.train().generate(latents=latents)


def test_latents_of_other_types_and_devices_are_taken_as_they_are_meant(make_model):
    model = make_model(posterior="gaussian").eval()
    latents = torch.randn(3, 8)
    expected = model.generate(latents=latents, **EXACTLY)
    assert torch.equal(model.generate(latents=latents.double(), **EXACTLY), expected)
    half = model.generate(latents=latents.bfloat16(), **EXACTLY)
    assert torch.equal(half, model.generate(latents=latents.bfloat16().float(), **EXACTLY))
    low = model.to(torch.bfloat16).generate(latents=latents, **EXACTLY)
    assert low.shape == expected.shape
