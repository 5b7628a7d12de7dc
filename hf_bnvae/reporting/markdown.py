# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Values, tables and blocks in Markdown. Their content is escaped, so that a reader sees it as it is, in a browser and
on a terminal: control characters become escapes ([`~utils.terminal.visible`])."""

import re
from collections.abc import Sequence

from ..utils.terminal import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")
# What begins HTML, a link or a picture, and the backslash, which would undo its own escape.
_ACTIVE = re.compile(r"([\\<\[])")
# What no cell of a table may hold, unless it is escaped already: an odd number of backslashes stands before.
_NOT_IN_CELLS = re.compile(r"(?<!\\)((?:\\\\)*)(\||<(?=[A-Za-z/!?]))")


def one_line(value: object) -> str:
    """A value on one line, and nothing else escaped than control characters."""
    return visible(" ".join(str(value).split()))


def inline(value: object) -> str:
    """A value for a line of text: on one line, with special characters escaped."""
    return _SPECIAL.sub(r"\\\1", one_line(value))


def code(value: object) -> str:
    """A value as code in a line of text."""
    text = one_line(value)
    ticks = "`" * (_longest_run(text) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{padding}{text}{padding}{ticks}"


def prose(text: str) -> str:
    """A sentence of this project that comes from a file or names something: without HTML, links and pictures."""
    return _ACTIVE.sub(r"\\\1", one_line(text))


def fenced(text: str, language: str = "") -> str:
    """A block of code. Its fence has more backticks than any row of backticks in the code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def _longest_run(text: str) -> int:
    """The length of the longest row of backticks."""
    return max((len(run) for run in re.findall("`+", text)), default=0)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table. Columns are aligned, so that the Markdown itself can be read. In a cell, `|` and HTML are
    escaped; other Markdown is not, so a value from outside must be [`inline`]."""
    table = [[_NOT_IN_CELLS.sub(r"\1\\\2", one_line(cell)) for cell in row] for row in (header, *rows)]
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
