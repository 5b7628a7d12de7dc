# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a run's folder holds: nothing, a run to resume, a finished one to leave alone, or somebody's files."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock, FileLock, Timeout
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

logger = logging.get_logger(__name__)

RUN_FILE = "run.json"
# What a finished run leaves beside it.
RESULTS_FILE = "all_results.json"
EXAMPLES_FILE = "examples.json"
PARTIAL_RUN_FILE = "run.json.partial"
LOCK_FILE = "run.lock"
LOCK_SECONDS = 10
CONTENTS_FILE = "contents.json"


def without_folders(value: Any) -> Any:
    """A path of this machine as its last part alone, which is what others may see of it; any other value as it is."""
    is_local = isinstance(value, str) and os.sep in value and (os.path.isabs(value) or Path(value).exists())
    return Path(value).name if is_local else value


def record_contents(checkpoint: str | Path) -> None:
    """
    Write down the files of a checkpoint and their sizes. The main process does so when those of all processes are
    written, and only `trainer_state.json` is still to come.
    """
    path = Path(checkpoint)
    sizes = {file.relative_to(path).as_posix(): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    (path / CONTENTS_FILE).write_text(json.dumps(sizes, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def unmark_checkpoint(checkpoint: str | Path) -> None:
    """Take from a folder what says that it is a complete checkpoint, before one is written into it. The main process
    does so, the others wait."""
    for name in (TRAINER_STATE_NAME, CONTENTS_FILE):
        (Path(checkpoint) / name).unlink(missing_ok=True)


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """
    The newest checkpoint of a folder that was written to its end, and not half deleted since: `trainer_state.json`,
    which is written last, is whole, and all recorded files are there in their sizes. Newer ones that are not complete
    are named in a warning.
    """
    found = Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    numbered = [path for path in found if path.is_dir() and path.name.rpartition("-")[2].isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            sizes = json.loads((path / CONTENTS_FILE).read_text(encoding="utf-8"))
            is_complete = all((path / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, json.JSONDecodeError):
            is_complete = False
        if is_complete:
            return str(path)
        logger.warning(f"{path} was cut off while it was being written or deleted, and is left out.")
    return None


def describe_last_checkpoint(folder: str | Path) -> str:
    """The path of the last complete checkpoint, or that there is none, for messages."""
    return last_complete_checkpoint(folder) or "none: nothing was saved yet"


def require_finite_loss(loss: torch.Tensor, step: int, folder: str | Path) -> None:
    """
    Stop a training whose loss is no number.

    Args:
        loss (`torch.Tensor`): The loss, 0-dimensional.
        step (`int`): The step that it belongs to, from 1.
        folder (`str`): The run's folder.

    Raises:
        FloatingPointError: with the last good checkpoint, and what may help.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"The loss became {loss.item()} at step {step}, so the training stops; the parameters were not updated "
            f"with it. The last good checkpoint is {describe_last_checkpoint(folder)}. Lower learning_rate or "
            "latent_learning_rate, clip gradients (max_grad_norm), or use bf16 in place of fp16."
        )


class RunDirectory:
    """
    The output folder of one training run. A file `run.json` in it says with what settings the run was started and
    whether it has finished.

    Args:
        path (`str`): The folder.
        settings (`dict[str, Any]`): What makes the run what it is (model, data, seed, ...), as JSON values.
        command (`str`): The command line that repeats it, which is recorded beside them.
    """

    def __init__(self, path: str, settings: dict[str, Any], command: str = "") -> None:
        self.path = Path(path)
        self.command = command
        self.settings = json.loads(json.dumps(settings, default=str))
        self._lock: BaseFileLock | None = None

    @property
    def is_finished(self) -> bool:
        """Whether a run was finished here."""
        return self._recorded().get("finished", False)

    def find_checkpoint(self) -> str | None:
        """
        The checkpoint of an unfinished run to resume from, `None` to start from the beginning. Nothing is written.

        Raises:
            ValueError: if the folder holds files that no run made, or checkpoints of a run with other settings.
        """
        if self._recorded():
            checkpoint = last_complete_checkpoint(self.path)
            if checkpoint is not None:
                self._require_same_settings()
            return checkpoint
        found = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        strangers = [name for name in found if name not in (PARTIAL_RUN_FILE, LOCK_FILE)]
        if strangers:
            raise ValueError(
                f"The output folder {self.path} is not empty and was not made by this script (it holds "
                f"{', '.join(strangers[:5])}{', ...' if len(strangers) > 5 else ''}). Nothing was touched. Choose "
                "another --output_dir."
            )
        return None

    def start(self) -> None:
        """
        Record that a run with these settings has begun. From now on to its end no other process can start one here.

        Raises:
            ValueError: if another process is training here. After a launcher was killed its processes may still.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # One object for each file in a process, so that a notebook can start a run again.
        self._lock = FileLock(self.path / LOCK_FILE, is_singleton=True)
        try:
            # Those who only live on for a moment, a data loader's workers, are waited for.
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise ValueError(
                f"Another process is training in {self.path} (a launcher that was killed leaves its processes). Wait "
                "for it, end it, or choose another --output_dir."
            ) from None
        except NotImplementedError:
            logger.warning(f"The file system of {self.path} has no locks: do not start a second run there meanwhile.")
        self._record(finished=False)

    def finish(self) -> None:
        """Mark the run as finished; everything must have been written before."""
        self._record(finished=True)
        if self._lock is not None:
            self._lock.release(force=True)
        (self.path / LOCK_FILE).unlink(missing_ok=True)

    def differences(self) -> list[str]:
        """The settings in which the recorded run differs from this one, as "name: recorded, not asked"."""
        recorded = self._recorded().get("settings", {})
        names = sorted({*recorded, *self.settings})
        return [
            f"{name}: {recorded.get(name)!r}, not {self.settings.get(name)!r}"
            for name in names
            if recorded.get(name) != self.settings.get(name)
        ]

    def _require_same_settings(self) -> None:
        differences = self.differences()
        if differences:
            raise ValueError(
                f"{self.path} holds an unfinished run with other settings ({'; '.join(differences)}). Resume it with "
                "the settings that it was started with, or choose another --output_dir."
            )

    def _recorded(self) -> dict[str, Any]:
        file = self.path / RUN_FILE
        if not file.is_file():
            return {}
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{file} is damaged ({error}), so the run cannot be resumed. Choose another --output_dir."
            ) from error

    def _record(self, finished: bool) -> None:
        record = {"command": self.command, "finished": finished, "settings": self.settings}
        text = json.dumps(record, indent=2, sort_keys=True)
        partial = self.path / PARTIAL_RUN_FILE
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, self.path / RUN_FILE)
