#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Render the tables of README and of the benchmarks' pages from what runs left, and keep their figures and cards."""

import argparse
import json
import shutil
from pathlib import Path

from hf_bnvae.benchmarks.collapse_table import begin_marker, update_page
from hf_bnvae.benchmarks.results_table import collect_runs, update_readme
from hf_bnvae.benchmarks.speed_table import file_name, update_speed_page, update_speed_readme
from hf_bnvae.reporting.model_card import CARD_JSON, BNVAEModelCard

ROOT = Path(__file__).resolve().parent.parent
CARDS = ROOT / "model_cards"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", help="Output folders of scripts/run_bnvae.py, in the order of the rows.")
    parser.add_argument("--benchmark", type=Path, help="Output folder of scripts/benchmark_collapse.py.")
    parser.add_argument(
        "--cards", nargs="+", type=Path, default=[], help="Output folders of runs whose cards to keep."
    )
    parser.add_argument("--speed", type=Path, help="What scripts/benchmark_speed.py wrote; README shows this machine.")
    args = parser.parse_args()
    if not (args.runs or args.cards or args.benchmark or args.speed):
        parser.error("Name the folders of runs, of --cards, or that of a --benchmark, or a file of --speed.")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if args.runs:
        runs = collect_runs(args.runs)
        (CARDS / "results.json").write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
        text = update_readme(text, runs)
    for folder in args.cards:
        keep_card(folder)
    if args.benchmark is not None:
        results = json.loads((args.benchmark / "results.json").read_text(encoding="utf-8"))
        page = CARDS / "collapse_benchmark.md"
        whole = update_page(page.read_text(encoding="utf-8"), results, is_whole=True)
        # README shows those settings that it has a place for.
        if begin_marker(results) in text:
            text = update_page(text, results, is_whole=False)
        for name, kept in {"results.json": ".json", "results.png": ".png", "runs.json": "_runs.json"}.items():
            shutil.copyfile(args.benchmark / name, CARDS / f"collapse_{results['setting_name']}{kept}")
        page.write_text(whole, encoding="utf-8")
    if args.speed is not None:
        written = args.speed.read_text(encoding="utf-8")
        results = json.loads(written)
        # Not a copy of the file: it may be the one that is kept.
        (CARDS / file_name(results)).write_text(written, encoding="utf-8")
        tables = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(CARDS.glob("speed_*.json"))]
        page = CARDS / "speed.md"
        page.write_text(update_speed_page(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
        text = update_speed_readme(text, results)
    readme.write_text(text, encoding="utf-8")


def keep_card(run: Path) -> None:
    """Put a run's card and its pictures into a folder of that name."""
    card = BNVAEModelCard.from_json_file(run / CARD_JSON)
    target = CARDS / run.resolve().name
    target.mkdir(exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    for picture in card.pictures:
        shutil.copyfile(run / picture, target / picture)
    card.save(target)


if __name__ == "__main__":
    main()
