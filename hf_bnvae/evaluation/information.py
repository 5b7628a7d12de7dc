# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How much the latent says about the sentence: mutual information under the aggregated posterior."""

import math
from dataclasses import dataclass

import torch

from ..model.gaussian_bnvae import DiagonalGaussian, in_float64, prior_log_prob
from ..model.prior_bnvae import Prior

# Elements of a block of pairs of sentences: 8 MiB. Larger blocks are slower.
BLOCK_ELEMENTS = 2**20

# The most that rounding may add to the exponent of a density, in nats.
ROUNDING_NATS = 1e-6
# Lower exponents are raised to this one. Next to a term of 0 they change nothing, and the exponential of a denormal
# result takes 50 times as long.
LOWEST_EXPONENT = -700.0
# If at least this share of the sentences needs direct sums, it is faster to sum all sentences directly.
DENSE_SHARE = 0.25

# An estimate of mutual information this near to log N, in nats, may be too low, because it cannot exceed log N.
NEAR_LOG_N = 1.0


@dataclass(frozen=True)
class InformationEstimate:
    """
    Mutual information and marginal KL of a corpus, in nats per sentence.

    Args:
        mutual_information (`float`): E[log q(z|x) - log q(z)], with q(z) the mean of all the corpus' posteriors.
        mutual_information_error (`float`): Its Monte-Carlo standard error over the drawn latents.
        marginal_kl (`float`): E[log q(z) - log p(z)], the distance of the aggregated posterior from the prior. It is
            too high by as much as the mutual information is too low.
        marginal_kl_error (`float`): Its Monte-Carlo standard error over the drawn latents.
        log_num_sentences (`float`): log N. The mutual information cannot exceed it.
        fitted_marginal_kl, fitted_marginal_kl_error (`float`, *optional*): The marginal KL from a fitted prior instead
            of N(0, I), and its error.
    """

    mutual_information: float
    mutual_information_error: float
    marginal_kl: float
    marginal_kl_error: float
    log_num_sentences: float
    fitted_marginal_kl: float | None = None
    fitted_marginal_kl_error: float | None = None

    @property
    def is_lower_bound(self) -> bool:
        """Whether the estimate is so near log N (within 1 nat) that the truth may be larger."""
        return is_near_log_n(self.mutual_information, self.log_num_sentences)


def is_near_log_n(information: float, log_num_sentences: float) -> bool:
    """Whether an estimate of mutual information from N sentences is within 1 nat of log N, which it cannot exceed. The
    mutual information is a lower bound then, and the marginal KL of the same sentences an upper bound."""
    return information > log_num_sentences - NEAR_LOG_N


@torch.no_grad()
def mutual_information(
    posterior: DiagonalGaussian,
    generator: torch.Generator | None = None,
    noise: torch.Tensor | None = None,
    fitted_prior: Prior | None = None,
) -> InformationEstimate:
    """
    Mutual information of sentence and latent, with one latent drawn for each sentence of the corpus.

    The aggregated posterior is the mean of the posteriors of all sentences of the corpus, each sentence's own
    posterior included (Hoffman & Johnson 2016; Dieng et al., AISTATS 2019). It is computed in float64, in blocks. The
    square in the exponent of a density is expanded, so that the exponents are one matrix product. If the sigma of a
    sentence is very small in a dimension, this would lose digits; such dimensions are summed directly.

    Args:
        posterior ([`DiagonalGaussian`]): The posteriors of the N sentences of the corpus.
        generator (`torch.Generator`, *optional*): Draws the noise of the latents.
        noise (`torch.Tensor` of shape `(N, latent_size)`, *optional*): The noise itself, standard normal.
        fitted_prior ([`Prior`], *optional*): A prior whose marginal KL is estimated, too.

    Returns:
        [`InformationEstimate`]

    Raises:
        ValueError: for fewer than two sentences.
    """
    count = len(posterior.mean)
    if count < 2:
        raise ValueError(f"Mutual information needs the posteriors of at least two sentences, got {count}.")
    if noise is None:
        noise = torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float64)
    posterior = DiagonalGaussian(in_float64(posterior.mean), in_float64(posterior.logvar))
    latents = posterior.sample(noise)
    log_prob = posterior.log_prob(latents)
    aggregated = _AggregatedPosterior(posterior, reach=latents.abs().amax(0))
    blocks = zip(*(values.split(max(1, BLOCK_ELEMENTS // count)) for values in (latents, log_prob)), strict=True)
    gain = -torch.cat([aggregated.log_ratio(*block) for block in blocks])
    aggregated_log_prob = log_prob - gain  # log q(z)
    distance = aggregated_log_prob - prior_log_prob(latents)
    fitted = {}
    if fitted_prior is not None:
        fitted_distance = aggregated_log_prob - fitted_prior.log_prob(latents)
        fitted["fitted_marginal_kl"] = fitted_distance.mean().item()
        fitted["fitted_marginal_kl_error"] = fitted_distance.std().item() / math.sqrt(count)
    return InformationEstimate(
        mutual_information=gain.mean().item(),
        mutual_information_error=gain.std().item() / math.sqrt(count),
        marginal_kl=distance.mean().item(),
        marginal_kl_error=distance.std().item() / math.sqrt(count),
        log_num_sentences=math.log(count),
        **fitted,
    )


class _AggregatedPosterior:
    """The mean of all posteriors' densities, at latents that stay within `reach` `(latent_size,)` of 0."""

    def __init__(self, posterior: DiagonalGaussian, reach: torch.Tensor) -> None:
        mean, precision = posterior.mean, torch.exp(-posterior.logvar)
        # The terms of an expanded square can be this large, and cancel. The matrix product sums 2 * latent_size of
        # them for each density, and each addition may add a rounding error of this size.
        magnitude = 0.5 * precision * (reach + mean.abs()).square()
        terms = 2 * mean.shape[1]
        sharp = magnitude > ROUNDING_NATS / terms**2 / torch.finfo(mean.dtype).eps
        sharp |= sharp.double().mean(0) > DENSE_SHARE
        flat = precision.masked_fill(sharp, 0)
        constant = -0.5 * (mean.square() * flat + posterior.logvar + math.log(2 * math.pi)).sum(1)
        parts = [-0.5 * flat, mean * flat, constant[:, None], -torch.ones_like(constant[:, None])]
        self.coefficients = torch.cat(parts, 1).T.contiguous()
        self.sharp = []
        for dimension in sharp.any(0).nonzero().flatten().tolist():
            chosen = sharp[:, dimension].nonzero().flatten()
            own = mean[chosen, dimension], -0.5 * precision[chosen, dimension]
            self.sharp.append((dimension, slice(None) if len(chosen) == len(mean) else chosen, *own))
        self.buffer = mean.new_empty(0)

    def log_ratio(self, latents: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
        """log q(z) - log q(z|x), `(rows,)`, at `latents` `(rows, latent_size)`. `log_prob` `(rows,)` is log q(z|x)
        of the posterior from which each latent was drawn."""
        # One of the terms belongs to that posterior and is 1. So the sum does not vanish, and no maximum is needed.
        sums = self._exponents(latents, log_prob).clamp_(min=LOWEST_EXPONENT).exp_().sum(1)
        logarithm = sums.log()
        beyond = sums.isinf()
        if beyond.any():
            logarithm[beyond] = self._exponents(latents[beyond], log_prob[beyond]).logsumexp(1)
        return logarithm - math.log(self.coefficients.shape[1])

    def _exponents(self, latents: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([latents.square(), latents, torch.ones_like(latents[:, :1]), log_prob[:, None]], 1)
        if self.buffer.shape[0] != len(rows):
            self.buffer = rows.new_empty(len(rows), self.coefficients.shape[1])
        exponents = torch.mm(rows, self.coefficients, out=self.buffer)
        for dimension, chosen, mean, weight in self.sharp:
            offset = latents[:, dimension, None] - mean
            if isinstance(chosen, slice):
                exponents.addcmul_(offset.square_(), weight)
            else:
                exponents.index_add_(1, chosen, offset.square_().mul_(weight))
        return exponents
