# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The records of results that the repository keeps in `model_cards`: how they are added, and how they are read.

Each `keep_...` function copies what a run or a benchmark left. [`~benchmarks.pages.render_pages`] then renders the
pages.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..reporting.model_card import CARD_JSON, BNVAEModelCard
from ..utils.file_names import EXAMPLES_FILE, RESULTS_FILE, RUN_FILE
from ..utils.json_files import read_json
from .collapse.job import RESULTS_PICTURE, RESULTS_RECORD
from .rates import RATES_PICTURE, RATES_RECORD
from .runs import RUNS_RECORD
from .tables.speed import file_name

# The runs of the default job and of its variants.
DEFAULT_JOB_RECORD = "results.json"


def collect_runs(folders: Iterable[str | Path]) -> list[dict[str, Any]]:
    """
    What identifies each finished run, and what came out of it.

    Args:
        folders (iterable of `str` or `Path`): Output folders of the training script.

    Returns:
        `list[dict]`: For each run `command`, `seed`, `results` (its `eval_...` figures, versions, hardware) and
        `examples`, the texts that it printed.

    Raises:
        ValueError: for a folder without a finished run.
    """
    runs = []
    for folder in map(Path, folders):
        record = read_json(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else {}
        if not record.get("finished"):
            raise ValueError(f"{folder} holds no finished run.")
        results = read_json(folder / RESULTS_FILE)
        kept = {k: v for k, v in results.items() if k.startswith("eval_") or k.endswith("_version") or k == "hardware"}
        examples = read_json(folder / EXAMPLES_FILE)
        seed = record["settings"]["seed"]
        runs.append({"command": record["command"], "seed": seed, "results": kept, "examples": examples})
    return runs


def keep_runs(folders: Iterable[str | Path], cards: Path) -> None:
    """Keep the figures of finished runs of the default job, in the order of the folders. They replace those kept
    before."""
    text = json.dumps(collect_runs(folders), indent=2)
    (cards / DEFAULT_JOB_RECORD).write_text(text + "\n", encoding="utf-8")


def keep_benchmark(folder: Path, cards: Path) -> None:
    """Keep results, picture and record of runs from the output folder of a collapse benchmark."""
    name = f"collapse_{read_json(folder / RESULTS_RECORD)['setting_name']}"
    for file, kept in ((RESULTS_RECORD, ".json"), (RESULTS_PICTURE, ".png"), (RUNS_RECORD, "_runs.json")):
        shutil.copyfile(folder / file, cards / f"{name}{kept}")


def keep_rates(folder: Path, cards: Path) -> None:
    """Keep results and picture from the output folder of a rates benchmark."""
    for name in (RATES_RECORD, RATES_PICTURE):
        shutil.copyfile(folder / name, cards / name)


def keep_speed(file: Path, cards: Path) -> None:
    """Keep a file that the speed benchmark wrote, under a name for its machine."""
    # Not a copy of the file, because it may be the one that is kept.
    text = file.read_text(encoding="utf-8")
    (cards / file_name(json.loads(text))).write_text(text, encoding="utf-8")


def keep_card(run: Path, cards: Path) -> None:
    """Keep the model card of a run and its pictures, in a folder with the run's name."""
    card = BNVAEModelCard.from_json_file(run / CARD_JSON)
    target = cards / run.resolve().name
    target.mkdir(exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    for picture in card.pictures:
        shutil.copyfile(run / picture, target / picture)
    card.save(target)


def read_runs(cards: Path) -> list[dict[str, Any]]:
    """The runs of the default job."""
    return json.loads((cards / DEFAULT_JOB_RECORD).read_text(encoding="utf-8"))


def read_benchmarks(cards: Path) -> dict[str, dict[str, Any]]:
    """The results of the collapse benchmark, by the names of its settings."""
    records = [read_json(file) for file in sorted(cards.glob("collapse_*.json")) if not file.stem.endswith("_runs")]
    return {record["setting_name"]: record for record in records}


def read_rates(cards: Path) -> dict[str, Any]:
    """The results of the rates benchmark."""
    return read_json(cards / RATES_RECORD)


def read_speed(cards: Path) -> list[dict[str, Any]]:
    """The results of the speed benchmark, one for each machine."""
    return [read_json(file) for file in sorted(cards.glob("speed_*.json"))]
