# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Seeds made of several numbers, such as that of a run and a step."""

import numpy as np
import torch


def mix_seeds(*numbers: int) -> int:
    """One seed from several numbers, without the collisions of their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seeded_generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU that is seeded with [`mix_seeds`]."""
    return torch.Generator().manual_seed(mix_seeds(*numbers))
