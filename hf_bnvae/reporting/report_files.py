# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The file `report.json`: which kind of report a file is, and how it is read."""

from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from ..evaluation.verdict import judge
from ..utils.file_names import REPORT_JSON
from ..utils.json_files import read_json

# What a `report.json` calls itself: only the folder of an evaluation may be replaced by another evaluation.
EVALUATION, TRAINING = "hf_bnvae evaluation", "hf_bnvae training"

# Version 2 has `verdict` and `verdict_text`. Version 1, which does not name its version, has figures of the encoder
# only.
REPORT_VERSION = 2

# What every report has, and of which kinds its fields are.
PARTS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "model": {"name_or_path": str},
    "data": {"sha256": str},
    "figures": {"kl": (float, int, NoneType), "elbo": (float, int, NoneType)},
}


def is_report(file: str | Path, *kinds: str) -> bool:
    """Whether a file is the `report.json` of one of these kinds, `EVALUATION` or `TRAINING`."""
    try:
        return read_json(file).get("kind") in kinds
    except (OSError, ValueError):
        return False


def read_report(path: str, needed: Sequence[str] = ("figures",)) -> dict[str, Any]:
    """
    The report of an evaluation or of a training run. A report of an older version gets its verdict from its figures.

    Args:
        path (`str`): Its folder or its `report.json`.
        needed (`Sequence[str]`, *optional*): The parts that the caller reads. They are checked.

    Raises:
        ValueError: if there is none, or if it lacks what every report has.
    """
    file = Path(path)
    file = file / REPORT_JSON if file.is_dir() else file
    if not is_report(file, EVALUATION, TRAINING):
        raise ValueError(
            f"{path} is no evaluation: it must be a {REPORT_JSON} that a script of this project wrote, or a folder "
            "with one."
        )
    report = read_json(file)
    for part in needed:
        values, kinds = report.get(part), PARTS[part]
        wrong = [part] if not isinstance(values, dict) else []
        wrong += [
            f"{part}.{name}" for name, kind in kinds.items() if not wrong and not isinstance(values.get(name), kind)
        ]
        if wrong:
            raise ValueError(f"{file} is damaged: {wrong[0]} is missing or of another kind. Repeat the evaluation.")
    if "verdict" not in report:
        verdict = judge(report["figures"])
        report |= {"verdict": verdict.name, "verdict_text": str(verdict)}
    return report
