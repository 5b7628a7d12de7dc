# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What all tables share: the blocks of a page that are rendered, and the ways in which figures are written."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...reporting.markdown import inline, markdown_table, replace_between


@dataclass(frozen=True)
class Block:
    """
    A part of a page that is rendered from records: the text between two markers.

    Args:
        name (`str`): The name in the markers `<!-- name: begin -->` and `<!-- name: end -->`.
    """

    name: str

    @property
    def begin(self) -> str:
        """The marker above the text."""
        return f"<!-- {self.name}: begin -->"

    @property
    def end(self) -> str:
        """The marker below the text."""
        return f"<!-- {self.name}: end -->"

    def update(self, page: str, text: str) -> str:
        """
        A page with `text` as the content of this block.

        Raises:
            ValueError: for a page without the markers.
        """
        return replace_between(page, self.begin, self.end, text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with aligned columns."""
    return "\n".join(markdown_table(header, rows))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the standard deviation (divisor n - 1) of values. The deviation of one value is `None`."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation; the mean alone for one value. The deviation has one digit at least."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{max(digits, 1)}f}")


def versions_of(record: Mapping[str, Any]) -> str:
    """The versions of the libraries that made a result, from its figures called `..._version`."""
    return ", ".join(f"{name} {record[f'{name}_version']}" for name in ("torch", "transformers", "hf_bnvae"))


def numbered(texts: Sequence[str]) -> str:
    """A numbered list of texts in Markdown."""
    return "\n".join(f"{number}. {inline(text)}" for number, text in enumerate(texts, 1))


def cell(value: float | None, digits: str) -> str:
    """A figure in a format such as `.2f`, `-` for none."""
    return "-" if value is None else format(value, digits)


def ratio(value: float | None) -> str:
    """A ratio with three digits, `-` for none."""
    return cell(value, ".3f")
