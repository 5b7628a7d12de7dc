# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A writer of datatrove for tables: one parquet file a task, which appears when it is whole."""

import os
import tempfile
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import DataFolder, DataFolderLike
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.typeshelper import StatHints
from pyarrow import parquet

from ..model.input_checks_bnvae import require_count
from ..model.saved_files_bnvae import PARTIAL, flush_to_disk

# How the entries of the schema's metadata begin.
PREFIX = "hf_bnvae."
_HUB = "hf"


class TaskFileWriter(ParquetWriter):
    """
    Writes each task's documents to one parquet file: `00000.parquet` for the first task.

    A file appears under its name when it is whole: it is written under another name, on the local disk first, and
    renamed. A task without documents writes a file without rows. So the file says whether a task is done, and
    [`DoneByOutput`] goes by it.

    Args:
        output_folder (`str`, `tuple` or `DataFolder`): The folder, as for all writers of datatrove.
        own (mapping of `pyarrow.DataType`): The columns that the subclass fills.
        columns (mapping of `pyarrow.DataType`): Entries of the metadata that become columns, and their types. A
            document without such an entry gets a null.
        description (mapping of `str`): What the file's metadata says.
        batch_size (`int`): The number of documents in a group of rows.

    Raises:
        ValueError: for columns whose names are taken. While documents are written: for an entry that is not of its
            column's type.
    """

    def __init__(
        self,
        output_folder: DataFolderLike,
        own: Mapping[str, pyarrow.DataType],
        columns: Mapping[str, pyarrow.DataType],
        description: Mapping[str, str],
        batch_size: int,
    ) -> None:
        self.columns = dict(columns)
        taken = own.keys() & self.columns.keys()
        if taken:
            raise ValueError(
                f"A column {min(taken)!r} is written anyway. Leave it out of the columns, or give it another name."
            )
        told = {f"{PREFIX}{name}": str(value) for name, value in description.items()}
        if isinstance(output_folder, str) and "://" not in output_folder:
            # fsspec keeps where a relative path led first, also when the working folder is another one.
            output_folder = os.path.abspath(output_folder)
        super().__init__(
            output_folder,
            batch_size=require_count("batch_size", batch_size),
            max_file_size=-1,
            schema=pyarrow.schema(own | self.columns, told),
        )
        self._file: parquet.ParquetWriter | None = None
        self._rows: list[Document] = []

    @abstractmethod
    def is_row(self, document: Document) -> bool:
        """Whether a document becomes a row. The others are counted as `left_out`."""

    @abstractmethod
    def own_columns(self, rows: Sequence[Document]) -> dict[str, Any]:
        """The columns of documents that the subclass fills."""

    def file_of(self, rank: int) -> str:
        """The name of a task's file in the folder."""
        return f"{rank:05d}.parquet"

    def is_done(self, rank: int) -> bool:
        """Whether a task has written its file."""
        return self.output_folder.isfile(self.file_of(rank))

    def metadata_of(self, world_size: int) -> dict[bytes, bytes]:
        """What the files of a pipeline with this number of tasks say about themselves."""
        return {**self.schema.metadata, f"{PREFIX}tasks".encode(): str(world_size).encode()}

    def require_own_files(self, world_size: int) -> list[str]:
        """
        The files that are there.

        Raises:
            ValueError: for files of another model, of other settings, or of another number of tasks. Rows of two
                pipelines would be mixed.
        """
        folder = self.output_folder
        folder.invalidate_cache()
        there = [name for name in folder.list_files(recursive=False) if name.endswith(".parquet")]
        expected = self.schema.with_metadata(self.metadata_of(world_size))
        for name in there[:1] + there[-1:]:
            try:
                with folder.open(name, "rb") as file:
                    found = parquet.read_schema(file)
            except pyarrow.ArrowInvalid as error:
                raise ValueError(
                    f"{folder.resolve_paths(name)} is damaged ({error}). Delete it, and repeat the command."
                ) from error
            differences = schema_differences(found, expected)
            if differences:
                raise ValueError(
                    f"{folder.resolve_paths(name)} is of another pipeline ({'; '.join(differences)}). Choose another "
                    "folder."
                )
        return there

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Write the documents, and pass them on."""
        with self._publishing(self.file_of(rank)) as path:
            schema = self.schema.with_metadata(self.metadata_of(world_size))
            options = {
                "compression": self.compression,
                "use_content_defined_chunking": self.use_content_defined_chunking,
                "write_page_index": self.write_page_index,
            }
            try:
                with parquet.ParquetWriter(path, schema, **options) as self._file:
                    for document in data or ():
                        with self.track_time():
                            self.write(document, rank)
                        yield document
                    self._write_rows()
            finally:
                self._file = None  # it cannot go to another process

    def write(self, document: Document, rank: int = 0, **kwargs: Any) -> None:
        """Add a document to the file of the task."""
        if not self.is_row(document):
            self.stat_update("left_out")
            return
        self._rows.append(document)
        if len(self._rows) == self.batch_size:
            self._write_rows()
        self.stat_update(StatHints.total)

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        columns = self.own_columns(rows)
        for name, kind in self.columns.items():
            try:
                columns[name] = pyarrow.array([row.metadata.get(name) for row in rows], kind)
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, UnicodeEncodeError) as error:
                raise ValueError(f"The entry {name!r} of a document is no {kind}: {error}") from error
        self._file.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema=self.schema))

    def _has_whole_uploads(self) -> bool:
        """Whether no interrupted upload leaves half of a file: the Hub shows a file when all of it is there."""
        protocol = self.output_folder.fs.protocol
        return _HUB in ((protocol,) if isinstance(protocol, str) else protocol)

    @contextmanager
    def _publishing(self, name: str) -> Iterator[str]:
        """The path of a file to write, which gets its name in the folder when it is whole, and is deleted if that does
        not come to pass."""
        folder, partial = self.output_folder, f"{name}.{uuid.uuid4().hex[:8]}{PARTIAL}"
        self._rows = []
        with tempfile.TemporaryDirectory() as elsewhere:
            if folder.is_local():
                folder.makedirs("", exist_ok=True)
                path = folder.resolve_paths(partial)
            else:
                path = os.path.join(elsewhere, partial)
            try:
                yield path
                if folder.is_local():
                    with suppress(FileNotFoundError):  # another process made the same file, and deleted this one
                        flush_to_disk(path)
                        os.replace(path, folder.resolve_paths(name))
                    if not folder.isfile(name):
                        raise FileNotFoundError(f"{path} was deleted while it was being written.")
                    flush_to_disk(os.path.dirname(path))
                elif self._has_whole_uploads():
                    self._retry_hf_hub_operation("upload", name, lambda: _upload(folder, path, name))
                else:
                    # An upload that is interrupted may leave half of a file.
                    self._retry_hf_hub_operation("upload", name, lambda: folder.put_file(path, partial))
                    self._retry_hf_hub_operation("renaming", name, lambda: folder.mv(partial, name))
                folder.invalidate_cache()
                for left in folder.list_files(recursive=False):
                    if left.startswith(f"{name}.") and left.endswith(PARTIAL):  # of a task that was killed
                        with suppress(FileNotFoundError):
                            folder.rm_file(left)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)


def _upload(folder: DataFolder, path: str, name: str) -> None:
    """Upload a file. An error keeps its reason, which says whether to try again."""
    try:
        folder.put_file(path, name)
    except RuntimeError as error:
        raise (error.__cause__ or error) from None


def schema_differences(found: pyarrow.Schema, expected: pyarrow.Schema) -> list[str]:
    """How columns and description of a file differ from those that are expected."""
    theirs, ours = (description_of(schema) for schema in (found, expected))
    told = [
        f"{name}: {theirs.get(name, '-')}, not {ours.get(name, '-')}"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    columns = [", ".join(f"{field.name} {field.type}" for field in schema) for schema in (found, expected)]
    return told if found.equals(expected) else [*told, f"columns: {columns[0]}; not {columns[1]}"]


def description_of(schema: pyarrow.Schema) -> dict[str, str]:
    """What a file says about itself."""
    told = {name.decode(errors="replace"): value for name, value in (schema.metadata or {}).items()}
    return {n.removeprefix(PREFIX): v.decode(errors="replace") for n, v in told.items() if n.startswith(PREFIX)}
