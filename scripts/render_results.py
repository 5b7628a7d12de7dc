#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Render the tables of README.md and of the pages in model_cards/ from the records there.

Options first bring new records into model_cards/: what runs and benchmarks left in their folders. Without options the
script renders the records that are there.

Example: python scripts/render_results.py --speed speed.json
"""

import argparse
from pathlib import Path

from hf_bnvae.benchmarks.pages import render_pages
from hf_bnvae.benchmarks.records import (
    keep_answers,
    keep_benchmark,
    keep_card,
    keep_edits,
    keep_embeddings,
    keep_rates,
    keep_recipe,
    keep_runs,
    keep_speed,
)

CARDS = Path(__file__).resolve().parent.parent / "model_cards"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="Output folders of scripts/run_bnvae.py, in the order of the rows.")
    parser.add_argument("--benchmark", type=Path, help="Output folder of scripts/benchmark_collapse.py.")
    parser.add_argument("--cards", nargs="+", type=Path, default=[], help="Folders of runs whose model cards to keep.")
    parser.add_argument(
        "--answers", nargs="+", type=Path, help="Files that scripts/benchmark_answers.py wrote for some models."
    )
    parser.add_argument(
        "--edits", nargs="+", type=Path, help="Files that scripts/benchmark_edits.py wrote for some models."
    )
    parser.add_argument("--embeddings", type=Path, help="A file that scripts/benchmark_embeddings.py wrote.")
    parser.add_argument("--rates", type=Path, help="Output folder of scripts/benchmark_rates.py.")
    parser.add_argument("--recipe", type=Path, help="Output folder of a training that a page shows. Needs --texts.")
    parser.add_argument(
        "--texts",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "EVALUATION"),
        help="An evaluation of that training's model, and what its texts are called. Several times for several.",
    )
    parser.add_argument("--speed", type=Path, help="A file that scripts/benchmark_speed.py wrote.")
    args = parser.parse_args()
    if (args.recipe is None) != (not args.texts):
        parser.error("--recipe and --texts go together.")
    if args.runs:
        keep_runs(args.runs, CARDS)
    for folder in args.cards:
        keep_card(folder, CARDS)
    if args.benchmark is not None:
        keep_benchmark(args.benchmark, CARDS)
    if args.answers is not None:
        keep_answers(args.answers, CARDS)
    if args.edits is not None:
        keep_edits(args.edits, CARDS)
    if args.embeddings is not None:
        keep_embeddings(args.embeddings, CARDS)
    if args.rates is not None:
        keep_rates(args.rates, CARDS)
    if args.recipe is not None:
        keep_recipe(args.recipe, {name: Path(folder) for name, folder in args.texts}, CARDS)
    if args.speed is not None:
        keep_speed(args.speed, CARDS)
    render_pages(CARDS)


if __name__ == "__main__":
    main()
