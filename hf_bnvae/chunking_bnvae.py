# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Running a network over a batch in chunks of rows of like length: less padding, and with activation checkpointing no
more memory than one chunk takes. The result does not depend on the chunks, to rounding."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint


def check_chunk_size(chunk_size: Any) -> None:
    """Refuse a chunk size that is neither `None` nor a positive number of sentences.

    Raises:
        ValueError: with what was given.
    """
    if chunk_size is not None and (isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(
            f"chunk_size must be a positive number of sentences, or None for the whole batch at once, got "
            f"{chunk_size!r}."
        )


def count_chunks(batch_size: int, chunk_size: int | None, model: nn.Module) -> int:
    """
    Into how many chunks a batch is cut.

    Where the weights are sharded over processes (FSDP) each pass of a layer is a collective operation, so all
    processes must make the same number of passes, whatever their batches: the greatest of their numbers.

    Args:
        batch_size (`int`): Number of sentences.
        chunk_size (`int` or `None`): The most sentences of a chunk; `None` for no limit.
        model (`nn.Module`): The model that runs.

    Raises:
        ValueError: on every process, if one has fewer sentences than another has chunks.
    """
    count = 1 if chunk_size is None else math.ceil(batch_size / chunk_size)
    if dist.is_available() and dist.is_initialized() and any(hasattr(p, "full_tensor") for p in model.parameters()):
        extremes = torch.tensor([count, -batch_size], device=next(model.parameters()).device)
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        count, fewest = extremes[0].item(), -extremes[1].item()
        if fewest < count:
            raise ValueError(
                f"One process has {fewest} sentences, another cuts its own into {count} chunks, and sharded weights "
                "need the same number of chunks everywhere. Use a larger chunk_size, or batches of like size."
            )
    return count


def cut_into_chunks(
    inputs: Mapping[str, Any], lengths: torch.Tensor | None, num_chunks: int = 1, **vectors: torch.Tensor
) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
    """
    Keyword arguments for each chunk of a batch, its longest sentences last.

    Args:
        inputs (mapping): Keyword arguments. Those with a row for each sentence are cut into chunks, and where they
            have a column for each position, the positions behind a chunk's longest sentence are cut off. All others
            are passed on as they are.
        lengths (`torch.Tensor` of shape `(batch,)` or `None`): Each sentence's number of positions from the first to
            the last real one; `None` if all are as long as the inputs. The first input has shape `(batch, length)`.
        num_chunks (`int`, *optional*, defaults to 1): Number of chunks, at most as many as there are sentences. With
            one, nothing is sorted or cut off.
        **vectors (`torch.Tensor` of shape `(batch, ...)`): Keyword arguments without positions, cut by rows only.

    Returns:
        `tuple`: the arguments, chunk by chunk, and the rows that the chunks have one after the other, `(batch,)`;
        `None` where they are in order.
    """
    if num_chunks == 1:
        return [{**inputs, **vectors}], None
    batch_size, width = next(iter(inputs.values())).shape[:2]
    if lengths is None:
        lengths = torch.full((batch_size,), width)
    # The backward pass begins with the last chunk, and gradients of the weights gather from then on: the longest chunk
    # still has their memory for itself.
    order = lengths.argsort(stable=True)
    shortest_first = lengths[order].tolist()
    parts, end = [], 0
    for rows in order.tensor_split(num_chunks):
        end += len(rows)
        length = max(shortest_first[end - 1], 1)
        part = {name: _cut(value, rows, batch_size, length, width) for name, value in inputs.items()}
        parts.append(part | {name: vector[rows.to(vector.device)] for name, vector in vectors.items()})
    return parts, order


def run_in_chunks(
    function: Callable[..., tuple[torch.Tensor, ...]],
    parts: list[dict[str, Any]],
    order: torch.Tensor | None,
    checkpoint_chunks: bool = False,
) -> tuple[torch.Tensor, ...]:
    """
    Call `function(**part)` chunk by chunk, and put its results into the order of the batch's rows.

    Args:
        function (`Callable`): From tensors whose rows are sentences to a tuple of tensors whose rows are sentences.
        parts, order: What [`cut_into_chunks`] returns.
        checkpoint_chunks (`bool`, *optional*, defaults to `False`): Keep nothing of a chunk for the backward pass but
            its inputs, and compute it a second time there.
    """

    def call(part: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
        if not (checkpoint_chunks and torch.is_grad_enabled()):
            return function(**part)
        # Reentrant checkpointing would detach the inputs. Stopping the second pass as soon as it has what it needs
        # would leave out the hooks with which FSDP frees a layer's weights.
        return checkpoint(function, use_reentrant=False, early_stop=False, **part)

    results = [call(part) for part in parts]
    if order is None:
        return results[0]
    in_order = order.argsort()
    return tuple(torch.cat(result)[in_order.to(result[0].device)] for result in zip(*results, strict=True))


def real_lengths(mask: torch.Tensor) -> torch.Tensor:
    """The number of positions up to the last one that `mask` marks, for each row of `(batch, length)`: `(batch,)`."""
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask.ne(0) * positions).amax(1)


def _cut(value: Any, rows: torch.Tensor, batch_size: int, length: int, width: int) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return value
    if value.shape[0] == batch_size:
        value = value[rows.to(value.device)]
    # Columns behind the longest sentence of the chunk are padding in every row.
    return value[:, :length] if value.dim() > 1 and value.shape[1] == width else value


__all__ = ["check_chunk_size", "count_chunks", "cut_into_chunks", "real_lengths", "run_in_chunks"]
