# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The collapse benchmark from its texts to its results.

Every run is a training with its own process and folder. A language model judges the samples of all remedies. It is
trained on the same texts, before the first evaluation. There are four stages:

1. *Tuning*: every remedy at every point of its grid, with the first seed. All grids have the same size. The chosen
   point has the lowest IW-NLL among those with at least `min_information` nats of mutual information, or among all
   points if none has. Points are chosen on one half of the validation texts.
2. *Seeds*: the chosen point of every remedy with every seed, evaluated on the other half of the validation texts.
   Every further number of nats makes one more comparison, without the remedies that have too little information.
3. *Choices*: options that all remedies share, such as pooling and learning rates. They are varied one at a time, with
   every seed, on the first half. A plan can have this stage alone, since it needs no chosen points.
4. *Noise*: the main remedies of the second stage again, with dropout in the encoder.

A second call continues where the first one stopped, and repeats no finished run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...data.corpora import TEXT, load_text_set
from ...evaluation.plots import plot_remedies
from ...utils.json_files import write_json
from ..commands import Options
from ..judges import judge_options, train_judge
from ..packaged import packaged_pair
from ..runs import RUNS_RECORD, Evaluation, Run, execute, read_known_runs, without_paths
from ..tables.collapse import render_benchmark
from ..texts import TextSources, hash_texts, prepare_texts
from .comparison import Comparison
from .remedies import REMEDIES, Remedy
from .settings import CHOICES, ENCODER_DROPOUT, EVALUATION, SETTINGS, Choice

RESULTS_RECORD, RESULTS_PAGE, RESULTS_PICTURE = "results.json", "results.md", "results.png"


@dataclass(frozen=True)
class Plan:
    """
    What a call of the benchmark runs.

    Args:
        folder (`Path`): The folder of all runs and results.
        setting_name (`str`, *optional*, defaults to `"small"`): Networks and budget, a name in `SETTINGS`.
        sources ([`TextSources`], *optional*): Where the texts come from.
        remedies (sequence of `str`, *optional*): Names of the remedies to run; by default all.
        choices (sequence of `str`, *optional*): The options to vary; by default all choices of the setting.
        only_choices (`bool`, *optional*, defaults to `False`): Make the third stage alone, for `remedies`.
        seeds (sequence of `int`, *optional*, defaults to `(42, 43, 44)`): Tuning uses the first one.
        min_information (sequence of `float`, *optional*, defaults to `(2.0, 4.0)`): Nats of mutual information that a
            point needs to be chosen by its likelihood. For the first number, a remedy without such a point gets its
            best point. For each further number, such a remedy is left out.
        num_workers (`int`, *optional*, defaults to 1): How many runs are made at the same time.
        known_runs (sequence of `Path`, *optional*): Records of runs that are not made again, unless their model is
            needed.

    Raises:
        ValueError: for values that do not fit together.
    """

    folder: Path
    setting_name: str = "small"
    sources: TextSources = field(default_factory=TextSources)
    remedies: Sequence[str] = tuple(remedy.name for remedy in REMEDIES)
    choices: Sequence[str] | None = None
    only_choices: bool = False
    seeds: Sequence[int] = (42, 43, 44)
    min_information: Sequence[float] = (2.0, 4.0)
    num_workers: int = 1
    known_runs: Sequence[Path] = ()

    def __post_init__(self) -> None:
        options = [choice.option for choice in CHOICES[self.setting_name]]
        if not set(self.choices or ()) <= set(options):
            raise ValueError(
                f"--choices of --setting {self.setting_name} are {', '.join(options)}; got {' '.join(self.choices)}."
            )
        if self.num_workers < 1:
            raise ValueError(f"--num_workers must be at least 1, got {self.num_workers}.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"--seeds must differ, got {self.seeds}.")
        if min(self.min_information) < 0:
            raise ValueError(f"--min_information must not be negative, got {min(self.min_information)}.")
        if self.sources.label_column is not None and self.sources.validation_file is None:
            raise ValueError("--label_column names a column of --validation_file, which was not given.")

    @property
    def text_folder(self) -> Path:
        """The folder of the benchmark's texts."""
        return self.folder / "texts"


class CollapseBenchmark:
    """
    A benchmark: its texts, its comparisons and its results.

    Args:
        plan ([`Plan`]): What to run.
        needs_networks (`bool`, *optional*, defaults to `True`): Whether runs will be made, for which pretrained
            networks must be installed.
    """

    def __init__(self, plan: Plan, needs_networks: bool = True) -> None:
        self.plan = plan
        self._data, held_out = prepare_texts(plan.text_folder, plan.sources)
        self._held_out = held_out | EVALUATION[plan.setting_name]
        self._texts = hash_texts(plan.text_folder)
        self._known = read_known_runs(plan.known_runs, self._texts)
        has_pair = plan.setting_name.startswith("pretrained") and needs_networks
        if needs_networks:
            self._held_out |= judge_options(plan.folder, is_pair_judged=has_pair)
        self.setting: Options = SETTINGS[plan.setting_name] | (packaged_pair() if has_pair else {})

    def run(self) -> list[Run | Evaluation]:
        """Make all runs of the plan that are not finished; return the tasks that failed."""
        plan = self.plan
        remedies = [remedy for remedy in REMEDIES if remedy.name in plan.remedies]
        all_choices = CHOICES[plan.setting_name]
        choices = [choice for choice in all_choices if plan.choices is None or choice.option in plan.choices]
        if plan.only_choices:
            choices = [choice for choice in choices if choice.remedy in plan.remedies]
        comparisons = self._comparisons(remedies, choices)
        if plan.only_choices:
            return execute(comparisons[0].choice_runs(), plan.num_workers)
        failed = execute(comparisons[0].tuning(), plan.num_workers)
        for comparison in comparisons:
            failed += self._evaluate(comparison.repetitions())
        failed += execute(comparisons[0].choice_runs(), plan.num_workers)
        return failed + self._evaluate(comparisons[0].repetitions(ENCODER_DROPOUT))

    def _evaluate(self, evaluations: Sequence[Evaluation]) -> list[Run | Evaluation]:
        """Make the evaluations that are not finished. If there are any, they need the judge of samples."""
        if any(one.results is None for one in evaluations):
            texts = load_text_set(str(self._data["train_file"]), text_column=TEXT)[TEXT][:]
            train_judge(texts, self._held_out["judge_language_model"])
        return execute(evaluations, self.plan.num_workers)

    def write_results(self) -> str:
        """
        Write the record of all runs, and the results with page and picture.

        The results include all remedies and choices whose runs lie in the folder, also from earlier calls.

        Returns:
            `str`: The page, in Markdown.
        """
        plan = self.plan
        comparisons = self._comparisons(REMEDIES, CHOICES[plan.setting_name])
        runs = self._record_of(comparisons)
        write_json(plan.folder / RUNS_RECORD, {"texts": self._texts, "runs": runs})
        results = self._results(comparisons, runs)
        write_json(plan.folder / RESULTS_RECORD, results)
        page = render_benchmark(results)
        (plan.folder / RESULTS_PAGE).write_text(page + "\n", encoding="utf-8")
        if any(entry["chosen"] is not None for entry in results["remedies"]):
            plot_remedies(results["remedies"]).savefig(plan.folder / RESULTS_PICTURE)
        return page

    def _comparisons(self, remedies: Sequence[Remedy], choices: Sequence[Choice]) -> list[Comparison]:
        """One comparison for each number in `min_information`."""
        plan = self.plan
        common = (plan.folder, self.setting, self._data, self._held_out)
        first, *others = plan.min_information
        # The first comparison is enough to see what dropout does.
        plain = [replace(remedy, is_main=False) for remedy in remedies]
        return [
            Comparison(*common, remedies, plan.seeds, first, choices=choices, known=self._known),
            *(Comparison(*common, plain, plan.seeds, least, is_strict=True, known=self._known) for least in others),
        ]

    def _record_of(self, comparisons: Sequence[Comparison]) -> dict[str, Any]:
        """Options and results of all finished runs. A known run stays in the record, even if this plan does not need
        it."""
        tasks = {name: task for comparison in comparisons for name, task in comparison.tasks().items()}
        return self._known | {
            name: {"options": without_paths(task.options), "results": results}
            for name, task in tasks.items()
            if (results := task.results) is not None
        }

    def _results(self, comparisons: Sequence[Comparison], runs: Mapping[str, Any]) -> dict[str, Any]:
        """The content of `results.json`."""
        everything, *further = comparisons
        trained = [run["results"] for run in runs.values() if "hardware" in run["results"]]
        return {
            "setting_name": self.plan.setting_name,
            "setting": without_paths(self.setting),
            "seeds": self.plan.seeds,
            "min_information": everything.min_information,
            "encoder_dropout": ENCODER_DROPOUT,
            # Of all trainings, because known runs may come from other machines.
            **{
                name: ", ".join(sorted({str(results[name]) for results in trained}))
                for name in ("hardware", "torch_version", "transformers_version", "hf_bnvae_version")
            },
            "remedies": everything.collect(),
            "informed": [
                {"min_information": comparison.min_information, "remedies": comparison.collect()}
                for comparison in further
            ],
            "choices": everything.collect_choices(),
        }
