# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Finding the files of a checkpoint of the original Optimus, and reading them safely.

The weights are pickled. This module never runs anything in a pickle.
"""

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers.utils import logging

from ...model.configuration_bnvae import BNVAEConfig
from ...utils.json_files import read_json

logger = logging.get_logger(__name__)

Weights = Literal["full", "halves"]

HALVES = ("encoder", "decoder")
CONFIG_FILE = "config.json"
WEIGHTS_FILES = {"encoder": "pytorch_model.bin", "decoder": "pytorch_model.bin", "full": "training.bin"}
# The decoder's folder has one of the first two files, which depends on the machine that wrote it.
SETTINGS_FILES = (
    ("decoder", "training_decoder_args.bin"),
    ("decoder", "training_encoder_args.bin"),
    ("encoder", "training_encoder_args.bin"),
)
# What to do with a damaged file.
_ADVICE = "Copy or download it again."
_PART_FOLDER = re.compile(r"checkpoint-(encoder|decoder|full)-(\d+)")

# A checkpoint holds tensors, plain values, and the settings of its training: a namespace that holds a device, and beta
# as an element of a NumPy array. The constructor of such an element changed its name in NumPy 2.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
SAFE_GLOBALS = [
    argparse.Namespace,
    torch.device,
    np.dtype,
    type(np.dtype(np.float64)),
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class OptimusCheckpoint:
    """
    The paths of one checkpoint's files, whether the files exist or not.

    Args:
        root (`Path`): The folder that holds the folders of its parts, `checkpoint-{encoder,decoder,full}-<step>`.
        step (`int`): The step of the training.
    """

    root: Path
    step: int

    def file(self, part: str, name: str) -> Path:
        """The path of a file of `"encoder"`, `"decoder"` or `"full"`."""
        return self.root / f"checkpoint-{part}-{self.step}" / name

    def weights_file(self, part: str) -> Path:
        """The path of the weights of a part."""
        return self.file(part, WEIGHTS_FILES[part])

    def read_config(self, half: str) -> dict[str, Any]:
        """The content of the `config.json` of `"encoder"` or `"decoder"`."""
        return read_json(self.file(half, CONFIG_FILE), _ADVICE)

    def has_weights(self, *parts: str) -> bool:
        """Whether all of these parts have weights."""
        return all(self.weights_file(part).is_file() for part in parts)


def find_optimus_checkpoint(path: str | Path, step: int | None = None) -> OptimusCheckpoint:
    """
    The checkpoint in a folder: the folder of a checkpoint, as in the release, or the output folder of a training.

    Args:
        path (`str`): The folder. The parts of the checkpoint lie in it, or in its folders `checkpoint-<step>`.
        step (`int`, *optional*): Which of several checkpoints to take.

    Raises:
        ValueError: if the folder holds no checkpoint, none of this step, or several without a `step` to choose one.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(
            f"--checkpoint_path {path} is no folder. Give the one that holds checkpoint-encoder-<step> and "
            "checkpoint-decoder-<step>; an archive must be unpacked first."
        )
    nested = (entry for entry in path.iterdir() if entry.is_dir() and re.fullmatch(r"checkpoint-\d+", entry.name))
    found = []
    for root in (path, *nested):
        parts = (_PART_FOLDER.fullmatch(entry.name) for entry in root.iterdir() if entry.is_dir())
        found += [OptimusCheckpoint(root, number) for number in {int(part[2]) for part in parts if part}]
    if not found:
        raise ValueError(_nothing_found(path))
    found.sort(key=lambda checkpoint: (checkpoint.step, checkpoint.root))
    steps = ", ".join(f"{checkpoint.step} in {checkpoint.root}" for checkpoint in found)
    chosen = [checkpoint for checkpoint in found if step in (None, checkpoint.step)]
    if not chosen:
        raise ValueError(f"There is no step {step} in {path}. There are: {steps}.")
    if len({checkpoint.step for checkpoint in chosen}) > 1:
        raise ValueError(f"There are checkpoints of several steps in {path}: {steps}. Choose one with --step.")
    if len(chosen) > 1:
        raise ValueError(
            f"Step {chosen[0].step} is there more than once: {steps}. Give --checkpoint_path one of them."
        )
    return chosen[0]


def _nothing_found(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    if _PART_FOLDER.fullmatch(path.resolve().name):
        return f"{path} is one part of a checkpoint. Give the folder above it: {path.resolve().parent}."
    if CONFIG_FILE in names and read_json(path / CONFIG_FILE, _ADVICE).get("model_type") == BNVAEConfig.model_type:
        return f"{path} holds a BNVAE already, with nothing to convert: BNVAEModel.from_pretrained({str(path)!r})."
    listing = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "nothing"
    return (
        f"There is no checkpoint of Optimus in {path}: neither it nor a folder checkpoint-<step> in it holds "
        f"checkpoint-encoder-<step>, checkpoint-decoder-<step> or checkpoint-full-<step>. It holds {listing}."
    )


def read_checkpoint(
    checkpoint: OptimusCheckpoint, weights: Weights | None = None
) -> tuple[dict[str, torch.Tensor], argparse.Namespace | None, list[Path]]:
    """
    All weights of a checkpoint, and the settings of its training.

    Args:
        checkpoint ([`OptimusCheckpoint`]): The checkpoint.
        weights (`str`, *optional*): `"full"` for the weights in the full checkpoint, the default if it exists, or
            `"halves"` for the weights in the folders of encoder and decoder.

    Returns:
        `tuple`: the weights, as `encoder.*` and `decoder.*`; the settings, or `None` if they are missing or cannot be
        read safely; and the files of the weights.

    Raises:
        ValueError: if a file is missing, is damaged, or could run code.
    """
    parts = _choose_parts(checkpoint, weights)
    state, settings = {}, None
    if parts == ("full",):
        state, settings = _read_full(checkpoint)
        _warn_about_other_halves(checkpoint, state)
    else:
        for half in parts:
            state |= _read_half(checkpoint, half)
    return state, settings or _read_settings(checkpoint), [checkpoint.weights_file(part) for part in parts]


def load_safely(file: Path) -> Any:
    """
    The content of a torch file, old or new, on the CPU. The file may hold tensors, plain values and training settings.

    Raises:
        ValueError: if the file holds anything else, or is damaged. The function runs nothing in the file.
    """
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # For bytes that are no pickle, the unpickler may raise any error.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise ValueError(
                f"{file} holds {refused[1]}, which is neither a tensor nor a plain value, and to load it could run "
                "code. Nothing in the file was run. If it is whole and you trust its source, save its weights alone "
                "with the original's program."
            ) from error
        with open(file, "rb") as stream:
            start = stream.read(24)
        reason = type(error).__name__
        if not isinstance(error, pickle.UnpicklingError):  # torch's message advises unsafe loading
            reason += f": {str(error).partition(chr(10))[0]}"
        raise ValueError(
            f"{file} is no file of torch, or is damaged or cut off ({reason}); it "
            f"{f'begins with {start!r}' if start else 'is empty'}. Copy or download it again."
        ) from error


def _as_state(value: Any, file: Path) -> dict[str, torch.Tensor]:
    """The weights in `value`, without the prefix that data-parallel training puts ahead of their names."""
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    ):
        raise ValueError(f"{file} holds no weights where those of an Optimus would be. Copy or download it again.")
    is_prefixed = all(name.startswith("module.") for name in value)
    return {name.removeprefix("module.") if is_prefixed else name: tensor for name, tensor in value.items()}


def _read_full(checkpoint: OptimusCheckpoint) -> tuple[dict[str, torch.Tensor], argparse.Namespace | None]:
    file = checkpoint.weights_file("full")
    try:
        content = load_safely(file)
        weights = content.get("model_state_dict") if isinstance(content, Mapping) else None
        state = _as_state(weights, file)
    except ValueError as error:
        if not checkpoint.has_weights(*HALVES):
            raise
        raise ValueError(f"{error} Encoder and decoder were saved by themselves, too: --weights halves.") from error
    settings = content.get("args")
    return state, settings if isinstance(settings, argparse.Namespace) else None


def _read_half(checkpoint: OptimusCheckpoint, half: str) -> dict[str, torch.Tensor]:
    file = checkpoint.weights_file(half)
    return {f"{half}.{name}": tensor for name, tensor in _as_state(load_safely(file), file).items()}


def _read_settings(checkpoint: OptimusCheckpoint) -> argparse.Namespace | None:
    """The settings of the training beside the halves, or `None`."""
    for half, name in SETTINGS_FILES:
        file = checkpoint.file(half, name)
        if not file.is_file():
            continue
        try:
            settings = load_safely(file)
        except ValueError as error:
            logger.warning(f"The training's settings were not read. {error}")
            continue
        if isinstance(settings, argparse.Namespace):
            return settings
    return None


def _warn_about_other_halves(checkpoint: OptimusCheckpoint, state: Mapping[str, torch.Tensor]) -> None:
    """Warn if a half holds other weights than the full checkpoint. The conversion takes the full checkpoint's."""
    for half in HALVES:
        file = checkpoint.weights_file(half)
        if not file.is_file():
            continue
        try:
            other = _read_half(checkpoint, half)
        except ValueError as error:
            logger.warning(f"The weights of {checkpoint.weights_file('full')} were taken, and not compared. {error}")
            continue
        own = {name: tensor for name, tensor in state.items() if name.startswith(f"{half}.")}
        differing = sorted(
            name
            for name in own.keys() | other.keys()
            if name not in own or name not in other or not torch.equal(own[name], other[name])
        )
        if differing:
            logger.warning(
                f"{len(differing)} tensors of {file} are not those of {checkpoint.weights_file('full')} "
                f"({differing[0]}{', ...' if len(differing) > 1 else ''}). The latter were taken, as Optimus' own "
                "evaluation does; --weights halves takes the former."
            )


def _choose_parts(checkpoint: OptimusCheckpoint, weights: Weights | None) -> tuple[str, ...]:
    """The parts whose weights to take, after a check that all necessary files exist."""
    parts = ("full",) if weights == "full" or (weights is None and checkpoint.has_weights("full")) else HALVES
    files = [checkpoint.file(half, CONFIG_FILE) for half in HALVES]
    files += [checkpoint.weights_file(part) for part in parts]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"The checkpoint is not whole, there is no {' and no '.join(missing)}. A conversion needs the "
            f"{CONFIG_FILE} of encoder and decoder, and their {WEIGHTS_FILES['encoder']} or the full checkpoint's "
            f"{WEIGHTS_FILES['full']}. (The {CONFIG_FILE} of all steps of a training are the same.)"
        )
    return parts
