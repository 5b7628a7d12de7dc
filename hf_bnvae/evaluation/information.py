# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How much the latent says about the sentence: mutual information under the aggregated posterior."""

import math
from dataclasses import dataclass

import torch

from ..posterior_bnvae import DiagonalGaussian, prior_log_prob

# Of a block of pairs of sentences: 8 MiB, which is faster than more.
BLOCK_ELEMENTS = 2**20

# An estimate so near log N, in nats, may be held down by it.
NEAR_LOG_N = 1.0


@dataclass(frozen=True)
class InformationEstimate:
    """
    Mutual information and marginal KL of a corpus, in nats per sentence.

    Args:
        mutual_information (`float`): E[log q(z|x) - log q(z)], with q(z) the mean of all the corpus' posteriors.
        mutual_information_error (`float`): Its Monte-Carlo standard error over the drawn latents.
        marginal_kl (`float`): E[log q(z) - log p(z)], the distance of the aggregated posterior from the prior. What
            the estimate of the information lacks, this one has too much.
        marginal_kl_error (`float`): Its Monte-Carlo standard error, likewise.
        log_num_sentences (`float`): log N. The estimate of the information cannot exceed it.
    """

    mutual_information: float
    mutual_information_error: float
    marginal_kl: float
    marginal_kl_error: float
    log_num_sentences: float

    @property
    def is_lower_bound(self) -> bool:
        """Whether the estimate is so near log N (within 1 nat) that the truth may be larger."""
        return is_near_log_n(self.mutual_information, self.log_num_sentences)


def is_near_log_n(information: float, log_num_sentences: float) -> bool:
    """Whether an estimate of mutual information from N sentences is within 1 nat of log N, which it cannot exceed: it
    is a lower bound then, and a marginal KL from the same sentences an upper one."""
    return information > log_num_sentences - NEAR_LOG_N


def mutual_information(
    posterior: DiagonalGaussian, generator: torch.Generator | None = None, noise: torch.Tensor | None = None
) -> InformationEstimate:
    """
    Mutual information of sentence and latent, with one latent drawn for each sentence of the corpus.

    The aggregated posterior is that of the whole corpus, each sentence's own posterior included (Hoffman & Johnson
    2016; Dieng et al., AISTATS 2019). Computed in float64 by direct sums, in blocks: the expanded square, as a matrix
    product, loses all digits where some sigma is small.

    Args:
        posterior ([`DiagonalGaussian`]): The posteriors of the N sentences of the corpus.
        generator (`torch.Generator`, *optional*): Where the latents' noise is drawn from.
        noise (`torch.Tensor` of shape `(N, latent_size)`, *optional*): That noise itself, standard normal.

    Returns:
        [`InformationEstimate`]

    Raises:
        ValueError: for fewer than two sentences.
    """
    count = len(posterior.mean)
    if count < 2:
        raise ValueError(f"Mutual information needs the posteriors of at least two sentences, got {count}.")
    if noise is None:
        noise = torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float64)
    posterior = DiagonalGaussian(posterior.mean.double(), posterior.logvar.double())
    latents = posterior.sample(noise.double())
    block = max(1, BLOCK_ELEMENTS // count)
    log_aggregate = torch.cat([_log_aggregate(rows, posterior) for rows in latents.split(block)])
    gain = posterior.log_prob(latents) - log_aggregate
    distance = log_aggregate - prior_log_prob(latents)
    return InformationEstimate(
        mutual_information=gain.mean().item(),
        mutual_information_error=gain.std().item() / math.sqrt(count),
        marginal_kl=distance.mean().item(),
        marginal_kl_error=distance.std().item() / math.sqrt(count),
        log_num_sentences=math.log(count),
    )


def _log_aggregate(latents: torch.Tensor, posterior: DiagonalGaussian) -> torch.Tensor:
    """log of the mean of all posteriors' densities at `latents` `(rows, latent_size)`: `(rows,)`."""
    # A dimension's values stand side by side: those of a column, apart from each other, take three times as long.
    mean, precision = posterior.mean.T.contiguous(), torch.exp(-posterior.logvar).T.contiguous()
    exponent = latents.new_zeros(len(latents), len(posterior.mean))
    for dimension in range(latents.shape[1]):
        offset = latents[:, dimension, None] - mean[dimension]
        exponent.addcmul_(offset.square_(), precision[dimension], value=-0.5)
    log_normaliser = 0.5 * (posterior.logvar + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(exponent - log_normaliser, 1) - math.log(len(posterior.mean))
