# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Fit a model's prior to its posteriors, after training and in closed form."""

import reprlib
from collections.abc import Iterable, Mapping
from itertools import chain

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel
from transformers.utils import logging

from ..evaluation.processes import process_index
from ..model.batch_statistics_bnvae import num_processes
from ..model.condition_bnvae import Condition
from ..model.gaussian_bnvae import DiagonalGaussian, float64_device
from ..model.modeling_bnvae import has_adapters
from ..model.prior_bnvae import GaussianPrior, Prior, StandardPrior
from ..utils.modes import preserved_modes
from .calibration import encoded_batches

logger = logging.get_logger(__name__)


def fit_prior(
    model: PreTrainedModel,
    data: Iterable[Mapping[str, torch.Tensor]] | Iterable[str],
    batch_size: int = 64,
    show_progress: bool | None = None,
    condition: Condition | None = None,
) -> Prior:
    """
    Give a model the Gaussian prior with mean and covariance of its aggregated posterior, the mean of the posteriors of
    all texts. `model.sample` then draws from where texts are encoded. Weights, loss and KL do not change.

    Averaged over the same texts, the KL from this prior is smaller than the KL from N(0, I) by exactly

        1/2 (tr S - d - log det S + m'm)

    with mean m and covariance S in d dimensions. This is the KL of the fitted Gaussian from N(0, I): the part of the
    posteriors' KL that says nothing about a single text.

    The moments are exact (law of total covariance) and in float64. Encoder and head run in evaluation mode, without
    dropout, and the model gets its own mode back.

    In a distributed training every process makes this call with its share of the data, and all get the prior of all
    data. Shares may be uneven. If weights are sharded (FSDP), data must be batches, and all processes need the same
    number of them.

    Args:
        model ([`BNVAEModel`]): The model, which is changed in place. `DistributedDataParallel` may wrap it.
        data (iterable of `str` or of mappings): Texts, for which the model needs its processor attached, or batches:
            the arguments of the model's `forward`, of which `input_ids` is required.
        batch_size (`int`, *optional*, defaults to 64): The number of texts that are encoded at once.
        show_progress (`bool`, *optional*): Whether to draw a progress bar for texts; by default for many batches.
        condition (`str` or list, *optional*): With texts, for a conditional model: one condition for all of them, or a
            list with one for each.

    Returns:
        [`GaussianPrior`]: The model's new prior, also `model.prior`.

    Raises:
        ValueError: for data of another kind, for fewer than two texts, for a model with adapters of PEFT, if the
            posterior's running statistics were never estimated, and if the moments are not finite or their Gaussian is
            degenerate. The model then keeps the prior that it had.

    Example:

    ```python
    >>> fit_prior(model, texts)
    >>> model.sample(5, seed=0)
    >>> model.save_pretrained("runs/bnvae-fitted")
    ```
    """
    model = getattr(model, "module", model)
    if has_adapters(model):
        raise ValueError(
            "A model with adapters has no prior, because adapters are saved without it. Fit the prior on the whole "
            "model, and save that: hf_bnvae.fit_prior(model.merge_and_unload(), texts)."
        )
    model.posterior.require_estimated()
    moments = AggregatedMoments(model.config.latent_size, float64_device(model.posterior.device))
    with preserved_modes(model), torch.no_grad():
        model.eval()
        for posterior in _posteriors(model, data, batch_size, show_progress, condition):
            moments.update(posterior)
        count, mean, covariance = moments.across_processes()
    if count < 2:
        raise ValueError(f"A prior is fitted to the posteriors of at least two texts, got {count or 'none'}.")
    if count <= model.config.latent_size and process_index() == 0:
        logger.warning(
            f"The prior is fitted on {count} texts, no more than the {model.config.latent_size} latent dimensions. "
            "The means of their posteriors do not show all directions in which other texts differ. Fit on more texts."
        )
    model.set_prior(GaussianPrior.from_moments(mean, covariance))
    return model.prior


def fit_trained_prior(model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
    """
    [`fit_prior`] at the end of a training, which does not fail there: if no prior can be fitted, the model keeps the
    standard prior, and a warning says why.

    Args:
        model ([`BNVAEModel`]): The trained model.
        batches (iterable of mappings): As in [`fit_prior`].
    """
    try:
        fit_prior(model, batches)
    except ValueError as error:
        logger.warning(f"The model keeps the prior N(0, I). {error}")


def remove_prior(model: PreTrainedModel) -> None:
    """Give a model the standard prior again. A prior that was fitted to earlier weights does not fit later ones."""
    model.set_prior(StandardPrior(model.config.latent_size))


class AggregatedMoments:
    """
    Mean and covariance of an aggregated posterior, from posteriors that come in batches, in float64.

    No large sums are subtracted: the deviations of each batch are merged with those so far (Chan, Golub & LeVeque
    1979).

    Args:
        latent_size (`int`): Number of latent dimensions, d.
        device (`torch.device`, *optional*): Where the sums are kept.
    """

    def __init__(self, latent_size: int, device: torch.device | None = None) -> None:
        self._sums = {"dtype": torch.float64, "device": device}
        self.count = 0
        self.mean = torch.zeros(latent_size, **self._sums)  # of the posteriors' means
        self.deviations = torch.zeros(latent_size, latent_size, **self._sums)  # their squares and products, summed
        self.variances = torch.zeros(latent_size, **self._sums)  # the posteriors' variances, summed

    def update(self, posterior: DiagonalGaussian) -> None:
        """Add the posteriors of a batch, `(batch, latent_size)`."""
        means = posterior.mean.to(**self._sums)
        added = len(means)
        count = self.count + added
        batch_mean = means.mean(0)
        centred, offset = means - batch_mean, batch_mean - self.mean
        self.deviations += centred.T @ centred + torch.outer(offset, offset) * (self.count * added / count)
        self.mean += offset * (added / count)
        self.variances += posterior.logvar.to(**self._sums).exp().sum(0)
        self.count = count

    def across_processes(self) -> tuple[int, torch.Tensor, torch.Tensor]:
        """The moments of all processes, which must all make this call: the number of sentences, the mean of their
        aggregated posterior `(latent_size,)`, and its covariance `(latent_size, latent_size)`. The covariance is the
        covariance of the means plus the mean of the variances. Without a sentence both moments are NaN."""
        counts = _sum_of_processes(torch.tensor([self.count], **self._sums))
        mean = _sum_of_processes(self.mean * self.count) / counts
        offset = self.mean - mean
        deviations = _sum_of_processes(self.deviations + self.count * torch.outer(offset, offset))
        variances = _sum_of_processes(self.variances)
        return int(counts), mean, (deviations + variances.diag()) / counts


def _sum_of_processes(values: torch.Tensor) -> torch.Tensor:
    return funcol.all_reduce(values, "sum", dist.group.WORLD) if num_processes() > 1 else values


def _posteriors(
    model: PreTrainedModel,
    data: Iterable[Mapping[str, torch.Tensor]] | Iterable[str],
    batch_size: int,
    show_progress: bool | None,
    condition: Condition | None,
) -> Iterable[DiagonalGaussian]:
    first = data
    if not isinstance(data, (str, Mapping)):
        items = iter(data)
        first = next(items, None)
        if first is None:
            return ()
        if isinstance(first, str) and not isinstance(model, FSDPModule):
            texts = [first, *items]
            found = model.text_posteriors(texts, batch_size, show_progress, condition)
            return (posterior for _, posterior in found)
        if isinstance(first, Mapping) and isinstance(first.get("input_ids"), torch.Tensor):
            if condition is not None:
                raise ValueError("condition belongs to texts. Batches hold their conditions themselves.")
            if model.config.conditional and "condition_ids" not in first:
                raise ValueError(
                    "The model was trained with conditions, and the batches hold none. The processor makes them with "
                    "condition=..."
                )
            return encoded_batches(model, chain((first,), items))
    raise ValueError(
        "data must be texts, a list or a column (dataset['text']), or batches of tensors with input_ids, as a "
        "DataLoader with BNVAEDataCollator(processor) gives them. If weights are sharded (FSDP), only batches. Got "
        f"{reprlib.repr(first)}."
    )
