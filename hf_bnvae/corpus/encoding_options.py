# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of `hf-bnvae encode`."""

import argparse

from ..jobs.option_parser import CommandParser
from ..reporting.commands import PROGRAM
from .work_options import add_running_options, add_work_options


def encoding_parser() -> CommandParser:
    """The parser of the command."""
    program = f"{PROGRAM} encode"
    parser = CommandParser(
        prog=program,
        description=(
            "Write the latents of texts to a folder: one parquet file a task, with the columns id and mean. The same\n"
            "command again makes only the files that are not there. Needs the extra `corpus`.\n\n"
            "example:\n"
            f"  {program} reviews.csv latents --model runs/reviews --text_column review --id_column key --workers 4\n"
            f"  {program} latents --model runs/reviews --dataset_name user/reviews --dataset_split train"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="*", help="Files, folders or patterns, as for a training.")
    parser.add_argument("output", help="Folder to write, new or of the same command. Also hf://, s3://, ...")
    add_running_options(parser, "encodes the texts")
    texts = parser.add_argument_group("texts", "Which texts to encode.")
    texts.add_argument("--dataset_name", help="A data set of the Hub, instead of files.")
    texts.add_argument("--dataset_config_name", help="The configuration of that data set.")
    texts.add_argument("--dataset_split", default="train", help="The split of that data set (default: train).")
    texts.add_argument("--text_column", help="The column that holds the texts.")
    texts.add_argument("--condition_column", help="The column of the conditions, for a conditional model.")
    texts.add_argument("--id_column", help="The column that holds the ids. Without it: the numbers of the rows.")
    texts.add_argument("--max_samples", type=int, help="Encode this number of texts, the first ones.")
    texts.add_argument("--encoding", default="utf-8", help="The encoding of the files (default: utf-8).")
    texts.add_argument("--delimiter", help="The character between the fields of a table.")
    texts.add_argument("--quotechar", help="The character around fields of a table, or none.")
    texts.add_argument("--no_header", action="store_true", help="The first line of a table is no header.")
    files = parser.add_argument_group("files", "What the files hold besides id and mean.")
    files.add_argument("--with_text", action="store_true", help="The column text.")
    files.add_argument("--columns", nargs="+", default=[], help="Columns of the input, as they are there.")
    files.add_argument("--with_logvar", action="store_true", help="The column logvar, of the posteriors' variances.")
    files.add_argument("--num_draws", type=int, default=0, help="The column draws: draws from each posterior.")
    files.add_argument("--seed", type=int, default=42, help="Seed of the draws (default: 42).")
    files.add_argument("--whiten", action="store_true", help="Latents in coordinates in which the prior is N(0, I).")
    files.add_argument(
        "--latent_dtype", choices=["float32", "float16"], default="float32", help="Of the numbers (default: float32)."
    )
    add_work_options(parser)
    return parser
