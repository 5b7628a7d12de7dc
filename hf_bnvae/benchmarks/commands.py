# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The commands that benchmarks start in processes of their own: training and evaluation."""

import sys
from collections.abc import Mapping
from typing import Any


def training_command(options: Mapping[str, Any]) -> list[str]:
    """The words of a command that trains a model. Options whose value is `None` are left out."""
    return _command("train", options)


def evaluation_command(options: Mapping[str, Any]) -> list[str]:
    """The words of a command that evaluates a model. Options whose value is `None` are left out."""
    return _command("evaluate", options)


def _command(command: str, options: Mapping[str, Any]) -> list[str]:
    given = {name: value for name, value in options.items() if value is not None}
    flags = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "hf_bnvae.cli", command, *flags]
