# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A comparison of remedies: which runs it consists of, which settings it chooses, and what came out."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..commands import Options
from ..runs import Evaluation, Run, failure_mark, with_predecessors
from .remedies import LEARNING_RATE_FACTOR, OURS, REMEDIES, Remedy, remedy_of
from .settings import ENCODER_DROPOUT, PRETRAINING_SHARE, Choice


class Comparison:
    """
    The runs that compare remedies, in one folder.

    Args:
        folder (`Path`): The folder. Each run has a folder in it.
        setting (`dict`): The training script's options that all runs share.
        data (`dict`): The training script's options that name the texts.
        held_out (`dict`): The evaluation script's options, which name the texts to report on.
        remedies (sequence of [`Remedy`], *optional*): The remedies to compare; by default all.
        seeds (sequence of `int`, *optional*): Seeds of the chosen points. Tuning uses the first one.
        min_information (`float`, *optional*, defaults to 2): Nats of mutual information that a point needs to be
            chosen by its likelihood.
        is_strict (`bool`, *optional*, defaults to `False`): If no point of a remedy has enough information, choose no
            point of it.
        choices (sequence of [`Choice`], *optional*): Options of `setting` to vary.
        known (mapping, *optional*): Options and results of known runs and evaluations, by name.
    """

    def __init__(
        self,
        folder: Path,
        setting: Options,
        data: Options,
        held_out: Options,
        remedies: Sequence[Remedy] = REMEDIES,
        seeds: Sequence[int] = (42, 43, 44),
        min_information: float = 2.0,
        is_strict: bool = False,
        choices: Sequence[Choice] = (),
        known: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder, self.setting, self.data, self.held_out = folder, setting, data, held_out
        self.remedies, self.seeds, self.min_information = remedies, seeds, min_information
        self.is_strict, self.choices, self.known = is_strict, choices, known or {}

    def name_of(self, task: Run | Evaluation) -> str:
        """A task's name in a record: the path of its folder."""
        return task.folder.relative_to(self.folder).as_posix()

    def _run(self, name: str, options: Options, after: Run | None = None) -> Run:
        return Run(self.folder / name, options, after, self.known.get(name))

    def run_of(self, remedy: Remedy, point: int, seed: int, encoder_dropout: float = 0.0) -> Run:
        """The run of a remedy at a point of its grid. Its pretraining, if it has one, is the run's `after`."""
        common = {**self.setting, **self.data, "seed": seed}
        name = _folder_name(remedy.name)
        if encoder_dropout:
            common["encoder_dropout"] = encoder_dropout
            name += "-dropout"
        own = dict(remedy.grid[point])
        factor = own.pop(LEARNING_RATE_FACTOR, 1)
        common |= {rate: common[rate] * factor for rate in ("learning_rate", "latent_learning_rate")}
        if remedy.pretraining is None:
            return self._run(f"{name}/{point}-{seed}", {**common, **own})
        first, rest = share_budget(common, PRETRAINING_SHARE)
        # In another order, or pretraining would see the same sentences as the beginning of the second run.
        first = {**first, **remedy.pretraining, "data_seed": seed + 1}
        before = self._run(f"{name}/pretraining-{seed}", first)
        return self._run(f"{name}/{point}-{seed}", {**rest, **own}, after=before)

    def tuning(self) -> list[Run]:
        """The runs of every point of every grid, with the first seed."""
        return [self.run_of(r, point, self.seeds[0]) for r in self.remedies for point in range(len(r.grid))]

    def chosen(self, remedy: Remedy) -> int | None:
        """The chosen point of a remedy's grid. `None` while runs of the grid are missing, and if no point can be
        chosen."""
        runs = [self.run_of(remedy, point, self.seeds[0]) for point in range(len(remedy.grid))]
        finished = {point: run.results for point, run in enumerate(runs) if run.results is not None}
        if any(point not in finished and not failure_mark(run.folder).exists() for point, run in enumerate(runs)):
            return None
        return choose(finished, self.min_information, self.is_strict)

    def evaluations(self, remedy: Remedy, encoder_dropout: float = 0.0) -> list[Evaluation]:
        """The evaluations of a remedy's chosen point, one for each seed. With dropout, only main remedies have any."""
        point = self.chosen(remedy)
        if point is None or (encoder_dropout and not remedy.is_main):
            return []
        runs = (self.run_of(remedy, point, seed, encoder_dropout) for seed in self.seeds)
        evaluations = [Evaluation(run, self.held_out) for run in runs]
        return [replace(one, known=self.known.get(self.name_of(one))) for one in evaluations]

    def repetitions(self, encoder_dropout: float = 0.0) -> list[Evaluation]:
        """The evaluations of all chosen points, in the order of the seeds."""
        of_remedies = [self.evaluations(remedy, encoder_dropout) for remedy in self.remedies]
        return [e for of_seed in itertools.zip_longest(*of_remedies) for e in of_seed if e is not None]

    def choice_run(self, choice: Choice, value: Any, seed: int) -> Run:
        """The run in which the option of a choice has a value. For the first value it is the remedy's own run."""
        base = self.run_of(remedy_of(choice.remedy), choice.point, seed)
        if base.options.get(choice.option) == value:
            return base
        name = f"choices/{_folder_name(choice.remedy)}-{choice.point}-{choice.option}-{value}-{seed}"
        changed = {**choice.together, choice.option: value}
        before = base.after and self._run(f"{name}-pretraining", {**base.after.options, **changed})
        return self._run(name, {**base.options, **changed}, after=before)

    def choice_runs(self) -> list[Run]:
        """The runs of all choices, in the order of the seeds."""
        runs = [self.choice_run(c, value, seed) for seed in self.seeds for c in self.choices for value in c.values]
        return list({run.folder: run for run in runs}.values())

    def collect_choices(self) -> list[dict[str, Any]]:
        """The choices with a finished run: option, values, and figures of the finished runs on the texts for
        tuning."""
        entries = []
        for choice in self.choices:
            points = []
            for value in choice.values:
                results = {seed: self.choice_run(choice, value, seed).results for seed in self.seeds}
                runs = [{"seed": seed, "figures": _own_figures(found)} for seed, found in results.items() if found]
                points.append({"value": value, "runs": runs})
            if any(point["runs"] for point in points):
                entries.append({"option": choice.option, "base": choice.base, "points": points})
        return entries

    def collect(self) -> list[dict[str, Any]]:
        """The remedies with a finished run: grid, chosen point (`None` if there is none yet), and figures of the
        finished evaluations of that point."""
        entries = []
        for remedy in self.remedies:
            chosen = self.chosen(remedy)
            tuned = [self.run_of(remedy, point, self.seeds[0]) for point in range(len(remedy.grid))]
            if all(run.results is None for run in tuned):
                continue
            entries.append(
                {
                    "name": remedy.name,
                    "source": remedy.source,
                    "is_ours": remedy.name in OURS,
                    "pretraining": remedy.pretraining,
                    "grid": [
                        {
                            "options": options,
                            "figures": run.results and _own_figures(run.results),
                            "has_failed": run.results is None and failure_mark(run.folder).exists(),
                        }
                        for options, run in zip(remedy.grid, tuned, strict=True)
                    ],
                    "chosen": chosen,
                    "runs": self._figures(remedy),
                    "dropout_runs": self._figures(remedy, ENCODER_DROPOUT),
                }
            )
        return entries

    def _figures(self, remedy: Remedy, encoder_dropout: float = 0.0) -> list[dict[str, Any]]:
        found = []
        for seed, evaluation in zip(self.seeds, self.evaluations(remedy, encoder_dropout), strict=False):
            report = evaluation.results
            if report is not None:
                found.append({"seed": seed, **report})
        return found

    def tasks(self) -> dict[str, Run | Evaluation]:
        """All runs and evaluations that are known to be needed so far, by name, with the tasks that they need."""
        asked = [*self.tuning(), *self.choice_runs(), *self.repetitions(), *self.repetitions(ENCODER_DROPOUT)]
        return {self.name_of(one): one for task in asked for one in with_predecessors(task)}


def choose(results: dict[int, dict[str, Any]], min_information: float, is_strict: bool = False) -> int | None:
    """
    Choose a point of a grid: the lowest IW-NLL among the points with enough information.

    Args:
        results (`dict`): For each point its figures. A point whose IW-NLL is not finite is never chosen.
        min_information (`float`): Nats of mutual information that are enough.
        is_strict (`bool`, *optional*, defaults to `False`): What happens if no point has enough information: `True`
            chooses none, `False` chooses among all points.

    Returns:
        `int`: The point, or `None`.
    """
    results = {i: r for i, r in results.items() if math.isfinite(r["eval_iw_nll"])}
    alive = {i: r for i, r in results.items() if r["eval_mutual_information"] >= min_information}
    candidates = alive if alive or is_strict else results
    return min(candidates, key=lambda i: candidates[i]["eval_iw_nll"]) if candidates else None


def share_budget(options: Options, share: float) -> tuple[Options, Options]:
    """The options of two runs that together have the budget of one run. The first run gets `share` of it."""
    if "max_steps" in options:
        first = max(1, round(options["max_steps"] * share))
        return {**options, "max_steps": first}, {**options, "max_steps": options["max_steps"] - first}
    epochs = options["num_train_epochs"]
    return {**options, "num_train_epochs": epochs * share}, {**options, "num_train_epochs": epochs * (1 - share)}


def _folder_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _own_figures(results: dict[str, Any]) -> dict[str, Any]:
    """A run's evaluation figures, under the names that the evaluation gives them."""
    prefix = "eval_"
    return {name.removeprefix(prefix): value for name, value in results.items() if name.startswith(prefix)}
