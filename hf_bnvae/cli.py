# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""`hf-bnvae <command>`: train, evaluate and use a BN-VAE from a shell.

A command imports what it needs when it starts its work, so that `--help` is quick. `scripts/` call the same functions.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from ._version import __version__
from .jobs.evaluation_arguments import parse_evaluation_arguments
from .jobs.option_parser import HELP_WORDS, CommandParser, nearest, user_errors
from .jobs.text_generation import (
    TASK_HELP,
    add_model_options,
    check_generation_options,
    generation_parser,
    write_texts,
)
from .jobs.training_program import begin_training, interruptions_explained
from .reporting.commands import PROGRAM
from .utils.terminal import say


def train(argv: Sequence[str] | None = None) -> None:
    """Train a BN-VAE and evaluate it."""
    run = begin_training(argv, "Trainer")
    if run is not None:
        from .jobs.trainer_loop import train_with_trainer

        # Later errors are not a user's: they keep their traceback.
        with interruptions_explained(run):
            train_with_trainer(run)


def evaluate(argv: Sequence[str] | None = None) -> None:
    """Evaluate a saved BN-VAE: figures, pictures and a probe, in one folder."""
    with user_errors():
        args = parse_evaluation_arguments(argv)
        from .jobs.evaluation_job import EvaluationJob

        say(EvaluationJob(args).run())
    say(f"Written to {args.path}.")


def generate(argv: Sequence[str] | None = None) -> None:
    """Make texts: sample, reconstruct, interpolate, draw analogies, or edit."""
    with user_errors():
        task, rest = _choose(argv, TASK_HELP, f"{PROGRAM} generate", "Make texts with a trained BN-VAE.", "task")
        args = generation_parser(task).parse_args(rest)
        check_generation_options(args)
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(encoding="utf-8", errors="strict")
        if hasattr(sys.stdout, "reconfigure") and not sys.stdout.isatty():
            # Texts in a pipe are data, as in a file: whole, and in UTF-8 whatever the terminal's encoding is.
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        from transformers import set_seed

        from .jobs.saved_model import load_saved_model

        if args.seed is not None:
            set_seed(args.seed)
        model = load_saved_model(
            args.model_name_or_path, args.revision, args.token, args.trust_remote_code, args.device
        )
        try:
            write_texts(task, model, args)
            sys.stdout.flush()
        except BrokenPipeError:
            # `| head` has read enough. What Python would still print goes nowhere. The exit status is the one that a
            # shell shows after SIGPIPE. The signal itself would also end the process when the Hub breaks a connection.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None


def push(argv: Sequence[str] | None = None) -> None:
    """Push a saved BN-VAE with its model card to the Hub, in one commit."""
    parser = _parser(
        "push",
        "Push a saved BN-VAE to the Hub in one commit: model, processor, the code that loads them, README.md and\n"
        "pictures. A repository that holds a BN-VAE is updated. A repository that holds another model is refused.\n"
        "--dry_run needs no token and no network.",
        f"{PROGRAM} push runs/bnvae --repo_id user/name --dry_run\n  "
        f"{PROGRAM} push runs/bnvae --repo_id user/name --private --tag v1\n  "
        f"{PROGRAM} push runs/bnvae --repo_id user/name --space user/page",
    )
    parser.add_argument("folder", nargs="?", help="Folder of a saved model, of a run, or of a checkpoint.")
    parser.add_argument("--model_name_or_path", "--model", help="The folder, as an option.")
    parser.add_argument("--repo_id", required=True, help="user/name, or a name in your own namespace.")
    parser.add_argument("--private", action="store_true", help="Create a private repository.")
    parser.add_argument(
        "--branch", "--revision", default="main", help="Branch (default: main). A new branch begins at main."
    )
    parser.add_argument("--tag", help="A tag for the commit.")
    parser.add_argument("--commit_message", default="Upload model", help="(default: Upload model)")
    parser.add_argument("--token", help="A token that may write there. Without it: the token of `hf auth login`.")
    parser.add_argument(
        "--space", help="Also make a Gradio Space of this name, user/name, with the page of `explore`."
    )
    parser.add_argument("--dry_run", action="store_true", help="List the files, and upload nothing.")
    with user_errors((ValueError, OSError, ImportError)):
        args = parser.parse_args(argv)
        if (args.folder is None) == (args.model_name_or_path is None):
            raise ValueError(f"Name one folder of a saved model: {PROGRAM} push FOLDER --repo_id {args.repo_id}")
        folder = args.folder or args.model_name_or_path
        from .hub.contents import list_files, render_contents, require_whole_model
        from .hub.push import push_folder, render_pushed
        from .hub.space import push_space, render_space, space_files
        from .hub.target import HubTarget
        from .reporting.report import loading_lines

        target = HubTarget(args.repo_id, args.branch, args.private or None, args.token)
        target.require_name()
        contents = list_files(folder)
        say(render_contents(contents))
        require_whole_model(contents)
        space = None if args.space is None else HubTarget(args.space, private=args.private or None, token=args.token)
        title = args.repo_id.rpartition("/")[2]
        if space is not None:
            space.require_name()
            # Made before anything is uploaded, so that what is missing here is said first.
            say(f"\n{render_space(space_files(args.repo_id, args.branch, title), args.space)}")
        if args.dry_run:
            say("\nA push would write the model card to README.md, unless a card written by hand is there.")
            say(f"\nNothing was uploaded to {args.repo_id} ({args.branch}): this was a dry run.")
            return
        pushed = push_folder(folder, target, args.commit_message, args.tag)
        shown = None if space is None else push_space(space, pushed.repo_id, pushed.commit, title)
    say(f"\n{render_pushed(pushed)} To load it:\n\n{loading_lines(pushed.repo_id, args.tag or pushed.branch)}")
    if shown is not None:
        say(f"\n{render_pushed(shown)} The Hub now builds it; that takes some minutes.")
        if args.private:
            say("The model is private, so give the Space a secret HF_TOKEN that may read it (Settings, Secrets).")


def encode(argv: Sequence[str] | None = None) -> None:
    """Write the latents of a corpus to parquet files, in parts."""
    from .corpus import require_datatrove
    from .corpus.encoding_options import encoding_parser

    with user_errors((ValueError, OSError, ImportError)):
        args = encoding_parser().parse_args(argv)
        require_datatrove()
        from .corpus.encoding_job import EncodingJob

        summary = EncodingJob(args).run()
    say(summary)
    say(f"Written to {args.output}.")


def decode(argv: Sequence[str] | None = None) -> None:
    """Decode parquet files of latents to texts, in parts."""
    from .corpus import require_datatrove
    from .corpus.decoding_options import decoding_parser

    with user_errors((ValueError, OSError, ImportError)):
        args = decoding_parser().parse_args(argv)
        require_datatrove()
        from .corpus.decoding_job import DecodingJob

        summary = DecodingJob(args).run()
    say(summary)
    say(f"Written to {args.output}.")


def explore(argv: Sequence[str] | None = None) -> None:
    """Show a saved BN-VAE as a page in the browser."""
    from .explorer import require_gradio
    from .explorer.options import exploring_parser

    with user_errors((ValueError, OSError, ImportError)):
        args = exploring_parser().parse_args(argv)
        require_gradio()
        from .explorer.serving import serve

        serve(args)


def check(argv: Sequence[str] | None = None) -> None:
    """Check that the files of a saved model and of its checkpoints are as they were saved."""
    parser = _parser(
        "check",
        "Read the files of a saved model and of the checkpoints of its run, and compare them with the hashes that\n"
        "were written with them. The exit status is 1 if a file is missing or not as it was saved.",
        f"{PROGRAM} check runs/bnvae",
    )
    parser.add_argument("folder", help="Folder of a saved model, of a run, or of a checkpoint.")
    with user_errors():
        args = parser.parse_args(argv)
        from .hub.folder_check import check_folder, render_check

        found = check_folder(args.folder)
    say(render_check(found))
    if any(found.values()):
        raise SystemExit(1)


def convert(argv: Sequence[str] | None = None) -> None:
    """Convert a checkpoint of the original Optimus (2020) to a BN-VAE."""
    parser = _parser(
        "convert",
        "Convert a checkpoint of the original Optimus (2020) to the folder of a BN-VAE.\n\n"
        "The checkpoint's folder holds checkpoint-encoder-<step>, checkpoint-decoder-<step> and\n"
        "checkpoint-full-<step>, or one or several folders checkpoint-<step> with these.\n"
        "Pickles are read with safe loading: no code in them runs.",
        f"{PROGRAM} convert --checkpoint_path checkpoint-31250 --output_dir optimus-snli \\\n"
        "      --encoder_tokenizer google-bert/bert-base-cased --decoder_tokenizer openai-community/gpt2",
    )
    parser.add_argument("--checkpoint_path", required=True, help="Folder of one checkpoint or of several.")
    parser.add_argument("--output_dir", required=True, help="Folder to write, new or empty.")
    parser.add_argument("--step", type=int, help="Which one of several checkpoints.")
    parser.add_argument(
        "--encoder_tokenizer", help="Hub name or folder. Without tokenizers only the model is written."
    )
    parser.add_argument("--decoder_tokenizer", help="Hub name or folder. It gets <PAD>, <BOS> and <EOS>.")
    parser.add_argument(
        "--latent_injection",
        choices=["both", "memory", "embedding"],
        help="How the latent enters the decoder. Without it: as the checkpoint says, or both.",
    )
    parser.add_argument(
        "--weights",
        choices=["full", "halves"],
        help="Take the weights of the full checkpoint, or of encoder and decoder by themselves. Without it: full if "
        "it is there.",
    )
    with user_errors():
        args = parser.parse_args(argv)
        from .interop.optimus.convert import convert_optimus_checkpoint

        convert_optimus_checkpoint(**vars(args))
    say(f"Written to {args.output_dir}.")


def export(argv: Sequence[str] | None = None) -> None:
    """Write the encoder side as an ONNX graph: text to the mean of its posterior."""
    parser = _parser(
        "export",
        "Write the encoder side of a saved BN-VAE as an ONNX graph with its tokenizer: text to the mean of its\n"
        "posterior. Needs the extra `onnx`.",
        f"{PROGRAM} export --model runs/bnvae --output_dir runs/bnvae-onnx",
    )
    add_model_options(parser)
    parser.add_argument("--output_dir", required=True, help="Folder to write, new or empty.")
    with user_errors((ValueError, OSError, ImportError, RuntimeError)):
        args = parser.parse_args(argv)
        from .interop.onnx_export import export_encoder_side
        from .jobs.saved_model import load_saved_model

        model = load_saved_model(
            args.model_name_or_path, args.revision, args.token, args.trust_remote_code, device="cpu"
        )
        file = export_encoder_side(model, args.output_dir)
    say(f"Written to {file}, with its tokenizer beside it.")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "encode": encode,
    "decode": decode,
    "explore": explore,
    "check": check,
    "push": push,
    "convert": convert,
    "export": export,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    sentences = {name: command.__doc__ for name, command in COMMANDS.items()}
    with user_errors():
        name, rest = _choose(argv, sentences, PROGRAM, "Text VAEs that do not collapse.", "command")
    COMMANDS[name](rest)


def _parser(command: str, description: str, example: str) -> CommandParser:
    return CommandParser(
        prog=f"{PROGRAM} {command}",
        description=f"{description}\n\nexample:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _choose(
    argv: Sequence[str] | None, sentences: Mapping[str, str], program: str, description: str, kind: str
) -> tuple[str, list[str]]:
    """The first argument, which must be one of some names, and the other arguments. Help lists the names."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in sentences:
        return argv[0], argv[1:]
    if argv == ["--version"]:
        say(f"{PROGRAM} {__version__}")
        raise SystemExit(0)
    if argv and argv[0] not in HELP_WORDS:
        meant = nearest(argv[0], sentences)
        advice = f"Choose one of {', '.join(sentences)}." if meant is None else f"Did you mean {meant}?"
        raise ValueError(f"There is no {kind} {argv[0]!r}. {advice}")
    lines = [f"  {name:<13}{sentence}" for name, sentence in sentences.items()]
    usage = f"usage: {program} {kind.upper()} [OPTIONS]\n\n{description}\n\n{kind}s:"
    ending = f"\n`{program} {kind.upper()} --help` lists the options of a {kind}."
    say("\n".join([usage, *lines, ending]), file=sys.stdout if argv else sys.stderr)
    raise SystemExit(0 if argv else 2)


if __name__ == "__main__":
    main()
