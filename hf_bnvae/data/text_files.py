# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Files as people have them: which files a name means, and their rows as a data set of texts."""

import csv
import glob
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from charset_normalizer import from_bytes
from datasets import Dataset, Features, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils import logging as datasets_logging
from huggingface_hub import HfFileSystem, hf_hub_download
from pyarrow import ArrowInvalid, BufferReader, concat_tables, parquet
from transformers.utils import logging

from .json_lines import SHOWN_LINES, GoodLines, good_lines
from .text_format import TextFormat, name_files

logger = logging.get_logger(__name__)

# Endings, and the loader of `datasets` that reads such files. Lines and tables are read here: `datasets` takes texts
# in a table for numbers, and does not use the encoding for a packed file.
LOADERS = {"json": "json", "jsonl": "json", "parquet": "parquet"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
ENDINGS = ("txt", *DELIMITERS, *LOADERS)

# A file with its size and its time.
FileState = tuple[str, int, int]

# The share of rows of a table that may be left out because they cannot be read.
MAX_BAD_ROWS = 0.01
# How the name of a file on the Hub begins.
_HUB = "hf://"
# Lines of a .txt that are longer on average are probably no sentences, in bytes.
_LONG_LINE = 5000
# What is read of a file to guess how it was written.
_SAMPLE_LINES, _SAMPLE_BYTES = 50, 1 << 20
_WESTERN, _MAX_CHAOS = "cp1252", 0.1
# Another number makes `datasets` read files anew that it has in its cache.
_READER_VERSION = 2
# The column of the cache that says what is wrong with a row. No column of a file has this name: those without a name
# are left out.
_FAULT = ""


def find_files(names: str | Sequence[str]) -> list[str]:
    """
    The files that names mean.

    Args:
        names (`str` or sequence of `str`): Each is a file, a folder, of which all files with a known ending are taken,
            or a pattern such as `texts/*.txt`. With `hf://` ahead they lie in a repository of the Hub, and are
            downloaded to its cache.

    Returns:
        `list[str]`: The files. A folder or a pattern gives its files in alphabetical order.

    Raises:
        ValueError: for a name without files, and for files of different kinds.
    """
    found: list[str] = []
    for name in [names] if isinstance(names, str) else names:
        if name.startswith(_HUB):
            found += _download(name)
            continue
        if Path(name).is_file():
            found.append(name)
            continue
        if Path(name).is_dir():
            inside = sorted(str(path) for path in Path(name).iterdir() if _is_of_texts(path))
            if not inside:
                raise ValueError(f"The folder {name} holds no file that ends in {_known_endings()}.")
        else:
            inside = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())
        if not inside and glob.has_magic(name):
            raise ValueError(f"{name}: no file matches this pattern.")
        if not inside and not _ending(name):
            raise ValueError(f"{name}: no such file or folder.")
        # Of a name that is no file the ending is looked at first, below.
        found += inside or [name]
    for path in found:
        if _ending(path) not in ENDINGS:
            raise ValueError(f"{path}: files must end in one of {_known_endings()}, or in one of these and .gz.")
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file or folder.")
    # A file that is named twice is read once.
    found = list({Path(path).resolve(): path for path in found}.values())
    kinds = {_loader(path) for path in found}
    if len(kinds) > 1:
        others = [next(path for path in found if _loader(path) == kind) for kind in sorted(kinds)]
        raise ValueError(f"All files must be of one kind, got {' and '.join(others)}.")
    return found


def _download(name: str) -> list[str]:
    """Files of the Hub, in the cache of `huggingface_hub`."""
    if name.startswith(f"{_HUB}buckets/"):
        raise ValueError(f"{name}: texts are read from repositories, not from buckets.")
    hub = HfFileSystem()
    try:
        inside = [name] if hub.isfile(name) else hub.glob(name) if glob.has_magic(name) else hub.ls(name, detail=False)
        inside = [path for path in sorted(inside) if path == name or _has_name_of_texts(path)]
        if not inside:
            raise ValueError(f"{name} holds no file that ends in {_known_endings()}.")
        places = [hub.resolve_path(path) for path in inside]
        return [
            hf_hub_download(one.repo_id, one.path_in_repo, repo_type=one.repo_type, revision=one.revision)
            for one in places
        ]
    except (OSError, NotImplementedError) as error:
        raise ValueError(f"{name}: could not be read from the Hub ({error}).") from error


def read_files(
    names: str | Sequence[str], columns: Sequence[str | None] = (), form: TextFormat | None = None
) -> Dataset:
    """
    The rows of files, in their order. The fields of tables are strings, whatever they look like.

    Args:
        names (`str` or sequence of `str`): As in [`find_files`].
        columns (sequence of `str`, *optional*): Columns that are wanted. They may name a field within a field
            (`data.body`), and are then columns of the result.
        form ([`TextFormat`], *optional*): How the files are written.

    Raises:
        ValueError: for files that do not exist, are empty, or cannot be read as what their endings say; for an
            encoding that does not fit; for a table of which more than 1% of the rows cannot be read.
    """
    form = form or TextFormat()
    paths = find_files(names)
    for path in paths:
        if not Path(path).stat().st_size:
            raise ValueError(f"{path} is empty.")
    try:
        return _reader(paths[0])(paths, columns, form)
    except UnicodeDecodeError as error:
        raise ValueError(_wrong_encoding(paths, form, error)) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name_files(paths)}: a packed file is damaged or was cut off ({error}).") from error
    except ValueError as error:
        # The words of `datasets`, which has no kind of error for it.
        if "corresponds to no data" not in str(error):
            raise
        raise ValueError(f"{name_files(paths)}: there are no rows, or none below the header.") from error


def are_tables(names: str | Sequence[str]) -> bool:
    """Whether the files are tables, whose fields are all strings."""
    return _ending(find_files(names)[0]) in DELIMITERS


def _load(paths: list[str], columns: Sequence[str | None], form: TextFormat) -> Dataset:
    """Files that `datasets` reads."""
    loader = LOADERS[_ending(paths[0])]
    options: dict[str, Any] = {}
    if loader == "json":
        # `datasets` cuts a file into pieces, and may cut a character of several bytes.
        if form.codec != "utf-8-sig":
            raise ValueError(f"{paths[0]}: JSON is read in UTF-8 only. Convert it: iconv -f {form.encoding} -t utf-8.")
        options = {"encoding": form.codec, "field": _key_of_rows(paths, columns)}
        copies = [good_lines(path, partial(_open, path, form), is_made=False) for path in paths]
        if all(copies) and any(copy.num_bad for copy in copies):
            return _load_good_lines(paths, copies)
    try:
        with _silence():
            if loader == "parquet" and any(map(_is_packed, paths)):
                return _unpack_parquet(paths)
            return load_dataset(loader, data_files=[glob.escape(path) for path in paths], split="train", **options)
    except (DatasetGenerationError, ArrowInvalid) as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnicodeDecodeError):
            raise cause from error
        if {_ending(path) for path in paths} == {"jsonl"}:
            copies = [good_lines(path, partial(_open, path, form), is_made=True) for path in paths]
            if any(copy.num_bad for copy in copies):
                return _load_good_lines(paths, copies)
        raise ValueError(f"{name_files(paths)} could not be read as .{_ending(paths[0])}: {cause}") from error


def _load_good_lines(paths: list[str], copies: list[GoodLines]) -> Dataset:
    num_lines, num_bad = sum(copy.num_lines for copy in copies), sum(copy.num_bad for copy in copies)
    shown = "; ".join(islice((fault for copy in copies for fault in copy.shown), SHOWN_LINES))
    if num_bad > MAX_BAD_ROWS * num_lines:
        raise ValueError(
            f"{name_files(paths)} could not be read as .jsonl: {num_bad} of {num_lines} lines cannot be read; {shown}."
        )
    logger.warning(
        f"{num_bad} of {num_lines} lines of {name_files(paths)} cannot be read; {shown}. They are left out."
    )
    with _silence():
        return load_dataset("json", data_files=[copy.file for copy in copies], split="train", encoding="utf-8")


def _unpack_parquet(paths: list[str]) -> Dataset:
    """The rows of packed files, in memory. `datasets` does not unpack them."""
    tables = []
    for path in paths:
        with _opener(path)(path, "rb") as file:
            tables.append(parquet.read_table(BufferReader(file.read())))
    return Dataset(concat_tables(tables, promote_options="default"))


@contextmanager
def _silence() -> Iterator[None]:
    """Without log lines of `datasets`. An error says the same."""
    before = datasets_logging.get_verbosity()
    datasets_logging.set_verbosity(datasets_logging.CRITICAL)
    try:
        yield
    finally:
        datasets_logging.set_verbosity(before)


def _reader(path: str) -> Callable[[list[str], Sequence[str | None], TextFormat], Dataset]:
    ending = _ending(path)
    return _read_lines if ending == "txt" else _read_table if ending in DELIMITERS else _load


# -- lines -----------------------------------------------------------------------------------------------------------


def _read_lines(paths: list[str], columns: Sequence[str | None], form: TextFormat) -> Dataset:
    dataset = _from_generator(_generate_lines, paths, ("text",), form)
    mean = sum(Path(path).stat().st_size for path in paths) / max(1, len(dataset))
    if mean > _LONG_LINE:
        lines = (
            f"{len(dataset)} lines of {mean:,.0f} bytes on average"
            if len(dataset) > 1
            else f"1 line of {mean:,.0f} bytes"
        )
        logger.warning(f"{name_files(paths)}: {lines}. In a .txt each line is one text.")
    return dataset


def _generate_lines(
    paths: Sequence[FileState], columns: Sequence[str], form: TextFormat, version: int
) -> Iterator[dict[str, str]]:
    for path, *_ in paths:
        with _open(path, form, newline=None) as file:
            for line in file:
                yield {columns[0]: line.rstrip("\n")}


def _from_generator(
    generate: Callable[..., Iterator[dict[str, str | None]]],
    paths: list[str],
    columns: Sequence[str],
    form: TextFormat,
    added: Sequence[str] = (),
) -> Dataset:
    """The data set of strings that a generator yields, in the cache of `datasets`: columns of the files, and added
    ones."""
    # The size and the time tell a changed file from the one in the cache. Tuples, because `datasets` takes lists for
    # parts that processes may share.
    # A link keeps its name, whose ending says what the file is.
    files = [Path(path).absolute() for path in paths]
    states = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    try:
        return Dataset.from_generator(
            generate,
            features=Features({name: Value("string") for name in (*columns, *added)}),
            gen_kwargs={"paths": states, "columns": tuple(columns), "form": form, "version": _READER_VERSION},
        )
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None


# -- tables ----------------------------------------------------------------------------------------------------------


def _read_table(paths: list[str], wanted: Sequence[str | None], form: TextFormat) -> Dataset:
    columns = _columns_of(paths[0], form)
    for path in paths[1:]:
        if _columns_of(path, form) != columns:
            raise ValueError(f"{path} has other columns than {paths[0]}: {', '.join(_columns_of(path, form))}.")
    # A spreadsheet may leave columns without a name and without content behind the last one. They are left out.
    dataset = _from_generator(_generate_rows, paths, columns, form, added=[_FAULT])
    faults = dataset.data.column(_FAULT)
    if faults.null_count == len(faults):
        return dataset.remove_columns(_FAULT)
    shown = "; ".join(islice(filter(None, faults.drop_null().to_pylist()), SHOWN_LINES))
    num_bad = len(faults) - faults.null_count
    message = (
        f"{num_bad} of {len(faults)} rows of {name_files(paths)} cannot be read. The columns are "
        f"{', '.join(columns)}; {shown}."
    )
    if num_bad > MAX_BAD_ROWS * len(faults):
        raise ValueError(f"{message} {_advice(paths[0], form)}")
    logger.warning(f"{message} They are left out.")
    return dataset.select(np.flatnonzero(faults.is_null())).remove_columns(_FAULT)


def _generate_rows(
    paths: Sequence[FileState], columns: Sequence[str], form: TextFormat, version: int
) -> Iterator[dict[str, str | None]]:
    """The rows, and what is wrong with each that cannot be read. Who reads them from the cache is told, too."""
    for path, *_ in paths:
        for row in _rows(path, form):
            if isinstance(row, _Row) and len(row.fields) == len(columns):
                yield {**dict(zip(columns, row.fields, strict=True)), _FAULT: None}
                continue
            # A quotation mark without its partner takes many lines into one row. Each of them counts.
            num_lines = row.num_lines if isinstance(row, _BadRow) else 1
            for fault in [_describe(path, row), *[""] * (num_lines - 1)]:
                yield {**dict.fromkeys(columns), _FAULT: fault}


@dataclass(frozen=True)
class _Row:
    line: int
    fields: list[str]


@dataclass(frozen=True)
class _BadRow:
    line: int
    reason: str
    num_lines: int


def _rows(path: str, form: TextFormat) -> Iterator[_Row | _BadRow]:
    """The rows of a table below its header. Blank lines are no rows."""
    with _open(path, form) as file:
        rows = _parse(file, path, form)
        if form.has_header:
            next(rows, None)
        yield from rows


def _parse(file: TextIO, path: str, form: TextFormat) -> Iterator[_Row | _BadRow]:
    ending = _ending(path)
    quotechar = _quotechar(path, form)
    dialect: dict[str, Any] = {"delimiter": form.delimiter or DELIMITERS[ending]}
    dialect |= {"quoting": csv.QUOTE_NONE} if quotechar == "none" else {"quotechar": quotechar}
    lines: list[str] = []  # of the row that is being read
    reader = csv.reader((lines.append(line) or line for line in file), strict=True, **dialect)
    with _large_fields():
        while True:
            start = reader.line_num + 1
            lines.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # Words behind a quotation mark that closes belong to the field. A mark that never closes is an error.
                fields = [] if "unexpected end" in str(error) else next(csv.reader(lines, **dialect), [])
                if not fields:
                    yield _BadRow(start, str(error), max(1, len(lines)))
            if fields:
                yield _Row(start, fields)


def _quotechar(path: str, form: TextFormat) -> str:
    return form.quotechar or ('"' if _ending(path) == "csv" else "none")


@contextmanager
def _large_fields() -> Iterator[None]:
    """A field may be as long as a file: `csv` refuses more than 131,072 characters by default."""
    largest = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(largest)


def _columns_of(path: str, form: TextFormat) -> list[str]:
    """
    The names of a table's columns.

    Raises:
        ValueError: for a first line that is no header, and for columns that another delimiter would separate.
    """
    with _open(path, form) as file:
        rows = list(zip(range(_SAMPLE_LINES), _parse(file, path, form), strict=False))
    first = rows[0][1] if rows else None
    if not isinstance(first, _Row):
        raise ValueError(f"{path} has no first row that can be read. {_advice(path, form)}")
    columns = first.fields if form.has_header else _numbered(len(first.fields))
    if len(columns) == 1 and form.delimiter is None:
        other = _other_delimiter(path, form)
        if other is not None:
            raise ValueError(
                f"{path} has one column, {columns[0]!r}. Its lines look as if {other!r} separated them: give "
                f"--delimiter {'TAB' if other == chr(9) else repr(other)}."
            )
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise ValueError(f"{path} has several columns called {twice!r}. {_HEADER_ADVICE}")
    return columns


_HEADER_ADVICE = "If its first line is no header, give --no_header: the columns are then called 1, 2, ..."


def looks_like_text(column: str) -> bool:
    """Whether the name of a column is more likely a text, or a number, of a file without a header."""
    is_sentence = len(column.split()) > 3 or (" " in column and column.rstrip()[-1:] in ".!?")
    return is_sentence or re.fullmatch(r"[-+\d.,]+", column) is not None


def header_advice(columns: Sequence[str]) -> str:
    """What to do about columns whose names look like a row; empty if they do not."""
    # pandas counts columns without names from 0.
    are_numbered = list(columns) in (_numbered(len(columns)), _numbered(len(columns), start=0))
    return f" {_HEADER_ADVICE}" if not are_numbered and any(map(looks_like_text, columns)) else ""


def _numbered(count: int, start: int = 1) -> list[str]:
    """The names of columns of a table without a header."""
    return [str(number) for number in range(start, start + count)]


def _other_delimiter(path: str, form: TextFormat) -> str | None:
    """The character that separates the first lines into equally many fields, two or more, and is no letter of them."""
    with _open(path, form) as file:
        lines = [line for _, line in zip(range(_SAMPLE_LINES), file, strict=False) if line.strip()]
    with _large_fields():
        for other in (";", "\t", "|", ","):
            counts = {len(fields) for fields in csv.reader(lines, delimiter=other)}
            if len(lines) > 1 and len(counts) == 1 and counts.pop() > 1:
                return other
    return None


def _describe(path: str, row: _Row | _BadRow) -> str:
    place = f"line {row.line} of {Path(path).name}"
    if isinstance(row, _BadRow):
        return f"{place}: {row.reason}"
    text = " | ".join(row.fields)
    count = "1 field" if len(row.fields) == 1 else f"{len(row.fields)} fields"
    return f"{place} has {count}: {text[:60]!r}{'...' if len(text) > 60 else ''}"


def _advice(path: str, form: TextFormat) -> str:
    quotes = "--quotechar '\"' if fields are quoted"
    if _quotechar(path, form) != "none":
        quotes = "--quotechar none if quotation marks are letters"
    return (
        f"Give --delimiter if another character separates the fields, and {quotes}. A .txt has one text in each line."
    )


# -- how files are written -------------------------------------------------------------------------------------------


def _open(path: str, form: TextFormat, newline: str | None = "") -> TextIO:
    return _opener(path)(path, "rt", encoding=form.codec, newline=newline)


def _opener(path: str) -> Callable[..., Any]:
    return gzip.open if _is_packed(path) else open


def _is_packed(path: str) -> bool:
    return path.lower().endswith(".gz")


def _ending(path: str | Path) -> str:
    """The ending that tells what is in a file, without `.gz`."""
    name = Path(path).name.lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""


def _is_of_texts(path: Path) -> bool:
    """Whether a file of a folder is taken."""
    return path.is_file() and _has_name_of_texts(path)


def _has_name_of_texts(path: str | Path) -> bool:
    """Whether a name is of texts. Hidden files are not taken: systems keep their own things in them."""
    return not Path(path).name.startswith(".") and _ending(path) in ENDINGS


def _loader(path: str) -> str:
    ending = _ending(path)
    return LOADERS.get(ending, ending)


def _known_endings() -> str:
    return ", ".join(f".{ending}" for ending in ENDINGS)


def _key_of_rows(paths: list[str], columns: Sequence[str | None]) -> str | None:
    """
    The key under which JSON documents keep their rows. `None` for JSON lines, and for documents that are lists or
    rows.

    Raises:
        ValueError: for a document with rows under several keys, and for documents with different keys.
    """
    keys = {path: _key_of_document(path, columns) for path in paths}
    if len(set(keys.values())) > 1:
        found = ", ".join(f"{path} under {key!r}" for path, key in keys.items() if key is not None)
        raise ValueError(f"All files must keep their rows in the same place, got {found}, and others elsewhere.")
    return keys[paths[0]]


def _key_of_document(path: str, columns: Sequence[str | None]) -> str | None:
    if _ending(path) != "json":
        return None
    try:
        with _open(path, TextFormat()) as file:
            first = file.readline()
            if _is_json(first) and file.readline().strip():
                return None  # one row on each line
            file.seek(0)
            document = json.load(file)
    except json.JSONDecodeError:
        return None  # the loader says what is wrong
    wanted = {name.partition(".")[0] for name in columns if name is not None} or {"text"}
    if not isinstance(document, dict) or wanted & document.keys():
        return None
    keys = [key for key, rows in document.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
    if len(keys) > 1:
        raise ValueError(f"{path} has rows under several keys: {', '.join(keys)}. Keep one list of rows in a file.")
    return keys[0] if keys else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _wrong_encoding(paths: Sequence[str], form: TextFormat, error: UnicodeDecodeError) -> str:
    """The message for files that are not in the encoding that was asked for."""
    for path in paths:
        content = _sample(path)
        try:
            content.decode(form.encoding)
        except UnicodeDecodeError as own:
            if len(content) - own.start < 4:
                continue  # the sample cut a character in two
            likely = _likely_encoding(content)
            advice = (
                "No encoding fits: it may be no text."
                if likely is None
                else f"It may be {likely}: {_how_to_read(path, likely)}."
            )
            return f"{path} is not in {form.encoding} ({own.reason} at byte {own.start}). {advice}"
    return f"{name_files(paths)}: not in {form.encoding} ({error.reason}). Give --encoding."


def _how_to_read(path: str, encoding: str) -> str:
    if LOADERS.get(_ending(path)) == "json":
        return f"convert it, iconv -f {encoding} -t utf-8"
    return f"give --encoding {encoding}, and look at the texts"


def _likely_encoding(content: bytes) -> str | None:
    """The most likely encoding. The one of Western Europe wins where it is as likely as its neighbours."""
    matches = from_bytes(content)
    if any(_WESTERN in match.could_be_from_charset and match.chaos < _MAX_CHAOS for match in matches):
        return _WESTERN
    best = matches.best()
    return None if best is None else best.encoding.replace("_", "-")  # as iconv writes it


def _sample(path: str) -> bytes:
    """The bytes around the first ones that are not ASCII, since these tell encodings apart."""
    with _opener(path)(path, "rb") as file:
        content = file.read(_SAMPLE_BYTES)
        while content.isascii() and (more := file.read(_SAMPLE_BYTES)):
            content = more
    return content
