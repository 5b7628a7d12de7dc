# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""From texts to the encoder's features, in batches of similar length."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from transformers.utils import logging

# A progress bar over fewer batches would be gone before anyone could read it.
MIN_BATCHES_FOR_PROGRESS = 8
# The number of batches whose texts are tokenized together.
TOKENIZED_BATCHES = 64
# The least number of texts of one length that go through the encoder by themselves. Fewer would keep it less busy.
_ENOUGH_OF_ONE_LENGTH = 16


def encode_in_batches(
    model: Any,
    processor: Any,
    texts: Sequence[str],
    batch_size: int,
    show_progress: bool | None = None,
    conditions: Sequence[str] | None = None,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """
    The encoder's features of texts. Every way from texts to latents goes through this function.

    Args:
        model ([`BNVAEModel`]): The model, on whose device the features are made.
        processor ([`BNVAEProcessor`]): Its processor.
        texts (sequence of `str`): The texts.
        batch_size (`int`): The largest number of texts that are encoded at once.
        show_progress (`bool`, *optional*): Whether to draw a progress bar; by default for 8 batches or more.
        conditions (sequence of `str`, *optional*): For a conditional model, the condition of each text.

    Yields:
        `tuple`: the places of some texts, and their features as [`~BNVAEEncoderSide.features`] returns them, `(places,
        hidden_size)`. Each text comes once, and the order is by length.
    """
    batches = batches_of_similar_length(texts, processor, batch_size, conditions)
    for parts in with_progress(batches, len(texts), batch_size, show_progress, "Encoding"):
        for places, inputs in parts:
            tensors = {name: torch.tensor(rows, device=model.device) for name, rows in inputs.items()}
            yield places, model.features(**tensors)


def batches_of_similar_length(
    texts: Sequence[str], processor: Any, batch_size: int, conditions: Sequence[str] | None = None
) -> Iterator[list[tuple[list[int], dict[str, list[list[int]]]]]]:
    """The places of texts and the encoder's inputs for them, batch by batch. A batch holds texts of similar length, so
    that it has little padding. Enough texts of one length in a batch are a part of their own, without padding."""
    # All texts are sorted by their characters, and the texts of some batches by their tokens.
    sizes = [len(text) for text in texts]
    if conditions is not None:
        sizes = [size + len(condition) for size, condition in zip(sizes, conditions, strict=True)]
    order = sorted(range(len(texts)), key=sizes.__getitem__)
    for start in range(0, len(order), batch_size * TOKENIZED_BATCHES):
        places = order[start : start + batch_size * TOKENIZED_BATCHES]
        given = {} if conditions is None else {"condition": [conditions[place] for place in places]}
        tokens = processor([texts[place] for place in places], return_labels=False, **given)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        by_tokens = sorted(range(len(places)), key=lengths.__getitem__)
        for first in range(0, len(places), batch_size):
            parts, others = [], []
            for _, group in groupby(by_tokens[first : first + batch_size], key=lengths.__getitem__):
                rows = list(group)
                if len(rows) >= _ENOUGH_OF_ONE_LENGTH:
                    parts.append(rows)
                else:
                    others += rows
            yield [
                (
                    [places[row] for row in rows],
                    processor.pad({name: [values[row] for row in rows] for name, values in tokens.items()}),
                )
                for rows in (*parts, others)
                if rows
            ]


def with_progress(
    batches: Iterable[Any], count: int, batch_size: int, show_progress: bool | None, description: str
) -> Iterable[Any]:
    """The batches of `count` items, with a progress bar if `show_progress` says so, or if it is `None` and the batches
    are many enough for a bar to be read."""
    total = math.ceil(count / batch_size)
    show = total >= MIN_BATCHES_FOR_PROGRESS if show_progress is None else show_progress
    return logging.tqdm(batches, total=total, desc=description, disable=not show, leave=False)


__all__ = ["TOKENIZED_BATCHES", "batches_of_similar_length", "encode_in_batches", "with_progress"]
