# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The report at the end of a run: a table of figures, and texts that show what the latent space does."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation.result import EvaluationResult
from ..model.modeling_bnvae import BNVAEModel
from .markdown import markdown_table


@dataclass(frozen=True)
class Examples:
    """
    Texts that a model makes, all by greedy decoding.

    Args:
        reconstructions (`list[tuple[str, str]]`): Texts and what is decoded from their posteriors' means.
        samples (`list[str]`): Decoded from draws of the prior.
        interpolation (`list[str]`): Decoded along the line between the first two texts' means, both ends included.
    """

    reconstructions: list[tuple[str, str]]
    samples: list[str]
    interpolation: list[str]


def make_examples(model: BNVAEModel, texts: Sequence[str], num_samples: int = 5, seed: int = 0) -> Examples:
    """
    Reconstructions of `texts`, samples of the prior, and an interpolation in nine steps between the first two texts.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        texts (`Sequence[str]`): At least two texts.
        num_samples (`int`, *optional*, defaults to 5): How many draws of the prior.
        seed (`int`, *optional*, defaults to 0): Seed of the draws.
    """
    greedy = {"show_progress": False, "do_sample": False}
    return Examples(
        reconstructions=list(zip(texts, model.reconstruct(texts, **greedy), strict=True)),
        samples=model.sample(num_samples, seed=seed, **greedy),
        interpolation=model.interpolate(texts[0], texts[1], steps=9, **greedy),
    )


def render_figures(result: EvaluationResult) -> str:
    """The figures as a table in Markdown, readable as it is in a terminal: each with its unit and its estimator, and
    the verdict below."""
    lines = markdown_table(("figure", "value", "unit", "estimator"), result.rows())
    verdict = result.diagnosis or "The latent space is alive."
    return "\n".join([*lines, "", verdict])


def render_examples(examples: Examples) -> str:
    """The texts, in Markdown."""
    pairs = [line for text, decoded in examples.reconstructions for line in (f"- {text}", f"  {decoded}")]
    steps = [f"{number}. {text}" for number, text in enumerate(examples.interpolation, 1)]
    parts = {
        "Reconstructions (text, then what is decoded from its mean)": pairs,
        "Samples of the prior": [f"- {text}" for text in examples.samples],
        "From the first text to the second" if pairs else "From one text to another": steps,
    }
    return "\n\n".join("\n".join([title, "", *lines]) for title, lines in parts.items() if lines)


def loading_lines(path: str, revision: str = "main") -> str:
    """Python that loads what was saved at `path`, a folder, or pushed there as a `revision`, a name on the Hub."""
    place = repr(path) if revision == "main" else f"{path!r}, revision={revision!r}"
    return "\n".join(
        [
            "from hf_bnvae import BNVAEModel, BNVAEProcessor",
            f"model = BNVAEModel.from_pretrained({place})",
            f"model.attach_processor(BNVAEProcessor.from_pretrained({place}))",
            'model.reconstruct("A text of your own .")',
        ]
    )
