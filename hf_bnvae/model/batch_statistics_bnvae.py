# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The batch normalisations of the posterior heads. In training they use the moments of a posterior batch, which
several processes may share. In evaluation they use running moments, or the exact ones of a data set."""

from collections.abc import Iterator
from contextlib import contextmanager

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


def rounding_variance(mean_square: torch.Tensor) -> torch.Tensor:
    """
    The epsilon of a batch normalisation: the variance that values of this size have by rounding alone.

    Training would find a way around a constant epsilon. The features of a new encoder may vary by 1e-4 only, and then
    a constant epsilon would hide the whole variance.

    Args:
        mean_square (`torch.Tensor`): Mean squares of the values.
    """
    precision = torch.finfo(mean_square.dtype)
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

    def finish_population(self) -> int:
        """Replace the running statistics by the ones accumulated since `start_population`, if these are of two
        sentences or more. Return the number of sentences."""
        sums, self._population = self._population, None
        device = float64_device(self.num_batches_tracked.device)
        nothing = torch.zeros(self.num_sums, self.size, dtype=torch.float64, device=device)
        total = torch.stack([nothing, *sums]).sum(0)
        if num_processes() > 1:
            total = funcol.all_reduce(total, "sum", dist.group.WORLD)
        count = int(total[0, 0])
        if count > 1:
            self._set_population(total)
            self.num_batches_tracked.fill_(max(len(sums), 1))
        return count

    def _set_population(self, sums: torch.Tensor) -> None:
        """Set the running statistics from the sums over a population, `(num_sums, size)`. The first row holds the
        counts."""
        raise NotImplementedError

    def _batch_mean(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of `values` over the posterior batch, `(size,)`, and the number of its sentences."""
        # Processes that accumulate a population may see different numbers of batches.
        return posterior_batch_mean(values, across_processes=self._population is None)

    def _blend(self, running: torch.Tensor, batch_value: torch.Tensor) -> None:
        running.lerp_(batch_value.detach().to(running.dtype), MOMENTUM)


class BatchStandardization(BatchStatistics):
    """Batch normalisation without affine parameters: zero mean and unit variance in each dimension.

    The module normalises by the biased variance of the batch and tracks the unbiased one, as torch's `BatchNorm` does.
    Its epsilon is rounding alone ([`rounding_variance`]).

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
            return self._scaled(values - mean, mean, variance)
        mean, count = self._batch_mean(values)
        centred = values - mean
        variance, _ = self._batch_mean(centred.square())
        if self._population is not None:
            exact = in_float64(values.detach())
            counts = torch.full_like(exact[0], exact.shape[0])
            self._population.append(torch.stack([counts, exact.sum(0), exact.square().sum(0)]))
        else:
            self._blend(self.running_mean, mean)
            self._blend(self.running_var, variance * (count / (count - 1)))
            self.num_batches_tracked += 1
        return self._scaled(centred, mean, variance)

    @staticmethod
    def _scaled(centred: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        epsilon = rounding_variance((mean.square() + variance).detach())
        return centred * torch.rsqrt(variance + epsilon)

    def _set_population(self, sums: torch.Tensor) -> None:
        count, total, squares = sums
        mean = total / count
        _replace(self.running_mean, mean)
        _replace(self.running_var, (squares / count - mean.square()).clamp_min(0))


class BatchRootMeanSquare(BatchStatistics):
    """Division by the root mean square over the batch. In log space this needs no epsilon.

    Args:
        size (`int`): Number of dimensions.
    """

    running_mean_square: torch.Tensor

    num_sums = 2

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("running_mean_square", torch.ones(size))

    def forward(self, log_values: torch.Tensor) -> torch.Tensor:
        """From the logarithms of positive values, `(batch, size)`, to the logarithms of the values scaled to unit mean
        square, `(batch, size)`."""
        if not self.training:
            return log_values - 0.5 * self.running_mean_square.to(log_values.dtype).log()
        # The log of a mean of exponentials, relative to the greatest value of the batch.
        peak = 2 * log_values.detach().amax(0)
        if self._population is None and num_processes() > 1:
            peak = funcol.all_reduce(peak, "max", dist.group.WORLD)
        mean_square, _ = self._batch_mean(torch.exp(2 * log_values - peak))
        log_mean_square = peak + mean_square.log()
        if self._population is not None:
            squares = torch.exp(2 * in_float64(log_values.detach()))
            self._population.append(torch.stack([torch.full_like(squares[0], squares.shape[0]), squares.sum(0)]))
        else:
            self._blend(self.running_mean_square, log_mean_square.exp())
            self.num_batches_tracked += 1
        return log_values - 0.5 * log_mean_square

    def _set_population(self, sums: torch.Tensor) -> None:
        count, squares = sums
        _replace(self.running_mean_square, squares / count)


def _replace(running: torch.Tensor, exact: torch.Tensor) -> None:
    # Cast first: the running statistic's device may have no float64.
    running.copy_(exact.to(running.dtype))


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


__all__ = [
    "BatchRootMeanSquare",
    "BatchStandardization",
    "BatchStatistics",
    "num_processes",
    "population_statistics",
    "posterior_batch_mean",
]
