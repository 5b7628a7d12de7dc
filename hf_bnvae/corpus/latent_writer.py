# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A writer of datatrove for latents: one parquet file a task, which appears when it is whole."""

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pyarrow
from datatrove.data import Document, DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.io import DataFolderLike
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger
from datatrove.utils.stats import PipelineStats
from datatrove.utils.typeshelper import StatHints
from pyarrow import parquet

from ..model.saved_files_bnvae import PARTIAL, flush_to_disk
from .latent_encoder import LatentEncoder

LATENT_TYPES = {"float32": pyarrow.float32(), "float16": pyarrow.float16()}
# How the entries of the schema's metadata begin.
PREFIX = "hf_bnvae."


class LatentWriter(ParquetWriter):
    """
    Writes the documents that have latents, each task to one parquet file: `00000.parquet` for the first task.

    The columns are `id`, `mean`, and what else the encoder gives: `logvar`, `draws`, as lists of a fixed size. A
    document without latents is left out, and counted as `left_out`. A file appears under its name when it is whole:
    it is written under another name, on the local disk first, and renamed. A task without documents writes a file
    without rows. So the file says whether a task is done, and [`DoneByOutput`] goes by it.

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
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number, at least 1, got {batch_size!r}.")
        latents = pyarrow.list_(LATENT_TYPES[dtype], encoder.config.latent_size)
        shapes = {"mean": latents, "logvar": latents, "draws": pyarrow.list_(latents, max(1, encoder.num_draws))}
        self.latents = {name: shapes[name] for name in encoder.entries}
        own = {"id": pyarrow.string(), **self.latents, **({"text": pyarrow.string()} if with_text else {})}
        self.columns = dict(columns or {})
        taken = own.keys() & self.columns.keys()
        if taken:
            raise ValueError(f"A column {min(taken)!r} is written anyway. Rename the entry of the metadata.")
        self.with_text = with_text
        told = {**encoder.description, "latent_dtype": dtype, **(description or {})}
        schema = pyarrow.schema(own | self.columns, {f"{PREFIX}{name}": str(value) for name, value in told.items()})
        if isinstance(output_folder, str) and "://" not in output_folder:
            # fsspec keeps where a relative path led first, also when the working folder is another one.
            output_folder = os.path.abspath(output_folder)
        super().__init__(output_folder, batch_size=batch_size, max_file_size=-1, schema=schema)
        self._file: parquet.ParquetWriter | None = None
        self._rows: list[Document] = []

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
            with folder.open(name, "rb") as file:
                found = parquet.read_schema(file)
            differences = _differences(found, expected)
            if differences:
                raise ValueError(
                    f"{folder.resolve_paths(name)} holds latents of another pipeline ({'; '.join(differences)}). "
                    "Choose another folder."
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
        if "mean" not in document.metadata:
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
        columns = {"id": [str(row.id) for row in rows]}
        for name, kind in self.latents.items():
            columns[name] = _array([row.metadata[name] for row in rows], kind)
        if self.with_text:
            columns["text"] = [row.text for row in rows]
        for name, kind in self.columns.items():
            try:
                columns[name] = pyarrow.array([row.metadata.get(name) for row in rows], kind)
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, UnicodeEncodeError) as error:
                raise ValueError(f"The entry {name!r} of a document is no {kind}: {error}") from error
        self._file.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema=self.schema))

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
                    flush_to_disk(path)
                    os.replace(path, folder.resolve_paths(name))
                    flush_to_disk(os.path.dirname(path))
                else:
                    # An upload that is interrupted may leave half of a file.
                    self._retry_hf_hub_operation("upload", name, lambda: folder.put_file(path, partial))
                    self._retry_hf_hub_operation("renaming", name, lambda: folder.mv(partial, name))
                folder.invalidate_cache()
                for left in folder.glob(f"{name}.*{PARTIAL}"):  # of tasks that were killed
                    folder.rm_file(left)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)


class DoneByOutput:
    """
    A task of an executor is done when its file of latents is there, whatever the folder of logs says. To be put in
    front of an executor of datatrove:

        class Executor(DoneByOutput, LocalPipelineExecutor): ...

    The pipeline holds one [`LatentWriter`].
    """

    pipeline: Sequence[PipelineStep]
    world_size: int
    skip_completed: bool

    def is_rank_completed(self, rank: int) -> bool:
        """Whether a task needs not be run."""
        return self.skip_completed and self._writer.is_done(rank)

    def get_incomplete_ranks(
        self, ranks: Iterable[int] | None = None, skip_completed: bool | None = None
    ) -> list[int]:
        """The tasks that are still to be run."""
        all_ranks = list(range(self.world_size) if ranks is None else ranks)
        if not (self.skip_completed if skip_completed is None else skip_completed):
            return all_ranks
        there = set(self._writer.require_own_files(self.world_size))
        return [rank for rank in all_ranks if self._writer.file_of(rank) not in there]

    @property
    def _writer(self) -> LatentWriter:
        found = [step for step in self.pipeline if isinstance(step, LatentWriter)]
        if len(found) != 1:
            raise ValueError(
                f"This executor goes by the files of one LatentWriter, and the pipeline has {len(found)}. Take "
                "datatrove's own executor for other pipelines."
            )
        return found[0]


class LocalLatentExecutor(DoneByOutput, LocalPipelineExecutor):
    """
    `LocalPipelineExecutor` of datatrove, for pipelines with a [`LatentWriter`].

    Args:
        *args, **kwargs: As for that executor.
        is_quiet (`bool`, *optional*, defaults to `False`): Show errors only. The folder of logs has everything.
    """

    def __init__(self, *args: Any, is_quiet: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_quiet = is_quiet

    def run(self) -> PipelineStats:
        """Run the tasks that are not done; their statistics."""
        if not self.get_incomplete_ranks():
            return PipelineStats()
        switch = logger.disable if self.is_quiet else logger.enable
        switch(LocalPipelineExecutor.__module__)
        return super().run()

    def _launch_run_for_rank(self, rank: int, ranks_q: Any, completed: Any = None, completed_lock: Any = None) -> Any:
        if not self.is_quiet:
            return super()._launch_run_for_rank(rank, ranks_q, completed, completed_lock)
        local_rank = ranks_q.get()
        try:
            return self._run_for_rank(rank, local_rank + 1)  # the first one would show everything
        finally:
            ranks_q.put(local_rank)


def _differences(found: pyarrow.Schema, expected: pyarrow.Schema) -> list[str]:
    """How schema and description of a file differ from what a pipeline writes."""
    theirs, ours = found.metadata or {}, expected.metadata
    names = [name for name in sorted({*theirs, *ours}) if name.startswith(PREFIX.encode())]
    told = [
        f"{name.decode().removeprefix(PREFIX)}: {theirs.get(name, b'-').decode()}, not {ours.get(name, b'-').decode()}"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]
    return told if found.equals(expected) else [*told, f"columns: {found.names}, not {expected.names}"]


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
