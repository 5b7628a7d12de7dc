# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""KL of the aggregated posterior from the prior, for `evaluate`."""

import datasets
import evaluate
import torch

from hf_bnvae.evaluation import mutual_information, posteriors_from_rows

_DESCRIPTION = """\
KL divergence in nats of the aggregated posterior of all sentences from the standard normal prior: the mean KL of the
posteriors minus the mutual information of sentence and latent. It is an upper bound if the mutual information is near
the logarithm of the number of sentences.
"""

_CITATION = """\
@inproceedings{hoffman2016elbo,
  title = {{ELBO} surgery: yet another way to carve up the variational evidence lower bound},
  author = {Hoffman, Matthew D. and Johnson, Matthew J.},
  booktitle = {NIPS Workshop in Advances in Approximate Bayesian Inference},
  year = {2016}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    mean (sequence of sequences of `float`): For each sentence the means of its posterior, one for
        each latent dimension.
    logvar (sequence of sequences of `float`): For each sentence the logarithms of the variances of its posterior.
    seed (`int`, *optional*, defaults to 0): Seed of the latents, one drawn for each sentence.

Returns:
    marginal_kl (`float`): In nats.
    marginal_kl_error (`float`): Its Monte-Carlo standard error, in nats.
"""


class MarginalKL(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "mean": datasets.Sequence(datasets.Value("float64")),
                    "logvar": datasets.Sequence(datasets.Value("float64")),
                }
            ),
        )

    def _compute(self, mean: list[list[float]], logvar: list[list[float]], seed: int = 0) -> dict[str, float]:
        posterior = posteriors_from_rows(mean, logvar)
        estimate = mutual_information(posterior, torch.Generator().manual_seed(seed))
        return {name: getattr(estimate, name) for name in ("marginal_kl", "marginal_kl_error")}
