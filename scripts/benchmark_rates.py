#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What does a rate buy? Train one model for each rate on your texts, and show what its latents can do.

Every model is a call of the training script with the same budget. A language model that is trained on the same texts,
and a packaged text encoder, judge samples and reconstructions. The output folder gets rates.json, rates.md and
rates.png. The same command again continues where it stopped.

All further options go to the training: --num_train_epochs 1 --hidden_size 256 --auxiliary bag_of_words.

Example: python scripts/benchmark_rates.py --train_file train.txt --rates 8 32 --num_workers 2
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hf_bnvae.benchmarks.rates import RATES, RatesBenchmark, RatesPlan
from hf_bnvae.benchmarks.texts import TextSources
from hf_bnvae.jobs.training_options import read_training_options
from hf_bnvae.utils.terminal import say, visible


def parse_arguments(argv: Sequence[str] | None = None) -> RatesPlan:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--train_file", help="Training texts; by default docstrings of Python packages.")
    parser.add_argument("--validation_file", help="Validation texts. One half of them is reported on.")
    parser.add_argument("--text_column", help="The column that holds the texts.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/rates"), help="Folder of runs (%(default)s).")
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), help="In nats; by default 2 to 64.")
    parser.add_argument("--num_workers", type=int, default=1, help="Runs at the same time (%(default)s).")
    args, others = parser.parse_known_args(argv)
    try:
        return RatesPlan(
            folder=args.output_dir,
            sources=TextSources(args.train_file, args.validation_file, args.text_column),
            rates=args.rates,
            training=read_training_options(others, "benchmark_rates.py"),
            num_workers=args.num_workers,
        )
    except ValueError as error:
        parser.error(str(error))


def main() -> None:
    plan = parse_arguments()
    try:
        benchmark = RatesBenchmark(plan)
        failed = benchmark.run()
        say(benchmark.write_results())
    except ValueError as error:
        raise SystemExit(visible(f"error: {error}")) from error
    if failed:
        raise SystemExit(f"{len(failed)} of the tasks failed. Their logs lie beside their folders.")


if __name__ == "__main__":
    main()
