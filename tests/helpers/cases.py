"""Which cases of a test are quick."""

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import pytest

_slow = partial(pytest.param, marks=pytest.mark.slow)


def cases(values: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """All `values` as cases of a test. Those that are not among `quick` are slow. A tuple holds several arguments."""
    values = list(values)
    if missing := [value for value in quick if value not in values]:
        raise ValueError(f"{missing} are no cases of this test.")
    return [value if value in quick else _slow(*value if isinstance(value, tuple) else (value,)) for value in values]
