# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The records of results that the repository keeps in `model_cards`: how they are added, and how they are read.

Each `keep_...` function copies what a run or a benchmark left. [`~benchmarks.pages.render_pages`] then renders the
pages.
"""

import copy
import json
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..reporting.commands import without_folders
from ..reporting.model_card import CARD_JSON, BNVAEModelCard
from ..reporting.report_files import read_report
from ..utils.file_names import EXAMPLES_FILE, RESULTS_FILE, RUN_FILE
from ..utils.json_files import read_json, write_json
from .collapse.job import RESULTS_PICTURE, RESULTS_RECORD
from .packaged import PACKAGED_ENCODER, packaged_encoder
from .rates import RATES_PICTURE, RATES_RECORD
from .runs import RUNS_RECORD
from .tables.speed import file_name

# The runs of the default job and of its variants.
DEFAULT_JOB_RECORD = "results.json"
EMBEDDINGS_RECORD = "embeddings.json"
EDITS_RECORD = "edits.json"
ANSWERS_RECORD = "answers.json"
# Of the record of a recipe, and of its page. The rest of the name is that of the run.
RECIPE_PREFIX = "recipe_"

# What the record of a recipe keeps of its training and of each evaluation.
_KEPT_OF_A_TRAINING = (
    "num_parameters",
    "train_samples",
    "train_runtime",
    "train_samples_per_second",
    "epoch",
    "hardware",
)
_KEPT_OF_AN_EVALUATION = ("figures", "verdict", "samples", "examples", "command")


def join_records(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    One record of models that were judged one after another.

    Args:
        records (sequence of mappings): What one benchmark of `models` wrote in several runs. Rows of one name, whose
            models differ in their seed, become one if they have a list of `figures`.

    Raises:
        ValueError: for records of other texts, settings, versions or hardware than the first one, and for two rows of
            one name that cannot become one.
    """
    first = records[0]
    for record in records[1:]:
        differing = sorted(key for key in {*first, *record} - {"models"} if record.get(key) != first.get(key))
        if differing:
            raise ValueError(f"Models that were judged in different ways share no table: {', '.join(differing)}.")
    rows: dict[str, dict[str, Any]] = {}
    for row in chain.from_iterable(record["models"] for record in records):
        name = row["name"]
        if name not in rows:
            rows[name] = copy.deepcopy(row)
        elif "figures" in row:
            rows[name]["figures"] += row["figures"]
        else:
            raise ValueError(f"Two records have models named {name}. Judge them together.")
    return {**first, "models": list(rows.values())}


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
        if file != RESULTS_PICTURE or (folder / file).is_file():  # shared options that were varied have no picture
            shutil.copyfile(folder / file, cards / f"{name}{kept}")


def keep_rates(folder: Path, cards: Path) -> None:
    """Keep results and picture from the output folder of a rates benchmark."""
    for name in (RATES_RECORD, RATES_PICTURE):
        shutil.copyfile(folder / name, cards / name)


def collect_recipe(run: Path, evaluations: Mapping[str, Path]) -> dict[str, Any]:
    """
    What a recipe's run is, and what its model does.

    Args:
        run (`Path`): Output folder of the training.
        evaluations (mapping): Output folders of evaluations of its model, by what tables call their texts.

    Returns:
        `dict`: `command`, `seed`, the training's figures, versions and hardware, and the `evaluations`.

    Raises:
        ValueError: for a folder without a finished run, for an evaluation of another model, and for an evaluation that
            has not judged the model's texts.
    """
    (found,) = collect_runs([run])
    results = read_json(run / RESULTS_FILE)
    recipe = {"command": found["command"], "seed": found["seed"]}
    recipe |= {k: v for k, v in results.items() if k in _KEPT_OF_A_TRAINING or k.endswith("_version")}
    recipe["evaluations"] = []
    for name, folder in evaluations.items():
        report = read_report(str(folder))
        if Path(report["settings"]["model_name_or_path"]).name != run.resolve().name:
            raise ValueError(
                f"{folder} is an evaluation of {report['settings']['model_name_or_path']}, not of {run.name}."
            )
        if "reconstructions" not in report.get("samples", {}):
            raise ValueError(f"{folder} has not judged reconstructions. Evaluate with --judge_language_model.")
        kept = {key: report[key] for key in _KEPT_OF_AN_EVALUATION}
        kept["command"] = shlex.join(map(without_folders, shlex.split(kept["command"])))
        judge = report["settings"].get("judge_encoder")
        if judge is not None and Path(judge) == packaged_encoder():
            # Its package keeps it in a folder of another name.
            kept["samples"]["judges"]["encoder"] = PACKAGED_ENCODER
        recipe["evaluations"].append({"name": name, **kept})
    return recipe


def keep_recipe(run: Path, evaluations: Mapping[str, Path], cards: Path) -> None:
    """Keep what [`collect_recipe`] returns, and the run's model card."""
    recipe = collect_recipe(run, evaluations)
    keep_card(run, cards)
    write_json(cards / f"{RECIPE_PREFIX}{run.resolve().name}.json", recipe)


def keep_embeddings(file: Path, cards: Path) -> None:
    """Keep a file that the benchmark of embeddings wrote."""
    shutil.copyfile(file, cards / EMBEDDINGS_RECORD)


def keep_edits(files: Iterable[Path], cards: Path) -> None:
    """Keep files that the benchmark of edits wrote for some models, as one record."""
    write_json(cards / EDITS_RECORD, join_records([read_json(file) for file in files]))


def keep_answers(files: Iterable[Path], cards: Path) -> None:
    """Keep files that the benchmark of answers wrote for some models, as one record."""
    write_json(cards / ANSWERS_RECORD, join_records([read_json(file) for file in files]))


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


def read_embeddings(cards: Path) -> dict[str, Any]:
    """The results of the benchmark of embeddings."""
    return read_json(cards / EMBEDDINGS_RECORD)


def read_edits(cards: Path) -> dict[str, Any]:
    """The results of the benchmark of edits."""
    return read_json(cards / EDITS_RECORD)


def read_answers(cards: Path) -> dict[str, Any]:
    """The results of the benchmark of answers."""
    return read_json(cards / ANSWERS_RECORD)


def read_recipes(cards: Path) -> dict[str, dict[str, Any]]:
    """The records of the recipes, by the names of their pages without `.md`."""
    return {file.stem: read_json(file) for file in sorted(cards.glob(f"{RECIPE_PREFIX}*.json"))}


def read_speed(cards: Path) -> list[dict[str, Any]]:
    """The results of the speed benchmark, one for each machine."""
    return [read_json(file) for file in sorted(cards.glob("speed_*.json"))]
