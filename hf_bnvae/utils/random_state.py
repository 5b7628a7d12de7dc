# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Random numbers that depend on their purpose, and not on earlier draws."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix_seeds(*numbers: int) -> int:
    """One seed from several numbers, without the collisions of their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seeded_generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU that is seeded with [`mix_seeds`]."""
    return torch.Generator().manual_seed(mix_seeds(*numbers))


@contextmanager
def preserved_random_state(seed: int) -> Iterator[None]:
    """Draw random numbers from `seed` inside the block, and restore every generator afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


# What a draw is for. The numbers are part of the seed.
RECONSTRUCTION, IMPORTANCE, INFORMATION, PRIOR = range(4)


def sentence_noise(seed: int, purpose: int, indices: Iterable[int], *shape: int) -> torch.Tensor:
    """
    Standard normal noise for sentences.

    Each sentence's noise depends only on the seed, the purpose and the sentence's place in the data. So a figure does
    not depend on batches, processes or the device. A longer draw begins with the values of a shorter draw.

    Args:
        seed (`int`): Seed of the evaluation, 0 or more.
        purpose (`int`): `RECONSTRUCTION`, `IMPORTANCE`, `INFORMATION` or `PRIOR`.
        indices (iterable of `int`): The sentences' places in the data.
        *shape (`int`): Shape of one sentence's noise.

    Returns:
        `torch.Tensor` of shape `(sentences, *shape)`: float64, on the CPU.
    """
    draws = [np.random.default_rng((seed, purpose, index)).standard_normal(shape) for index in indices]
    return torch.from_numpy(np.stack(draws))
