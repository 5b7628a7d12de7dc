# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""BLEU: how much of a text is kept, and how similar texts are to one another."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU


class BLEUCounts:
    """
    BLEU of a corpus whose texts come in batches. Numbers of n-grams and of words are summed, and no text is
    kept. The score is the [`reconstruction_bleu`] of the whole corpus.
    """

    def __init__(self) -> None:
        # Matching and all n-grams of four orders, and the words of both sides.
        self._counts = np.zeros((2, 4), dtype=np.int64)
        self._lengths = np.zeros(2, dtype=np.int64)

    def update(self, reconstructions: Sequence[str], texts: Sequence[str]) -> "BLEUCounts":
        """Add texts and an equal number of reconstructions, and return this object."""
        if len(reconstructions) != len(texts):
            raise ValueError(
                f"As many reconstructions as texts are needed, got {len(reconstructions)} and {len(texts)}."
            )
        if texts:
            # `force` keeps sacreBLEU from a warning for each batch that its texts look tokenised.
            score = BLEU(force=True).corpus_score(list(reconstructions), [list(texts)])
            self._counts += np.array([score.counts, score.totals])
            self._lengths += np.array([score.sys_len, score.ref_len])
        return self

    def merge(self, other: "BLEUCounts") -> "BLEUCounts":
        """Add the counts of another object, and return this object."""
        self._counts += other._counts
        self._lengths += other._lengths
        return self

    def score(self) -> float:
        """BLEU, from 0 to 100."""
        correct, total = self._counts.tolist()
        return BLEU.compute_bleu(correct, total, *self._lengths.tolist(), smooth_method="exp").score


def reconstruction_bleu(reconstructions: Sequence[str], texts: Sequence[str]) -> float:
    """
    BLEU of reconstructions with the texts as references, from 0 to 100: how much of the texts is kept (Papineni et
    al., ACL 2002). Computed over the whole corpus with the defaults of sacreBLEU: tokens of mteval-v13a, case kept,
    exponential smoothing (Post, WMT 2018).

    Args:
        reconstructions (sequence of `str`): What was decoded from the texts' latents.
        texts (sequence of `str`): The texts, in the same order.

    Raises:
        ValueError: for no text, or for different numbers of texts and reconstructions.
    """
    if not texts:
        raise ValueError(f"As many reconstructions as texts are needed, got {len(reconstructions)} and no text.")
    return BLEUCounts().update(reconstructions, texts).score()


def self_bleu(texts: Sequence[str]) -> float:
    """
    How similar texts are to one another, from 0 to 100: the mean BLEU of each text with all other texts as references
    (Self-BLEU; Zhu et al., "Texygen", SIGIR 2018). Lower is more diverse; 100 means that each text has a duplicate.

    Sentence BLEU is computed by sacreBLEU: n-grams up to the fourth order or the length of the text, exponential
    smoothing, tokens of mteval-v13a. Texygen uses other tokens and another smoothing, so its figures are not
    comparable. An empty text has no n-grams. It counts 100 if another text is empty too, otherwise 0: a model that
    says nothing is not diverse.

    Args:
        texts (sequence of `str`): At least two texts, such as samples of the prior. Time grows with the square of
            their number.

    Raises:
        ValueError: for fewer than two texts, or for an element that is no text.
    """
    texts = list(texts)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if len(texts) < 2 or wrong is not None:
        got = f"{len(texts)}" if wrong is None else f"an element {wrong!r}"
        raise ValueError(f"Self-BLEU compares each text with the others and needs at least two texts, got {got}.")
    bleu = BLEU(effective_order=True)
    number = Counter(text.strip() for text in texts)
    scores = []
    for index, text in enumerate(texts):
        if number[text.strip()] > 1:
            scores.append(100.0)  # the text has a duplicate
        elif not text.strip():
            scores.append(0.0)
        else:
            scores.append(bleu.sentence_score(text, texts[:index] + texts[index + 1 :]).score)
    return sum(scores) / len(scores)
