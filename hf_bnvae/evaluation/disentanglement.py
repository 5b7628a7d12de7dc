# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Do single dimensions of a latent stand for single factors of the texts? Scores from latents and labels.

Needs scikit-learn (extra `probe`). The definitions and the 20 bins are those that Locatello et al. (ICML 2019)
compare. No package with these scores is maintained.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

try:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import mutual_info_score
except ImportError as error:
    raise ImportError("Scores of disentanglement need scikit-learn: pip install 'scikit-learn>=1.5'") from error

from ..model.input_checks_bnvae import require_count
from .probe import require_labels

BINS = 20
# The number of texts in a group. They share the value of one factor.
GROUP = 64
# A dimension whose standard deviation is a smaller part of the largest one does not vary, except for rounding.
LEAST_SPREAD = 1e-6
# Forests need some texts to learn from and some to be tested with.
LEAST_TEXTS = 10


@dataclass(frozen=True)
class DisentanglementScores:
    """
    How far dimensions and factors go together. All scores lie in [0, 1]; 1 is best.

    Args:
        z_diff (`float`): Accuracy of a linear classifier that tells, from the mean distance of pairs in each
            dimension, which factor the pairs share (Higgins et al., ICLR 2017). Chance is 1 / the number of factors.
        z_min_var (`float`): Accuracy of a majority vote that tells, from the dimension with the smallest variance in a
            group, which factor the group shares (Kim & Mnih, ICML 2018).
        mig (`float`): Mutual information gap. For a factor this is the information of the best dimension minus the
            information of the second best one, divided by the factor's entropy. The score is the mean over factors
            (Chen et al., NeurIPS 2018).
        modularity (`float`): Whether each dimension has information about one factor only; mean over dimensions that
            have any (Ridgeway & Mozer, NeurIPS 2018).
        disentanglement (`float`): Whether each dimension helps to predict one factor only, by the importances of
            random forests (Eastwood & Williams, ICLR 2018).
        completeness (`float`): Whether each factor is predicted by one dimension only, by the same importances.
        informativeness (`float`): Accuracy of these forests on texts that they have not seen, mean over factors.
        mutual_information (`dict`): For each factor, the information of each dimension about the factor, in nats.
        num_texts (`int`): The number of texts.
    """

    z_diff: float
    z_min_var: float
    mig: float
    modularity: float
    disentanglement: float
    completeness: float
    informativeness: float
    mutual_information: dict[str, list[float]]
    num_texts: int

    def to_json(self) -> str:
        """The scores as a JSON object."""
        return json.dumps(asdict(self), indent=2)


def disentanglement_scores(
    latents: Any, factors: Mapping[str, Sequence[Any]], num_groups: int = 1000, seed: int = 0
) -> DisentanglementScores:
    """
    The scores of latents with known factors.

    Args:
        latents (array or tensor of shape `(n, latent_size)`): The latents, such as `model.encode_texts(texts)`.
        factors (mapping of `str` to sequences of `n` labels): For each factor its value in each text, a whole number
            or a string: `{"tense": [...], "number": [...]}`. There must be two factors at least.
        num_groups (`int`, *optional*, defaults to 1000): Groups of one half of the texts from which `z_diff` and
            `z_min_var` are learnt. As many groups of the other half test them.
        seed (`int`, *optional*, defaults to 0): Seed of groups, of forests, and of the texts that forests do not see.

    Returns:
        [`DisentanglementScores`]

    Raises:
        ValueError: for fewer than ten texts or two factors; for a factor with one value, or with nearly a value for
            each text; for missing labels, or another number of labels than latents; and for latents that are not
            finite or do not vary.

    Example:

    ```python
    >>> scores = disentanglement_scores(model.encode_texts(texts), {"tense": tenses, "number": numbers})
    >>> scores.mig
    0.12
    ```
    """
    z = latents.detach().cpu().double().numpy() if hasattr(latents, "detach") else np.asarray(latents, dtype=float)
    y = _factor_values(factors, len(z))
    if z.ndim != 2:
        raise ValueError(f"Latents must have the shape (n, latent_size), got {z.shape}.")
    if not np.isfinite(z).all():
        raise ValueError("Latents must be finite numbers.")
    if len(z) < LEAST_TEXTS:
        raise ValueError(f"Scores of disentanglement need at least {LEAST_TEXTS} texts, got {len(z)}.")
    require_count("num_groups", num_groups, LEAST_TEXTS)
    if not z.std(0).max() > LEAST_SPREAD * np.abs(z).max():
        raise ValueError("All latents are the same, so no dimension stands for anything.")
    random = np.random.default_rng(seed)
    information = np.array([[mutual_info_score(v, _binned(column)) for column in z.T] for v in y.T])  # (factors, d)
    z_diff, z_min_var = (score(z, y, num_groups, random) for score in (_z_diff, _z_min_var))
    importances, accuracy = _forests(z, y, random)
    return DisentanglementScores(
        z_diff=z_diff,
        z_min_var=z_min_var,
        mig=_mig(information, [mutual_info_score(v, v) for v in y.T]),
        modularity=_modularity(information),
        disentanglement=_concentration(importances.T),
        completeness=_concentration(importances),
        informativeness=accuracy,
        mutual_information=dict(zip(factors, information.tolist(), strict=True)),
        num_texts=len(z),
    )


def _factor_values(factors: Mapping[str, Sequence[Any]], count: int) -> np.ndarray:
    """The index of each text's value of each factor, `(n, factors)`."""
    if not isinstance(factors, Mapping):
        raise ValueError(f"factors must map names to labels, {{'tense': [...], ...}}, got {type(factors).__name__}.")
    if len(factors) < 2:
        raise ValueError(f"Scores of disentanglement compare factors, so they need two at least, got {len(factors)}.")
    columns = []
    for name, labels in factors.items():
        names, values = np.unique(require_labels(labels, f"factor's {name!r}"), return_inverse=True)
        if len(values) != count:
            raise ValueError(f"The factor {name!r} has {len(values)} labels, and there are {count} latents.")
        if len(names) < 2:
            raise ValueError(f"The factor {name!r} has one value only, {names[0].item()!r}. Leave it out.")
        columns.append(values)
    return np.stack(columns, 1)


def _binned(column: np.ndarray) -> np.ndarray:
    """The bin of each number, of `BINS` bins of equal width."""
    edges = np.linspace(column.min(), column.max(), BINS + 1)[1:-1]
    return np.digitize(column, edges)


def _groups(y: np.ndarray, count: int, random: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """Groups of texts that share the value of one factor: the factor, and indices of the texts. The first `count`
    groups, to learn from, are of one half of the texts, and as many groups to test with of the other half."""
    order = random.permutation(len(y))
    for half in (order[: len(y) // 2], order[len(y) // 2 :]):
        # A value of a single text would be told by the text, and not by the value.
        members = [
            [same for value in np.unique(column) if len(same := half[column[half] == value]) > 1] for column in y.T
        ]
        if not all(members):
            raise ValueError(
                f"A factor has hardly two texts of one value among {len(y)} texts. Give more texts, or a factor with "
                "fewer values."
            )
        for _ in range(count):
            factor = random.integers(y.shape[1])
            yield factor, random.choice(members[factor][random.integers(len(members[factor]))], GROUP)


def _z_diff(z: np.ndarray, y: np.ndarray, count: int, random: np.random.Generator) -> float:
    scaled = z / np.where(z.std(0) > 0, z.std(0), 1)
    features, factors = [], []
    for factor, rows in _groups(y, count, random):
        pairs = scaled[rows].reshape(2, GROUP // 2, -1)
        features.append(np.abs(pairs[0] - pairs[1]).mean(0))
        factors.append(factor)
    x, wanted = np.array(features), np.array(factors)
    classifier = LogisticRegression(C=100, max_iter=1000).fit(x[:count], wanted[:count])
    return float(classifier.score(x[count:], wanted[count:]))


def _z_min_var(z: np.ndarray, y: np.ndarray, count: int, random: np.random.Generator) -> float:
    spread = z.std(0)
    used = np.flatnonzero(spread > LEAST_SPREAD * spread.max())
    votes = np.zeros((2, len(used), y.shape[1]))  # to learn from, and to test with
    for number, (factor, rows) in enumerate(_groups(y, count, random)):
        steadiest = (z[rows][:, used] / spread[used]).var(0).argmin()
        votes[number // count, steadiest, factor] += 1
    answers = votes[0].argmax(1)
    return float(votes[1][np.arange(len(used)), answers].sum() / votes[1].sum())


def _mig(information: np.ndarray, entropies: Sequence[float]) -> float:
    """From the information of each dimension about each factor, `(factors, d)`, and the factors' entropies."""
    if information.shape[1] == 1:
        return float(np.mean(information[:, 0] / entropies))
    best = np.sort(information, 1)[:, ::-1]
    return float(np.mean((best[:, 0] - best[:, 1]) / entropies))


def _modularity(information: np.ndarray) -> float:
    best = information.max(0)
    used = best > 1e-6
    squares = np.square(information[:, used])
    others = squares.sum(0) - np.square(best[used])
    return float(np.mean(1 - others / (np.square(best[used]) * (len(information) - 1)))) if used.any() else 0.0


def _forests(z: np.ndarray, y: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """Importances of the dimensions for each factor, `(factors, d)`, and the accuracy on a fifth of the texts."""
    order = random.permutation(len(z))
    test, train = order[: len(z) // 5], order[len(z) // 5 :]
    importances, accuracies = [], []
    for values in y.T:
        # Trees that may not look at all dimensions would give importance to useless ones.
        forest = RandomForestClassifier(50, max_features=None, random_state=int(random.integers(2**31)))
        forest.fit(z[train], values[train])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(z[test], values[test]))
    return np.array(importances), float(np.mean(accuracies))


def _concentration(weights: np.ndarray) -> float:
    """1 minus the entropy of each row, over the largest possible one; rows count by their sums."""
    columns, sums = weights.shape[1], weights.sum(1, keepdims=True)
    if columns == 1 or not sums.sum() > 0:
        return 1.0 if columns == 1 else 0.0
    shares = weights / np.where(sums > 0, sums, 1)
    entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), 1) / np.log(columns)
    return float(((1 - entropy) * sums[:, 0]).sum() / sums.sum())
