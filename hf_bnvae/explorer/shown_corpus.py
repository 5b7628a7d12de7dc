# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The texts that the page shows as a map: read from a file, or with their latents from the files of `encode`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from ..data.corpora import CONDITION, LABEL, TEXT, condition_of_value, load_text_set
from ..jobs.saved_model import require_condition_column
from ..model.modeling_bnvae import BNVAEModel
from .plane import PROJECTIONS

logger = logging.get_logger(__name__)

# Texts that are encoded again, to see whether latents are this model's.
_COMPARED = 8
_TOLERANCE = 0.02


@dataclass(frozen=True)
class ShownCorpus:
    """
    Texts and where they lie.

    Args:
        texts (`list[str]`): The texts.
        latents (`torch.Tensor` of shape `(n, latent_size)`): Their latents.
        labels (`list`, *optional*): A label for each.
        plane (`np.ndarray` of shape `(n, 2)`): Their places on the map.
        description (`str`): What the map is, in words.
        conditions (`list[str]`, *optional*): The condition of each, if the model takes them.
    """

    texts: list[str]
    latents: torch.Tensor
    labels: list[Any] | None
    plane: np.ndarray
    description: str
    conditions: list[str] | None = None

    def ends(self, dimension: int, count: int = 5) -> tuple[list[str], list[str]]:
        """The texts with the smallest numbers in a dimension, the smallest first, and those with the largest ones."""
        order = self.latents[:, dimension].argsort().tolist()
        return [self.texts[i] for i in order[:count]], [self.texts[i] for i in order[::-1][:count]]


def load_corpus(
    model: BNVAEModel,
    texts: str | None = None,
    latents: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    max_points: int = 2000,
    projection: str = "pca",
    condition_column: str | None = None,
) -> ShownCorpus | None:
    """
    The corpus that a command names.

    Args:
        model ([`BNVAEModel`]): The model.
        texts (`str`, *optional*): A file of texts.
        latents (`str`, *optional*): Instead of a file: the folder of `hf-bnvae encode ... --with_text`.
        text_column, label_column (`str`, *optional*): Columns.
        max_points (`int`, *optional*, defaults to 2000): A larger corpus is cut down to random ones of this number.
        projection (`str`, *optional*, defaults to `"pca"`): A key of `PROJECTIONS`.
        condition_column (`str`, *optional*): The column of the conditions, for a conditional model.

    Returns:
        [`ShownCorpus`]; `None` without texts and latents.

    Raises:
        ValueError: for both, for a missing file or column, fewer than two texts, and latents of another model.
        ImportError: for a package that is missing.
    """
    if texts is not None and latents is not None:
        raise ValueError("Give either --texts or --latents, not both.")
    if max_points < 2:
        raise ValueError(f"--max_points must be at least 2, got {max_points}.")
    if texts is None and latents is None:
        if text_column or label_column or condition_column:
            raise ValueError(
                "--text_column, --label_column and --condition_column are columns of --texts or --latents."
            )
        return None
    require_condition_column("The model", model.config.conditional, condition_column is not None)
    if texts is not None:
        loaded = load_text_set(
            texts, text_column=text_column, label_column=label_column, condition_column=condition_column
        )
        total, chosen = len(loaded), loaded.select(_some(len(loaded), max_points))
        found, labels = chosen[TEXT][:], chosen[LABEL][:] if label_column else None
        conditions = chosen[CONDITION][:] if condition_column else None
        vectors = model.encode_texts(found, condition=conditions)
    else:
        columns = {name: column for name, column in ((LABEL, label_column), (CONDITION, condition_column)) if column}
        found, vectors, others, total = _read_latents(latents, text_column or TEXT, columns, max_points)
        labels, conditions = others.get(LABEL), others.get(CONDITION)
        if conditions is not None:
            conditions = [condition_of_value(condition) for condition in conditions]
            kept = [row for row, condition in enumerate(conditions) if condition is not None]
            if len(kept) < len(found):
                logger.warning(f"{len(found) - len(kept)} of {len(found)} latents are not shown: no condition.")
            found, conditions, vectors = [found[row] for row in kept], [conditions[row] for row in kept], vectors[kept]
            labels = None if labels is None else [labels[row] for row in kept]
        vectors = _in_own_coordinates(model, latents, found, vectors, conditions)
    if len(found) < 2:
        raise ValueError(f"A map needs at least two texts, got {len(found)}.")
    plane, words = PROJECTIONS[projection](vectors.double().numpy())
    shown = "" if len(found) == total else f" of {total:,}, drawn at random"
    return ShownCorpus(found, vectors, labels, plane, f"{len(found):,} texts{shown}. {words}", conditions)


def _some(count: int, most: int) -> list[int]:
    """Which of `count` texts are shown, in their order."""
    if count <= most:
        return list(range(count))
    return sorted(np.random.default_rng(0).choice(count, most, replace=False).tolist())


def _read_latents(
    place: str, text_column: str, others: Mapping[str, str], most: int
) -> tuple[list[str], torch.Tensor, dict[str, list[Any]], int]:
    """Texts, their latents, the contents of the columns `others` under their new names, and the number of rows."""
    # Imported here, because only this needs datatrove.
    from ..corpus import require_datatrove

    require_datatrove()
    from ..corpus.latent_decoder import LATENT
    from ..corpus.latent_reader import LatentReader

    # Entries are called as the columns are, since two of them may come from one column.
    reader = LatentReader(place, columns={column: column for column in (text_column, *others.values())})
    chosen = set(_some(reader.num_rows, most))
    rows = [document.metadata for number, document in enumerate(reader.run()) if number in chosen]
    vectors = torch.tensor(np.array([row[LATENT] for row in rows], dtype=np.float32))
    found = {name: [row[column] for row in rows] for name, column in others.items()}
    return [row[text_column] for row in rows], vectors, found, reader.num_rows


def _in_own_coordinates(
    model: BNVAEModel, place: str, texts: Sequence[str], latents: torch.Tensor, conditions: Sequence[str] | None
) -> torch.Tensor:
    """Latents from files in the model's own coordinates, after a look at whether they are its latents at all."""
    own = None if conditions is None else list(conditions[:_COMPARED])
    compared = model.encode_texts(list(texts[:_COMPARED]), condition=own).float()
    found = latents[:_COMPARED]
    if found.shape == compared.shape:
        if torch.allclose(found, compared, rtol=_TOLERANCE, atol=_TOLERANCE):
            return latents
        prior = model.fitted_prior
        if prior is not None and torch.allclose(prior.whiten(compared), found, rtol=_TOLERANCE, atol=_TOLERANCE):
            return prior.unwhiten(latents)
    raise ValueError(
        f"The latents in {place} are not those that this model gives for their texts. Name the model that encoded "
        "them, or encode the texts again."
    )
