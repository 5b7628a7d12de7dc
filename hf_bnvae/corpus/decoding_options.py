# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of `hf-bnvae decode`."""

import argparse

from ..jobs.option_parser import CommandParser
from ..jobs.text_generation import add_decoding_options
from ..reporting.commands import PROGRAM
from .work_options import add_running_options, add_work_options


def decoding_parser() -> CommandParser:
    """The parser of the command."""
    program = f"{PROGRAM} decode"
    parser = CommandParser(
        prog=program,
        description=(
            "Decode parquet files of latents to a folder of texts: one parquet file a task, with the columns id and\n"
            "text. The same command again makes only the files that are not there. Needs the extra `corpus`.\n\n"
            "example:\n"
            f"  {program} latents texts --model runs/reviews --num_beams 4 --workers 4"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("latents", help="A folder, file or pattern of parquet files. Also hf://, s3://, ...")
    parser.add_argument("output", help="Folder to write, new or of the same command. Also hf://, s3://, ...")
    add_running_options(parser, "decodes the latents")
    latents = parser.add_argument_group("latents", "What the files hold.")
    latents.add_argument("--latent_column", default="mean", help="The column that holds the latents (default: mean).")
    latents.add_argument("--id_column", help="The column that holds the ids. Without it: id, or the rows' numbers.")
    latents.add_argument("--condition_column", help="The column of the conditions, for a conditional model.")
    latents.add_argument(
        "--columns", nargs="+", default=[], help="Columns to copy beside the texts, if need be renamed: text=original."
    )
    latents.add_argument(
        "--whitened",
        action="store_true",
        help="The prior is N(0, I) in their coordinates. Files of `encode` say so themselves.",
    )
    latents.add_argument("--any_latents", action="store_true", help="Also latents that another model encoded.")
    add_decoding_options(parser)
    parser.add_argument("--seed", type=int, default=42, help="Seed of drawn tokens (default: 42).")
    add_work_options(parser)
    return parser
