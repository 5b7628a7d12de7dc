# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The pictures of a model's latent space in reports and cards. They need matplotlib."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.encoding import EncodedTexts
from ..model.modeling_bnvae import BNVAEModel
from ..model.saved_files_bnvae import write_whole

# The name of the floor for heads whose floor is not one of the mean over a training batch.
FLOOR_LABELS = {"ln": "share of each in the floor", "delta": "floor of every sentence"}


def kl_and_floor(model: BNVAEModel, encoded: EncodedTexts) -> tuple[list[float], list[float]]:
    """Mean KL of each dimension over texts, and the floor that the head promises for the dimension, in nats."""
    kl = encoded.posterior.kl().double().mean(0)
    return kl.tolist(), model.posterior.kl_floor_per_dimension().detach().cpu().double().tolist()


def draw_pictures(
    model: BNVAEModel,
    encoded: EncodedTexts,
    log_history: Sequence[Mapping[str, Any]] | None = None,
    points: Sequence[tuple[str, float, float, float]] = (),
    seed: int = 0,
) -> tuple[dict[str, Any], list[str]]:
    """
    The pictures of a model's latent space, named as [`~evaluation_report.PICTURES`].

    Args:
        model ([`BNVAEModel`]): The model.
        encoded ([`~evaluation.encoding.EncodedTexts`]): Texts that the model encoded.
        log_history (sequence of mappings, *optional*): The log in `trainer_state.json`, for the training's curves.
        points (sequence of tuples, *optional*): For the picture of rates and distortions: name, KL, reconstruction and
            mutual information of this model and of others, all in nats per sentence. Without points there is no such
            picture.
        seed (`int`, *optional*, defaults to 0): Seed of the draws from the posteriors.

    Returns:
        `tuple`: figures of matplotlib by file names, and notes on pictures that could not be drawn. Without matplotlib
        there is only a note.
    """
    try:
        from ..evaluation import plots
    except ImportError as error:
        return {}, [f"There are no pictures. {error}"]
    if not (encoded.mean.isfinite().all() and encoded.logvar.isfinite().all()):
        return {}, ["There are no pictures: some of the posteriors' means and variances are no numbers."]
    kl, floor = kl_and_floor(model, encoded)
    label = FLOOR_LABELS.get(model.config.posterior, "floor of a training batch")
    pictures = {
        "kl_per_dimension.png": plots.plot_kl_per_dimension(kl, floor, label),
        "aggregated_posterior.png": plots.plot_aggregated_posterior(encoded.draw(seed), kl),
    }
    if points:
        marks = [plots.RateDistortionPoint(*point) for point in points]
        pictures["rate_distortion.png"] = plots.plot_rate_distortion(marks)
    notes = []
    if log_history:
        try:
            pictures["training_curves.png"] = plots.plot_training_curves(log_history)
        except ValueError as error:
            notes.append(f"There are no training curves: {error}")
    return pictures, notes


def save_picture(figure: Any, path: str | Path) -> None:
    """Write a figure of matplotlib as PNG: the pixels of `figure.savefig`, which draws the figure twice, in one
    pass."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = io.BytesIO()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.save(picture, format="PNG", dpi=(figure.dpi, figure.dpi))
    write_whole(path, picture.getvalue())
