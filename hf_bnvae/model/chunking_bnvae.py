# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How a batch goes through a network: at once, or in chunks of sentences of similar length.

Chunks need less padding. With activation checkpointing a training step needs the memory of one chunk only. The chunks
change no result beyond rounding.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

from .configuration_bnvae import check_chunk_size

# The last chunk is the first one of the backward pass, with no gradients beside it yet. Every other chunk may have
# this share of the last one's positions.
_ROOM_BESIDE_GRADIENTS = 3 / 4


@dataclass
class BatchPlan:
    """
    The passes in which a batch goes through a network.

    Args:
        parts (`list[dict[str, Any]]`): The keyword arguments of each pass.
        order (`torch.LongTensor` of shape `(batch,)`, *optional*): The batch's rows in the order in which the parts
            hold them; `None` where one part holds the batch as it is.
    """

    parts: list[dict[str, Any]]
    order: torch.Tensor | None = None

    def run(self, function: Callable[..., tuple[Any, ...]], checkpoint_chunks: bool = False) -> tuple[Any, ...]:
        """
        Call `function(**part)` for each part, and put the results into the order of the batch's rows.

        Args:
            function (`Callable`): Takes tensors with one row for each sentence, and returns a tuple. Its entries are
                such tensors, tuples of them, or `None`.
            checkpoint_chunks (`bool`, *optional*, defaults to `False`): Keep only a part's inputs for the backward
                pass, which then computes the part a second time.
        """
        if checkpoint_chunks and torch.is_grad_enabled():
            # Reentrant checkpointing would detach the inputs. An early stop of the second computation would leave out
            # the hooks with which FSDP frees the weights of a layer.
            results = [checkpoint(function, use_reentrant=False, early_stop=False, **part) for part in self.parts]
        else:
            results = [function(**part) for part in self.parts]
        if self.order is None:
            return results[0]
        return _join(results, self.order.argsort())


def _join(parts: Sequence[Any], in_order: torch.Tensor) -> Any:
    """The rows of all parts, in the order that `in_order` gives. Tuples are joined entry by entry."""
    if isinstance(parts[0], tuple):
        return tuple(_join(entries, in_order) for entries in zip(*parts, strict=True))
    return None if parts[0] is None else torch.cat(parts)[in_order.to(parts[0].device)]


def plan_chunks(
    inputs: Mapping[str, Any], mask: torch.Tensor, chunk_size: int, model: nn.Module, **vectors: torch.Tensor
) -> BatchPlan:
    """
    The chunks of a batch.

    Args:
        inputs, **vectors: As in [`cut_into_chunks`].
        mask (`torch.Tensor` of shape `(batch, length)`): Nonzero for real positions.
        chunk_size, model: As in [`count_chunks`].

    Raises:
        ValueError: for a chunk size that is no positive number, and as [`count_chunks`].
    """
    check_chunk_size(chunk_size)
    lengths = real_lengths(mask)
    return cut_into_chunks(inputs, lengths, count_chunks(lengths, chunk_size, model), **vectors)


def count_chunks(lengths: torch.Tensor, chunk_size: int, model: nn.Module) -> int:
    """
    The least number of chunks with which no chunk has more positions than `chunk_size` of the longest sentences.

    With weights that are sharded over processes (FSDP), each pass of a layer is a collective operation. All processes
    must then make the same number of passes, so the largest number of any process counts.

    Args:
        lengths (`torch.Tensor` of shape `(batch,)`): The number of positions of each sentence.
        chunk_size (`int`): How many of the longest sentences a chunk holds.
        model (`nn.Module`): The model that runs.

    Raises:
        ValueError: on every process, if a process has fewer sentences than another process has chunks.
    """
    count = 1
    if chunk_size < len(lengths):
        ordered = lengths.sort().values.tolist()
        count = len(_chunk_sizes(ordered, chunk_size * max(ordered[-1], 1)))
    if dist.is_available() and dist.is_initialized() and any(hasattr(p, "full_tensor") for p in model.parameters()):
        extremes = torch.tensor([count, -len(lengths)], device=next(model.parameters()).device)
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        count, fewest = extremes[0].item(), -extremes[1].item()
        if fewest < count:
            raise ValueError(
                f"One process has {fewest} sentences, and another process cuts its batch into {count} chunks. Sharded "
                "weights need the same number of chunks on every process. Use a larger chunk_size, or batches of "
                "similar size."
            )
    return count


def cut_into_chunks(
    inputs: Mapping[str, Any], lengths: torch.Tensor, num_chunks: int, **vectors: torch.Tensor
) -> BatchPlan:
    """
    Cut a batch into chunks of sentences of similar length, the longest sentences last.

    The cut makes the chunk with the most positions as small as possible.

    Args:
        inputs (mapping): Keyword arguments. A tensor with a row for each sentence is cut into chunks. If the tensor
            also has a column for each position, a chunk loses the columns behind its longest sentence. Every other
            argument goes to each chunk as it is. The first argument has the shape `(batch, length)`.
        lengths (`torch.Tensor` of shape `(batch,)`): For each sentence the number of positions up to its last real
            one.
        num_chunks (`int`): Number of chunks, at most the number of sentences. A single chunk is the batch as it is.
        **vectors (`torch.Tensor` of shape `(batch, ...)`): Keyword arguments without positions. Only their rows are
            cut.
    """
    if num_chunks == 1:
        return BatchPlan([{**inputs, **vectors}])
    batch_size, width = next(iter(inputs.values())).shape[:2]
    # The backward pass begins with the last chunk, and the gradients of the weights pile up from then on. The longest
    # chunk comes before them and has all of the memory.
    order = lengths.argsort(stable=True)
    shortest_first = lengths[order].tolist()
    parts, end = [], 0
    for rows in order.split(_balanced_sizes(shortest_first, num_chunks)):
        end += len(rows)
        length = max(shortest_first[end - 1], 1)
        part = {name: _cut(value, rows, batch_size, length, width) for name, value in inputs.items()}
        parts.append(part | {name: vector[rows.to(vector.device)] for name, vector in vectors.items()})
    return BatchPlan(parts, order)


def _chunk_sizes(lengths: list[int], max_positions: int) -> list[int]:
    """The number of sentences of each chunk, where every chunk is as large as `max_positions` allows. `lengths` is
    sorted."""
    sizes, end = [], len(lengths)
    while end > 0:
        room = max_positions * (_ROOM_BESIDE_GRADIENTS if sizes else 1)
        size = min(end, max(1, int(room / max(lengths[end - 1], 1))))
        sizes.append(size)
        end -= size
    return sizes[::-1]


def _balanced_sizes(lengths: list[int], num_chunks: int) -> list[int]:
    """The number of sentences of each of `num_chunks` chunks, where the largest chunk is as small as possible."""
    longest = max(lengths[-1], 1)
    budgets = range(longest, longest * len(lengths) + 1)
    sizes = _chunk_sizes(
        lengths, budgets[bisect_left(budgets, -num_chunks, key=lambda budget: -len(_chunk_sizes(lengths, budget)))]
    )
    while len(sizes) < num_chunks:  # another process has more chunks
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        half = sizes[largest] // 2
        sizes[largest : largest + 1] = [half, sizes[largest] - half]
    return sizes


def real_lengths(mask: torch.Tensor) -> torch.Tensor:
    """The number of positions up to the last one that `mask` marks, for each row of `(batch, length)`: `(batch,)`."""
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask.ne(0) * positions).amax(1)


def _cut(value: Any, rows: torch.Tensor, batch_size: int, length: int, width: int) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return value
    if value.shape[0] == batch_size:
        value = value[rows.to(value.device)]
    # Behind the longest sentence of the chunk every row has padding only.
    return value[:, :length] if value.dim() > 1 and value.shape[1] == width else value


__all__ = ["BatchPlan", "count_chunks", "cut_into_chunks", "plan_chunks", "real_lengths"]
