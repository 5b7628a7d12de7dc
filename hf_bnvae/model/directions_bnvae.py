# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Directions of the latent space with a meaning, from one kind of text to another, and the file that keeps them."""

import copy
import hashlib
import json
import os
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers.utils import CONFIG_NAME

from .input_checks_bnvae import require_count, require_finite_number
from .prior_bnvae import Prior, is_same_head
from .saved_files_bnvae import DIRECTIONS_FILE, write_whole

DirectionMethod = Literal["means", "probe"]

MAX_FOLDS = 5

# The parts of a direction that are tensors. The header of the file holds all other parts, as JSON.
_TENSORS = ("step", "normal", "head_fingerprint")
_RECORD, _DIGEST = "directions", "sha256"


@dataclass(frozen=True, eq=False, kw_only=True)
class Direction:
    """
    A way through the latent space, from texts of a negative side to texts of a positive side.
    [`~LatentEditingMixin.direction`] and [`fit_direction`] make a direction. [`~LatentEditingMixin.edit`] follows it.

    Args:
        name (`str`): The name under which the model's folder keeps it.
        step (`torch.FloatTensor` of shape `(latent_size,)`): The way of strength 1.
        normal (`torch.FloatTensor` of shape `(latent_size,)`), offset (`float`): `normal @ z + offset` is above 0
            where a latent z is on the positive side.
        scale (`float`): How far the two sides are apart: the length of `step` in standard deviations of the model's
            prior.
        held_out_accuracy (`float`, *optional*): How well the direction tells the sides of texts that it was not made
            from: the mean over both sides of the share that is right, in [0, 1]. Chance is 0.5. It comes from
            cross-validation; `None` with fewer than two texts on a side.
        method (`str`): `"means"` for the difference of the sides' means, `"probe"` for a linear classifier's normal.
        negative, positive (`str`): What the two sides are.
        num_negative, num_positive (`int`): Texts on each side.
        head_fingerprint (`torch.FloatTensor` of shape `(2, latent_size)`): The [`~PosteriorHead.fingerprint`] of the
            model. A direction means nothing to a model with other weights.
    """

    name: str
    step: torch.Tensor
    normal: torch.Tensor
    offset: float
    scale: float
    held_out_accuracy: float | None
    method: DirectionMethod
    negative: str
    positive: str
    num_negative: int
    num_positive: int
    head_fingerprint: torch.Tensor

    def __post_init__(self) -> None:
        for text in (self.name, self.negative, self.positive):
            require_name(text)
        for part in ("num_negative", "num_positive"):
            require_count(f"{part} of the direction {self.name!r}", getattr(self, part))
        if self.method not in get_args(DirectionMethod):
            raise ValueError(f"method must be one of {', '.join(get_args(DirectionMethod))}, got {self.method!r}.")
        for part in ("offset", "scale", *(["held_out_accuracy"] if self.held_out_accuracy is not None else [])):
            require_finite_number(f"{part} of the direction {self.name!r}", getattr(self, part))
        size = self.step.shape[-1]
        shapes = {"step": (size,), "normal": (size,), "head_fingerprint": (2, size)}
        for part, shape in shapes.items():
            tensor = getattr(self, part)
            if tensor.shape != shape or not tensor.isfinite().all():
                raise ValueError(
                    f"{part} of the direction {self.name!r} must be finite numbers of shape {shape}, got shape "
                    f"{tuple(tensor.shape)}."
                )

    @classmethod
    def between(
        cls,
        negative_latents: torch.Tensor,
        positive_latents: torch.Tensor,
        prior: Prior,
        probe: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, float]] | None = None,
        **known: Any,
    ) -> "Direction":
        """
        The direction between two sets of latents, in float64.

        Directions are compared in the coordinates in which the prior is N(0, I). Without a probe, step and normal
        there are the difference of the means. This is Fisher's discriminant, with the covariance of the prior.

        A probe's normal often points to where texts vary little, and a step along the normal would end where no text
        lies. So with a probe the step is along C times the normal, with the covariance C of the texts (Haufe et al.,
        NeuroImage 2014). It gives the mean of one side the probe's score of the other mean. For Gaussian texts no
        other step that does so is likelier.

        Args:
            negative_latents, positive_latents (`torch.Tensor` of shape `(n, latent_size)`): The latents of both sides.
            prior ([`Prior`]): The model's prior.
            probe (function, *optional*): Makes normal and offset from the latents of both sides in those coordinates.
                Without one the direction is the difference of means.
            known: The other fields of the direction.

        Raises:
            ValueError: if a side has no latents, or both have the same mean.
        """
        for side, latents in (("negative", negative_latents), ("positive", positive_latents)):
            if len(latents) == 0:
                raise ValueError(f"The {side} side of a direction needs at least one text, got none.")
        prior = copy.deepcopy(prior).double().cpu()
        sides = [prior.whiten(latents.double().cpu()) for latents in (negative_latents, positive_latents)]
        normal, offset = (probe or _difference_of_means)(*sides)
        apart = sides[1].mean(0) - sides[0].mean(0)
        if apart.norm() <= 1e-6 * max(side.norm(dim=-1).max() for side in sides):
            raise ValueError("Both sides of the direction have the same mean, so no way leads from one to the other.")
        step = apart
        if probe is not None:
            pattern = torch.cov(torch.cat(sides).T).reshape(len(normal), -1) @ normal
            step = pattern * (normal @ apart / (normal @ pattern))
        # A prior is an affine map, so its linear part is what it does to differences.
        origin, axes = torch.zeros(len(step), dtype=step.dtype), torch.eye(len(step), dtype=step.dtype)
        return cls(
            step=(prior.unwhiten(step) - prior.unwhiten(origin)).float(),
            normal=((prior.whiten(axes) - prior.whiten(origin)) @ normal).float(),
            offset=float(offset + normal @ prior.whiten(origin)),
            scale=float(step.norm()),
            method="means" if probe is None else "probe",
            num_negative=len(negative_latents),
            num_positive=len(positive_latents),
            **{"held_out_accuracy": held_out_accuracy(*sides) if probe is None else None, **known},
        )

    def score(self, latents: torch.Tensor) -> torch.Tensor:
        """On which side latents lie: above 0 on the positive side. Latents `(..., latent_size)` give `(...)`."""
        return latents @ self.normal.to(latents) + self.offset

    def fits(self, fingerprint: torch.Tensor) -> bool:
        """Whether the direction was made with a head of this fingerprint, or with one that differs by rounding."""
        return is_same_head(self.head_fingerprint, fingerprint)

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """
        Add the direction to the folder of its model, whose file `directions.safetensors` holds all directions.
        [`BNVAEModel.from_pretrained`] then finds it.

        Args:
            folder (`str` or `Path`): The folder of the saved model.
            overwrite (`bool`, *optional*, defaults to `False`): Replace a direction of the same name.

        Raises:
            ValueError: if the folder holds no model, or a direction of this name.
        """
        folder = Path(folder)
        if not (folder / CONFIG_NAME).is_file():
            raise ValueError(f"{folder} holds no saved model. Save the model first: model.save_pretrained(...).")
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        if config.get("model_type") != "bnvae" or config.get("latent_size") != len(self.step):
            raise ValueError(
                f"{folder} holds another model: a direction of {len(self.step)} dimensions needs a BN-VAE with "
                f"latents of that size, got model_type {config.get('model_type')!r} with latent_size "
                f"{config.get('latent_size')}."
            )
        saved = read_directions(folder / DIRECTIONS_FILE)
        if self.name in saved and not overwrite:
            raise ValueError(
                f"{folder} has a direction {self.name!r} already. Give this one another name, or pass overwrite=True."
            )
        write_directions(folder, saved | {self.name: self})

    def __str__(self) -> str:
        accuracy = "unknown" if self.held_out_accuracy is None else f"{self.held_out_accuracy:.2f}"
        return (
            f"{self.name}: from {self.negative} ({self.num_negative} texts) to {self.positive} ({self.num_positive}), "
            f"{self.scale:.2f} standard deviations, held-out accuracy {accuracy}"
        )

    def __repr__(self) -> str:
        return f"Direction({self})"


class Directions(UserDict[str, Direction]):
    """The directions of a model by their names. Each has its own name as its key."""

    def __init__(self, saved: Mapping[str, Direction]) -> None:
        # The names of the directions that were set since, and not read from a file.
        self.set_here: set[str] = set()
        super().__init__()
        self.data.update(saved)

    def __setitem__(self, name: str, direction: Direction) -> None:
        if not isinstance(direction, Direction) or direction.name != name:
            raise ValueError(
                f"model.directions[name] takes the Direction of this name, got {name!r} and {direction!r}. Set "
                "model.directions[direction.name] = direction."
            )
        self.set_here.add(name)
        super().__setitem__(name, direction)


def require_name(name: Any) -> str:
    """
    A name that a direction or one of its sides can have.

    Raises:
        ValueError: for anything but a line of text that can be printed.
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"The name of a direction, and of its sides, must be a line of text, got {name!r}.")
    return name


def held_out_accuracy(negative: torch.Tensor, positive: torch.Tensor) -> float | None:
    """
    How well a difference of means tells the sides of latents that it was not made from: the mean over both sides of
    the share that is right. Each fifth of the latents is judged by the rest.

    Args:
        negative, positive (`torch.Tensor` of shape `(n, latent_size)`): The latents of the two sides.

    Returns:
        `float` in [0, 1]; `None` with fewer than two latents on a side.
    """
    folds = min(MAX_FOLDS, len(negative), len(positive))
    if folds < 2:
        return None
    right = torch.zeros(2, dtype=torch.float64)
    for fold in range(folds):
        chosen = [torch.arange(len(side)) % folds == fold for side in (negative, positive)]
        normal, offset = _difference_of_means(negative[~chosen[0]], positive[~chosen[1]])
        right[0] += (negative[chosen[0]] @ normal + offset < 0).sum()
        right[1] += (positive[chosen[1]] @ normal + offset > 0).sum()
    return float((right / torch.tensor([len(negative), len(positive)])).mean())


def _difference_of_means(negative: torch.Tensor, positive: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Normal and offset of the plane halfway between the means of two sides."""
    means = negative.mean(0), positive.mean(0)
    normal = means[1] - means[0]
    return normal, -float(normal @ (means[0] + means[1]) / 2)


def write_directions(folder: str | os.PathLike[str], directions: Mapping[str, Direction]) -> None:
    """Write directions to the file of a model's folder, in one step. Without directions the file is deleted."""
    file = Path(folder, DIRECTIONS_FILE)
    tensors, record = {}, []
    for number, direction in enumerate(directions.values()):
        parts = {field.name: getattr(direction, field.name) for field in fields(Direction)}
        for part in _TENSORS:
            tensors[f"{number}.{part}"] = parts.pop(part).float().cpu().clone()  # directions may share one
        record.append(parts)
    if directions:
        header = {"format": "pt", _RECORD: json.dumps(record)}
        write_whole(file, save(tensors, header | {_DIGEST: _digest(header[_RECORD], tensors)}))
    else:
        file.unlink(missing_ok=True)


def _digest(record: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of what a file of directions holds."""
    digest = hashlib.sha256(record.encode("utf-8"))
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def read_directions(file: str | os.PathLike[str]) -> dict[str, Direction]:
    """
    The directions in a file, by their names.

    Args:
        file (`str` or `Path`): The file. Without one there are no directions.

    Raises:
        ValueError: if the file is damaged.
    """
    if not os.path.isfile(file):
        return {}
    try:
        with safe_open(file, framework="pt") as stored:
            header, tensors = stored.metadata(), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if header[_DIGEST] != _digest(header[_RECORD], tensors):
            raise ValueError("its SHA-256 is another one")
        read = [
            Direction(**parts, **{part: tensors[f"{number}.{part}"] for part in _TENSORS})
            for number, parts in enumerate(json.loads(header[_RECORD]))
        ]
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file} is damaged or was cut off ({error}). Copy or download it again, or delete it: the model works "
            "without its directions."
        ) from error
    return {direction.name: direction for direction in read}


__all__ = ["Direction", "DirectionMethod"]
