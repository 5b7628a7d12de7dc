# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options that say how files of texts are written. Trainings and evaluations have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..data.text_format import TextFormat


@dataclass(kw_only=True)
class TextFormatArguments:
    """How files of texts are written."""

    encoding: str = field(default="utf-8", metadata={"help": "The encoding of the files: utf-16, cp1252, gb18030."})
    delimiter: str | None = field(
        default=None,
        metadata={"help": "The character between the fields of a table. By default , in .csv and a tab in .tsv."},
    )
    quotechar: str | None = field(
        default=None,
        metadata={
            "help": 'The character around fields of a table, or none. By default " in .csv and none in .tsv.',
        },
    )
    no_header: bool = field(
        default=False,
        metadata={"help": "The first line of a table is no header. The columns are then called 1, 2 and so on."},
    )

    @property
    def text_format(self) -> TextFormat:
        """
        How the files are written.

        Raises:
            ValueError: for an unknown encoding, and for a delimiter or a quotation mark of several characters.
        """
        return TextFormat(self.encoding, self.delimiter, self.quotechar, has_header=not self.no_header)


def one_or_several(names: str | list[str] | None) -> str | list[str] | None:
    """A single name as itself, not as a list: so it stands in records, and older records have it so."""
    return names[0] if isinstance(names, list) and len(names) == 1 else names or None


def recorded_text_format(settings: Mapping[str, Any]) -> TextFormat:
    """How the files of a run were written, from the settings in its `run.json`. Older runs have no such settings."""
    own = {one.name: settings.get(one.name, one.default) for one in fields(TextFormatArguments)}
    return TextFormatArguments(**own).text_format
