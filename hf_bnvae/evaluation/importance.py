# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The importance-weighted estimate of log p(x)."""

import math

import torch

from ..modeling_bnvae import BNVAEModel
from ..posterior_bnvae import DiagonalGaussian, prior_log_prob


def importance_weighted_nll(
    model: BNVAEModel,
    posterior: DiagonalGaussian,
    labels: torch.LongTensor,
    num_samples: int = 100,
    rows_per_pass: int = 512,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """
    -log p(x) of each sentence in nats, an upper bound in expectation that falls with the number of samples:
    -log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) with z_k ~ q(z | x) (Burda et al., ICLR 2016, eq. 8).

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode.
        posterior ([`DiagonalGaussian`]): The posteriors of the sentences, encoded once for all samples.
        labels (`torch.LongTensor` of shape `(batch, target_length)`): The sentences for the decoder.
        num_samples (`int`, *optional*, defaults to 100): K.
        rows_per_pass (`int`, *optional*, defaults to 512): How many rows one pass of the decoder may have.
        generator (`torch.Generator`, *optional*): Where the samples' noise is drawn from.

    Returns:
        `torch.Tensor` of shape `(batch,)`
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    batch, latent_size = posterior.mean.shape
    samples_per_pass = max(1, rows_per_pass // batch)
    # Drawn at once, so that the samples do not depend on how they are cut into passes.
    noise = torch.randn(num_samples, batch, latent_size, generator=generator, dtype=posterior.mean.dtype)
    log_weights = []
    for part in noise.split(samples_per_pass):
        repeats = len(part)
        latents = posterior.mean + posterior.std * part.to(posterior.mean.device)
        with torch.no_grad():
            nll = model(latents=latents.flatten(0, 1), labels=labels.repeat(repeats, 1)).reconstruction_nll
        log_weights.append(prior_log_prob(latents) - posterior.log_prob(latents) - nll.view(repeats, batch))
    return math.log(num_samples) - torch.logsumexp(torch.cat(log_weights).double(), 0)
