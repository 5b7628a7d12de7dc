# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a recipe's model does: its figures on several sets of texts, and texts that nobody chose."""

from collections.abc import Mapping
from typing import Any

from ...reporting.commands import recorded_options
from ...reporting.markdown import inline
from .blocks import Block, cell, numbered, table, versions_of

RECIPE, DEMONSTRATION = Block("recipe"), Block("demonstration")

Recipe = Mapping[str, Any]

# What the README shows: the first texts, which are in a random order, and every second step between two of them.
_DEMONSTRATION_TEXTS, _DEMONSTRATION_STEPS = 5, slice(None, None, 2)


def render_recipe(recipe: Recipe) -> str:
    """
    The page's part that comes from records, in Markdown: figures, texts, settings.

    Args:
        recipe (mapping): What [`~benchmarks.records.collect_recipe`] returns.
    """
    parts = (_figures, _reconstructions, _path, _samples, _settings)
    return "\n\n".join(render(recipe) for render in parts)


def render_demonstration(recipe: Recipe) -> str:
    """For the README: what comes back from latents, and the way from the first text to the second."""
    examples = recipe["evaluations"][0]["examples"]
    rows = [(inline(text), inline(other)) for text, other in examples["reconstructions"][:_DEMONSTRATION_TEXTS]]
    steps = " → ".join(f"*{inline(text)}*" for text in examples["interpolation"][_DEMONSTRATION_STEPS])
    return f"{table(('text', 'what comes back'), rows)}\n\nFrom the first text to the second, in equal steps: {steps}"


def _figures(recipe: Recipe) -> str:
    header = ["texts", "number", "KL", "decoder information", "IW-NLL", "BLEU", "chrF", "exact, %", "F1"]
    note = (
        "KL, decoder information and IW-NLL are in nats per sentence, under N(0, I). Reconstructions are greedy. "
        "F1 is of the sets of words of a text and its reconstruction."
    )
    space, similarities = _space(recipe)
    if space is not None:
        header += ["cosine", "cosine, another text"]
        note += (
            f" The cosine is of their vectors in the space of {space}. In the last column it is of a text and "
            "another one's reconstruction."
        )
    rows = []
    for found in recipe["evaluations"]:
        figures, judged = found["figures"], found["samples"]["reconstructions"]
        rows.append(
            (
                inline(found["name"]),
                f"{figures['num_sentences']:,}",
                *(cell(figures.get(name), ".1f") for name in ("kl", "decoder_information", "iw_nll")),
                *(cell(figures.get(f"reconstruction_{name}"), ".1f") for name in ("bleu", "chrf", "exact")),
                *(cell(judged[name], ".2f") for name in ("token_f1", *similarities)),
            )
        )
    return f"{table(header, rows)}\n\n{note}"


def _space(recipe: Recipe) -> tuple[str | None, tuple[str, ...]]:
    """In which space texts are compared, and the names of the two cosines. In none if there is no judge, and the
    model's own encoder was trained together with the decoder."""
    judge = recipe["evaluations"][0]["samples"]["judges"]["encoder"]
    if judge is not None:
        return f"{judge}, which has no part in the model", ("similarity", "random_similarity")
    if "--freeze encoder" in recipe["command"]:
        return "the model's own encoder", ("own_similarity", "own_random_similarity")
    return None, ()


def _reconstructions(recipe: Recipe) -> str:
    parts = []
    for found in recipe["evaluations"]:
        rows = [(inline(text), inline(other)) for text, other in found["examples"]["reconstructions"]]
        parts.append(table((f"{inline(found['name'])}: the first texts", "what comes back"), rows))
    return "\n\n".join(parts)


def _path(recipe: Recipe) -> str:
    steps = recipe["evaluations"][0]["examples"]["interpolation"]
    return f"From the first text to the second, in equal steps:\n\n{numbered(steps)}"


def _samples(recipe: Recipe) -> str:
    examples = recipe["evaluations"][0]["examples"]
    lines = [f"- {inline(text)}" for text in examples["samples"]]
    return "\n".join([f"New texts, from draws of the {examples['prior']} prior:", "", *lines])


def _settings(recipe: Recipe) -> str:
    return (
        f"Trained on {recipe['train_samples']:,} texts with `{recorded_options(recipe['command'])}`: "
        f"{recipe['num_parameters'] / 1e6:.1f} million parameters, {_minutes(recipe):.0f} minutes. "
        f"{recipe['hardware']}; {versions_of(recipe)}."
    )


def _minutes(recipe: Recipe) -> float:
    """How long the training takes on all texts, at the speed measured. A resumed run measures its last piece only."""
    speed = recipe.get("train_samples_per_second")
    seconds = recipe["train_runtime"] if speed is None else recipe["epoch"] * recipe["train_samples"] / speed
    return seconds / 60
