# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The table of edits along a direction."""

from collections.abc import Mapping
from typing import Any

from ...reporting.markdown import inline
from .blocks import Block, spread, table, versions_of

EDITS = Block("edits")


def render_edits(record: Mapping[str, Any]) -> str:
    """
    A table in Markdown with a row for each model and edit.

    Args:
        record (mapping): What [`~benchmarks.edits.judge_edits`] returns.
    """
    rows = []
    for model in record["models"]:
        for number, edit in enumerate(model["edits"]):
            # The name and what belongs to the model stand in its first row only.
            own = (model["name"], spread(model["held_out_accuracy"], 2), str(model["num_models"]))
            rows.append(
                (
                    *(own if number == 0 else ("", "", "")),
                    _name(edit),
                    spread([100 * value for value in edit["flipped"]], 1),
                    spread(edit["bleu"], 1),
                    spread(edit["perplexity"], 0),
                )
            )
    texts = record["texts"]
    conditional = (
        "A model with a condition has learnt each text under its class. It decodes the latent of a text under the "
        "other class, and needs no direction. Its accuracy only tells how much of the class the latent holds. "
    )
    is_any = any("condition" in model["edits"][0] for model in record["models"])
    note = (
        f"{record['num_texts']:,} held-out texts, each moved to the other class. The direction comes from the latents "
        f"of {record['num_direction_texts']:,} labelled training texts; its accuracy is of texts that it was not made "
        f"from. {conditional if is_any else ''}"
        "*Flipped* is the share of texts that a classifier of words puts into the other class. It is right on "
        f"{100 * record['classifier_accuracy']:.1f}% of the texts as they are. BLEU is with the text before the edit. "
        f"Real texts have a perplexity of {texts['perplexity']:.0f} under the judge. {record['hardware']}; "
        f"{versions_of(record)}."
    )
    header = ("model", "accuracy", "models", "edit", "flipped, %", "BLEU", "perplexity")
    models_of: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for model in record["models"]:
        models_of.setdefault(tuple(map(_name, model["edits"])), []).append(model)
    examples = []
    for number, text in enumerate(record["examples"]):
        examples.append(inline(text))
        for edits, models in models_of.items():
            made = [(model["name"], *map(inline, model["examples"][number])) for model in models]
            examples.append(table(("model", *edits), made))
    return "\n\n".join([table(header, rows), note, "The first texts, which nobody chose:", *examples])


def _name(edit: Mapping[str, Any]) -> str:
    return f"{edit['condition']} class" if "condition" in edit else f"strength {edit['strength']:g}"
