# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Figures of a whole corpus from the posteriors of its sentences: pure functions of tensors, and sums to which a
corpus is added batch by batch."""

from collections.abc import Sequence

import torch

from ..model.gaussian_bnvae import DiagonalGaussian, in_float64
from ..model.posterior_bnvae import PosteriorHead, PromisedMoments

ACTIVE_UNIT_VARIANCE = 0.01

# The outputs of the model from which the figures of a corpus are made.
PER_SENTENCE = ("reconstruction_nll", "kl", "mean", "logvar")


def posteriors_from_rows(mean: Sequence[Sequence[float]], logvar: Sequence[Sequence[float]]) -> DiagonalGaussian:
    """
    Posteriors from numbers, in float64.

    Args:
        mean, logvar (sequence of sequences of `float`): For each sentence one number for each dimension.

    Raises:
        ValueError: if sentences have different numbers of dimensions, or if `mean` and `logvar` have different shapes.
    """
    sizes = [sorted({len(row) for row in rows}) for rows in (mean, logvar)]
    if len(mean) != len(logvar) or sizes[0] != sizes[1] or any(len(size) > 1 for size in sizes):
        raise ValueError(
            "mean and logvar must have the shape (sentences, latent_size) both, got "
            f"{len(mean)} and {len(logvar)} sentences with {sizes[0]} and {sizes[1]} numbers each."
        )
    return DiagonalGaussian(torch.tensor(mean, dtype=torch.float64), torch.tensor(logvar, dtype=torch.float64))


class RunningMoments:
    """
    Mean and variance of values that come in batches, in float64.

    No large sums are subtracted: the mean and the squared deviations of each batch are merged with the mean and the
    deviations so far (Chan, Golub & LeVeque 1979). The object keeps as much memory as one value has.

    Attributes:
        count (`int`): Number of values so far.
        mean (`torch.Tensor`): Their mean, of a value's shape, on the CPU; 0 before the first one.
        deviations (`torch.Tensor`): The sum of their squared deviations from the mean, of a value's shape, on the CPU.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.deviations = torch.zeros((), dtype=torch.float64)

    def update(self, values: torch.Tensor) -> "RunningMoments":
        """Add `values` of shape `(number, ...)`, and return this one."""
        values = values.detach().cpu().double()
        if len(values) == 0:
            return self
        batch = RunningMoments()
        batch.count, mean = len(values), values.mean(0)
        batch.mean, batch.deviations = mean, (values - mean).square().sum(0)
        return self.merge(batch)

    def merge(self, other: "RunningMoments") -> "RunningMoments":
        """Add the values of another one, and return this one."""
        count = self.count + other.count
        if other.count:
            offset = other.mean - self.mean
            self.mean = self.mean + offset * (other.count / count)
            self.deviations = self.deviations + other.deviations + offset.square() * (self.count * other.count / count)
        self.count = count
        return self

    @property
    def variance(self) -> torch.Tensor:
        """The variance, with the divisor N - 1; NaN for fewer than two values."""
        return self.deviations / (self.count - 1) if self.count > 1 else torch.full_like(self.deviations, torch.nan)

    @property
    def mean_square(self) -> torch.Tensor:
        """The mean of the squares."""
        return self.mean_square_around(0.0)

    def mean_square_around(self, center: torch.Tensor | float) -> torch.Tensor:
        """The mean of the squared distances from `center`."""
        return self.deviations / self.count + (self.mean - center).square()

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean of scalar values; `None` for fewer than two."""
        return (self.variance / self.count).sqrt().item() if self.count > 1 else None


class PosteriorMoments:
    """
    The moments of the aggregated posterior, from posteriors that come in batches.

    Attributes:
        mean, variance ([`RunningMoments`]): Of the posteriors' means and of their variances, each `(latent_size,)`.
    """

    def __init__(self) -> None:
        self.mean, self.variance = RunningMoments(), RunningMoments()

    def update(self, mean: torch.Tensor, logvar: torch.Tensor) -> "PosteriorMoments":
        """Add posteriors, each tensor `(sentences, latent_size)`, and return this one."""
        self.mean.update(mean)
        self.variance.update(logvar.detach().cpu().double().exp())
        return self

    def merge(self, other: "PosteriorMoments") -> "PosteriorMoments":
        """Add the values of another one, and return this one."""
        self.mean.merge(other.mean)
        self.variance.merge(other.variance)
        return self

    def active_units(self, threshold: float = ACTIVE_UNIT_VARIANCE) -> int:
        """As [`active_units`]."""
        if self.mean.count < 2:
            raise ValueError(
                f"Active units need the posterior means of at least two sentences, got {self.mean.count}."
            )
        return int(self.mean.variance.ge(threshold).sum())

    def figures(self, promised: PromisedMoments) -> dict[str, float]:
        """As [`aggregate_moments`]."""
        figures = {
            "aggregate_mean": self.mean.mean.square().mean().sqrt().item(),
            "aggregate_second_moment": (self.mean.mean_square + self.variance.mean).mean().item(),
        }
        if promised.mean_square is not None:
            square = self.mean.mean_square_around(promised.shift.cpu().double())
            figures["mean_moment_ratio"] = (square / promised.mean_square.cpu().double()).mean().item()
        if promised.variance is not None:
            figures["variance_moment_ratio"] = (self.variance.mean / promised.variance.cpu().double()).mean().item()
        return figures


class CorpusSums:
    """
    The figures of a corpus that one pass of the model gives, from sentences that come in batches. Whatever the
    batches, the figures equal those of [`corpus_figures`] on the whole corpus, except for rounding.
    """

    def __init__(self) -> None:
        self.reconstruction_nll, self.kl = RunningMoments(), RunningMoments()
        self.posterior = PosteriorMoments()

    @property
    def count(self) -> int:
        """Number of sentences so far."""
        return self.reconstruction_nll.count

    def update(
        self, reconstruction_nll: torch.Tensor, kl: torch.Tensor, mean: torch.Tensor, logvar: torch.Tensor
    ) -> "CorpusSums":
        """Add sentences, with tensors as in [`corpus_figures`], and return this one."""
        self.reconstruction_nll.update(reconstruction_nll)
        self.kl.update(kl.detach().cpu().double().sum(-1))
        self.posterior.update(mean, logvar)
        return self

    def merge(self, other: "CorpusSums") -> "CorpusSums":
        """Add the values of another one, and return this one."""
        self.reconstruction_nll.merge(other.reconstruction_nll)
        self.kl.merge(other.kl)
        self.posterior.merge(other.posterior)
        return self

    def figures(self, head: PosteriorHead) -> dict[str, float]:
        """As [`corpus_figures`]."""
        reconstruction, divergence = self.reconstruction_nll.mean.item(), self.kl.mean.item()
        figures = {
            "loss": reconstruction + divergence,
            "reconstruction_nll": reconstruction,
            "kl": divergence,
            "kl_floor": head.kl_floor().item(),
            "elbo": -(reconstruction + divergence),
        }
        if self.count > 1:
            figures["active_units"] = self.posterior.active_units()
        return figures | self.posterior.figures(head.promised_moments())


def active_units(mean: torch.Tensor, threshold: float = ACTIVE_UNIT_VARIANCE) -> int:
    """
    The number of dimensions whose posterior mean varies over the data: Var[mu_j] >= 0.01 (Burda et al., ICLR 2016).

    Args:
        mean (`torch.Tensor` of shape `(sentences, latent_size)`): Posterior means.
        threshold (`float`, *optional*, defaults to 0.01): The least variance, with the divisor N - 1.

    Raises:
        ValueError: for fewer than two sentences.
    """
    return PosteriorMoments().update(mean, torch.zeros_like(mean)).active_units(threshold)


def aggregate_moments(
    mean: torch.Tensor, logvar: torch.Tensor, promised: PromisedMoments | None = None
) -> dict[str, float]:
    """
    First and second moments of the aggregated posterior, averaged over dimensions.

    Args:
        mean, logvar (`torch.Tensor` of shape `(sentences, latent_size)`): The posteriors of one sentence or more.
        promised ([`PromisedMoments`], *optional*): The moments that the head promises.

    Returns:
        `dict`: Two figures:

        - `aggregate_mean`: root mean square over dimensions of E[mu].
        - `aggregate_second_moment`: E[mu^2 + sigma^2]. It is 1 if the aggregated posterior matches the prior.

        and two more if the head promises these moments. They are near 1 if evaluation sees what training normalised
        by:

        - `mean_moment_ratio`: E[(mu - shift)^2], divided by the promised value.
        - `variance_moment_ratio`: E[sigma^2], divided by the promised value.

    Raises:
        ValueError: for no sentence.
    """
    if len(mean) == 0:
        raise ValueError("Moments of the aggregated posterior need the posterior of one sentence at least, got none.")
    return PosteriorMoments().update(mean, logvar).figures(promised or PromisedMoments())


def corpus_figures(
    reconstruction_nll: torch.Tensor, kl: torch.Tensor, mean: torch.Tensor, logvar: torch.Tensor, head: PosteriorHead
) -> dict[str, float]:
    """
    The figures of a corpus that one pass of the model gives, all in nats per sentence.

    Args:
        reconstruction_nll (`torch.Tensor` of shape `(sentences,)`): -log p(x | z) of one sample each.
        kl (`torch.Tensor` of shape `(sentences, latent_size)`): KL from the prior.
        mean, logvar (`torch.Tensor` of shape `(sentences, latent_size)`): The posteriors.
        head ([`PosteriorHead`]): The posterior head, which gives the KL floor and the promised moments.

    Returns:
        `dict`: `loss` (negative ELBO), `reconstruction_nll`, `kl`, `kl_floor` (at the current parameters), `elbo` (=
        -loss), `active_units` if there are two sentences or more, and [`aggregate_moments`].
    """
    return CorpusSums().update(reconstruction_nll, kl, mean, logvar).figures(head)


def evaluation_figures(head: PosteriorHead, latent_gain: torch.Tensor, **tensors: torch.Tensor) -> dict[str, float]:
    """The figures of an evaluation during training: [`corpus_figures`], and the mean of the sentences' latent gain
    `(sentences,)`, in which NaN stands for a sentence that had no other one in its batch. If none had, there is no
    gain."""
    figures = corpus_figures(**tensors, head=head)
    if not latent_gain.isnan().all():
        figures["latent_gain"] = in_float64(latent_gain).nanmean().item()
    return figures


def training_figures(head: PosteriorHead, **tensors: torch.Tensor) -> dict[str, float]:
    """The figures of training batches for a log line: [`corpus_figures`] without `loss` and `elbo`, because a training
    logs its own loss."""
    figures = corpus_figures(**tensors, head=head)
    return {name: value for name, value in figures.items() if name not in ("loss", "elbo")}
