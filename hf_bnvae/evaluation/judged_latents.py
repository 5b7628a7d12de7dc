# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What latents hold of a text and of the way between two texts, by judges that the judged model has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..model.modeling_bnvae import BNVAEModel
from ..utils.random_state import seeded_generator
from .encoding import encode_corpus
from .judges import EncoderJudge, LanguageModelJudge
from .text_scores import LetterCounts, token_f1

STEPS = 9
# What the draw of the texts is for. The number is a part of its seed.
_CHOICE = 8

_GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class ReconstructionSimilarity:
    """
    How similar reconstructions are to their texts.

    Args:
        similarity (`float`, *optional*): Mean cosine of a text and its reconstruction in the space of an independent
            encoder, at most 1; `None` without one.
        random_similarity (`float`, *optional*): The same of a text and the reconstruction of another text. `None`
            also if all texts are the same.
        own_similarity (`float`): The mean cosine in the space of the model's own encoder. For a pretrained sentence
            encoder that was frozen, it tells how well its embeddings are inverted (Morris et al., "Text Embeddings
            Reveal (Almost) As Much As Text", EMNLP 2023).
        own_random_similarity (`float`, *optional*): The same of a text and the reconstruction of another text.
        token_f1 (`float`): Mean [`token_f1`], 0 to 1.
        num_texts (`int`): Number of texts.
    """

    similarity: float | None
    random_similarity: float | None
    own_similarity: float
    own_random_similarity: float | None
    token_f1: float
    num_texts: int


@dataclass(frozen=True)
class PathQuality:
    """
    How good the texts are between two texts, on straight lines from one latent to another.

    Args:
        distinct (`float`): Mean number of distinct texts on a path, from 1 to `num_steps`.
        inner_perplexity (`float`, *optional*): Perplexity of the texts between the ends, for each token of an
            independent language model.
        end_perplexity (`float`, *optional*): The same of the texts at the ends, which are reconstructions.
        num_paths (`int`): Number of paths.
        num_steps (`int`): Number of texts on a path, both ends included.
    """

    distinct: float
    inner_perplexity: float | None
    end_perplexity: float | None
    num_paths: int
    num_steps: int


def judge_reconstructions(
    model: BNVAEModel,
    texts: Sequence[str],
    encoder: EncoderJudge | None,
    num_texts: int,
    batch_size: int = 64,
    seed: int = 0,
    conditions: Sequence[str] | None = None,
) -> ReconstructionSimilarity:
    """
    Compare texts with what the model decodes, greedily, from the modes of their posteriors.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        texts (sequence of `str`): Texts that neither model nor judge was trained on; at least two.
        encoder ([`EncoderJudge`], *optional*): The judge.
        num_texts (`int`): How many of the texts to compare, drawn at random; at least two.
        batch_size (`int`, *optional*, defaults to 64): Texts that are decoded at once.
        seed (`int`, *optional*, defaults to 0): Seed of the choice.
        conditions (sequence of `str`, *optional*): For a conditional model, the condition of each text.

    Raises:
        ValueError: for fewer than two texts.
    """
    places = _choose(texts, num_texts, seed)
    chosen, own_conditions = [texts[place] for place in places], _at(conditions, places)
    # The texts are in a random order, so the next one is another one at random.
    following = [*chosen[1:], chosen[0]]
    differs = torch.tensor([text != other for text, other in zip(chosen, following, strict=True)])
    decoded = model.reconstruct(
        chosen, batch_size=batch_size, show_progress=False, condition=own_conditions, **_GREEDY
    )

    def compare(vectors: torch.Tensor, others: torch.Tensor) -> tuple[float, float | None]:
        crossed = F.cosine_similarity(vectors.roll(-1, 0), others, dim=-1)[differs]
        random = crossed.mean().item() if len(crossed) else None
        return F.cosine_similarity(vectors, others, dim=-1).mean().item(), random

    similarity = random_similarity = None
    if encoder is not None:
        vectors = (encoder.embed(part, batch_size).double() for part in (chosen, decoded))
        similarity, random_similarity = compare(*vectors)
    encoded = (
        encode_corpus(model, model.processor, part, batch_size, conditions=own_conditions)
        for part in (chosen, decoded)
    )
    own = compare(*(part.features.double() for part in encoded))
    tokenizer = LetterCounts().update(chosen).tokenizer
    return ReconstructionSimilarity(
        similarity,
        random_similarity,
        *own,
        token_f1=sum(token_f1(*pair, tokenizer) for pair in zip(chosen, decoded, strict=True)) / len(chosen),
        num_texts=len(chosen),
    )


def judge_paths(
    model: BNVAEModel,
    texts: Sequence[str],
    language_model: LanguageModelJudge | None,
    num_paths: int,
    batch_size: int = 64,
    seed: int = 0,
    conditions: Sequence[str] | None = None,
) -> PathQuality:
    """
    Walk from text to text in nine equal steps, and judge what is decoded greedily on the way.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        texts (sequence of `str`): Texts that neither model nor judge was trained on; at least two.
        language_model ([`LanguageModelJudge`], *optional*): The judge; without it there are no perplexities.
        num_paths (`int`): The largest number of paths, at least one. Each path needs two texts.
        batch_size (`int`, *optional*, defaults to 64): Texts that are decoded at once.
        seed (`int`, *optional*, defaults to 0): Seed of the choice of texts.
        conditions (sequence of `str`, *optional*): For a conditional model, the condition of each text. The first text
            of a path gives the condition of the path.

    Raises:
        ValueError: for fewer than two texts, or no path.
    """
    places = _choose(texts, 2 * min(num_paths, len(texts) // 2), seed)
    chosen, half = [texts[place] for place in places], len(places) // 2
    paths = model.interpolate(
        chosen[:half],
        chosen[half:],
        steps=STEPS,
        batch_size=batch_size,
        show_progress=False,
        condition=_at(conditions, places[:half]),
        **_GREEDY,
    )
    perplexities: list[float | None] = [None, None]
    if language_model is not None:
        inner = [text for path in paths for text in path[1:-1]]
        ends = [text for path in paths for text in (path[0], path[-1])]
        perplexities = [language_model.perplexity(kind, batch_size) for kind in (inner, ends)]
    return PathQuality(sum(len(set(path)) for path in paths) / half, *perplexities, half, STEPS)


def _at(conditions: Sequence[str] | None, places: Sequence[int]) -> list[str] | None:
    return None if conditions is None else [conditions[place] for place in places]


def _choose(texts: Sequence[str], number: int, seed: int) -> list[int]:
    """The places of some texts, in a random order."""
    if min(len(texts), number) < 2:
        raise ValueError(f"At least two texts are needed, to compare one with another, got {min(len(texts), number)}.")
    # A file may be sorted.
    order = torch.randperm(len(texts), generator=seeded_generator(seed, _CHOICE)).tolist()
    return order[:number]
