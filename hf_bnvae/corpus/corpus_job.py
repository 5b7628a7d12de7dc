# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What the commands of this room share: a folder, tasks, an executor that makes what is missing, and a summary."""

import argparse
import json
import os
import re
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import MetricStats
from pyarrow import parquet
from tqdm.auto import tqdm

from ..model.input_checks_bnvae import require_count
from ..model.saved_files_bnvae import PARTIAL, write_whole
from .executors import EXECUTORS, executor_options
from .task_files import TaskFileWriter, description_of
from .text_reader import rows_of_task

# Seconds between two looks at the files, in a folder of this machine and elsewhere.
_LOCAL_LOOK, _REMOTE_LOOK = 1.0, 30.0
# More have no room in the names of the files.
_MAX_TASKS = 99_999
# The step with the model is the second one of each pipeline.
_MODEL_STEP = 1


class CorpusJob(ABC):
    """
    A command that makes a folder of files, one a task.

    Args:
        args (`argparse.Namespace`): The options of [`add_work_options`], and the subclass' own options.

    Raises:
        ValueError: for options that do not fit together. On running: for a folder that holds other files, or the files
            of another command, and for tasks that failed.
    """

    # What the folder is, as JSON. A relaunch must agree with it.
    settings_file: str
    # What goes in, and what comes out.
    source: str
    product: str

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        for name, least in (("tasks", 1), ("workers", 1), ("seed", 0)):
            if getattr(args, name) is not None:
                require_count(f"--{name}", getattr(args, name), least)
        if (args.tasks or 1) > _MAX_TASKS:
            raise ValueError(f"--tasks must be at most {_MAX_TASKS:,}, got {args.tasks:,}.")
        if "://" not in args.output and Path(args.output).is_file():
            raise ValueError(f"{args.output} is a file. Name a folder to write.")
        self.options = executor_options(args.executor, args.executor_options)
        if args.token is not None:
            os.environ["HF_TOKEN"] = args.token  # also of the processes that the executor starts
        if args.executor != "local" and os.path.isdir(args.model_name_or_path):
            args.model_name_or_path = os.path.abspath(args.model_name_or_path)  # tasks may start in another folder
        self.steps, self.num_rows, self.tasks = self._plan()
        self.settings = self._own_settings() | self._settings_of_files()

    @abstractmethod
    def _plan(self) -> tuple[Sequence[PipelineStep], int, int]:
        """Reader, step with the model, and writer; the number of rows to read; the number of tasks."""

    @abstractmethod
    def _own_settings(self) -> dict[str, Any]:
        """What else makes two commands write the same files, besides what the files say about themselves."""

    @abstractmethod
    def _count_in_words(self, counts: Mapping[str, int]) -> str:
        """What the step with the model has counted. A count that is 0 may be missing."""

    def _told_of_conditions(self) -> dict[str, str]:
        """What the files say of conditions, if there are any."""
        column = self.args.condition_column
        return {} if column is None else {"condition_column": column}

    def _missing_conditions(self, counts: Mapping[str, int]) -> str:
        """How many documents had no condition, to follow a count of other faults; empty if all had one."""
        missing = counts.get("without_condition", 0)
        return f", and {missing:,} without a condition" if missing else ""

    @property
    def writer(self) -> TaskFileWriter:
        """The last step."""
        return self.steps[-1]

    def run(self) -> str:
        """
        Make the files that are not there.

        Returns:
            `str`: A summary: rows, counts, seconds, bytes.
        """
        self._claim_folder()
        with tempfile.TemporaryDirectory() as folder:
            counter = Path(folder, "count")
            is_local = self.args.executor == "local"
            executor = EXECUTORS[self.args.executor](
                [*self.steps, *([TextCounter(counter)] if is_local else [])],
                tasks=self.tasks,
                workers=min(self.args.workers, self.tasks),
                logging_dir=self._logging_dir(),
                is_quiet=True,
                **self.options,
            )
            missing = executor.get_incomplete_ranks()
            if self.args.executor == "slurm" and missing:
                executor.run()
                return (
                    f"Gave {len(missing)} of {self.tasks} tasks to Slurm, as job {executor.job_id}. The script is "
                    f"{executor.script}.\nRepeat the command when the job has ended: it counts what is there, and "
                    "makes what is missing."
                )
            began = time.monotonic()
            if is_local and self.args.workers > 1:
                share = max(1, (os.cpu_count() or 1) // self.args.workers)
                os.environ.setdefault("OMP_NUM_THREADS", str(share))  # of the processes that the executor starts
            with self._progress(missing, counter if is_local else None):
                executor.run()
            self.writer.output_folder.invalidate_cache()
            failed = executor.get_incomplete_ranks()
            if failed:
                raise ValueError(
                    f"{len(failed)} of {self.tasks} tasks failed, the first of them task {failed[0]}. Its log: "
                    f"{executor.logging_dir.resolve_paths(f'logs/task_{failed[0]:05d}.log')}. Repeat the command to "
                    "make what is missing."
                )
            return self._summary(missing, time.monotonic() - began, executor.logging_dir)

    def _settings_of_files(self) -> dict[str, Any]:
        schema = self.writer.schema.with_metadata(self.writer.metadata_of(self.tasks))
        return description_of(schema) | {"columns": [f"{field.name}: {field.type}" for field in schema]}

    def _claim_folder(self) -> None:
        """Write down what the folder holds. Refuse a folder of something else."""
        folder, product = self.writer.output_folder, self.product
        folder.invalidate_cache()
        if folder.isfile(self.settings_file):
            with folder.open(self.settings_file, "r") as file:
                try:
                    found = json.load(file)
                except ValueError:
                    found = None
            if not isinstance(found, dict):
                raise ValueError(
                    f"{self.settings_file} of {self.args.output} is damaged. If the files beside it are of this "
                    "command, delete it and repeat the command."
                )
            differences = [
                f"{name} differs" if name.endswith("_sha256") else f"{name}: {found.get(name)!r}, not {value!r}"
                for name, value in sorted((dict.fromkeys(found) | self.settings).items())
                if found.get(name) != value
            ]
            has_files = any(name.endswith(".parquet") for name in folder.list_files(recursive=False))
            if differences and has_files:
                raise ValueError(
                    f"{self.args.output} holds {product} of another command ({'; '.join(differences)}). Choose "
                    "another folder."
                )
            if not differences:
                return
        others = [str(name).rpartition("/")[2] for name in folder.ls("", detail=False)] if folder.isdir("") else []
        if any(name != self.settings_file and not name.endswith((".parquet", PARTIAL)) for name in others):
            raise ValueError(f"{self.args.output} is not empty, and holds no {product}. Choose another folder.")
        self.writer.require_own_files(self.tasks)
        content = json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n"
        if folder.is_local():
            folder.makedirs("", exist_ok=True)
            write_whole(folder.resolve_paths(self.settings_file), content)
        else:
            with folder.open(self.settings_file, "w") as file:
                file.write(content)

    def _logging_dir(self) -> str:
        if self.args.logging_dir is not None:
            return self.args.logging_dir
        folder = self.writer.output_folder
        if folder.is_local():
            return f"{folder.resolve_paths('').rstrip('/')}-logs"
        return os.path.abspath(f"{re.sub(r'[^a-zA-Z0-9]+', '-', self.args.output)}-logs")

    def _rows_of(self, rank: int) -> int:
        return len(rows_of_task(self.num_rows, rank, self.tasks))

    @contextmanager
    def _progress(self, missing: Sequence[int], counter: Path | None) -> Iterator[None]:
        """A bar that moves with the rows that a file counts. Without it the bar moves when a task's file appears."""
        ended, total, screen = threading.Event(), sum(map(self._rows_of, missing)), sys.stderr
        is_near = counter is not None or self.writer.output_folder.is_local()

        def count() -> int:
            if counter is not None:
                return counter.stat().st_size if counter.exists() else 0
            self.writer.output_folder.invalidate_cache()
            there = set(self.writer.output_folder.list_files(recursive=False))
            return sum(self._rows_of(rank) for rank in missing if self.writer.file_of(rank) in there)

        def watch() -> None:
            title = self.product.capitalize()
            options = {"disable": self.args.disable_tqdm, "leave": False, "file": screen}
            with tqdm(total=total, unit=" texts", desc=title, **options) as bar:
                while not ended.wait(_LOCAL_LOOK if is_near else _REMOTE_LOOK):
                    bar.update(count() - bar.n)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _summary(self, made: Sequence[int], seconds: float, logging_dir: Any) -> str:
        folder = self.writer.output_folder
        folder.invalidate_cache()
        names = self.writer.require_own_files(self.tasks)
        size, num_rows = sum(folder.size(name) for name in names), 0
        for name in names:
            with folder.open(name, "rb") as file:
                num_rows += parquet.read_metadata(file).num_rows
        lines = [
            f"{num_rows:,} {self.product} of {self.num_rows:,} {self.source} in {len(names)} files, {size:,} bytes."
        ]
        if len(names) < self.tasks:
            lines.append(f"{self.tasks - len(names)} files of other tasks are not there yet.")
        if len(made) < len(names):
            lines.append(f"{len(names) - len(made)} of the files were there already.")
        if made:
            counts = Counter()
            for rank in made:
                with logging_dir.open(f"stats/{rank:05d}.json", "r") as file:
                    found = json.load(file)[_MODEL_STEP]["stats"]
                counts.update({name: MetricStats.from_dict(value).total for name, value in found.items()})
            speed = sum(map(self._rows_of, made)) / max(seconds, 1e-9)
            lines.append(
                f"In this call: {self._count_in_words(counts)}; {seconds:,.0f} seconds, {speed:,.0f} texts a second."
            )
        return "\n".join(lines)


class TextCounter(PipelineStep):
    """
    Passes documents on, and writes a byte for each of them to the end of a file. So another process of the same
    machine can see how many have passed.

    Args:
        file (`Path`): The file.
    """

    type = "🧮 - COUNTER"
    name = "💠 Texts"

    # Documents that are counted at once.
    _EVERY = 64

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = str(file)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents of `data`."""
        with open(self.file, "ab", buffering=0) as file:
            for number, document in enumerate(data or (), 1):
                if number % self._EVERY == 0:
                    file.write(b"." * self._EVERY)
                yield document
