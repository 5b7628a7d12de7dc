# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""-log p(x | z) of tokens and of sentences, in nats."""

from typing import Any

import torch

# The label of positions that are not scored.
IGNORE_INDEX = -100


def token_nll(scored_logits: torch.Tensor, labels: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """-log p of each label in nats, `(batch, length)`, from the logits `(scored, vocab_size)` of the scored labels. It
    is 0 at positions that are not scored."""
    nll, _ = _TokenNLL.apply(scored_logits, labels[scored])
    return nll.new_zeros(labels.shape).masked_scatter(scored, nll)


def sentence_nll(scored_logits: torch.Tensor, labels: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """-log p of each sentence in nats, `(batch,)`, from the logits `(scored, vocab_size)` of the scored labels."""
    return token_nll(scored_logits, labels, scored).sum(-1)


class _TokenNLL(torch.autograd.Function):
    """The result of `F.cross_entropy(logits, labels, reduction="none")`, at least in single precision, and the
    log-softmax. The backward pass makes one tensor of the logits' size. PyTorch's makes two, and fills one with
    zeros."""

    @staticmethod
    def forward(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
        return -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1), log_probs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, ...]) -> None:
        logits, labels = inputs
        # The log-softmax is an output, so that a second derivative goes through it. A first derivative does not.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1], labels.unsqueeze(-1))
        ctx.dtype = logits.dtype

    @staticmethod
    def backward(
        ctx: Any, of_nll: torch.Tensor | None, of_log_probs: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None]:
        log_probs, labels = ctx.saved_tensors
        gradient = None
        if of_nll is not None:
            of_nll, probs = of_nll.unsqueeze(-1), log_probs.exp()
            # A second differentiation needs both factors as they are.
            gradient = probs * of_nll if torch.is_grad_enabled() else probs.mul_(of_nll)
            gradient.scatter_add_(-1, labels, -of_nll)
        if of_log_probs is not None:
            through = of_log_probs - log_probs.exp() * of_log_probs.sum(-1, keepdim=True)
            gradient = through if gradient is None else gradient + through
        return None if gradient is None else gradient.to(ctx.dtype), None


__all__ = ["IGNORE_INDEX", "sentence_nll", "token_nll"]
