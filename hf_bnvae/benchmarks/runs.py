# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Trainings and evaluations: their commands, their results, and how they are brought to their end.

A task is finished when its results lie in its folder, or when a record of known runs holds them.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import CONFIG_NAME

from ..reporting.commands import without_folders
from ..reporting.report_files import read_report
from ..utils.file_names import REPORT_MARKDOWN, RESULTS_FILE, RUN_FILE
from ..utils.json_files import read_json
from ..utils.terminal import say
from .commands import Options, evaluation_command, training_command

# The file with the figures of all finished runs, their settings, and hashes of their texts.
RUNS_RECORD = "runs.json"


@dataclass(frozen=True)
class Run:
    """
    One training.

    Args:
        folder (`Path`): The output folder.
        options (`dict`): The training script's options, without the folder.
        after (`Run`, *optional*): The pretraining run whose encoder this run starts with.
        known (`mapping`, *optional*): The options and results of this run in a record of known runs.
    """

    folder: Path
    options: Options = field(hash=False)
    after: "Run | None" = None
    known: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def is_here(self) -> bool:
        """Whether the finished run lies in the folder."""
        return bool(_read(self.folder / RUN_FILE).get("finished"))

    @property
    def results(self) -> dict[str, Any] | None:
        """The run's figures; `None` until it has finished."""
        if not self.is_here:
            return _known_results(self)
        record = _read(self.folder / RUN_FILE)
        # The model's configuration has the values that were left to the library's defaults.
        model = _read(self.folder / CONFIG_NAME)
        settings = {n: model.get(n) if value is None else value for n, value in record["settings"].items()}
        _require_same(self.folder, "a finished run", settings, self.options)
        # Known figures go first, so that all rows of a table come from one version of the evaluation.
        known = None if self.known is None or _differences(self) else self.known["results"]
        return known or _read(self.folder / RESULTS_FILE)

    def command(self) -> list[str]:
        """The command that makes this run."""
        options = {**self.options, "output_dir": self.folder}
        if self.after is not None:
            options["encoder_side_name_or_path"] = self.after.folder
        return training_command(options)


@dataclass(frozen=True)
class Evaluation:
    """
    One evaluation of a run's model, on the held-out texts.

    Args:
        after (`Run`): The run.
        options (`dict`): The evaluation script's options, without model and folder.
        known (`mapping`, *optional*): As in [`Run`].
    """

    after: Run
    options: Options = field(hash=False)
    known: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def folder(self) -> Path:
        """The output folder, beside the run's folder."""
        return self.after.folder.with_name(self.after.folder.name + "-held-out")

    @property
    def is_here(self) -> bool:
        """Whether the whole evaluation lies in the folder."""
        return (self.folder / REPORT_MARKDOWN).is_file()  # the file that is written last

    @property
    def results(self) -> dict[str, Any] | None:
        """Figures, verdict and probe from the report; `None` until the report is whole."""
        if not self.is_here:
            return _known_results(self)
        report = read_report(str(self.folder))
        _require_same(self.folder, "an evaluation", report["settings"], self.options)
        kept = {name: report[name] for name in ("figures", "verdict")}
        if "probe" in report:
            kept["probe"] = {"results": report["probe"]["results"]}  # its description names folders of this machine
        if "samples" in report:
            kept["samples"] = report["samples"]
        return kept

    def command(self) -> list[str]:
        """The command that makes this evaluation."""
        names = {"model_name_or_path": self.after.folder, "output_dir": self.folder, "overwrite_output_dir": True}
        return evaluation_command({**self.options, **names})


def execute(tasks: Iterable[Run | Evaluation], num_workers: int) -> list[Run | Evaluation]:
    """
    Start the tasks that are not finished, each after the task that it needs.

    Args:
        tasks (iterable of [`Run`] and [`Evaluation`]): The tasks.
        num_workers (`int`): How many processes run at the same time.

    Returns:
        `list`: The tasks that failed.
    """
    tasks = list(tasks)
    locks = {one.folder: threading.Lock() for task in tasks for one in with_predecessors(task)}
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
        say(f"{name}: {'failed, see its log' if failed else 'finished'}", flush=True)
        return not failed

    with ThreadPoolExecutor(num_workers) as pool:
        outcomes = list(pool.map(finish, tasks))
    return [task for task, is_finished in zip(tasks, outcomes, strict=True) if not is_finished]


def failure_mark(folder: Path) -> Path:
    """The file that marks a task whose last try failed. It lies beside the task's folder."""
    return folder.with_name(folder.name + ".failed")


def read_known_runs(files: Iterable[Path], texts: Mapping[str, str]) -> dict[str, Any]:
    """
    Read records of runs.

    Args:
        files (iterable of `Path`): The records. If several of them hold a run, the first one counts.
        texts (mapping): Hashes of the benchmark's texts, from [`~benchmarks.texts.hash_texts`].

    Returns:
        `dict`: For each run, by name, its options and results.

    Raises:
        ValueError: for a file that is no record, and for a record of other texts.
    """
    known: dict[str, Any] = {}
    for file in files:
        if not file.is_file():
            raise ValueError(f"--known_runs {file} is no file.")
        record = read_json(file)
        if not {"texts", "runs"} <= record.keys():
            raise ValueError(f"--known_runs {file} is no {RUNS_RECORD} of this benchmark.")
        if record["texts"] != texts:
            raise ValueError(f"--known_runs {file} is of other texts: {record['texts']}, not {texts}.")
        known = record["runs"] | known
    return known


def without_paths(options: Options) -> Options:
    """The options without paths, which mean the same on every machine. Of a path that was typed the name is left."""
    return {name: without_folders(value) for name, value in options.items() if not isinstance(value, Path)}


def with_predecessors(task: Run | Evaluation) -> Iterator[Run | Evaluation]:
    """The task, and the tasks that it needs."""
    yield task
    if task.after is not None:
        yield from with_predecessors(task.after)


def _known_results(task: Run | Evaluation) -> dict[str, Any] | None:
    """The results of a task in a record of known runs. A training's options there must be the same."""
    if task.known is None:
        return None
    differences = _differences(task)
    if differences and isinstance(task, Evaluation):
        return None  # an evaluation takes minutes, and is made again
    if differences:
        raise ValueError(
            f"The known run {task.folder.parent.name}/{task.folder.name} has other settings "
            f"({'; '.join(differences)}). Without --known_runs all runs are made anew."
        )
    return task.known["results"]


def _differences(task: Run | Evaluation) -> list[str]:
    """The options in which a task differs from the same task in a record."""
    theirs, ours = task.known["options"], json.loads(json.dumps(without_paths(task.options)))
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return [f"{name}: {theirs.get(name)}, not {ours.get(name)}" for name in names]


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a task's folder, empty if there is no file."""
    return read_json(file, "Delete its folder to make it again.") if file.is_file() else {}


def _require_same(folder: Path, what: str, settings: Mapping[str, Any], options: Options) -> None:
    """Refuse what lies in a task's folder and was made with other settings."""
    differences = [
        f"{name}: {settings[name]}, not {value}"
        for name, value in options.items()
        if name in settings and not _is_same(settings[name], value)
    ]
    if differences:
        raise ValueError(
            f"{folder} holds {what} with other settings ({'; '.join(differences)}). Choose another --output_dir, or "
            "delete that folder."
        )


def _is_same(recorded: Any, value: Any) -> bool:
    if isinstance(value, Path):
        return recorded in (str(value), str(value.resolve()))
    return recorded == value
