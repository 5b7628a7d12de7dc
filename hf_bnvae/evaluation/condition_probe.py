# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How much of a latent is told by the condition alone? Needs scikit-learn (extra `probe`)."""

import numpy as np
import torch

try:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    raise ImportError('A probe needs scikit-learn: pip install "hf_bnvae[probe]".') from error

# Strengths of the penalty, from which cross-validation chooses.
PENALTIES = np.logspace(-1, 5, 13)


def share_explained(
    features_train: torch.Tensor, latents_train: torch.Tensor, features_test: torch.Tensor, latents_test: torch.Tensor
) -> float:
    """
    The share of the variance of latents that a linear regression on features of their conditions explains: R^2 on test
    texts, all dimensions together. It is at most 1, about 0 for latents that have nothing to do with the condition,
    and may lie somewhat below 0.

    A decoder that sees the condition needs no such latent. The penalty of the ridge regression is chosen by
    cross-validation. A probe that finds little shows only what is linear in these features.

    Args:
        features_train, features_test (`torch.Tensor` of shape `(texts, features)`): Vectors of the conditions, for
            example by an independent encoder.
        latents_train, latents_test (`torch.Tensor` of shape `(texts, latent_size)`): Means of the posteriors.

    Raises:
        ValueError: for other numbers of features and latents, and for test latents that are all the same.
    """
    for features, latents in ((features_train, latents_train), (features_test, latents_test)):
        if len(features) != len(latents) or len(latents) < 2:
            raise ValueError(f"Two texts or more need features and latents, got {len(features)} and {len(latents)}.")
    parts = (features_train, latents_train, features_test, latents_test)
    x_train, y_train, x_test, y_test = (part.double().numpy() for part in parts)
    probe = make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(x_train, y_train)
    residual = np.square(probe.predict(x_test).reshape(y_test.shape) - y_test).sum()
    total = np.square(y_test - y_test.mean(0)).sum()
    if total == 0:
        raise ValueError("All test latents are the same, so there is no variance to explain.")
    return float(1 - residual / total)
