#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Text from a trained BN-VAE: sample the prior, reconstruct, interpolate between texts, carry changes over by analogy.

    generate_text.py sample --model_name_or_path runs/bnvae --num_samples 5
    generate_text.py reconstruct --model_name_or_path runs/bnvae < sentences.txt
    generate_text.py interpolate --model_name_or_path runs/bnvae "Return the list." "Raise an error." --steps 9
    generate_text.py analogy --model_name_or_path runs/bnvae "a list" "two lists" "Return a list."

Texts come from the command line, from --input_file, or from the standard input where neither is given: a line each
for `reconstruct`, two or three texts a line with a tab between them for `interpolate` and `analogy`. They are worked
off as they come, a batch at a time. Out come lines of text, or with `--output_format jsonl` JSON objects that hold
what went in, too.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformers import set_seed

from hf_bnvae.jobs.saved_model import load_saved_model

# What a task takes, by the names of its arguments in the library.
TASKS = {"sample": (), "reconstruct": ("texts",), "interpolate": ("a", "b"), "analogy": ("a", "b", "c")}
HELP = {
    "sample": "Texts from draws of the prior.",
    "reconstruct": "Texts from the latents of texts.",
    "interpolate": "Texts along the way from one text to another.",
    "analogy": "What is to the third text as the second is to the first.",
}
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p")


def count(text: str, minimum: int = 1) -> int:
    number = int(text)
    if number < minimum:
        raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {number}")
    return number


def count_from_zero(text: str) -> int:
    return count(text, 0)


def make_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model_name_or_path", required=True, help="Hub name or folder of model and processor.")
    common.add_argument("--revision", default="main", help="Branch, tag or commit on the Hub.")
    common.add_argument("--token", help="Token for private repositories of the Hub.")
    common.add_argument("--trust_remote_code", action="store_true", help="Allow code from the Hub.")
    common.add_argument("--device", help="Where to run; an accelerator if there is one.")
    common.add_argument("--output_format", choices=["text", "jsonl"], default="text")
    common.add_argument("--output_file", help="Where to write; the standard output if not given.")
    common.add_argument("--batch_size", type=count, default=64, help="Texts that are encoded or decoded at once (64).")
    common.add_argument("--seed", type=count_from_zero, help="Seed of all draws.")
    generation = common.add_argument_group("generation")
    generation.add_argument("--max_new_tokens", type=count, help="At most so many tokens a text.")
    generation.add_argument("--num_beams", type=count, help="Beam search with so many beams.")
    generation.add_argument("--do_sample", action="store_true", help="Draw tokens rather than take the likeliest.")
    generation.add_argument("--temperature", type=float, help="With --do_sample.")
    generation.add_argument("--top_k", type=int, help="With --do_sample.")
    generation.add_argument("--top_p", type=float, help="With --do_sample.")
    generation.add_argument("--min_p", type=float, help="With --do_sample.")
    generation.add_argument("--num_return_sequences", type=count, help="Texts for each latent.")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    subparsers = {
        name: tasks.add_parser(name, parents=[common], help=text, description=text) for name, text in HELP.items()
    }
    for name in ("reconstruct", "interpolate", "analogy"):
        subparsers[name].add_argument("texts", nargs="*", help="Texts; from --input_file or standard input if none.")
        subparsers[name].add_argument("--input_file", help="A file of texts, in the same lines as standard input.")
    for name in ("sample", "reconstruct"):
        subparsers[name].add_argument("--prompt", help="How every text begins.")
    subparsers["sample"].add_argument("--num_samples", type=count, default=5, help="Draws of the prior (5).")
    subparsers["reconstruct"].add_argument(
        "--sample_posterior", action="store_true", help="Decode a draw from each posterior rather than its mode."
    )
    subparsers["interpolate"].add_argument("--steps", type=count, default=9, help="Texts along the way (9).")
    subparsers["interpolate"].add_argument("--method", choices=["linear", "spherical"], default="linear")
    subparsers["analogy"].add_argument("--degree", type=float, default=1.0, help="How far to go (1).")
    return parser


def in_batches(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    iterator = iter(items)
    return iter(lambda: tuple(islice(iterator, size)), ())


def read_groups(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The texts of each piece of work: one, two or three."""
    size = len(TASKS[args.task])
    if args.texts:
        if len(args.texts) % size:
            raise ValueError(f"{args.task} takes {size} texts at a time, got {len(args.texts)}.")
        yield from in_batches(args.texts, size)
        return
    with open(args.input_file, encoding="utf-8") if args.input_file else nullcontext(sys.stdin) as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n").removeprefix("\ufeff" if number == 1 else "")
            texts = tuple(line.split("\t")) if size > 1 else (line,)
            if len(texts) != size or not all(text.strip() for text in texts):
                wanted = "a text" if size == 1 else f"{size} texts with a tab between them"
                raise ValueError(f"Line {number} must hold {wanted}, got {line!r}.")
            yield texts


def records(args: argparse.Namespace, model: Any, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What went in and what came out, piece by piece."""
    if args.task == "sample":
        for batch in in_batches(range(args.num_samples), args.batch_size):
            for text in model.sample(len(batch), prompt=args.prompt, **settings):
                yield {"generated": text}
        return
    own = {"reconstruct": ("prompt", "sample_posterior"), "interpolate": ("steps", "method"), "analogy": ("degree",)}
    settings |= {name: getattr(args, name) for name in own[args.task]}
    names = TASKS[args.task]
    for groups in in_batches(read_groups(args), args.batch_size):
        inputs = {name: list(texts) for name, texts in zip(names, zip(*groups, strict=True), strict=True)}
        results = getattr(model, args.task)(**inputs, **settings)
        for group, generated in zip(groups, results, strict=True):
            yield {**dict(zip(names if len(names) > 1 else ("text",), group, strict=True)), "generated": generated}


def flat_lines(generated: str | list[Any]) -> Iterator[str]:
    """A line for each text."""
    if isinstance(generated, str):
        yield " ".join(generated.split())
    else:
        for part in generated:
            yield from flat_lines(part)


def render(items: Iterable[dict[str, Any]], output_format: str) -> Iterator[str]:
    for number, item in enumerate(items):
        if output_format == "jsonl":
            yield json.dumps(item, ensure_ascii=False)
        else:
            # Lists of texts are set apart from one another.
            if number and isinstance(item["generated"], list):
                yield ""
            yield from flat_lines(item["generated"])


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    given = [name for name in SAMPLING_OPTIONS if getattr(args, name) is not None]
    if given and not args.do_sample:
        parser.error(f"--{given[0]} needs --do_sample.")
    if args.output_file and Path(args.output_file).exists():
        parser.error(f"--output_file {args.output_file} exists already. Name another, or delete it.")
    if getattr(args, "texts", None) and args.input_file:
        parser.error("Give either texts or --input_file.")
    names = ("max_new_tokens", "num_beams", "num_return_sequences", *SAMPLING_OPTIONS, "batch_size")
    settings = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    settings["do_sample"] = args.do_sample
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly behind `| head`
    if args.seed is not None:
        set_seed(args.seed)
    try:
        model = load_saved_model(
            args.model_name_or_path, args.revision, args.token, args.trust_remote_code, args.device
        )
        lines = render(records(args, model, settings), args.output_format)
        # A file is made once there is something to write.
        first = list(islice(lines, 1))
        with open(args.output_file, "x", encoding="utf-8") if args.output_file else nullcontext(sys.stdout) as output:
            for line in chain(first, lines):
                print(line, file=output, flush=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
