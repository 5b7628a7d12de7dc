# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The commands that benchmarks start in processes of their own: training and evaluation."""

import json
import sys
from collections.abc import Mapping
from typing import Any

# Options of a command by their names.
Options = dict[str, Any]


def training_command(options: Mapping[str, Any]) -> list[str]:
    """The words of a command that trains a model. Options whose value is `None` are left out."""
    return _command("train", options)


def evaluation_command(options: Mapping[str, Any]) -> list[str]:
    """The words of a command that evaluates a model. Options whose value is `None` are left out."""
    return _command("evaluate", options)


def words_of(options: Mapping[str, Any]) -> list[str]:
    """The options as words of a command line. A list is several words. Options whose value is `None` are left out."""
    words: list[str] = []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name}", *(json.dumps(one) if isinstance(one, dict) else str(one) for one in values)]
    return words


def _command(command: str, options: Mapping[str, Any]) -> list[str]:
    return [sys.executable, "-m", "hf_bnvae.cli", command, *words_of(options)]
