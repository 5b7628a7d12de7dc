# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The importance-weighted estimate of log p(x), and how much of it fits into one pass of a decoder."""

import math
from collections.abc import Callable, Iterator

import torch

from ..model.chunking_bnvae import real_lengths
from ..model.gaussian_bnvae import DiagonalGaussian, float64_device, in_float64, prior_log_prob
from ..model.loss_bnvae import IGNORE_INDEX
from ..model.modeling_bnvae import BNVAEModel
from ..utils.memory import freed_memory_is_kept

# The most bytes of logits of a pass on the CPU. The C library keeps freed blocks up to this size. Larger blocks go
# back to the system, which clears them for the next pass.
CPU_LOGITS = 32 * 2**20

# Values that are alive at once for each label and each unit of the hidden size, in a layer whose MLP is four times as
# wide. Measured in GPT-2: 22.2.
ACTIVATIONS = 24


@torch.no_grad()
def importance_weighted_nll(
    nll: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    posterior: DiagonalGaussian,
    num_samples: int = 100,
    rows_per_pass: int | Callable[[int], int] = 512,
    noise: Callable[[torch.Tensor], torch.Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """
    -log p(x) of each sentence in nats (Burda et al., ICLR 2016, eq. 8):

        -log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x)

    The expectation of this estimate is an upper bound of -log p(x). It falls with the number of samples K. The model
    may be any -log p(x | z) with any Gaussian q. The weights are summed in float64, as logarithms, one pass after the
    other.

    Args:
        nll (`Callable`): A function that returns -log p(x | z) in nats, `(rows,)`. Its arguments are latents `(rows,
            latent_size)` and, for each of them, the place of its sentence in the batch `(rows,)`. [`decoder_nll`]
            makes such a function from a model.
        posterior ([`DiagonalGaussian`]): q(z | x) of the batch's sentences.
        num_samples (`int`, *optional*, defaults to 100): K.
        rows_per_pass (`int` or `Callable`, *optional*, defaults to 512): The most rows of one call of `nll`. A
            function gets the place of the first sentence of a call; the sentences of the batch must then be sorted,
            the longest first.
        noise (`Callable`, *optional*): A function from the places of sentences `(sentences,)` to the standard normal
            noise of their samples, `(sentences, num_samples, latent_size)`.
        generator (`torch.Generator`, *optional*): Draws the noise if `noise` is not given. The noise of the whole
            batch is drawn at once, so that samples do not depend on passes.

    Returns:
        `torch.Tensor` of shape `(batch,)`: In float64, on the posterior's device.

    Raises:
        ValueError: if `num_samples` or `rows_per_pass` is below 1.
    """
    _require_positive("num_samples", num_samples)
    mean, std, logvar = posterior.mean, posterior.std, posterior.logvar
    batch, latent_size = mean.shape
    if noise is None:
        drawn = torch.randn(num_samples, batch, latent_size, generator=generator, dtype=mean.dtype).transpose(0, 1)
        noise = drawn.__getitem__
    log_sums = torch.full((batch,), -math.inf, dtype=torch.float64, device=float64_device(mean.device))
    for sentences, parts in passes(batch, num_samples, rows_per_pass):
        drawn = noise(sentences)
        for part in (drawn[:, columns] for columns in parts):
            rows = sentences[:, None].expand(part.shape[:2]).flatten()
            own = DiagonalGaussian(mean[rows], logvar[rows])
            latents = own.mean + std[rows] * part.flatten(0, 1).to(mean)
            log_weights = prior_log_prob(latents) - own.log_prob(latents) - nll(latents, rows)
            log_weights = in_float64(log_weights).view(part.shape[:2])
            log_sums[sentences] = torch.logaddexp(log_sums[sentences], log_weights.logsumexp(1))
    return math.log(num_samples) - log_sums


def passes(
    batch: int, num_samples: int, rows_per_pass: int | Callable[[int], int]
) -> Iterator[tuple[torch.LongTensor, list[slice]]]:
    """
    Cut the samples of a batch's sentences into passes of a decoder.

    A pass takes all samples of several sentences. If it has no room for all samples of one sentence, these are split
    into parts of nearly equal size.

    Args:
        batch (`int`): The number of sentences.
        num_samples (`int`): Samples of each sentence.
        rows_per_pass (`int` or `Callable`): As in [`importance_weighted_nll`].

    Yields:
        `tuple`: the places of neighbouring sentences `(sentences,)`, and the parts of their samples, one for each
        pass.
    """
    start = 0
    while start < batch:
        most = _require_positive("rows_per_pass", rows_per_pass(start) if callable(rows_per_pass) else rows_per_pass)
        sentences = torch.arange(start, min(batch, start + max(1, most // num_samples)))
        size = math.ceil(num_samples / math.ceil(num_samples / most))
        yield sentences, [slice(first, min(first + size, num_samples)) for first in range(0, num_samples, size)]
        start += len(sentences)


def _require_positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    return value


def decoder_nll(
    model: BNVAEModel, labels: torch.LongTensor, condition_ids: torch.LongTensor | None = None
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """
    -log p(x | z), or of a conditional model -log p(x | z, c), under the decoder, for [`importance_weighted_nll`].

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode.
        labels (`torch.LongTensor` of shape `(batch, target_length)`): The sentences, padded with -100.
        condition_ids (`torch.LongTensor` of shape `(batch, condition_length)`, *optional*): Their conditions, padded
            with -100.
    """
    lengths = real_lengths(labels.ne(IGNORE_INDEX)).cpu()

    def nll(latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        # Padding after the longest of these sentences costs time and changes nothing.
        chosen = labels[:, : int(lengths[rows].max())][rows.to(labels.device)]
        given = {} if condition_ids is None else {"condition_ids": condition_ids[rows.to(labels.device)]}
        return model(latents=latents, labels=chosen, **given, return_dict=True).reconstruction_nll

    return nll


def rows_within(memory_budget_gib: float, model: BNVAEModel, length: int) -> int:
    """
    The number of sentences of `length` labels that a decoder can score at once within a budget of memory, at least
    one.

    Each label needs memory for its logits and for their log-softmax. The log-softmax is computed in single precision
    at least, for which logits in half precision are copied. In all, each token of the vocabulary takes 8 bytes in
    float32, 10 in bfloat16, and 16 in float64, as measured. Each unit of the hidden size takes `ACTIVATIONS` values
    more. Weights are not counted.

    Args:
        memory_budget_gib (`float`): The budget in GiB (2^30 bytes).
        model ([`BNVAEModel`]): The model.
        length (`int`): Labels of the longest sentence.

    Raises:
        ValueError: for a budget that is not above 0.
    """
    if not memory_budget_gib > 0:
        raise ValueError(f"memory_budget_gib must be above 0, got {memory_budget_gib}.")
    embeddings = model.decoder.get_input_embeddings().weight
    width = embeddings.element_size()
    loss_width = max(width, 4)
    copies = 1 if width == loss_width else 2
    config = model.config.decoder
    vocabulary = config.vocab_size * (width + copies * loss_width)
    activations = ACTIVATIONS * config.hidden_size * width
    return max(1, int(memory_budget_gib * 2**30 / (max(length, 1) * (vocabulary + activations))))


def rows_of_a_pass(memory_budget_gib: float, model: BNVAEModel, length: int) -> int:
    """
    The number of sentences of `length` labels that a decoder scores at once: the number that fits into a budget.

    On the CPU the number is limited to `CPU_LOGITS` bytes of logits, unless freed memory is kept
    ([`~utils.memory.keep_freed_memory`]). Arguments and errors: see [`rows_within`].
    """
    rows = rows_within(memory_budget_gib, model, length)
    if model.device.type != "cpu" or freed_memory_is_kept():
        return rows
    width = model.decoder.get_input_embeddings().weight.element_size()
    return max(1, min(rows, CPU_LOGITS // (max(length, 1) * model.config.decoder.vocab_size * width)))
