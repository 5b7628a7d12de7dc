"""Conditions: what both networks are given of them, and that nothing but the condition changes a result."""

import copy

import numpy as np
import pytest
import tiny
import torch
from cases import cases
from families import DECODERS
from hypothesis import given
from hypothesis import strategies as st
from test_families import assert_same, build, make_batch

from hf_bnvae import BNVAEConfig, BNVAEDataCollator, BNVAEModel, BNVAEProcessor, fit_prior
from hf_bnvae.interop.onnx_export import export_encoder_side
from hf_bnvae.interop.sentence_embeddings import sentence_transformer
from hf_bnvae.model.condition_bnvae import prompts_with_conditions, rows_with_conditions
from hf_bnvae.training.from_scratch import train_processor

START, PAD = 99, -100
CONDITION_LENGTHS = [2, 0, 5, 1, 0, 7, 3, 4]
PAIRS = [
    ("bert", "gpt2"),
    ("roberta", "llama"),
    ("distilbert", "opt"),
    ("modernbert", "gemma3"),
    ("electra", "mistral"),
]


def padded(rows: list[list[int]], width: int, fill: int = PAD) -> torch.Tensor:
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows]).reshape(len(rows), width)


def conditions_of_batch(seed: int = 3, least: int = 3) -> torch.Tensor:
    """Random conditions of different lengths for the sentences of `make_batch`."""
    ids = torch.randint(least, 60, (8, max(CONDITION_LENGTHS)), generator=torch.Generator().manual_seed(seed))
    return ids.masked_fill(torch.arange(7) >= torch.tensor(CONDITION_LENGTHS).unsqueeze(1), PAD)


ROWS = st.lists(
    st.tuples(st.lists(st.integers(1, 50), max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=6)),
    min_size=1,
    max_size=7,
)


@given(ROWS, st.integers(0, 3), st.integers(0, 3))
def test_a_row_is_the_condition_the_start_token_and_the_text(rows, extra_condition, extra_text):
    width = max(len(condition) for condition, _ in rows) + extra_condition
    length = max(len(text) for _, text in rows) + extra_text
    labels = padded([text for _, text in rows], length)
    inputs = padded([[START, *text[:-1]] for _, text in rows], length, fill=7)
    found = rows_with_conditions(padded([own for own, _ in rows], width), inputs, labels, START)
    longest = max(len(condition) + len(text) for condition, text in rows)
    expected = [
        (
            [*condition, START, *text[:-1]],
            [PAD] * len(condition) + text,
        )
        for condition, text in rows
    ]
    assert found.input_ids.equal(padded([ids for ids, _ in expected], longest, fill=START))
    assert found.labels.equal(padded([targets for _, targets in expected], longest))
    assert found.is_real.sum(1).tolist() == [len(ids) for ids, _ in expected]


@given(ROWS)
def test_a_prompt_stands_behind_its_condition_and_where_it_stood(rows):
    width, length = max(len(own) for own, _ in rows), max(len(prompt) for _, prompt in rows)
    prompts = torch.tensor([[0] * (length - len(prompt)) + prompt for _, prompt in rows])
    mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for _, prompt in rows])
    ids, real = prompts_with_conditions(padded([own for own, _ in rows], width), prompts, mask, 77)
    assert (ids[real == 0] == 77).sum() + (ids[real == 0] == 0).sum() == (real == 0).sum()
    for row, (condition, prompt) in enumerate(rows):
        assert ids[row][real[row].bool()].tolist() == condition + prompt
        assert real[row].tolist() == sorted(real[row].tolist())
    assert ids[:, -length:].masked_fill(mask == 0, 0).equal(prompts)


# -- the model --------------------------------------------------------------------------------------------------------


def loss_and_gradients(model: BNVAEModel, condition_ids: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    noise = torch.randn(8, 8, generator=torch.Generator().manual_seed(2))
    output = model(**make_batch(), noise=noise, condition_ids=condition_ids, **kwargs)
    output.loss.backward()
    return output.reconstruction_nll.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("injection", cases(["memory", "embedding", "both"], quick=["both"]))
@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_padding_packing_and_chunks_change_nothing(encoder, decoder, injection):
    fields = {"conditional": True, "latent_injection": injection}
    nll, gradient = loss_and_gradients(build(encoder, decoder, **fields), conditions_of_batch())
    wider = torch.nn.functional.pad(conditions_of_batch(), (0, 4), value=PAD)
    for condition_ids, packs, cut in (
        (wider, True, {}),
        (conditions_of_batch(), False, {}),
        (conditions_of_batch(), True, {"chunk_size": 3}),
        (conditions_of_batch(), False, {"chunk_size": 1, "checkpoint_chunks": True}),
    ):
        found = loss_and_gradients(build(encoder, decoder, pack_sentences=packs, **fields), condition_ids, **cut)
        assert_same(found[0], nll)
        assert_same(found[1], gradient)
    other = loss_and_gradients(build(encoder, decoder, **fields), conditions_of_batch(seed=4))[0]
    changed = (other - nll).abs() > 1e-6 * nll
    assert changed.tolist() == [length > 0 for length in CONDITION_LENGTHS]


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_text_is_scored_after_its_condition_and_the_condition_is_not(decoder):
    """Compared with the decoder's own log-probabilities, one sentence at a time."""
    attention = "eager" if decoder == "gpt_neo" else "sdpa"
    model = build("bert", decoder, attention, conditional=True).eval()
    batch, conditions = make_batch(), conditions_of_batch()
    latents = torch.randn(8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        found = model(latents=latents, labels=batch["labels"], condition_ids=conditions, output_logits=True)
        for row in range(8):
            text = batch["labels"][row][batch["labels"][row] != PAD]
            condition = conditions[row][conditions[row] != PAD]
            start = torch.tensor([model.config.decoder_start_token_id])
            logits, _ = model.decode(latents[row : row + 1], torch.cat([condition, start, text[:-1]]).unsqueeze(0))
            own = logits[0, len(condition) :].log_softmax(-1)
            assert_same(found.reconstruction_nll[row], -own.gather(1, text.unsqueeze(1)).sum())
            assert_same(found.logits[row, : len(text)].log_softmax(-1), own)
            assert (found.logits[row, len(text) :] == 0).all()


def test_an_empty_condition_is_the_unconditional_model_to_the_bit(processor, texts, make_model):
    plain, conditional = make_model().train(), make_model(conditional=True).train()
    noise = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    losses, gradients = [], []
    for model, options in ((plain, {}), (conditional, {"condition": ""}), (conditional, {"condition": "where ?"})):
        torch.manual_seed(0)  # dropout
        model.zero_grad()
        loss = model(**processor(texts[:16], return_tensors="pt", **options), noise=noise).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert losses[0] == losses[1] != losses[2]
    assert gradients[0].equal(gradients[1]) and not gradients[0].equal(gradients[2])


def test_conditions_are_asked_for_where_there_are_any_and_refused_elsewhere(processor, texts, make_model):
    plain, conditional = make_model().eval(), make_model(conditional=True).eval()
    for model in (plain, conditional):
        model.attach_processor(processor)
    with_conditions = processor(texts[:2], condition="where ?", return_tensors="pt")
    without = processor(texts[:2], return_tensors="pt")
    latents = torch.zeros(2, 8)
    for call in (
        lambda: conditional(**without),
        lambda: conditional.generate(latents=latents),
        lambda: conditional.sample(2),
        lambda: conditional.reconstruct(texts[:2]),
        lambda: conditional.reconstruct(latents),
        lambda: conditional.encode_texts(texts[:2]),
        lambda: conditional.interpolate(latents[0], latents[1]),
        lambda: conditional.traverse(latents, 0),
    ):
        with pytest.raises(ValueError, match=r"trained with conditions, and condition(_ids)? is missing"):
            call()
    for call in (
        lambda: plain(**with_conditions),
        lambda: plain.generate(latents=latents, condition_ids=with_conditions["condition_ids"]),
        lambda: plain.sample(2, condition=""),
        lambda: plain.reconstruct(latents, condition="where ?"),
        lambda: plain.encode_texts(texts[:2], condition="where ?"),
        lambda: plain.neighbours(latents, latents, condition="where ?"),
        lambda: plain.reconstruct(texts[:2], text_condition="where ?"),
    ):
        with pytest.raises(ValueError, match=r"was given, but this model was trained without conditions"):
            call()
    for condition, words in (
        (["a", "b", "c"], r"one condition for each of 2 texts, got 3"),
        ([None, "b"], r"must be a text, or a list of turns that are texts, got None"),
        ([["a", 3], "b"], r"must be a text, or a list of turns"),
        (np.array("a"), r"one text, or a list of conditions"),
        (3, r"one text, or a list of conditions, got 3"),
        ({"a": "b"}, r"one text, or a list of conditions"),
        ("\ud800", r"The condition at index 0 is no valid Unicode"),
    ):
        with pytest.raises(ValueError, match=words):
            conditional.reconstruct(texts[:2], condition=condition)
    with pytest.raises(ValueError, match="needs texts"):
        conditional.reconstruct(latents, condition="a", text_condition="b")
    with pytest.raises(ValueError, match="without labels"):
        conditional(latents=latents, condition_ids=with_conditions["condition_ids"])
    with pytest.raises(ValueError, match="do not fit 2 texts"):
        conditional(latents=latents, labels=without["labels"], condition_ids=torch.zeros(3, 1, dtype=torch.long))


def test_the_encoder_is_not_left_without_what_tells_text_and_condition_apart(answering_model, make_model, caplog):
    batch = answering_model.processor(["The food ."], condition="where ?", return_tensors="pt")
    with pytest.raises(ValueError, match=r'token_type_ids=batch\["token_type_ids"\]'):
        answering_model.encode(batch["input_ids"], batch["attention_mask"])
    own = answering_model.encode(batch["input_ids"], batch["attention_mask"], token_type_ids=batch["token_type_ids"])
    assert own.mean.equal(answering_model.encode_texts(["The food ."], condition="where ?"))
    model = make_model(conditional=True).eval()  # nothing is known of its tokenizer
    model.encode(batch["input_ids"], batch["attention_mask"])
    assert "token_type_ids are missing" in caplog.text


@pytest.mark.parametrize("condition", [np.array("A ?"), 3, {"A ?"}, b"A ?"])
def test_what_is_no_condition_is_refused_by_samples_too(answering_model, condition):
    with pytest.raises(ValueError, match="condition must be one text, or a list of conditions"):
        answering_model.sample(2, condition=condition)


def test_a_batch_of_texts_with_and_without_conditions_is_refused(answering_model):
    collate = BNVAEDataCollator(answering_model.processor)
    rows = [dict(answering_model.processor("The food .", condition="A ?")), dict(answering_model.processor("A ."))]
    for batch in (rows, rows[::-1]):
        with pytest.raises(ValueError, match=r"Text [01] of a batch has no (condition|token_type)_ids"):
            collate(batch)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_length_without_a_token_is_refused(answering_model, size):
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1"):
        answering_model.processor("The food .", condition="A ?", max_length=size)


def test_a_conditional_model_is_saved_and_loaded_as_one(make_model, tmp_path):
    assert not BNVAEConfig.from_dict({"model_type": "bnvae"}).conditional
    make_model(conditional=True).save_pretrained(tmp_path)
    assert BNVAEModel.from_pretrained(tmp_path).config.conditional
    with pytest.raises(ValueError, match=r"its conditional is False, this one's True"):
        make_model(conditional=True).load_encoder_side(make_model())


# -- texts ------------------------------------------------------------------------------------------------------------


CONDITIONS = ["The ?", "", "My ? and so on and so on", ["Our ?", "This ?"], "A ?"]


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3, "num_return_sequences": 2}, {"prompt": "The food"}, {"cache_implementation": "static"}],
    ids=["greedy", "beams", "prompt", "static cache"],
)
def test_conditions_of_other_lengths_in_a_batch_change_no_text(answering_model, texts, settings):
    """Conditions are padded on the left of the texts that are generated."""
    settings = {"max_new_tokens": 8, **settings}
    alone = [
        answering_model.reconstruct([text], condition=[own], **settings)[0]
        for text, own in zip(texts[:5], CONDITIONS, strict=True)
    ]
    assert answering_model.reconstruct(texts[:5], condition=CONDITIONS, **settings) == alone
    assert answering_model.reconstruct(texts[:5], condition="where ?", **settings) != alone  # control


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 2},
        {"prompt": "The food"},
        {"cache_implementation": "static"},
        {"max_length": 9},
        {"min_length": 14, "suppress_tokens": None},
    ],
    ids=["greedy", "beams", "prompt", "static cache", "longest", "shortest"],
)
def test_a_text_has_the_room_that_its_own_condition_leaves(answering_model, texts, settings):
    """Without an EOS token a text fills its positions. A long condition beside it takes none of them."""
    settings = {"suppress_tokens": [answering_model.config.eos_token_id], **settings}
    long = " ".join(["and so on"] * 9)
    conditions = ["The ?", long, ""]
    alone = [
        answering_model.reconstruct([text], condition=[own], **settings)[0]
        for text, own in zip(texts[:3], conditions, strict=True)
    ]
    assert answering_model.reconstruct(texts[:3], condition=conditions, **settings) == alone
    if "max_length" not in settings and "min_length" not in settings:  # control: the room is told apart
        lengths = [len(text.split()) for text in alone]
        assert lengths[1] < lengths[0] < lengths[2]


@pytest.mark.parametrize("injection", cases(["memory", "embedding"], quick=["memory"]))
@pytest.mark.parametrize("decoder", ["gpt2", "llama", "opt", "gemma3", "mistral", "gpt_neo"])
def test_padding_takes_no_positions_where_positions_can_be_shifted(decoder, injection):
    """GPT-Neo's masks have a column for each position, padding included."""
    attention = "eager" if decoder == "gpt_neo" else "sdpa"
    model = build("bert", decoder, attention, latent_injection=injection, conditional=True).eval()
    model.generation_config.eos_token_id = None
    latents = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [5, *[PAD] * 5]])
    short = model.generate(latents=latents[1:], condition_ids=ids[1:, :1])
    both = model.generate(latents=latents, condition_ids=ids)
    lost = 5 if decoder == "gpt_neo" else 0
    assert both.shape[1] == short.shape[1] - lost
    assert both[1].equal(short[0, : both.shape[1]])
    assert lost or (both[0, -5:] == model.config.pad_token_id).all()


def test_a_result_begins_with_the_start_token_and_repeats_no_condition(answering_model):
    processor, latents = answering_model.processor, torch.zeros(3, 8, dtype=torch.float64)
    conditions = processor.encode_conditions(["My ? and so on", "", "A ?"], 3)
    prompts = processor.encode_prompts(["The food", "A", "My sister likes"])
    start = answering_model.config.decoder_start_token_id
    plain = answering_model.generate(latents=latents, **conditions, max_new_tokens=3)
    assert (plain[:, 0] == start).all() and plain.shape == (3, 4)
    prompted = answering_model.generate(latents=latents, **conditions, **prompts, max_new_tokens=3)
    for row, text in enumerate(processor.decode_texts(prompted)):
        assert text.startswith(["The food", "A", "My sister likes"][row])
    as_object = answering_model.generate(latents=latents, **conditions, max_new_tokens=3, return_dict_in_generate=True)
    assert as_object.sequences.equal(plain)


def test_generated_tokens_are_the_likeliest_ones_after_the_condition(answering_model):
    """Compared with a full pass of the decoder over condition, start token and text."""
    latents = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ids = answering_model.processor.encode_conditions(["My ? and so on", "A ?"], 2)["condition_ids"]
    found = answering_model.generate(latents=latents, condition_ids=ids, max_new_tokens=6)
    for row in range(2):
        read = torch.cat([ids[row][ids[row] != PAD], found[row]])
        logits, _ = answering_model.decode(latents[row : row + 1], read.unsqueeze(0))
        told = logits[0, -len(found[row]) : -1].argmax(-1)
        is_text = torch.cat(
            [torch.ones(1), (found[row, 1:-1] != answering_model.config.eos_token_id).cumprod(0)]
        ).bool()
        assert told[is_text].equal(found[row, 1:][is_text])


def test_the_methods_take_one_condition_or_one_for_each(answering_model, texts):
    settings = {"max_new_tokens": 8, "show_progress": False}
    several = answering_model.sample(3, condition=["The ?", "My ?"], seed=0, **settings)
    assert [len(own) for own in several] == [3, 3] and several[0] != several[1]
    assert len(answering_model.sample(3, condition="The ?", **settings)) == 3
    assert answering_model.sample(3, condition=[], **settings) == []
    arrays = np.array(["The ?", "My ?"]), [np.array(["The ?"]), "My ?"]
    for own in arrays:
        assert answering_model.sample(3, condition=own, seed=0, **settings) == several
    latents = answering_model.encode_texts(texts[:2], condition=["The ?", "My ?"])
    assert not latents.equal(answering_model.encode_texts(texts[:2], condition="A ?"))
    same = answering_model.reconstruct(texts[:2], condition=["The ?", "My ?"], **settings)
    assert answering_model.reconstruct(latents, condition=["The ?", "My ?"], **settings) == same
    transferred = answering_model.reconstruct(
        texts[:2], condition="Our ?", text_condition=["The ?", "My ?"], **settings
    )
    assert transferred == answering_model.reconstruct(latents, condition="Our ?", **settings) != same
    paths = answering_model.interpolate(texts[:2], texts[2:4], steps=3, condition=["The ?", "My ?"], **settings)
    assert [path[0] for path in paths] == same
    ends = answering_model.reconstruct(texts[2:4], condition=["The ?", "My ?"], **settings)
    assert [path[-1] for path in paths] == ends != same
    assert answering_model.analogy(texts[0], texts[1], texts[2], condition="A ?", degree=0, **settings) == (
        answering_model.reconstruct(texts[2], condition="A ?", **settings)
    )
    own = {"condition": "A ?"}
    encoded, others = (answering_model.encode_texts(texts[:8], condition=asked) for asked in ("A ?", ""))
    moved, otherwise = (
        answering_model.reconstruct(encoded[2:] + 5 * (ends[1] - ends[0]), **own, **settings)
        for ends in (encoded, others)
    )
    assert answering_model.analogy(texts[0], texts[1], texts[2:8], degree=5, **own, **settings) == moved != otherwise
    direction = answering_model.direction(texts[:4], texts[4:8], condition="A ?")
    torch.testing.assert_close(direction.step, answering_model.direction(encoded[:4], encoded[4:]).step)
    assert not direction.step.allclose(answering_model.direction(others[:4], others[4:]).step, atol=1e-2)
    nearest = answering_model.neighbours(texts[0], texts[1:8], k=7, **own)
    assert [n.index for n in nearest] == [n.index for n in answering_model.neighbours(encoded[0], encoded[1:], k=7)]
    assert answering_model.edit(texts[0], direction, 0, condition="A ?", **settings) == (
        answering_model.reconstruct(texts[0], condition="A ?", **settings)
    )
    assert answering_model.traverse(latents, 0, [latents[0, 0].item()], condition="A ?", **settings)[0] == (
        answering_model.reconstruct(latents[:1], condition="A ?", **settings)
    )
    assert answering_model.mean_latent(texts[:2], condition=["The ?", "My ?"]).allclose(latents.mean(0))


def test_the_condition_of_an_answer_matters_more_than_chance(answering_model):
    """What was trained: the first word of the answer is that of the question."""
    for word in ("My", "Our", "A"):
        answers, others = (
            answering_model.sample(20, condition=f"{asked} ?", seed=1, max_new_tokens=3) for asked in (word, "This")
        )
        told, told_elsewhere = (sum(text.split()[:1] == [word] for text in own) for own in (answers, others))
        assert told >= 15 > 5 >= told_elsewhere


def test_a_prior_is_fitted_to_texts_with_their_conditions(answering_model, texts):
    model = copy.deepcopy(answering_model)
    with pytest.raises(ValueError, match="condition is missing"):
        fit_prior(model, texts)
    conditions = [tiny.question(text) for text in texts]
    batch = model.processor(texts[:20], return_tensors="pt")
    with pytest.raises(ValueError, match="the batches hold none"):
        fit_prior(model, [dict(batch)])
    with pytest.raises(ValueError, match="condition belongs to texts"):
        fit_prior(model, [dict(batch)], condition="A ?")
    fitted = fit_prior(model, texts, condition=conditions)
    torch.testing.assert_close(fitted.mean, answering_model.prior.mean.double(), rtol=0, atol=1e-5)
    assert not fit_prior(model, texts, condition="A ?").mean.allclose(fitted.mean, atol=1e-2)


# -- the processor ----------------------------------------------------------------------------------------------------


def test_the_encoder_reads_text_and_condition_as_a_pair(answering_model, texts):
    processor = answering_model.processor
    features = processor(texts[:3], condition=["My ?", "", ["A ?", "The ?"]])
    encoder, decoder = processor.encoder_tokenizer, processor.tokenizer
    for row, condition in enumerate(["My ?", "", "A ?\nThe ?"]):
        own = encoder(texts[row])["input_ids"]
        ids = features["input_ids"][row]
        assert ids[: len(own)] == own
        assert ids[len(own) :] == ([*encoder(condition)["input_ids"][1:]] if condition else [])
        assert features["token_type_ids"][row] == [0] * len(own) + [1] * (len(ids) - len(own))
        assert features["labels"][row] == processor(texts[row])["labels"]
        assert features["condition_ids"][row] == decoder(condition, add_special_tokens=False)["input_ids"]
    for name in ("input_ids", "labels"):  # an empty condition adds nothing
        assert processor(texts[:3], condition="")[name] == processor(texts[:3])[name]
    assert processor(texts[:3], condition="", return_tensors="pt")["condition_ids"].tolist() == [[PAD]] * 3


def test_long_conditions_lose_their_beginnings_and_never_the_text(answering_model, texts, caplog):
    processor, long = answering_model.processor, "The food " * 40 + "is good ."
    features = processor([texts[0], "the long winter " * 40, texts[1]], condition=[long, long, "A ?"])
    tail = processor.tokenizer(long, add_special_tokens=False)["input_ids"]
    assert features["condition_ids"][0] == tail[-15:]  # half of the positions without the memory slot
    assert features["labels"][0] == processor(texts[0])["labels"]
    assert [len(features["labels"][row]) for row in (1, 2)] == [16, len(processor(texts[1])["labels"])]
    assert [len(ids) for ids in features["input_ids"]][1] == 32
    assert features["token_type_ids"][1].count(1) == 15 and features["token_type_ids"][0].count(1) == 15
    assert "2 of 3 conditions were longer than half of the model's positions" in caplog.text
    cut = processor([texts[0], texts[1]], condition=[long, "A ?"], return_truncated=True)
    assert cut["truncated"] == [0, 0] and cut["condition_truncated"][1] == 0
    in_encoder = processor.encoder_tokenizer(long, add_special_tokens=False, verbose=False)["input_ids"]
    assert cut["condition_truncated"][0] == max(len(tail) - 15, len(in_encoder) - 14)
    # A text is made, however long the condition is. Many batches are one message.
    caplog.clear()
    made = answering_model.sample(2, condition=["A ?", long, "My ?", long], batch_size=2, seed=0, max_new_tokens=4)
    assert all(text for answers in made for text in answers)
    assert [record.getMessage().split(" were")[0] for record in caplog.records] == ["4 of 8 conditions"]


def test_an_encoder_without_a_separator_gets_one(texts):
    """A decoder's tokenizer puts nothing around a text."""
    processor = train_processor(texts, vocab_size=400, max_length=32)
    plain = BNVAEProcessor(processor.tokenizer, processor.tokenizer)
    features = plain(texts[:1], condition="My ?")
    own, condition = (processor.tokenizer(text)["input_ids"] for text in (texts[0], "My ?"))
    assert features["input_ids"][0] == [*own, processor.tokenizer.eos_token_id, *condition]


def test_what_reads_texts_alone_refuses_a_conditional_model(answering_model, tmp_path):
    model, processor = answering_model, answering_model.processor
    with pytest.raises(ValueError, match="A graph reads texts alone, and this model encodes each text with its"):
        export_encoder_side(model, tmp_path / "onnx")
    with pytest.raises(ValueError, match="A SentenceTransformer reads texts alone"):
        sentence_transformer(model, processor)
    assert not (tmp_path / "onnx").exists()
