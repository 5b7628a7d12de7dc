# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How good samples are, by judges that the judged model has not seen: a language model and a text encoder."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tqdm.auto import tqdm

from ..model.modeling_bnvae import BNVAEModel
from ..utils.random_state import seeded_generator
from .judges import EncoderJudge, LanguageModelJudge
from .text_scores import LetterCounts, self_bleu

# Self-BLEU takes time of the square of the number of texts.
SELF_BLEU_TEXTS = 100
# What the draw of the references is for. The number is a part of its seed.
SPLIT = 7


@dataclass(frozen=True)
class SampleQuality:
    """
    How good texts are, compared with reference texts.

    Args:
        perplexity (`float`, *optional*): Perplexity of the texts for each token of an independent language model, the
            end of each text included.
        frechet_distance (`float`, *optional*): Distance of the texts from the references in the space of an
            independent encoder ([`frechet_distance`]).
        self_bleu (`float`): Self-BLEU of the first 100 texts, 0 to 100.
        distinct (`float`): The share of distinct texts, 0 to 1.
        num_texts (`int`): The number of texts, and of references.
    """

    perplexity: float | None
    frechet_distance: float | None
    self_bleu: float
    distinct: float
    num_texts: int


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """
    The Frechet distance between the Gaussians with the moments of two sets of vectors (Heusel et al., NeurIPS 2017):

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

    It is biased upwards for few vectors. So compare sets of equal size, and compare with the distance between two
    halves of one set.

    Args:
        first, second (`torch.Tensor` of shape `(texts, size)`): The vectors, at least two of each.

    Raises:
        ValueError: for fewer than two vectors.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"A Frechet distance needs two vectors of each kind, got {len(first)} and {len(second)}.")
    first, second = first.double(), second.double()
    means = first.mean(0), second.mean(0)
    # Roots of the covariances: S = root' root.
    roots = [(x - mean) / math.sqrt(len(x) - 1) for x, mean in zip((first, second), means, strict=True)]
    # The singular values of root1 root2' are the roots of the eigenvalues of S1 S2.
    shared = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    traces = sum(root.square().sum() for root in roots)
    return ((means[0] - means[1]).square().sum() + traces - 2 * shared).clamp_min(0).item()


def judge_texts(
    texts: Sequence[str],
    references: Sequence[str],
    language_model: LanguageModelJudge | None = None,
    encoder: EncoderJudge | None = None,
    batch_size: int = 64,
) -> SampleQuality:
    """
    How good texts are.

    Args:
        texts (sequence of `str`): The texts, such as samples of a model; at least two.
        references (sequence of `str`): As many texts that somebody has written.
        language_model ([`LanguageModelJudge`], *optional*): Gives the perplexity.
        encoder ([`EncoderJudge`], *optional*): Gives the Frechet distance.
        batch_size (`int`, *optional*, defaults to 64): Texts that a judge reads at once.

    Raises:
        ValueError: for fewer than two texts, or other numbers of texts and references.
    """
    if len(texts) < 2 or len(texts) != len(references):
        raise ValueError(
            f"Samples and references must be equally many, two or more of each, got {len(texts)} and "
            f"{len(references)}."
        )
    return SampleQuality(
        perplexity=None if language_model is None else language_model.perplexity(texts, batch_size),
        frechet_distance=(
            None
            if encoder is None
            else frechet_distance(encoder.embed(texts, batch_size), encoder.embed(references, batch_size))
        ),
        # Samples are cut into tokens as real texts are, also if they are no words.
        self_bleu=self_bleu(texts[:SELF_BLEU_TEXTS], LetterCounts().update(references).tokenizer),
        distinct=len(set(texts)) / len(texts),
        num_texts=len(texts),
    )


def check_judges(
    model: BNVAEModel,
    texts: Sequence[str],
    language_model: LanguageModelJudge | None = None,
    encoder: EncoderJudge | None = None,
) -> None:
    """
    Refuse what [`judge_samples`] cannot do, before the expensive work. Arguments are as there.

    Raises:
        ValueError: for fewer than four texts, for judges that are not independent of the model, and for judges that
            cannot read texts.
    """
    for kind, judge in (("language_model", language_model), ("encoder", encoder)):
        if judge is None:
            continue
        judge.require_independent(model)
        try:
            judge_texts(texts[:2], texts[:2], **{kind: judge})
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ValueError(f"The judge {judge.name} cannot read texts: {error}") from error
    if len(texts) < 4:
        raise ValueError(f"Samples are compared with one half of the texts: four are needed, got {len(texts)}.")


def judge_samples(
    model: BNVAEModel,
    texts: Sequence[str],
    language_model: LanguageModelJudge | None = None,
    encoder: EncoderJudge | None = None,
    num_samples: int = 500,
    batch_size: int = 64,
    seed: int = 0,
    show_progress: bool = True,
    conditions: Sequence[str] | None = None,
) -> dict[str, SampleQuality]:
    """
    How good a model's samples are, from every prior that it has, with greedy and with drawn tokens.

    The references are one half of `texts`, drawn at random. The other half is judged like samples: it shows what to
    expect of real texts.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        texts (sequence of `str`): Texts that neither model nor judges were trained on; at least four.
        language_model, encoder (*optional*): The judges, as in [`judge_texts`].
        num_samples (`int`, *optional*, defaults to 500): Samples of each kind; at most half of the texts.
        batch_size (`int`, *optional*, defaults to 64): Texts that are decoded at once.
        seed (`int`, *optional*, defaults to 0): Seed of all samples.
        show_progress (`bool`, *optional*, defaults to `True`): Whether to draw a progress bar.
        conditions (sequence of `str`, *optional*): For a conditional model, the condition of each text. Samples have
            the conditions of the references, one each.

    Returns:
        `dict`: [`SampleQuality`] by the kinds of texts.

    Raises:
        ValueError: as [`check_judges`].
    """
    check_judges(model, texts, language_model, encoder)
    half = len(texts) // 2
    number = min(num_samples, half)
    # A file may be sorted.
    order = torch.randperm(len(texts), generator=seeded_generator(seed, SPLIT)).tolist()
    references, others = ([texts[i] for i in places[:number]] for places in (order[:half], order[half:]))
    sampling: dict[str, Any] = {"n": number, "seed": seed, "batch_size": batch_size, "show_progress": False}
    # A decoder's own generation configuration has no part in it.
    plain = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0}
    decodings = {
        "greedy": {"do_sample": False, **plain},
        "drawn tokens": {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, **plain},
    }
    draw = model.sample
    if conditions is not None:
        own = [conditions[place] for place in order[:number]]
        sampling["n"] = 1

        def draw(**settings: Any) -> list[str]:
            return [text for (text,) in model.sample(condition=own, **settings)]

    priors = ["standard", *([] if model.fitted_prior is None else ["fitted"])]
    kinds: dict[str, Callable[[], Sequence[str]]] = {"held-out texts": lambda: others}
    for (words, decoding), prior in itertools.product(decodings.items(), priors):
        kinds[f"{prior} prior, {words}"] = partial(draw, prior=prior, **decoding, **sampling)
    progress = tqdm(kinds.items(), desc="Judging samples", disable=not show_progress, leave=False)
    return {name: judge_texts(make(), references, language_model, encoder, batch_size) for name, make in progress}
