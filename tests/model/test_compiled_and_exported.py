"""Graphs of a model: `torch.compile` with batches of several sizes, `torch.export` with a dynamic batch."""

import pytest
import torch
from torch import nn


class Encode(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        posterior = self.model.encode(input_ids, attention_mask)
        return torch.cat([posterior.mean, posterior.logvar], -1)


class Decode(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, latents, labels):
        return self.model(latents=latents, labels=labels).reconstruction_nll


def batch_of(processor, texts):
    return dict(processor(texts, padding="max_length", max_length=12, return_tensors="pt"))


@pytest.mark.slow
def test_a_compiled_model_takes_batches_of_other_sizes(make_model, processor, texts):
    model = make_model(posterior="bn_rms").eval()
    compiled = torch.compile(model, backend="eager")
    trained = make_model(posterior="bn_rms").train()
    training = torch.compile(trained, backend="eager")
    for size in (8, 9, 12):
        batch = batch_of(processor, texts[:size])
        noise = torch.randn(size, model.config.latent_size, generator=torch.Generator().manual_seed(size))
        torch.testing.assert_close(compiled(**batch, noise=noise).loss, model(**batch, noise=noise).loss)
        # With dropout and noise of its own.
        training(**batch).loss.backward()
    assert all(p.grad.isfinite().all() for p in trained.parameters() if p.grad is not None)
    assert trained.posterior.mean_norm.num_batches_tracked == 3


@pytest.mark.parametrize("half", [Encode, Decode])
def test_an_exported_half_takes_batches_of_other_sizes(make_model, processor, texts, half):
    model = make_model(posterior="bn_rms").eval()

    def arguments(size):
        batch = batch_of(processor, texts[:size])
        if half is Encode:
            return batch["input_ids"], batch["attention_mask"]
        latents = torch.randn(size, model.config.latent_size, generator=torch.Generator().manual_seed(size))
        return latents, batch["labels"]

    sizes = {0: torch.export.Dim("batch", min=2, max=64)}
    graph = torch.export.export(half(model), arguments(3), dynamic_shapes=(sizes, sizes)).module()
    for size in (2, 3, 20):
        torch.testing.assert_close(graph(*arguments(size)), half(model)(*arguments(size)), rtol=1e-4, atol=1e-5)
    assert not torch.equal(graph(*arguments(3)), graph(*(values.flip(0) for values in arguments(3))))
