# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""datatrove's executors, for pipelines whose files say which tasks are done."""

import inspect
import json
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import dill
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from datatrove.utils.stats import PipelineStats

from ..jobs.option_parser import nearest
from ..model.input_checks_bnvae import require_count
from .task_files import TaskFileWriter


class DoneByOutput:
    """
    A task of an executor is done when its file is there, whatever the folder of logs says. To be put in front of an
    executor of datatrove:

        class Executor(DoneByOutput, JobsPipelineExecutor): ...

    The pipeline holds one [`TaskFileWriter`]: a [`LatentWriter`] or a [`TextWriter`].
    """

    pipeline: Sequence[PipelineStep]
    world_size: int
    skip_completed: bool

    def is_rank_completed(self, rank: int) -> bool:
        """Whether a task needs not be run."""
        return self.skip_completed and self._writer.is_done(rank)

    def get_incomplete_ranks(
        self, ranks: Iterable[int] | None = None, skip_completed: bool | None = None
    ) -> list[int]:
        """The tasks that are still to be run."""
        all_ranks = list(self.own_ranks if ranks is None else ranks)
        if not (self.skip_completed if skip_completed is None else skip_completed):
            return all_ranks
        there = set(self._writer.require_own_files(self.world_size))
        return [rank for rank in all_ranks if self._writer.file_of(rank) not in there]

    @property
    def own_ranks(self) -> range:
        """The tasks that this executor runs."""
        return range(self.world_size)

    @property
    def _writer(self) -> TaskFileWriter:
        found = [step for step in self.pipeline if isinstance(step, TaskFileWriter)]
        if len(found) != 1:
            raise ValueError(
                f"This executor goes by the files of one LatentWriter or TextWriter, and the pipeline has "
                f"{len(found)}. Take datatrove's own executor for other pipelines."
            )
        return found[0]


class LocalLatentExecutor(DoneByOutput, LocalPipelineExecutor):
    """
    `LocalPipelineExecutor` of datatrove, for pipelines with a [`LatentWriter`] or a [`TextWriter`].

    Args:
        *args, **kwargs: As for that executor.
        is_quiet (`bool`, *optional*, defaults to `False`): Show errors only. The folder of logs has everything.

    Raises:
        ChildProcessError: on running, if a process of several is killed. datatrove would wait for its task for ever.
    """

    def __init__(self, *args: Any, is_quiet: bool = False, local_tasks: int = -1, **kwargs: Any) -> None:
        if local_tasks != -1:
            require_count("local_tasks", local_tasks)
        super().__init__(*args, local_tasks=local_tasks, **kwargs)
        self.is_quiet = is_quiet

    @property
    def own_ranks(self) -> range:
        """The tasks that this executor runs."""
        return range(self.local_rank_offset, self.local_rank_offset + self.local_tasks)

    def run(self) -> PipelineStats:
        """Run the tasks that are not done; their statistics."""
        ranks = self.get_incomplete_ranks()
        if not ranks:
            return PipelineStats()
        if self.depends is not None and not self.depends._launched:
            self.depends.run()
        self._launched = True
        self.save_executor_as_json()
        statistics = PipelineStats()
        if self.workers == 1:
            pipeline = self.pipeline
            for rank in ranks:
                self.pipeline = deepcopy(pipeline)  # a step counts what it does
                statistics += self.run_task(rank, rank == ranks[0])
            self.pipeline = pipeline
        else:
            context = multiprocessing.get_context(self.start_method)
            pickled = dill.dumps(self)  # also functions, which the standard library cannot send
            with ProcessPoolExecutor(self.workers, mp_context=context) as pool:
                tasks = [pool.submit(_run_pickled, pickled, rank, rank == ranks[0]) for rank in ranks]
                try:
                    for task in as_completed(tasks):
                        statistics += task.result()
                except BrokenProcessPool as error:
                    raise ChildProcessError(
                        "A process ended before its task did, as when a system kills it because memory runs out. "
                        "Files that are whole stay: repeat the command to make the others, if need be with fewer "
                        'workers. (A script calls `run` below `if __name__ == "__main__":`.)'
                    ) from error
                finally:
                    pool.shutdown(cancel_futures=True)  # tasks that run write their files
        with self.logging_dir.open("stats.json", "wt") as file:
            statistics.save_to_disk(file)
        return statistics

    def run_task(self, rank: int, is_first: bool) -> PipelineStats:
        """
        Run a task in this process.

        Args:
            rank (`int`): The task.
            is_first (`bool`): Whether to show its log, unless the executor is quiet.
        """
        if not self.is_quiet:
            return self._run_for_rank(rank, 0 if is_first else 1)
        logger.remove()
        # datatrove writes errors to stderr, too. Here the log's file is enough: the command says them in words.
        with redirect_stderr(StringIO()):
            return self._run_for_rank(rank, 1)


def _run_pickled(pickled: bytes, rank: int, is_first: bool) -> PipelineStats:
    """A task of a pool."""
    return dill.loads(pickled).run_task(rank, is_first)


class RayLatentExecutor(DoneByOutput, RayPipelineExecutor):
    """
    `RayPipelineExecutor` of datatrove, for pipelines with a [`LatentWriter`] or a [`TextWriter`]. It uses the cluster
    of this machine or of `RAY_ADDRESS`, and starts one on this machine if there is none. Needs the package `ray`.

    Args:
        *args, **kwargs: As for that executor.
        is_quiet (`bool`, *optional*, defaults to `False`): Show errors only. The folder of logs has everything.

    Raises:
        ImportError: on running, without `ray`.
    """

    def __init__(self, *args: Any, is_quiet: bool = False, **kwargs: Any) -> None:
        self.is_quiet = is_quiet
        _show_log(RayPipelineExecutor, not is_quiet)
        super().__init__(*args, **kwargs)

    def run(self) -> None:
        """Run the tasks that are not done."""
        if not self.get_incomplete_ranks():
            return
        try:
            import ray
        except ImportError as error:
            raise ImportError("This executor needs Ray: pip install ray") from error
        if not ray.is_initialized():
            ray.init(log_to_driver=not self.is_quiet, logging_level="ERROR" if self.is_quiet else "INFO")
        super().run()


class SlurmLatentExecutor(DoneByOutput, SlurmPipelineExecutor):
    """
    `SlurmPipelineExecutor` of datatrove, for pipelines with a [`LatentWriter`] or a [`TextWriter`]. Without another
    environment the tasks use the one of this process, if it is a virtual environment.

    Args:
        *args, **kwargs: As for that executor.
        is_quiet (`bool`, *optional*, defaults to `False`): Show errors only.

    Raises:
        ValueError: on running, if there is no `sbatch`, or if it refuses the script.
    """

    def __init__(self, *args: Any, is_quiet: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_quiet = is_quiet
        activate = Path(sys.prefix, "bin", "activate")
        if not (self.env_command or self.condaenv or self.venv_path) and activate.is_file():
            self.venv_path = str(activate)

    def launch_job(self) -> None:
        """Give the tasks that are not done to Slurm."""
        _show_log(SlurmPipelineExecutor, not self.is_quiet)
        try:
            super().launch_job()
        except FileNotFoundError as error:
            if error.filename != "sbatch":
                raise
            raise ValueError(
                "There is no sbatch here. Start the command on a machine that may give jobs to Slurm. The script that "
                f"it would give is {self.script}."
            ) from error
        except subprocess.CalledProcessError as error:
            raise ValueError(
                f"sbatch refused {self.script} (exit status {error.returncode}); its reason stands above."
            ) from error

    @property
    def script(self) -> str:
        """Where the script is that Slurm runs."""
        return self.logging_dir.resolve_paths("launch_script.slurm")


EXECUTORS: dict[str, type[PipelineExecutor]] = {
    "local": LocalLatentExecutor,
    "slurm": SlurmLatentExecutor,
    "ray": RayLatentExecutor,
}
# What values of an argument may be, by its annotation.
_TYPES: dict[str, tuple[Any, str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "dict": (dict, "a JSON object"),
}
# What other options say, and what no word on a command line can.
_TAKEN = {"self", "pipeline", "tasks", "workers", "logging_dir", "skip_completed", "depends", "job_id_retriever"}


def executor_options(kind: str, words: Sequence[str]) -> dict[str, Any]:
    """
    The options of datatrove's executor.

    Args:
        kind (`str`): A key of `EXECUTORS`.
        words (sequence of `str`): `NAME=VALUE` each. A value that is JSON is read as such: `gpus_per_task=1`,
            `sbatch_args={"account": "me"}`.

    Returns:
        `dict[str, Any]`: Values by name.

    Raises:
        ValueError: for a word of another form, an option that this executor does not have, a value of another type,
            and an option that is missing.
    """
    known = {name: one for name, one in _options_of(kind).items() if name not in _TAKEN}
    given: dict[str, Any] = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator:
            raise ValueError(f"--executor_options takes NAME=VALUE, got {word!r}.")
        if name not in known:
            meant = nearest(name, known)
            advice = f"Did you mean {meant}?" if meant else f"Its options: {', '.join(known)}."
            raise ValueError(f"The executor {kind} has no option {name!r}. {advice}")
        given[name] = _value(name, text, known[name])
    missing = [name for name, one in known.items() if one.default is inspect.Parameter.empty and name not in given]
    if missing:
        raise ValueError(
            f"The executor {kind} needs {' and '.join(missing)}: --executor_options "
            f"{' '.join(f'{name}=VALUE' for name in missing)}"
        )
    return given


def _options_of(kind: str) -> Mapping[str, inspect.Parameter]:
    """The arguments of datatrove's own class."""
    base = next(one for one in EXECUTORS[kind].__mro__ if one.__module__.startswith("datatrove."))
    return inspect.signature(base.__init__).parameters


def _value(name: str, text: str, parameter: inspect.Parameter) -> Any:
    """A typed value, of the type that the argument has."""
    annotation = str(getattr(parameter.annotation, "__name__", parameter.annotation))
    kind = re.split(r"\W", annotation)[0]
    if kind == "str":
        return text  # a name or a time, also if it looks like a number
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    types, wanted = _TYPES.get(kind, (object, ""))
    if not isinstance(value, types) or (isinstance(value, bool) and kind in ("int", "float")):
        raise ValueError(f"--executor_options {name} must be {wanted}, got {text!r}.")
    return value


def _show_log(executor: type[PipelineExecutor], is_shown: bool) -> None:
    """Whether the process that starts the tasks shows what datatrove says about them."""
    (logger.enable if is_shown else logger.disable)(executor.__module__)
