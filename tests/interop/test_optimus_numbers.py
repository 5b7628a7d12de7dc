"""A converted Optimus checkpoint gives the numbers of a plain computation, and has the original configuration."""

import json

import pytest
import torch
from optimus_original import (
    DECODER_HEADS,
    ENCODER_HEADS,
    LATENT_SIZE,
    POSITIONS,
    WAYS,
    PlainOptimus,
    convert,
    difference,
    random_state,
)
from torch.nn import functional as F

from hf_bnvae import BNVAEConfig
from hf_bnvae.interop.optimus.convert import convert_optimus_checkpoint


def test_posteriors_are_those_of_a_plain_computation(checkpoint, out, sizes, sentences):
    model = convert(checkpoint, out).double()
    plain = PlainOptimus(random_state(sizes))
    longest = max(map(len, sentences["encoder"]))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in sentences["encoder"]])
    posterior = model.encode(ids, ids.gt(0).long())
    for row, mean, logvar in zip(sentences["encoder"], posterior.mean, posterior.logvar, strict=True):
        expected = plain.posterior(row)
        assert difference(mean, expected[0]) < 1e-10 and difference(logvar, expected[1]) < 1e-10
        assert difference(mean, expected[1]) > 0.1
    # Without a mask, as the original evaluates, padding would count.
    assert difference(model.encode(ids).mean[0], posterior.mean[0]) > 0.01
    assert not any(getattr(model.posterior, f"{name}_projection").bias.any() for name in ("mean", "scale"))


@pytest.mark.parametrize("way", WAYS)
def test_logits_are_those_of_a_plain_computation(way, checkpoint, out, sizes, sentences):
    model = convert(checkpoint, out, latent_injection=way).double()
    plain = PlainOptimus(random_state(sizes))
    z = torch.randn(3, LATENT_SIZE, dtype=torch.float64)
    for row, ids in enumerate(sentences["decoder"]):
        logits = model.decode(z[row : row + 1], torch.tensor([ids]))[0][0]
        assert difference(logits, plain.logits(z[row], ids, *WAYS[way])) < 1e-10
        controls = [plain.logits(z[row], ids, *flags) for name, flags in WAYS.items() if name != way]
        controls.append(plain.logits(z[row - 1], ids, *WAYS[way]))
        if way != "embedding":
            controls += [plain.logits(z[row], ids, *WAYS[way], **{name: False}) for name in ("shift", "value")]
        assert min(difference(logits, control) for control in controls) > 0.05
        # The loss scores all but BOS.
        labels = torch.tensor([ids[1:]])
        nll = F.cross_entropy(plain.logits(z[row], ids, *WAYS[way])[:-1], labels[0], reduction="sum")
        assert difference(model(latents=z[row : row + 1], labels=labels).reconstruction_nll[0], nll) < 1e-9


@pytest.mark.parametrize("way", WAYS)
def test_greedy_texts_are_those_of_a_plain_computation(way, checkpoint, out, sizes):
    model = convert(checkpoint, out, latent_injection=way).double()
    plain = PlainOptimus(random_state(sizes))
    z = torch.randn(2, LATENT_SIZE, dtype=torch.float64)
    generated = model.generate(latents=z, max_new_tokens=12, eos_token_id=None)
    texts = []
    for row in range(2):
        ids = [sizes["decoder"] - 2]
        for _ in range(12):
            ids.append(plain.logits(z[row], ids, *WAYS[way])[-1].argmax().item())
        texts.append(ids)
    assert generated.tolist() == texts
    assert texts[0] != texts[1]


@pytest.mark.parametrize("way", WAYS)
def test_the_slot_takes_one_of_the_decoders_positions(way, checkpoint, out):
    model = convert(checkpoint, out, latent_injection=way)
    z, longest = torch.zeros(1, LATENT_SIZE), POSITIONS - WAYS[way][0]
    model.decode(z, torch.zeros(1, longest, dtype=torch.long))
    with pytest.raises(ValueError, match=f"takes {POSITIONS + 1} positions of the decoder, which has {POSITIONS}"):
        model.decode(z, torch.zeros(1, longest + 1, dtype=torch.long))


def test_the_configuration_is_the_originals(checkpoint, out, sizes):
    convert_optimus_checkpoint(checkpoint, out)
    config = BNVAEConfig.from_pretrained(out)
    vocab_size = sizes["decoder"]
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    ids = dict(zip(names, (vocab_size - 3, vocab_size - 2, vocab_size - 1, vocab_size - 2), strict=True))
    generation = json.loads((out / "generation_config.json").read_text())
    assert all(getattr(config, name) == generation[name] == value for name, value in ids.items())
    assert all(getattr(config.decoder, name) == ids[name] for name in names[:3])
    assert (config.posterior, config.pooling, config.latent_size) == ("gaussian", "pooler", LATENT_SIZE)
    assert (config.encoder.num_attention_heads, config.decoder.n_head) == (ENCODER_HEADS, DECODER_HEADS)
    assert (config.decoder.attn_pdrop, config.encoder.hidden_dropout_prob) == (0.1, 0)
    names = {file.name for file in out.iterdir() if file.suffix != ".py"}
    assert names == {"checksums.json", "config.json", "generation_config.json", "model.safetensors"}
