#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How do conditional models answer? Compare samples under held-out contexts with what people answered.

Each row of the files holds a context and one answer, or a list of answers. Models are given as NAME=FOLDER; models of
one name, which differ in their seed, share a row.

Example: python scripts/benchmark_answers.py rate-4=runs/rate-4 gaussian=runs/gaussian --train_file train.jsonl \\
             --test_file test.jsonl --text_column responses --condition_column context --judge_encoder runs/encoder
"""

import argparse

from hf_bnvae.benchmarks.answers import judge_answering
from hf_bnvae.benchmarks.edits import read_models
from hf_bnvae.benchmarks.tables.answers import render_answers
from hf_bnvae.data.corpora import load_text_set
from hf_bnvae.jobs.option_parser import new_file, user_errors
from hf_bnvae.utils.json_files import write_json
from hf_bnvae.utils.terminal import say


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Models as NAME=FOLDER.")
    parser.add_argument("--train_file", required=True, help="What the models were trained on. It trains the probe.")
    parser.add_argument("--test_file", required=True, help="Contexts to answer, and what people answered.")
    parser.add_argument("--text_column", help="The column of the answers.")
    parser.add_argument("--condition_column", required=True, help="The column of the contexts.")
    parser.add_argument("--judge_encoder", required=True, help="An encoder of texts, independent of the models.")
    parser.add_argument("--num_answers", type=int, default=10, help="Samples for each context (%(default)s).")
    parser.add_argument("--output_file", type=new_file, help="A JSON file for the figures.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with user_errors():
        columns = {"text_column": args.text_column, "condition_column": args.condition_column}
        train, test = (load_text_set(file, **columns) for file in (args.train_file, args.test_file))
        record = judge_answering(read_models(args.models), train, test, args.judge_encoder, args.num_answers)
        say(render_answers(record))
        if args.output_file is not None:
            write_json(args.output_file, record)


if __name__ == "__main__":
    main()
