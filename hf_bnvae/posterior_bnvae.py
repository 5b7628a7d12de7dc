# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Posterior heads: from a batch of feature vectors to a diagonal Gaussian whose KL has a floor.

The heads need no language model. Any VAE, of images or of tables, can put one behind its encoder:

```python
>>> import torch
>>> from hf_bnvae import BatchNormRMSPosterior

>>> head = BatchNormRMSPosterior(input_size=64, latent_size=8, rate=6)
>>> posterior = head(torch.randn(128, 64))
>>> latents = posterior.sample()  # (128, 8)
>>> bool(posterior.kl().sum(-1).mean() >= head.kl_floor() - 1e-4)
True
```

All head arithmetic is in float32 whatever autocast says, and in float64 where the head or its features are float64.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import nn
from torch.nn import functional as F
from transformers.utils import logging

logger = logging.get_logger(__name__)

EPSILON = 1e-8
MOMENTUM = 0.1
SMALL_BATCH = 8


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
            generator (`torch.Generator`, *optional*): Where the noise is drawn from if none is given.
        """
        if noise is None:
            noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, generator=generator)
        elif noise.shape != self.mean.shape:
            raise ValueError(
                f"noise must have the posterior's shape {tuple(self.mean.shape)}, got {tuple(noise.shape)}."
            )
        return self.mean + self.std * noise.to(self.mean)

    def mode(self) -> torch.Tensor:
        """The most likely latents, which are the means."""
        return self.mean

    def kl(self) -> torch.Tensor:
        """KL divergence from the standard normal prior in nats, per sentence and dimension: `(batch, latent_size)`."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - self.logvar - 1.0)

    def log_prob(self, latents: torch.Tensor) -> torch.Tensor:
        """Log density of `latents` (`(..., batch, latent_size)`) in nats, summed over dimensions: `(..., batch)`."""
        standardised = (latents - self.mean) * torch.exp(-0.5 * self.logvar)
        return _normal_log_density(standardised, self.logvar).sum(-1)


def prior_log_prob(latents: torch.Tensor) -> torch.Tensor:
    """Log density of `latents` (`(..., latent_size)`) under the standard normal prior in nats: `(...)`."""
    return _normal_log_density(latents, torch.zeros_like(latents)).sum(-1)


def _normal_log_density(standardised: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    return -0.5 * (standardised.square() + logvar + math.log(2 * math.pi))


class PromisedMoments(NamedTuple):
    """What a head promises of the aggregated posterior, each `(latent_size,)` or `None` where it promises nothing.

    `shift` is E[mu], `mean_square` is E[(mu - shift)^2], `variance` is E[sigma^2], expectations over the data.
    """

    shift: torch.Tensor | None = None
    mean_square: torch.Tensor | None = None
    variance: torch.Tensor | None = None


# --------------------------------------------------------------------------------------------------------------------
# Batch statistics
# --------------------------------------------------------------------------------------------------------------------


def num_processes() -> int:
    """How many processes share a posterior batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def posterior_batch_mean(values: torch.Tensor, across_processes: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The mean of `values` over the sentences of a posterior batch: in a distributed training those of all processes,
    however many each of them has. Differentiable, on any backend: where gradients are then averaged over the
    processes, as DDP and FSDP do, they are those of one process that has all the sentences.

    Args:
        values (`torch.Tensor` of shape `(batch, ...)`): One entry for each sentence of this process.
        across_processes (`bool`, *optional*, defaults to `True`): Whether the other processes' sentences belong to
            the batch. All of them must then make this call.

    Returns:
        `tuple`: the mean, of shape `(...)` and the same on every process, and the number of sentences, 0-dimensional.
    """
    sums = torch.cat([values.sum(0).flatten(), values.new_full((1,), len(values))])
    if across_processes and num_processes() > 1:
        sums = funcol.all_reduce(sums, "sum", dist.group.WORLD)
    count = sums[-1]
    return sums[:-1].view(values.shape[1:]) / count, count.detach()


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter that FSDP has sharded, gathered from all processes; outside of a forward pass it is in parts."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter


class BatchStatistics(nn.Module):
    """Base of the two batch normalisations: running statistics and the exact ones of a whole data set.

    In training the statistics are those of the batch, over all processes where there are several, and running
    averages of them are kept (momentum 0.1, as torch's `BatchNorm`); in evaluation the running ones are used. Inside
    [`population_statistics`] the forward pass accumulates sums instead, in float64, and on leaving they become the
    running statistics.

    Args:
        size (`int`): Number of dimensions.
    """

    num_batches_tracked: torch.Tensor
    num_sums: int

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self._population: list[torch.Tensor] | None = None

    @property
    def is_estimated(self) -> bool:
        """Whether the running statistics have ever been estimated."""
        return bool(self.num_batches_tracked > 0)

    def start_population(self) -> None:
        self._population = []

    def finish_population(self) -> int:
        """Replace the running statistics by those accumulated since `start_population`, if that was over two sentences
        or more, and return their number."""
        sums, self._population = self._population, None
        nothing = torch.zeros(self.num_sums, self.size, dtype=torch.float64, device=self.num_batches_tracked.device)
        total = torch.stack([nothing, *sums]).sum(0)
        if num_processes() > 1:
            total = funcol.all_reduce(total, "sum", dist.group.WORLD)
        count = int(total[0, 0])
        if count > 1:
            self._set_population(total)
            self.num_batches_tracked.fill_(max(len(sums), 1))
        return count

    def _set_population(self, sums: torch.Tensor) -> None:
        """Running statistics from the sums over a population, `(num_sums, size)`, the first being counts."""
        raise NotImplementedError

    def _batch_mean(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of `values` over the posterior batch, `(size,)`, and the number of its sentences."""
        # While a population is accumulated, processes may see different numbers of batches.
        return posterior_batch_mean(values, across_processes=self._population is None)

    def _blend(self, running: torch.Tensor, batch_value: torch.Tensor) -> None:
        running.lerp_(batch_value.detach().to(running.dtype), MOMENTUM)


class BatchStandardization(BatchStatistics):
    """Batch normalisation without affine parameters: zero mean and unit variance in each dimension.

    Normalises by the biased variance of the batch and tracks the unbiased one, as torch's `BatchNorm` does, with an
    epsilon of 1e-8: with a batch variance v the result has variance v / (v + eps).

    Args:
        size (`int`): Number of dimensions.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    num_sums = 3

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """`(batch, size)` to `(batch, size)`."""
        if not self.training:
            mean, variance = self.running_mean.to(values.dtype), self.running_var.to(values.dtype)
            return (values - mean) * torch.rsqrt(variance + EPSILON)
        mean, count = self._batch_mean(values)
        centred = values - mean
        variance, _ = self._batch_mean(centred.square())
        if self._population is not None:
            exact = values.detach().double()
            counts = torch.full_like(exact[0], len(exact))
            self._population.append(torch.stack([counts, exact.sum(0), exact.square().sum(0)]))
        else:
            self._blend(self.running_mean, mean)
            self._blend(self.running_var, variance * (count / (count - 1)))
            self.num_batches_tracked += 1
        return centred * torch.rsqrt(variance + EPSILON)

    def _set_population(self, sums: torch.Tensor) -> None:
        count, total, squares = sums
        mean = total / count
        self.running_mean.copy_(mean)
        self.running_var.copy_((squares / count - mean.square()).clamp_min(0))


class BatchRootMeanSquare(BatchStatistics):
    """Division by the root mean square over the batch, in log space, so without an epsilon.

    Args:
        size (`int`): Number of dimensions.
    """

    running_mean_square: torch.Tensor

    num_sums = 2

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("running_mean_square", torch.ones(size))

    def forward(self, log_values: torch.Tensor) -> torch.Tensor:
        """Logarithms of positive values, `(batch, size)`, to those of the values scaled to unit mean square."""
        if not self.training:
            return log_values - 0.5 * self.running_mean_square.to(log_values.dtype).log()
        # The log of a mean of exponentials, around the greatest value of the batch.
        peak = 2 * log_values.detach().amax(0)
        if self._population is None and num_processes() > 1:
            peak = funcol.all_reduce(peak, "max", dist.group.WORLD)
        mean_square, _ = self._batch_mean(torch.exp(2 * log_values - peak))
        log_mean_square = peak + mean_square.log()
        if self._population is not None:
            squares = torch.exp(2 * log_values.detach().double())
            self._population.append(torch.stack([torch.full_like(squares[0], len(squares)), squares.sum(0)]))
        else:
            self._blend(self.running_mean_square, log_mean_square.exp())
            self.num_batches_tracked += 1
        return log_values - 0.5 * log_mean_square

    def _set_population(self, sums: torch.Tensor) -> None:
        count, squares = sums
        self.running_mean_square.copy_(squares / count)


@contextmanager
def population_statistics(head: nn.Module) -> Iterator[None]:
    """Inside this context, training-mode passes through `head` accumulate the statistics of all that they see; on
    leaving, these exact population moments replace the running statistics. After an error the old ones stay, and so do
    those of a head that saw nothing beside another: PEFT keeps the head that it has a trained copy of.

    In a distributed training every process enters it, each with its share of the data; the shares may be uneven.

    Args:
        head (`nn.Module`): A posterior head, or any module that contains one.

    Raises:
        ValueError: if fewer than two sentences were seen.
    """
    statistics = [module for module in head.modules() if isinstance(module, BatchStatistics)]
    for module in statistics:
        module.start_population()
    try:
        yield
        counts = [module.finish_population() for module in statistics]
        if counts and max(counts) < 2:
            raise ValueError(
                "Population statistics need at least two sentences, and "
                f"{max(counts) or 'none'} was seen while they were being estimated."
            )
    finally:
        for module in statistics:
            module._population = None


# --------------------------------------------------------------------------------------------------------------------
# Scales: how much of the prior's unit second moment goes to the means
# --------------------------------------------------------------------------------------------------------------------


class TauScale(nn.Module):
    """Su's shared scale: gamma_sigma^2 = (1 - tau) sigmoid(-theta), gamma_mu^2 = 1 - gamma_sigma^2.

    (kexue.fm/archives/7381.) theta is trainable, one per dimension, and starts at 0.

    Args:
        size (`int`): Number of thetas.
        tau (`float`): In (0, 1).
    """

    def __init__(self, size: int, tau: float) -> None:
        super().__init__()
        if not 0 < tau < 1:
            raise ValueError(f"tau must lie strictly between 0 and 1, got {tau}.")
        self.log_remainder = math.log1p(-tau)
        self.theta = nn.Parameter(torch.zeros(size))

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """log gamma_sigma^2, `(size,)`."""
        return self.log_remainder + F.logsigmoid(-_whole(self.theta).to(dtype))


class RateScale(nn.Module):
    """A rate of R nats per sentence, shared out among the dimensions: R_j = R softmax(a)_j, gamma_sigma,j^2 =
    exp(-2 R_j), gamma_mu,j^2 = 1 - exp(-2 R_j).

    Su's constraint gamma_mu^2 + gamma_sigma^2 = 1 holds, and the floor is R whatever is learnt. The allocation a is
    trainable and starts at 0, an equal share for each dimension.

    Args:
        size (`int`): Number of dimensions.
        rate (`float`): R > 0, in nats per sentence.
    """

    def __init__(self, size: int, rate: float) -> None:
        super().__init__()
        _require_positive_rate(rate)
        self.rate = float(rate)
        self.allocation = nn.Parameter(torch.zeros(size))

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """log gamma_sigma^2, `(size,)`."""
        # A share that underflows would give gamma_mu = sqrt(0), whose gradient is infinite.
        shares = torch.softmax(_whole(self.allocation).to(dtype), 0).clamp_min(torch.finfo(dtype).tiny)
        return -2 * self.rate * shares


class ConstantScale(nn.Module):
    """A fixed gamma_sigma^2 = exp(-2 r), r nats for each dimension.

    Args:
        rate_per_dimension (`float`): r > 0, in nats.
    """

    def __init__(self, rate_per_dimension: float) -> None:
        super().__init__()
        _require_positive_rate(rate_per_dimension)
        self.rate_per_dimension = float(rate_per_dimension)

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """log gamma_sigma^2, `(1,)`."""
        return torch.tensor([-2 * self.rate_per_dimension], dtype=dtype)


def _require_positive_rate(rate: float) -> None:
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate must be a positive number of nats per sentence, got {rate}.")


# --------------------------------------------------------------------------------------------------------------------
# Heads
# --------------------------------------------------------------------------------------------------------------------


class PosteriorHead(nn.Module):
    """Base of all posterior heads: two linear maps, from features to the two pre-activations of each dimension.

    Class attributes:
        uses_batch (`bool`): Whether the statistics of the batch enter the result. Such a head refuses a training
            batch of one sentence and warns below eight.
        scale_arguments (`tuple[str, ...]`): The keyword arguments that set its scale: "tau", "gamma", "rate".

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, d.
        mean_bias, scale_bias (`bool`): Whether the maps have a bias; behind a centring batch norm it has no effect.
    """

    uses_batch = True
    scale_arguments: tuple[str, ...] = ("tau", "rate")

    def __init__(self, input_size: int, latent_size: int, mean_bias: bool, scale_bias: bool) -> None:
        super().__init__()
        if latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, got {latent_size}.")
        self.latent_size = latent_size
        self.mean_projection = nn.Linear(input_size, latent_size, bias=mean_bias)
        self.scale_projection = nn.Linear(input_size, latent_size, bias=scale_bias)

    def forward(self, features: torch.Tensor) -> DiagonalGaussian:
        """
        Args:
            features (`torch.Tensor` of shape `(batch, input_size)`): One vector for each sentence of the posterior
                batch, that is of all the sentences that share statistics.

        Returns:
            [`DiagonalGaussian`]: The posteriors, in float32, or float64 where features or weights are.

        Raises:
            ValueError: in training with batch statistics, for a batch of one sentence or under `nn.DataParallel`.
        """
        if self.uses_batch:
            self._check_batch(len(features))
        dtype = torch.promote_types(self.mean_projection.weight.dtype, features.dtype)
        dtype = torch.float64 if dtype == torch.float64 else torch.float32
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype)
            mean = _linear(self.mean_projection, features)
            scale = _linear(self.scale_projection, features)
            return self.normalise(mean, scale)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        """From the two pre-activations, each `(batch, latent_size)`, to the posteriors."""
        raise NotImplementedError

    def kl_floor(self) -> torch.Tensor:
        """The least mean KL of a training batch at the current parameters, in nats per sentence (0-dimensional)."""
        raise NotImplementedError

    def promised_moments(self) -> PromisedMoments:
        """The moments of the aggregated posterior that this head promises at the current parameters."""
        raise NotImplementedError

    def set_parameters(self) -> list[nn.Parameter]:
        """Scale and shift parameters: they take no weight decay, which would pull them to an arbitrary value."""
        projections = {id(p) for m in (self.mean_projection, self.scale_projection) for p in m.parameters()}
        return [p for p in self.parameters() if id(p) not in projections]

    @property
    def is_estimated(self) -> bool:
        """Whether evaluation has statistics to use: always so without batch statistics."""
        return all(m.is_estimated for m in self.modules() if isinstance(m, BatchStatistics))

    def _check_batch(self, batch_size: int) -> None:
        if getattr(self, "_is_replica", False):
            raise ValueError(
                "This model runs under nn.DataParallel, which splits the batch among the GPUs of one process, so that "
                "each would normalise by the statistics of its part. Start one process per GPU instead: "
                "torchrun --nproc_per_node=<GPUs> <script>, or let one GPU be seen (CUDA_VISIBLE_DEVICES=0)."
            )
        if self.training:
            accumulating = any(m._population is not None for m in self.modules() if isinstance(m, BatchStatistics))
            batch_size *= num_processes()
            if batch_size == 1 and not accumulating:
                raise ValueError(
                    "A batch-normalised posterior needs at least two sentences in a training batch, got one: its "
                    "variance would be 0. Use a larger batch (32 or more; chunk_size=1 with checkpoint_chunks=True "
                    "holds one sentence of it in memory at once), drop the last incomplete batch of an epoch, or take "
                    "posterior='ln' or 'gaussian', which need no batch."
                )
            if batch_size < SMALL_BATCH and not accumulating:
                logger.warning_once(
                    f"A training batch has only {batch_size} sentences. The posterior is normalised by the statistics "
                    f"of its batch, which say little below {SMALL_BATCH}; at two, every mean is +gamma or -gamma and "
                    "has no gradient. Use a batch of 32 or more."
                )
        elif not self.is_estimated:
            logger.warning_once(
                "The posterior's running statistics were never estimated (no training step was made with this head), "
                "so in evaluation its means and variances are arbitrary. Train the model, or call "
                "hf_bnvae.recalibrate_posterior(model, batches) first."
            )

    def extra_repr(self) -> str:
        return f"latent_size={self.latent_size}"


class _ScaledPosterior(PosteriorHead):
    """A head whose two second moments add to 1 in each dimension: gamma_mu^2 + gamma_sigma^2 = 1."""

    scale: nn.Module

    def kl_floor(self) -> torch.Tensor:
        """-1/2 sum_j log gamma_sigma,j^2: by Jensen E[-log sigma^2] >= -log E[sigma^2], and the second moments add to
        1. Sharper than Su's own bound, 1/2 sum_j gamma_mu,j^2."""
        return -0.5 * self._log_gamma_sigma_squared().sum()

    def promised_moments(self) -> PromisedMoments:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared().detach()
        gamma_mu_squared = -torch.expm1(log_gamma_sigma_squared)
        return PromisedMoments(torch.zeros_like(gamma_mu_squared), gamma_mu_squared, log_gamma_sigma_squared.exp())

    def _log_gamma_sigma_squared(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        weight = self.mean_projection.weight
        if dtype is None:
            dtype = weight.dtype if weight.dtype == torch.float64 else torch.float32
        return self.scale(dtype).to(weight.device).expand(self.latent_size)


def _gamma_mu(log_gamma_sigma_squared: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(-torch.expm1(log_gamma_sigma_squared))


class BatchNormPosterior(_ScaledPosterior):
    """`bn`: mean and *signed* standard deviation are batch-normalised, then scaled by gamma_mu and gamma_sigma.

    Su 2020 (kexue.fm/archives/7381; arXiv 2004.12585v2). Over a training batch E[mu] = 0 and E[mu^2 + sigma^2] = 1 in
    each dimension, up to BN's epsilon.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau (`float`, *optional*, defaults to 0.5): Least second moment of the means, in (0, 1).
        rate (`float`, *optional*): Instead of tau, the floor in nats per sentence.
    """

    def __init__(self, input_size: int, latent_size: int, tau: float = 0.5, rate: float | None = None) -> None:
        super().__init__(input_size, latent_size, mean_bias=False, scale_bias=False)
        self.scale = TauScale(latent_size, tau) if rate is None else RateScale(latent_size, rate)
        self.mean_norm = BatchStandardization(latent_size)
        self.scale_norm = BatchStandardization(latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared(mean.dtype)
        # Where the standard deviation crosses 0 its logarithm needs a guard. The least normal number leaves the
        # second moment, and with it the floor, as they are; an absolute 1e-8 would not.
        tiny = torch.finfo(mean.dtype).tiny
        log_square = self.scale_norm(scale).square().clamp_min(tiny).log()
        return DiagonalGaussian(
            self.mean_norm(mean) * _gamma_mu(log_gamma_sigma_squared), log_gamma_sigma_squared + log_square
        )


class BatchNormRMSPosterior(_ScaledPosterior):
    """`bn_rms`: the mean as in `bn`; the standard deviation softplus(.) > 0 is scaled by its batch root mean square.

    Ours. Su's condition is on second moments, so the standard deviation need not be centred: scaled without centring
    it stays positive, meets E[mu^2 + sigma^2] = 1 exactly, and starts near the floor. The mean KL over a batch is
    -1/2 sum_j E[log sigma_j^2].

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau (`float`, *optional*, defaults to 0.5): Least second moment of the means, in (0, 1).
        rate (`float`, *optional*): Instead of tau, the floor in nats per sentence.
    """

    def __init__(self, input_size: int, latent_size: int, tau: float = 0.5, rate: float | None = None) -> None:
        super().__init__(input_size, latent_size, mean_bias=False, scale_bias=True)
        self.scale = TauScale(latent_size, tau) if rate is None else RateScale(latent_size, rate)
        self.mean_norm = BatchStandardization(latent_size)
        self.scale_norm = BatchRootMeanSquare(latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared(mean.dtype)
        logvar = log_gamma_sigma_squared + 2 * self.scale_norm(_log_softplus(scale))
        return DiagonalGaussian(self.mean_norm(mean) * _gamma_mu(log_gamma_sigma_squared), logvar)


def _log_softplus(values: torch.Tensor) -> torch.Tensor:
    """log(softplus(x)), by its series log(log(1 + e^x)) = x - e^x / 2 + O(e^2x) where softplus would underflow."""
    is_small = values < -15
    series = values - 0.5 * values.clamp_max(-15).exp()
    return torch.where(is_small, series, F.softplus(values.clamp_min(-15)).log())


class BatchNormMeanPosterior(PosteriorHead):
    """`bn_mean`: the mean is batch-normalised with a fixed gamma and a trainable shift beta; the variance is free.

    Zhu et al., "A Batch Normalized Inference Network Keeps the KL Vanishing Away", ACL 2020. In each dimension
    E[mu] = beta and Var[mu] = gamma^2 over a training batch.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, d.
        gamma (`float`, *optional*, defaults to 0.6): Standard deviation of the means, in (0, 1).
        rate (`float`, *optional*): Instead of gamma, the floor in nats per sentence, below d/2: gamma = sqrt(2R/d).
    """

    scale_arguments = ("gamma", "rate")

    def __init__(self, input_size: int, latent_size: int, gamma: float = 0.6, rate: float | None = None) -> None:
        super().__init__(input_size, latent_size, mean_bias=False, scale_bias=True)
        if rate is not None:
            _require_positive_rate(rate)
            gamma = (2 * rate / latent_size) ** 0.5
        if not 0 < gamma < 1:
            raise ValueError(
                f"gamma must lie strictly between 0 and 1, got {gamma}{'' if rate is None else f' from rate={rate}'}: "
                "from 1 on, gamma^2 + E[sigma^2] > 1, an aggregated posterior wider than the prior (a posterior hole)."
            )
        self.gamma = gamma
        self.shift = nn.Parameter(torch.zeros(latent_size))
        self.mean_norm = BatchStandardization(latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean_norm(mean) * self.gamma + self.shift.to(mean.dtype), scale)

    def kl_floor(self) -> torch.Tensor:
        """1/2 sum_j (gamma^2 + beta_j^2): the variance's part of the KL is never negative (Zhu et al., eq. 7)."""
        return 0.5 * (self.latent_size * self.gamma**2 + _whole(self.shift).square().sum())

    def promised_moments(self) -> PromisedMoments:
        shift = _whole(self.shift).detach()
        return PromisedMoments(shift, torch.full_like(shift, self.gamma**2), None)


class LayerNormPosterior(_ScaledPosterior):
    """`ln`: mean and signed standard deviation are standardised over the latent dimensions within each sentence.

    The variant that Su argues against (kexue.fm/archives/7381): it needs no batch, holds the floor for every sentence
    by itself, but leaves each dimension's aggregated posterior free. One theta for all dimensions.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, at least 2.
        tau (`float`, *optional*, defaults to 0.5): Least second moment of the means, in (0, 1).
        rate (`float`, *optional*): Instead of tau, the floor in nats per sentence.
    """

    uses_batch = False

    def __init__(self, input_size: int, latent_size: int, tau: float = 0.5, rate: float | None = None) -> None:
        super().__init__(input_size, latent_size, mean_bias=True, scale_bias=True)
        if latent_size == 1:
            raise ValueError("LayerNormPosterior needs latent_size >= 2, got 1: it normalises over the dimensions.")
        self.scale = TauScale(1, tau) if rate is None else ConstantScale(rate / latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared(mean.dtype)
        tiny = torch.finfo(mean.dtype).tiny
        log_square = F.layer_norm(scale, scale.shape[-1:], eps=EPSILON).square().clamp_min(tiny).log()
        standardised = F.layer_norm(mean, mean.shape[-1:], eps=EPSILON)
        return DiagonalGaussian(
            standardised * _gamma_mu(log_gamma_sigma_squared), log_gamma_sigma_squared + log_square
        )


class GaussianPosterior(PosteriorHead):
    """`gaussian`: mean and log variance are free (Kingma & Welling, 2014): the baseline that collapses.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
    """

    uses_batch = False
    scale_arguments = ()

    def __init__(self, input_size: int, latent_size: int) -> None:
        super().__init__(input_size, latent_size, mean_bias=True, scale_bias=True)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(mean, scale)

    def kl_floor(self) -> torch.Tensor:
        return torch.zeros((), device=self.mean_projection.weight.device)

    def promised_moments(self) -> PromisedMoments:
        return PromisedMoments()


def _linear(layer: nn.Linear, features: torch.Tensor) -> torch.Tensor:
    bias = None if layer.bias is None else layer.bias.to(features.dtype)
    return F.linear(features, layer.weight.to(features.dtype), bias)


POSTERIOR_HEADS: dict[str, type[PosteriorHead]] = {
    "bn": BatchNormPosterior,
    "bn_rms": BatchNormRMSPosterior,
    "bn_mean": BatchNormMeanPosterior,
    "ln": LayerNormPosterior,
    "gaussian": GaussianPosterior,
}


def build_posterior_head(
    posterior: str,
    input_size: int,
    latent_size: int,
    tau: float | None = None,
    gamma: float | None = None,
    rate: float | None = None,
) -> PosteriorHead:
    """The head of that name, with those of the scale settings that are given and that it has.

    Args:
        posterior (`str`): A key of `POSTERIOR_HEADS`.
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau, gamma, rate (`float`, *optional*): Scale settings; `None` leaves the head's default.
    """
    head_class = POSTERIOR_HEADS[posterior]
    scales = {"tau": tau, "gamma": gamma, "rate": rate}
    given = {name: scales[name] for name in head_class.scale_arguments if scales[name] is not None}
    return head_class(input_size, latent_size, **given)


__all__ = [
    "POSTERIOR_HEADS",
    "BatchNormMeanPosterior",
    "BatchNormPosterior",
    "BatchNormRMSPosterior",
    "DiagonalGaussian",
    "GaussianPosterior",
    "LayerNormPosterior",
    "PosteriorHead",
    "PromisedMoments",
    "build_posterior_head",
    "population_statistics",
    "posterior_batch_mean",
    "prior_log_prob",
]
