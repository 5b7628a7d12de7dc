# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The priors over latents: N(0, I), which training uses, and a Gaussian that is fitted to the trained posteriors."""

import torch
from torch import nn

from .gaussian_bnvae import DiagonalGaussian, like, prior_log_prob

# The least relative difference of two fingerprints that shows other weights. Weights in bfloat16 differ by 0.002 from
# weights in float32, and a few steps of training change more.
SAME_HEAD = 0.01


def is_same_head(recorded: torch.Tensor, fingerprint: torch.Tensor) -> bool:
    """Whether a head's [`~PosteriorHead.fingerprint`] is the recorded one, up to rounding."""
    own = recorded.float().cpu()
    return own.shape == fingerprint.shape and bool((own - fingerprint).norm() <= SAME_HEAD * own.norm())


class Prior(nn.Module):
    """
    Base of the priors. A prior is an affine map of N(0, I): `whiten` goes to N(0, I), `unwhiten` comes back.

    All methods compute on the device of the latents, in float32 at least.

    Args:
        latent_size (`int`): Number of latent dimensions, d.
    """

    # The name in the configuration.
    name: str

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size

    def sample(self, n: int = 1, seed: int | None = None) -> torch.FloatTensor:
        """
        Draws from the prior.

        Args:
            n (`int`, *optional*, defaults to 1): Number of draws.
            seed (`int`, *optional*): Seed of the draws. Without a seed, the global random state of torch gives them.

        Returns:
            `torch.FloatTensor` of shape `(n, latent_size)`: On the CPU, so that a seed gives the same on all devices.
        """
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return self.unwhiten(torch.randn(n, self.latent_size, generator=generator))

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Log density of `latents` (`(..., latent_size)`) in nats: `(...)`."""
        raise NotImplementedError

    def whiten(self, latents: torch.Tensor) -> torch.Tensor:
        """From latents `(..., latent_size)` to coordinates of the same shape, in which the prior is N(0, I)."""
        raise NotImplementedError

    def unwhiten(self, whitened: torch.Tensor) -> torch.Tensor:
        """The inverse of [`~Prior.whiten`]."""
        raise NotImplementedError

    def kl(self, posterior: DiagonalGaussian) -> torch.Tensor:
        """KL divergence of posteriors from the prior in nats, summed over dimensions: `(batch,)`."""
        raise NotImplementedError


class StandardPrior(Prior):
    """N(0, I)."""

    name = "standard"

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        return prior_log_prob(_at_least_single(latents))

    def whiten(self, latents: torch.Tensor) -> torch.Tensor:
        return latents

    def unwhiten(self, whitened: torch.Tensor) -> torch.Tensor:
        return whitened

    def kl(self, posterior: DiagonalGaussian) -> torch.Tensor:
        return posterior.kl().sum(-1)


class GaussianPrior(Prior):
    """
    A Gaussian with full covariance S = L L'.

    Of all Gaussians, the one with the aggregated posterior's mean and covariance has the smallest mean KL from the
    posteriors. (Tomczak & Welling, AISTATS 2018, eq. 4, have a mixture of posteriors instead.)

    Args:
        latent_size (`int`): Number of latent dimensions, d.

    Attributes:
        mean (`torch.Tensor` of shape `(latent_size,)`): The mean m; a buffer. 0 at first.
        scale_tril (`torch.Tensor` of shape `(latent_size, latent_size)`): L, lower triangular; a buffer. I at first.
        head_fingerprint (`torch.Tensor` of shape `(2, latent_size)`): The [`~PosteriorHead.fingerprint`] of the
            posterior head whose posteriors the prior was fitted to; a buffer. 0 at first.
    """

    name = "gaussian"
    mean: torch.Tensor
    scale_tril: torch.Tensor
    head_fingerprint: torch.Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__(latent_size)
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("scale_tril", torch.eye(latent_size))
        self.register_buffer("head_fingerprint", torch.zeros(2, latent_size))

    @classmethod
    def from_moments(cls, mean: torch.Tensor, covariance: torch.Tensor) -> "GaussianPrior":
        """
        The prior with these moments, which are computed with in float64 and kept in float32.

        Args:
            mean (`torch.Tensor` of shape `(latent_size,)`): The mean.
            covariance (`torch.Tensor` of shape `(latent_size, latent_size)`): The covariance.

        Raises:
            ValueError: if a moment is not finite, or if the covariance is so near to a singular one that float32
                cannot hold the prior.
        """
        mean, covariance = mean.cpu().double(), covariance.cpu().double()
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("The latents' moments are not finite, so no prior can be fitted to them.")
        variances = torch.linalg.eigvalsh(covariance)  # ascending
        least, most = variances[0].item(), variances[-1].item()
        prior = cls(len(mean))
        smallest = len(mean) * torch.finfo(prior.scale_tril.dtype).eps
        if not least > smallest**2 * most:
            # What rounding leaves of 0 depends on the machine.
            shown = least if least > len(mean) * torch.finfo(covariance.dtype).eps * most else 0.0
            raise ValueError(
                f"The fitted prior is degenerate: the variance of the latents is {most:.3g} in one direction and "
                f"{shown:.3g} in another one, in which all latents are nearly the same. Fit on more texts, "
                "or train with fewer latent dimensions (latent_size)."
            )
        prior.mean.copy_(mean)
        prior.scale_tril.copy_(torch.linalg.cholesky(covariance))
        return prior

    @property
    def is_fitted(self) -> bool:
        """Whether the prior was fitted to the posteriors of a head."""
        return bool(self.head_fingerprint.any())

    def fits(self, fingerprint: torch.Tensor) -> bool:
        """Whether the prior was fitted to a head with this fingerprint, or to one that differs by rounding only."""
        return is_same_head(self.head_fingerprint, fingerprint)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        return prior_log_prob(self.whiten(latents)) - self._log_volume(latents)

    def whiten(self, latents: torch.Tensor) -> torch.Tensor:
        latents = _at_least_single(latents)
        # All latents are the right-hand side of one system. As many systems would copy L as often.
        centred = (latents - like(self.mean, latents)).reshape(-1, self.latent_size)
        whitened = torch.linalg.solve_triangular(like(self.scale_tril, latents), centred.T, upper=False)
        return whitened.T.reshape(latents.shape)

    def unwhiten(self, whitened: torch.Tensor) -> torch.Tensor:
        whitened = _at_least_single(whitened)
        return whitened @ like(self.scale_tril, whitened).T + like(self.mean, whitened)

    def kl(self, posterior: DiagonalGaussian) -> torch.Tensor:
        logvar = _at_least_single(posterior.logvar)
        identity = torch.eye(self.latent_size, dtype=logvar.dtype, device=logvar.device)
        inverse = torch.linalg.solve_triangular(like(self.scale_tril, logvar), identity, upper=False)
        # The trace of S^-1 diag(sigma^2).
        trace = logvar.exp() @ inverse.square().sum(0)
        distance = self.whiten(posterior.mean).square().sum(-1)
        return 0.5 * (trace + distance - self.latent_size - logvar.sum(-1)) + self._log_volume(logvar)

    def _log_volume(self, values: torch.Tensor) -> torch.Tensor:
        """log det L, 0-dimensional, on the device of `values`."""
        return like(self.scale_tril.diagonal(), _at_least_single(values)).log().sum()


PRIORS: dict[str, type[Prior]] = {prior.name: prior for prior in (StandardPrior, GaussianPrior)}


def _at_least_single(values: torch.Tensor) -> torch.Tensor:
    """The values in float64 if they are, otherwise in float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


__all__ = ["PRIORS", "GaussianPrior", "Prior", "StandardPrior"]
