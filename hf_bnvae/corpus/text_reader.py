# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A reader of datatrove for texts as people have them, which divides them among tasks by rows."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import Dataset, LargeList, List, load_dataset
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.readers.base import BaseReader

from ..data.corpora import TEXT, find_text_column, with_class_names
from ..data.text_files import read_files
from ..data.text_format import TextFormat, name_files
from ..model.input_checks_bnvae import require_count
from ..reporting.commands import without_folders

# The number of rows that are read at once.
ROWS = 1000


class TextReader(BaseReader):
    """
    Reads texts from files or from a data set of the Hub, each row a document.

    The rows of all files count as one list, and each task reads an equal part of it, one after the other. So one large
    file is divided among the tasks, too. Files are read as in a training: plain or packed, in any encoding, with a
    limit of rows that cannot be read. `datasets` converts them once to its cache, where all tasks find them; so
    machines that work together need a cache on a disk that they share (`HF_HOME`).

    A document's id is the content of `id_column`, or by default the number of its row, counted from 0 over all files.

    Args:
        files (`str` or sequence of `str`, *optional*): Files, folders or patterns, as in
            [`~data.text_files.find_files`].
        dataset_name, dataset_config_name (`str`, *optional*): Instead of files: a data set of the Hub, or a folder
            that `load_dataset` reads.
        dataset_split (`str`, *optional*, defaults to `"train"`): The split, or a slice such as `"train[:1000]"`.
        text_column (`str`, *optional*): The column that holds the texts. Required if there are several columns and
            none is called "text".
        id_column (`str`, *optional*): The column that holds the ids.
        columns (sequence of `str`, *optional*): Further columns. They become entries of the metadata; of a
            `ClassLabel` the names of its classes.
        text_format ([`TextFormat`], *optional*): How the files are written.
        max_samples (`int`, *optional*): Read the first rows only, this number of them in all tasks together.
        revision (`str`, *optional*): Branch, tag or commit of the data set.

    A private data set needs a token in `HF_TOKEN` or a login: datatrove writes the arguments of a step into its logs.

    Raises:
        ValueError: if both or neither of `files` and `dataset_name` are given, and for a limit below 1.
    """

    name = "📚 Texts"

    def __init__(
        self,
        files: str | Sequence[str] | None = None,
        *,
        dataset_name: str | None = None,
        dataset_config_name: str | None = None,
        dataset_split: str = "train",
        text_column: str | None = None,
        id_column: str | None = None,
        columns: Sequence[str] = (),
        text_format: TextFormat | None = None,
        max_samples: int | None = None,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        if (files is None) == (dataset_name is None):
            raise ValueError("Give either files or dataset_name.")
        if max_samples is not None:
            require_count("max_samples", max_samples)
        if dataset_name is not None and text_format not in (None, TextFormat()):
            raise ValueError("Encoding, delimiter, quotechar and header are of files, and dataset_name is none.")
        self.files, self.dataset_name, self.dataset_config_name = files, dataset_name, dataset_config_name
        self.dataset_split, self.text_column, self.id_column = dataset_split, text_column, id_column
        self.columns, self.text_format = list(columns), text_format
        self.max_samples, self.revision = max_samples, revision
        # What the tasks must read, if `remember` has looked.
        self.hashes: list[str] | None = None

    @property
    def source(self) -> str:
        """What the texts are called in messages."""
        if self.files is not None:
            return name_files(self.files)
        return f"{self.dataset_name} ({self.dataset_split})"

    @property
    def title(self) -> str:
        """What the texts are called for others, who must not see the folders of this machine."""
        if self.files is not None:
            return name_files(self.files, folders=False)
        return f"{without_folders(self.dataset_name)} ({self.dataset_split})"

    def load(self) -> tuple[Dataset, str]:
        """
        The rows of all tasks, and the column that holds the texts.

        Raises:
            ValueError: for missing files and columns, and for files that cannot be read.
        """
        others = [*([] if self.id_column is None else [self.id_column]), *self.columns]
        if self.files is not None:
            rows = read_files(self.files, (self.text_column, *others), self.text_format)
        else:
            names = (self.dataset_name, self.dataset_config_name)
            rows = load_dataset(*names, split=self.dataset_split, revision=self.revision)
        # A column of this name holds the texts, also if it is wanted twice.
        wanted = self.text_column or (TEXT if TEXT in others else None)
        rows, text_column = find_text_column(rows, wanted, self.source, others)
        missing = [column for column in others if column not in rows.column_names]
        if missing:
            raise ValueError(
                f"{self.source} has no column {missing[0]!r}. Its columns: {', '.join(rows.column_names)}."
            )
        rows = with_class_names(rows, others)
        kind = rows.features[text_column]
        if getattr(kind, "dtype", None) not in ("string", "large_string"):
            advice = " Write one text a row." if isinstance(kind, (List, LargeList)) else ""
            raise ValueError(f"The column {text_column!r} of {self.source} holds no texts, but {kind}.{advice}")
        rows = rows.select_columns(list(dict.fromkeys([text_column, *others])))
        if self.max_samples is not None and len(rows) > self.max_samples:
            rows = rows.select(range(self.max_samples))
        return rows, text_column

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents of a task."""
        yield from data or ()
        rows, text_column = self.load()
        digest = hashlib.sha256()
        for start, found in _slices(rows, rank, world_size):
            digest.update(_as_bytes(found))
            for row, name in enumerate(self._ids(start, found)):
                metadata = {column: found[column][row] for column in self.columns}
                document = Document(text=found[text_column][row], id=str(name), metadata=metadata)
                if isinstance(document.text, str):
                    self.update_doc_stats(document)
                self.stat_update("documents")
                yield document
        if self.hashes is not None and digest.hexdigest() != self.hashes[rank]:
            raise ValueError(
                f"{self.source} has changed since the command was started. Repeat it, with another folder."
            )

    def remember(self, rows: Dataset, world_size: int) -> str:
        """
        Remember what each task has to read. A task that reads something else then fails.

        Args:
            rows (`Dataset`): What [`~TextReader.load`] gave.
            world_size (`int`): The number of tasks.

        Returns:
            `str`: A hash of all rows and of their division.

        Raises:
            ValueError: for a row without an id.
        """
        self.hashes = []
        for rank in range(world_size):
            digest = hashlib.sha256()
            for start, found in _slices(rows, rank, world_size):
                self._ids(start, found)
                digest.update(_as_bytes(found))
            self.hashes.append(digest.hexdigest())
        return hashlib.sha256("".join(self.hashes).encode()).hexdigest()

    def _ids(self, start: int, found: Mapping[str, list[Any]]) -> Sequence[Any]:
        """The ids of rows, of which the first one has the number `start`."""
        if self.id_column is None:
            return range(start, start + len(next(iter(found.values()))))
        ids = found[self.id_column]
        if None in ids:
            raise ValueError(f"Row {start + ids.index(None)} of {self.source} has no {self.id_column!r}.")
        return ids


def _slices(rows: Dataset, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    """The rows of a task in pieces, each with the number of its first row."""
    own = rows_of_task(len(rows), rank, world_size)
    for start in own[::ROWS]:
        yield start, rows[range(start, min(start + ROWS, own.stop))]


def _as_bytes(found: Mapping[str, list[Any]]) -> bytes:
    """Rows of any types, to be hashed."""
    return repr(dict(found)).encode("utf-8", "surrogatepass")


def rows_of_task(num_rows: int, rank: int, world_size: int) -> range:
    """The numbers of the rows that a task reads. The tasks' shares differ by one row at most."""
    return range(num_rows * rank // world_size, num_rows * (rank + 1) // world_size)
