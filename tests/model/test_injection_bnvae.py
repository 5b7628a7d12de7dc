"""The size with which the latent enters a new model."""

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from hf_bnvae import BNVAEConfig, BNVAEModel

TOKENS = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 0}
DECODERS = {
    "gpt2": GPT2Config(n_embd=64, n_layer=2, n_head=2, **TOKENS),
    "wider": GPT2Config(n_embd=256, n_layer=2, n_head=4, **TOKENS),
    # Rotary positions, keys that several heads share, and weights of another size.
    "llama": LlamaConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=400,
        initializer_range=0.05,
        tie_word_embeddings=True,
    ),
}


def new_model(decoder: PreTrainedConfig, latent_size: int, injection: str) -> BNVAEModel:
    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder |= {"intermediate_size": 32, "vocab_size": 50}
    torch.manual_seed(0)
    fields = {"latent_size": latent_size, "latent_injection": injection}
    return BNVAEModel(BNVAEConfig(encoder=encoder, decoder=decoder.to_dict(), **fields)).eval()


@torch.no_grad()
@pytest.mark.parametrize("latent_size", [4, 32])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_new_slot_has_the_same_size_in_every_decoder_and_for_every_latent(decoder, latent_size):
    model = new_model(DECODERS[decoder], latent_size, "memory")
    for slot in model.injection.memory_slots(torch.randn(2000, latent_size)):
        assert slot.std().item() == pytest.approx(0.25, rel=0.1)


@torch.no_grad()
@pytest.mark.parametrize("latent_size", [4, 32])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_new_vector_at_every_position_is_as_large_as_the_embeddings_of_these_new_decoders(decoder, latent_size):
    model = new_model(DECODERS[decoder], latent_size, "embedding")
    vectors = model.injection.embedding(torch.randn(2000, latent_size))
    embeddings = model.decoder.get_input_embeddings().weight
    assert vectors.std().item() == pytest.approx(embeddings.std().item(), rel=0.1)


def test_a_saved_model_keeps_its_maps(tmp_path):
    model = new_model(DECODERS["gpt2"], 8, "both")
    with torch.no_grad():
        model.injection.memory.weight.mul_(5)
        model.injection.embedding.weight.mul_(7)
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path)
    for name in ("memory", "embedding"):
        assert torch.equal(getattr(loaded.injection, name).weight, getattr(model.injection, name).weight)


def test_the_slot_of_a_saved_decoder_starts_smaller_and_that_of_a_new_one_as_ever(tmp_path):
    built = new_model(DECODERS["llama"], 8, "both")
    built.encoder.save_pretrained(tmp_path / "encoder")
    built.decoder.save_pretrained(tmp_path / "decoder")
    for decoder, size in ((str(tmp_path / "decoder"), 0.11), (DECODERS["llama"], 0.25)):
        model = BNVAEModel.from_encoder_decoder_pretrained(
            str(tmp_path / "encoder"), decoder, latent_size=16, latent_injection="both"
        )
        assert model.injection.memory.weight.std().item() == pytest.approx(size / 16**0.5, rel=0.1)
        assert model.injection.embedding.weight.std().item() == pytest.approx(0.05 / 16**0.5, rel=0.1)
