# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Modules for the library `evaluate`, thin wrappers of the pure functions in `hf_bnvae.evaluation`."""

from pathlib import Path


def metric_path(name: str) -> str:
    """
    Where a module for `evaluate.load` lies; no network is needed.

    Args:
        name (`str`): `"active_units"`, `"marginal_kl"`, `"moments"` and `"mutual_information"` take the posteriors of
            sentences, `mean` and `logvar`, each a sequence of floats for each sentence; `"self_bleu"` takes texts,
            `predictions`.

    Returns:
        `str`: The path of its folder.

    Raises:
        ValueError: for any other name.

    Example:

    ```python
    >>> import evaluate
    >>> from hf_bnvae import metric_path

    >>> metrics = evaluate.combine([evaluate.load(metric_path(name)) for name in ("active_units", "moments")])
    >>> metrics.compute(mean=[[0.0], [2.0]], logvar=[[0.0], [0.0]])
    {'active_units': 1, 'aggregate_mean': 1.0, 'aggregate_second_moment': 3.0}
    ```
    """
    folder = Path(__file__).parent
    names = sorted(path.parent.name for path in folder.glob("*/*.py") if path.stem == path.parent.name)
    if name not in names:
        raise ValueError(f"There is no metric {name!r}. The metrics: {', '.join(names)}.")
    return str(folder / name)
