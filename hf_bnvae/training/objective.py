# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The training objective: reconstruction + beta * KL, with a schedule for beta and free bits for the KL.

The density gap can replace the KL, and an auxiliary can be added. All functions are pure. The model's own loss is
always the negative ELBO; the functions here compose what a training minimises instead.
"""

import math
from typing import Literal

import torch

from ..model.batch_statistics_bnvae import posterior_batch_mean
from ..model.gaussian_bnvae import DiagonalGaussian, normal_log_density
from ..model.loss_bnvae import IGNORE_INDEX

BetaSchedule = Literal["constant", "linear", "cyclical"]
FreeBitsMode = Literal["batch", "optimus"]
Regularizer = Literal["kl", "density_gap"]
AuxiliaryName = Literal["none", "bag_of_words", "tied_bag_of_words"]

# Samples of each posterior, as in the paper.
DENSITY_GAP_SAMPLES = 32

DEFAULT_AUXILIARY_WEIGHT, DEFAULT_AUXILIARY_STEPS = 1.0, 0.5


def beta_at_step(
    step: int,
    total_steps: int,
    schedule: BetaSchedule = "constant",
    beta: float = 1.0,
    zero_ratio: float = 0.25,
    increase_ratio: float = 0.25,
    num_cycles: int = 1,
) -> float:
    """
    The weight of the KL at an optimiser step.

    Args:
        step (`int`): The step, from 0.
        total_steps (`int`): Length of the whole training in steps.
        schedule (`str`, *optional*, defaults to `"constant"`): `"constant"`; `"linear"`: one cycle over the whole
            training (Bowman et al., CoNLL 2016); `"cyclical"`: `num_cycles` cycles (Fu et al., NAACL 2019).
        beta (`float`, *optional*, defaults to 1.0): The constant weight, or the weight that a cycle reaches.
        zero_ratio, increase_ratio (`float`, *optional*, default to 0.25): Shares of a cycle's steps: first the weight
            is 0, then it rises linearly, then it stays at `beta`. The defaults are from Optimus.
        num_cycles (`int`, *optional*, defaults to 1): Number of cycles of `"cyclical"`.

    Returns:
        `float`: The weight. After the last cycle it stays at `beta`.
    """
    if schedule == "constant":
        return beta
    if step >= total_steps:
        return beta
    period = total_steps / (num_cycles if schedule == "cyclical" else 1)
    position = math.fmod(step, period) / period
    if position < zero_ratio:
        return 0.0
    if increase_ratio == 0 or position >= zero_ratio + increase_ratio:
        return beta
    return beta * (position - zero_ratio) / increase_ratio


def free_bits_kl(kl: torch.Tensor, free_bits: float = 0.0, mode: FreeBitsMode = "batch") -> torch.Tensor:
    """
    The KL term of the objective in nats per sentence, of which each dimension has `free_bits` without cost.

    Args:
        kl (`torch.Tensor` of shape `(batch, latent_size)`): KL per sentence and dimension, in nats.
        free_bits (`float`, *optional*, defaults to 0): lambda, in nats per dimension.
        mode (`str`, *optional*, defaults to `"batch"`): `"batch"`: sum_j max(mean of KL_j, lambda), with the mean
            over the whole posterior batch (Kingma et al., NeurIPS 2016, eq. 15). `"optimus"`: a dimension of a
            sentence counts if its KL is above lambda, and counts 0 otherwise (the mask of Li et al., EMNLP 2020).

    Returns:
        `torch.Tensor`: 0-dimensional.
    """
    if mode == "batch":
        return posterior_batch_mean(kl)[0].clamp_min(free_bits).sum()
    return posterior_batch_mean((kl * kl.gt(free_bits)).sum(-1))[0]


def density_gap(posterior: DiagonalGaussian, noise: torch.Tensor) -> torch.Tensor:
    """
    The distance of a batch's aggregated posterior from the prior, in nats, by Monte Carlo.

    It is sum_j KL(q(z_j) || p(z_j)), where q(z_j) is the mean of the batch's posteriors in dimension j. If the
    sentences fill the prior together, they may differ without cost. So this term, unlike the KL, does not limit the
    mutual information.

    DG-VAE: Zhang et al., "Improving Variational Autoencoders with Density Gap-based Regularization", NeurIPS 2022.

    Args:
        posterior ([`DiagonalGaussian`]): The posteriors of a whole posterior batch, `(batch, latent_size)`.
        noise (`torch.Tensor` of shape `(samples, batch, latent_size)`): Standard normal; the paper has 32 samples.

    Returns:
        `torch.Tensor`: 0-dimensional.
    """
    latents = posterior.mean + posterior.std * noise.to(posterior.mean)
    # Each sample under each posterior of the batch: (samples, batch, batch, latent_size).
    logvar = posterior.logvar
    offsets = (latents.unsqueeze(2) - posterior.mean) * torch.exp(-0.5 * logvar)
    log_aggregate = normal_log_density(offsets, logvar).logsumexp(2) - math.log(len(logvar))
    return (log_aggregate - normal_log_density(latents, torch.zeros_like(latents))).mean((0, 1)).sum()


def training_loss(
    reconstruction_nll: torch.Tensor,
    kl: torch.Tensor,
    beta: float = 1.0,
    free_bits: float = 0.0,
    free_bits_mode: FreeBitsMode = "batch",
) -> torch.Tensor:
    """
    The loss of a training: reconstruction + beta * KL with free bits, in nats per sentence of the posterior batch.

    In a distributed training all processes must make this call.

    Args:
        reconstruction_nll (`torch.Tensor` of shape `(batch,)`): -log p(x | z) of the sentences of this process.
        kl (`torch.Tensor` of shape `(batch, latent_size)`): KL of the same sentences.
        beta, free_bits, free_bits_mode (*optional*): As in [`beta_at_step`] and [`free_bits_kl`].

    Returns:
        `torch.Tensor`: 0-dimensional, the same on all processes of a distributed training.
    """
    reconstruction, _ = posterior_batch_mean(reconstruction_nll)
    return reconstruction + beta * free_bits_kl(kl, free_bits, free_bits_mode)


def auxiliary_weight_at_step(
    step: int,
    total_steps: int,
    weight: float = DEFAULT_AUXILIARY_WEIGHT,
    steps: float = DEFAULT_AUXILIARY_STEPS,
) -> float:
    """
    The weight of an auxiliary at an optimiser step. It falls linearly to 0.

    Args:
        step (`int`): The step, from 0.
        total_steps (`int`): Length of the whole training in steps.
        weight (`float`, *optional*, defaults to 1.0): The weight at step 0.
        steps (`float`, *optional*, defaults to 0.5): The step from which on the weight is 0. A number up to 1 is a
            share of the training.

    Returns:
        `float`: The weight, never negative.
    """
    end = steps * total_steps if steps <= 1 else steps
    return weight * max(0.0, 1 - step / end)


def bag_of_words_nll(logits: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
    """
    How badly one distribution over the vocabulary predicts which tokens stand in a sentence, in nats per sentence.

    It is -sum_t log p(x_t | z) over the tokens of the sentence, with repeats and without order. EOS, which every
    sentence has, is left out.

    Zhao et al., "Learning Discourse-level Diversity for Neural Dialog Models using Conditional Variational
    Autoencoders", ACL 2017, section 3.3.

    Args:
        logits (`torch.Tensor` of shape `(batch, vocab_size)`): One distribution for each sentence.
        labels (`torch.LongTensor` of shape `(batch, target_length)`): The sentences as the model takes them: ending
            in EOS, and padded on the right with -100.

    Returns:
        `torch.Tensor` of shape `(batch,)`
    """
    # A token is no EOS if another token follows it.
    is_word = torch.zeros_like(labels, dtype=torch.bool)
    is_word[:, :-1] = labels[:, 1:].ne(IGNORE_INDEX)
    log_probs = logits.log_softmax(-1).gather(-1, labels.masked_fill(~is_word, 0))
    return -(log_probs * is_word).sum(-1)
