# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which sentences of a corpus the expensive figures are of."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from ..model.gaussian_bnvae import DiagonalGaussian
from ..model.loss_bnvae import IGNORE_INDEX


@dataclass(frozen=True)
class ChosenSentence:
    """
    A sentence with what the expensive figures need of it, on the CPU.

    Args:
        place (`int`): Its place in the data.
        labels (`torch.LongTensor` of shape `(length,)`): Its token ids, without padding.
        mean, logvar (`torch.Tensor` of shape `(latent_size,)`): Its posterior.
        num_words (`int`, *optional*): Its words, one more for its end; `None` if its text is not known.
        condition_ids (`torch.LongTensor` of shape `(condition_length,)`, *optional*): The token ids of its condition,
            if the model takes one.
    """

    place: int
    labels: torch.LongTensor
    mean: torch.Tensor
    logvar: torch.Tensor
    num_words: int | None
    condition_ids: torch.LongTensor | None = None

    @property
    def num_positions(self) -> int:
        """The decoder's positions that the sentence takes with its condition."""
        return len(self.labels) + (0 if self.condition_ids is None else len(self.condition_ids))


class ChosenSentences:
    """
    A sample of a corpus that is read sentence by sentence.

    Each place in the data has a number, the hash of the place. The sentences with the smallest numbers are chosen. So
    the choice is spread over the whole corpus. It is the same for every model, seed, batch size and number of
    processes, and a smaller sample is part of a larger one.

    Args:
        count (`int`): The most sentences to choose.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._heap: list[tuple[int, int, ChosenSentence]] = []  # the largest number first

    def wants(self, place: int) -> bool:
        """Whether the sentence at this place belongs to the sample so far."""
        return len(self._heap) < self.count or -order(place) > self._heap[0][0]

    def add(self, sentence: ChosenSentence) -> None:
        """Add a sentence, for which another one may have to leave."""
        entry = (-order(sentence.place), sentence.place, sentence)
        if len(self._heap) < self.count:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def merge(self, other: "ChosenSentences") -> None:
        """Add the sentences of another sample, of other places."""
        for _, _, sentence in other._heap:
            self.add(sentence)

    def first(self, count: int) -> list[ChosenSentence]:
        """The first `count` sentences of the sample, in an order that has nothing to do with their places."""
        return [sentence for _, _, sentence in sorted(self._heap, key=lambda entry: -entry[0])[:count]]


def order(place: int) -> int:
    """The number by which the sentence at a place is chosen."""
    digest = hashlib.blake2b(place.to_bytes(8, "little"), digest_size=8, person=b"hf_bnvae").digest()
    return int.from_bytes(digest, "little")


def decoder_targets(sentences: Sequence[ChosenSentence], device: torch.device) -> dict[str, torch.LongTensor]:
    """What a model's decoder is given of sentences, padded with -100: `labels`, and of a conditional model also
    `condition_ids`."""
    labels = _padded([sentence.labels for sentence in sentences], device)
    conditions = padded_conditions(sentences, device)
    return {"labels": labels} if conditions is None else {"labels": labels, "condition_ids": conditions}


def padded_conditions(sentences: Sequence[ChosenSentence], device: torch.device) -> torch.LongTensor | None:
    """The token ids of the conditions of sentences, `(sentences, longest)`, padded with -100. `None` if the model
    takes no conditions."""
    if sentences[0].condition_ids is None:
        return None
    return _padded([sentence.condition_ids for sentence in sentences], device)


def _padded(rows: list[torch.LongTensor], device: torch.device) -> torch.LongTensor:
    return pad_sequence(rows, batch_first=True, padding_value=IGNORE_INDEX).to(device)


def partners_within(sentences: Sequence[ChosenSentence]) -> list[tuple[ChosenSentence, ChosenSentence]]:
    """For each sentence the next one of the same condition, and for the last one the first. Sentences that share their
    condition with no other one are left out."""
    groups: dict[tuple[int, ...], list[ChosenSentence]] = {}
    for sentence in sentences:
        if sentence.condition_ids is not None:
            groups.setdefault(tuple(sentence.condition_ids.tolist()), []).append(sentence)
    return [
        pair for group in groups.values() if len(group) > 1 for pair in zip(group, [*group[1:], group[0]], strict=True)
    ]


def posteriors(sentences: list[ChosenSentence], device: torch.device) -> DiagonalGaussian:
    """The posteriors of sentences, `(sentences, latent_size)`."""
    return DiagonalGaussian(
        torch.stack([sentence.mean for sentence in sentences]).to(device),
        torch.stack([sentence.logvar for sentence in sentences]).to(device),
    )
