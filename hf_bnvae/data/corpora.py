# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Load corpora (the embedded default, files, the Hub), and turn their sentences into token ids."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import chain
from textwrap import shorten
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, LargeList, List, Value, load_dataset
from transformers.utils import logging

from ..model.condition_bnvae import TURN_SEPARATOR
from ..model.processing_bnvae import BNVAEProcessor
from ..utils.folders import require_writable
from .docstrings import docstring_sentences
from .text_files import are_tables, find_files, header_advice, read_files
from .text_format import TextFormat, name_files

logger = logging.get_logger(__name__)

TEXT = "text"
LABEL = "label"
CONDITION = "condition"

Files = str | Sequence[str]

# A warning names the unknown tokens of a tokenizer if they are more than this share of all.
MAX_UNKNOWN, _SHOWN_UNKNOWN = 0.01, 3
# The halves of a model, and where their token ids stand.
_HALVES = {"encoder": "input_ids", "decoder": "labels"}
_COUNTS = [f"{what}_{half}" for what in ("tokens", "unknown") for half in _HALVES]

# A condition of more texts than the first number is a category. With fewer conditions than the second number, all of
# them are categories.
MAX_TEXTS_OF_CONDITION, MIN_CONDITIONS = 100, 20

# Kinds of values, and how they are written. With zeros ahead, as 007, a label is a name.
_VALUES: dict[Callable[[str], Any], re.Pattern[str]] = {
    int: re.compile(r"[-+]?(0|[1-9]\d*)"),
    float: re.compile(r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?"),
    lambda label: label.lower() == "true": re.compile(r"true|false", re.IGNORECASE),
}


def load_texts(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    train_file: Files | None = None,
    validation_file: Files | None = None,
    text_column: str | None = None,
    validation_split_percentage: float = 10,
    drop_duplicates: bool = False,
    seed: int = 42,
    text_format: TextFormat | None = None,
    condition_column: str | None = None,
    **loading_kwargs: str,
) -> DatasetDict:
    """
    Load the texts for training and for evaluation. The log says how many texts are exact copies of others.

    Args:
        dataset_name, dataset_config_name (`str`, *optional*): A data set of the Hub, or a folder that `load_dataset`
            reads. It must have a split `train`. A split `validation` is used if there is one, otherwise `test`.
        train_file, validation_file (`str` or sequence of `str`, *optional*): Files instead: one text per line
            (`.txt`), tables (`.csv`, `.tsv`, `.parquet`) or JSON (`.json`, `.jsonl`), also with `.gz` after it. Each
            name is a file, a folder or a pattern, as in [`~data.text_files.find_files`]. Without files and without a
            name the function loads the embedded docstring corpus.
        text_column (`str`, *optional*): The column that holds the texts, or a field within a column (`data.body`).
            Required if there are several columns and none is called "text". A row may hold a list of texts.
        validation_split_percentage (`float`, *optional*, defaults to 10): Percentage of the training texts that is
            held out if there is no validation set. Distinct texts are drawn at random, at least two, and each with all
            its copies. So no text is in both sets. With conditions see [`split_texts`].
        drop_duplicates (`bool`, *optional*, defaults to `False`): Whether to keep only the first of equal texts in
            each set.
        seed (`int`, *optional*, defaults to 42): Seed of that draw.
        text_format ([`TextFormat`], *optional*): How the files are written: encoding, delimiter, header.
        condition_column (`str`, *optional*): The column that holds the condition of each text, for a conditional
            model: a text, a label, a number, or a list of turns, which `TURN_SEPARATOR` joins. All become texts.
        **loading_kwargs: Passed to `load_dataset`, such as `revision` or `token`.

    Returns:
        `DatasetDict`: `train` and `validation`, each with the column `text`, and with `condition` if there are
        conditions. The function drops empty texts and texts without a condition, and logs how many.

    Raises:
        ValueError: for a missing file or column, files that cannot be read, a set without texts, or a cache that
            cannot be written to.
    """
    _require_cache()
    if dataset_name is not None and (train_file is not None or validation_file is not None):
        raise ValueError("Give either dataset_name or train_file and validation_file, not both.")
    if dataset_name is not None:
        loaded = load_dataset(dataset_name, dataset_config_name, **loading_kwargs)
        splits = {"train": loaded.get("train"), "validation": loaded.get("validation", loaded.get("test"))}
        if splits["train"] is None:
            raise ValueError(f"{dataset_name!r} has no split 'train'; its splits: {', '.join(loaded)}.")
        splits = {
            name: _text_column(split, text_column, name, condition_column=condition_column)
            for name, split in splits.items()
            if split is not None
        }
    elif train_file is not None or validation_file is not None:
        if train_file is None:
            raise ValueError("validation_file was given without train_file.")
        for names in filter(None, (train_file, validation_file)):
            find_files(names)  # before any is read
        columns = (text_column, None, condition_column)
        splits = {"train": _load_files(train_file, *columns, text_format)}
        if validation_file is not None:
            splits["validation"] = _load_files(validation_file, *columns, text_format)
    elif condition_column is not None:
        raise ValueError("The embedded docstrings have no conditions. Give condition_column with texts of your own.")
    else:
        splits = {"train": Dataset.from_dict({TEXT: docstring_sentences()})}

    splits = {name: drop_empty_texts(split, name) for name, split in splits.items()}
    if drop_duplicates:
        splits = {name: keep_first_copies(split) for name, split in splits.items()}
    texts = (
        DatasetDict(splits)
        if "validation" in splits
        else split_texts(splits["train"], validation_split_percentage, seed)
    )
    for note in notes_on_copies(texts):
        logger.warning(note)
    conditions = texts["train"].unique(CONDITION) if condition_column is not None else []
    if len(conditions) == 1:
        logger.warning(
            f"All training texts have the same condition, {shorten(conditions[0], 60)!r}. A model learns nothing from "
            f"it. Is {condition_column!r} the column of the conditions?"
        )
    return texts


def split_texts(dataset: Dataset, validation_split_percentage: float, seed: int) -> DatasetDict:
    """
    Hold texts out. Without conditions, no text is in both sets.

    With conditions, no condition is in both sets: all of its texts are on one side. Only a condition that is a
    category, such as `"negative"`, is on both sides, with different texts. A condition counts as a category if it has
    more than 100 texts. If there are fewer than 20 conditions, all of them do.

    Args:
        dataset (`Dataset`): The texts, in a column `text`, and conditions, if there are any, in a column `condition`.
        validation_split_percentage (`float`): Percentage of the distinct texts, or of the conditions, that is held
            out, at least two.
        seed (`int`): Seed of the draw.

    Returns:
        `DatasetDict`: `train` and `validation`.

    Raises:
        ValueError: if fewer than two distinct texts or conditions are left for training.
    """
    rows: dict[Hashable, list[int]] = {}
    key_of = _key_of_split(dataset)
    for row, entry in enumerate(_entries(dataset)):
        rows.setdefault(key_of(*entry), []).append(row)
    held_out = max(2, round(len(rows) * validation_split_percentage / 100))
    if len(rows) < held_out + 2:
        distinct = "" if len(rows) == len(dataset) else " distinct"
        what = "text" if all(isinstance(key, str) for key in rows) else "condition"
        texts = f"{what} is" if len(rows) == 1 else f"{what}s are"
        raise ValueError(
            f"{len(rows)}{distinct} {texts} too few: {held_out} are held out for validation and at least two are "
            "needed for training."
        )
    firsts = dataset.select([copies[0] for copies in rows.values()])
    halves = firsts.train_test_split(test_size=held_out, seed=seed)
    if len(rows) < len(dataset):
        chosen = {
            name: [row for entry in _entries(half) for row in rows[key_of(*entry)]] for name, half in halves.items()
        }
        # Copies must not be neighbours: parts of a set are its first texts.
        halves = DatasetDict({name: dataset.select(chosen[name]).shuffle(seed=seed) for name in chosen})
    return DatasetDict(train=halves["train"], validation=halves["test"])


def _entries(dataset: Dataset) -> Iterator[tuple[str, ...]]:
    """Each text, with its condition if there are any. Read in batches: row by row takes 20 times as long."""
    names = [name for name in (TEXT, CONDITION) if name in dataset.column_names]
    for batch in dataset.select_columns(names).iter(1000):
        yield from zip(*(batch[name] for name in names), strict=True)


def _key_of_split(dataset: Dataset) -> Callable[..., Hashable]:
    """What stays on one side of a split, from a text and its condition: the condition, or the text."""
    if CONDITION not in dataset.column_names:
        return lambda text: text
    counts = Counter(dataset[CONDITION][:])
    if len(counts) < MIN_CONDITIONS:
        return lambda text, condition: text
    return lambda text, condition: text if counts[condition] > MAX_TEXTS_OF_CONDITION else (condition,)


def keep_first_copies(dataset: Dataset) -> Dataset:
    """Drop the texts of `dataset` that are exact copies of earlier ones, and log how many. A copy has the same
    condition, if there are any."""
    firsts: dict[Hashable, int] = {}
    for row, entry in enumerate(_entries(dataset)):
        firsts.setdefault(entry, row)
    if len(firsts) == len(dataset):
        return dataset
    logger.warning(f"Dropped {len(dataset) - len(firsts)} of {len(dataset)} texts: exact copies of others.")
    return dataset.select(list(firsts.values()))


def notes_on_copies(texts: Mapping[str, Dataset]) -> list[str]:
    """Sentences that say how many texts are exact copies of others. A copy has the same condition, if there are any.

    Args:
        texts (mapping): Sets of texts by their names. The texts of `validation` are also looked for in `train`.
    """
    distinct = {name: set(_entries(dataset)) for name, dataset in texts.items()}
    notes = [
        f"{len(dataset) - len(distinct[name])} of {len(dataset)} {name} texts are exact copies of others."
        for name, dataset in texts.items()
        if len(distinct[name]) < len(dataset)
    ]
    shared = distinct.get("train", set()) & distinct.get("validation", set())
    if shared:
        copies = sum(entry in shared for entry in _entries(texts["validation"]))
        notes.append(
            f"{copies} of {len(texts['validation'])} validation texts are among the training texts too, so the "
            "figures are better than those of new texts would be."
        )
    return notes


def load_text_set(
    file: Files | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str = "test",
    text_column: str | None = None,
    label_column: str | None = None,
    text_format: TextFormat | None = None,
    condition_column: str | None = None,
    **loading_kwargs: str,
) -> Dataset:
    """
    Load one set of texts, with labels if you ask for them, in the order of the file or split.

    Args:
        file (`str` or sequence of `str`, *optional*): Files as in [`load_texts`].
        dataset_name, dataset_config_name (`str`, *optional*): Instead of a file: a data set of the Hub, or a folder
            that `load_dataset` reads.
        dataset_split (`str`, *optional*, defaults to `"test"`): The split, or a slice such as `"train[:1000]"`.
        text_column (`str`, *optional*): As in [`load_texts`].
        label_column (`str`, *optional*): The column that holds the labels, of any type. A `ClassLabel` becomes the
            name of its class. Its value -1, which stands for no label, becomes `None`. In a table whose fields are
            text, labels that all are numbers or truth values become such values.
        text_format ([`TextFormat`], *optional*): How the files are written: encoding, delimiter, header.
        condition_column (`str`, *optional*): As in [`load_texts`].
        **loading_kwargs: Passed to `load_dataset`, such as `revision` or `token`.

    Returns:
        `Dataset`: The column `text`, and the columns `label` and `condition` if `label_column` and `condition_column`
        are given. The function drops empty texts and texts without a condition, and logs how many.

    Raises:
        ValueError: if both or neither of `file` and `dataset_name` are given; for a missing file, split or column,
            files that cannot be read, or a set without texts.
    """
    if (file is None) == (dataset_name is None):
        raise ValueError("Give either a file or dataset_name.")
    _require_cache()
    if file is not None:
        found = _load_files(file, text_column, label_column, condition_column, text_format)
        return drop_empty_texts(found, name_files(file))
    name = f"{dataset_name} ({dataset_split})"
    loaded = load_dataset(dataset_name, dataset_config_name, split=dataset_split, **loading_kwargs)
    return drop_empty_texts(_text_column(loaded, text_column, name, label_column, condition_column), name)


def drop_empty_texts(dataset: Dataset, name: str) -> Dataset:
    """Drop the texts of `dataset` that are empty, only whitespace, or missing, and texts whose condition is missing.
    Log how many.

    Raises:
        ValueError: if no text is left.
    """
    if CONDITION in dataset.column_names:
        given = dataset.filter(lambda condition: condition is not None, input_columns=CONDITION)
        if len(given) < len(dataset):
            logger.warning(
                f"Dropped {len(dataset) - len(given)} of {len(dataset)} entries of the {name} set: their condition is "
                "missing. An empty text is a condition, too."
            )
        if len(given) == 0:
            raise ValueError(f"The {name} set holds no condition: all of its {len(dataset)} entries lack one.")
        dataset = given
    kept = dataset.filter(lambda text: isinstance(text, str) and bool(text.strip()), input_columns=TEXT)
    dropped = len(dataset) - len(kept)
    if len(kept) == 0:
        kinds = {type(value).__name__ for value in dataset[TEXT][:]} - {"NoneType", "str"}
        why = f"empty or not a text ({', '.join(sorted(kinds))})" if kinds else "empty"
        raise ValueError(f"The {name} set holds no text: all of its {len(dataset)} entries are {why}.")
    if dropped:
        logger.warning(
            f"Dropped {dropped} of {len(dataset)} entries of the {name} set: empty, only whitespace, or not a text."
        )
    return kept


def tokenize_texts(
    dataset: Dataset, processor: BNVAEProcessor, name: str = "data", num_proc: int | None = None
) -> Dataset:
    """
    Tokenise each text to `input_ids`, `attention_mask` and `labels`, and with its condition also to `condition_ids`;
    `datasets` caches the result.

    The function drops empty texts and cuts texts that are too long. It logs how many.

    Args:
        dataset (`Dataset`): A data set with a column `text`, and a column `condition` for a conditional model.
        processor ([`BNVAEProcessor`]): The processor.
        name (`str`, *optional*, defaults to `"data"`): The name of the set in messages.
        num_proc (`int`, *optional*): Number of processes.
    """
    dataset = drop_empty_texts(dataset, name)
    tokenized = dataset.map(
        lambda batch: _tokenize_batch(batch[TEXT], processor, batch.get(CONDITION)),
        batched=True,
        remove_columns=dataset.column_names,
        num_proc=num_proc,
        desc=f"Tokenizing {name} set",
    )
    has_conditions = CONDITION in dataset.column_names
    counts = {
        column: tokenized.with_format("numpy")[column][:]
        for column in ("truncated", *_COUNTS, *(["condition_truncated"] if has_conditions else []))
    }
    cut = counts["truncated"]
    if has_conditions:
        _warn_of_cut_conditions(counts["condition_truncated"], cut, name)
    elif cut.any():
        kept = max(counts[f"tokens_{half}"].sum() for half in _HALVES)
        limits = (processor.encoder_tokenizer.model_max_length, processor.tokenizer.model_max_length - 1)
        # The latent takes one of the decoder's positions.
        needed = (cut + np.maximum(counts["tokens_encoder"], counts["tokens_decoder"] + 1)).max()
        logger.warning(
            f"{(cut > 0).sum()} of {len(tokenized)} texts of the {name} set were cut, and "
            f"{cut.sum() / (cut.sum() + kept):.0%} of all tokens with them: they are longer than the model has "
            f"positions for (encoder: {limits[0]} tokens, decoder: {limits[1]}). A model from scratch keeps "
            f"them whole with --max_seq_length {needed}."
        )
    for half in _HALVES:
        unknown, total = counts[f"unknown_{half}"], counts[f"tokens_{half}"].sum()
        if unknown.sum() > MAX_UNKNOWN * total:
            worst = unknown.argsort(kind="stable")[::-1][:_SHOWN_UNKNOWN]
            shown = ", ".join(repr(shorten(dataset[int(row)][TEXT], 40, placeholder="...")) for row in worst)
            logger.warning(
                f"{unknown.sum() / total:.0%} of all tokens of the {name} set are unknown to the {half}'s tokenizer, "
                f"for example in {shown}. Choose networks for the language of your texts."
            )
    return tokenized.remove_columns(list(counts))


def _warn_of_cut_conditions(conditions: np.ndarray, texts: np.ndarray, name: str) -> None:
    """Say how many conditions and texts were cut, from the number of tokens that each lost."""
    if not (conditions.any() or texts.any()):
        return
    logger.warning(
        f"Of {len(texts)} entries of the {name} set, {(conditions > 0).sum()} lost the beginning of their condition "
        f"({conditions.sum()} tokens in all) and {(texts > 0).sum()} the end of their text ({texts.sum()} tokens). A "
        "condition has at most half of the model's positions, and its text has the rest. A model from scratch has "
        "more of them with a larger --max_seq_length."
    )


def _tokenize_batch(
    texts: list[str], processor: BNVAEProcessor, conditions: list[str] | None = None
) -> dict[str, list[Any]]:
    """The processor's features, and for each text how many tokens were cut, how many each half has, and how many of
    them it does not know."""
    features = dict(processor(texts, return_truncated=True, condition=conditions))
    tokenizers = {"encoder": processor.encoder_tokenizer, "decoder": processor.tokenizer}
    for half, column in _HALVES.items():
        tokenizer = tokenizers[half]
        # GPT-2 calls its EOS the unknown token. It ends each text, and nothing is unknown to byte-level tokenizers.
        unknown = None if tokenizer.unk_token_id == tokenizer.eos_token_id else tokenizer.unk_token_id
        features[f"tokens_{half}"] = list(map(len, features[column]))
        features[f"unknown_{half}"] = [ids.count(unknown) for ids in features[column]]
    return features


def corpus_hash(dataset: Dataset) -> str:
    """SHA-256 of the texts in their order, each with its condition, if there are any. Results carry it, so that a
    reader knows their corpus."""
    return texts_hash(chain.from_iterable(_entries(dataset)))


def texts_hash(texts: Iterable[str]) -> str:
    """SHA-256 of texts in their order, the same as [`corpus_hash`]."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _require_cache() -> None:
    require_writable(datasets.config.HF_DATASETS_CACHE, "The cache of texts", "Set HF_HOME to another folder.")


def _load_files(
    names: Files,
    text_column: str | None,
    label_column: str | None,
    condition_column: str | None,
    text_format: TextFormat | None,
) -> Dataset:
    dataset = read_files(names, (text_column, label_column, condition_column), text_format)
    found = _text_column(dataset, text_column, name_files(names), label_column, condition_column)
    if label_column is None or not are_tables(names):
        return found
    return Dataset.from_dict(found.to_dict() | {LABEL: _as_values(found[LABEL][:])})


def find_text_column(
    dataset: Dataset, text_column: str | None, name: str, others: Sequence[str] = ()
) -> tuple[Dataset, str]:
    """
    The column that holds the texts.

    Args:
        dataset (`Dataset`): The rows.
        text_column (`str`, *optional*): As in [`load_texts`].
        name (`str`): What messages call the rows.
        others (sequence of `str`, *optional*): Columns that are wanted too and hold no texts. Each column that is
            wanted may be a field within a column (`data.body`).

    Returns:
        `tuple`: The rows, in which fields within columns are columns if one of them is wanted, and the column's name.

    Raises:
        ValueError: if there is no such column, or none is called "text" among several.
    """
    missing = [column for column in (text_column, *others) if column and column not in dataset.column_names]
    if any("." in column for column in missing):
        dataset = dataset.flatten()
    columns = dataset.column_names
    chosen = text_column
    if chosen is None:
        left = [column for column in columns if column not in others]
        chosen = TEXT if TEXT in left else left[0] if len(left) == 1 else None
    if chosen not in columns:
        what = "has several columns and none is called 'text'" if chosen is None else f"has no column {chosen!r}"
        raise ValueError(
            f"{name} {what}. Its columns: {', '.join(dataset.flatten().column_names)}. Choose one with text_column."
            f"{header_advice(columns)}"
        )
    if text_column is None and chosen != TEXT and header_advice([chosen]):
        raise ValueError(
            f"The only column of {name} is called {chosen!r}, which looks like a text.{header_advice([chosen])} If it "
            "is a name, choose it with text_column."
        )
    return dataset, chosen


def _text_column(
    dataset: Dataset,
    text_column: str | None,
    name: str,
    label_column: str | None = None,
    condition_column: str | None = None,
) -> Dataset:
    """`dataset` with few columns only: its texts as "text", and if wanted its labels as "label" and its conditions as
    "condition"."""
    wanted = {LABEL: label_column, CONDITION: condition_column}
    wanted = {kind: column for kind, column in wanted.items() if column is not None}
    dataset, chosen = find_text_column(dataset, text_column, name, list(wanted.values()))
    columns = dataset.column_names
    for kind, column in wanted.items():
        if column not in columns:
            raise ValueError(
                f"{name} has no column {column!r}. Its columns: {', '.join(columns)}. Choose one with {kind}_column."
            )
        if column == chosen:
            raise ValueError(f"The column {chosen!r} of {name} cannot hold both texts and {kind}s.")
    dataset = with_class_names(dataset, list(wanted.values()))
    if condition_column is not None or isinstance(dataset.features[chosen], (List, LargeList)):
        dataset = _one_text_a_row(dataset, chosen, wanted, name)
        chosen, wanted = TEXT, {kind: kind for kind in wanted}
    if LABEL not in wanted:
        dataset = dataset.select_columns([chosen, *wanted.values()])
        return dataset if chosen == TEXT else dataset.rename_column(chosen, TEXT)
    conditions = {CONDITION: dataset[CONDITION][:]} if CONDITION in wanted else {}
    return Dataset.from_dict({TEXT: dataset[chosen][:], LABEL: dataset[wanted[LABEL]][:], **conditions})


def with_class_names(dataset: Dataset, columns: Sequence[str]) -> Dataset:
    """
    The data set with the names of classes instead of their numbers.

    Args:
        dataset (`Dataset`): The rows.
        columns (sequence of `str`): Columns, of any kind. A `ClassLabel`, or a list of them, becomes names. The number
            -1, which stands for no class, becomes `None`.
    """
    for column in columns:
        kind = dataset.features[column]
        is_list = isinstance(kind, (List, LargeList))
        classes = kind.feature if is_list else kind
        if not isinstance(classes, ClassLabel):
            continue
        names = Value("string")
        dataset = dataset.map(
            lambda values, column=column, classes=classes: {column: [_class_names(classes, one) for one in values]},
            input_columns=column,
            batched=True,
            features=Features({**dataset.features, column: List(names) if is_list else names}),
        )
    return dataset


def _class_names(classes: ClassLabel, value: Any) -> Any:
    """The name of a class, or the names of a list of classes."""
    if isinstance(value, list):
        return [_class_names(classes, one) for one in value]
    return None if value is None or value < 0 else classes.int2str(value)


def _one_text_a_row(dataset: Dataset, text_column: str, wanted: Mapping[str, str], name: str) -> Dataset:
    """A row for each text, where rows may hold lists of texts: "text" and the `wanted` columns under their new names.
    Conditions become texts. Of a row with an empty list one row without a text is left, to be counted."""
    kinds = {kind: dataset.features[column] for kind, column in wanted.items()}
    kind = dataset.features[text_column]
    own = kind.feature if isinstance(kind, (List, LargeList)) else kind
    if not isinstance(own, Value) or own.dtype not in ("string", "large_string", "null"):
        raise ValueError(f"The column {text_column!r} of {name} holds no texts, but {kind}.")

    def spread(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = [(row or [None]) if isinstance(row, list) else [row] for row in batch[text_column]]
        found = {TEXT: [text for row in rows for text in row]}
        for kind, column in wanted.items():
            values = map(condition_of_value, batch[column]) if kind == CONDITION else batch[column]
            found[kind] = [value for value, row in zip(values, rows, strict=True) for _ in row]
        return found

    strings = {TEXT: Value("string"), CONDITION: Value("string")}
    return dataset.map(
        spread,
        batched=True,
        remove_columns=dataset.column_names,
        features=Features({TEXT: strings[TEXT], **{kind: strings.get(kind, kinds[kind]) for kind in wanted}}),
    )


def condition_of_value(value: Any) -> str | None:
    """
    The condition that an entry of a table means: a text, turns joined by `TURN_SEPARATOR`, a number or a date as it is
    written. Whole numbers have no decimal point: where one label is missing, tables hold the others as 1.0 and 2.0.
    `None` if the entry, or one of the turns, is missing. NaN is a missing number.

    Raises:
        ValueError: for anything else, such as messages that are mappings.
    """
    turns = value if isinstance(value, (list, tuple)) else [value]
    if any(turn is None or turn != turn for turn in turns):
        return None
    if not all(isinstance(turn, (str, bool, int, float, date)) for turn in turns):
        are_messages = any(isinstance(turn, Mapping) for turn in turns)
        raise ValueError(
            f"A condition must be a text, a label, a number, or a list of texts, got {shorten(repr(value), 80)}."
            f"{' Of messages that are mappings take the content.' if are_messages else ''}"
        )
    return TURN_SEPARATOR.join(map(_as_written, turns))


def _as_written(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # The reader of JSON takes dates for the beginnings of days.
    return str(value).removesuffix(" 00:00:00") if isinstance(value, date) else str(value)


def require_conditions(dataset: Dataset, column: str, name: str) -> None:
    """
    Refuse a column that holds no conditions. All its entries have one type, so the first one tells.

    Args:
        dataset (`Dataset`): The rows.
        column (`str`): The column.
        name (`str`): What messages call the rows.

    Raises:
        ValueError: for such a column.
    """
    for batch in dataset.select_columns(column).iter(1000):
        found = next((value for value in batch[column] if value is not None), None)
        if found is not None:
            try:
                condition_of_value(found)
            except ValueError as error:
                raise ValueError(f"The column {column!r} of {name} holds no conditions. {error}") from error
            return


def _as_values(labels: list[str]) -> list[Any]:
    """The labels of a table as numbers or truth values, if all of them are, and no two become one. Otherwise as they
    are."""
    for kind, pattern in _VALUES.items():
        if all(pattern.fullmatch(label) for label in labels):
            values = [kind(label) for label in labels]
            if len(set(values)) == len(set(labels)):
                return values
    return labels


def first_texts(dataset: Dataset, count: int | None, name: str) -> Dataset:
    """The first `count` texts, or all if `count` is `None`. The function logs a warning if it leaves texts out."""
    if count is None or len(dataset) <= count:
        return dataset
    if count < 2:
        raise ValueError(f"At least two {name} texts are needed, got a limit of {count}.")
    logger.warning(f"Using the first {count} of {len(dataset)} {name} texts.")
    return dataset.select(range(count))
