# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A writer of datatrove for decoded texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow
from datatrove.data import Document
from datatrove.io import DataFolderLike

from .latent_decoder import LatentDecoder
from .task_files import TaskFileWriter


class TextWriter(TaskFileWriter):
    """
    Writes the documents that have texts, each task to one parquet file, as [`TaskFileWriter`] does.

    The columns are `id` and `text`. A document without a text is left out, and counted as `left_out`.

    Args:
        output_folder (`str`, `tuple` or `DataFolder`): The folder, as for all writers of datatrove.
        decoder ([`LatentDecoder`]): The step of the same pipeline that gives the texts.
        columns (mapping, *optional*): Entries of the metadata that become columns, and their types in pyarrow.
        description (mapping of `str`, *optional*): What the file's metadata says, besides what the decoder does.
        batch_size (`int`, *optional*, defaults to 1000): The number of documents in a group of rows.

    Raises:
        ValueError: for columns whose names are taken, and for a model that cannot be read. While documents are
            written: for an entry that is not of its column's type.
    """

    name = "💠 Texts"

    def __init__(
        self,
        output_folder: DataFolderLike,
        decoder: LatentDecoder,
        *,
        columns: Mapping[str, pyarrow.DataType] | None = None,
        description: Mapping[str, str] | None = None,
        batch_size: int = 1000,
    ) -> None:
        own = {"id": pyarrow.string(), "text": pyarrow.string()}
        told = {**decoder.description, **(description or {})}
        super().__init__(output_folder, own, columns or {}, told, batch_size)

    def is_row(self, document: Document) -> bool:
        return isinstance(document.text, str)

    def own_columns(self, rows: Sequence[Document]) -> dict[str, Any]:
        return {"id": [str(row.id) for row in rows], "text": [row.text for row in rows]}
