# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Gaussians with diagonal covariance, and their densities in nats."""

import math
from dataclasses import dataclass

import torch


@dataclass
class DiagonalGaussian:
    """A batch of Gaussians with diagonal covariance.

    Args:
        mean (`torch.Tensor` of shape `(batch, latent_size)`): The means.
        logvar (`torch.Tensor` of shape `(batch, latent_size)`): The logarithms of the variances.
    """

    mean: torch.Tensor
    logvar: torch.Tensor

    @property
    def std(self) -> torch.Tensor:
        """Standard deviations, `(batch, latent_size)`."""
        return torch.exp(0.5 * self.logvar)

    def sample(self, noise: torch.Tensor | None = None, generator: torch.Generator | None = None) -> torch.Tensor:
        """A reparameterised sample, `mean + std * noise`, of shape `(batch, latent_size)`.

        Args:
            noise (`torch.Tensor` of shape `(batch, latent_size)`, *optional*): Standard normal noise to use.
            generator (`torch.Generator`, *optional*): Where the noise is drawn from, if no noise is given.
        """
        if noise is None:
            noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, generator=generator)
        elif noise.shape != self.mean.shape:
            raise ValueError(
                f"noise must have the posterior's shape {tuple(self.mean.shape)}, got {tuple(noise.shape)}."
            )
        return self.mean + self.std * noise.to(self.mean)

    def mode(self) -> torch.Tensor:
        """The most likely latents, `(batch, latent_size)`. They are the means."""
        return self.mean

    def kl(self) -> torch.Tensor:
        """KL divergence from the standard normal prior in nats, per sentence and dimension: `(batch, latent_size)`."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - self.logvar - 1.0)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Log density of `latents` (`(..., batch, latent_size)`) in nats, summed over dimensions: `(..., batch)`."""
        standardised = (latents - self.mean) * torch.exp(-0.5 * self.logvar)
        return normal_log_density(standardised, self.logvar).sum(-1)


def prior_log_prob(latents: torch.Tensor) -> torch.Tensor:
    """Log density of `latents` (`(..., latent_size)`) under the standard normal prior in nats: `(...)`."""
    return normal_log_density(latents, torch.zeros_like(latents)).sum(-1)


def normal_log_density(standardised: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """Log density of each entry in nats, from (z - mean) / std and log std^2."""
    return -0.5 * (standardised.square() + logvar + math.log(2 * math.pi))


__all__ = ["DiagonalGaussian", "normal_log_density", "prior_log_prob"]
