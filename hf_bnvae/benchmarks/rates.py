# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a rate buys: one model for each rate, on the same texts and with the same budget, and what its latents can do.

A model without a floor, whose posterior is `gaussian`, shows what the texts cost without a latent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.corpora import TEXT, load_text_set
from ..evaluation.plots import plot_rates
from ..jobs.training_options import parse_arguments
from ..model.configuration_bnvae import BNVAEConfig
from ..reporting.report_files import read_report
from ..utils.json_files import write_json
from .commands import Options, words_of
from .judges import judge_names, judge_options, train_judge
from .runs import Evaluation, Run, execute, failure_mark, without_paths
from .tables.rates import nats_of_a_text, render_rates, share_of_a_text
from .texts import TextSources, hash_texts, prepare_texts

RATES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

RATES_RECORD, RATES_PAGE, RATES_PICTURE = "rates.json", "rates.md", "rates.png"

# Two layers of width 128 from scratch. Two epochs of 150,000 short sentences take a quarter of an hour on one core.
TRAINING: Options = {
    "auxiliary": "bag_of_words",
    "num_train_epochs": 2,
    "hidden_size": 128,
    "num_layers": 2,
    "latent_size": 32,
    "per_device_eval_batch_size": 256,
    "eval_strategy": "no",
    "save_strategy": "no",
    "num_importance_samples": 1,
    "disable_tqdm": True,
    "seed": 42,
}

EVALUATION: Options = {
    "num_importance_samples": 100,
    "max_importance_sentences": 1000,
    "num_judged_samples": 1000,
    "num_examples": 3,
    "batch_size": 256,
}

# What made a model, from the results of its training.
_KEPT_OF_A_TRAINING = (
    "num_parameters",
    "train_samples",
    "train_runtime",
    "hardware",
    "torch_version",
    "transformers_version",
    "hf_bnvae_version",
)

# Options of a training that the benchmark sets itself, or that do not fit one: another model, another scale, another
# evaluation than the benchmark's own, a place where all runs would go.
_REFUSED = (
    "bn_gamma",
    "bn_tau",
    "bn_theta_init",
    "dataset_config_name",
    "dataset_name",
    "do_eval",
    "do_train",
    "max_importance_sentences",
    "model_name_or_path",
    "num_importance_samples",
    "output_dir",
    "posterior",
    "push_to_hub",
    "rate",
    "resume_from_checkpoint",
)


@dataclass(frozen=True)
class RatesPlan:
    """
    What a call of the benchmark runs.

    Args:
        folder (`Path`): The folder of all runs and results.
        sources ([`TextSources`], *optional*): Where the texts come from. The held-out half of the validation texts is
            reported on.
        rates (sequence of `float`, *optional*): The rates, in nats.
        training (`dict`, *optional*): Options of the trainings. They replace those in `TRAINING`.
        num_workers (`int`, *optional*, defaults to 1): How many runs are made at the same time.

    Raises:
        ValueError: for values that do not fit together.
    """

    folder: Path
    sources: TextSources = field(default_factory=TextSources)
    rates: Sequence[float] = RATES
    training: Options = field(default_factory=dict)
    num_workers: int = 1

    def __post_init__(self) -> None:
        if (
            not self.rates
            or not all(math.isfinite(rate) and rate > 0 for rate in self.rates)
            or len(set(self.rates)) < len(self.rates)
        ):
            raise ValueError(f"--rates must be different positive numbers of nats, got {list(self.rates)}.")
        if self.num_workers < 1:
            raise ValueError(f"--num_workers must be at least 1, got {self.num_workers}.")
        refused = [name for name in _REFUSED if name in self.training]
        if refused:
            raise ValueError(f"--{refused[0]} has no place in this benchmark. Leave it out.")


class RatesBenchmark:
    """
    The models of a plan, in one folder.

    Args:
        plan ([`RatesPlan`]): What to run.
    """

    def __init__(self, plan: RatesPlan) -> None:
        self.plan = plan
        data, held_out = prepare_texts(plan.folder / "texts", plan.sources)
        self._train_file = data["train_file"]
        self._shared = {**TRAINING, **plan.training, **data}
        self._judges = judge_options(plan.folder, is_pair_judged=self._has_pair)
        self._evaluation = {**EVALUATION, **held_out, **self._judges}
        kinds: list[tuple[float | None, str, Options]] = [(None, "gaussian", {"posterior": "gaussian"})]
        kinds += [(rate, f"rate-{rate:g}", {"rate": rate}) for rate in sorted(plan.rates)]
        self._evaluations = {
            rate: Evaluation(Run(plan.folder / "runs" / name, {**self._shared, **own}), self._evaluation)
            for rate, name, own in kinds
        }

    @property
    def _has_pair(self) -> bool:
        return self._shared.get("encoder_name_or_path") is not None

    def run(self) -> list[Run | Evaluation]:
        """
        Make all runs that are not finished.

        Returns:
            `list`: The tasks that failed.

        Raises:
            ValueError: for options that the training does not take, before anything is trained.
        """
        evaluations = list(self._evaluations.values())
        for evaluation in evaluations:
            model, *_ = parse_arguments(words_of({**evaluation.after.options, "output_dir": evaluation.after.folder}))
            BNVAEConfig(**model.config_fields())
        if any(one.results is None for one in evaluations):
            texts = load_text_set(str(self._train_file), text_column=TEXT)[TEXT][:]
            train_judge(texts, self._judges["judge_language_model"])
        return execute(evaluations, self.plan.num_workers)

    def write_results(self) -> str:
        """
        Write the record of the finished models, with page and picture.

        Returns:
            `str`: The page, in Markdown.
        """
        folder = self.plan.folder
        rows: list[dict[str, Any]] = []
        failed = []
        for rate, evaluation in self._evaluations.items():
            results = evaluation.results
            if results is not None:
                examples = read_report(str(evaluation.folder))["examples"]
                shown = {name: examples[name] for name in ("reconstructions", "interpolation", "samples")}
                training = evaluation.after.results or {}
                made = {name: training.get(name) for name in _KEPT_OF_A_TRAINING}
                rows.append({"rate": rate, **results, "examples": shown, "training": made})
            elif any(failure_mark(task.folder).is_file() for task in (evaluation.after, evaluation)):
                failed.append(rate)
        record = {
            "texts": hash_texts(folder / "texts"),
            "training": without_paths(self._shared),
            "evaluation": without_paths(self._evaluation),
            "judges": judge_names(self._judges),
            "models": rows,
            "failed": failed,
        }
        write_json(folder / RATES_RECORD, record)
        page = render_rates(record)
        (folder / RATES_PAGE).write_text(page + "\n", encoding="utf-8")
        if any(row["rate"] is not None for row in rows):
            nats = nats_of_a_text(rows)
            plot_rates(rows, [share_of_a_text(row, nats) for row in rows]).savefig(folder / RATES_PICTURE)
        return page
