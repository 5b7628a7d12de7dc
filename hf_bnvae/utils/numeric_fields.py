# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A check of the numbers in a dataclass of settings."""

import math
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

# The sizes of numbers with which single precision can compute. Its own limits are 1e-38 and 3e38, and a product of two
# settings, or of a setting and a loss, must stay within them.
LEAST_SIZE, GREATEST_SIZE = 1e-30, 1e30


def require_numbers(settings: Any) -> None:
    """
    Refuse settings that are no numbers where numbers belong.

    Args:
        settings (dataclass): The settings. A field of type `int` holds a whole number, and a field of type `float` any
            number. A field of type `list[int]` or `list[float]` holds a list of them. A field that may be `None`, or
            anything else that is no number, may hold this, too.

    Raises:
        ValueError: with the field's name and range, for fractions, NaN, infinities, truth values, text, and for sizes
            with which single precision cannot compute.
    """
    hints = get_type_hints(type(settings))
    for own in fields(settings):
        hint, value = hints[own.name], getattr(settings, own.name)
        types = set(get_args(hint) or (hint,))
        if not types & {int, float}:
            continue
        if get_origin(hint) is list:
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"{own.name} must be a list of numbers, got {value!r}.")
            for number in value:
                _require_number(f"Each number in {own.name}", number, float in types)
        elif types <= {int, float} or not _is_of(value, types):
            _require_number(own.name, value, float in types)


def _require_number(name: str, value: Any, is_real: bool) -> None:
    """Refuse a value that is no number: no whole number, unless `is_real`."""
    if not is_real:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, got {value!r}.")
    elif not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    elif value != 0 and not LEAST_SIZE <= abs(value) <= GREATEST_SIZE:
        raise ValueError(f"{name} must be 0 or lie between {LEAST_SIZE} and {GREATEST_SIZE} in size, got {value!r}.")


def _is_of(value: Any, types: set[Any]) -> bool:
    """Whether a value has one of the types that are no numbers."""
    others = tuple(kind for kind in types - {int, float} if isinstance(kind, type))
    return isinstance(value, others)


__all__ = ["require_numbers"]
