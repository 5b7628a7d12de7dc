# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Running a network over a batch in chunks of rows of like length: less padding, and with activation checkpointing no
more memory than one chunk takes. The result does not depend on the chunks, to rounding."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

# Of the last chunk's positions, for each other. Its backward pass comes first; beside theirs lie gathered gradients.
_ROOM_BESIDE_GRADIENTS = 3 / 4


def count_chunks(lengths: torch.Tensor, chunk_size: int | None, model: nn.Module) -> int:
    """
    Into how many chunks a batch is cut: as few as there can be if none takes more positions than `chunk_size` of the
    longest sentences do.

    Where the weights are sharded over processes (FSDP) each pass of a layer is a collective operation, so all
    processes must make the same number of passes, whatever their batches: the greatest of their numbers.

    Args:
        lengths (`torch.Tensor` of shape `(batch,)`): Each sentence's number of positions.
        chunk_size (`int` or `None`): How many of the longest sentences a chunk holds; `None` for no limit.
        model (`nn.Module`): The model that runs.

    Raises:
        ValueError: on every process, if one has fewer sentences than another has chunks.
    """
    count = 1
    if chunk_size is not None and chunk_size < len(lengths):
        ordered = lengths.sort().values.tolist()
        count = len(_chunk_sizes(ordered, chunk_size * max(ordered[-1], 1)))
    if dist.is_available() and dist.is_initialized() and any(hasattr(p, "full_tensor") for p in model.parameters()):
        extremes = torch.tensor([count, -len(lengths)], device=next(model.parameters()).device)
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        count, fewest = extremes[0].item(), -extremes[1].item()
        if fewest < count:
            raise ValueError(
                f"One process has {fewest} sentences, another cuts its own into {count} chunks, and sharded weights "
                "need the same number of chunks everywhere. Use a larger chunk_size, or batches of like size."
            )
    return count


def cut_into_chunks(
    inputs: Mapping[str, Any], lengths: torch.Tensor, num_chunks: int = 1, **vectors: torch.Tensor
) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
    """
    Keyword arguments for each chunk of a batch: sentences of like length, the longest last, and so many of them that
    the chunk with the most positions has as few as there can be.

    Args:
        inputs (mapping): Keyword arguments. Those with a row for each sentence are cut into chunks, and where they
            have a column for each position, the positions behind a chunk's longest sentence are cut off. All others
            are passed on as they are. The first one has shape `(batch, length)`.
        lengths (`torch.Tensor` of shape `(batch,)`): Each sentence's number of positions from the first to the last
            real one.
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
    # The backward pass begins with the last chunk, and gradients of the weights gather from then on: the longest chunk
    # still has their memory for itself.
    order = lengths.argsort(stable=True)
    shortest_first = lengths[order].tolist()
    parts, end = [], 0
    for rows in order.split(_balanced_sizes(shortest_first, num_chunks)):
        end += len(rows)
        length = max(shortest_first[end - 1], 1)
        part = {name: _cut(value, rows, batch_size, length, width) for name, value in inputs.items()}
        parts.append(part | {name: vector[rows.to(vector.device)] for name, vector in vectors.items()})
    return parts, order


def _chunk_sizes(lengths: list[int], max_positions: int) -> list[int]:
    """The sentences of each chunk, `lengths` being sorted, if every chunk is as large as `max_positions` allow."""
    sizes, end = [], len(lengths)
    while end > 0:
        room = max_positions * (_ROOM_BESIDE_GRADIENTS if sizes else 1)
        size = min(end, max(1, int(room / max(lengths[end - 1], 1))))
        sizes.append(size)
        end -= size
    return sizes[::-1]


def _balanced_sizes(lengths: list[int], num_chunks: int) -> list[int]:
    """The sentences of each of `num_chunks` chunks, so that the largest has as few positions as there can be."""
    longest = max(lengths[-1], 1)
    budgets = range(longest, longest * len(lengths) + 1)
    sizes = _chunk_sizes(
        lengths, budgets[bisect_left(budgets, -num_chunks, key=lambda budget: -len(_chunk_sizes(lengths, budget)))]
    )
    while len(sizes) < num_chunks:  # as another process has more of them
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        half = sizes[largest] // 2
        sizes[largest : largest + 1] = [half, sizes[largest] - half]
    return sizes


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


__all__ = ["count_chunks", "cut_into_chunks", "real_lengths", "run_in_chunks"]
