# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of `hf-bnvae explore`."""

import argparse

from ..jobs.option_parser import CommandParser
from ..jobs.text_generation import add_model_options
from ..reporting.commands import PROGRAM
from .plane import PROJECTIONS


def exploring_parser() -> CommandParser:
    """The parser of the command."""
    program = f"{PROGRAM} explore"
    parser = CommandParser(
        prog=program,
        description=(
            "Show a saved BN-VAE as a page in the browser: reconstruct, sample, interpolate, edit, look at\n"
            "dimensions and at a map of texts, and read whether the latent space is alive. The page works\n"
            "offline and loads nothing from other machines. Needs the extra `explore`.\n\n"
            "example:\n"
            f"  {program} runs/bnvae --texts reviews.csv --text_column review"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", help="Hub name or folder of the model.")
    model = parser.add_argument_group("model", "Where the model comes from, and where it runs.")
    add_model_options(model, is_required=False)
    model.add_argument("--device", help="Where to run. Without it: on an accelerator if there is one.")
    texts = parser.add_argument_group("map", "The texts of the map. Without them the page has no map.")
    texts.add_argument("--texts", help="A file of texts: .txt, .csv, .tsv, .json, .jsonl or .parquet, also with .gz.")
    texts.add_argument("--latents", help="Instead: the folder of `hf-bnvae encode ... --with_text`.")
    texts.add_argument("--text_column", help="The column of the texts.")
    texts.add_argument("--label_column", help="The column of labels, which become colours.")
    texts.add_argument("--condition_column", help="The column of the conditions, for a conditional model.")
    texts.add_argument("--max_points", type=int, default=2000, help="The most points of the map (default: 2000).")
    texts.add_argument(
        "--projection",
        choices=list(PROJECTIONS),
        default="pca",
        help="The way to two dimensions; umap needs the package umap-learn (default: pca).",
    )
    server = parser.add_argument_group("server", "Who can open the page.")
    server.add_argument(
        "--server_name",
        default="127.0.0.1",
        help="The address to listen at. 0.0.0.0 lets other machines in (default: 127.0.0.1, this machine alone).",
    )
    server.add_argument("--server_port", type=int, help="The port. Without it: the first free one from 7860 on.")
    server.add_argument("--open_browser", action="store_true", help="Open the page in the browser.")
    return parser


def model_name(args: argparse.Namespace) -> str:
    """The model that a command names, by itself or as an option.

    Raises:
        ValueError: unless there is exactly one.
    """
    if (args.model is None) == (args.model_name_or_path is None):
        raise ValueError(f"Name one saved model: {PROGRAM} explore runs/bnvae")
    return args.model or args.model_name_or_path
