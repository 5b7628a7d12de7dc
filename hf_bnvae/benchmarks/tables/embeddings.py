# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The table of latents as embeddings: means of posteriors next to the vectors that the encoder itself makes."""

from collections.abc import Mapping
from typing import Any

from .blocks import Block, table, versions_of

EMBEDDINGS = Block("embeddings")

# The record also has correlations with distances, and correlations of whitened means.
_NOT_SHOWN = ": distance"


def render_embeddings(record: Mapping[str, Any]) -> str:
    """
    A table in Markdown with a row for each model. A cell has two figures: of the encoder's vectors, and of the means.

    Args:
        record (mapping): What [`~benchmarks.embeddings.judge_embeddings`] returns.
    """
    models = record["models"]
    measures = dict.fromkeys(name for model in models for name in model["figures"]["features"])
    shown = [name for name in measures if not name.endswith(_NOT_SHOWN)]
    rows = []
    for model in models:
        kinds = [model["figures"][kind] for kind in ("features", "means")]
        cells = (" / ".join(f"{100 * kind[name]:.1f}" if name in kind else "-" for kind in kinds) for name in shown)
        rows.append((model["name"], f"{model['feature_size']} / {model['latent_size']}", *cells))
    texts = ", ".join(f"{number:,} of {name}" for name, number in record["num_texts"].items())
    note = (
        "In each cell the first figure is of the encoder's own pooled vectors, the second of the posterior's means. "
        "`cosine` is Spearman's correlation with what people call similar, times 100. The other columns are the "
        f"accuracy of a linear classifier, in percent, with that number of labels. Pairs or test texts: {texts}. "
        f"{record['hardware']}; {versions_of(record)}."
    )
    omitted = [f"No column of {name}: {reason}." for name, reason in record["omitted"].items()]
    header = ("model", "numbers", *shown)
    return f"{table(header, rows)}\n\n{' '.join([note, *omitted])}"
