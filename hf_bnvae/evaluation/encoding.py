# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Texts as the encoder side sees them: features and posteriors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm.auto import tqdm

from ..model.gaussian_bnvae import DiagonalGaussian
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..utils.modes import preserved_modes


@dataclass(frozen=True)
class EncodedTexts:
    """
    Texts as a model's encoder side sees them, on the CPU and in the order of the texts.

    Args:
        features (`torch.Tensor` of shape `(texts, hidden_size)`): The encoder's pooled features, which go into the
            head.
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
        """One draw from each posterior, `(texts, latent_size)`: together a sample of the aggregated posterior."""
        return self.posterior.sample(generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def encode_corpus(
    model: BNVAEModel,
    processor: BNVAEProcessor,
    texts: Sequence[str],
    batch_size: int = 64,
    show_progress: bool = False,
) -> EncodedTexts:
    """
    Posteriors and encoder features of texts, in evaluation mode, whatever mode the model is in; it is left as it was.

    Args:
        model ([`BNVAEModel`]): The model.
        processor ([`BNVAEProcessor`]): Its processor.
        texts (sequence of `str`): The texts.
        batch_size (`int`, *optional*, defaults to 64): Texts that are encoded at once.
        show_progress (`bool`, *optional*, defaults to `False`): Whether to draw a progress bar.

    Returns:
        [`EncodedTexts`]

    Raises:
        ValueError: for no text, a batch size below 1, or running statistics that were never estimated.
    """
    if not len(texts):
        raise ValueError("There is no text to encode.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    model.posterior.require_estimated()
    seen: list[torch.Tensor] = []

    def remember(head: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen.append(inputs[0])

    # Texts of like length share a batch: less padding.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    parts: dict[str, list[torch.Tensor]] = {"features": [], "mean": [], "logvar": []}
    hook = model.posterior.register_forward_pre_hook(remember)
    try:
        with preserved_modes(model):
            model.eval()
            starts = range(0, len(order), batch_size)
            for start in tqdm(starts, desc="Encoding", disable=not show_progress, leave=False):
                rows = order[start : start + batch_size]
                batch = processor([texts[row] for row in rows], return_tensors="pt").to(model.device)
                posterior = model.encode(batch["input_ids"], batch["attention_mask"])
                for name, values in (
                    ("features", seen.pop()),
                    ("mean", posterior.mean),
                    ("logvar", posterior.logvar),
                ):
                    parts[name].append(values.cpu())
    finally:
        hook.remove()
    back = torch.tensor(order).argsort()
    return EncodedTexts(**{name: torch.cat(values)[back] for name, values in parts.items()})
