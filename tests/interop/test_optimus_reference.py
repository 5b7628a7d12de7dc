"""A converted checkpoint gives the numbers that the original Optimus computed (../shared/optimus, where it is)."""

import numpy as np
import pytest
import torch
from optimus_original import WAYS, convert, difference
from paths import ROOT

from hf_bnvae.evaluation.importance import decoder_nll, importance_weighted_nll
from hf_bnvae.training.objective import free_bits_kl, training_loss

FIXTURE = ROOT.parent / "shared" / "optimus" / "fixture"
needs_reference = pytest.mark.skipif(not FIXTURE.is_dir(), reason="../shared/optimus is not there")


@pytest.fixture(scope="session")
def reference() -> dict[str, torch.Tensor]:
    """What the original computed. reference.json, beside the file, explains each array."""
    with np.load(FIXTURE / "reference.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


@pytest.fixture
def inputs(reference) -> dict[str, torch.Tensor]:
    """Its sentences as a model's arguments."""
    ids, targets = reference["bert_ids"], reference["gpt2_ids"][:, 1:]
    return {
        "input_ids": ids,
        "attention_mask": ids.gt(0).long(),
        "labels": targets.masked_fill(targets.eq(500), -100),
    }


@pytest.fixture
def reference_model(out):
    """A function that converts the original's checkpoint with an injection, and loads it."""
    return lambda way="both": convert(FIXTURE, out, latent_injection=way)


def key(way: str) -> str:
    return "mem{}_emb{}".format(*WAYS[way])


@needs_reference
def test_reference_posteriors(reference_model, reference, inputs):
    model = reference_model()
    posterior = model.encode(inputs["input_ids"], inputs["attention_mask"])
    assert difference(posterior.mean, reference["mu"]) < 1e-5
    assert difference(posterior.logvar, reference["logvar"]) < 1e-5
    assert difference(posterior.sample(reference["eps"]), reference["z_sample"]) < 1e-4
    assert difference(model.encode(inputs["input_ids"]).mean, reference["mu_nomask"]) < 1e-5
    assert difference(reference["mu"], reference["mu_nomask"]) > 0.1
    assert difference(posterior.mean, reference["logvar"]) > 0.1


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_logits(way, reference_model, reference):
    model = reference_model(way)
    logits = model.decode(reference["z"], reference["gpt2_ids"])[0]
    columns = logits[..., reference["vocab_cols"]]
    assert difference(columns, reference[f"logits_{key(way)}"]) < 1e-5
    assert difference(logits.logsumexp(-1), reference[f"logsumexp_{key(way)}"]) < 1e-5
    for other in WAYS.keys() - {way}:
        assert difference(columns, reference[f"logits_{key(other)}"]) > 0.1
    # Wrong positions: no room for the slot, or room without a slot.
    shifted = torch.arange(reference["gpt2_ids"].shape[1])[None] + (0 if WAYS[way][0] else 1)
    logits = model.decode(reference["z"], reference["gpt2_ids"], position_ids=shifted)[0]
    assert difference(logits[..., reference["vocab_cols"]], reference[f"logits_{key(way)}"]) > 0.1


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_losses(way, reference_model, reference, inputs):
    model = reference_model(way)
    outputs = model(latents=reference["z"], labels=inputs["labels"])
    torch.testing.assert_close(outputs.reconstruction_nll, reference[f"rec_{key(way)}"], rtol=1e-6, atol=1e-5)
    outputs = model(**inputs, noise=reference["eps"])
    beta, free_bits = 0.7, 0.2
    kl = {
        "fb0": outputs.kl.sum(-1),
        "fb1": torch.stack([free_bits_kl(row[None], free_bits, "optimus") for row in outputs.kl]),
    }
    for name, own in kl.items():
        nll, own_kl, loss = reference[f"vae_{key(way)}_{name}_lw0"]
        close = {"rtol": 2e-6, "atol": 1e-5}
        torch.testing.assert_close(outputs.reconstruction_nll, nll, **close)
        torch.testing.assert_close(own, own_kl, **close)
        torch.testing.assert_close(outputs.reconstruction_nll + beta * own, loss, **close)
        settings = {"free_bits": free_bits, "free_bits_mode": "optimus"} if name == "fb1" else {}
        training = training_loss(outputs.reconstruction_nll, outputs.kl, beta, **settings)
        torch.testing.assert_close(training, loss.mean(), **close)
    assert difference(kl["fb0"], kl["fb1"]) > 0.1
    with_z = model(latents=reference["z"], labels=inputs["labels"]).reconstruction_nll
    assert difference(outputs.reconstruction_nll, with_z) > 0.1


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_importance_weighted_likelihoods(way, reference_model, reference, inputs):
    model = reference_model(way)
    noise = reference["eps_iw"].flatten(1, 2)  # (sentences, samples, latent_size)
    likelihood, _, kl = reference[f"iw_{key(way)}"]
    posterior = model.encode(inputs["input_ids"], inputs["attention_mask"])
    nll = decoder_nll(model, inputs["labels"])
    estimate = -importance_weighted_nll(nll, posterior, 100, noise=noise.__getitem__).float()
    torch.testing.assert_close(estimate, likelihood, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(posterior.kl().sum(-1), kl, rtol=2e-6, atol=1e-5)
    other = -importance_weighted_nll(nll, posterior, 100, noise=noise.flip(0).__getitem__).float()
    assert difference(other, likelihood) > 0.01


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_greedy_texts(way, reference_model, reference):
    model = reference_model(way)
    expected = reference[f"greedy_{key(way)}"]
    settings = {"max_new_tokens": expected.shape[1] - 1, "eos_token_id": None}
    assert torch.equal(model.generate(latents=reference["z"], **settings), expected)
    assert torch.equal(model.generate(latents=reference["z"], use_cache=False, **settings), expected)
    assert not torch.equal(model.generate(latents=reference["z"].flip(0), **settings), expected)


@needs_reference
def test_reference_gradients(reference_model, reference, inputs):
    model = reference_model()
    outputs = model(**inputs, noise=reference["eps"])
    training_loss(outputs.reconstruction_nll, outputs.kl, 0.7, 0.2, "optimus").backward()
    head = model.posterior
    gradients = {
        "encoder_linear": torch.cat([head.mean_projection.weight.grad, head.scale_projection.weight.grad]),
        "memory_linear": model.injection.memory.weight.grad,
        "emb_linear": model.injection.embedding.weight.grad,
    }
    for name, gradient in gradients.items():
        expected = reference[f"grad_{name}"]
        assert difference(gradient, expected) < 1e-5 * expected.abs().max()
    # The original's head has no biases.
    ours = {id(head.mean_projection.bias), id(head.scale_projection.bias)}
    squares = [p.grad.square().sum() for p in model.parameters() if id(p) not in ours]
    torch.testing.assert_close(
        torch.stack(squares).sum().sqrt(), reference["grad_total_norm"].float(), rtol=1e-5, atol=0
    )
