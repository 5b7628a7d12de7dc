#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How fast the library is: training, encoding, generation, IW-NLL and mutual information, each beside the floor (the
bare encoder and decoder on as many real tokens without padding) and beside the naive way (one padded piece, logits
everywhere, no cache). `hf_bnvae/speed.py` says what each of them does.

All run in this process, in turn, round by round; seconds are medians, CPU seconds on the CPU and wall seconds on an
accelerator, and both are written. `growth` trains epochs on sets of several sizes: tokens a second and memory.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

# Read when torch is loaded. Threads that spin while they wait would count as work; and the profiler, by which memory
# is measured, would say whenever it starts and stops.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch

from hf_bnvae.benchmarks.speed import COMPARED, SIZES, WORKS, Protocol, Setting, run_benchmark
from hf_bnvae.benchmarks.speed_table import render_speed
from hf_bnvae.utils.memory import keep_freed_memory


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
    """Names of work, separated by commas."""
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in WORKS:
            raise argparse.ArgumentTypeError(f"there is no work {name!r}. Choose from {','.join(WORKS)}.")
    return names


def new_file(text: str) -> Path:
    """A file that is to be made."""
    path = Path(text)
    if path.exists():
        raise argparse.ArgumentTypeError(f"{path} exists already, and is not overwritten. Name another file.")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist. Make it first.")
    return path


def device(text: str) -> torch.device:
    """A device that is there."""
    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"cannot use {text!r}: {error}") from error
    return torch.device(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="mid", help="Of networks and work.")
    parser.add_argument("--work", type=works, default=list(COMPARED), help=f"Of {','.join(WORKS)}; all but growth.")
    parser.add_argument("--sentences", type=counts, help="Of a batch or set, in place of the size's: 32,256.")
    parser.add_argument("--rounds", type=count, default=11)
    parser.add_argument("--chunk_sizes", type=counts, help="Sentences at once; the fastest counts. One pins it.")
    parser.add_argument("--control", action="store_true", help="The floor twice in each round: shows the noise.")
    parser.add_argument("--threads", type=count, help="Of the processor; by default as many as torch takes.")
    parser.add_argument("--device", type=device, default=torch.device("cpu"), help="cpu, cuda, ...")
    parser.add_argument("--bf16", action="store_true", help="Compute in bfloat16.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output_file", type=new_file, help="Where to write all figures as JSON.")
    args = parser.parse_args()
    if args.sentences and min(args.sentences) < 8 and set(args.work) & {"training", "mutual_information", "growth"}:
        parser.error(f"--sentences {min(args.sentences)}: a posterior batch needs 8 sentences at least.")
    return args


def main() -> None:
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)

    def without_folder(word: str) -> str:
        """The file by its name alone: what lies around it is nobody else's business."""
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        return f"{option}{equals}{args.output_file.name}" if value and Path(value) == args.output_file else word

    command = shlex.join(["python", "scripts/benchmark_speed.py", *map(without_folder, sys.argv[1:])])

    def keep(work: str, sentences: int, results: dict) -> None:
        print(f"Measured: {work}, {sentences:,} sentences.", file=sys.stderr)
        if args.output_file:
            args.output_file.write_text(json.dumps({"command": command, **results}, indent=2) + "\n")

    if args.device.type == "cpu":
        keep_freed_memory()  # as the scripts do
    results = run_benchmark(
        args.work,
        Setting(args.size, args.device, args.bf16, args.seed),
        Protocol(args.rounds, args.control, args.chunk_sizes),
        args.sentences,
        on_figures=keep,
    )
    print(f"{render_speed(results)}\n\n{command}")


if __name__ == "__main__":
    main()
