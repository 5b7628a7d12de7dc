# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Mutual information of sentence and latent, for `evaluate`."""

import datasets
import evaluate
import torch

from hf_bnvae.evaluation import mutual_information, posteriors_from_rows

_DESCRIPTION = """\
Mutual information of sentence and latent in nats, under the aggregated posterior of all sentences: how well a
latent tells from which sentence it was encoded. It cannot exceed the logarithm of the number of sentences.
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
    mutual_information (`float`): In nats.
    mutual_information_error (`float`): Its Monte-Carlo standard error, in nats.
    log_num_sentences (`float`): The most that the estimate can be, in nats. An estimate within 1 nat of it is a lower
        bound.
"""


class MutualInformation(evaluate.Metric):
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
        names = ("mutual_information", "mutual_information_error", "log_num_sentences")
        return {name: getattr(estimate, name) for name in names}
