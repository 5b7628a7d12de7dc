# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Measures of texts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU


class BLEUCounts:
    """
    BLEU of a corpus whose texts come in batches: what it is made of, numbers of n-grams and of words, is summed, so
    that it is the BLEU of the whole ([`reconstruction_bleu`]), and no text is kept.
    """

    def __init__(self) -> None:
        # Matching and all n-grams of four orders, and the words of both sides.
        self._counts = np.zeros((2, 4), dtype=np.int64)
        self._lengths = np.zeros(2, dtype=np.int64)

    def update(self, reconstructions: Sequence[str], texts: Sequence[str]) -> "BLEUCounts":
        """Add texts and what was decoded from their latents, as many, and return this."""
        if len(reconstructions) != len(texts):
            raise ValueError(
                f"As many reconstructions as texts are needed, got {len(reconstructions)} and {len(texts)}."
            )
        if texts:
            # Forced: not to be told of each batch that its texts look tokenised.
            score = BLEU(force=True).corpus_score(list(reconstructions), [list(texts)])
            self._counts += np.array([score.counts, score.totals])
            self._lengths += np.array([score.sys_len, score.ref_len])
        return self

    def merge(self, other: "BLEUCounts") -> "BLEUCounts":
        """Add what another has seen, and return this."""
        self._counts += other._counts
        self._lengths += other._lengths
        return self

    def score(self) -> float:
        """BLEU, from 0 to 100."""
        correct, total = self._counts.tolist()
        return BLEU.compute_bleu(correct, total, *self._lengths.tolist(), smooth_method="exp").score


def reconstruction_bleu(reconstructions: Sequence[str], texts: Sequence[str]) -> float:
    """
    How much of the texts their reconstructions keep: the corpus' BLEU, from 0 to 100 (Papineni et al., ACL 2002), with
    the texts as references, as sacreBLEU computes it by default (tokens of mteval-v13a, case kept, exponential
    smoothing; Post, WMT 2018).

    Args:
        reconstructions (sequence of `str`): What was decoded from the texts' latents.
        texts (sequence of `str`): The texts, as many.

    Raises:
        ValueError: for none, or other numbers of the one than of the other.
    """
    if not texts:
        raise ValueError(f"As many reconstructions as texts are needed, got {len(reconstructions)} and no text.")
    return BLEUCounts().update(reconstructions, texts).score()


def self_bleu(texts: Sequence[str]) -> float:
    """
    How alike texts are, from 0 to 100: the mean of each text's BLEU with all others as its references (Self-BLEU; Zhu
    et al., "Texygen", SIGIR 2018). 100 where each has its double; the lower, the more diverse.

    A sentence's BLEU is sacreBLEU's: n-grams up to the fourth order or the text's length, exponential smoothing,
    tokens of mteval-v13a. Texygen's own has other tokens and another smoothing, so that its figures are not these. An
    empty text, which has no n-grams, counts 100 if another is empty too and else 0: a model that says nothing is not
    diverse.

    Args:
        texts (sequence of `str`): At least two, such as samples of the prior. The cost grows with their number's
            square.

    Raises:
        ValueError: for fewer than two texts, or what is no text.
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
            scores.append(100.0)  # whatever the others are
        elif not text.strip():
            scores.append(0.0)
        else:
            scores.append(bleu.sentence_score(text, texts[:index] + texts[index + 1 :]).score)
    return sum(scores) / len(scores)
