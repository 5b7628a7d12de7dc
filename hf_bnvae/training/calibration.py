# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Recompute a posterior's running statistics from data, with the present weights."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from transformers import PreTrainedModel

from ..data.collator import encoder_inputs
from ..model.batch_statistics_bnvae import population_statistics
from ..model.gaussian_bnvae import DiagonalGaussian
from ..utils.modes import preserved_modes


def recalibrate_posterior(model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> int:
    """
    Replace the running statistics of a model's posterior by the exact moments of the data in `batches`.

    Statistics that were averaged during training lag behind the weights. Only encoder and head run, and they run in
    training mode, so dropout acts as in training. The statistics are then the ones that training normalised by. If
    noise contributed to them, an evaluation (without dropout) shows it. The function restores the modes of all
    modules. It does nothing for heads without batch statistics.

    In a distributed training every process makes this call with its share of the data, and all get the moments of all
    data. Shares may be uneven. If weights are sharded (FSDP), all processes need the same number of batches.

    Args:
        model ([`BNVAEModel`]): The model, which is changed in place. `DistributedDataParallel` may wrap it.
        batches (iterable of mappings): The arguments of the model's `forward`; `input_ids` is required. Every sentence
            has the same weight, however the data are divided.

    Returns:
        `int`: The number of sentences that this process has seen; 0 if there was nothing to do.

    Raises:
        ValueError: if `batches` hold fewer than two sentences, counted over all processes.
    """
    model = getattr(model, "module", model)
    if not model.posterior.uses_batch:
        return 0
    count = 0
    with preserved_modes(model), torch.no_grad(), population_statistics(model.posterior):
        model.train()
        for posterior in encoded_batches(model, batches):
            count += len(posterior.mean)
    return count


def encoded_batches(
    model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]
) -> Iterator[DiagonalGaussian]:
    """
    The posteriors of batches, in the present mode of the model.

    Args:
        model ([`BNVAEModel`]): The model, which no `DistributedDataParallel` wraps. Its weights may be sharded (FSDP).
        batches (iterable of mappings): As in [`recalibrate_posterior`].
    """
    if isinstance(model, FSDPModule) and "encode" not in vars(model):
        # Sharded weights are gathered for `forward` and for registered methods only.
        register_fsdp_forward_method(model, "encode")
    device = model.posterior.device
    for batch in batches:
        yield model.encode(**{name: values.to(device) for name, values in encoder_inputs(batch).items()})
