# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The encoder's features of texts, and their posteriors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..model.gaussian_bnvae import DiagonalGaussian
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..model.text_encoding_bnvae import encode_in_batches
from ..utils.modes import preserved_modes


@dataclass(frozen=True)
class EncodedTexts:
    """
    The encoder's features of texts and their posteriors, on the CPU and in the order of the texts.

    Args:
        features (`torch.Tensor` of shape `(texts, hidden_size)`): The encoder's pooled features, from which the head
            makes the posteriors.
        mean, logvar (`torch.Tensor` of shape `(texts, latent_size)`): The posteriors.
    """

    features: torch.Tensor
    mean: torch.Tensor
    logvar: torch.Tensor

    @property
    def posterior(self) -> DiagonalGaussian:
        """The posteriors as distributions."""
        return DiagonalGaussian(self.mean, self.logvar)

    def draw(self, seed: int) -> torch.Tensor:
        """One draw from each posterior, `(texts, latent_size)`. Together they are a sample of the aggregated
        posterior."""
        return self.posterior.sample(generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def encode_corpus(
    model: BNVAEModel,
    processor: BNVAEProcessor,
    texts: Sequence[str],
    batch_size: int = 64,
    show_progress: bool = False,
    conditions: Sequence[str] | None = None,
) -> EncodedTexts:
    """
    Posteriors and encoder features of texts, in evaluation mode. Afterwards the model has its mode of before.

    Args:
        model ([`BNVAEModel`]): The model.
        processor ([`BNVAEProcessor`]): Its processor.
        texts (sequence of `str`): The texts.
        batch_size (`int`, *optional*, defaults to 64): The number of texts that are encoded at once.
        show_progress (`bool`, *optional*, defaults to `False`): Whether to draw a progress bar.
        conditions (sequence of `str`, *optional*): For a conditional model, the condition of each text.

    Returns:
        [`EncodedTexts`]

    Raises:
        ValueError: without a text, for a batch size below 1, and if the running statistics were never estimated.
    """
    if not len(texts):
        raise ValueError("There is no text to encode.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    model.posterior.require_estimated()
    places: list[int] = []
    parts: dict[str, list[torch.Tensor]] = {"features": [], "mean": [], "logvar": []}
    with preserved_modes(model):
        model.eval()
        for some, features in encode_in_batches(model, processor, texts, batch_size, show_progress, conditions):
            posterior = model.posterior(features)
            places += some
            for name, values in (("features", features), ("mean", posterior.mean), ("logvar", posterior.logvar)):
                parts[name].append(values.cpu())
    in_order = torch.tensor(places).argsort()
    return EncodedTexts(**{name: torch.cat(values)[in_order] for name, values in parts.items()})
