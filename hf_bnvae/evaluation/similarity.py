# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Do distances between latents agree with what people call similar?

Needs the extra `probe`, for scipy.
"""

from collections.abc import Sequence
from math import isfinite
from numbers import Real

from torch.nn import functional as F

from ..model.prior_bnvae import GaussianPrior
from .encoding import EncodedTexts

try:
    from scipy.stats import spearmanr
except ImportError as error:
    raise ImportError("Correlations need scipy: pip install scipy") from error


def similarity_correlations(
    first: EncodedTexts, second: EncodedTexts, scores: Sequence[float], prior: GaussianPrior | None = None
) -> dict[str, dict[str, float]]:
    """
    Spearman's rank correlation of people's scores with the similarity of embeddings, as for STS-B (Cer et al., SemEval
    2017).

    Args:
        first, second ([`EncodedTexts`]): The first and the second text of each pair.
        scores (sequence of `float`): How similar people call the two texts of each pair.
        prior ([`GaussianPrior`], *optional*): The model's fitted prior, for distances where it is N(0, I).

    Returns:
        `dict`: For each kind of embedding, `features` of the encoder, `means` of the posteriors and, with a prior,
        `whitened means`: the correlations with the `cosine` and with the negative `distance`, from -1 to 1.

    Raises:
        ValueError: for fewer than two pairs, different numbers of texts and scores, scores that are no finite numbers,
            or scores that are all equal.
    """
    if not len(first.mean) == len(second.mean) == len(scores) or len(scores) < 2:
        raise ValueError(
            "Two texts and a score are needed for each of at least two pairs, got "
            f"{len(first.mean)}, {len(second.mean)} and {len(scores)}."
        )
    wrong = [place for place, score in enumerate(scores) if not (isinstance(score, Real) and isfinite(score))]
    if wrong:
        raise ValueError(f"Score {wrong[0] + 1} of {len(scores)} is no finite number: {scores[wrong[0]]!r}.")
    if len(set(scores)) == 1:
        raise ValueError(f"All scores are {scores[0]}, so nothing can correlate with them.")
    pairs = {"features": (first.features, second.features), "means": (first.mean, second.mean)}
    if prior is not None:
        pairs["whitened means"] = tuple(prior.whiten(mean.to(prior.mean)).cpu() for mean in pairs["means"])
    found: dict[str, dict[str, float]] = {}
    for name, (own, other) in pairs.items():
        own, other = own.double(), other.double()
        measures = {"cosine": F.cosine_similarity(own, other, dim=-1), "distance": -(own - other).norm(dim=-1)}
        found[name] = {
            n: float(spearmanr(values.numpy(), [float(score) for score in scores]).statistic)
            for n, values in measures.items()
        }
    return found
