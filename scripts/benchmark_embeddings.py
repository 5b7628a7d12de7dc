#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Are latents good embeddings? Compare the means of posteriors with the vectors that the encoder itself makes.

--pairs is a file with the columns sentence1, sentence2 and score, such as STS-B. It tells whether distances agree with
what people call similar. --train_file and --test_file have labelled texts. They tell how many labels a linear
classifier needs. The encoder is that of the trained model. If it was frozen, its vectors are those of the pretrained
encoder.

Example: python scripts/benchmark_embeddings.py runs/reviews --pairs stsb.tsv --output_file embeddings.json
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_bnvae.data.corpora import LABEL, TEXT, load_text_set
from hf_bnvae.evaluation.encoding import encode_corpus
from hf_bnvae.evaluation.probe import probe_features
from hf_bnvae.evaluation.similarity import similarity_correlations
from hf_bnvae.jobs.option_parser import user_errors
from hf_bnvae.jobs.saved_model import load_saved_model
from hf_bnvae.model.modeling_bnvae import BNVAEModel
from hf_bnvae.reporting.markdown import markdown_table
from hf_bnvae.utils.json_files import write_json

COLUMNS = ("sentence1", "sentence2", "score")

# For each kind of embedding, figures by their names.
Figures = dict[str, dict[str, float]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Folders of models, or names on the Hub.")
    parser.add_argument("--pairs", help="Pairs of texts, with scores: columns sentence1, sentence2, score.")
    parser.add_argument("--train_file", help="Labelled texts to train the classifier on.")
    parser.add_argument("--test_file", help="Labelled texts to test it with.")
    parser.add_argument("--text_column", default=TEXT, help="The column of the texts (%(default)s).")
    parser.add_argument("--label_column", default=LABEL, help="The column of the labels (%(default)s).")
    parser.add_argument("--labels_per_class", nargs="+", type=int, default=[10, 100], help="By default 10 and 100.")
    parser.add_argument("--output_file", type=Path, help="A JSON file for the figures.")
    args = parser.parse_args()
    if args.pairs is None and args.train_file is None:
        parser.error("Give --pairs, or --train_file and --test_file.")
    if (args.train_file is None) != (args.test_file is None):
        parser.error("Give both --train_file and --test_file.")
    return args


def main() -> None:
    args = parse_arguments()
    with user_errors():
        pairs = None if args.pairs is None else read_pairs(args.pairs)
        sets = {} if args.train_file is None else {name: read_labelled(args, name) for name in ("train", "test")}
        found = {name: judge_embeddings(load_saved_model(name), pairs, sets, args) for name in args.models}
        columns = list(
            dict.fromkeys(name for kinds in found.values() for figures in kinds.values() for name in figures)
        )
        rows = [
            (model, kind, *(f"{100 * figures[name]:.1f}" if name in figures else "-" for name in columns))
            for model, kinds in found.items()
            for kind, figures in kinds.items()
        ]
        print("\n".join(markdown_table(("model", "embedding", *(f"{name}, %" for name in columns)), rows)))
        if args.output_file is not None:
            write_json(args.output_file, found)


def judge_embeddings(model: BNVAEModel, pairs: Any, sets: dict[str, Any], args: argparse.Namespace) -> Figures:
    """All figures of a model's embeddings."""
    figures = {} if pairs is None else correlations(model, *pairs)
    if sets:
        for kind, accuracies in classifier_accuracies(model, sets, args.labels_per_class).items():
            figures.setdefault(kind, {}).update(accuracies)
    return figures


def read_pairs(file: str) -> tuple[list[str], list[str], list[float]]:
    """The texts and scores of a table. As usual, a .tsv has no quoting."""
    how = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if Path(file).suffix == ".tsv" else {}
    pairs: list[tuple[str, str, float]] = []
    with open(file, encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, **how)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{file} has no column {missing[0]}; its columns are {', '.join(rows.fieldnames or ())}.")
        for row in rows:
            place = f"{file}, line {rows.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{place}: the row does not have the {len(rows.fieldnames)} fields of the header.")
            first, second, score = (row[name] for name in COLUMNS)
            if not (first.strip() and second.strip()):
                raise ValueError(f"{place}: a text is empty.")
            try:
                pairs.append((first, second, float(score)))
            except ValueError:
                raise ValueError(f"{place}: the score is no number: {score!r}.") from None
    firsts, seconds, scores = zip(*pairs, strict=True) if pairs else ((), (), ())
    return list(firsts), list(seconds), list(scores)


def read_labelled(args: argparse.Namespace, name: str) -> tuple[list[str], list[object]]:
    file = getattr(args, f"{name}_file")
    dataset = load_text_set(file, text_column=args.text_column, label_column=args.label_column)
    return dataset[TEXT][:], dataset[LABEL][:]


def correlations(model: BNVAEModel, first: list[str], second: list[str], scores: list[float]) -> Figures:
    encoded = (encode_corpus(model, model.processor, texts) for texts in (first, second))
    found = similarity_correlations(*encoded, scores, model.fitted_prior)
    return {
        kind: {f"Spearman ({measure})": value for measure, value in values.items()} for kind, values in found.items()
    }


def classifier_accuracies(model: BNVAEModel, sets: dict[str, Any], counts: Sequence[int]) -> Figures:
    train, test = (encode_corpus(model, model.processor, sets[name][0]) for name in ("train", "test"))
    figures: Figures = {}
    for kind, name in (("features", "features"), ("means", "mean")):
        vectors = (getattr(part, name) for part in (train, test))
        result = probe_features(next(vectors), sets["train"][1], next(vectors), sets["test"][1], counts)
        for row in result.rows:
            labels = "all labels" if row.labels_per_class is None else f"{row.labels_per_class} labels a class"
            figures.setdefault(kind, {})[f"accuracy ({labels})"] = row.accuracy
    for number, reason in result.omitted.items():
        print(f"No column of {number} labels a class: {reason}.", file=sys.stderr)
    return figures


if __name__ == "__main__":
    main()
