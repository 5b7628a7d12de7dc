# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How files of texts are written: encoding, delimiter, quotation marks, header. And how several files are named."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TextFormat:
    """
    How files of texts are written.

    Args:
        encoding (`str`, *optional*, defaults to `"utf-8"`): Their encoding, a name that Python knows. A byte order
            mark is never a part of a text.
        delimiter (`str`, *optional*): The character between the fields of a table, or `"TAB"`. By default a comma in
            `.csv` and a tab in `.tsv`.
        quotechar (`str`, *optional*): The character around fields of a table that hold delimiters or line ends, or
            `"none"`. By default `"` in `.csv`, and none in `.tsv`.
        has_header (`bool`, *optional*, defaults to `True`): Whether the first line of a table names the columns.
            Without a header they are called `1`, `2` and so on.

    Raises:
        ValueError: for an unknown encoding, and for a delimiter or a quotation mark of several characters.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    quotechar: str | None = None
    has_header: bool = True

    def __post_init__(self) -> None:
        try:
            b"a".decode(self.encoding)  # some codecs, as rot13, are none of texts
        except UnicodeDecodeError:
            pass  # of an encoding that takes two bytes and more for a letter
        except LookupError as error:
            raise ValueError(f"encoding={self.encoding!r} is no encoding that Python knows; try utf-8.") from error
        # A tab is hard to type.
        if self.delimiter in ("\\t", "TAB"):
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter must be one character, got {self.delimiter!r}.")
        if self.quotechar not in (None, "none") and len(self.quotechar) != 1:
            raise ValueError(f"quotechar must be one character or 'none', got {self.quotechar!r}.")

    @property
    def codec(self) -> str:
        """The encoding to open a file with, so that a byte order mark is skipped."""
        return "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding


def name_files(names: str | Sequence[str], folders: bool = True) -> str:
    """
    Files in words: the first one, and how many more.

    Args:
        names (`str` or sequence of `str`): The files.
        folders (`bool`, *optional*, defaults to `True`): Whether to name the first one with its folder.
    """
    first, *others = [names] if isinstance(names, str) else names
    shown = first if folders else Path(first).name
    return f"{shown} and {len(others)} more" if others else shown
