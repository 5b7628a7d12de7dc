# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Several sentences in one row of a network's input, rather than padding: each position sees those of its own
sentence, counts from that one's start, and in the decoder sees that one's latent. To rounding, the result is that of
padded rows."""

import math
from bisect import bisect_left, insort
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

# Rows are as wide as the longest sentence, but at least so wide: little room is left over, and attention, which grows
# with the width, is still cheap.
LEAST_WIDTH = 64
# Of the positions that padded rows have: with more, packing is not worth the masks.
MOST_POSITIONS = 0.9
NOTHING, NO_MEMBER = -1, -2
# Positions beyond the mean of the rows that are tried.
_SLACKS = (0, 1, 2, 4)

# Networks that take positions and masks of their own.
_ENCODERS = ("bert", "electra", "roberta")
_DECODERS = ("gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "gemma")


@dataclass(frozen=True)
class Packing:
    """
    Where each position of a padded batch lies in rows that hold several sentences.

    Args:
        index (`torch.LongTensor` of shape `(batch, length)`): The place in the flattened rows; for padding, that of
            the sentence's first position.
        mask (`torch.BoolTensor` of shape `(batch, length)`): Which positions of the padded batch are real.
        sentences (`torch.LongTensor` of shape `(rows, width)`): Whose each place is; -1 where there is nothing.
        positions (`torch.LongTensor` of shape `(rows, width)`): Which position of that sentence.
        members (`torch.LongTensor` of shape `(rows, most)`): The sentences of each row; -2 behind the last one.
    """

    index: torch.Tensor
    mask: torch.Tensor
    sentences: torch.Tensor
    positions: torch.Tensor
    members: torch.Tensor

    @property
    def length(self) -> int:
        """How many positions the longest sentence has."""
        return self.index.shape[1]

    def pack(self, values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """Numbers for each position of the padded batch, `(batch, at least length)`, as rows: `(rows, width)`."""
        places = self.sentences.clamp_min(0) * values.shape[1] + self.positions
        return values.flatten()[places].masked_fill(self.sentences.eq(NOTHING), fill)

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """Vectors for each place, `(rows, width, size)`, as in the padded batch: `(batch, length, size)`. Where that
        has padding stand the sentence's first ones."""
        return F.embedding(self.index, values.flatten(0, 1))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Of numbers for each place, `(rows, width)`, the sum of each sentence: `(batch,)`."""
        return (values.flatten()[self.index] * self.mask).sum(-1)

    def of_places(self, values: torch.Tensor) -> torch.Tensor:
        """Vectors for each sentence, `(batch, size)`, at all of its places: `(rows, width, size)`."""
        return F.embedding(self.sentences.clamp_min(0), values)

    def of_members(self, values: torch.Tensor) -> torch.Tensor:
        """Vectors for each sentence, `(batch, size)`, row by row: `(rows, most, size)`."""
        return F.embedding(self.members.clamp_min(0), values)

    def attention_mask(self, is_causal: bool = False, has_slots: bool = False) -> torch.Tensor:
        """
        What each place sees: those of its own sentence.

        Args:
            is_causal (`bool`, *optional*, defaults to `False`): Whether it sees none behind it.
            has_slots (`bool`, *optional*, defaults to `False`): Whether the first keys are slots, one for each member.

        Returns:
            `torch.BoolTensor` of shape `(rows, 1, width, slots + width)`.
        """
        queries = self.sentences.unsqueeze(2)
        visible = queries == self.sentences.unsqueeze(1)
        if is_causal:
            visible = visible.tril()
        if has_slots:
            visible = torch.cat([queries == self.members.unsqueeze(1), visible], 2)
        return visible.unsqueeze(1)


def encoder_can_pack(encoder: PreTrainedModel) -> bool:
    """Whether this encoder takes several sentences in a row."""
    config = encoder.config
    cuts = getattr(config, "chunk_size_feed_forward", 0)  # a row's positions, which must then be a multiple of it
    return _is_known(encoder, _ENCODERS) and not (getattr(config, "is_decoder", False) or cuts)


def decoder_can_pack(decoder: PreTrainedModel) -> bool:
    """Whether this decoder takes several sentences in a row."""
    windows = [kwargs.get("sliding_window") for kwargs in get_layer_types_and_kwargs(decoder.config)[1]]
    return _is_known(decoder, _DECODERS) and all(window is None for window in windows)


def _is_known(network: PreTrainedModel, known: tuple[str, ...]) -> bool:
    # Eager attention has its softmax in single precision, which would round otherwise in other rows. A class of
    # somebody else's, or one that PEFT has put around it, may take masks of its own.
    is_own_class = type(network).__module__.startswith("transformers.models.")
    return is_own_class and network.config.model_type in known and network.config._attn_implementation == "sdpa"


def encoder_positions(encoder: PreTrainedModel, input_ids: torch.Tensor, packing: Packing) -> torch.Tensor:
    """The numbers of the places' positions, `(rows, width)`, for the padded batch `input_ids`, `(batch, length)`."""
    if encoder.config.model_type != "roberta":
        return packing.positions
    # It counts what is no padding token, from that one's own number on.
    padding = encoder.embeddings.padding_idx
    is_token = input_ids.ne(padding)
    return packing.pack(is_token.cumsum(1) * is_token + padding, fill=padding)


def pack_sentences(lengths: torch.Tensor) -> Packing | None:
    """
    Rows for sentences of these lengths, each where the least room is left, the longest first.

    Args:
        lengths (`torch.Tensor` of shape `(batch,)`): Each sentence's number of positions.

    Returns:
        [`Packing`], on the device of `lengths`; `None` where padding takes hardly more positions.
    """
    counts = [max(length, 1) for length in lengths.tolist()]
    if not counts:
        return None
    longest, batch_size, total = max(counts), len(counts), sum(counts)
    members, width = _best_fit(counts, max(longest, LEAST_WIDTH))
    # As narrow as so many rows can be: of a few rows the last one may be as good as empty.
    for slack in _SLACKS:
        capacity = max(longest, math.ceil(total / len(members)) + slack)
        if capacity >= width:
            break
        narrower, own_width = _best_fit(counts, capacity)
        if len(narrower) == len(members):
            members, width = narrower, own_width
            break
    if len(members) * width > MOST_POSITIONS * batch_size * longest:
        return None
    first = [0] * batch_size
    for row, own in enumerate(members):
        start = row * width
        for sentence in own:
            first[sentence] = start
            start += counts[sentence]
    steps = torch.arange(longest)
    mask = steps < torch.tensor(counts).unsqueeze(1)
    index = torch.tensor(first).unsqueeze(1) + torch.where(mask, steps, 0)
    sentences = torch.full((len(members) * width,), NOTHING)
    positions = torch.zeros_like(sentences)
    sentences[index[mask]] = torch.arange(batch_size).unsqueeze(1).expand_as(mask)[mask]
    positions[index[mask]] = steps.expand_as(mask)[mask]
    most = max(map(len, members))
    padded = torch.tensor([row + [NO_MEMBER] * (most - len(row)) for row in members])
    shape = (len(members), width)
    tensors = (index, mask, sentences.view(shape), positions.view(shape), padded)
    return Packing(*(tensor.to(lengths.device, non_blocking=True) for tensor in tensors))


def _best_fit(counts: list[int], capacity: int) -> tuple[list[list[int]], int]:
    """The sentences of each row, where a row holds `capacity` positions at most, and how many the fullest one has."""
    rooms: list[tuple[int, int]] = []
    members: list[list[int]] = []
    for sentence in sorted(range(len(counts)), key=counts.__getitem__, reverse=True):
        place = bisect_left(rooms, (counts[sentence],))
        room, row = rooms.pop(place) if place < len(rooms) else (capacity, len(members))
        if row == len(members):
            members.append([])
        members[row].append(sentence)
        insort(rooms, (room - counts[sentence], row))
    return members, capacity - rooms[0][0]


__all__ = ["Packing", "decoder_can_pack", "encoder_can_pack", "encoder_positions", "pack_sentences"]
