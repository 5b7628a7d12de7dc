# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Are latents good embeddings? The means of trained posteriors next to the vectors that the encoder itself makes.

Pairs of texts with scores tell whether distances agree with what people call similar. Labelled texts tell how many
labels a linear classifier needs. Needs the extra `probe`.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.corpora import LABEL, TEXT, load_text_set
from ..evaluation.encoding import encode_corpus
from ..evaluation.probe import probe_features
from ..evaluation.similarity import similarity_correlations
from ..jobs.saved_model import load_saved_model
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.provenance import hardware, library_versions

# The columns of a file of pairs.
COLUMNS = ("sentence1", "sentence2", "score")

# For each kind of embedding, figures by their names.
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class ScoredPairs:
    """
    Pairs of texts with what people say about them.

    Args:
        name (`str`): What tables call the pairs.
        first, second (`list[str]`): The texts.
        scores (`list[float]`): How similar people call them.
    """

    name: str
    first: list[str]
    second: list[str]
    scores: list[float]

    @classmethod
    def from_file(cls, file: str) -> "ScoredPairs":
        """
        Pairs from a table with the columns `sentence1`, `sentence2` and `score`. As usual, a .tsv has no quoting.

        Raises:
            ValueError: for a missing column, a row with more or fewer fields, an empty text, or a score that is no
                number.
        """
        how = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if Path(file).suffix == ".tsv" else {}
        pairs: list[tuple[str, str, float]] = []
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, **how)
            names = rows.fieldnames or ()
            missing = [name for name in COLUMNS if name not in names]
            if missing:
                raise ValueError(f"{file} has no column {missing[0]}; its columns are {', '.join(names)}.")
            for row in rows:
                place = f"{file}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{place}: the row does not have the {len(names)} fields of the header.")
                first, second, score = (row[name] for name in COLUMNS)
                if not (first.strip() and second.strip()):
                    raise ValueError(f"{place}: a text is empty.")
                try:
                    pairs.append((first, second, float(score)))
                except ValueError:
                    raise ValueError(f"{place}: the score is no number: {score!r}.") from None
        firsts, seconds, scores = zip(*pairs, strict=True) if pairs else ((), (), ())
        return cls(Path(file).name.partition(".")[0], list(firsts), list(seconds), list(scores))


@dataclass(frozen=True)
class LabelledTexts:
    """
    Labelled texts to train and to test a classifier with.

    Args:
        name (`str`): What tables call them.
        train, test (tuple of `list`): Texts, and their labels.
    """

    name: str
    train: tuple[list[str], list[Any]]
    test: tuple[list[str], list[Any]]

    @classmethod
    def from_files(cls, train: str, test: str, text_column: str = TEXT, label_column: str = LABEL) -> "LabelledTexts":
        """Labelled texts from two files. The name is the beginning of the first one's name."""
        sets = (load_text_set(file, text_column=text_column, label_column=label_column) for file in (train, test))
        read = [(dataset[TEXT][:], dataset[LABEL][:]) for dataset in sets]
        return cls(Path(train).name.partition(".")[0], *read)


def judge_embeddings(
    models: Sequence[str],
    pairs: ScoredPairs | None,
    labelled: Sequence[LabelledTexts],
    labels_per_class: Sequence[int] = (10, 100),
) -> dict[str, Any]:
    """
    The embeddings of trained models: `features`, the pooled vectors of their encoders, and `means` of the posteriors.

    Args:
        models (sequence of `str`): Folders of models, or names on the Hub.
        pairs ([`ScoredPairs`], *optional*): For rank correlations.
        labelled (sequence of [`LabelledTexts`]): For a linear classifier's accuracy.
        labels_per_class (sequence of `int`, *optional*, defaults to `(10, 100)`): Numbers of labels that the
            classifier gets, besides all.

    Returns:
        `dict`: The record: for each model its settings and figures; the texts, versions and hardware. Correlations are
        from -1 to 1, accuracies from 0 to 1.

    Raises:
        ValueError: for models, pairs or labels that cannot be judged.
    """
    rows, omitted = [], {}
    for name in models:
        model = load_saved_model(name)
        figures: Figures = {} if pairs is None else correlations(model, pairs)
        for texts in labelled:
            accuracies, reasons = classifier_accuracies(model, texts, labels_per_class)
            for kind, values in accuracies.items():
                figures.setdefault(kind, {}).update(values)
            omitted |= {f"{texts.name}: {number} labels a class": reason for number, reason in reasons.items()}
        config = model.config
        rows.append(
            {
                "name": Path(name).name,
                "posterior": config.posterior,
                "rate": config.rate,
                "latent_size": config.latent_size,
                "feature_size": config.encoder.hidden_size,
                "figures": figures,
            }
        )
    sets: dict[str, int] = {} if pairs is None else {pairs.name: len(pairs.scores)}
    sets |= {texts.name: len(texts.test[0]) for texts in labelled}
    return {"models": rows, "num_texts": sets, "omitted": omitted, "hardware": hardware(), **library_versions()}


def correlations(model: BNVAEModel, pairs: ScoredPairs) -> Figures:
    """Spearman's rank correlations of scores and similarities."""
    encoded = (encode_corpus(model, model.processor, texts) for texts in (pairs.first, pairs.second))
    found = similarity_correlations(*encoded, pairs.scores, model.fitted_prior)
    return {
        kind: {f"{pairs.name}: {measure}": value for measure, value in values.items()}
        for kind, values in found.items()
    }


def classifier_accuracies(
    model: BNVAEModel, texts: LabelledTexts, labels_per_class: Sequence[int]
) -> tuple[Figures, dict[str, str]]:
    """Accuracies of a linear classifier, and the numbers of labels that were left out, with the reasons."""
    train, test = (encode_corpus(model, model.processor, part[0]) for part in (texts.train, texts.test))
    figures: Figures = {}
    omitted: dict[str, str] = {}
    for kind, name in (("features", "features"), ("means", "mean")):
        vectors = (getattr(part, name) for part in (train, test))
        result = probe_features(next(vectors), texts.train[1], next(vectors), texts.test[1], labels_per_class)
        for row in result.rows:
            labels = "all labels" if row.labels_per_class is None else f"{row.labels_per_class} labels a class"
            figures.setdefault(kind, {})[f"{texts.name}: {labels}"] = row.accuracy
        omitted |= result.omitted
    return figures, omitted
