# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The batch normalisations of the posterior heads. In training they use the moments of a posterior batch, which
several processes may share. In evaluation they use running moments, or the exact ones of a data set."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import nn

from .gaussian_bnvae import float64_device, in_float64

# A variance that this number of roundings of the values could make counts as no variance.
ROUNDINGS = 8
MOMENTUM = 0.1


def num_processes() -> int:
    """The number of processes that share a posterior batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rounding_variance(mean_square: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """
    The epsilon of a batch normalisation: the variance that values of this size have by rounding alone.

    Training would find a way around a constant epsilon. The features of a new encoder may vary by 1e-4 only, and then
    a constant epsilon would hide the whole variance.

    Args:
        mean_square (`torch.Tensor`): Mean squares of the values.
        dtype (`torch.dtype`, *optional*): The type whose rounding it is, by default the type of the mean squares.
    """
    precision = torch.finfo(mean_square.dtype if dtype is None else dtype)
    # The root of the least number keeps the gradient of 1 / sqrt(.) finite if all values are 0.
    return mean_square * (ROUNDINGS * precision.eps) ** 2 + precision.tiny**0.5


def posterior_batch_mean(values: torch.Tensor, across_processes: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The mean of `values` over the sentences of a posterior batch. In a distributed training these are the sentences of
    all processes, which may have different numbers of them.

    The mean is differentiable, on any backend. DDP and FSDP average the gradients over the processes. The result is
    the gradient that one process with all sentences would have.

    Args:
        values (`torch.Tensor` of shape `(batch, ...)`): One entry for each sentence of this process.
        across_processes (`bool`, *optional*, defaults to `True`): Whether the sentences of the other processes belong
            to the batch. All processes must then make this call.

    Returns:
        `tuple`: the mean, of shape `(...)` and the same on every process, and the number of sentences, 0-dimensional.
    """
    if not across_processes or num_processes() == 1:
        return values.mean(0), values.new_full((), values.shape[0])
    sums = torch.cat([values.sum(0).flatten(), values.new_full((1,), values.shape[0])])
    sums = funcol.all_reduce(sums, "sum", dist.group.WORLD)
    count = sums[-1]
    return sums[:-1].view(values.shape[1:]) / count, count.detach()


class BatchStatistics(nn.Module):
    """Base of the two batch normalisations: running statistics and the exact ones of a whole data set.

    In training the module normalises by the statistics of the batch, over all processes, and keeps running averages
    of them (momentum 0.1, as torch's `BatchNorm`). In evaluation it uses the running averages. Inside
    [`population_statistics`] the forward pass accumulates sums in float64 instead. At the end these sums become the
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

    def finish_population(self) -> "Population":
        """What was accumulated since `start_population`. [`BatchStatistics.take_population`] makes it the running
        statistics."""
        sums, self._population = self._population, None
        device = float64_device(self.num_batches_tracked.device)
        nothing = torch.zeros(self.num_sums, self.size, dtype=torch.float64, device=device)
        total = _sum_of_processes(torch.stack([nothing, *sums]).sum(0))
        # Cast first: the running statistic's device may have no float64.
        moments = {
            name: value.to(getattr(self, name).dtype) for name, value in self._population_moments(total).items()
        }
        return Population(int(total[0, 0]), max(len(sums), 1), moments)

    def take_population(self, population: "Population") -> None:
        """Replace the running statistics by a population's, if it has two sentences or more."""
        if population.count > 1:
            for name, value in population.moments.items():
                getattr(self, name).copy_(value)
            self.num_batches_tracked.fill_(population.num_batches)

    def _population_moments(self, sums: torch.Tensor) -> dict[str, torch.Tensor]:
        """The running statistics by their names, from the sums over a population, `(num_sums, size)`. The first row
        holds the counts."""
        raise NotImplementedError

    def _batch_mean(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of `values` over the posterior batch, `(size,)`, and the number of its sentences."""
        # Processes that accumulate a population may see different numbers of batches.
        return posterior_batch_mean(values, across_processes=self._population is None)

    def _track(self, **blended: torch.Tensor) -> None:
        """Set running statistics, each `(size,)`, to their new averages. A dimension in which one of them is not
        finite keeps its old ones, and the batch then does not count. No device waits for this check."""
        is_finite = torch.stack(list(blended.values())).isfinite().all(0)
        for name, value in blended.items():
            running = getattr(self, name)
            running.copy_(torch.where(is_finite, value, running))
        self.num_batches_tracked += is_finite.all()

    @staticmethod
    def _blend(running: torch.Tensor, batch_value: torch.Tensor) -> torch.Tensor:
        return running.lerp(batch_value.detach().to(running.dtype), MOMENTUM)


class BatchStandardization(BatchStatistics):
    """Batch normalisation without affine parameters: zero mean and unit variance in each dimension.

    The module normalises by the biased variance of the batch and tracks the unbiased one, as torch's `BatchNorm` does.
    Its epsilon is rounding alone ([`rounding_variance`]).

    If the training texts did not differ in a dimension, the running variance is rounding, and nothing can be told from
    it. In evaluation all values of such a dimension become `constant`.

    Args:
        size (`int`): Number of dimensions.
        constant (`float`, *optional*, defaults to 0): The result, in evaluation, in dimensions without variation.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    num_sums = 3

    def __init__(self, size: int, constant: float = 0.0) -> None:
        super().__init__(size)
        self.constant = constant
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """`(batch, size)` to `(batch, size)`."""
        if not self.training:
            mean, variance = self.running_mean.to(values.dtype), self.running_var.to(values.dtype)
            scaled = self._scaled(values - mean, mean, variance)
            return torch.where(self._varies(mean, variance), scaled, self.constant)
        mean, count = self._batch_mean(values)
        centred = values - mean
        variance, _ = self._batch_mean(centred.square())
        if self._population is not None:
            exact = in_float64(values.detach())
            counts = torch.full_like(exact[0], exact.shape[0])
            self._population.append(torch.stack([counts, exact.sum(0), exact.square().sum(0)]))
        else:
            self._track(
                running_mean=self._blend(self.running_mean, mean),
                running_var=self._blend(self.running_var, variance * (count / (count - 1))),
            )
        return self._scaled(centred, mean, variance)

    @staticmethod
    def _scaled(centred: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        epsilon = rounding_variance((mean.square() + variance).detach())
        return centred * torch.rsqrt(variance + epsilon)

    @staticmethod
    def _varies(mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """In which dimensions the variance is more than rounding."""
        mean_square = mean.square() + variance
        # A value is a sum of products. Where the products cancel, the value is small, but its rounding is not. A head
        # in double precision may have been trained in single precision.
        return variance > rounding_variance(torch.maximum(mean_square, mean_square.mean()), torch.float32)

    def _population_moments(self, sums: torch.Tensor) -> dict[str, torch.Tensor]:
        count, total, squares = sums
        mean = total / count
        return {"running_mean": mean, "running_var": (squares / count - mean.square()).clamp_min(0)}


class BatchRootMeanSquare(BatchStatistics):
    """Division by the root mean square over the batch. In log space this needs no epsilon.

    The running mean square may be too small for single precision. It is then stored as its logarithm. The logarithm is
    negative, which no mean square is.

    Args:
        size (`int`): Number of dimensions.
    """

    running_mean_square: torch.Tensor

    num_sums = 2

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("running_mean_square", torch.ones(size))
        self._population_logs: list[torch.Tensor] = []

    def forward(self, log_values: torch.Tensor) -> torch.Tensor:
        """From the logarithms of positive values, `(batch, size)`, to the logarithms of the values scaled to unit mean
        square, `(batch, size)`."""
        if not self.training:
            return log_values - 0.5 * _log_of_stored(self.running_mean_square.to(log_values.dtype))
        # The log of a mean of exponentials, relative to the greatest value of the batch.
        peak = 2 * log_values.detach().amax(0)
        if self._population is None and num_processes() > 1:
            peak = funcol.all_reduce(peak, "max", dist.group.WORLD)
        mean_square, _ = self._batch_mean(torch.exp(2 * log_values - peak))
        log_mean_square = peak + mean_square.log()
        if self._population is not None:
            log_squares = 2 * in_float64(log_values.detach())
            squares = torch.exp(log_squares)
            self._population.append(torch.stack([torch.full_like(squares[0], squares.shape[0]), squares.sum(0)]))
            self._population_logs.append(log_squares.logsumexp(0))
        else:
            self._track(running_mean_square=self._blended_mean_square(log_mean_square.detach()))
        return log_values - 0.5 * log_mean_square

    def _blended_mean_square(self, log_mean_square: torch.Tensor) -> torch.Tensor:
        running, log_batch = self.running_mean_square, log_mean_square.to(self.running_mean_square.dtype)
        blended = self._blend(running.clamp_min(0), log_mean_square.exp())
        log_blended = torch.logaddexp(_log_of_stored(running) + math.log1p(-MOMENTUM), log_batch + math.log(MOMENTUM))
        return _stored(blended, log_blended)

    def start_population(self) -> None:
        super().start_population()
        self._population_logs = []

    def _population_moments(self, sums: torch.Tensor) -> dict[str, torch.Tensor]:
        count, squares = sums
        logs = torch.stack([torch.full_like(squares, -math.inf), *self._population_logs])
        self._population_logs = []
        peak = logs.amax(0)
        if num_processes() > 1:
            peak = funcol.all_reduce(peak, "max", dist.group.WORLD)
        log_sum = peak + _sum_of_processes(torch.exp(logs - peak).sum(0)).log()
        return {"running_mean_square": _stored(squares / count, log_sum - count.log())}


# A mean square below it is stored as its logarithm. A head in float64 has the same limit, so that it keeps its
# statistics when it is cast.
_LEAST_STORED = torch.finfo(torch.float32).tiny


def _stored(mean_square: torch.Tensor, log_mean_square: torch.Tensor) -> torch.Tensor:
    """Mean squares as [`BatchRootMeanSquare`] stores them."""
    return torch.where(mean_square < _LEAST_STORED, log_mean_square, mean_square)


def _log_of_stored(stored: torch.Tensor) -> torch.Tensor:
    """The logarithms of mean squares that were stored."""
    return torch.where(stored < 0, stored, stored.log())


class Population(NamedTuple):
    """
    The moments of a population of sentences.

    Args:
        count (`int`): The number of its sentences, in all processes.
        num_batches (`int`): The number of batches in which this process has seen them.
        moments (`dict[str, torch.Tensor]`): The running statistics by their names, each `(size,)`.
    """

    count: int
    num_batches: int
    moments: dict[str, torch.Tensor]


def _sum_of_processes(values: torch.Tensor) -> torch.Tensor:
    return funcol.all_reduce(values, "sum", dist.group.WORLD) if num_processes() > 1 else values


@contextmanager
def population_statistics(head: nn.Module) -> Iterator[None]:
    """A context in which training-mode passes through `head` accumulate the statistics of all sentences. At the end
    these exact moments replace the running statistics.

    After an error the old statistics stay. If `head` contains several heads, a head that saw nothing keeps its
    statistics, too: PEFT keeps the original of a head that it trains a copy of.

    In a distributed training every process enters the context with its share of the data. The shares may be uneven.

    Args:
        head (`nn.Module`): A posterior head, or any module that contains one.

    Raises:
        ValueError: if fewer than two sentences were seen, or if their moments are not finite.
    """
    statistics = [module for module in head.modules() if isinstance(module, BatchStatistics)]
    for module in statistics:
        module.start_population()
    try:
        yield
        populations = [module.finish_population() for module in statistics]
        seen = max((population.count for population in populations), default=2)
        if seen < 2:
            raise ValueError(
                "Population statistics need at least two sentences, and "
                f"{seen or 'none'} was seen while they were being estimated."
            )
        for population in populations:
            if population.count > 1 and not all(value.isfinite().all() for value in population.moments.values()):
                raise ValueError(
                    "The moments of these sentences are NaN or infinite, so the old running statistics stay. A weight "
                    "of the model is probably not finite, or the attention mask of a sentence is 0 everywhere."
                )
        for module, population in zip(statistics, populations, strict=True):
            module.take_population(population)
    finally:
        for module in statistics:
            module._population = None


__all__ = [
    "BatchRootMeanSquare",
    "BatchStandardization",
    "BatchStatistics",
    "num_processes",
    "population_statistics",
    "posterior_batch_mean",
]
