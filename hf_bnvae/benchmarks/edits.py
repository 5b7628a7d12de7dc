# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What edits along a direction do: is the text of the other class, is it still the same text, is it a text at all?

A direction is fitted to the latents of labelled training texts. Held-out texts of each class are moved to the other
one. A model whose condition is the class needs no direction: it decodes the latent under the other class. A classifier
that has seen texts only, and no latent, says whether they got there. Needs the extra `probe`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from ..evaluation.judges import LanguageModelJudge
from ..evaluation.text_scores import reconstruction_bleu
from ..jobs.saved_model import load_saved_model
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.provenance import hardware, library_versions
from .embeddings import LabelledTexts

STRENGTHS = (0.0, 0.5, 1.0, 2.0)
# The first texts, which a page shows with what becomes of them.
EXAMPLES = 4


def train_text_classifier(texts: Sequence[str], labels: Sequence[Any]) -> Pipeline:
    """A classifier of texts by their words and pairs of words, which never sees a latent."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\S+", sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=10, max_iter=1000)).fit(texts, labels)


def judge_edits(
    models: Sequence[tuple[str, str]],
    texts: LabelledTexts,
    language_model: str,
    strengths: Sequence[float] = STRENGTHS,
    num_direction_texts: int = 4000,
    num_texts: int = 1000,
) -> dict[str, Any]:
    """
    Edits of held-out texts by trained models.

    Args:
        models (sequence of `tuple`): Names and folders. Models of one name differ in their seed, and share a row. A
            conditional model must have been trained with the label as its condition.
        texts ([`LabelledTexts`]): Two classes. The classifier is trained on all texts to train on.
        language_model (`str`): The language model that judges. It must not be a part of a judged model.
        strengths (sequence of `float`, *optional*): Strengths of the edits.
        num_direction_texts (`int`, *optional*, defaults to 4000): The first texts to train on give the direction.
        num_texts (`int`, *optional*, defaults to 1000): The first test texts are edited.

    Returns:
        `dict`: The record. For each name and edit it has a list of figures, one for each model: `flipped` (share of
        texts that the classifier puts into the other class), `bleu` (with the texts themselves, 0 to 100) and
        `perplexity` (for each token of the judge). An edit has a `strength`, or in a conditional model a `condition`,
        the text's own or the other class. For each name there is also the accuracy, on texts that it was not fitted
        to, with which the direction tells the class of a latent. The record also has the figures of the texts as they
        are, and the first texts with their edits by the first model of each name.

    Raises:
        ValueError: for labels that are not two classes, for a judge that is a part of a model, and for models of one
            name of which only some are conditional.
    """
    classifier = train_text_classifier(*texts.train)
    judge = LanguageModelJudge(language_model)
    sources, classes = texts.test[0][:num_texts], np.array(texts.test[1][:num_texts])
    found: dict[str, list[list[dict[str, float]]]] = {}
    kinds: dict[str, list[dict[str, Any]]] = {}
    accuracies: dict[str, list[float]] = {}
    examples: dict[str, list[list[str]]] = {}
    for name, folder in models:
        model = load_saved_model(folder)
        judge.require_independent(model)
        if model.config.conditional:
            kind = [{"condition": "own"}, {"condition": "other"}]
            accuracy, edited = _exchange_classes(model, texts, num_direction_texts, sources, classes)
        else:
            kind = [{"strength": strength} for strength in strengths]
            accuracy, edited = _edit(model, texts, num_direction_texts, sources, classes, strengths)
        if kinds.setdefault(name, kind) != kind:
            raise ValueError(f"Some models named {name} are conditional and some are not. Give them two names.")
        figures = [_figures(one, sources, classes, classifier, judge) for one in edited]
        found.setdefault(name, []).append(figures)
        accuracies.setdefault(name, []).append(accuracy)
        examples.setdefault(name, [list(row) for row in zip(*(one[:EXAMPLES] for one in edited), strict=True)])
    return {
        "models": [
            {
                "name": name,
                "num_models": len(runs),
                "examples": examples[name],
                "held_out_accuracy": accuracies[name],
                "edits": [
                    {**edit, **{k: [run[place][k] for run in runs] for k in runs[0][place]}}
                    for place, edit in enumerate(kinds[name])
                ],
            }
            for name, runs in found.items()
        ],
        "examples": list(sources[:EXAMPLES]),
        "texts": _figures(sources, sources, classes, classifier, judge),
        "classifier_accuracy": float(classifier.score(*texts.test)),
        "num_texts": len(sources),
        "num_direction_texts": min(num_direction_texts, len(texts.train[0])),
        "hardware": hardware(),
        **library_versions(),
    }


def _edit(
    model: BNVAEModel,
    texts: LabelledTexts,
    count: int,
    sources: Sequence[str],
    classes: np.ndarray,
    strengths: Sequence[float],
) -> tuple[float, list[list[str]]]:
    """The held-out accuracy of the direction, and for each strength the edited texts."""
    direction = model.fit_direction(texts.train[0][:count], texts.train[1][:count], show_progress=False)
    # Texts of the positive side go the other way.
    latents = model.encode_texts(list(sources), show_progress=False)
    signs = torch.from_numpy(np.where(classes.astype(str) == direction.positive, -1.0, 1.0)).to(latents)
    steps = signs[:, None] * direction.step.to(latents)  # (texts, latent_size)
    edited = [
        model.reconstruct(latents + strength * steps, show_progress=False, do_sample=False) for strength in strengths
    ]
    return direction.held_out_accuracy, edited


def _exchange_classes(
    model: BNVAEModel, texts: LabelledTexts, count: int, sources: Sequence[str], classes: np.ndarray
) -> tuple[float, list[list[str]]]:
    """The held-out accuracy with which a direction in the latents tells the class, and the texts of a conditional
    model: the latent of each text decoded under its own class, and under the other one."""
    labels = [str(label) for label in texts.train[1][:count]]
    latents = model.encode_texts(texts.train[0][:count], condition=labels, show_progress=False)
    accuracy = model.fit_direction(latents, labels).held_out_accuracy
    first, second = sorted(set(labels))
    own = classes.astype(str)
    other = np.where(own == first, second, first)
    given = {"text_condition": own.tolist(), "show_progress": False, "do_sample": False}
    return accuracy, [model.reconstruct(list(sources), condition=to.tolist(), **given) for to in (own, other)]


def _figures(
    texts: Sequence[str], sources: Sequence[str], classes: np.ndarray, classifier: Pipeline, judge: LanguageModelJudge
) -> dict[str, float]:
    return {
        "flipped": float((classifier.predict(texts) != classes).mean()),
        "bleu": reconstruction_bleu(texts, sources),
        "perplexity": judge.perplexity([text for text in texts if text.strip()]),
    }


def read_models(named: Sequence[str]) -> list[tuple[str, str]]:
    """
    Names and folders from a command line: `NAME=FOLDER`, or a folder alone.

    Raises:
        ValueError: for a folder that is not there.
    """
    pairs = []
    for one in named:
        name, _, folder = one.rpartition("=")
        if not Path(folder).is_dir():
            raise ValueError(
                f"There is no folder {folder}. Models are given as NAME=FOLDER, such as rate-8=runs/rate-8."
            )
        pairs.append((name or Path(folder).name, folder))
    return pairs
