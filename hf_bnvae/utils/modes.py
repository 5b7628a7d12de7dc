# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Training and evaluation modes of modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserved_modes(model: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of every module of `model` afterwards, also of frozen parts."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
