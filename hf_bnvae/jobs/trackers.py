# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which trackers (`--report_to`) a training can report to: `Trainer` and Accelerate have lists that differ."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from .option_parser import nearest

# For each loop, the names that it knows, and a function that gives the names whose packages are installed.
TRACKERS: dict[str, tuple[Collection[str], Callable[[], Iterable[Any]]]] = {
    "Trainer": (INTEGRATION_TO_CALLBACK, get_available_reporting_integrations),
    "Accelerate": (LOGGER_TYPE_TO_CLASS, get_available_trackers),
}
# Packages that are not called as their tracker.
_PACKAGES = {"azure_ml": "azureml-core"}
# `Trainer` does not look whether this one is installed.
_NOT_LOOKED_FOR = "flyte"


def require_trackers(names: Iterable[str], loop: str) -> None:
    """
    Refuse trackers that a loop does not have, or whose package is missing. Accelerate would pass over the latter in
    silence.

    Args:
        names (iterable of `str`): The trackers.
        loop (`str`): As in [`TrainingJob`].

    Raises:
        ValueError: for such a tracker. The message names the nearest one, or the package.
    """
    known, find_installed = TRACKERS[loop]
    installed = {*map(str, find_installed()), _NOT_LOOKED_FOR}
    for name in names:
        if name not in known:
            meant = nearest(name, known)
            advice = f"Choose from {', '.join(sorted(known))}." if meant is None else f"Did you mean {meant}?"
            raise ValueError(f"--report_to {name}: {loop} has no such tracker. {advice}")
        if name not in installed:
            package = _PACKAGES.get(name, name)
            raise ValueError(f"--report_to {name} needs a package that is not installed: pip install {package}.")
