# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The commands that messages, reports and model cards tell a reader to type."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROGRAM = "hf-bnvae"

# What starts each training loop, in one process and behind `accelerate launch`.
_TRAINING_PROGRAMS = {
    "Trainer": ([PROGRAM, "train"], ["-m", "hf_bnvae.cli", "train"]),
    "Accelerate": (["python", "scripts/run_bnvae_no_trainer.py"], ["scripts/run_bnvae_no_trainer.py"]),
}
# How a recorded command of the default loop may begin. The last one was written before there was `hf-bnvae`.
_RECORDED_STARTS = ([PROGRAM, "train"], ["python", "scripts/run_bnvae.py"])


def option_words(options: Mapping[str, Any]) -> list[str]:
    """
    Options as words of a command line.

    Args:
        options (mapping): Values by the names of the options. `True` is the option alone, and a list is several words.
            `None`, `False` and an empty list leave an option out.
    """
    words = []
    for name, value in options.items():
        if value is None or value is False or value == []:
            continue
        words.append(f"--{name}")
        if value is not True:
            words += map(str, value if isinstance(value, (list, tuple)) else [value])
    return words


def command_line(program: Sequence[str], options: Mapping[str, Any]) -> str:
    """
    A command as a reader can paste it into a shell.

    Args:
        program (`Sequence[str]`): The words that start it, such as `("hf-bnvae", "push", "runs/bnvae")`.
        options (mapping): As in [`option_words`].
    """
    return shlex.join([*program, *option_words(options)])


def training_program(loop: str, num_processes: int = 1) -> list[str]:
    """
    The words that start a training.

    Args:
        loop (`str`): `"Trainer"`, or `"Accelerate"` for the loop of `scripts/run_bnvae_no_trainer.py`.
        num_processes (`int`, *optional*, defaults to 1): How many processes share the training.
    """
    alone, launched = _TRAINING_PROGRAMS[loop]
    return alone if num_processes == 1 else ["accelerate", "launch", "--num_processes", str(num_processes), *launched]


def recorded_options(command: str) -> str:
    """The options alone of a recorded training command of the default loop. Any other command stays whole."""
    for start in map(shlex.join, _RECORDED_STARTS):
        if command == start or command.startswith(f"{start} "):
            return command[len(start) :].strip()
    return command


def without_folders(value: Any) -> Any:
    """A value that others may see: only the last part of a path of this machine; any other value unchanged. Of a list
    each part is such a value."""
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    is_local = isinstance(value, str) and os.sep in value and (os.path.isabs(value) or Path(value).exists())
    return Path(value).name if is_local else value
