"""Texts to latents and back, against the model's own `encode` and `generate`, closed forms and plain loops."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, GenerationConfig

from hf_bnvae import BNVAEModel, BNVAEProcessor, Neighbour, interpolate_latents
from hf_bnvae.model.text_encoding_bnvae import TOKENIZED_BATCHES
from hf_bnvae.training.from_scratch import train_processor

GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture
def model(trained_model):
    yield trained_model
    trained_model.eval()


def generated(model, latents, **settings):
    """Texts of latents by `generate`, one at a time."""
    ids = [model.generate(latents=row[None], **{**GREEDY, **settings}) for row in latents]
    return [model.processor.tokenizer.decode(row[0], skip_special_tokens=True).strip() for row in ids]


def test_latents_of_texts_are_the_posteriors_modes_in_the_order_of_the_texts(model, texts, processor):
    latents = model.encode_texts(texts[:50], batch_size=7)
    assert latents.shape == (50, 8) and latents.dtype == torch.float64 and not latents.requires_grad
    for row in (0, 13, 49):
        inputs = processor(texts[row], return_tensors="pt")
        alone = model.encode(inputs["input_ids"], inputs["attention_mask"]).mode()[0]
        torch.testing.assert_close(latents[row], alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.encode_texts(texts[row]), alone, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(latents[row + 1 if row < 49 else 0], alone, atol=1e-2)


def test_posteriors_are_sampled_where_asked_for_and_by_a_seed(model, texts):
    before = torch.get_rng_state()
    draws = [model.encode_texts(texts[:20], sample_posterior=True, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    one_by_one = model.encode_texts(texts[:20], sample_posterior=True, seed=1, batch_size=1)
    torch.testing.assert_close(one_by_one, draws[0], rtol=1e-5, atol=1e-5)
    many = torch.stack([model.encode_texts([texts[0]] * 50, sample_posterior=True, seed=s)[:, 0] for s in range(20)])
    inputs = model.processor(texts[0], return_tensors="pt")
    posterior = model.encode(inputs["input_ids"], inputs["attention_mask"])
    mean, std = posterior.mean[0, 0].item(), posterior.std[0, 0].item()
    assert many.mean().item() == pytest.approx(mean, abs=5 * std / 1000**0.5)
    assert many.std().item() == pytest.approx(std, rel=0.15)


def test_texts_with_similar_numbers_of_tokens_share_a_batch_whatever_their_letters(model, monkeypatch):
    """A letter that the tokenizer does not know is one token. A token of its corpus has several letters."""
    texts = [
        text for i in range(12) for text in ("\u00fc" * (3 + i), "The food likes fresh bread again . " * (1 + i % 2))
    ]
    lengths = [len(ids) for ids in model.processor(texts, return_labels=False)["input_ids"]]
    shapes = []
    features = model.features
    monkeypatch.setattr(
        model, "features", lambda input_ids, **rest: shapes.append(input_ids.shape) or features(input_ids, **rest)
    )
    model.encode_texts(texts, batch_size=4)
    longest = [max(sorted(lengths)[start : start + 4]) for start in range(0, 24, 4)]
    assert sorted(shapes) == sorted(torch.Size((4, length)) for length in longest)
    # Control: by letters the batches would be longer.
    by_letters = [lengths[i] for i in sorted(range(24), key=lambda i: len(texts[i]))]
    assert sum(longest) < sum(max(by_letters[start : start + 4]) for start in range(0, 24, 4))


def test_enough_texts_of_one_length_are_encoded_without_padding(model, processor, monkeypatch):
    texts = ["The food"] * 20 + ["The food was great ."] * 17 + ["The food was great . The food was great ."] * 3
    lengths = [len(ids) for ids in processor(texts, return_labels=False)["input_ids"]]
    expected = model.encode_texts(texts, batch_size=8)  # too few of each
    masks = []
    features = model.features
    monkeypatch.setattr(
        model,
        "features",
        lambda input_ids, attention_mask: masks.append(attention_mask) or features(input_ids, attention_mask),
    )
    latents = model.encode_texts(texts, batch_size=64)
    assert [tuple(mask.shape) for mask in masks] == [(n, lengths[place]) for n, place in ((20, 0), (17, 20), (3, 37))]
    assert len(set(lengths)) == 3 and all(mask.all() for mask in masks)
    torch.testing.assert_close(latents, expected)
    assert not torch.allclose(latents[0], expected[20], atol=1e-3)  # control: a text of another length


def test_more_texts_than_are_tokenized_at_once_keep_their_order(model, texts):
    many = [text * (1 + place % 3) for place, text in enumerate(texts[:150])]
    assert len(many) > 2 * TOKENIZED_BATCHES
    expected, latents = model.encode_texts(many, batch_size=len(many)), model.encode_texts(many, batch_size=1)
    torch.testing.assert_close(latents, expected)
    assert not torch.allclose(latents[-1], expected[0])  # control: another text's


@pytest.fixture
def round_trip(model, texts):
    """Texts, their latents, and the decoded latents."""
    latents = model.encode_texts(texts[:6])
    expected = generated(model, latents)
    assert len(set(expected)) > 1
    return texts[:6], latents, expected


def test_the_round_trip_is_encode_and_generate(model, round_trip):
    inputs, _, expected = round_trip
    assert model.reconstruct(inputs, batch_size=4, **GREEDY) == expected
    assert model.reconstruct(inputs[2], **GREEDY) == expected[2]


def test_latents_of_every_form_are_decoded(model, round_trip):
    _, latents, expected = round_trip
    for several in (latents, latents.double().numpy(), latents.tolist(), list(latents)):
        assert model.reconstruct(several, **GREEDY) == expected
    assert model.reconstruct(latents[0], **GREEDY) == expected[0]


def test_texts_of_every_form_are_reconstructed(model, round_trip):
    inputs, _, expected = round_trip
    for several in (tuple(inputs), (text for text in inputs), np.array(inputs), pd.Series(inputs)):
        assert model.reconstruct(several, **GREEDY) == expected
    assert model.reconstruct([]) == []


def test_a_generation_configuration_may_ask_for_an_output_object(model, round_trip):
    _, latents, expected = round_trip
    config = GenerationConfig(max_new_tokens=12, return_dict_in_generate=True)
    assert model.reconstruct(latents, generation_config=config) == expected


def test_several_returned_sequences_come_as_lists(model, texts):
    several = model.reconstruct(texts[:3], batch_size=2, num_return_sequences=2, num_beams=2, **GREEDY)
    assert [len(group) for group in several] == [2, 2, 2]


def test_a_prompt_begins_every_text(model, texts):
    prompted = model.reconstruct(texts[:3], prompt="The food", **GREEDY)
    assert all(text.startswith("The food") for text in prompted)
    assert not all(text.startswith("The food") for text in model.reconstruct(texts[:3], **GREEDY))  # control


@pytest.mark.parametrize("prior", ["standard", "fitted"])
def test_samples_are_decoded_draws_of_the_prior(model, prior):
    torch.manual_seed(4)
    noise = torch.randn(9, 8)
    expected = generated(model, model.prior.unwhiten(noise) if prior == "fitted" else noise)
    assert model.sample(9, seed=4, batch_size=2, prior=prior, **GREEDY) == expected
    if prior == "standard":
        assert model.sample(9, seed=4, **GREEDY) != expected, "the fitted prior is the default"
        return
    assert model.sample(9, seed=5, **GREEDY) != expected
    torch.manual_seed(4)
    assert model.sample(9, **GREEDY) == expected
    assert len(model.sample(**GREEDY)) == 1 and len(model.sample(np.int64(2), **GREEDY)) == 2
    drawn = [model.sample(4, seed=4, do_sample=True, max_new_tokens=12) for _ in range(2)]
    assert drawn[0] == drawn[1] != expected[:4]


# --- interpolation ---------------------------------------------------------------------------------------------------


def test_linear_steps_are_equal():
    start, end = torch.randn(5, 16), torch.randn(5, 16)
    line = interpolate_latents(start, end, 7)
    assert line.shape == (5, 7, 16)
    torch.testing.assert_close(line.diff(dim=1), ((end - start) / 6)[:, None].expand(5, 6, 16))


def test_spherical_steps_on_unit_vectors_have_equal_angles_on_the_sphere():
    start, end = (torch.nn.functional.normalize(torch.randn(5, 16).double(), dim=-1) for _ in range(2))
    arc = interpolate_latents(start, end, 7, "spherical")
    torch.testing.assert_close(arc.norm(dim=-1), torch.ones(5, 7).double())
    steps = (arc[:, 1:] * arc[:, :-1]).sum(-1).arccos()
    torch.testing.assert_close(steps, ((start * end).sum(-1).arccos() / 6)[:, None].expand(5, 6))
    # Control: the line between the same ends cuts through the sphere.
    assert (interpolate_latents(start, end, 7).norm(dim=-1)[:, 3] < 0.95).all()


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_both_ends_are_included(method):
    start, end = torch.randn(5, 16).double(), torch.randn(5, 16).double()
    path = interpolate_latents(start, end, 7, method)
    torch.testing.assert_close(path[:, 0], start)
    torch.testing.assert_close(path[:, -1], end)


def test_a_quarter_of_a_circle_has_a_closed_form():
    quarter = interpolate_latents(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0]), 3, "spherical")
    half = math.sqrt(0.5)  # sin 45 degrees, over sin 90 degrees
    torch.testing.assert_close(quarter, torch.tensor([[2.0, 0.0], [2 * half, 4 * half], [0.0, 4.0]]))


def test_the_arc_between_parallel_latents_is_the_line():
    same = torch.tensor([1.0, 2.0])
    parallel = interpolate_latents(same, 3 * same, 3, "spherical")
    torch.testing.assert_close(parallel, torch.stack([same, 2 * same, 3 * same]))
    torch.testing.assert_close(interpolate_latents(same, same, 3, "spherical"), same.expand(3, 2))


def test_latents_without_a_shortest_arc_are_refused():
    same = torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="opposite latents"):
        interpolate_latents(same, -same, 3, "spherical")
    with pytest.raises(ValueError, match="length zero"):
        interpolate_latents(same, torch.zeros(2), 3, "spherical")


@pytest.mark.parametrize("steps", [1, 0, -3, 2.0, True])
def test_too_few_steps_are_refused(model, texts, steps):
    with pytest.raises(ValueError, match="at least 2"):
        model.interpolate(texts[0], texts[1], steps=steps)


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_interpolations_decode_the_points_between(model, texts, method):
    ends = model.encode_texts(texts[:4])
    points = interpolate_latents(ends[:2], ends[2:], 5, method)
    expected = [generated(model, line) for line in points]
    assert model.interpolate(texts[:2], texts[2:4], 5, method, batch_size=3, **GREEDY) == expected
    assert model.interpolate(texts[0], ends[2], 5, method, **GREEDY) == expected[0]
    assert model.interpolate(texts[0], texts[2:3], 5, method, **GREEDY) == expected[:1]
    assert len(set(expected[0])) > 1
    assert len(model.interpolate(texts[0], texts[1], **GREEDY)) == 9
    with pytest.raises(ValueError, match="as many, got 2 and 1"):
        model.interpolate(texts[:2], texts[2], **GREEDY)


# --- analogies and neighbours ----------------------------------------------------------------------------------------


def test_analogies_add_the_difference(model, texts):
    a, b, c = (model.encode_texts(texts[i : i + 3]) for i in (0, 3, 6))
    expected = generated(model, c + 0.5 * (b - a))
    assert model.analogy(texts[:3], texts[3:6], texts[6:9], degree=0.5, **GREEDY) == expected
    assert model.analogy(texts[0], texts[3], texts[6], degree=0.5, **GREEDY) == expected[0]
    # One pair for all.
    shared = generated(model, c + b[0] - a[0])
    assert model.analogy(texts[0], texts[3], texts[6:9], **GREEDY) == shared
    assert model.analogy(texts[0], texts[3], texts[6:9], degree=0, **GREEDY) == model.reconstruct(texts[6:9], **GREEDY)
    with pytest.raises(ValueError, match="a must be one or as many as c, 3, got 2"):
        model.analogy(texts[:2], texts[3], texts[6:9])
    with pytest.raises(ValueError, match="degree must be a finite number"):
        model.analogy(texts[0], texts[1], texts[2], degree=float("nan"))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_are_the_nearest(model, texts, metric):
    corpus, queries = texts[:60], texts[60:65]
    found = model.neighbours(queries, corpus, k=4, metric=metric, batch_size=2)
    latents, wanted = model.encode_texts(corpus).numpy(), model.encode_texts(queries).numpy()
    for query, neighbours in zip(wanted, found, strict=True):
        if metric == "euclidean":
            distances = np.linalg.norm(latents - query, axis=1)
        else:
            distances = 1 - latents @ query / np.linalg.norm(latents, axis=1) / np.linalg.norm(query)
        order = distances.argsort()[:4]
        assert [n.index for n in neighbours] == order.tolist()
        assert [n.text for n in neighbours] == [corpus[i] for i in order]
        assert [n.distance for n in neighbours] == pytest.approx(distances[order].tolist(), abs=1e-4)
    alone = model.neighbours(queries[0], corpus, k=4, metric=metric)
    assert [n.index for n in alone] == [n.index for n in found[0]]


def test_neighbours_by_latents_have_no_text(model, texts):
    latents = model.encode_texts(texts[:8])
    ((nearest,),) = model.neighbours(latents[2:3], latents, k=1)
    assert isinstance(nearest, Neighbour) and nearest.index == 2 and nearest.text is None
    assert model.neighbours(texts[2], texts[:8], k=1)[0].text == texts[2]  # control


def test_a_corpus_smaller_than_k_gives_all_of_its_latents(model, texts):
    assert len(model.neighbours(texts[7], texts[:3])) == 3
    assert model.neighbours(texts[0], texts[7], k=1)[0].text == texts[7]


def test_small_distances_far_from_the_origin_keep_their_digits(make_model):
    corpus = torch.full((30, 8), 1000.0)
    corpus[1, 0] += 0.5
    corpus[2:, 0] += 0.25
    model = make_model(posterior="gaussian").eval()
    found = model.neighbours(torch.full((30, 8), 1000.0), corpus, k=30)[0]
    assert [n.distance for n in found] == pytest.approx([0, *[0.25] * 28, 0.5], abs=1e-6)


def test_models_in_half_precision_find_neighbours_too(make_model, processor, texts):
    model = make_model(posterior="gaussian").to(torch.bfloat16).eval().attach_processor(processor)
    assert model.neighbours(texts[3], texts[:5], k=1)[0].index == 3


def test_bad_neighbours_are_refused(model, texts):
    for k in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match=f"k must be a whole number of at least 1, got {k}"):
            model.neighbours(texts[0], texts[:3], k=k)
    with pytest.raises(ValueError, match="corpus is empty"):
        model.neighbours(texts[0], [])
    with pytest.raises(ValueError, match="'euclidean' or 'cosine', got 'l1'"):
        model.neighbours(texts[0], texts[:3], k=1, metric="l1")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.sample(0), "n must be a whole number of at least 1, got 0"),
        (lambda m: m.sample(-2), "n must be a whole number of at least 1, got -2"),
        (lambda m: m.sample(1.5), "n must be a whole number of at least 1, got 1.5"),
        (lambda m: m.reconstruct("The food", prompt=["The", "My"]), "prompt must be a string"),
        (lambda m: m.reconstruct("caf\udce9"), "index 0 is no valid Unicode"),
        (lambda m: m.reconstruct(""), "index 0 is empty"),
        (lambda m: m.reconstruct(["The food", " \n"]), "index 1 is empty"),
        (lambda m: m.encode_texts(["The food", 3]), "must be strings, got 3 at index 1"),
        (lambda m: m.reconstruct(None), "Expected texts or latents, one or a list of several, got None"),
        (lambda m: m.reconstruct(torch.zeros(2, 7)), r"got shape \(2, 7\)"),
        (lambda m: m.reconstruct(torch.zeros(2, 8, 1)), r"got shape \(2, 8, 1\)"),
        (lambda m: m.reconstruct([[0] * 8]), "got torch.int64"),
        (lambda m: m.interpolate("The food", torch.full((8,), math.nan)), "1 of 1 latents hold NaN"),
        (lambda m: m.reconstruct(torch.zeros(8), sample_posterior=True), "needs texts"),
        (lambda m: m.reconstruct("The food", prompt="The food " * 40), "does not fit into the decoder's 32 positions"),
        (lambda m: m.reconstruct("The food", batch_size=0), "batch_size must be a whole number of at least 1"),
        (lambda m: m.reconstruct("The food", decoder_input_ids=torch.ones(1, 1)), "Call model.generate instead"),
        (lambda m: m.train().reconstruct("The food"), "training mode"),
        (lambda m: m.train().encode_texts("The food"), "training mode"),
        (lambda m: m.encode_texts(None), "Expected texts, one or a list of several, got None"),
        (lambda m: m.encode_texts({"The food", "A bird"}), "Expected texts, one or a list of several, got"),
        (lambda m: m.reconstruct({"text": "The food"}), "Expected texts or latents, one or a list of several, got"),
        (lambda m: m.reconstruct(b"The food"), "Expected texts or latents, one or a list of several, got"),
        (lambda m: m.train().sample(1), "training mode"),
    ],
)
def test_bad_input_is_refused(model, call, words):
    with pytest.raises(ValueError, match=words):
        call(model)


def test_without_a_processor_the_model_says_what_to_do(make_model):
    model = make_model(posterior="gaussian").eval()
    for call in (lambda: model.reconstruct("The food"), lambda: model.sample(1), lambda: model.encode_texts("a")):
        with pytest.raises(ValueError, match="attach_processor"):
            call()


def test_a_processor_that_does_not_belong_to_the_model_is_refused(make_model, processor, texts):
    model = make_model(posterior="gaussian")
    assert model.attach_processor(processor) is model
    smaller = train_processor(texts, vocab_size=300, max_length=32)
    with pytest.raises(ValueError, match=r"its encoder_tokenizer has 300 tokens, the model's 'bert' embeds \d+"):
        model.attach_processor(smaller)
    swapped = BNVAEProcessor(smaller.tokenizer, processor.encoder_tokenizer)
    with pytest.raises(ValueError, match=r"its tokenizer has 300 tokens, the model's 'gpt2' embeds \d+"):
        model.attach_processor(swapped)
    with pytest.raises(ValueError, match="must be a BNVAEProcessor, got"):
        model.attach_processor(processor.tokenizer)


def test_a_special_token_that_the_model_lacks_is_accepted_and_another_token_is_not(make_model, processor):
    other = copy.deepcopy(processor)
    other.tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    make_model(posterior="gaussian").attach_processor(other)
    for change in ({"new_tokens": ["word"]}, {"special_tokens_dict": {"eos_token": "<end>"}}):
        other = copy.deepcopy(processor)
        (other.tokenizer.add_tokens if "new_tokens" in change else other.tokenizer.add_special_tokens)(**change)
        with pytest.raises(ValueError, match="its tokenizer has"):
            make_model(posterior="gaussian").attach_processor(other)


def test_embeddings_may_be_padded_to_a_round_size(make_model, processor):
    model = make_model(posterior="gaussian")
    model.decoder.resize_token_embeddings(len(processor.tokenizer) + 8)
    assert model.attach_processor(processor).processor is processor


def test_a_loaded_model_finds_the_processor_beside_its_weights(trained_folder, trained_model, processor, tmp_path):
    expected = trained_model.attach_processor(processor).sample(2, seed=0)
    for auto_class in (BNVAEModel, AutoModel):
        model = auto_class.from_pretrained(trained_folder)
        assert model.sample(2, seed=0) == expected and model.processor is model.processor
    # And it goes along, so that the copy works, too.
    BNVAEModel.from_pretrained(trained_folder).save_pretrained(tmp_path / "copy")
    assert BNVAEModel.from_pretrained(tmp_path / "copy").sample(2, seed=0) == expected
    loaded, _ = BNVAEModel.from_pretrained(trained_folder, output_loading_info=True)
    assert loaded.sample(2, seed=0) == expected
    inside, _, name = trained_folder.rpartition("/")
    assert BNVAEModel.from_pretrained(inside, subfolder=name).sample(2, seed=0) == expected


def test_what_was_saved_before_is_not_replaced_and_what_does_not_fit_is_not_found(trained_folder, processor, tmp_path):
    newer = copy.deepcopy(processor)
    newer.tokenizer.model_max_length = 12
    newer.save_pretrained(tmp_path)
    model = BNVAEModel.from_pretrained(trained_folder, token="hf_secret")
    model.save_pretrained(tmp_path)
    assert BNVAEProcessor.from_pretrained(tmp_path).tokenizer.model_max_length == 12
    assert b"hf_secret" not in pickle.dumps(model)
    # One that is attached is meant.
    model.attach_processor(processor).save_pretrained(tmp_path)
    assert BNVAEProcessor.from_pretrained(tmp_path).tokenizer.model_max_length == 32
    changed = BNVAEModel.from_pretrained(trained_folder)
    changed.decoder.resize_token_embeddings(100)
    changed.config.decoder.vocab_size = 100
    changed.save_pretrained(tmp_path / "changed")
    assert changed.processor is None and (tmp_path / "changed" / "model.safetensors").is_file()


def test_a_model_that_was_saved_alone_says_so(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    model = BNVAEModel.from_pretrained(tmp_path)
    assert model.processor is None
    with pytest.raises(ValueError, match=f"The model has no processor.*{tmp_path} has none that can be loaded"):
        model.encode_texts("The food")
    with pytest.raises(ValueError, match=r"BNVAEProcessor.from_pretrained\(...\)\)\.$"):
        make_model().eval().encode_texts("The food")


def test_progress_is_shown_for_long_work_and_where_asked_for(model, texts, capsys):
    from transformers.utils import logging

    logging.enable_progress_bar()
    try:
        model.encode_texts(texts[:7], batch_size=1)
        assert capsys.readouterr().err == ""
        model.encode_texts(texts[:8], batch_size=1)
        assert "Encoding" in capsys.readouterr().err
        model.encode_texts(texts[:17], batch_size=2)
        assert "| 0/9 [" in capsys.readouterr().err
        model.sample(2, show_progress=True, **GREEDY)
        assert "Decoding" in capsys.readouterr().err
        model.encode_texts(texts[:8], batch_size=1, show_progress=False)
        assert capsys.readouterr().err == ""
    finally:
        logging.disable_progress_bar()


def embeddings_of(model, texts) -> torch.Tensor:
    inputs = model.processor(texts, return_tensors="pt", return_labels=False)
    with torch.no_grad():
        return model.features(**inputs)


def test_embeddings_have_the_latents_of_their_texts(model, texts):
    embeddings, latents = embeddings_of(model, texts[:6]), model.encode_texts(texts[:6])
    close = {"rtol": 1e-5, "atol": 1e-6}
    for form in (embeddings, embeddings.numpy(), embeddings.tolist(), list(embeddings.numpy())):
        torch.testing.assert_close(model.encode_embeddings(form), latents, **close)
    single = model.encode_embeddings(embeddings[2])
    assert single.shape == (8,)
    torch.testing.assert_close(single, latents[2], **close)
    draws = [model.encode_embeddings(embeddings, sample_posterior=True, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    decoded = model.reconstruct(embeddings=embeddings, **GREEDY)
    assert decoded == model.reconstruct(texts[:6], **GREEDY) and len(set(decoded)) > 1
    assert model.reconstruct(embeddings=embeddings[2], **GREEDY) == decoded[2]


def test_normalised_features_have_length_one_and_others_are_refused(make_model, processor, texts):
    model = make_model(normalize_features=True).attach_processor(processor)
    with torch.no_grad():
        model.train().encode(**processor(texts, return_tensors="pt", return_labels=False))
    model.eval()
    embeddings = embeddings_of(model, texts[:6])
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(
        model.encode_embeddings(embeddings.half()), model.encode_texts(texts[:6]), rtol=0.05, atol=0.05
    )
    with pytest.raises(ValueError, match=r"trained on embeddings of length 1 .* but number 3 has length 2"):
        model.encode_embeddings(torch.where(torch.arange(6)[:, None] == 3, 2 * embeddings, embeddings))


def test_bad_embeddings_are_refused(model, texts):
    embeddings = embeddings_of(model, texts[:3])
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    for bad, words in (
        (unit, "All embeddings have length 1, but this model was trained on the encoder's vectors as they are"),
        (embeddings[:, :5], r"shape \(32,\) or \(n, 32\), the size of the encoder's vectors, got \(3, 5\)"),
        (torch.where(torch.arange(3)[:, None] == 1, math.nan, embeddings), "finite numbers, but number 1 is not"),
        (["a text"], "got \\['a text'\\]"),
    ):
        with pytest.raises(ValueError, match=words):
            model.encode_embeddings(bad)
    with pytest.raises(ValueError, match="either as texts or latents, or as embeddings"):
        model.reconstruct(texts[:3], embeddings=embeddings)
    with pytest.raises(ValueError, match=r"If these are sentence embeddings: reconstruct\(embeddings=...\)"):
        model.reconstruct(embeddings)


def test_no_embedding_has_no_text(model):
    for none in ([], torch.empty(0, 32)):
        assert model.reconstruct(embeddings=none) == [] and model.encode_embeddings(none).shape == (0, 8)
