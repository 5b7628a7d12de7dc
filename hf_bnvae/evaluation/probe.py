# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a linear classifier can read from latents: its accuracy with all labels, and with a few labels of each class.

Needs scikit-learn (extra `probe`).
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

try:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    raise ImportError("The probe needs scikit-learn: pip install 'scikit-learn>=1.5'") from error

# Inverse strengths of the L2 penalty, from which cross-validation chooses; the strongest penalty first.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
MAX_FOLDS = 5
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class ProbeRow:
    """
    The accuracy of the classifier after training with a certain number of labels. All rows have the same test set.

    Args:
        labels_per_class (`int`, *optional*): Training labels of each class; `None` means all labels.
        num_labels (`int`): Training labels of all classes together.
        num_draws (`int`): Random draws of the labelled subset; 1 for all labels.
        accuracy (`float`): Share of the test texts that are classified correctly, in [0, 1], mean over the draws.
        accuracy_std (`float`): Its standard deviation over the draws (divisor: draws - 1); 0 for one draw.
        balanced_accuracy (`float`): The mean over classes of the share that is classified correctly, in [0, 1].
        balanced_accuracy_std (`float`): Its standard deviation over the draws.
    """

    labels_per_class: int | None
    num_labels: int
    num_draws: int
    accuracy: float
    accuracy_std: float
    balanced_accuracy: float
    balanced_accuracy_std: float


@dataclass(frozen=True)
class ProbeResult:
    """
    What a linear classifier reads from one kind of features.

    Args:
        num_train, num_test (`int`): Labelled training texts, and test texts.
        num_features (`int`): Width of the features.
        num_classes (`int`): Classes of the training set.
        majority_accuracy (`float`): Accuracy on the test set if the answer is always the most frequent class of the
            training set.
        chance_balanced_accuracy (`float`): Balanced accuracy of any answer that ignores the features: 1 / the number
            of classes in the test set.
        rows (`list[ProbeRow]`): One for each number of labels, all labels last.
        omitted (`dict[str, str]`): Numbers of labels per class for which some class has too few texts, with the
            reason.
        seed (`int`): Seed of the draws and of the folds.
    """

    num_train: int
    num_test: int
    num_features: int
    num_classes: int
    majority_accuracy: float
    chance_balanced_accuracy: float
    rows: list[ProbeRow]
    omitted: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    def to_json(self) -> str:
        """The result as a JSON object."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "ProbeResult":
        """The result from the text that [`~ProbeResult.to_json`] made."""
        values = json.loads(text)
        return cls(**{**values, "rows": [ProbeRow(**row) for row in values["rows"]]})


def probe_features(
    features_train: Any,
    labels_train: Sequence[Any],
    features_test: Any,
    labels_test: Sequence[Any],
    labels_per_class: Sequence[int] = (10, 100),
    num_draws: int = 10,
    seed: int = 0,
) -> ProbeResult:
    """
    Accuracy of logistic regression on standardised features: with all training labels, and with a few of each class.

    Mean and scale of the features and the strength of the L2 penalty come from the labelled texts alone. Stratified
    cross-validation chooses the penalty under which the held-out labels are most likely; the accuracy on a few texts
    would have too few different values. There are 5 folds, or fewer if a class has fewer labels.

    A draw of `n` labels per class takes exactly `n` texts of each class, without replacement. The same seed draws the
    same texts for all features. With such a draw the classifier cannot learn that one class is more frequent than
    another, so its accuracy may fall below that of the most frequent class. The balanced accuracy does not depend on
    class frequencies.

    Args:
        features_train (array or tensor of shape `(train, features)`): Features of the labelled texts.
        labels_train (sequence of `str`, `int` or `bool`, `(train,)`): Their classes.
        features_test, labels_test: Features and classes of the test texts; nothing is fitted to them.
        labels_per_class (sequence of `int`, *optional*, defaults to `(10, 100)`): The numbers of labels. If a class
            has fewer texts than a number, the result has no row for the number, and gives the reason in `omitted`.
        num_draws (`int`, *optional*, defaults to 10): Random draws of the labelled subset for each number.
        seed (`int`, *optional*, defaults to 0): Seed of the draws and of the folds.

    Returns:
        [`ProbeResult`]

    Raises:
        ValueError: for labels that [`require_classes`] refuses, for features that are not finite, and for wrong
        shapes.

    Example:

    ```python
    >>> train, test = (encode_corpus(model, processor, texts) for texts in (train_texts, test_texts))
    >>> result = probe_features(train.mean, train_labels, test.mean, test_labels)
    >>> result.rows[-1].accuracy, result.majority_accuracy
    ```
    """
    if num_draws < 1:
        raise ValueError(f"num_draws must be at least 1, got {num_draws}.")
    numbers = list(dict.fromkeys(labels_per_class))
    if any(number < 2 for number in numbers):
        raise ValueError(
            f"labels_per_class must be 2 or more each, got {numbers}: with one label of a class nothing is left to "
            "choose the regularisation by."
        )
    names, y_train, y_test = require_classes(labels_train, labels_test)
    counts = np.bincount(y_train)
    x_train = _as_features(features_train, len(y_train), "training")
    x_test = _as_features(features_test, len(y_test), "test")
    if x_train.shape[1] != x_test.shape[1]:
        raise ValueError(f"Training features have width {x_train.shape[1]}, test features {x_test.shape[1]}.")
    rows, omitted = [], {}
    for number in sorted(numbers):
        if counts.min() < number:
            omitted[str(number)] = (
                f"the class {names[counts.argmin()].item()!r} has {counts.min()} labelled training texts only"
            )
            continue
        scores = []
        for draw in range(num_draws):
            random = np.random.default_rng([seed, number, draw])
            chosen = np.concatenate(
                [random.permutation(np.flatnonzero(y_train == c))[:number] for c in range(len(names))]
            )
            scores.append(_scores(x_train[chosen], y_train[chosen], x_test, y_test, [seed, number, draw]))
        rows.append(_row(number, number * len(names), scores))
    rows.append(_row(None, len(y_train), [_scores(x_train, y_train, x_test, y_test, [seed])]))
    return ProbeResult(
        num_train=len(y_train),
        num_test=len(y_test),
        num_features=x_train.shape[1],
        num_classes=len(names),
        majority_accuracy=float(np.mean(y_test == counts.argmax())),
        chance_balanced_accuracy=1 / len(np.unique(y_test)),
        rows=rows,
        omitted=omitted,
        seed=seed,
    )


def require_classes(
    labels_train: Sequence[Any], labels_test: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The classes of labelled texts, after a check that a probe is possible with them.

    Args:
        labels_train, labels_test (sequences of `str`, `int` or `bool`): The labels.

    Returns:
        `tuple`: the sorted names of the classes; for each training text the index of its class; for each test text the
        index of its class.

    Raises:
        ValueError: for labels that [`require_labels`] refuses; if one set has strings and the other numbers; for a
            single class; for a class with one training text; and for a class of the test set without training texts.
    """
    train, test = require_labels(labels_train, "training"), require_labels(labels_test, "test")
    if train.dtype.kind != test.dtype.kind:
        kinds = {"U": "strings", "i": "numbers"}
        raise ValueError(
            f"The training set's labels are {kinds[train.dtype.kind]} ({train[0].item()!r}), the test set's "
            f"{kinds[test.dtype.kind]} ({test[0].item()!r}). Write them alike."
        )
    names, y_train, counts = np.unique(train, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"A probe needs two classes or more, and all training labels are {names[0].item()!r}.")
    strangers = sorted(set(test.tolist()) - set(names.tolist()), key=str)
    if strangers:
        raise ValueError(
            f"The test set has classes that the training set lacks: {', '.join(map(repr, strangers[:5]))}. Leave "
            "their texts out, or give training texts of them."
        )
    if counts.min() < 2:
        raise ValueError(
            f"The class {names[counts.argmin()].item()!r} has one labelled training text, and cross-validation needs "
            f"two of each ({len(names)} classes, {len(y_train)} texts). Leave such classes out; are these labels "
            "classes at all?"
        )
    return names, y_train, np.searchsorted(names, test)


def require_labels(labels: Sequence[Any], name: str) -> np.ndarray:
    """
    Labels as an array of whole numbers or of strings.

    Args:
        labels (sequence, array or tensor of shape `(texts,)`): The labels.
        name (`str`): The name of the set in messages.

    Returns:
        `np.ndarray` of shape `(texts,)`

    Raises:
        ValueError: for no labels, missing labels (`None`, NaN or empty), numbers with a fraction, or mixed types.
    """
    try:
        values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    except TypeError:
        raise ValueError(f"Labels of the {name} set must be a list with one for each text, got {labels!r}.") from None
    # Numbers and truth values of numpy in a list of Python.
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not values:
        raise ValueError(f"The {name} set of the probe has no label.")
    missing = [index for index, value in enumerate(values) if _is_missing(value)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(values)} labels of the {name} set are missing (None, NaN or empty), the first at "
            f"index {missing[0]}. Leave those texts out."
        )
    if all(isinstance(value, str) for value in values):
        return np.array(values)
    if not all(isinstance(value, (int, float)) and float(value).is_integer() for value in values):
        wrong = next(value for value in values if not isinstance(value, (int, float)) or not float(value).is_integer())
        raise ValueError(
            f"Labels must name classes, whole numbers or strings throughout, got {wrong!r} in the {name} set."
        )
    return np.array([int(value) for value in values])


def split_in_halves(labels: Sequence[Any], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    A random half of each class to train on, and the other half to test with.

    Args:
        labels (sequence of `str`, `int` or `bool`): The labels of all texts.
        seed (`int`, *optional*, defaults to 0): Seed of the draw.

    Returns:
        `tuple` of two sorted arrays of indices. If a class has an odd number of texts, the training half has one more.

    Raises:
        ValueError: for labels that [`require_labels`] refuses, or a class of one text.
    """
    classes = require_labels(labels, "labelled")
    names, y, counts = np.unique(classes, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"The class {names[counts.argmin()].item()!r} has one text, which cannot be both trained on and tested "
            "with. Leave it out, or give training texts of their own; are these labels classes at all?"
        )
    random = np.random.default_rng(seed)
    train = [random.permutation(np.flatnonzero(y == c))[: math.ceil(counts[c] / 2)] for c in range(len(names))]
    train = np.sort(np.concatenate(train))
    return train, np.setdiff1d(np.arange(len(y)), train)


def _is_missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _as_features(features: Any, count: int, name: str) -> np.ndarray:
    # A tensor is converted by torch first, because numpy has no bfloat16.
    values = features.detach().cpu().double().numpy() if hasattr(features, "detach") else features
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) != count:
        raise ValueError(f"The {name} features must have shape ({count}, features), got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"The {name} features hold numbers that are not finite.")
    return values


def _scores(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: list[int]
) -> tuple[float, float]:
    """Accuracy and balanced accuracy on the test set of a classifier trained on `x` and `y`."""
    correct = fit_classifier(x, y, seed).predict(x_test) == y_test
    return float(correct.mean()), balanced_accuracy(correct, y_test)


def balanced_accuracy(correct: np.ndarray, y: np.ndarray) -> float:
    """The mean over classes of the share that is classified correctly, in [0, 1].

    Args:
        correct (`np.ndarray` of shape `(texts,)`): For each text, whether it is.
        y (`np.ndarray` of shape `(texts,)`): The classes.
    """
    return float(np.mean([correct[y == c].mean() for c in np.unique(y)]))


def stratified_folds(y: np.ndarray, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and indices that are held out, for each of several folds, each with its share of every
    class. There are fewer folds if a class has fewer texts."""
    splitter = StratifiedKFold(min(folds, int(np.bincount(y).min())), shuffle=True, random_state=seed)
    return splitter.split(y, y)


def fit_classifier(x: np.ndarray, y: np.ndarray, seed: list[int]) -> Pipeline:
    """
    Logistic regression on standardised features, with the penalty that cross-validation chooses.

    Args:
        x (`np.ndarray` of shape `(texts, features)`): The features.
        y (`np.ndarray` of shape `(texts,)`): The index of each text's class; at least two texts of each.
        seed (`list[int]`): Seed of the folds.

    Returns:
        `Pipeline`: A `StandardScaler` and a `LogisticRegression`.
    """
    penalty = _choose_penalty(x, y, seed)
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=MAX_ITERATIONS)).fit(x, y)


def _choose_penalty(x: np.ndarray, y: np.ndarray, seed: list[int]) -> float:
    """The penalty under which held-out labels are most likely; the strongest of equally good ones."""
    likelihoods = np.zeros(len(PENALTIES))
    for train, held_out in stratified_folds(y, MAX_FOLDS, int(np.random.default_rng(seed).integers(2**31))):
        scaler = StandardScaler().fit(x[train])
        x_train, x_held_out = scaler.transform(x[train]), scaler.transform(x[held_out])
        # Each fit starts from the fit before, which had a stronger penalty.
        model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
        for index, penalty in enumerate(PENALTIES):
            model.set_params(C=penalty).fit(x_train, y[train])
            likelihoods[index] += _log_likelihood(model.decision_function(x_held_out), y[held_out])
    return PENALTIES[int(likelihoods.argmax())]


def _log_likelihood(scores: np.ndarray, y: np.ndarray) -> float:
    """log p(y) in nats, summed, from the output of `decision_function`: the log odds of the second of two classes, or
    a logit for each of several classes. `predict_log_proba` would take the logarithm of probabilities that
    underflow."""
    logits = np.stack([np.zeros(len(scores)), scores], 1) if scores.ndim == 1 else scores
    return float((logits[np.arange(len(y)), y] - np.logaddexp.reduce(logits, 1)).sum())


def _row(labels_per_class: int | None, num_labels: int, scores: list[tuple[float, float]]) -> ProbeRow:
    accuracies, balanced = np.array(scores).T
    deviation = [float(values.std(ddof=1)) if len(scores) > 1 else 0.0 for values in (accuracies, balanced)]
    return ProbeRow(
        labels_per_class=labels_per_class,
        num_labels=num_labels,
        num_draws=len(scores),
        accuracy=float(accuracies.mean()),
        accuracy_std=deviation[0],
        balanced_accuracy=float(balanced.mean()),
        balanced_accuracy_std=deviation[1],
    )
