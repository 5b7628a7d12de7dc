# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Files of a saved model: written in one step, and checked by their SHA-256."""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

# Holds the hashes of the files that determine what a model computes.
CHECKSUMS_FILE = "checksums.json"
# Holds the directions of a model's latent space.
DIRECTIONS_FILE = "directions.safetensors"
# The ending of a file that is being written.
PARTIAL = ".partial"
# What is hashed. People edit generation_config.json, so this file is not. The file of directions has its own hash.
_CHECKED = (CONFIG_NAME, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, "model-*-of-*.safetensors")
_WAY_OUT = (
    f"Copy or download the model again. If somebody changed its files on purpose, delete {CHECKSUMS_FILE}, or save "
    "the loaded model again."
)


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """
    Write a file in one step: a reader finds the old file or the new file, never half of one, also after a power
    failure.

    The content goes to `<path>.partial`, which is flushed to the disk and renamed. The function never writes through a
    symbolic link: a link at `path` is replaced, and what it points to stays as it is.

    Args:
        path (`str` or `Path`): The file.
        content (`str` or `bytes`): What to write. A text is written in UTF-8.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}{PARTIAL}")
    partial.unlink(missing_ok=True)
    try:
        with open(partial, "xb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk. Where the system cannot do this, nothing
    happens.

    Raises:
        OSError: if the disk is full or broken.
    """
    try:
        # Windows flushes no file that was opened for reading, and no folder.
        descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def share_weights(folder: str | os.PathLike[str]) -> None:
    """Let those read a saved model's weights who may read its configuration. The writer of safetensors makes files
    that their owner alone can read."""
    folder = Path(folder)
    for file in folder.glob("model*.safetensors"):
        file.chmod((folder / CONFIG_NAME).stat().st_mode)


def write_checksums(folder: str | os.PathLike[str]) -> None:
    """Write the hashes of a saved model's weights and configuration to `checksums.json` beside them."""
    folder = Path(folder)
    # Processes that save one model into one folder at the same time write the same.
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        files = sorted({file for pattern in _CHECKED for file in folder.glob(pattern)})
        _write_record(folder, {file.name: sha256_of(file) for file in files})


def renew_checksum(folder: str | os.PathLike[str], name: str) -> None:
    """Write the hash of one file anew, if the folder has hashes."""
    folder = Path(folder)
    with contextlib.suppress(OSError, ValueError, TypeError):
        record = json.loads((folder / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        record[name] = sha256_of(folder / name)
        _write_record(folder, record)


def _write_record(folder: Path, record: dict[str, str]) -> None:
    write_whole(folder / CHECKSUMS_FILE, json.dumps(record, indent=2) + "\n")


def require_checksums(folder: str | os.PathLike[str], only_present: bool = False) -> None:
    """
    Check a saved model's files against the hashes that were written with them. A folder without `checksums.json`, as
    older versions and other programs write it, passes.

    Args:
        folder (`str` or `Path`): The folder of the model.
        only_present (`bool`, *optional*, defaults to `False`): Pass over missing files. A snapshot of the Hub holds
            what was asked for.

    Raises:
        ValueError: for files that are missing or not as they were saved. The message names them and the way out.
    """
    folder = Path(folder)
    file = folder / CHECKSUMS_FILE
    if not file.is_file():
        return
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        missing = {name for name in recorded if not (folder / name).is_file()}
        expected = {name: digest for name, digest in recorded.items() if not (only_present and name in missing)}
        names = [n for n, digest in expected.items() if n in missing or sha256_of(folder / n) != digest]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged or was cut off ({error}). {_WAY_OUT}") from error
    if names:
        raise ValueError(
            f"{folder}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} not as saved: the SHA-256 differs "
            f"from the one in {CHECKSUMS_FILE}. {_WAY_OUT}"
        )
