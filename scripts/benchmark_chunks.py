#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Measure what chunks cost and save in a training step on the CPU: memory, time and computed positions.

The script prints a table and says which targets are met. `hf_bnvae/benchmarks/chunks.py` describes the measurements.
"""

import argparse
import json

from hf_bnvae.benchmarks.chunks import run_benchmark
from hf_bnvae.benchmarks.tables.chunks import render_chunks
from hf_bnvae.jobs.option_parser import new_file
from hf_bnvae.utils.terminal import say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--everything", action="store_true", help="Also measure what has no target.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of weights, tokens and lengths (%(default)s).")
    parser.add_argument("--rounds", type=int, default=9, help="How many steps of each way are timed (%(default)s).")
    parser.add_argument("--output_file", type=new_file, help="Write all figures into this new file, as JSON.")
    args = parser.parse_args()
    results = run_benchmark(args.seed, args.rounds, args.everything)
    if args.output_file:
        args.output_file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    say(render_chunks(results))


if __name__ == "__main__":
    main()
