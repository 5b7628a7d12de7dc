# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Noise of an evaluation: each sentence has its own, whichever batch and whichever process it is in."""

from collections.abc import Iterable

import numpy as np
import torch

# What a draw is for. The numbers are part of the seed.
RECONSTRUCTION, IMPORTANCE, INFORMATION, PRIOR = range(4)


def sentence_noise(seed: int, purpose: int, indices: Iterable[int], *shape: int) -> torch.Tensor:
    """
    Standard normal noise, drawn for each sentence from the seed, the purpose and the sentence's place in the data
    alone, so that a figure depends neither on batches nor on processes nor on the device. A longer draw begins with
    the shorter one.

    Args:
        seed (`int`): Seed of the evaluation, 0 or more.
        purpose (`int`): `RECONSTRUCTION`, `IMPORTANCE`, `INFORMATION` or `PRIOR`.
        indices (iterable of `int`): The sentences' places in the data.
        *shape (`int`): Shape of one sentence's noise.

    Returns:
        `torch.Tensor` of shape `(sentences, *shape)`: In float64, on the CPU.
    """
    draws = [np.random.default_rng((seed, purpose, index)).standard_normal(shape) for index in indices]
    return torch.from_numpy(np.stack(draws))
