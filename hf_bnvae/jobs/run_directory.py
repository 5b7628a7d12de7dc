# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The folder of a training run: is it empty, or does it hold a run to resume, a finished run, or somebody's files?"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..model.scales_bnvae import DEFAULT_RATE
from ..utils.checkpoints import last_complete_checkpoint
from ..utils.file_names import LOCK_FILE, PARTIAL_RUN_FILE, RUN_FILE
from ..utils.json_files import read_json, write_json
from ..utils.safe_loading import require_no_code
from .training_options import takes_default_rate

logger = logging.get_logger(__name__)

LOCK_SECONDS = 10

# Options that act after the last step. A run that was recorded before they existed resumes with any value of them.
_AT_THE_END = ("prior",)
# What runs had before these options existed.
_BEFORE = {"auxiliary": "none", "encoding": "utf-8"}


class RunDirectory:
    """
    The output folder of one training run. Its file `run.json` holds the settings of the run, and says whether the run
    has finished.

    Args:
        path (`str`): The folder.
        settings (`dict[str, Any]`): The settings that determine the result (model, data, seed, ...), as JSON values.
        command (`str`): The command line that repeats the run. It is recorded too.
    """

    def __init__(self, path: str, settings: dict[str, Any], command: str = "") -> None:
        self.path = Path(path)
        self.command = command
        self.settings = json.loads(json.dumps(settings, default=str))
        self._lock: BaseFileLock | None = None
        self._seen: tuple[bytes | None, list[str]] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds a finished run."""
        return self._recorded().get("finished", False)

    def find_checkpoint(self) -> str | None:
        """
        The checkpoint from which an unfinished run is resumed. Nothing is written.

        Returns:
            `str`: The checkpoint's folder; `None` if the run starts from the beginning.

        Raises:
            ValueError: if the folder holds files that no run made, or checkpoints of a run with other settings; if
                the checkpoint could run code ([`~utils.safe_loading.require_no_code`]).
        """
        self._seen = self._state()
        if self._recorded():
            checkpoint = last_complete_checkpoint(self.path, verify=True)
            if checkpoint is not None:
                self._require_same_settings()
                require_no_code(checkpoint)
            return checkpoint
        found = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        foreign_files = [name for name in found if name not in (PARTIAL_RUN_FILE, LOCK_FILE)]
        if foreign_files:
            raise ValueError(
                f"The output folder {self.path} is not empty and was not made by this script (it holds "
                f"{', '.join(foreign_files[:5])}{', ...' if len(foreign_files) > 5 else ''}). Nothing was touched. "
                "Choose another --output_dir."
            )
        return None

    def start(self) -> None:
        """
        Record that a run with these settings has begun. Until its end no other process can start a run here.

        Raises:
            ValueError: if another process is training here, or has trained here since the folder was looked at. A
                launcher that was killed may leave such a process.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # One lock object for each file in a process, so that a notebook can start a run again.
        self._lock = FileLock(self.path / LOCK_FILE, is_singleton=True)
        try:
            # The workers of a data loader may live on for a moment, so wait for them.
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise ValueError(
                f"Another process is training in {self.path} (a launcher that was killed leaves its processes). Wait "
                "for it, end it, or choose another --output_dir."
            ) from None
        except NotImplementedError:
            logger.warning(f"The file system of {self.path} has no locks. Do not start a second run in this folder.")
        if self._seen is not None and self._state() != self._seen:
            self._lock.release(force=True)
            raise ValueError(
                f"Another process has trained in {self.path} meanwhile. Nothing was touched. Repeat the command: it "
                "goes on from an unfinished run, and leaves a finished one alone."
            )
        self._record(finished=False)

    def finish(self) -> None:
        """Mark the run as finished. Everything else must have been written before."""
        self._record(finished=True)
        # While the lock is held: after that the file may be another process' lock. Windows keeps the file.
        with suppress(OSError):
            (self.path / LOCK_FILE).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release(force=True)

    def differences(self) -> list[str]:
        """The settings in which the recorded run differs from this run, as "name: recorded value, not new value"."""
        # An option that did not exist when the run was recorded was off.
        recorded = {name: value for name, value in self.settings.items() if value is False or name in _AT_THE_END}
        recorded |= {name: value for name, value in _BEFORE.items() if name in self.settings}
        recorded |= self._recorded().get("settings", {})
        ours, theirs = _with_rate(self.settings), _with_rate(recorded)
        return [
            f"{name}: {theirs.get(name)!r}, not {ours.get(name)!r}"
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
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
        return read_json(file, "The run cannot be resumed. Choose another --output_dir.")

    def _state(self) -> tuple[bytes | None, list[str]]:
        """What another run would change: the record and the checkpoints."""
        file = self.path / RUN_FILE
        checkpoints = self.path.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        return file.read_bytes() if file.is_file() else None, sorted(path.name for path in checkpoints)

    def _record(self, finished: bool) -> None:
        record = {"command": self.command, "finished": finished, "settings": self.settings}
        write_json(self.path / RUN_FILE, record, sort_keys=True)


def _with_rate(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the rate that the configuration takes where they have none, as all runs once had."""
    takes_default = settings.get("rate") is None and "posterior" in settings and takes_default_rate(settings)
    return {**settings, "rate": DEFAULT_RATE} if takes_default else dict(settings)
