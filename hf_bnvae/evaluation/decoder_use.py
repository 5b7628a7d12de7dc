# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a decoder makes of the latent: the information that it takes from it, and what a wrong latent costs it.

KL, mutual information, active units and moments are functions of the posterior. A decoder that ignores the latent
leaves them all as they are. The figures of this module ask the decoder.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..model.gaussian_bnvae import DiagonalGaussian, in_float64, like, normal_log_density
from ..model.modeling_bnvae import BNVAEOutput
from ..model.prior_bnvae import Prior, StandardPrior
from .importance import passes

# The distributions that the draws for one sentence come from, by their exponents, and their shares of the draws. The
# density of each is proportional to posterior^exponent prior^(1 - exponent). So 1 is the posterior, which comes first,
# and 0 the prior.
SHARES = {1.0: 0.2, 0.6: 0.25, 0.3: 0.2, 0.1: 0.15, 0.0: 0.2}
# With fewer draws a distribution has less than two, and no error can be estimated.
LEAST_DRAWS = 10


@dataclass(frozen=True)
class LikelihoodEstimate:
    """
    log p(x) of sentences under one prior, and how much of it comes through the latent. All in nats, `(sentences,)`,
    float64.

    Args:
        iw_nll (`torch.Tensor`): -log p(x), an upper bound in expectation.
        reconstruction_nll (`torch.Tensor`): -E_q[log p(x|z)], over the same draws of the posterior.
        decoder_information (`torch.Tensor`): E_q[log p(x|z)] - log p(x), with the bias of the logarithm removed.
        variance (`torch.Tensor`): The variance of `decoder_information` over the draws. The bias that is left comes on
            top. It can be larger where few draws have most of the weight: in many dimensions, and at high rates.
        fitted ([`LikelihoodEstimate`], *optional*): The same under a fitted prior, from the same draws.
    """

    iw_nll: torch.Tensor
    reconstruction_nll: torch.Tensor
    decoder_information: torch.Tensor
    variance: torch.Tensor
    fitted: "LikelihoodEstimate | None" = None


@torch.no_grad()
def batch_latent_gain(model: nn.Module, outputs: BNVAEOutput, labels: torch.LongTensor, **others: Any) -> torch.Tensor:
    """
    What each sentence of a batch loses with the latent z' of the next sentence: log p(x|z) - log p(x|z') in nats.
    After the last sentence comes the first one. This takes one pass of the decoder. The loss is exactly 0 if the
    decoder ignores the latent.

    Args:
        model (`nn.Module`): A [`BNVAEModel`] in evaluation mode, or one that is wrapped for distributed training.
        outputs ([`BNVAEOutput`]): What the model made of the batch.
        labels (`torch.LongTensor` of shape `(batch, target_length)`): The batch's labels.
        others: What else the model got for the decoder, such as `condition_ids`.

    Returns:
        `torch.Tensor` of shape `(batch,)`: NaN where the next sentence is the same one: a copy, or in a batch of one.
    """
    # Also for one sentence, since the processes of a distributed training must make the same passes.
    swapped = model(latents=outputs.latents.roll(1, 0), labels=labels, return_dict=True, **others)
    is_same = labels.eq(labels.roll(1, 0)).all(1)
    return (swapped.reconstruction_nll - outputs.reconstruction_nll).masked_fill(is_same, math.nan)


def num_draws(num_samples: int) -> list[int]:
    """How many of `num_samples` draws come from each distribution of `SHARES`.

    Raises:
        ValueError: for fewer than `LEAST_DRAWS`.
    """
    if num_samples < LEAST_DRAWS:
        raise ValueError(f"num_samples must be at least {LEAST_DRAWS}, got {num_samples}.")
    *others, _ = (round(share * num_samples) for share in SHARES.values())
    return [*others, num_samples - sum(others)]


@torch.no_grad()
def estimate_likelihood(
    nll: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    posterior: DiagonalGaussian,
    num_samples: int = 100,
    rows_per_pass: int | Callable[[int], int] = 512,
    noise: Callable[[torch.Tensor], torch.Tensor] | None = None,
    generator: torch.Generator | None = None,
    fitted_prior: Prior | None = None,
) -> LikelihoodEstimate:
    """
    log p(x) and the decoder information of each sentence under the prior N(0, I), and also under a fitted prior.

    The decoder information is

        D(x) = E_q[log p(x|z)] - log p(x) = KL(q(z|x) || p(z)) - KL(q(z|x) || p(z|x))

    It is at most the KL, 0 for a decoder that ignores the latent, and negative for a decoder that the latent misleads.

    log p(x) is estimated with draws z_k from a mixture m(z) of the posterior, the prior, and three distributions
    between them (`SHARES`):

        log p(x) = log 1/K sum_k p(x|z_k) p(z_k) / m(z_k)

    The number of draws from each one is fixed (Veach & Guibas, SIGGRAPH 1995). With draws from the posterior alone
    (Burda et al., ICLR 2016) log p(x) is too low where the true posterior is wider, and a decoder that ignores the
    latent then seems to use most of the KL. Half of the prior's draws come from a fitted prior, if there is one. The
    same draws serve both priors.

    Args:
        nll, posterior, num_samples, rows_per_pass, noise, generator: As in
            [`~evaluation.importance.importance_weighted_nll`]. `num_samples` is the number of all draws.
        fitted_prior ([`Prior`], *optional*): The fitted prior, on the posterior's device.

    Returns:
        [`LikelihoodEstimate`]: Under N(0, I); its field `fitted` has the estimate under the fitted prior. On the
        posterior's device.

    Raises:
        ValueError: if `num_samples` is below `LEAST_DRAWS`, or `rows_per_pass` below 1.
    """
    mean, logvar = in_float64(posterior.mean), in_float64(posterior.logvar)
    batch, latent_size = mean.shape
    proposals = _Proposals(mean, logvar, num_samples, fitted_prior)
    priors = [StandardPrior(latent_size), *([] if fitted_prior is None else [fitted_prior])]
    if noise is None:
        drawn = torch.randn(batch, num_samples, latent_size, generator=generator, dtype=torch.float64)
        noise = drawn.__getitem__
    log_likelihood = mean.new_empty(batch, num_samples)
    log_ratios = mean.new_empty(len(priors), batch, num_samples)  # log p(z) - log m(z) of each prior
    for sentences, parts in passes(batch, num_samples, rows_per_pass):
        drawn = noise(sentences).to(mean)
        for columns in parts:
            # `(draws, sentences, latent_size)`.
            latents = proposals.draws(sentences, columns, drawn[:, columns].transpose(0, 1))
            log_density = proposals.log_density(sentences, latents)
            for log_ratio, prior in zip(log_ratios, priors, strict=True):
                log_ratio[sentences, columns] = (prior.log_prob(latents) - log_density).T
            rows = sentences[:, None].expand(-1, len(latents)).flatten()
            values = -nll(like(latents.transpose(0, 1).flatten(0, 1), posterior.mean), rows)
            log_likelihood[sentences, columns] = in_float64(values).view(len(sentences), -1)
    standard, *fitted = (_estimate(log_likelihood, log_ratio, proposals.counts) for log_ratio in log_ratios)
    return replace(standard, fitted=fitted[0]) if fitted else standard


class _Proposals:
    """
    The mixture from which draws for each sentence come, with a fixed number of draws from each component.

    Args:
        mean, logvar (`torch.Tensor` of shape `(batch, latent_size)`): The posteriors, in float64.
        num_samples (`int`): The number of draws for each sentence.
        fitted_prior ([`Prior`], *optional*): The last component.
    """

    def __init__(self, mean: torch.Tensor, logvar: torch.Tensor, num_samples: int, fitted_prior: Prior | None) -> None:
        between = [_between(mean, logvar, exponent) for exponent in SHARES]
        # Of the components except a fitted prior, `(components, batch, latent_size)`.
        self.means, self.logvars = (torch.stack(values) for values in zip(*between, strict=True))
        self.counts = num_draws(num_samples)
        # An error needs two draws of each component.
        self.fitted_prior = fitted_prior if self.counts[-1] >= 4 else None
        if self.fitted_prior is not None:
            from_fitted = self.counts[-1] // 2
            self.counts = [*self.counts[:-1], self.counts[-1] - from_fitted, from_fitted]
        sizes = torch.tensor(self.counts)
        self.component = torch.arange(len(sizes)).repeat_interleave(sizes).to(mean.device)
        self.log_shares = (sizes.double() / num_samples).log().to(mean)[:, None, None]

    def draws(self, sentences: torch.Tensor, columns: slice, noise: torch.Tensor) -> torch.Tensor:
        """Draws number `columns` for the sentences, from standard normal noise. Both tensors are `(draws, sentences,
        latent_size)`."""
        component = self.component[columns]
        is_fitted = component.eq(len(self.means))
        own = component.masked_fill(is_fitted, 0)
        latents = self.means[own][:, sentences] + (0.5 * self.logvars[own][:, sentences]).exp() * noise
        if is_fitted.any():
            latents[is_fitted] = self.fitted_prior.unwhiten(noise[is_fitted])
        return latents

    def log_density(self, sentences: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Log density of the mixture at latents `(draws, sentences, latent_size)`: `(draws, sentences)`."""
        means, logvars = self.means[:, None, sentences], self.logvars[:, None, sentences]
        densities = normal_log_density((latents - means) * (-0.5 * logvars).exp(), logvars).sum(-1)
        if self.fitted_prior is not None:
            densities = torch.cat([densities, self.fitted_prior.log_prob(latents)[None]])
        return (densities + self.log_shares).logsumexp(0)


def _between(mean: torch.Tensor, logvar: torch.Tensor, exponent: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log variance of the Gaussian that is proportional to posterior^exponent prior^(1 - exponent)."""
    of_posterior, of_prior = (torch.tensor(share, dtype=mean.dtype).log() for share in (exponent, 1 - exponent))
    log_precision = torch.logaddexp(of_posterior - logvar, of_prior.to(logvar))
    return mean * torch.exp(of_posterior - logvar - log_precision), -log_precision


def _estimate(log_likelihood: torch.Tensor, log_ratio: torch.Tensor, counts: list[int]) -> LikelihoodEstimate:
    """From log p(x|z) and log p(z)/m(z) of the draws, each `(sentences, draws)`."""
    num_samples = sum(counts)
    log_weights = log_likelihood + log_ratio
    log_sum = log_weights.logsumexp(1, keepdim=True)
    relative = (log_weights - log_sum).exp()  # each draw's share of p(x)
    of_posterior = log_likelihood[:, : counts[0]]
    reconstruction = of_posterior.mean(1)
    log_marginal = log_sum.squeeze(1) - math.log(num_samples)
    # The variances of log p(x) and of the difference to first order, from the draws' spread within each component.
    marginal_variance = difference_variance = torch.zeros_like(log_marginal)
    for number, part in enumerate(relative.split(counts, 1)):
        influence = part if number else of_posterior / counts[0] - part
        marginal_variance = marginal_variance + part.var(1) * part.shape[1]
        difference_variance = difference_variance + influence.var(1) * part.shape[1]
    return LikelihoodEstimate(
        iw_nll=-log_marginal,
        reconstruction_nll=-reconstruction,
        # E[log p(x)] is too low by half the relative variance, to second order (Owen, 2013, section 2).
        decoder_information=reconstruction - log_marginal - 0.5 * marginal_variance,
        variance=difference_variance,
    )
