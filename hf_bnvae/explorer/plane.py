# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Latents on a plane: two coordinates for each, by principal components or by UMAP."""

from collections.abc import Callable

import numpy as np

# A neighbourhood needs some neighbours.
LEAST_FOR_UMAP = 10


def pca(latents: np.ndarray) -> tuple[np.ndarray, str]:
    """
    The two directions in which the latents vary most.

    Args:
        latents (`np.ndarray` of shape `(n, latent_size)`): At least two.

    Returns:
        `tuple`: coordinates `(n, 2)`, and what they are, in words.
    """
    from sklearn.decomposition import PCA

    size = min(2, *latents.shape)
    coordinates = np.zeros((len(latents), 2))
    total = latents.var(0).sum()
    # Latents that are all the same lie at one point, and one dimension leaves the second coordinate at 0.
    if total > 0:
        coordinates[:, :size] = PCA(size, svd_solver="full").fit_transform(latents)
    share = coordinates.var(0).sum() / total if total > 0 else 1.0
    return coordinates, f"Principal components: {share:.0%} of the variance lies in this plane."


def umap(latents: np.ndarray) -> tuple[np.ndarray, str]:
    """
    A plane in which latents keep their neighbours (McInnes et al., 2018), by the package `umap-learn`.

    Raises:
        ImportError: without that package.
        ValueError: for fewer than `LEAST_FOR_UMAP` latents.
    """
    if len(latents) < LEAST_FOR_UMAP:
        raise ValueError(f"UMAP needs at least {LEAST_FOR_UMAP} texts, got {len(latents)}. Take --projection pca.")
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError("--projection umap needs the package umap-learn: pip install umap-learn") from error
    model = UMAP(n_neighbors=min(15, len(latents) - 1), random_state=0, n_jobs=1)
    return model.fit_transform(latents), "UMAP: neighbours are near each other; distances mean little."


PROJECTIONS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, str]]] = {"pca": pca, "umap": umap}
