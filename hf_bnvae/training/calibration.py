# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Recomputing a posterior's running statistics from data, with the weights as they are now."""

from collections.abc import Iterable, Mapping

import torch
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from transformers import PreTrainedModel

from ..data.collator import encoder_inputs
from ..model.batch_statistics_bnvae import population_statistics
from ..utils.modes import preserved_modes


def recalibrate_posterior(model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> int:
    """
    Replace the running statistics of a model's posterior by the exact moments of the data in `batches`.

    Statistics averaged during training lag behind the weights. Only encoder and head run, in training mode, so that
    dropout acts as it does in training: what the statistics promise is what training normalised by, and if noise had
    a part in it, evaluation (without dropout) shows it. All modules' modes are restored; heads without batch
    statistics are left alone.

    In a distributed training every process makes this call, each with its share of the data, and all get the moments
    of the whole. Shares may be uneven, but where weights are sharded (FSDP) all need as many batches.

    Args:
        model ([`BNVAEModel`]): The model, changed in place; in a wrapper of `DistributedDataParallel` or not.
        batches (iterable of mappings): What the model's `forward` takes; `input_ids` is needed. All sentences count
            alike, however they are divided.

    Returns:
        `int`: The number of sentences that this process has seen, 0 where there was nothing to do.

    Raises:
        ValueError: if `batches` hold fewer than two sentences, on all processes.
    """
    model = getattr(model, "module", model)
    if not model.posterior.uses_batch:
        return 0
    if isinstance(model, FSDPModule) and "encode" not in vars(model):
        # Sharded weights are gathered for `forward`, and for what is registered beside it.
        register_fsdp_forward_method(model, "encode")
    count = 0
    device = model.posterior.mean_projection.weight.device
    with preserved_modes(model), torch.no_grad(), population_statistics(model.posterior):
        model.train()
        for batch in batches:
            model.encode(**{name: values.to(device) for name, values in encoder_inputs(batch).items()})
            count += len(batch["input_ids"])
    return count
