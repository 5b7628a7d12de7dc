#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How much longer does `import hf_bnvae` take than importing torch and `transformers.PreTrainedModel` alone?

Fresh processes take turns. The script prints the median of their CPU seconds, and the ratio of the rounds.
"""

import argparse
import resource
import statistics
import subprocess
import sys

STATEMENTS = {
    "torch and PreTrainedModel": "import torch; from transformers import PreTrainedModel",
    "hf_bnvae": "import hf_bnvae",
}


def cpu_seconds(statement: str) -> float:
    """CPU seconds, user and system, that a fresh interpreter takes for `statement`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="How often each import is timed (%(default)s).")
    args = parser.parse_args()
    for statement in STATEMENTS.values():
        cpu_seconds(statement)  # the first import reads from the disk, and does not count
    rounds = [[cpu_seconds(statement) for statement in STATEMENTS.values()] for _ in range(args.rounds)]
    for name, times in zip(STATEMENTS, zip(*rounds, strict=True), strict=True):
        print(f"{name}: {statistics.median(times):.2f} s (median of {args.rounds}, CPU)")
    ratios = sorted(ours / bare for bare, ours in rounds)
    print(f"ratio: {statistics.median(ratios):.3f} (median; {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
