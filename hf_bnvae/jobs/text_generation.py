# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Text from a trained BN-VAE, line by line: samples, reconstructions, interpolations, analogies and edits."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..reporting.commands import PROGRAM
from ..utils.terminal import say
from .option_parser import CommandParser

if TYPE_CHECKING:
    from ..model.modeling_bnvae import BNVAEModel

# What a task takes, by the names of its arguments in the library.
TASKS = {
    "sample": (),
    "reconstruct": ("texts",),
    "interpolate": ("a", "b"),
    "analogy": ("a", "b", "c"),
    "edit": ("texts",),
}
TASK_HELP = {
    "sample": "Decode draws from the prior.",
    "reconstruct": "Encode texts and decode their latents.",
    "interpolate": "Decode points on the way from one text to another.",
    "analogy": "Apply the change from a first text to a second one to a third text.",
    "edit": "Move texts along a direction that was saved with the model.",
}
_EXAMPLES = {
    "sample": "--model runs/bnvae --num_samples 5",
    "reconstruct": "--model runs/bnvae < sentences.txt",
    "interpolate": '--model runs/bnvae "Return the list." "Raise an error." --steps 9',
    "analogy": '--model runs/bnvae "a list" "two lists" "Return a list."',
    "edit": "--model runs/reviews --direction sentiment --strength 1 < sentences.txt",
}
_SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "min_p")
# Options of one task, which its method of the model takes.
_TASK_OPTIONS = {
    "reconstruct": ("prompt", "sample_posterior"),
    "interpolate": ("steps", "method"),
    "analogy": ("degree",),
    "edit": ("direction", "strength"),
}
# Options that are conditions. Not every task has both.
_CONDITIONS = ("condition", "text_condition")


def _count(text: str, minimum: int = 1) -> int:
    number = int(text)
    if number < minimum:
        raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {number}")
    return number


def _count_from_zero(text: str) -> int:
    return _count(text, 0)


def generation_parser(task: str) -> CommandParser:
    """
    The parser of one task's options.

    Args:
        task (`str`): A key of `TASKS`.
    """
    program = f"{PROGRAM} generate {task}"
    how_many = {1: "one text a line", 2: "two texts a line with a tab between them"}
    how_many[3] = "three texts a line with tabs between them"
    size = len(TASKS[task])
    reading = ""
    if size:
        reading = (
            f"\nTexts come from the command line, from --input_file, or from the standard input ({how_many[size]}).\n"
            "A batch is processed as soon as it is read."
        )
    parser = CommandParser(
        prog=program,
        description=f"{TASK_HELP[task]}{reading}\n\nexample:\n  {program} {_EXAMPLES[task]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if size:
        parser.add_argument("texts", nargs="*", help="The texts.")
    model = parser.add_argument_group("model", "Which model makes the texts, and where it runs.")
    add_model_options(model)
    model.add_argument("--device", help="Where to run. Without it: on an accelerator if there is one.")
    model.add_argument("--batch_size", type=_count, default=64, help="Texts that are processed at once (default: 64).")
    model.add_argument("--seed", type=_count_from_zero, help="Seed of all random numbers.")
    own = parser.add_argument_group(task, "Options of this task.")
    if task == "sample":
        own.add_argument("--num_samples", type=_count, default=5, help="Draws from the prior (default: 5).")
        own.add_argument(
            "--prior", choices=["fitted", "standard"], help="Without it: the fitted prior, if the model has one."
        )
    if task == "reconstruct":
        own.add_argument(
            "--sample_posterior", action="store_true", help="Decode a draw from each posterior instead of its mode."
        )
        own.add_argument(
            "--text_condition",
            action="append",
            metavar="TEXT",
            help="The context of the texts, if they are to get another --condition.",
        )
    if task in ("sample", "reconstruct"):
        own.add_argument("--prompt", help="The start of every text.")
    if task == "interpolate":
        own.add_argument("--steps", type=_count, default=9, help="Texts along the way (default: 9).")
        own.add_argument(
            "--method", choices=["linear", "spherical"], default="linear", help="The way (default: linear)."
        )
    if task == "analogy":
        own.add_argument("--degree", type=float, default=1.0, help="How far to go (default: 1).")
    if task == "edit":
        own.add_argument("--direction", required=True, help="The name of one of the model's directions.")
        own.add_argument("--strength", type=float, default=1.0, help="How far to go; -1 is the way back (default: 1).")
    own.add_argument(
        "--condition",
        action="append",
        metavar="TEXT",
        help="The context of all texts, for a conditional model. Repeat it for the turns of a dialogue.",
    )
    places = parser.add_argument_group("input and output", "Where texts come from and where they go.")
    if size:
        places.add_argument("--input_file", help=f"A file with {how_many[size]}.")
    places.add_argument("--output_file", help="A new file. Without it: the standard output.")
    places.add_argument(
        "--output_format",
        choices=["text", "jsonl"],
        default="text",
        help="Lines of text, or JSON objects that hold the input, too (default: text).",
    )
    add_decoding_options(parser).add_argument("--num_return_sequences", type=_count, help="Texts per latent.")
    return parser


def add_decoding_options(parser: Any) -> Any:
    """The options that say how the decoder chooses tokens. Returns their group."""
    generation = parser.add_argument_group("decoding", "How the decoder chooses tokens.")
    generation.add_argument("--max_new_tokens", type=_count, help="The most tokens per text.")
    generation.add_argument("--num_beams", type=_count, help="Beams of a beam search.")
    generation.add_argument("--do_sample", action="store_true", help="Draw tokens instead of taking the likeliest.")
    for name in _SAMPLING_OPTIONS:
        kind = int if name == "top_k" else float
        generation.add_argument(f"--{name}", type=kind, help="As in Transformers. Needs --do_sample.")
    return generation


def decoding_settings(args: argparse.Namespace) -> dict[str, Any]:
    """
    What the methods of a model take of these options.

    Raises:
        ValueError: for options of drawing tokens where none are drawn.
    """
    given = [name for name in _SAMPLING_OPTIONS if getattr(args, name) is not None]
    if given and not args.do_sample:
        raise ValueError(f"--{given[0]} needs --do_sample.")
    names = ("max_new_tokens", "num_beams", "num_return_sequences", *_SAMPLING_OPTIONS)
    settings = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in settings.items() if value is not None} | {"do_sample": args.do_sample}


def add_model_options(parser: Any, is_required: bool = True) -> None:
    """
    The options that say which saved model to load.

    Args:
        parser (`argparse.ArgumentParser`): A parser or a group of one.
        is_required (`bool`, *optional*, defaults to `True`): Whether a model must be named.
    """
    parser.add_argument(
        "--model_name_or_path", "--model", required=is_required, help="Hub name or folder of model and processor."
    )
    parser.add_argument("--revision", default="main", help="Branch, tag or commit on the Hub (default: main).")
    parser.add_argument("--token", help="Token for private repositories of the Hub.")
    parser.add_argument("--trust_remote_code", action="store_true", help="Allow code from the Hub.")


def check_generation_options(args: argparse.Namespace) -> None:
    """
    Check options that must fit together.

    Raises:
        ValueError: for options that contradict each other, or an output file that exists.
    """
    decoding_settings(args)
    if args.output_file and Path(args.output_file).exists():
        raise ValueError(f"--output_file {args.output_file} exists already. Name another file, or delete it.")
    if getattr(args, "texts", None) and args.input_file:
        raise ValueError("Give either texts or --input_file, not both.")


def write_texts(task: str, model: "BNVAEModel", args: argparse.Namespace) -> None:
    """
    Do one task for all its texts, and print the results or write them to a file. On a terminal control characters are
    shown as escapes. A pipe and a file get the texts as they are, because other programs read these.

    Args:
        task (`str`): A key of `TASKS`.
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        args (`argparse.Namespace`): What [`generation_parser`] parsed.

    Raises:
        ValueError: for texts that the task cannot take. Results of earlier texts are written.
    """
    lines = _render(_records(task, model, args), args.output_format)
    # The file is made after the first result, so that a mistake leaves no empty file.
    first = list(islice(lines, 1))
    with open(args.output_file, "x", encoding="utf-8") if args.output_file else nullcontext(sys.stdout) as output:
        show = say if output.isatty() else print
        for line in chain(first, lines):
            show(line, file=output, flush=True)


def _in_batches(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    iterator = iter(items)
    return iter(lambda: tuple(islice(iterator, size)), ())


def _read_groups(task: str, texts: Sequence[str], input_file: str | None) -> Iterator[tuple[str, ...]]:
    """The texts that belong together: one, two or three."""
    size = len(TASKS[task])
    if texts:
        if len(texts) % size:
            raise ValueError(f"{task} takes {size} texts at a time, got {len(texts)}.")
        yield from _in_batches(texts, size)
        return
    with open(input_file, encoding="utf-8") if input_file else nullcontext(sys.stdin) as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n").removeprefix("\ufeff" if number == 1 else "")
            group = tuple(line.split("\t")) if size > 1 else (line,)
            if len(group) != size or not all(text.strip() for text in group):
                wanted = "a text" if size == 1 else f"{size} texts with a tab between them"
                advice = "" if line.strip() else " Leave blank lines out."
                raise ValueError(f"Line {number} must hold {wanted}, got {line!r}.{advice}")
            yield group


def _records(task: str, model: "BNVAEModel", args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Input and output of each piece of work."""
    settings = decoding_settings(args) | {"batch_size": args.batch_size}
    settings |= {name: _condition(turns) for name, turns in vars(args).items() if name in _CONDITIONS}
    if task == "sample":
        for batch in _in_batches(range(args.num_samples), args.batch_size):
            for text in model.sample(len(batch), prompt=args.prompt, prior=args.prior, **settings):
                yield {"generated": text}
        return
    settings |= {name: getattr(args, name) for name in _TASK_OPTIONS[task]}
    names = TASKS[task]
    for groups in _in_batches(_read_groups(task, args.texts, args.input_file), args.batch_size):
        inputs = {name: list(texts) for name, texts in zip(names, zip(*groups, strict=True), strict=True)}
        results = getattr(model, task)(**inputs, **settings)
        for group, generated in zip(groups, results, strict=True):
            yield {**dict(zip(names if len(names) > 1 else ("text",), group, strict=True)), "generated": generated}


def _condition(turns: Sequence[str] | None) -> str | None:
    # Here, because the command must show its help without waiting for torch.
    from ..model.condition_bnvae import condition_text

    return None if turns is None else condition_text(turns)


def _flat_lines(generated: str | list[Any]) -> Iterator[str]:
    """A line for each text."""
    if isinstance(generated, str):
        yield " ".join(generated.split())
    else:
        for part in generated:
            yield from _flat_lines(part)


def _render(items: Iterable[dict[str, Any]], output_format: str) -> Iterator[str]:
    for number, item in enumerate(items):
        if output_format == "jsonl":
            yield json.dumps(item, ensure_ascii=False)
        else:
            # An empty line separates lists of texts.
            if number and isinstance(item["generated"], list):
                yield ""
            yield from _flat_lines(item["generated"])
