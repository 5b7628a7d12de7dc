# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Corpora: from the embedded default, files or the Hub to sentences, and from sentences to token ids."""

import glob
import hashlib
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
    seed: int = 42,
    **loading_kwargs: str,
) -> DatasetDict:
    """
    The texts to train on and to evaluate with.

    Args:
        dataset_name, dataset_config_name (`str`, *optional*): A data set of the Hub, or a folder that `load_dataset`
            reads. Its split `train` is needed, `validation` (or else `test`) used where it is there.
        train_file, validation_file (`str`, *optional*): Files instead: one text a line (`.txt`), a table (`.csv`,
            `.tsv`) or JSON lines (`.json`, `.jsonl`). With neither these nor a name: the embedded docstring corpus.
        text_column (`str`, *optional*): The column that holds the texts. Needed where there are several and none is
            called "text".
        validation_split_percentage (`float`, *optional*, defaults to 10): Share of the training texts, drawn at
            random, that is held out where there is no validation set; two texts at least.
        seed (`int`, *optional*, defaults to 42): Seed of that draw.
        **loading_kwargs: For `load_dataset`, such as `revision` or `token`.

    Returns:
        `DatasetDict`: `train` and `validation`, each with the one column `text`. Empty texts are dropped, and that is
        said.

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
    if "validation" not in splits:
        held_out = max(2, round(len(splits["train"]) * validation_split_percentage / 100))
        if len(splits["train"]) < held_out + 2:
            raise ValueError(
                f"{len(splits['train'])} texts are too few: {held_out} are held out for validation and at least two "
                "are needed for training."
            )
        halves = splits["train"].train_test_split(test_size=held_out, seed=seed)
        splits = {"train": halves["train"], "validation": halves["test"]}
    return DatasetDict(splits)


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
    One set of texts, with their labels where these are asked for, in the order of the file or split.

    Args:
        file (`str`, *optional*): A file as in [`load_texts`].
        dataset_name, dataset_config_name (`str`, *optional*): A data set of the Hub, or a folder that `load_dataset`
            reads, instead.
        dataset_split (`str`, *optional*, defaults to `"test"`): Its split; slices such as `"train[:1000]"` too.
        text_column (`str`, *optional*): As in [`load_texts`].
        label_column (`str`, *optional*): The column that holds the labels, of any type. Those of a `ClassLabel` become
            the names of their classes, and its -1, which stands for no label, `None`.
        **loading_kwargs: For `load_dataset`, such as `revision` or `token`.

    Returns:
        `Dataset`: With the column `text`, and `label` where there is a `label_column`. Empty texts are dropped, and
        that is said.

    Raises:
        ValueError: for both or neither of file and name, a missing file, split or column, an unknown file ending, or a
            set without texts.
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
    """The texts of `dataset` that are not empty, only whitespace, or missing. How many were dropped is logged.

    Raises:
        ValueError: if none is left.
    """
    kept = dataset.filter(lambda text: isinstance(text, str) and bool(text.strip()), input_columns=TEXT)
    dropped = len(dataset) - len(kept)
    if len(kept) == 0:
        kind = next((type(value).__name__ for value in dataset[TEXT] if value is not None), "nothing")
        raise ValueError(
            f"The {name} set holds no text: all of its {len(dataset)} entries are empty or no text ({kind})."
        )
    if dropped:
        logger.warning(
            f"Dropped {dropped} of {len(dataset)} entries of the {name} set: empty, only whitespace, or no text."
        )
    return kept


def tokenize_texts(
    dataset: Dataset, processor: BNVAEProcessor, name: str = "data", num_proc: int | None = None
) -> Dataset:
    """
    `input_ids`, `attention_mask` and `labels` for each text, cached by `datasets`. Empty texts are dropped; how many
    were, and how many were cut, is logged.

    Args:
        dataset (`Dataset`): With a column `text`.
        processor ([`BNVAEProcessor`]): The processor.
        name (`str`, *optional*, defaults to `"data"`): What to call the set in messages.
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
            f"{truncated} of {len(tokenized)} texts of the {name} set are longer than the model has positions for and "
            f"were cut (encoder: {processor.encoder_tokenizer.model_max_length} tokens, decoder: "
            f"{processor.tokenizer.model_max_length - 1})."
        )
    return tokenized.remove_columns("truncated")


def corpus_hash(dataset: Dataset) -> str:
    """SHA-256 of the texts in their order, so that results can name the corpus that they belong to."""
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
    # A cell that says "NA" or "null" is a text as any other; only an empty one is missing.
    table = {"csv": {"keep_default_na": False}, "tsv": {"keep_default_na": False, "sep": "\t"}}.get(ending, {})
    try:
        return load_dataset(FILE_LOADERS[ending], data_files=glob.escape(path), split="train", **table)
    except DatasetGenerationError as error:
        raise ValueError(f"{path} could not be read as .{ending}: {error.__cause__ or error}") from error


def _text_column(dataset: Dataset, text_column: str | None, name: str, label_column: str | None = None) -> Dataset:
    """`dataset` with its texts as the column "text", its labels, if asked for, as "label", and no others."""
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
    """The first `count` texts, all where that is `None`; that some were left out is said."""
    if count is None or len(dataset) <= count:
        return dataset
    if count < 2:
        raise ValueError(f"At least two {name} texts are needed, got a limit of {count}.")
    logger.warning(f"Using the first {count} of {len(dataset)} {name} texts.")
    return dataset.select(range(count))
