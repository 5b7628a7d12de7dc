# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""When a checkpoint is complete, and which of a folder is the last complete one."""

from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .file_names import CONTENTS_FILE
from .json_files import read_json, write_json

logger = logging.get_logger(__name__)


def record_contents(checkpoint: str | Path) -> None:
    """
    Write down the files of a checkpoint and their sizes. The main process does so when those of all processes are
    written, and only `trainer_state.json` is still to come.
    """
    path = Path(checkpoint)
    sizes = {file.relative_to(path).as_posix(): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    write_json(path / CONTENTS_FILE, sizes, sort_keys=True)


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
            read_json(path / TRAINER_STATE_NAME)
            sizes = read_json(path / CONTENTS_FILE)
            is_complete = all((path / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError):
            is_complete = False
        if is_complete:
            return str(path)
        logger.warning(f"{path} was cut off while it was being written or deleted, and is left out.")
    return None


def describe_last_checkpoint(folder: str | Path) -> str:
    """The path of the last complete checkpoint, or that there is none, for messages."""
    return last_complete_checkpoint(folder) or "none: nothing was saved yet"
