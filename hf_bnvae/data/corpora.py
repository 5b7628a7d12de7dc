# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Load corpora (the embedded default, files, the Hub), and turn their sentences into token ids."""

import glob
import hashlib
from collections.abc import Mapping
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers.utils import logging

from ..model.processing_bnvae import BNVAEProcessor
from .docstrings import docstring_sentences

logger = logging.get_logger(__name__)

TEXT = "text"
LABEL = "label"

# File endings and the loader of `datasets` that reads them.
FILE_LOADERS = {"txt": "text", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json"}


def load_texts(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    train_file: str | None = None,
    validation_file: str | None = None,
    text_column: str | None = None,
    validation_split_percentage: float = 10,
    drop_duplicates: bool = False,
    seed: int = 42,
    **loading_kwargs: str,
) -> DatasetDict:
    """
    Load the texts for training and for evaluation. The log says how many texts are exact copies of others.

    Args:
        dataset_name, dataset_config_name (`str`, *optional*): A data set of the Hub, or a folder that `load_dataset`
            reads. It must have a split `train`. A split `validation` is used if there is one, otherwise `test`.
        train_file, validation_file (`str`, *optional*): Files instead: one text per line (`.txt`), a table
            (`.csv`, `.tsv`) or JSON lines (`.json`, `.jsonl`). Without files and without a name the function loads the
            embedded docstring corpus.
        text_column (`str`, *optional*): The column that holds the texts. Required if there are several columns and
            none is called "text".
        validation_split_percentage (`float`, *optional*, defaults to 10): Percentage of the training texts that is
            held out if there is no validation set. Distinct texts are drawn at random, at least two, and each with all
            its copies. So no text is in both sets.
        drop_duplicates (`bool`, *optional*, defaults to `False`): Whether to keep only the first of equal texts in
            each set.
        seed (`int`, *optional*, defaults to 42): Seed of that draw.
        **loading_kwargs: Passed to `load_dataset`, such as `revision` or `token`.

    Returns:
        `DatasetDict`: `train` and `validation`, each with the one column `text`. The function drops empty texts and
        logs how many.

    Raises:
        ValueError: for a missing file or column, an unknown file ending, or a set without texts.
    """
    if dataset_name is not None and (train_file is not None or validation_file is not None):
        raise ValueError("Give either dataset_name or train_file and validation_file, not both.")
    if dataset_name is not None:
        loaded = load_dataset(dataset_name, dataset_config_name, **loading_kwargs)
        splits = {"train": loaded.get("train"), "validation": loaded.get("validation", loaded.get("test"))}
        if splits["train"] is None:
            raise ValueError(f"{dataset_name!r} has no split 'train'; its splits: {', '.join(loaded)}.")
        splits = {name: _text_column(split, text_column, name) for name, split in splits.items() if split is not None}
    elif train_file is not None or validation_file is not None:
        if train_file is None:
            raise ValueError("validation_file was given without train_file.")
        splits = {"train": _load_file(train_file, text_column)}
        if validation_file is not None:
            splits["validation"] = _load_file(validation_file, text_column)
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
    return texts


def split_texts(dataset: Dataset, validation_split_percentage: float, seed: int) -> DatasetDict:
    """
    Hold texts out, so that no text is in both sets.

    Args:
        dataset (`Dataset`): The texts, in a column `text`.
        validation_split_percentage (`float`): Percentage of the distinct texts that is held out, at least two texts.
        seed (`int`): Seed of the draw.

    Returns:
        `DatasetDict`: `train` and `validation`.

    Raises:
        ValueError: if fewer than two distinct texts are left for training.
    """
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(dataset[TEXT]):
        rows.setdefault(text, []).append(row)
    held_out = max(2, round(len(rows) * validation_split_percentage / 100))
    if len(rows) < held_out + 2:
        distinct = "" if len(rows) == len(dataset) else " distinct"
        raise ValueError(
            f"{len(rows)}{distinct} texts are too few: {held_out} are held out for validation and at least two are "
            "needed for training."
        )
    firsts = dataset.select([copies[0] for copies in rows.values()])
    halves = firsts.train_test_split(test_size=held_out, seed=seed)
    if len(rows) < len(dataset):
        chosen = {name: [row for text in half[TEXT] for row in rows[text]] for name, half in halves.items()}
        # Copies must not be neighbours: parts of a set are its first texts.
        halves = DatasetDict({name: dataset.select(chosen[name]).shuffle(seed=seed) for name in chosen})
    return DatasetDict(train=halves["train"], validation=halves["test"])


def keep_first_copies(dataset: Dataset) -> Dataset:
    """Drop the texts of `dataset` that are exact copies of earlier ones, and log how many."""
    firsts: dict[str, int] = {}
    for row, text in enumerate(dataset[TEXT]):
        firsts.setdefault(text, row)
    if len(firsts) == len(dataset):
        return dataset
    logger.warning(f"Dropped {len(dataset) - len(firsts)} of {len(dataset)} texts: exact copies of others.")
    return dataset.select(list(firsts.values()))


def notes_on_copies(texts: Mapping[str, Dataset]) -> list[str]:
    """Sentences that say how many texts are exact copies of others.

    Args:
        texts (mapping): Sets of texts by their names. The texts of `validation` are also looked for in `train`.
    """
    distinct = {name: set(dataset[TEXT]) for name, dataset in texts.items()}
    notes = [
        f"{len(dataset) - len(distinct[name])} of {len(dataset)} {name} texts are exact copies of others."
        for name, dataset in texts.items()
        if len(distinct[name]) < len(dataset)
    ]
    shared = distinct.get("train", set()) & distinct.get("validation", set())
    if shared:
        copies = sum(text in shared for text in texts["validation"][TEXT])
        notes.append(
            f"{copies} of {len(texts['validation'])} validation texts are among the training texts too, so the "
            "figures are better than those of new texts would be."
        )
    return notes


def load_text_set(
    file: str | None = None,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str = "test",
    text_column: str | None = None,
    label_column: str | None = None,
    **loading_kwargs: str,
) -> Dataset:
    """
    Load one set of texts, with labels if you ask for them, in the order of the file or split.

    Args:
        file (`str`, *optional*): A file as in [`load_texts`].
        dataset_name, dataset_config_name (`str`, *optional*): Instead of a file: a data set of the Hub, or a folder
            that `load_dataset` reads.
        dataset_split (`str`, *optional*, defaults to `"test"`): The split, or a slice such as `"train[:1000]"`.
        text_column (`str`, *optional*): As in [`load_texts`].
        label_column (`str`, *optional*): The column that holds the labels, of any type. A `ClassLabel` becomes the
            name of its class. Its value -1, which stands for no label, becomes `None`.
        **loading_kwargs: Passed to `load_dataset`, such as `revision` or `token`.

    Returns:
        `Dataset`: The column `text`, and the column `label` if `label_column` is given. The function drops empty texts
        and logs how many.

    Raises:
        ValueError: if both or neither of `file` and `dataset_name` are given; for a missing file, split or column, an
            unknown file ending, or a set without texts.
    """
    if (file is None) == (dataset_name is None):
        raise ValueError("Give either a file or dataset_name.")
    if file is not None:
        name, loaded = file, _read_file(file)
    else:
        name = f"{dataset_name} ({dataset_split})"
        loaded = load_dataset(dataset_name, dataset_config_name, split=dataset_split, **loading_kwargs)
    return drop_empty_texts(_text_column(loaded, text_column, name, label_column), name)


def drop_empty_texts(dataset: Dataset, name: str) -> Dataset:
    """Drop the texts of `dataset` that are empty, only whitespace, or missing, and log how many.

    Raises:
        ValueError: if no text is left.
    """
    kept = dataset.filter(lambda text: isinstance(text, str) and bool(text.strip()), input_columns=TEXT)
    dropped = len(dataset) - len(kept)
    if len(kept) == 0:
        kind = next((type(value).__name__ for value in dataset[TEXT] if value is not None), "nothing")
        raise ValueError(
            f"The {name} set holds no text: all of its {len(dataset)} entries are empty or not a text ({kind})."
        )
    if dropped:
        logger.warning(
            f"Dropped {dropped} of {len(dataset)} entries of the {name} set: empty, only whitespace, or not a text."
        )
    return kept


def tokenize_texts(
    dataset: Dataset, processor: BNVAEProcessor, name: str = "data", num_proc: int | None = None
) -> Dataset:
    """
    Tokenise each text to `input_ids`, `attention_mask` and `labels`; `datasets` caches the result.

    The function drops empty texts and cuts texts that are too long. It logs how many.

    Args:
        dataset (`Dataset`): A data set with a column `text`.
        processor ([`BNVAEProcessor`]): The processor.
        name (`str`, *optional*, defaults to `"data"`): The name of the set in messages.
        num_proc (`int`, *optional*): Number of processes.
    """
    dataset = drop_empty_texts(dataset, name)
    tokenized = dataset.map(
        lambda batch: dict(processor(batch[TEXT], return_truncated=True)),
        batched=True,
        remove_columns=dataset.column_names,
        num_proc=num_proc,
        desc=f"Tokenizing {name} set",
    )
    truncated = sum(tokenized["truncated"])
    if truncated:
        logger.warning(
            f"{truncated} of {len(tokenized)} texts of the {name} set were cut: they are longer than the model has "
            f"positions (encoder: {processor.encoder_tokenizer.model_max_length} tokens, decoder: "
            f"{processor.tokenizer.model_max_length - 1})."
        )
    return tokenized.remove_columns("truncated")


def corpus_hash(dataset: Dataset) -> str:
    """SHA-256 of the texts in their order. Results carry it, so that a reader knows their corpus."""
    digest = hashlib.sha256()
    for text in dataset[TEXT]:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _load_file(path: str, text_column: str | None) -> Dataset:
    return _text_column(_read_file(path), text_column, path)


def _read_file(path: str) -> Dataset:
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in FILE_LOADERS:
        raise ValueError(f"{path}: files must end in one of {', '.join('.' + e for e in FILE_LOADERS)}.")
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file.")
    if not Path(path).read_bytes().strip():
        raise ValueError(f"{path} is empty.")
    # A cell with "NA" or "null" is a text like any other. Only an empty cell is missing.
    table = {"csv": {"keep_default_na": False}, "tsv": {"keep_default_na": False, "sep": "\t"}}.get(ending, {})
    try:
        return load_dataset(FILE_LOADERS[ending], data_files=glob.escape(path), split="train", **table)
    except DatasetGenerationError as error:
        raise ValueError(f"{path} could not be read as .{ending}: {error.__cause__ or error}") from error


def _text_column(dataset: Dataset, text_column: str | None, name: str, label_column: str | None = None) -> Dataset:
    """`dataset` with two columns only: its texts as "text", and its labels, if wanted, as "label"."""
    columns = dataset.column_names
    chosen = text_column
    if chosen is None:
        others = [column for column in columns if column != label_column]
        chosen = TEXT if TEXT in others else others[0] if len(others) == 1 else None
    if chosen not in columns:
        what = "has several columns and none is called 'text'" if chosen is None else f"has no column {chosen!r}"
        raise ValueError(f"{name} {what}. Its columns: {', '.join(columns)}. Choose one with text_column.")
    if label_column is None:
        dataset = dataset.select_columns([chosen])
        return dataset if chosen == TEXT else dataset.rename_column(chosen, TEXT)
    if label_column not in columns:
        raise ValueError(
            f"{name} has no column {label_column!r}. Its columns: {', '.join(columns)}. Choose one with label_column."
        )
    if label_column == chosen:
        raise ValueError(f"The column {chosen!r} of {name} cannot hold both texts and labels.")
    kind, labels = dataset.features[label_column], dataset[label_column][:]
    if isinstance(kind, ClassLabel):
        labels = [None if label is None or label < 0 else kind.int2str(label) for label in labels]
    return Dataset.from_dict({TEXT: dataset[chosen][:], LABEL: labels})


def first_texts(dataset: Dataset, count: int | None, name: str) -> Dataset:
    """The first `count` texts, or all if `count` is `None`. The function logs a warning if it leaves texts out."""
    if count is None or len(dataset) <= count:
        return dataset
    if count < 2:
        raise ValueError(f"At least two {name} texts are needed, got a limit of {count}.")
    logger.warning(f"Using the first {count} of {len(dataset)} {name} texts.")
    return dataset.select(range(count))
