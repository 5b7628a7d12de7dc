"""Counts of what a model does."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from hf_bnvae.model.posterior_bnvae import PosteriorHead


@contextmanager
def encoded_texts() -> Iterator[list[int]]:
    """The number of texts in every pass of a posterior head, which each encoded text goes through."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple) -> None:
        if isinstance(module, PosteriorHead):
            counts.append(len(inputs[0]))

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield counts
    finally:
        hook.remove()
