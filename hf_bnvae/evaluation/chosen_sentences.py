# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which sentences of a corpus the expensive figures are of."""

import hashlib
import heapq
from dataclasses import dataclass

import torch

from ..model.gaussian_bnvae import DiagonalGaussian


@dataclass(frozen=True)
class ChosenSentence:
    """
    A sentence with what the expensive figures need of it, on the CPU.

    Args:
        place (`int`): Its place in the data.
        labels (`torch.LongTensor` of shape `(length,)`): Its token ids, without padding.
        mean, logvar (`torch.Tensor` of shape `(latent_size,)`): Its posterior.
        num_words (`int`, *optional*): Its words, one more for its end; `None` if its text is not known.
    """

    place: int
    labels: torch.LongTensor
    mean: torch.Tensor
    logvar: torch.Tensor
    num_words: int | None


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


def posteriors(sentences: list[ChosenSentence], device: torch.device) -> DiagonalGaussian:
    """The posteriors of sentences, `(sentences, latent_size)`."""
    return DiagonalGaussian(
        torch.stack([sentence.mean for sentence in sentences]).to(device),
        torch.stack([sentence.logvar for sentence in sentences]).to(device),
    )
