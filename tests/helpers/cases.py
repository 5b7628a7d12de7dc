"""Which cases of a test are quick."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def cases(values: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """All `values` as cases of a test. Those that are not among `quick` are slow."""
    values = list(values)
    if missing := [value for value in quick if value not in values]:
        raise ValueError(f"{missing} are no cases of this test.")
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
