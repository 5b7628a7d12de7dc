# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A writer of datatrove for latents."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
from datatrove.data import Document
from datatrove.io import DataFolderLike

from .latent_encoder import LatentEncoder
from .task_files import TaskFileWriter

LATENT_TYPES = {"float32": pyarrow.float32(), "float16": pyarrow.float16()}


class LatentWriter(TaskFileWriter):
    """
    Writes the documents that have latents, each task to one parquet file, as [`TaskFileWriter`] does.

    The columns are `id`, `mean`, and what else the encoder gives: `logvar`, `draws`, as lists of a fixed size. A
    document without latents is left out, and counted as `left_out`.

    Args:
        output_folder (`str`, `tuple` or `DataFolder`): The folder, as for all writers of datatrove.
        encoder ([`LatentEncoder`]): The step of the same pipeline that gives the latents.
        dtype (`str`, *optional*, defaults to `"float32"`): Type of the latents' numbers, `"float32"` or `"float16"`.
        with_text (`bool`, *optional*, defaults to `False`): Add the column `text`.
        columns (mapping, *optional*): Entries of the metadata that become columns, and their types in pyarrow. A
            document without such an entry gets a null.
        description (mapping of `str`, *optional*): What the file's metadata says, besides what the encoder does.
        batch_size (`int`, *optional*, defaults to 1000): The number of documents in a group of rows.

    Raises:
        ValueError: for another type of numbers, for columns whose names are taken, and for a model that cannot be
            read. While documents are written: for an entry that is not of its column's type.
    """

    name = "💠 Latents"

    def __init__(
        self,
        output_folder: DataFolderLike,
        encoder: LatentEncoder,
        *,
        dtype: str = "float32",
        with_text: bool = False,
        columns: Mapping[str, pyarrow.DataType] | None = None,
        description: Mapping[str, str] | None = None,
        batch_size: int = 1000,
    ) -> None:
        if dtype not in LATENT_TYPES:
            raise ValueError(f"dtype must be one of {', '.join(LATENT_TYPES)}, got {dtype!r}.")
        latents = pyarrow.list_(LATENT_TYPES[dtype], encoder.config.latent_size)
        shapes = {"mean": latents, "logvar": latents, "draws": pyarrow.list_(latents, max(1, encoder.num_draws))}
        self.latents, self.with_text = {name: shapes[name] for name in encoder.entries}, with_text
        own = {"id": pyarrow.string(), **self.latents, **({"text": pyarrow.string()} if with_text else {})}
        told = {**encoder.description, "latent_dtype": dtype, **(description or {})}
        super().__init__(output_folder, own, columns or {}, told, batch_size)

    def is_row(self, document: Document) -> bool:
        return "mean" in document.metadata

    def own_columns(self, rows: Sequence[Document]) -> dict[str, Any]:
        columns = {"id": [str(row.id) for row in rows]}
        for name, kind in self.latents.items():
            columns[name] = _array([row.metadata[name] for row in rows], kind)
        return columns | ({"text": [row.text for row in rows]} if self.with_text else {})


def _array(values: Sequence[Any], kind: pyarrow.FixedSizeListType) -> pyarrow.FixedSizeListArray:
    """Lists of numbers, nested as `kind` is."""
    sizes, innermost = [], kind
    while pyarrow.types.is_fixed_size_list(innermost):
        sizes.append(innermost.list_size)
        innermost = innermost.value_type
    numbers = np.asarray(values, dtype=innermost.to_pandas_dtype()).reshape(len(values), *sizes)
    array = pyarrow.array(numbers.ravel())
    for size in reversed(sizes):
        array = pyarrow.FixedSizeListArray.from_arrays(array, size)
    return array
