# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Gaussians with diagonal covariance, and their densities in nats."""

import functools
import math
from dataclasses import dataclass

import torch


@functools.cache
def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU if the device has no float64, as Apple's GPUs."""
    try:
        torch.zeros((), dtype=torch.float64, device=device)
    except TypeError:
        return torch.device("cpu")
    return device


def in_float64(values: torch.Tensor) -> torch.Tensor:
    """The values in float64, on their device, or on the CPU if the device has no float64."""
    return values.to(float64_device(values.device)).double()


def like(values: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The values with the dtype of `other` and on its device. They are in float64 on no device that has none."""
    if other.dtype == torch.float64:
        return values.to(other.device).to(other.dtype)
    return values.to(other.dtype).to(other.device)


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
            # Graphs of several sizes take no generator, not even `None`.
            drawn_from = {} if generator is None else {"generator": generator}
            noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, **drawn_from)
        elif not isinstance(noise, torch.Tensor) or noise.shape != self.mean.shape:
            found = tuple(noise.shape) if isinstance(noise, torch.Tensor) else type(noise).__name__
            raise ValueError(f"noise must be a tensor of the posterior's shape {tuple(self.mean.shape)}, got {found}.")
        return self.mean + self.std * like(noise, self.mean)

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


__all__ = ["DiagonalGaussian", "float64_device", "in_float64", "like", "normal_log_density", "prior_log_prob"]
