# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Values, tables and blocks in Markdown. Their content is escaped, so that a reader sees it as it is."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def inline(value: object) -> str:
    """A value for a line of text: on one line, with special characters escaped."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def fenced(text: str, language: str = "") -> str:
    """A block of code. Its fence has more backticks than any row of backticks in the code."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table. Columns are aligned, so that the Markdown itself can be read. A `|` in a cell is
    escaped."""
    table = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]


def replace_between(page: str, begin: str, end: str, text: str) -> str:
    """A page with `text` between two markers, instead of what stands there. The markers stay.

    Raises:
        ValueError: if the page lacks a marker.
    """
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"The page lacks the markers {begin} and {end}.")
    return f"{before}{begin}\n{text}\n{end}{after}"
