# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Training and evaluation modes of modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserved_modes(model: nn.Module) -> Iterator[None]:
    """Every module of `model` is afterwards in training or evaluation mode as before, frozen parts among them."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
