# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What one sentence costs, and what its latent tells the decoder."""

from dataclasses import dataclass

import torch

from ..data.collator import scored_texts
from ..evaluation.decoder_use import estimate_likelihood
from ..evaluation.importance import decoder_nll
from ..model.modeling_bnvae import BNVAEModel

DRAWS = 100


@dataclass(frozen=True)
class SentenceFigures:
    """
    Figures of one sentence, all in nats, under the prior N(0, I).

    Args:
        kl (`torch.FloatTensor` of shape `(latent_size,)`): The KL of its posterior in each dimension.
        decoder_information (`float`): How much of the KL the decoder uses.
        error (`float`): The standard deviation of that estimate.
        iw_nll (`float`): What the sentence costs without its latent, -log p(x).
        rate (`float`, *optional*): The KL that training held at least, on average; `None` without a floor.
    """

    kl: torch.Tensor
    decoder_information: float
    error: float
    iw_nll: float
    rate: float | None

    def __str__(self) -> str:
        kl = self.kl.sum().item()
        floor = "" if self.rate is None else f" (the model's rate: {self.rate:.1f})"
        return (
            f"The latent of this text holds **{kl:.1f} nats**{floor}, and the decoder uses "
            f"**{self.decoder_information:.1f}** ± {self.error:.1f} of them. Without a latent the text costs "
            f"{self.iw_nll:.1f} nats."
        )


@torch.no_grad()
def sentence_figures(model: BNVAEModel, text: str, seed: int = 0, condition: str | None = None) -> SentenceFigures:
    """
    The figures of one sentence.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor.
        text (`str`): The sentence.
        seed (`int`, *optional*, defaults to 0): Seed of the draws.
        condition (`str`, *optional*): Its condition, for a conditional model.

    Raises:
        ValueError: for an empty text.
    """
    posterior = next(iter(model.text_posteriors([text], show_progress=False, condition=condition)))[1]
    features = model.processor(text, return_tensors="pt", condition=condition).to(model.device)
    estimate = estimate_likelihood(
        decoder_nll(model, **scored_texts(features)), posterior, DRAWS, generator=torch.Generator().manual_seed(seed)
    )
    return SentenceFigures(
        kl=posterior.kl()[0].cpu(),
        decoder_information=estimate.decoder_information.item(),
        error=estimate.variance.clamp(min=0).sqrt().item(),
        iw_nll=estimate.iw_nll.item(),
        rate=model.config.kl_floor or None,
    )
