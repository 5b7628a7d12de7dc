# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Move latents on purpose: along a direction with a meaning, or along one dimension."""

import os
import reprlib
from collections.abc import Iterable
from typing import Any

import torch
from transformers.utils import cached_file, logging

from .condition_bnvae import Condition
from .directions_bnvae import Direction, Directions, read_directions, require_name, write_directions
from .generation_bnvae import seeded
from .input_checks_bnvae import require_count, require_finite_number
from .latent_space_bnvae import LatentSpaceMixin, TextsOrLatents
from .saved_files_bnvae import DIRECTIONS_FILE

logger = logging.get_logger(__name__)


class LatentEditingMixin(LatentSpaceMixin):
    """The part of a [`BNVAEModel`]'s latent space that changes texts. Arguments are as in [`LatentSpaceMixin`]."""

    # What this process has made, and what lies beside the weights once it was read.
    _directions: Directions | None = None

    @property
    def directions(self) -> Directions:
        """
        The model's directions by their names: those that were saved with it, and those that were added since.
        `model.directions[direction.name] = direction` adds one, and [`~BNVAEModel.save_pretrained`] saves all.

        Raises:
            ValueError: if the saved ones are damaged.
        """
        if self._directions is None:
            file = None
            if self._origin is not None:
                place, loading = self._origin
                file = cached_file(
                    place,
                    DIRECTIONS_FILE,
                    _raise_exceptions_for_missing_entries=False,
                    _raise_exceptions_for_connection_errors=False,
                    **loading,
                )
            self._directions = Directions({} if file is None else read_directions(file))
        return self._directions

    def mean_latent(
        self,
        texts: TextsOrLatents,
        batch_size: int = 64,
        show_progress: bool | None = None,
        condition: Condition | None = None,
    ) -> torch.FloatTensor:
        """
        The mean of the latents of texts.

        Args:
            texts (sequence of `str`, or latents): The texts.
            batch_size, show_progress, condition: See [`LatentSpaceMixin`].

        Returns:
            `torch.FloatTensor` of shape `(latent_size,)`

        Raises:
            ValueError: for no texts.
        """
        latents, _ = self.as_latents(texts, batch_size, show_progress, condition=condition)
        if len(latents) == 0:
            raise ValueError("A mean needs at least one text, got none.")
        return latents.double().mean(0).to(latents.dtype)

    def direction(
        self,
        positive: TextsOrLatents,
        negative: TextsOrLatents,
        name: str = "direction",
        positive_name: str = "positive",
        negative_name: str = "negative",
        batch_size: int = 64,
        show_progress: bool | None = None,
        condition: Condition | None = None,
    ) -> Direction:
        """
        The direction from one kind of text to another: the difference of the means of their latents. With a fitted
        prior, the sides are told apart where this prior is N(0, I).

        Args:
            positive, negative (sequences of `str`, or latents): Texts of both kinds.
            name (`str`, *optional*, defaults to `"direction"`): The name of the direction.
            positive_name, negative_name (`str`, *optional*): What the two sides are, for people.
            batch_size, show_progress: See [`LatentSpaceMixin`].
            condition (`str`, *optional*): One condition for all texts. Texts with conditions of their own are encoded
                first, with [`~LatentSpaceMixin.encode_texts`].

        Returns:
            [`Direction`]: It belongs to the model's present weights. The model does not keep it: see
            [`~Direction.save`] and [`~LatentEditingMixin.directions`].

        Raises:
            ValueError: if a side has no texts, or both have the same mean.

        Example:

        ```python
        >>> sentiment = model.direction(good_reviews, bad_reviews, name="sentiment")
        >>> model.edit("the food was awful .", sentiment)
        'the food was great .'
        ```
        """
        require_name(name)
        sides = (negative, positive)
        latents = [self.as_latents(side, batch_size, show_progress, condition=condition)[0] for side in sides]
        return Direction.between(
            *latents,
            self.current_prior,
            name=name,
            negative=negative_name,
            positive=positive_name,
            head_fingerprint=self.posterior.fingerprint(),
        )

    def edit(
        self,
        texts: TextsOrLatents,
        direction: Direction | str,
        strength: float = 1.0,
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        condition: Condition | None = None,
        **generation_kwargs: Any,
    ) -> str | list[Any]:
        """
        Move texts along a direction: the text at `z + strength * direction.step`.

        Args:
            texts (`str`, sequence of `str`, or latents): What to change.
            direction ([`Direction`] or `str`): Where to, or the name of one of the model's `directions`.
            strength (`float`, *optional*, defaults to 1): How far. A strength of 1 moves the mean of the negative side
                to where the positive side is; a negative strength moves the other way; 0 reconstructs.
            batch_size, show_progress, seed, condition, **generation_kwargs: See [`LatentSpaceMixin`].

        Returns:
            `str` for one text, `list[str]` for several.

        Raises:
            ValueError: for a direction that the model does not have, or that belongs to other weights.
        """
        chosen = self._find_direction(direction)
        require_finite_number("strength", strength)
        with seeded(seed):
            latents, is_single = self.as_latents(texts, batch_size, show_progress, condition=condition)
            moved = latents + float(strength) * chosen.step.to(latents)
            conditions = self.conditions_of(condition, len(moved))
            decoded = self._decode_latents(moved, None, batch_size, show_progress, generation_kwargs, conditions)
        return decoded[0] if is_single else decoded

    def traverse(
        self,
        texts: TextsOrLatents,
        dimension: int,
        values: Iterable[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        condition: Condition | None = None,
        **generation_kwargs: Any,
    ) -> list[Any]:
        """
        What one dimension does: texts with its number replaced by each of several values.

        Args:
            texts (`str`, sequence of `str`, or latents): Where to start.
            dimension (`int`): The dimension, from 0.
            values (sequence of `float`, *optional*, defaults to `(-2, -1, 0, 1, 2)`): The numbers. Under the prior
                N(0, I) each has mean 0 and standard deviation 1.
            batch_size, show_progress, seed, condition, **generation_kwargs: See [`LatentSpaceMixin`].

        Returns:
            `list[str]` with a text for each value; a list of such lists for several texts.

        Raises:
            ValueError: for a dimension that the latents do not have, or no values.
        """
        dimension = require_count("dimension", dimension, 0)
        if dimension >= self.config.latent_size:
            raise ValueError(
                f"dimension must be from 0 to {self.config.latent_size - 1}, because latents have "
                f"{self.config.latent_size} dimensions, got {dimension}."
            )
        try:
            numbers = list(values)
        except TypeError:
            raise ValueError(f"values must be several numbers, got {reprlib.repr(values)}.") from None
        for value in numbers:
            require_finite_number("each of values", value)
        if not numbers:
            raise ValueError("A traversal needs at least one value, got none.")
        with seeded(seed):
            latents, is_single = self.as_latents(texts, batch_size, show_progress, condition=condition)
            points = latents.unsqueeze(1).repeat(1, len(numbers), 1)  # (n, values, latent_size)
            points[..., dimension] = torch.tensor([float(value) for value in numbers], dtype=latents.dtype)
            lines = self._decode_paths(points, batch_size, show_progress, generation_kwargs, condition)
        return lines[0] if is_single else lines

    def save_directions(self, folder: str | os.PathLike[str]) -> None:
        """
        Save the model's directions beside its weights. Directions that are in the folder already stay, unless one of
        the same name was set in `directions` since the model was loaded. Directions of other weights go, and a warning
        names them. Damaged ones are left out with a warning. [`~BNVAEModel.save_pretrained`] calls this.

        Args:
            folder (`str` or `Path`): The folder of the saved model.
        """
        file = os.path.join(folder, DIRECTIONS_FILE)
        try:
            own = self.directions
            # Set on purpose, in the folder, beside the weights that were loaded: the first one of a name counts.
            known = {**own, **read_directions(file), **{name: own[name] for name in own.set_here & own.keys()}}
        except ValueError as error:
            logger.warning(f"The model is saved without its directions. {error}")
            return
        if not known:
            return
        # All processes would have to gather the weights of a sharded model. It is being trained, so nothing fits.
        is_sharded = any(hasattr(parameter, "full_tensor") for parameter in self.posterior.parameters())
        fingerprint = None if is_sharded else self.posterior.fingerprint()
        fitting = {n: d for n, d in known.items() if fingerprint is not None and d.fits(fingerprint)}
        if others := sorted(known.keys() - fitting.keys()):
            logger.warning_once(
                f"Not saved with the model: the directions {', '.join(map(repr, others))}. They belong to the weights "
                "before the training. Make them again from the same texts."
            )
        write_directions(folder, fitting)

    def _find_direction(self, direction: Direction | str) -> Direction:
        if isinstance(direction, str):
            if direction not in self.directions:
                known = ", ".join(map(repr, self.directions)) or "none"
                raise ValueError(
                    f"The model has no direction {direction!r}. It has: {known}. Make one: "
                    "model.direction(positive_texts, negative_texts)."
                )
            direction = self.directions[direction]
        if not isinstance(direction, Direction):
            raise ValueError(f"direction must be a Direction or the name of one, got {reprlib.repr(direction)}.")
        if not direction.fits(self.posterior.fingerprint()):
            raise ValueError(
                f"The direction {direction.name!r} belongs to other weights: it was made with another model, or this "
                "model has been trained since. Make it again from the same texts."
            )
        return direction


__all__ = ["LatentEditingMixin"]
