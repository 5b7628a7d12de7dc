#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Measure how fast the library is: training, encoding, generation, IW-NLL and mutual information.

Every figure is compared with two others. The floor is the bare encoder and decoder on the same number of real tokens,
without padding and without a latent. The naive way is one padded piece with logits everywhere and no cache.
`hf_bnvae/benchmarks/workloads.py` describes each workload.

All ways run in this process, in turn, round by round. Seconds are medians: CPU seconds on the CPU, wall seconds on an
accelerator. `--work growth` trains epochs on sets of several sizes, and shows tokens a second and memory.

Example: python scripts/benchmark_speed.py --size mid --work training,generation --output_file speed.json
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

# Both are read when torch is loaded. Threads that spin while they wait would count as work. The profiler, which
# measures memory, would print a line whenever it starts and stops.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from hf_bnvae.benchmarks.speed import WORKS, Protocol, run_benchmark
from hf_bnvae.benchmarks.synthetic import SIZES
from hf_bnvae.benchmarks.tables.speed import render_speed
from hf_bnvae.benchmarks.workloads import COMPARED, Setting
from hf_bnvae.jobs.option_parser import new_file
from hf_bnvae.utils.memory import keep_freed_memory
from hf_bnvae.utils.terminal import say


def counts(text: str) -> tuple[int, ...]:
    """Positive whole numbers, separated by commas."""
    numbers = tuple(int(part) if part.strip().isdecimal() else 0 for part in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"positive whole numbers, separated by commas, are needed, got {text!r}.")
    return numbers


def count(text: str) -> int:
    """One positive whole number."""
    numbers = counts(text)
    if len(numbers) > 1:
        raise argparse.ArgumentTypeError(f"one positive whole number is needed, got {text!r}.")
    return numbers[0]


def works(text: str) -> list[str]:
    """Names of workloads, separated by commas."""
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in WORKS:
            raise argparse.ArgumentTypeError(f"there is no work {name!r}. Choose from {','.join(WORKS)}.")
    return names


def device(text: str) -> torch.device:
    """A device that torch can use."""
    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"cannot use {text!r}: {error}") from error
    return torch.device(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="mid", help="Size of networks and work (%(default)s).")
    parser.add_argument(
        "--work", type=works, default=list(COMPARED), help=f"Any of {','.join(WORKS)}; by default all but growth."
    )
    parser.add_argument("--sentences", type=counts, help="Sentences of a batch or set, for example 32,256.")
    parser.add_argument("--rounds", type=count, default=11, help="How often each way is timed (%(default)s).")
    parser.add_argument("--chunk_sizes", type=counts, help="Chunk sizes to try. The fastest one counts.")
    parser.add_argument("--control", action="store_true", help="Time the floor twice a round, which shows the noise.")
    parser.add_argument("--threads", type=count, help="Threads of the processor; by default those that torch takes.")
    parser.add_argument("--device", type=device, default=torch.device("cpu"), help="cpu (default), cuda, ...")
    parser.add_argument("--bf16", action="store_true", help="Compute in bfloat16.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of weights, tokens and lengths (%(default)s).")
    parser.add_argument("--output_file", type=new_file, help="Write all figures into this new file, as JSON.")
    args = parser.parse_args()
    if args.sentences and min(args.sentences) < 8 and set(args.work) & {"training", "mutual_information", "growth"}:
        parser.error(f"--sentences {min(args.sentences)}: a posterior batch needs 8 sentences at least.")
    return args


def command_of(words: list[str], output_file: Path | None) -> str:
    """The command that repeats this call. It names the output file without its folder, which is nobody's business."""

    def without_folder(word: str) -> str:
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        return f"{option}{equals}{output_file.name}" if value and Path(value) == output_file else word

    return shlex.join(["python", "scripts/benchmark_speed.py", *map(without_folder, words)])


def main() -> None:
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    command = command_of(sys.argv[1:], args.output_file)

    def keep(work: str, sentences: int, results: dict[str, Any]) -> None:
        say(f"Measured: {work}, {sentences:,} sentences.", file=sys.stderr)
        if args.output_file:
            args.output_file.write_text(json.dumps({"command": command, **results}, indent=2) + "\n", encoding="utf-8")

    if args.device.type == "cpu":
        keep_freed_memory()  # as the training scripts do
    results = run_benchmark(
        args.work,
        Setting(args.size, args.device, args.bf16, args.seed),
        Protocol(args.rounds, args.control, args.chunk_sizes),
        args.sentences,
        on_figures=keep,
    )
    say(f"{render_speed(results)}\n\n{command}")


if __name__ == "__main__":
    main()
