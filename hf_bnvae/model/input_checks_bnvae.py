# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a model refuses before it computes: token ids and masks of another kind, shape or range.

Kinds and shapes are always checked. Numbers are checked on the CPU. On an accelerator a look at the numbers would wait
for the device, so they are checked there only under `torch.autograd.set_detect_anomaly(True)`. A traced graph checks
no numbers.
"""

import math
import operator
import reprlib
from typing import Any

import torch
from torch import nn

from .loss_bnvae import IGNORE_INDEX


def require_ids(
    name: str,
    ids: Any,
    network: str,
    size: nn.Module | int | None,
    may_be_empty: bool = False,
) -> None:
    """
    Refuse what are no token ids.

    Args:
        name (`str`): The argument's name, for messages. The arguments `labels` and `condition_ids` may also hold -100.
        ids (`torch.LongTensor` of shape `(batch, length)`): The argument.
        network (`str`): Whose ids they are, for messages.
        size (`nn.Module` or `int`, *optional*): The network, or the number of ids that it knows.
        may_be_empty (`bool`, *optional*, defaults to `False`): Whether a length of 0 is fine.

    Raises:
        ValueError: for anything else than a tensor of whole numbers in two dimensions, for an empty one, and for ids
            that the network does not know.
    """
    if not isinstance(ids, torch.Tensor):
        raise ValueError(
            f"{name} must be a tensor of shape (batch, length), got {type(ids).__name__}. Pass the result of a "
            'processor as **inputs, processor(texts, return_tensors="pt"), or torch.tensor(...) of lists.'
        )
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must hold token ids, torch.int64 or torch.int32, got {ids.dtype}.")
    if ids.dim() != 2:
        raise ValueError(
            f"{name} must have the shape (batch, length), got {tuple(ids.shape)}. A single sentence is a batch of "
            f"one: {name}.unsqueeze(0)."
        )
    if ids.shape[0] == 0:
        raise ValueError(
            f"{name} of shape {tuple(ids.shape)} hold no sentence. In a distributed training every process needs at "
            "least one sentence in each batch: drop a last batch that is too small to share out."
        )
    if ids.shape[1] == 0 and not may_be_empty:
        raise ValueError(f"{name} of shape {tuple(ids.shape)} hold no token.")
    if isinstance(size, nn.Module):
        size = vocabulary_size(size)
    if size is None or ids.numel() == 0 or not _may_look_at(ids):
        return
    may_be_padded = name in ("labels", "condition_ids")
    if may_be_padded:
        ids = ids.masked_fill(ids.eq(IGNORE_INDEX), 0)
    least, greatest = (value.item() for value in ids.aminmax())
    if least < 0 or greatest >= size:
        raise ValueError(
            f"{name} hold the id {least if least < 0 else greatest}, but the {network} knows the ids 0 to {size - 1}"
            f"{', and -100 for padding' if may_be_padded else ''}. Use the processor that was saved with the model."
        )


def require_batch(
    input_ids: Any, attention_mask: Any, encoder: nn.Module, labels: Any = None, decoder: nn.Module | None = None
) -> None:
    """
    Refuse sentences, their mask and their labels if they do not fit the networks or each other.

    Args:
        input_ids, attention_mask, labels: The arguments. The last two may be `None`.
        encoder, decoder (`nn.Module`): Whose ids they are.

    Raises:
        ValueError: as [`require_ids`] and [`require_mask`], and for labels of another number of sentences.
    """
    require_ids("input_ids", input_ids, "encoder", encoder)
    if attention_mask is not None:
        require_mask("attention_mask", attention_mask, input_ids.shape, "input_ids")
    if labels is not None:
        require_ids("labels", labels, "decoder", decoder)
        if len(labels) != len(input_ids):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} do not fit input_ids of shape {tuple(input_ids.shape)}: both "
                "need a row for each sentence."
            )


def require_shape(name: str, values: Any, shape: torch.Size, of: str) -> None:
    """
    Refuse numbers for each token that do not have the shape of the token ids.

    Args:
        name, shape, of: As in [`require_mask`].
        values (`torch.Tensor` of shape `(batch, length)`): The argument.

    Raises:
        ValueError: for anything else than a tensor of that shape.
    """
    if not isinstance(values, torch.Tensor):
        raise ValueError(f"{name} must be a tensor of the shape of {of}, {tuple(shape)}, got {type(values).__name__}.")
    # A graph may take sizes that are not known to be equal.
    if not _is_traced() and values.shape != shape:
        raise ValueError(f"{name} of shape {tuple(values.shape)} does not fit {of} of shape {tuple(shape)}.")


def vocabulary_size(network: nn.Module) -> int | None:
    """The number of token ids that a network embeds, where its embeddings say so."""
    return getattr(network.get_input_embeddings(), "num_embeddings", None)


def require_mask(name: str, mask: Any, shape: torch.Size, of: str) -> None:
    """
    Refuse a mask that does not fit its token ids, or that leaves nothing of a sentence.

    Args:
        name (`str`): The argument's name, for messages.
        mask (`torch.Tensor` of shape `(batch, length)`): The argument.
        shape (`torch.Size`): The shape of the ids.
        of (`str`): The name of the ids, for messages.

    Raises:
        ValueError: for anything else than a tensor of that shape, for numbers that are negative or not finite, and for
            a row of zeros.
    """
    require_shape(name, mask, shape, of)
    if not _may_look_at(mask):
        return
    if mask.dtype != torch.bool:
        least, greatest = (value.item() for value in mask.aminmax())
        if not 0 <= least <= greatest < float("inf"):
            raise ValueError(
                f"{name} must hold 1 for tokens and 0 for padding, got numbers from {least} to {greatest}."
            )
    has_tokens = mask.ne(0).any(1)
    if not has_tokens.all():
        row = int(has_tokens.int().argmin())
        raise ValueError(
            f"{name} is 0 in the whole of row {row}, so nothing is left of that sentence. Leave empty texts out."
        )


def require_count(name: str, value: Any, minimum: int = 1) -> int:
    """The whole number that `value` is, at least `minimum`. Anything else is a `ValueError`."""
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or count < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {reprlib.repr(value)}.")
    return count


def require_finite_number(name: str, value: Any) -> None:
    """Refuse anything else than a finite number, by a `ValueError`."""
    try:
        is_finite = math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        is_finite = False
    if not is_finite:
        raise ValueError(f"{name} must be a finite number, got {reprlib.repr(value)}.")


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _may_look_at(values: torch.Tensor) -> bool:
    # A subclass, as in `FakeTensorMode`, may have no numbers.
    if _is_traced() or type(values) is not torch.Tensor or values.is_meta:
        return False
    return values.device.type == "cpu" or torch.is_anomaly_enabled()


__all__ = [
    "require_batch",
    "require_count",
    "require_finite_number",
    "require_ids",
    "require_mask",
    "require_shape",
    "vocabulary_size",
]
