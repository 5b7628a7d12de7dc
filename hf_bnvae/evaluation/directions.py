# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A direction of the latent space from labelled texts, by a linear probe. Needs scikit-learn (extra `probe`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..model.condition_bnvae import Condition
from ..model.directions_bnvae import MAX_FOLDS, Direction, require_name
from ..model.latent_space_bnvae import TextsOrLatents
from .probe import balanced_accuracy, fit_classifier, require_labels, stratified_folds

if TYPE_CHECKING:
    from ..model.modeling_bnvae import BNVAEModel


def fit_direction(
    model: "BNVAEModel",
    texts: TextsOrLatents,
    labels: Sequence[Any],
    name: str | None = None,
    positive: Any = None,
    seed: int = 0,
    batch_size: int = 64,
    show_progress: bool | None = None,
    condition: Condition | None = None,
) -> Direction:
    """
    The direction in which a linear classifier tells two classes of texts: the normal of logistic regression. Also a
    method: `model.fit_direction(texts, labels)`.

    The classifier sees the latents where the model's prior is N(0, I). The strength of its penalty comes from
    cross-validation. Compared with [`~LatentEditingMixin.direction`], the direction leaves out what differs between
    the classes and does not help to tell them.

    Args:
        model ([`BNVAEModel`]): The model, with its processor.
        texts (sequence of `str`, or latents): The texts.
        labels (sequence of `str`, `int` or `bool`): Their classes, two different ones.
        name (`str`, *optional*): The name of the direction. By default `"<negative> to <positive>"`.
        positive (*optional*): The class that a positive strength leads to. By default the last one in order: 1 after
            0, `"positive"` after `"negative"`.
        seed (`int`, *optional*, defaults to 0): Seed of the folds.
        batch_size, show_progress, condition: See [`LatentSpaceMixin`].

    Returns:
        [`Direction`]

    Raises:
        ValueError: for labels that are not two classes of at least four texts each.

    Example:

    ```python
    >>> sentiment = fit_direction(model, reviews, stars, name="sentiment")
    >>> sentiment.held_out_accuracy
    0.93
    >>> sentiment.save("runs/bnvae")
    ```
    """
    y, names = _two_classes(labels, positive)
    require_name(name := f"{names[0]} to {names[1]}" if name is None else name)
    latents, _ = model.as_latents(texts, batch_size, show_progress, condition=condition)
    if len(latents) != len(y):
        raise ValueError(f"Each text needs a label, got {len(latents)} texts and {len(y)} labels.")
    prior = model.current_prior
    whitened = prior.whiten(latents.double()).numpy()
    right = np.zeros(len(y), dtype=bool)
    for train, held_out in stratified_folds(y, MAX_FOLDS, seed):
        right[held_out] = fit_classifier(whitened[train], y[train], [seed]).predict(whitened[held_out]) == y[held_out]

    def probe(negative: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, float]:
        classes = np.repeat([0, 1], [len(negative), len(positive)])
        scaler, classifier = fit_classifier(torch.cat([negative, positive]).numpy(), classes, [seed])
        normal = classifier.coef_[0] / scaler.scale_
        return torch.from_numpy(normal), float(classifier.intercept_[0] - normal @ scaler.mean_)

    return Direction.between(
        latents[torch.from_numpy(y == 0)],
        latents[torch.from_numpy(y == 1)],
        prior,
        probe,
        name=name,
        negative=names[0],
        positive=names[1],
        held_out_accuracy=balanced_accuracy(right, y),
        head_fingerprint=model.posterior.fingerprint(),
    )


def _two_classes(labels: Sequence[Any], positive: Any) -> tuple[np.ndarray, tuple[str, str]]:
    """For each label whether it is the positive one (1) or the negative one (0), and the names of both."""
    values = require_labels(labels, "direction's")
    names, counts = np.unique(values, return_counts=True)
    if len(names) != 2:
        shown = ", ".join(repr(name.item()) for name in names[:5])
        raise ValueError(
            f"A direction leads from one class to another, so it needs two, got {len(names)}: {shown}. For more "
            "classes, give the texts of two of them."
        )
    if counts.min() < 4:
        raise ValueError(
            f"The class {names[counts.argmin()].item()!r} has {counts.min()} texts, and a probe needs four of each. "
            "With few texts take model.direction(positive_texts, negative_texts)."
        )
    positive = names[1] if positive is None else positive
    if positive not in names.tolist():
        raise ValueError(f"positive must be one of the classes {names.tolist()}, got {positive!r}.")
    y = (values == positive).astype(int)
    return y, (str(values[y == 0][0]), str(values[y == 1][0]))
