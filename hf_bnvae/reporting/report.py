# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The parts of a report: a table of figures, texts that the model makes, and the Python that loads the model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..evaluation.result import EvaluationResult, figure_rows, prior_rows
from ..model.modeling_bnvae import BNVAEModel
from .markdown import fenced, inline, markdown_table, prose


@dataclass(frozen=True)
class Examples:
    """
    Texts that a model makes, all by greedy decoding.

    Args:
        reconstructions (`list[tuple[str, str]]`): Texts, each with what is decoded from its posterior's mean.
        samples (`list[str]`): Decoded from draws of the prior.
        interpolation (`list[str]`): Decoded along the line between the first two texts' means, both ends included.
        prior (`str`, *optional*, defaults to `"standard"`): The prior of the samples: `"standard"` or `"fitted"`.
        conditions (`list[str]`, *optional*): Of a conditional model, the condition of each reconstruction. Samples and
            interpolation have the first one. The list is empty if conditions must not be shown.
    """

    reconstructions: list[tuple[str, str]]
    samples: list[str]
    interpolation: list[str]
    prior: str = "standard"
    conditions: list[str] | None = None


def make_examples(
    model: BNVAEModel,
    texts: Sequence[str],
    means: torch.Tensor,
    num_samples: int = 5,
    seed: int = 0,
    conditions: Sequence[str] | None = None,
) -> Examples:
    """
    Reconstructions of `texts`, samples of the prior, and an interpolation in nine steps between the first two texts.
    The samples are of the fitted prior if the model has one, otherwise of N(0, I).

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        texts (`Sequence[str]`): At least two texts.
        means (`torch.Tensor` of shape `(texts, latent_size)`): The means of their posteriors. If some are no numbers,
            there are samples only. If the decoder's logits are no numbers, there is nothing.
        num_samples (`int`, *optional*, defaults to 5): The number of draws of the prior.
        seed (`int`, *optional*, defaults to 0): Seed of the draws.
        conditions (`Sequence[str]`, *optional*): For a conditional model, the condition of each text.
    """
    greedy = {"show_progress": False, "do_sample": False}
    prior = "standard" if model.fitted_prior is None else "fitted"
    own = None if conditions is None else list(conditions)
    first = {} if own is None else {"condition": own[0]}
    try:
        samples = model.sample(num_samples, seed=seed, prior=prior, **first, **greedy)
    except FloatingPointError:
        return Examples([], [], [], prior, own)
    if not means.isfinite().all():
        return Examples([], samples, [], prior, own)
    reconstructions = list(zip(texts, model.reconstruct(means, condition=own, **greedy), strict=True))
    interpolation = model.interpolate(means[0], means[1], steps=9, **first, **greedy)
    return Examples(reconstructions, samples, interpolation, prior, own)


def render_figures(result: EvaluationResult) -> str:
    """The figures of an evaluation as a table in Markdown, which can be read in a terminal too: each figure with its
    unit and its estimator. The verdict stands below."""
    return figures_and_verdict(asdict(result), str(result.verdict))


def figures_and_verdict(figures: Mapping[str, Any], verdict: str) -> str:
    """
    The same, from what a `report.json` holds.

    Args:
        figures (mapping): Values by the names of [`EvaluationResult`]'s fields.
        verdict (`str`): The verdict in words.
    """
    return "\n".join([*figure_lines(figures), "", *prior_lines(figures), prose(verdict)])


def figure_lines(figures: Mapping[str, Any]) -> list[str]:
    """The lines of the table of figures; empty without figures. A figure that is a text stands in an estimator."""
    told = {name: inline(value) if isinstance(value, str) else value for name, value in figures.items()}
    rows = figure_rows(told)
    return markdown_table(("figure", "value", "unit", "estimator"), rows) if rows else []


def prior_lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures under both priors side by side; empty without a fitted prior."""
    rows = prior_rows(figures)
    if not rows:
        return []
    title = "Under the prior N(0, I), and under the model's fitted prior:"
    return [title, "", *markdown_table(("figure", "N(0, I)", "fitted", "unit"), rows), ""]


def render_examples(examples: Examples) -> str:
    """The texts, each on its line, as a block of code that a page shows as it is."""
    conditions = examples.conditions
    pairs = []
    for number, pair in enumerate(examples.reconstructions):
        first, *others = map(_joined, pair if conditions is None else (conditions[number], *pair))
        pairs += [f"- {first}", *(f"  {other}" for other in others)]
    steps = [f"{number}. {_joined(text)}" for number, text in enumerate(examples.interpolation, 1)]
    shown = f"the condition: {_joined(conditions[0])}" if conditions else "a condition of the held-out texts"
    under = "" if conditions is None else f", under {shown}"
    samples = "Samples of the fitted prior" if examples.prior == "fitted" else "Samples of the prior"
    way = "From the first text to the second" if pairs else "From one text to another"
    what = "text" if conditions is None else "condition, text"
    parts = {
        f"Reconstructions ({what}, then what is decoded from its mean)": pairs,
        f"{samples}{under}": [f"- {_joined(text)}" for text in examples.samples],
        f"{way}{under}": steps,
    }
    return fenced("\n\n".join("\n".join([title, "", *lines]) for title, lines in parts.items() if lines))


def _joined(text: str) -> str:
    """The lines of a text as one line."""
    return " ".join(text.splitlines())


def loading_lines(path: str, revision: str = "main", is_conditional: bool = False) -> str:
    """
    Python that loads a saved model.

    Args:
        path (`str`): A folder, or a name on the Hub.
        revision (`str`, *optional*, defaults to `"main"`): The branch, tag or commit on the Hub.
        is_conditional (`bool`, *optional*, defaults to `False`): Whether the model takes a condition.
    """
    place = repr(path) if revision == "main" else f"{path!r}, revision={revision!r}"
    return "\n".join(
        [
            "from hf_bnvae import BNVAEModel, BNVAEProcessor",
            f"model = BNVAEModel.from_pretrained({place})",
            f"model.attach_processor(BNVAEProcessor.from_pretrained({place}))",
            'model.sample(3, condition="A context of your own .")'
            if is_conditional
            else 'model.reconstruct("A text of your own .")',
        ]
    )
