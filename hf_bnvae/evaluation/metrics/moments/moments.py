# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Moments of the aggregated posterior, for `evaluate`."""

import datasets
import evaluate

from hf_bnvae.evaluation import aggregate_moments, posteriors_from_rows

_DESCRIPTION = """\
First and second moments of the aggregated posterior of all sentences, averaged over the latent dimensions. They are 0
and 1 if the aggregated posterior matches the standard normal prior.
"""

_CITATION = """\
@misc{su2020vae,
  title = {{VAE} + {BN} = a better {VAE} (in Chinese)},
  author = {Su, Jianlin},
  howpublished = {https://kexue.fm/archives/7381},
  year = {2020}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    mean (sequence of sequences of `float`): For each sentence the means of its posterior, one for
        each latent dimension.
    logvar (sequence of sequences of `float`): For each sentence the logarithms of the variances of its posterior.

Returns:
    aggregate_mean (`float`): Root mean square over dimensions of E[mu].
    aggregate_second_moment (`float`): Mean over dimensions of E[mu^2 + sigma^2].
"""


class Moments(evaluate.Metric):
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

    def _compute(self, mean: list[list[float]], logvar: list[list[float]]) -> dict[str, float]:
        posterior = posteriors_from_rows(mean, logvar)
        return aggregate_moments(posterior.mean, posterior.logvar)
