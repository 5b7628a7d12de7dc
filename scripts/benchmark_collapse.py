#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Compare remedies against posterior collapse: what each one costs and buys, with the same networks, texts and budget.

The script trains every remedy at several settings, chooses one setting for each by likelihood, repeats it with every
seed, and varies what all remedies share. Every run is a call of the training script.
`hf_bnvae/benchmarks/collapse/job.py` describes the stages. The remedies are in `remedies.py` in the same folder.

The output folder gets results.json, results.md, results.png, and runs.json with the figures of every run. The same
command again continues where it stopped. With --known_runs runs.json the benchmark continues from the figures alone,
for example on another machine: a known run is made again only if its model is needed.

Example: python scripts/benchmark_collapse.py --remedies gaussian bn_rms --num_workers 2
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hf_bnvae.benchmarks.collapse.job import CollapseBenchmark, Plan
from hf_bnvae.benchmarks.collapse.remedies import REMEDIES
from hf_bnvae.benchmarks.collapse.settings import SETTINGS
from hf_bnvae.benchmarks.runs import RUNS_RECORD
from hf_bnvae.benchmarks.texts import TextSources
from hf_bnvae.utils.terminal import say, visible


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[Plan, bool]:
    """The plan, and whether to render only."""
    names = [remedy.name for remedy in REMEDIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_file", help="Training texts; by default docstrings of Python packages.")
    parser.add_argument("--validation_file", help="Validation texts: one half to tune on, one half to report on.")
    parser.add_argument("--text_column", help="The column that holds the texts.")
    parser.add_argument("--label_column", help="A column of the validation texts that a probe predicts from latents.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/collapse"), help="Folder of runs (%(default)s).")
    parser.add_argument(
        "--setting", choices=list(SETTINGS), default="small", help="Networks and budget (%(default)s)."
    )
    parser.add_argument(
        "--remedies",
        nargs="+",
        choices=names,
        default=names,
        metavar="REMEDY",
        help=f"By default all: {'; '.join(names)}.",
    )
    parser.add_argument("--choices", nargs="*", metavar="OPTION", help="Shared options to vary; by default all.")
    parser.add_argument(
        "--only_choices",
        action="store_true",
        help="Only vary options that the --remedies share: no tuning, and no evaluation of chosen settings.",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44], help="Tuning uses the first seed.")
    parser.add_argument(
        "--min_information",
        nargs="+",
        type=float,
        default=[2.0, 4.0],
        help="Nats of information that a setting needs to be chosen by its likelihood. If no setting of a remedy has "
        "the first number, its best setting is chosen. Each further number is one more comparison, without such "
        "remedies.",
    )
    parser.add_argument("--num_workers", type=int, default=1, help="Runs at the same time (%(default)s).")
    parser.add_argument(
        "--known_runs",
        type=Path,
        nargs="+",
        default=[],
        help=f"Files like {RUNS_RECORD}. Their runs are not made again.",
    )
    parser.add_argument("--render_only", action="store_true", help="Run nothing; write the results of what is there.")
    args = parser.parse_args(argv)
    try:
        plan = Plan(
            folder=args.output_dir,
            setting_name=args.setting,
            sources=TextSources(args.train_file, args.validation_file, args.text_column, args.label_column),
            remedies=args.remedies,
            choices=args.choices,
            only_choices=args.only_choices,
            seeds=args.seeds,
            min_information=args.min_information,
            num_workers=args.num_workers,
            known_runs=args.known_runs,
        )
    except ValueError as error:
        parser.error(str(error))
    if args.render_only and not plan.text_folder.is_dir():
        parser.error(f"There is no benchmark in {args.output_dir} to render.")
    return plan, args.render_only


def main() -> None:
    plan, render_only = parse_arguments()
    try:
        benchmark = CollapseBenchmark(plan, needs_networks=not render_only)
        failed = [] if render_only else benchmark.run()
        say(benchmark.write_results())
    except ValueError as error:
        raise SystemExit(visible(f"error: {error}")) from error
    if failed:
        raise SystemExit(f"{len(failed)} of the tasks failed. Their logs lie beside their folders.")


if __name__ == "__main__":
    main()
