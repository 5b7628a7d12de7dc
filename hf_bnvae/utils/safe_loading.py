# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Reads a checkpoint without running code that somebody may have put into it."""

import os
import pickle
import pickletools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_pt_utils import safe_globals

# Torch then reads every pickle as with `weights_only=True`, also where a caller asks for something else: Accelerate
# for registered objects, torch for sharded checkpoints, DeepSpeed for its states. The other name forbids the first.
_FORCE, _NEVER = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_PICKLES = (".bin", ".pt", ".pth", ".pkl")
# Operations of a pickle that name functions and classes.
_CALLS = ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
# The file that describes a sharded checkpoint. Torch reads it with `pickle` itself.
_SHARDS = ".metadata"
# The types that such a file may name, by their modules. All `dtype`s of torch come on top.
_SHARD_TYPES = {
    "torch": ("Size",),
    "torch.serialization": ("_get_layout",),
    "torch.distributed.checkpoint.metadata": (
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    **dict.fromkeys(("pathlib", "pathlib._local"), ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
}


@contextmanager
def safe_loading(checkpoint: str | Path | None) -> Iterator[None]:
    """
    Inside the block, the pickles of a checkpoint give numbers, texts and containers, and nothing that could run.

    Args:
        checkpoint (`str` or `Path`, *optional*): The checkpoint's folder. Without it nothing is checked.

    Raises:
        ValueError: as [`require_no_code`], before the block begins.
    """
    if checkpoint is not None:
        require_no_code(checkpoint)
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _NEVER)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def require_no_code(checkpoint: str | Path) -> None:
    """
    Refuse a checkpoint with a pickle that could run code. Nothing is loaded, and tensors are not read.

    Args:
        checkpoint (`str` or `Path`): The checkpoint's folder.

    Raises:
        ValueError: if a file names functions or classes that a saved state does not need. The message names the file
            and what was found.
    """
    for file in sorted(Path(checkpoint).rglob("*")):
        # Older versions left `Trainer`'s arguments. Nothing reads them.
        if not file.is_file() or file.name == TRAINING_ARGS_NAME:
            continue
        if file.name == _SHARDS:
            found = _strange_in_shards(file)
        elif file.suffix in _PICKLES:
            found = _strange_in_pickle(file)
        else:
            continue
        if found:
            raise ValueError(
                f"{file} could run code when it is loaded, so it was not loaded ({found}). Resume from a checkpoint "
                f"that you trust, or delete {checkpoint}: the run then goes on from the one before."
            )


def _strange_in_pickle(file: Path) -> str:
    """What a file would call while it is loaded, in words; empty if nothing. A damaged file calls nothing, and whoever
    reads it says so."""
    try:
        with safe_globals():  # of NumPy, for random states
            names = set(torch.serialization.get_unsafe_globals_in_checkpoint(file)) - {"_codecs.encode"}
    except pickle.UnpicklingError as error:  # a pickle that `torch.save` does not write
        return str(error)
    except (ValueError, EOFError, RuntimeError, OSError):  # no archive of torch, or a damaged one
        return "it is a pickle that `torch.save` did not write" if _is_pickle_with_calls(file) else ""
    return f"it needs {', '.join(sorted(names))}" if names else ""


def _is_pickle_with_calls(file: Path) -> bool:
    """Whether a file begins as a pickle that names functions or classes. Such a pickle runs as far as it is whole."""
    with file.open("rb") as stream, suppress(ValueError, EOFError):
        return any(operation.name in _CALLS for operation, _, _ in pickletools.genops(stream))
    return False


class _ShardUnpickler(pickle.Unpickler):
    """Gives what the description of a sharded checkpoint is made of."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(vars(torch).get(name), torch.dtype)
        if is_dtype or name in _SHARD_TYPES.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it needs {module}.{name}")


def _strange_in_shards(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            _ShardUnpickler(stream).load()
    except Exception as error:  # of a damaged file it can be any
        return str(error) or type(error).__name__
    return ""
