# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Many answers to one question: conditional models compared with what people answered. Needs the extra `probe`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from datasets import Dataset

from ..data.corpora import CONDITION, TEXT, corpus_hash
from ..evaluation.answers import AnswerQuality, judge_answers
from ..evaluation.condition_probe import share_explained
from ..evaluation.encoding import EncodedTexts, encode_corpus
from ..evaluation.evaluator import evaluate_model
from ..evaluation.judges import EncoderJudge
from ..jobs.saved_model import load_saved_model
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.evaluate_and_report import joined_encodings
from ..reporting.provenance import hardware, library_versions

# The first contexts, which a page shows with some answers.
EXAMPLES, SHOWN_ANSWERS = 3, 5
# The figures of an evaluation that a table shows.
FIGURES = (
    "reconstruction_nll",
    "kl",
    "iw_nll",
    "decoder_information",
    "latent_gain",
    "latent_gain_within",
    "fitted_iw_nll",
    "fitted_decoder_information",
    "reconstruction_bleu",
)
BATCH_SIZE = 256


def judge_answering(
    models: Sequence[tuple[str, str]],
    train: Dataset,
    test: Dataset,
    encoder: str,
    num_answers: int = 10,
    num_probe_texts: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """
    How conditional models answer held-out contexts.

    Args:
        models (sequence of `tuple`): Names and folders. Models of one name differ in their seed, and share a row.
        train, test (`Dataset`): Texts and conditions, as [`~data.corpora.load_text_set`] gives them. The first ones of
            `train` train the probe. The texts of one condition in `test` are its references.
        encoder (`str`): The encoder that compares texts and reads conditions. It must not be a part of a judged model.
        num_answers (`int`, *optional*, defaults to 10): Samples for each context, greedily decoded from draws of the
            prior.
        num_probe_texts (`int`, *optional*, defaults to 10000): Texts that train the probe.
        seed (`int`, *optional*, defaults to 0): Seed of the samples and of the evaluation.

    Returns:
        `dict`: The record. For each name it has a list of figures, one for each model: `FIGURES`, the fields of
        [`~evaluation.answers.AnswerQuality`], and `condition_share` ([`share_explained`]). It also has the first
        contexts, with some answers of the first model of each name.

    Raises:
        ValueError: for a model that takes no conditions, and for a judge that is a part of a model.
    """
    judge = EncoderJudge(encoder)
    references: dict[str, list[str]] = {}
    for text, condition in zip(test[TEXT][:], test[CONDITION][:], strict=True):
        references.setdefault(condition, []).append(text)
    probe = train.select(range(min(num_probe_texts, len(train))))
    features = {name: _condition_features(judge, data) for name, data in (("train", probe), ("test", test))}
    rows: dict[str, dict[str, Any]] = {}
    for name, folder in models:
        model = load_saved_model(folder).eval()
        if not model.config.conditional:
            raise ValueError(f"{folder} was trained without conditions, so it answers nothing.")
        judge.require_independent(model)
        answers = model.sample(
            num_answers, condition=list(references), seed=seed, batch_size=BATCH_SIZE, do_sample=False
        )
        batches: dict[int, EncodedTexts] = {}
        result = asdict(evaluate_model(model, test, batch_size=BATCH_SIZE, seed=seed, on_encoded=batches.__setitem__))
        test_means = joined_encodings(batches[first] for first in sorted(batches)).mean
        figures = {
            **{figure: result[figure] for figure in FIGURES},
            **asdict(judge_answers(answers, list(references.values()), judge)),
            "condition_share": share_explained(features["train"], _means(model, probe), features["test"], test_means),
        }
        row = rows.setdefault(name, {"name": name, "figures": [], "examples": []})
        row["figures"].append(figures)
        if not row["examples"]:
            row["examples"] = [own[:SHOWN_ANSWERS] for own in answers[:EXAMPLES]]
    people = judge_people(list(references.values()), judge)
    return {
        "models": list(rows.values()),
        "people": None if people is None else asdict(people),
        "examples": [
            {"condition": condition, "references": own} for condition, own in list(references.items())[:EXAMPLES]
        ],
        "num_answers": num_answers,
        "num_contexts": len(references),
        "num_test_texts": len(test),
        "num_probe_texts": len(probe),
        "test_sha256": corpus_hash(test),
        "hardware": hardware(),
        **library_versions(),
    }


def judge_people(references: Sequence[Sequence[str]], judge: EncoderJudge | None) -> AnswerQuality | None:
    """How one half of what people answered compares with the other half: what to expect of good answers. `None` if a
    context has a single answer."""
    half = min(map(len, references)) // 2
    if not half:
        return None
    return judge_answers([own[:half] for own in references], [own[half:] for own in references], judge)


def _condition_features(judge: EncoderJudge, data: Dataset) -> torch.Tensor:
    """A vector for the condition of each text. Equal conditions are read once."""
    conditions = data[CONDITION][:]
    distinct = list(dict.fromkeys(conditions))
    vectors = dict(zip(distinct, judge.embed(distinct, BATCH_SIZE), strict=True))
    return torch.stack([vectors[condition] for condition in conditions])


def _means(model: BNVAEModel, data: Dataset) -> torch.Tensor:
    """The means of the posteriors of texts."""
    texts, conditions = data[TEXT][:], data[CONDITION][:]
    return encode_corpus(model, model.processor, texts, BATCH_SIZE, conditions=conditions).mean
