#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Are latents good embeddings? Compare the means of posteriors with the vectors that the encoder itself makes.

--pairs is a file with the columns sentence1, sentence2 and score, such as STS-B. It tells whether distances agree with
what people call similar. --labelled takes two files of labelled texts, to train and to test a linear classifier. It
tells how many labels that classifier needs, and can be given several times. The encoder is that of the trained model.
If it was frozen, its vectors are those of the pretrained encoder.

Example: python scripts/benchmark_embeddings.py runs/reviews --pairs stsb.tsv --labelled sst2.train.tsv sst2.test.tsv
"""

import argparse

from hf_bnvae.benchmarks.embeddings import LabelledTexts, ScoredPairs, judge_embeddings
from hf_bnvae.benchmarks.tables.embeddings import render_embeddings
from hf_bnvae.data.corpora import LABEL, TEXT
from hf_bnvae.jobs.option_parser import new_file, user_errors
from hf_bnvae.utils.json_files import write_json
from hf_bnvae.utils.terminal import say


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Folders of models, or names on the Hub.")
    parser.add_argument("--pairs", help="Pairs of texts, with scores: columns sentence1, sentence2, score.")
    parser.add_argument(
        "--labelled",
        nargs=2,
        action="append",
        default=[],
        metavar=("TRAIN", "TEST"),
        help="Labelled texts to train and to test a classifier. Several times for several sets.",
    )
    parser.add_argument("--text_column", default=TEXT, help="The column of the texts (%(default)s).")
    parser.add_argument("--label_column", default=LABEL, help="The column of the labels (%(default)s).")
    parser.add_argument("--labels_per_class", nargs="+", type=int, default=[10, 100], help="By default 10 and 100.")
    parser.add_argument("--output_file", type=new_file, help="A JSON file for the figures.")
    args = parser.parse_args()
    if args.pairs is None and not args.labelled:
        parser.error("Give --pairs, --labelled, or both.")
    return args


def main() -> None:
    args = parse_arguments()
    with user_errors():
        pairs = None if args.pairs is None else ScoredPairs.from_file(args.pairs)
        labelled = [LabelledTexts.from_files(*files, args.text_column, args.label_column) for files in args.labelled]
        record = judge_embeddings(args.models, pairs, labelled, args.labels_per_class)
        say(render_embeddings(record))
        if args.output_file is not None:
            write_json(args.output_file, record)


if __name__ == "__main__":
    main()
