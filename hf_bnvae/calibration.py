# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Recomputing a posterior's running statistics from data, with the weights as they are now."""

from collections.abc import Iterable, Mapping

import torch
from transformers import PreTrainedModel

from .posterior_bnvae import population_statistics


def recalibrate_posterior(model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> int:
    """
    Replace the running statistics of a model's posterior by the exact moments of the data in `batches`.

    Statistics averaged during training lag behind the weights. Only encoder and head run, in training mode, so that
    dropout acts as it does in training: what the statistics promise is what training normalised by, and if noise had
    a part in it, evaluation (without dropout) shows it. All modules' modes are restored; heads without batch
    statistics are left alone.

    Args:
        model ([`BNVAEModel`]): The model, changed in place.
        batches (iterable of mappings): `input_ids` and, where there is padding, `attention_mask`. Other entries are
            ignored. All sentences count alike, however they are divided.

    Returns:
        `int`: The number of sentences seen, 0 where there was nothing to do.

    Raises:
        ValueError: if `batches` is empty.
    """
    if not model.posterior.uses_batch:
        return 0
    count = 0
    modes = {module: module.training for module in model.modules()}
    device = model.posterior.mean_projection.weight.device
    model.train()
    try:
        with torch.no_grad(), population_statistics(model.posterior):
            for batch in batches:
                inputs = {k: batch[k].to(device) for k in ("input_ids", "attention_mask") if k in batch}
                model.encode(**inputs)
                count += len(inputs["input_ids"])
    finally:
        for module, mode in modes.items():
            module.training = mode
    return count
