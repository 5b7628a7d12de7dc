# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Several sentences in one row of a network's input, instead of one padded row for each.

A position sees its own sentence only. Its number counts from the start of its sentence, and in the decoder it sees the
latent of its sentence. Packed and padded rows give the same results, to rounding.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs

from .loss_bnvae import IGNORE_INDEX

# Rows have the width of the longest sentence, or this width if it is larger. Wide rows leave little room empty, and at
# this width attention, which grows with the width, is still cheap.
LEAST_WIDTH = 64
# The largest share of the padded rows' positions that packed rows may have. Above it, packing is not worth the masks.
MOST_POSITIONS = 0.9
NOTHING, NO_MEMBER = -1, -2
# The widths to try: the mean number of positions of a row, and these numbers more.
_SLACKS = (0, 1, 2, 4)

# Networks that take their positions and masks from the caller.
_ENCODERS = ("bert", "electra", "roberta")
_DECODERS = ("gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "gemma")


@dataclass(frozen=True)
class Packing:
    """
    The place of each position of a padded batch in rows that hold several sentences.

    Args:
        index (`torch.LongTensor` of shape `(batch, length)`): The place in the flattened rows. Padding has the place
            of its sentence's first position.
        mask (`torch.BoolTensor` of shape `(batch, length)`): Which positions of the padded batch are real.
        sentences (`torch.LongTensor` of shape `(rows, width)`): The sentence of each place; -1 for an empty place.
        positions (`torch.LongTensor` of shape `(rows, width)`): The position in that sentence.
        members (`torch.LongTensor` of shape `(rows, most)`): The sentences of each row; -2 behind the last one.
        length (`int`): The number of positions of the longest sentence.
    """

    index: torch.Tensor
    mask: torch.Tensor
    sentences: torch.Tensor
    positions: torch.Tensor
    members: torch.Tensor
    length: int

    def pack(self, values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """Put numbers for each position of the padded batch, `(batch, at least length)`, into rows: `(rows, width)`.
        `fill` stands at empty places."""
        places = self.sentences.clamp_min(0) * values.shape[1] + self.positions
        return values.flatten()[places].masked_fill(self.sentences.eq(NOTHING), fill)

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """Bring vectors for each place, `(rows, width, size)`, back into the padded batch: `(batch, length, size)`.
        Padding gets the vector of its sentence's first position."""
        return F.embedding(self.index, values.flatten(0, 1))

    def sum_by_sentence(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over each sentence, `(batch,)`, of numbers for each place, `(rows, width)`."""
        return (values.flatten()[self.index] * self.mask).sum(-1)

    def repeat_for_places(self, values: torch.Tensor) -> torch.Tensor:
        """For each place the vector of its sentence, `(rows, width, size)`, from `(batch, size)`."""
        return F.embedding(self.sentences.clamp_min(0), values)

    def arrange_by_row(self, values: torch.Tensor) -> torch.Tensor:
        """For each row the vectors of its sentences, `(rows, most, size)`, from `(batch, size)`."""
        return F.embedding(self.members.clamp_min(0), values)

    def encoder_inputs(
        self, encoder: PreTrainedModel, input_ids: torch.Tensor, **kinds: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The arguments of `encoder` for the padded batch `input_ids`, `(batch, length)`, and its `token_type_ids`."""
        return {
            "input_ids": self.pack(input_ids, fill=encoder.config.pad_token_id or 0),
            "attention_mask": self.attention_mask(),
            "position_ids": self._encoder_positions(encoder, input_ids),
            **{name: self.pack(values) for name, values in kinds.items()},
        }

    def decoder_inputs(
        self, input_ids: torch.Tensor, labels: torch.Tensor, start_token_id: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Input ids and labels of the padded batch, each `(batch, length)`, as rows: each `(rows, width)`. Empty
        places hold the start token, and -100 as their label."""
        return self.pack(input_ids, fill=start_token_id), self.pack(labels, fill=IGNORE_INDEX)

    def attention_mask(self, is_causal: bool = False, has_slots: bool = False) -> torch.Tensor:
        """
        Which places each place sees: the places of the same sentence.

        Args:
            is_causal (`bool`, *optional*, defaults to `False`): Whether a place does not see the places behind it.
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

    def _encoder_positions(self, encoder: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
        """The position numbers of the places, `(rows, width)`, as `encoder` counts them."""
        if encoder.config.model_type != "roberta":
            return self.positions
        # RoBERTa counts the tokens that are no padding token, starting behind the number of that token.
        padding = encoder.embeddings.padding_idx
        is_token = input_ids.ne(padding)
        return self.pack(is_token.cumsum(1) * is_token + padding, fill=padding)


def pack_for_encoder(encoder: PreTrainedModel, masks: Sequence[torch.Tensor]) -> list[Packing | None]:
    """
    How the sentences of each part of a batch share rows of an encoder.

    Args:
        encoder (`PreTrainedModel`): The encoder.
        masks (sequence of `torch.Tensor` of shape `(batch, length)`): Nonzero for real positions, one mask for each
            part.

    Returns:
        `list[Packing | None]`: `None` for a part that is padded. That is every part if the encoder does not take
        several sentences in a row, if a sentence has no position, or if padding stands ahead of a position.
    """
    real = [mask.ne(0) for mask in masks]
    if not (_encoder_can_pack(encoder) and all(_is_padded_on_the_right(mask) for mask in real)):
        return [None] * len(real)
    return [pack_sentences(mask.sum(1)) for mask in real]


def pack_for_decoder(decoder: PreTrainedModel, masks: Sequence[torch.Tensor]) -> list[Packing | None]:
    """
    How the sentences of each part of a batch share rows of a decoder.

    Args:
        decoder (`PreTrainedModel`): The decoder.
        masks (sequence of `torch.BoolTensor` of shape `(batch, length)`): Real positions, padded on the right, one
            mask for each part.

    Returns:
        `list[Packing | None]`: `None` for a part that is padded. That is every part if the decoder does not take
        several sentences in a row.
    """
    if not _decoder_can_pack(decoder):
        return [None] * len(masks)
    return [pack_sentences(mask.sum(1)) for mask in masks]


def _encoder_can_pack(encoder: PreTrainedModel) -> bool:
    config = encoder.config
    # Feed-forward layers that cut a row into pieces demand a width that is a multiple of their size.
    cuts_rows = getattr(config, "chunk_size_feed_forward", 0)
    return _is_known(encoder, _ENCODERS) and not (getattr(config, "is_decoder", False) or cuts_rows)


def _decoder_can_pack(decoder: PreTrainedModel) -> bool:
    windows = [kwargs.get("sliding_window") for kwargs in get_layer_types_and_kwargs(decoder.config)[1]]
    return _is_known(decoder, _DECODERS) and all(window is None for window in windows)


def _is_known(network: PreTrainedModel, known: tuple[str, ...]) -> bool:
    # Eager attention computes its softmax in single precision, which rounds differently in other rows. A class from
    # elsewhere, or one that PEFT has wrapped, may treat masks in its own way.
    is_own_class = type(network).__module__.startswith("transformers.models.")
    return is_own_class and network.config.model_type in known and network.config._attn_implementation == "sdpa"


def _is_padded_on_the_right(mask: torch.Tensor) -> bool:
    """Whether each row of `(batch, length)` begins with a real position and has padding only behind the last one."""
    return bool(mask[:, 0].all() & ~(mask[:, 1:] & ~mask[:, :-1]).any())


def pack_sentences(lengths: torch.Tensor) -> Packing | None:
    """
    Rows for sentences of these lengths. Each sentence, the longest first, goes where the least room is left.

    Args:
        lengths (`torch.Tensor` of shape `(batch,)`): The number of positions of each sentence.

    Returns:
        [`Packing`], on the device of `lengths`; `None` if packing saves less than a tenth of the positions.
    """
    counts = [max(length, 1) for length in lengths.tolist()]
    if not counts:
        return None
    longest, batch_size, total = max(counts), len(counts), sum(counts)
    members, width = _best_fit(counts, max(longest, LEAST_WIDTH))
    # With few rows the last one may be nearly empty. So use the least width that needs no further row.
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
    return Packing(*(tensor.to(lengths.device, non_blocking=True) for tensor in tensors), length=longest)


def _best_fit(counts: list[int], capacity: int) -> tuple[list[list[int]], int]:
    """The sentences of each row, where a row holds at most `capacity` positions, and the positions of the fullest
    row."""
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


__all__ = ["Packing", "pack_for_decoder", "pack_for_encoder", "pack_sentences"]
