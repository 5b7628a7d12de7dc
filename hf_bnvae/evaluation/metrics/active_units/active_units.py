# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Active units, for `evaluate`."""

import datasets
import evaluate

from hf_bnvae.evaluation import active_units, posteriors_from_rows

_DESCRIPTION = """\
The number of latent dimensions whose posterior mean varies over the sentences, with a variance (divisor N - 1) of at
least 0.01.
"""

_CITATION = """\
@inproceedings{burda2016importance,
  title = {Importance Weighted Autoencoders},
  author = {Burda, Yuri and Grosse, Roger and Salakhutdinov, Ruslan},
  booktitle = {ICLR},
  year = {2016}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    mean (sequence of sequences of `float`): For each sentence the means of its posterior, one for
        each latent dimension.
    logvar (sequence of sequences of `float`): For each sentence the logarithms of the variances of its posterior.
    threshold (`float`, *optional*, defaults to 0.01): The least variance.

Returns:
    active_units (`int`): A number of dimensions.
"""


class ActiveUnits(evaluate.Metric):
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

    def _compute(self, mean: list[list[float]], logvar: list[list[float]], threshold: float = 0.01) -> dict[str, int]:
        return {"active_units": active_units(posteriors_from_rows(mean, logvar).mean, threshold)}
