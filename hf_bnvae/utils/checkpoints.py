# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""When a checkpoint is complete, and which checkpoint of a folder is the last complete one."""

import json
import shutil
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_NAME
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..model.saved_files_bnvae import PARTIAL, flush_to_disk, sha256_of
from .file_names import CONTENTS_FILE
from .json_files import read_json, write_json

logger = logging.get_logger(__name__)


def record_contents(checkpoint: str | Path) -> None:
    """
    Write down the files of a checkpoint, their sizes and their SHA-256, and wait until they are on the disk.

    The main process makes this call when all processes have written their files, and only `trainer_state.json` is
    still missing.
    """
    path = Path(checkpoint)
    contents = {}
    for file in path.rglob("*"):
        if file.is_file() and file.suffix != PARTIAL:  # a killed process leaves partial files
            flush_to_disk(file)
            contents[file.relative_to(path).as_posix()] = {"size": file.stat().st_size, "sha256": sha256_of(file)}
    write_json(path / CONTENTS_FILE, contents, sort_keys=True)


def unmark_checkpoint(checkpoint: str | Path) -> None:
    """Delete the files that mark a folder as a complete checkpoint, before a new checkpoint is written into it. The
    main process makes this call, and the other processes wait."""
    for name in (TRAINER_STATE_NAME, CONTENTS_FILE):
        (Path(checkpoint) / name).unlink(missing_ok=True)


def finish_deletions(folder: str | Path, save_total_limit: int | None) -> None:
    """
    Delete what a killed process left of checkpoints that it was deleting: checkpoints that are not complete, and older
    than the complete ones that the run keeps. The process that holds the lock of the run makes this call.

    Args:
        folder (`str` or `Path`): The folder of a run.
        save_total_limit (`int`, *optional*): How many checkpoints the run keeps; nothing is deleted without a limit.
    """
    if not save_total_limit or save_total_limit < 0:
        return
    num_complete = 0
    for path in _newest_first(folder):
        is_complete = checkpoint_problem(path, verify=False) is None
        if num_complete >= save_total_limit and not is_complete:
            shutil.rmtree(path, ignore_errors=True)
        num_complete += is_complete


def last_complete_checkpoint(folder: str | Path, verify: bool = False) -> str | None:
    """
    The newest complete checkpoint of a folder, or `None`.

    A checkpoint is complete if `trainer_state.json`, which is written last, can be read, and if all recorded files are
    there with their recorded sizes. So a checkpoint that was half deleted is not complete. The function logs a warning
    for each newer checkpoint that is not complete.

    Args:
        folder (`str` or `Path`): The folder of a run.
        verify (`bool`, *optional*, defaults to `False`): Read all files of the checkpoint, and pass over a checkpoint
            whose files are not as they were written.
    """
    for path in _newest_first(folder):
        problem = checkpoint_problem(path, verify)
        if problem is None:
            return str(path)
        logger.warning(f"{problem} It is skipped.")
    return None


def checkpoint_problem(checkpoint: str | Path, verify: bool) -> str | None:
    """
    Why no run can be resumed from a checkpoint; `None` for one that is complete.

    Args:
        checkpoint (`str` or `Path`): The folder of the checkpoint.
        verify (`bool`): As in [`last_complete_checkpoint`].
    """
    path = Path(checkpoint)
    try:
        read_json(path / TRAINER_STATE_NAME)
        has_state = True
        contents = read_json(path / CONTENTS_FILE)
        # An older version recorded the sizes alone.
        sizes = {name: entry["size"] if isinstance(entry, dict) else entry for name, entry in contents.items()}
        is_whole = all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        is_whole, has_state = False, (path / TRAINER_STATE_NAME).is_file()
    if not is_whole and has_state and not (path / CONTENTS_FILE).is_file():
        return (
            f"{path} does not say what belongs to it: it holds a model alone (save_only_model), another program "
            "wrote it, or it was half deleted. No run could be resumed from it to the bit. If its weights are whole, "
            "it can be loaded as a model."
        )
    if not is_whole:
        return f"{path} was cut off while it was being written or deleted."
    if verify:
        damaged = sorted(name for name, entry in contents.items() if not _is_as_written(path / name, entry))
        if damaged:
            return f"{path} is damaged: {', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} not as written."
    return None


def require_as_written(checkpoint: str | Path) -> None:
    """
    Refuse a checkpoint that is not as it was written. A checkpoint that does not say what belongs to it passes.

    Raises:
        ValueError: for such a checkpoint. The message names the files.
    """
    problem = checkpoint_problem(checkpoint, verify=True) if Path(checkpoint, CONTENTS_FILE).is_file() else None
    if problem is not None:
        raise ValueError(f"{problem} Resume from an earlier checkpoint.")


def _is_as_written(file: Path, entry: Any) -> bool:
    """Whether a file has the recorded SHA-256. Where an older version recorded the size alone: whether the file can be
    read."""
    try:
        if isinstance(entry, dict):
            state = file.stat()
            return _sha256_at(file.resolve(), state.st_size, state.st_mtime_ns) == entry["sha256"]
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif zipfile.is_zipfile(file):  # what torch.save writes has a checksum of each part
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    except (OSError, ValueError, KeyError, SafetensorError, zipfile.BadZipFile, zlib.error):
        return False
    return True


@lru_cache(maxsize=1024)
def _sha256_at(file: Path, size: int, changed: int) -> str:
    """The SHA-256 of a file. One that has kept its size and its time of change is read once: a run looks for its
    checkpoint first, and the trainer checks it again when it loads it."""
    return sha256_of(file)


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
