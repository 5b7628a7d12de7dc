# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A reader of datatrove for parquet files of latents, which divides them among tasks by rows."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pyarrow
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.readers.base import BaseReader
from fsspec.core import has_magic
from pyarrow import parquet

from ..model.saved_files_bnvae import sha256_of
from .latent_decoder import LATENT
from .task_files import description_of, schema_differences
from .text_reader import ROWS, rows_of_task

_ENDING = ".parquet"


class LatentReader(BaseReader):
    """
    Reads latents from parquet files, each row a document with the entry `latent_to_decode` in its metadata.

    The rows of all files count as one list, in the order of the files' names, and each task reads an equal part of it.
    A document's id is the content of `id_column`, or of `id` if there is such a column, or the number of the row,
    counted from 0 over all files.

    Args:
        place (`str`): A folder, a file or a pattern such as `latents/0000*.parquet`; also `hf://`.
        column (`str`, *optional*, defaults to `"mean"`): The column that holds the latents, as lists of numbers.
        id_column (`str`, *optional*): The column that holds the ids.
        columns (mapping of `str`, *optional*): Further columns, and the entries of the metadata that they become.

    Raises:
        ValueError: when files are looked for, if there are none, or if a folder lacks files of the tasks that wrote
            it. Also for missing columns, for a column without lists of numbers, and for files with different columns.
    """

    name = "💠 Latents"

    def __init__(
        self,
        place: str,
        *,
        column: str = "mean",
        id_column: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.place, self.column, self.id_column, self.columns = place, column, id_column, dict(columns or {})
        if LATENT in self.columns.values():
            raise ValueError(f"No column can become the entry {LATENT!r}, which holds the latents.")
        self._found: tuple[list[str], list[int], pyarrow.Schema] | None = None
        # The states of the files when they were found, which the tasks must find, too.
        self._states: dict[str, str] = {}

    @property
    def description(self) -> dict[str, str]:
        """What the first file says about its latents; empty for files of other programs."""
        return description_of(self._find()[2])

    @property
    def content(self) -> str:
        """A hash of the files: of their content on this machine, of their states elsewhere."""
        folder, names = self._folder()[0], self._find()[0]
        local = folder.is_local()
        parts = [sha256_of(folder.resolve_paths(name)) if local else self._states[name] for name in names]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @property
    def num_rows(self) -> int:
        """The number of rows of all files."""
        return sum(self._find()[1])

    @property
    def types(self) -> dict[str, pyarrow.DataType]:
        """The types of all columns by their names."""
        schema = self._find()[2]
        return dict(zip(schema.names, schema.types, strict=True))

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents of a task."""
        yield from data or ()
        names, counts, schema = self._find()
        own, first, folder = rows_of_task(sum(counts), rank, world_size), 0, self._folder()[0]
        id_column = self.id_column or ("id" if "id" in schema.names else None)
        wanted = list(dict.fromkeys([self.column, *([id_column] if id_column else []), *self.columns]))
        for name, count in zip(names, counts, strict=True):
            part = range(max(own.start - first, 0), min(own.stop - first, count))
            if part:
                if _state_of(folder, name) != self._states[name]:
                    raise ValueError(f"{name} of {self.place} has changed since the command was started.")
                number = first + part.start
                for rows in _slices(folder, name, part, wanted):
                    ids = rows.column(id_column).to_pylist() if id_column else range(number, number + len(rows))
                    metadata = {LATENT: rows.column(self.column).to_pylist()}
                    metadata |= {entry: rows.column(column).to_pylist() for column, entry in self.columns.items()}
                    for row, found in enumerate(ids):
                        if found is None:
                            raise ValueError(f"Row {number + row} of {self.place} has no {id_column!r}.")
                        entries = {key: values[row] for key, values in metadata.items()}
                        self.stat_update("documents")
                        yield Document(text=None, id=str(found), metadata=entries)
                    number += len(rows)
            first += count

    def _folder(self) -> tuple[DataFolder, str]:
        """The folder, and a pattern of the names in it."""
        # fsspec keeps where a relative path led first, also when the working folder is another one.
        place = self.place if "://" in self.place else os.path.abspath(self.place)
        folder, _, name = place.rpartition("/")
        whole = get_datafolder(place)
        if not whole.isdir("") and (name.endswith(_ENDING) or has_magic(name)):
            return get_datafolder(folder), name
        return whole, f"*{_ENDING}"

    def _find(self) -> tuple[list[str], list[int], pyarrow.Schema]:
        """Names of the files, their numbers of rows, and the columns of all."""
        if self._found is not None:
            return self._found
        folder, pattern = self._folder()
        try:
            # Only the names are compared with the pattern: a folder may have brackets in its own name.
            names = sorted(
                name
                for name in folder.list_files(recursive=False)
                if name == pattern or (fnmatchcase(name, pattern) and name.endswith(_ENDING))
            )
        except FileNotFoundError:
            names = []
        if not names:
            raise ValueError(f"{self.place}: there is no {_ENDING} file of latents.")
        counts, schema = [], None
        for name in names:
            try:
                with folder.open(name, "rb") as file:
                    metadata = parquet.read_metadata(file)
            except pyarrow.ArrowInvalid as error:
                raise ValueError(f"{name} of {self.place} is no parquet file: {error}") from error
            found = metadata.schema.to_arrow_schema()
            schema = found if schema is None else schema
            differences = schema_differences(found, schema)
            if differences:
                raise ValueError(f"{name} of {self.place} differs from {names[0]}: {'; '.join(differences)}.")
            counts.append(metadata.num_rows)
            self._states[name] = _state_of(folder, name)
        self._found = names, counts, schema
        self._check(pattern.startswith("*."))
        return self._found

    def _check(self, is_folder: bool) -> None:
        names, _, schema = self._found
        for column in (self.column, *([self.id_column] if self.id_column else []), *self.columns):
            if column not in schema.names:
                raise ValueError(f"{self.place} has no column {column!r}. Its columns: {', '.join(schema.names)}.")
        kind, tests = schema.field(self.column).type, pyarrow.types
        is_list = tests.is_list(kind) or tests.is_large_list(kind) or tests.is_fixed_size_list(kind)
        if not (is_list and tests.is_floating(kind.value_type)):
            raise ValueError(f"The column {self.column!r} of {self.place} holds no latents, but {kind}.")
        tasks = self.description.get("tasks", "")
        if is_folder and tasks.isdigit() and int(tasks) != len(names):
            raise ValueError(
                f"{self.place} holds {len(names)} of the {tasks} files of its encoding. Repeat the command that made "
                f"them, or name the files: '{self.place.rstrip('/')}/0*{_ENDING}'."
            )


def _state_of(folder: DataFolder, name: str) -> str:
    """What changes when a file does: its size, and its time or its hash."""
    told = folder.info(name)
    return " ".join(str(told.get(key)) for key in ("size", "mtime", "blob_id", "ETag", "md5Hash"))


def _slices(folder: DataFolder, name: str, part: range, columns: Sequence[str]) -> Iterator[Any]:
    """Rows of a file, in pieces. Groups of rows outside of the part are not read."""
    with folder.open(name, "rb") as opened, parquet.ParquetFile(opened) as file:
        groups, start, skipped = [], 0, None
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if start < part.stop and start + count > part.start:
                groups.append(group)
                skipped = start if skipped is None else skipped
            start += count
        place = skipped
        for rows in file.iter_batches(ROWS, row_groups=groups, columns=list(columns)):
            begin, end = max(part.start - place, 0), min(part.stop - place, len(rows))
            if begin < end:
                yield rows.slice(begin, end - begin)
            place += len(rows)
