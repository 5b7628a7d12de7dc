# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Numbers that are not finite: weights that are not saved, and logits from which no text is made."""

from collections.abc import Mapping

import torch
from torch import nn
from transformers import LogitsProcessor


def require_finite_weights(tensors: Mapping[str, torch.Tensor]) -> None:
    """
    Refuse weights that are NaN or infinite.

    Args:
        tensors (mapping): The weights by their names. Whole numbers, weights that Accelerate has put away, and the
            tensors of libraries that quantise are not looked at.

    Raises:
        FloatingPointError: with the name of the first tensor that is not finite.
    """
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise FloatingPointError(
                f"The weight {name} is not finite, so the model is not saved. Go back to an earlier checkpoint, and "
                "train with a smaller learning rate."
            )


def _is_finite(tensor: torch.Tensor) -> bool:
    is_plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout == torch.strided
    if not is_plain or tensor.is_meta or not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if tensor.dtype.itemsize == 1:
        if not str(tensor.dtype).startswith("torch.float8"):
            return True  # smaller types have no such numbers
        tensor = tensor.to(torch.bfloat16)
    # Both extremes are NaN where a number is. `isfinite` of every number takes 30 times as long.
    return all(bool(extreme.isfinite()) for extreme in tensor.detach().aminmax())


class FiniteLogits(LogitsProcessor):
    """Refuses logits from which no token can be chosen. A generation has this processor ahead of all others."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`): The texts so far.
            scores (`torch.FloatTensor` of shape `(batch, vocab_size)`): The decoder's logits, or their log-softmax.

        Returns:
            `torch.FloatTensor` of shape `(batch, vocab_size)`: the scores as they are.

        Raises:
            FloatingPointError: for a row that holds NaN or infinity, or -infinity alone.
        """
        is_finite = scores.amax(-1).isfinite()
        if not is_finite.all():
            row = int(is_finite.int().argmin())
            raise FloatingPointError(
                f"The decoder's logits of row {row} are not finite after {input_ids.shape[1]} tokens. A weight of the "
                "model is probably NaN, or the decoder overflows in its type: try dtype=torch.float32."
            )
        return scores


__all__ = ["FiniteLogits", "require_finite_weights"]
