# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Self-BLEU, for `evaluate`."""

import datasets
import evaluate

from hf_bnvae.evaluation import self_bleu

_DESCRIPTION = """\
How similar texts are to one another, from 0 to 100: the mean BLEU of each text with all other texts as references, as
sacreBLEU computes it. Lower is more diverse; 100 means that each text has a duplicate.
"""

_CITATION = """\
@inproceedings{zhu2018texygen,
  title = {Texygen: A Benchmarking Platform for Text Generation Models},
  author = {Zhu, Yaoming and Lu, Sidi and Zheng, Lei and Guo, Jiaxian and Zhang, Weinan and Wang, Jun and Yu, Yong},
  booktitle = {SIGIR},
  year = {2018}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (sequence of `str`): At least two texts.

Returns:
    self_bleu (`float`): From 0 to 100.
"""


class SelfBLEU(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str]) -> dict[str, float]:
        return {"self_bleu": self_bleu(predictions)}
