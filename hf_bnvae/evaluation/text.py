# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Measures of texts."""

from collections.abc import Sequence

import sacrebleu


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
    if len(reconstructions) != len(texts) or not texts:
        raise ValueError(f"As many reconstructions as texts are needed, got {len(reconstructions)} and {len(texts)}.")
    return sacrebleu.corpus_bleu(list(reconstructions), [list(texts)]).score
