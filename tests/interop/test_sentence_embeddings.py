"""The SentenceTransformer of a model's encoder side, against the model's own posteriors, in memory, cast, saved and
loaded in another process."""

import copy
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, PreTrainedTokenizerFast

from hf_bnvae import BNVAEModel, BNVAEProcessor, fit_prior, recalibrate_posterior
from hf_bnvae.interop.sentence_embeddings import sentence_transformer

VARIANTS = [("bn", "cls"), ("bn_rms", "mean"), ("bn_mean", "pooler"), ("ln", "mean"), ("gaussian", "cls")]


@pytest.fixture
def make_ready(make_model, batch):
    """A function that builds a model ready to be used: statistics estimated, in evaluation mode."""

    def make(**fields) -> BNVAEModel:
        model = make_model(**fields)
        recalibrate_posterior(model, [batch])
        return model.eval()

    return make


def modes(model: BNVAEModel, processor: BNVAEProcessor, texts: list[str]) -> np.ndarray:
    batch = processor(texts, return_tensors="pt")
    with torch.no_grad():
        return model.encode(batch["input_ids"], batch["attention_mask"]).mode().numpy()


def load(folder, **model_kwargs) -> SentenceTransformer:
    return SentenceTransformer(str(folder), trust_remote_code=True, device="cpu", model_kwargs=model_kwargs)


@pytest.mark.parametrize(("posterior", "pooling"), VARIANTS)
def test_embeddings_are_the_modes_of_the_posteriors_in_batches_of_any_size(
    make_ready, processor, texts, posterior, pooling
):
    # In float64, where what is rounding and what is not lie far apart.
    model = make_ready(posterior=posterior, pooling=pooling).double()
    expected = modes(model, processor, texts[:16])
    embedder = sentence_transformer(model, processor)
    for batch_size in (1, 5, 16):
        embeddings = embedder.encode(texts[:16], batch_size=batch_size)
        np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(embedder.encode(texts[3]), expected[3], rtol=0, atol=1e-9)
    other = make_ready(posterior=posterior, pooling=pooling, seed=1).double()
    assert np.abs(modes(other, processor, texts[:16]) - expected).max() > 1e-3


def test_whitened_embeddings_are_whitened_modes_also_when_loaded(make_ready, processor, texts, tmp_path):
    model = make_ready(posterior="gaussian").attach_processor(processor)
    with pytest.raises(ValueError, match="no fitted prior"):
        sentence_transformer(model, processor, whitened=True)
    fit_prior(model, texts)
    expected = model.prior.whiten(torch.from_numpy(modes(model, processor, texts[:16]))).numpy()
    embedder = sentence_transformer(model, processor, whitened=True)
    np.testing.assert_allclose(embedder.encode(texts[:16]), expected, rtol=1e-4, atol=1e-4)
    embedder.save_pretrained(str(tmp_path / "embedder"))
    np.testing.assert_allclose(load(tmp_path / "embedder").encode(texts[:16]), expected, rtol=1e-4, atol=1e-4)
    plain = sentence_transformer(model, processor).encode(texts[:16])
    assert np.abs(plain - expected).max() > 0.1  # control


def test_embeddings_are_float32_of_the_latents_size(make_ready, processor, texts):
    model = make_ready()
    embedder = sentence_transformer(model, processor)
    embeddings = embedder.encode(texts[:16])
    assert embeddings.dtype == np.float32 and embeddings.shape == (16, 8)
    assert embedder.get_embedding_dimension() == 8 and embedder.max_seq_length == 32
    # Batch normalisation of an untrained encoder's features, which hardly differ, enlarges their rounding.
    np.testing.assert_allclose(embeddings, modes(model, processor, texts[:16]), rtol=0, atol=1e-3)


def test_the_similarity_is_the_negative_euclidean_distance_unless_told_otherwise(make_ready, processor, texts):
    embedder = sentence_transformer(make_ready(), processor)
    embeddings = embedder.encode(texts[:4], convert_to_tensor=True)
    similarities = embedder.similarity(embeddings, embeddings)
    torch.testing.assert_close(similarities, -torch.cdist(embeddings, embeddings), atol=1e-3, rtol=0)
    embedder.similarity_fn_name = "cosine"
    assert not torch.allclose(embedder.similarity(embeddings, embeddings), similarities, atol=0.1)


def test_encoder_and_head_are_the_models_own_and_the_decoder_is_left_out(make_ready, processor):
    model = make_ready()
    held = {tensor.data_ptr() for tensor in sentence_transformer(model, processor).parameters()}
    encoder_side = {tensor.data_ptr() for part in (model.encoder, model.posterior) for tensor in part.parameters()}
    assert held == encoder_side < {tensor.data_ptr() for tensor in model.parameters()}


def test_a_prompt_stands_ahead_of_the_text(make_ready, processor, texts):
    embedder = sentence_transformer(make_ready().double(), processor)
    prompted = embedder.encode(texts[:4], prompt="again ")
    np.testing.assert_allclose(prompted, embedder.encode(["again " + text for text in texts[:4]]), atol=1e-9)
    assert np.abs(prompted - embedder.encode(texts[:4])).max() > 1e-3
    np.testing.assert_array_equal(embedder.encode_query(texts[:4]), embedder.encode_document(texts[:4]))


def test_long_texts_are_cut_as_the_processor_cuts_them(make_ready, processor, texts):
    model = make_ready().double()
    embedder = sentence_transformer(model, processor)
    long, longer = " ".join(texts[:20]), " ".join(texts[:40])
    np.testing.assert_allclose(embedder.encode([long]), modes(model, processor, [long]), atol=1e-9)
    np.testing.assert_allclose(embedder.encode([longer]), embedder.encode([long]), atol=1e-9)
    embedder.max_seq_length = 16
    assert np.abs(embedder.encode([long]) - modes(model, processor, [long])).max() > 1e-3
    assert processor.encoder_tokenizer.model_max_length == 32
    embedder.max_seq_length = 33
    with pytest.raises(ValueError, match="takes 33 positions of the encoder, which has 32"):
        embedder.encode([long])


@pytest.mark.slow
def test_another_process_loads_the_same_embeddings(make_ready, processor, texts, tmp_path):
    embedder = sentence_transformer(make_ready(), processor)
    embedder.similarity_fn_name = "cosine"
    embedder.save_pretrained(str(tmp_path / "saved"))
    suffixes = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".md", ".safetensors"}
    code = (
        "import sys, numpy, torch; from sentence_transformers import SentenceTransformer; torch.set_num_threads(1); "
        "embedder = SentenceTransformer(sys.argv[1], trust_remote_code=True, device='cpu'); "
        "assert embedder.similarity_fn_name == 'cosine' and embedder.max_seq_length == 32; "
        "numpy.save(sys.argv[2], embedder.encode(sys.argv[3:], batch_size=5))"
    )
    output = str(tmp_path / "embeddings.npy")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "saved"), output, *texts[:16]], check=True)
    loaded = np.load(output)
    np.testing.assert_array_equal(loaded, embedder.encode(texts[:16], batch_size=5))
    other = sentence_transformer(make_ready(seed=1), processor)
    assert np.abs(loaded - other.encode(texts[:16], batch_size=5)).max() > 1e-3


@pytest.mark.parametrize(("posterior", "pooling"), VARIANTS)
def test_what_was_saved_is_saved_again_without_loss(make_ready, processor, texts, tmp_path, posterior, pooling):
    embedder = sentence_transformer(make_ready(posterior=posterior, pooling=pooling), processor)
    embedder.save_pretrained(str(tmp_path / "first"))
    load(tmp_path / "first").save_pretrained(str(tmp_path / "second"))
    np.testing.assert_array_equal(load(tmp_path / "second").encode(texts[:16]), embedder.encode(texts[:16]))


def test_a_loaded_model_gives_the_embeddings_of_the_one_that_was_saved(make_ready, processor, texts, tmp_path):
    model = make_ready()
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path)
    expected = sentence_transformer(model, processor).encode(texts[:16])
    np.testing.assert_array_equal(sentence_transformer(loaded, processor).encode(texts[:16]), expected)


def test_what_was_saved_is_not_taken_for_a_whole_model(make_ready, processor, tmp_path):
    model = make_ready()
    model.save_pretrained(tmp_path / "model")
    sentence_transformer(model, processor).save_pretrained(str(tmp_path / "embedder"))
    with pytest.raises((OSError, ValueError)):
        AutoModel.from_pretrained(tmp_path / "embedder")
    # Nor does it refer to the code of one, as the model's own configuration does since it was saved.
    (config,) = (tmp_path / "embedder").rglob("config.json")
    assert "auto_map" not in config.read_text() and "auto_map" in (tmp_path / "model" / "config.json").read_text()


def test_no_pickle_is_written(make_ready, processor, tmp_path):
    with pytest.raises(ValueError, match="safetensors only"):
        sentence_transformer(make_ready(), processor).save(str(tmp_path), safe_serialization=False)
    assert not list(tmp_path.rglob("*.bin"))


def head_tensors(embedder: SentenceTransformer) -> list[torch.Tensor]:
    return [tensor for tensor in embedder[0].model.posterior.state_dict().values() if tensor.is_floating_point()]


@pytest.mark.parametrize("how", ["half", "bfloat16", "to", "load"])
def test_a_cast_leaves_the_head_in_float32(make_ready, processor, texts, tmp_path, how):
    embedder = sentence_transformer(make_ready(), processor)
    head = [tensor.clone() for tensor in head_tensors(embedder)]
    if how == "load":
        embedder.save_pretrained(str(tmp_path))
        embedder = load(tmp_path, dtype=torch.bfloat16)
    elif how == "to":
        embedder.to(torch.bfloat16)
    else:
        getattr(embedder, how)()
    assert embedder.dtype == (torch.float16 if how == "half" else torch.bfloat16)
    assert all(torch.equal(now, before) for now, before in zip(head_tensors(embedder), head, strict=True))
    assert embedder.encode(texts[:4]).dtype == np.float32
    # The control: the head's values are none that the cast would have kept.
    assert not all(torch.equal(tensor, tensor.to(embedder.dtype).float()) for tensor in head)


def test_a_move_takes_the_head_along(make_ready, processor):
    embedder = sentence_transformer(make_ready(), processor)
    embedder.to("meta", torch.float16)
    assert {tensor.device.type for tensor in embedder.state_dict().values()} == {"meta"}
    assert {tensor.dtype for tensor in head_tensors(embedder)} == {torch.float32}


def test_encoding_never_uses_batch_statistics_but_a_training_pass_does(make_ready, processor, texts):
    model = make_ready().double()
    embedder = sentence_transformer(model, processor)
    expected = modes(model, processor, texts[:8])
    running = model.posterior.mean_norm.running_mean.clone()
    embedder.train()
    np.testing.assert_allclose(embedder.encode(texts[:8], batch_size=1), expected, atol=1e-9)
    assert torch.equal(model.posterior.mean_norm.running_mean, running)
    embedder.train()
    trained = embedder(embedder[0].preprocess(texts[:8]))["sentence_embedding"]
    assert np.abs(trained.detach().numpy() - expected).max() > 1e-3
    assert trained.requires_grad and not torch.equal(model.posterior.mean_norm.running_mean, running)


def test_a_model_in_training_mode_is_refused(make_ready, processor):
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        sentence_transformer(make_ready().train(), processor)


def test_a_head_without_estimated_statistics_is_refused(make_model, processor):
    with pytest.raises(ValueError, match="never estimated"):
        sentence_transformer(make_model(posterior="bn").eval(), processor)
    sentence_transformer(make_model(posterior="gaussian").eval(), processor)


def test_a_processor_of_another_model_is_refused(make_ready, processor):
    larger: PreTrainedTokenizerFast = copy.deepcopy(processor.encoder_tokenizer)
    larger.add_tokens(["a token that the encoder does not know"])
    with pytest.raises(ValueError, match=r"has (\d+) tokens, the encoder embeds"):
        sentence_transformer(make_ready(), BNVAEProcessor(processor.tokenizer, larger))


@pytest.mark.parametrize("wrong", [("a", "pair"), 5, {"text": "a"}])
def test_only_texts_are_embedded(make_ready, processor, wrong):
    with pytest.raises(ValueError, match="Only texts"):
        sentence_transformer(make_ready(), processor)[0].preprocess(["a", wrong])


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.delitem(sys.modules, "hf_bnvae.interop.sentence_embeddings")
    with pytest.raises(ImportError, match=r"pip install 'sentence-transformers>=5.4'"):
        importlib.import_module("hf_bnvae.interop.sentence_embeddings")
