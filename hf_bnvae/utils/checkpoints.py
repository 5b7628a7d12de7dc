# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""When a checkpoint is complete, and which checkpoint of a folder is the last complete one."""

from pathlib import Path

from transformers import CONFIG_NAME
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .file_names import CONTENTS_FILE
from .json_files import read_json, write_json

logger = logging.get_logger(__name__)


def record_contents(checkpoint: str | Path) -> None:
    """
    Write down the files of a checkpoint and their sizes.

    The main process makes this call when all processes have written their files, and only `trainer_state.json` is
    still missing.
    """
    path = Path(checkpoint)
    sizes = {file.relative_to(path).as_posix(): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    write_json(path / CONTENTS_FILE, sizes, sort_keys=True)


def unmark_checkpoint(checkpoint: str | Path) -> None:
    """Delete the files that mark a folder as a complete checkpoint, before a new checkpoint is written into it. The
    main process makes this call, and the other processes wait."""
    for name in (TRAINER_STATE_NAME, CONTENTS_FILE):
        (Path(checkpoint) / name).unlink(missing_ok=True)


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """
    The newest complete checkpoint of a folder, or `None`.

    A checkpoint is complete if `trainer_state.json`, which is written last, can be read, and if all recorded files are
    there with their recorded sizes. So a checkpoint that was half deleted is not complete. The function logs a warning
    for each newer checkpoint that is not complete.
    """
    for path in _newest_first(folder):
        try:
            read_json(path / TRAINER_STATE_NAME)
            has_state = True
            sizes = read_json(path / CONTENTS_FILE)
            if all((path / name).stat().st_size == size for name, size in sizes.items()):
                return str(path)
        except (OSError, ValueError):
            has_state = (path / TRAINER_STATE_NAME).is_file()
        if has_state and not (path / CONTENTS_FILE).is_file():
            logger.warning(
                f"{path} does not say what belongs to it: it holds a model alone (save_only_model), another "
                "program wrote it, or it was half deleted. It is skipped, because no run could be resumed from it to "
                "the bit. If its weights are whole, it can be loaded as a model."
            )
        else:
            logger.warning(f"{path} was cut off while it was being written or deleted. It is skipped.")
    return None


def describe_last_checkpoint(folder: str | Path) -> str:
    """For messages: the path of the last complete checkpoint, or of the last one that holds a model, or a statement
    that there is none."""
    complete = last_complete_checkpoint(folder)
    if complete is not None:
        return complete
    for path in _newest_first(folder):
        if (path / TRAINER_STATE_NAME).is_file() and (path / CONFIG_NAME).is_file():
            return f"{path}, a model alone: load it with from_pretrained, or go on from it with --model {path}"
    return "none: nothing was saved yet"


def _newest_first(folder: str | Path) -> list[Path]:
    """The folders of a run's checkpoints."""
    found = Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    numbered = [path for path in found if path.is_dir() and path.name.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
