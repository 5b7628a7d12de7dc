"""Conventions of Transformers that users meet: hidden states and attentions, `return_dict`, flags, missing weights.
States are compared with what the bare encoder and the bare decoder return."""

import copy

import pytest
import torch
from families import DECODERS, ENCODERS, VOCAB_SIZE
from transformers import DynamicCache

from hf_bnvae import POSTERIOR_HEADS, BNVAEConfig, BNVAEModel, GaussianPrior

PAIRS = [("bert", "gpt2"), ("modernbert", "qwen3")]
LENGTHS, TARGET_LENGTHS = [3, 7, 5, 2, 6, 4], [6, 2, 8, 3, 4, 5]
WIDTH, TARGET_WIDTH = max(LENGTHS), max(TARGET_LENGTHS)
ASKED = {"output_hidden_states": True, "output_attentions": True}
STATES = ("encoder_hidden_states", "encoder_attentions", "decoder_hidden_states", "decoder_attentions")


def build(encoder: str, decoder: str, attention: str = "eager", **fields) -> BNVAEModel:
    config = BNVAEConfig.from_encoder_decoder_configs(
        copy.deepcopy(ENCODERS[encoder]), copy.deepcopy(DECODERS[decoder]), latent_size=4, **fields
    )
    torch.manual_seed(0)
    return BNVAEModel._from_config(config, attn_implementation=attention).double().eval()


@pytest.fixture(params=PAIRS, ids="-".join)
def model(request) -> BNVAEModel:
    return build(*request.param)


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def padded(lengths: list[int], padding: int) -> torch.Tensor:
        ids = torch.randint(3, VOCAB_SIZE, (len(lengths), max(lengths)), generator=generator)
        return ids.where(is_real(lengths), padding)

    return {
        "input_ids": padded(LENGTHS, 0),
        "attention_mask": is_real(LENGTHS).long(),
        "labels": padded(TARGET_LENGTHS, -100),
        "noise": torch.randn(len(LENGTHS), 4, generator=generator, dtype=torch.float64),
    }


def is_real(lengths: list[int]) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def real_entries(name: str, states: torch.Tensor) -> torch.Tensor:
    """The entries of real positions. An attention weight has two positions, after the latent's column."""
    real = is_real(LENGTHS if name.startswith("encoder") else TARGET_LENGTHS)
    if name.endswith("hidden_states"):
        return states[real]
    slots = states.shape[3] - states.shape[2]
    seen = torch.cat([torch.ones(len(real), slots, dtype=torch.bool), real], 1)
    return states.transpose(0, 1)[:, real.unsqueeze(2) & seen.unsqueeze(1)]


def assert_same_states(first, second) -> None:
    for name in STATES:
        pairs = list(zip(first[name], second[name], strict=True))
        assert pairs
        for one, other in pairs:
            assert one.shape == other.shape
            torch.testing.assert_close(real_entries(name, one), real_entries(name, other))


def test_the_encoders_states_are_those_of_the_bare_encoder(model, inputs):
    outputs = model(**inputs, **ASKED)
    sentences = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    bare = model.encoder(**sentences, **ASKED)
    assert [state.shape for state in bare.hidden_states] == [(len(LENGTHS), WIDTH, 32)] * 3
    assert [state.shape for state in bare.attentions] == [(len(LENGTHS), 2, WIDTH, WIDTH)] * 2
    for name in ("hidden_states", "attentions"):
        for own, expected in zip(outputs[f"encoder_{name}"], bare[name], strict=True):
            assert torch.equal(own, expected)
    others = model.encoder(**sentences | {"input_ids": inputs["input_ids"].flip(0)}, **ASKED)
    assert not torch.equal(outputs.encoder_hidden_states[-1], others.hidden_states[-1])


@pytest.mark.parametrize("injection", ["memory", "embedding", "both"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_the_decoders_states_are_those_of_the_bare_decoder_under_the_latent(pair, injection, inputs):
    model = build(*pair, latent_injection=injection)
    outputs = model(**inputs, **ASKED)
    ids = model.prepare_decoder_input_ids_from_labels(inputs["labels"])

    def read(latents: torch.Tensor):
        embeddings = model.injection.add_embedding(model.decoder.get_input_embeddings()(ids), latents)
        cache = DynamicCache(config=model.config.decoder)
        if model.injection.num_slots:
            for layer, slot in enumerate(model.injection.memory_slots(latents)):
                cache.update(slot, slot, layer)
        return model.decoder(inputs_embeds=embeddings, past_key_values=cache, **ASKED)

    bare = read(outputs.latents)
    slots = int(injection != "embedding")
    assert [state.shape for state in outputs.decoder_hidden_states] == [(len(LENGTHS), TARGET_WIDTH, 32)] * 3
    assert {state.shape[2:] for state in outputs.decoder_attentions} == {(TARGET_WIDTH, slots + TARGET_WIDTH)}
    for name in ("hidden_states", "attentions"):
        for own, expected in zip(outputs[f"decoder_{name}"], bare[name], strict=True):
            torch.testing.assert_close(own, expected)
    for weights in outputs.decoder_attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        # The first token sees itself, and the latent in its slot.
        assert ((weights[:, :, 0] > 0).sum(-1) == slots + 1).all()
    others = read(outputs.latents.flip(0))
    assert not torch.allclose(outputs.decoder_hidden_states[-1], others.hidden_states[-1])


def test_labels_and_decoder_input_ids_give_the_same_states(model, inputs):
    by_labels = model(**inputs, **ASKED)
    ids = model.prepare_decoder_input_ids_from_labels(inputs.pop("labels"))
    by_ids = model(**inputs, decoder_input_ids=ids, **ASKED)
    assert_same_states(by_labels, by_ids)
    assert by_ids.loss is None and by_labels.logits is None
    with pytest.raises(AssertionError):
        assert_same_states(by_labels, model(**inputs, decoder_input_ids=ids.flip(0), **ASKED))


@pytest.mark.parametrize("checkpoint_chunks", [False, True])
def test_chunks_give_the_states_of_the_whole_batch_in_its_order(model, inputs, checkpoint_chunks):
    whole = model(**inputs, **ASKED, output_logits=True)
    chunks = model(**inputs, **ASKED, output_logits=True, chunk_size=2, checkpoint_chunks=checkpoint_chunks)
    assert_same_states(whole, chunks)
    torch.testing.assert_close(chunks.loss, whole.loss)
    # A chunk's longest sentence ends before the batch's longest one. Behind it, nothing was computed.
    shortest = TARGET_LENGTHS.index(min(TARGET_LENGTHS))
    assert (chunks.decoder_hidden_states[-1][shortest, -1] == 0).all()
    assert (whole.decoder_hidden_states[-1][shortest, -1] != 0).any()
    reordered = {name: values.flip(0) for name, values in inputs.items()}
    with pytest.raises(AssertionError):
        assert_same_states(whole, model(**reordered, **ASKED, chunk_size=2))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_asking_for_states_changes_no_loss_and_no_gradient(attention, inputs):
    """With sdpa attention, the model packs sentences unless it is asked for states."""
    model = build("bert", "gpt2", attention)

    def gradients(**kwargs) -> torch.Tensor:
        model.zero_grad()
        outputs = model(**inputs, **kwargs)
        outputs.loss.backward()
        return torch.cat([outputs.loss.detach().view(1), *(p.grad.flatten() for p in model.parameters())])

    plain = gradients()
    torch.testing.assert_close(gradients(output_hidden_states=True), plain)
    torch.testing.assert_close(gradients(**ASKED), plain)
    assert not torch.allclose(gradients(noise=-inputs.pop("noise")), plain)


def test_states_of_packed_models_have_one_row_for_each_sentence(inputs):
    model = build("bert", "gpt2", "sdpa")
    rows = []
    for network, name in ((model.encoder, "input_ids"), (model.decoder, "inputs_embeds")):
        network.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: rows.append(len(kwargs[name])), with_kwargs=True
        )
    outputs = model(**inputs, output_hidden_states=True)
    assert rows == [len(LENGTHS)] * 2
    assert outputs.encoder_hidden_states[0].shape == (len(LENGTHS), WIDTH, 32)
    rows.clear()
    model(**inputs)
    assert max(rows) < len(LENGTHS)


def test_nothing_is_returned_unasked(model, inputs):
    assert not {*STATES} & model(**inputs).keys()
    assert not {*STATES} & model(**inputs, output_hidden_states=False, output_attentions=False).keys()
    latents = model(**inputs).latents
    without_encoder = model(latents=latents, labels=inputs["labels"], **ASKED)
    assert {*STATES} & without_encoder.keys() == {"decoder_hidden_states", "decoder_attentions"}


def test_a_configuration_asks_for_states_and_a_call_overrides_it(model, inputs):
    expected = model(**inputs, **ASKED)
    model.config.output_hidden_states = model.config.output_attentions = True
    assert_same_states(model(**inputs), expected)
    assert not {*STATES} & model(**inputs, output_hidden_states=False, output_attentions=False).keys()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_network_that_computes_states_for_itself_returns_none(attention, inputs):
    model = build("bert", "gpt2", attention)
    model.config.encoder.output_hidden_states = model.config.decoder.output_hidden_states = True
    assert not {*STATES} & model(**inputs).keys()
    assert not {*STATES} & model(**inputs, chunk_size=2).keys()


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_single_hidden_states_can_be_chosen(model, inputs, chunk_size):
    everything = model(**inputs, output_hidden_states=True)
    chosen = model(**inputs, output_hidden_states=[0, -1], chunk_size=chunk_size)
    for name in ("encoder_hidden_states", "decoder_hidden_states"):
        first, middle, last = chosen[name]
        assert middle is None
        for own, expected in ((first, everything[name][0]), (last, everything[name][-1])):
            torch.testing.assert_close(real_entries(name, own), real_entries(name, expected))


def test_gradients_reach_hidden_states_and_attentions(model, inputs):
    outputs = model(**inputs, **ASKED)
    states = [state for name in STATES for state in outputs[name]]
    gradients = torch.autograd.grad(outputs.loss, states, allow_unused=True)
    used = [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients]
    assert all(used), used


def test_states_come_with_a_cache_token_by_token(model, inputs):
    latents = model(**inputs).latents
    ids = model.prepare_decoder_input_ids_from_labels(inputs["labels"])
    whole = model(latents=latents, decoder_input_ids=ids, **ASKED)
    cache = DynamicCache(config=model.config.decoder)
    for layer, slot in enumerate(model.injection.memory_slots(latents)):
        cache.update(slot, slot, layer)
    for step in range(ids.shape[1]):
        outputs = model(
            latents=latents,
            decoder_input_ids=ids[:, step : step + 1],
            past_key_values=cache,
            use_cache=True,
            **ASKED,
        )
        weights = whole.decoder_attentions[-1][:, :, step : step + 1, : step + 2]
        torch.testing.assert_close(outputs.decoder_attentions[-1], weights)
        torch.testing.assert_close(outputs.decoder_hidden_states[-1][:, 0], whole.decoder_hidden_states[-1][:, step])


def test_generation_does_not_depend_on_a_configuration_that_asks_for_states(model, inputs):
    latents = model(**inputs).latents
    expected = model.generate(latents=latents, max_new_tokens=5)
    model.config.output_hidden_states = model.config.output_attentions = True
    assert torch.equal(model.generate(latents=latents, max_new_tokens=5), expected)
    with pytest.raises(ValueError, match=r"output_attentions is not available here: call model\(latents="):
        model.generate(latents=latents, output_attentions=True, return_dict_in_generate=True)


# --- return_dict -----------------------------------------------------------------------------------------------------


def test_return_dict_false_gives_a_tuple_of_what_is_there(model, inputs):
    expected = model(**inputs, **ASKED).to_tuple()
    as_tuple = model(**inputs, **ASKED, return_dict=False)
    assert type(as_tuple) is tuple and len(as_tuple) == len(expected) == 10
    assert torch.equal(as_tuple[0], expected[0])
    assert type(as_tuple[-1]) is tuple and torch.equal(as_tuple[-1][0], expected[-1][0])
    model.config.return_dict = False
    assert type(model(**inputs)) is tuple
    assert model(**inputs, return_dict=True).loss == expected[0]


def test_training_and_evaluation_read_outputs_by_name_whatever_the_configuration_says(make_trainer):
    expected, trainer = make_trainer({"decoder_dropout": 0.0}), make_trainer({"decoder_dropout": 0.0})
    trainer.model.config.return_dict = False
    trainer.model.config.output_hidden_states = True
    first, second = (one.train().training_loss for one in (expected, trainer))
    assert second == pytest.approx(first, rel=1e-5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.evaluate()["eval_loss"], rel=1e-5)


# --- types, missing weights, and flags -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("posterior", POSTERIOR_HEADS)
def test_loading_in_half_precision_leaves_head_and_prior_in_float32(posterior, dtype, tmp_path):
    model = build("bert", "gpt2", posterior=posterior).float()
    model.set_prior(GaussianPrior(4))
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path, dtype=dtype)
    for name, value in loaded.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value.dtype == torch.int64, name
        else:
            assert value.dtype == (torch.float32 if name.startswith(("posterior.", "prior.")) else dtype), name


def test_weights_that_are_missing_start_as_in_a_new_network(model):
    """Some weights start smaller than others: those of the last maps of GPT-2's and ModernBERT's layers."""
    started = BNVAEModel.from_pretrained(None, config=model.config, state_dict={}).state_dict()
    fresh = BNVAEModel(model.config).state_dict()
    spreads = {name: value.std().item() for name, value in fresh.items() if value.dim() == 2}
    assert len({round(spread, 2) for name, spread in spreads.items() if name.startswith(("encoder", "decoder"))}) > 1
    for name, spread in spreads.items():
        assert started[name].std().item() == pytest.approx(spread, rel=0.25), name


def test_flags_of_activation_checkpointing_stay_up_after_a_pass(model, inputs):
    model.activation_checkpointing_enable()
    model.train()(**inputs).loss.backward()
    assert model.injection.memory.weight.grad.abs().sum() > 0
    flags = [module.gradient_checkpointing for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    assert len(flags) > 2 and all(flags)
    model.activation_checkpointing_disable()
    model(**inputs).loss.backward()
    flags = [module.gradient_checkpointing for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    assert not any(flags)
