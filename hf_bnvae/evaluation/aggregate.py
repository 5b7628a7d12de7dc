# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Figures of a whole corpus, from the posteriors of its sentences. Pure functions of tensors."""

import torch

from ..posterior_bnvae import PosteriorHead, PromisedMoments

ACTIVE_UNIT_VARIANCE = 0.01

# What of the model's outputs the figures of a corpus are made of.
PER_SENTENCE = ("reconstruction_nll", "kl", "mean", "logvar")


def active_units(mean: torch.Tensor, threshold: float = ACTIVE_UNIT_VARIANCE) -> int:
    """
    The number of dimensions whose posterior mean varies over the data (Burda et al., ICLR 2016): Var[mu_j] >= 0.01.

    Args:
        mean (`torch.Tensor` of shape `(sentences, latent_size)`): Posterior means.
        threshold (`float`, *optional*, defaults to 0.01): Least variance, with the divisor N - 1.

    Raises:
        ValueError: for fewer than two sentences, over which nothing varies.
    """
    if len(mean) < 2:
        raise ValueError(f"Active units need the posterior means of at least two sentences, got {len(mean)}.")
    return int(mean.double().var(0).ge(threshold).sum())


def aggregate_moments(mean: torch.Tensor, logvar: torch.Tensor, promised: PromisedMoments) -> dict[str, float]:
    """
    First and second moments of the aggregated posterior, averaged over dimensions.

    Args:
        mean, logvar (`torch.Tensor` of shape `(sentences, latent_size)`): The posteriors.
        promised ([`PromisedMoments`]): What the head promises.

    Returns:
        `dict`: `aggregate_mean` (root mean square over dimensions of E[mu]), `aggregate_second_moment` (E[mu^2 +
        sigma^2], 1 where the aggregated posterior matches the prior), and, where the head promises them,
        `mean_moment_ratio` (E[(mu - shift)^2] over what it should be) and `variance_moment_ratio` (E[sigma^2] over
        what it should be): near 1 where evaluation sees what training normalised by.
    """
    mean, variance = mean.double(), logvar.double().exp()
    figures = {
        "aggregate_mean": mean.mean(0).square().mean().sqrt().item(),
        "aggregate_second_moment": (mean.square() + variance).mean().item(),
    }
    if promised.mean_square is not None:
        square = (mean - promised.shift.to(mean)).square().mean(0)
        figures["mean_moment_ratio"] = (square / promised.mean_square.to(mean)).mean().item()
    if promised.variance is not None:
        figures["variance_moment_ratio"] = (variance.mean(0) / promised.variance.to(mean)).mean().item()
    return figures


def corpus_figures(
    reconstruction_nll: torch.Tensor, kl: torch.Tensor, mean: torch.Tensor, logvar: torch.Tensor, head: PosteriorHead
) -> dict[str, float]:
    """
    The figures of a corpus that need no more than one pass of the model, all in nats per sentence.

    Args:
        reconstruction_nll (`torch.Tensor` of shape `(sentences,)`): -log p(x | z) of one sample each.
        kl (`torch.Tensor` of shape `(sentences, latent_size)`): KL from the prior.
        mean, logvar (`torch.Tensor` of shape `(sentences, latent_size)`): The posteriors.
        head ([`PosteriorHead`]): The posterior head, for its floor and what it promises.

    Returns:
        `dict`: `loss` (negative ELBO), `reconstruction_nll`, `kl`, `kl_floor` (at the current parameters), `elbo` (=
        -loss), `active_units` where there are two sentences or more, and [`aggregate_moments`].
    """
    reconstruction, divergence = reconstruction_nll.double().mean().item(), kl.double().sum(-1).mean().item()
    figures = {
        "loss": reconstruction + divergence,
        "reconstruction_nll": reconstruction,
        "kl": divergence,
        "kl_floor": head.kl_floor().item(),
        "elbo": -(reconstruction + divergence),
    }
    if len(mean) > 1:
        figures["active_units"] = active_units(mean)
    return figures | aggregate_moments(mean, logvar, head.promised_moments())


def training_figures(head: PosteriorHead, **tensors: torch.Tensor) -> dict[str, float]:
    """What a log line says of training batches: [`corpus_figures`] but for `loss` and `elbo`, which a training's own
    loss stands for."""
    figures = corpus_figures(**tensors, head=head)
    return {name: value for name, value in figures.items() if name not in ("loss", "elbo")}
