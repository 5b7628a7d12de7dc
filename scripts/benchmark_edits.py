#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What do edits along a direction do? Move held-out texts of two classes to the other class, and judge the results.

A classifier that has seen the texts only, and no latent, says whether a text got there. BLEU with the text before the
edit says how much of it is left, and a language model says whether it reads well. Models are given as NAME=FOLDER;
models of one name, which differ in their seed, share a row. A model that was trained with --condition_column on the
labels needs no direction: it decodes each text's latent under the other label.

Example: python scripts/benchmark_edits.py rate-8=runs/rate-8-42 rate-8=runs/rate-8-43 --train_file train.tsv \\
             --validation_file valid.tsv --judge_language_model runs/judge
"""

import argparse

from hf_bnvae.benchmarks.edits import STRENGTHS, judge_edits, read_models
from hf_bnvae.benchmarks.embeddings import LabelledTexts
from hf_bnvae.benchmarks.tables.edits import render_edits
from hf_bnvae.data.corpora import LABEL, TEXT
from hf_bnvae.jobs.option_parser import new_file, user_errors
from hf_bnvae.utils.json_files import write_json
from hf_bnvae.utils.terminal import say


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Models as NAME=FOLDER.")
    parser.add_argument("--train_file", required=True, help="Labelled texts for the direction and the classifier.")
    parser.add_argument("--validation_file", required=True, help="Labelled texts to edit.")
    parser.add_argument("--text_column", default=TEXT, help="The column of the texts (%(default)s).")
    parser.add_argument("--label_column", default=LABEL, help="The column of the labels (%(default)s).")
    parser.add_argument("--judge_language_model", required=True, help="A language model, independent of the models.")
    parser.add_argument("--strengths", nargs="+", type=float, default=list(STRENGTHS), help="By default 0, 0.5, 1, 2.")
    parser.add_argument("--num_texts", type=int, default=1000, help="Texts to edit (%(default)s).")
    parser.add_argument("--output_file", type=new_file, help="A JSON file for the figures.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with user_errors():
        texts = LabelledTexts.from_files(args.train_file, args.validation_file, args.text_column, args.label_column)
        record = judge_edits(
            read_models(args.models), texts, args.judge_language_model, args.strengths, num_texts=args.num_texts
        )
        say(render_edits(record))
        if args.output_file is not None:
            write_json(args.output_file, record)


if __name__ == "__main__":
    main()
