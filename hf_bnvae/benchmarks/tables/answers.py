# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tables of many answers to one question."""

from collections.abc import Mapping
from typing import Any

from ...reporting.markdown import inline
from .blocks import Block, spread, table, versions_of

ANSWERS = Block("answers")

# Columns: heading, figure, digits, factor.
_LIKELIHOOD = (
    ("reconstruction", "reconstruction_nll", 2, 1),
    ("KL", "kl", 2, 1),
    ("IW-NLL", "iw_nll", 2, 1),
    ("decoder information", "decoder_information", 2, 1),
    ("latent gain", "latent_gain", 2, 1),
    ("the same within contexts", "latent_gain_within", 2, 1),
    ("told by the context, %", "condition_share", 1, 100),
)
_ANSWERS = (
    ("BLEU precision", "bleu_precision", 1, 1),
    ("recall", "bleu_recall", 1, 1),
    ("F1", "bleu_f1", 1, 1),
    ("cosine precision", "embedding_precision", 3, 1),
    ("recall ", "embedding_recall", 3, 1),
    ("F1 ", "embedding_f1", 3, 1),
    ("different answers", "distinct_answers", 1, 1),
    ("distinct-1 within", "distinct_1_within", 3, 1),
    ("distinct-2 within", "distinct_2_within", 3, 1),
    ("distinct-1 between", "distinct_1_between", 3, 1),
    ("distinct-2 between", "distinct_2_between", 3, 1),
)


def render_answers(record: Mapping[str, Any]) -> str:
    """
    Two tables in Markdown with a row for each model, and the first contexts with answers.

    Args:
        record (mapping): What [`~benchmarks.answers.judge_answering`] returns.
    """
    tables = []
    for columns, people in ((_LIKELIHOOD, None), (_ANSWERS, record["people"])):
        shown = [(model["name"], str(len(model["figures"])), model["figures"]) for model in record["models"]]
        shown += [] if people is None else [("people", "", [people])]
        rows = [
            (*own, *(_cell([run[figure] for run in runs], digits, factor) for _, figure, digits, factor in columns))
            for *own, runs in shown
        ]
        tables.append(table(("model", "models", *(heading for heading, *_ in columns)), rows))
    note = (
        f"{record['num_contexts']:,} held-out contexts with {record['num_test_texts']:,} answers of people. "
        "Likelihoods are of the answer given its context, in nats under N(0, I). *Told by the context* is the share "
        "of the variance of the posteriors' means that a linear regression on the context's vector explains. Each "
        f"model answers {record['num_answers']} times, greedily, from draws of its prior. In the row *people*, one "
        "half of a context's answers is compared with the other half, so that they are fewer and cover less. "
        f"{record['hardware']}; {versions_of(record)}."
    )
    examples = [_example(record, number, example) for number, example in enumerate(record["examples"])]
    return "\n\n".join([*tables, note, "The first contexts, which nobody chose:", *examples])


def _cell(values: list[float | None], digits: int, factor: float) -> str:
    return "" if None in values else spread([factor * value for value in values], digits)


def _example(record: Mapping[str, Any], number: int, example: Mapping[str, Any]) -> str:
    rows = [("people", *map(inline, example["references"]))]
    rows += [(model["name"], *map(inline, model["examples"][number])) for model in record["models"]]
    width = max(map(len, rows))
    header = ("", *map(str, range(1, width)))
    condition = inline(" / ".join(example["condition"].splitlines()) or "(empty)")
    return f"{condition}\n\n" + table(header, [(*row, *[""] * (width - len(row))) for row in rows])
