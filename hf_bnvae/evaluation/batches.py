# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Data of any kind as batches of sentences. Each sentence keeps its place in the data; each process gets its share of
the batches."""

import math
import reprlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from ..data.collator import BNVAEDataCollator
from ..data.corpora import CONDITION, TEXT
from ..model.processing_bnvae import BNVAEProcessor

_NEEDED = ("input_ids", "labels")


@dataclass(frozen=True)
class SentenceBatch:
    """
    Sentences that are neighbours in the data.

    Args:
        first (`int`): The place of the first sentence in the data.
        tensors (`dict[str, torch.Tensor]`): `input_ids`, `labels` and other inputs of the encoder, with one row for
            each sentence.
        texts (`list[str | None]`, *optional*): The texts in the tensors; `None` for a text that was cut. No list if
            the data are no texts.
    """

    first: int
    tensors: dict[str, torch.Tensor]
    texts: list[str | None] | None = None

    @property
    def indices(self) -> range:
        """The places of the sentences in the data."""
        return range(self.first, self.first + len(self.tensors["labels"]))


class SentenceBatches:
    """
    The batches of one process. All processes read the same data, and process `i` of `P` takes the batches `i`, `i +
    P`, and so on.

    Args:
        data: Ready batches (a `DataLoader` or another iterable of mappings of tensors), or sentences, from which
            batches are made here: strings, or the rows of a `Dataset` or `IterableDataset`, as texts or tokenised.
        processor ([`BNVAEProcessor`], *optional*): The model's processor. Ready batches do not need one.
        text_column (`str`, *optional*): The column of the texts. By default rows with `input_ids` and `labels` are
            tokenised, and all other rows have their texts in `text`.
        batch_size (`int`, *optional*, defaults to 64): Sentences of a batch that is made here.
        num_processes, process_index (`int`, *optional*): The number of processes, and the rank of this one.
        is_conditional (`bool`, *optional*, defaults to `False`): Whether each text has its condition beside it, in a
            column `condition`.

    Attributes, which are complete when all batches were taken:
        count (`int`): Sentences that this process has read, for itself or for other processes.
        checksum (`int`): A checksum of the sentences that were read, equal on all processes if they have read the same
            data. It is 0 if there is only one process.
        num_empty (`int`): Texts that were left out: empty, only whitespace, or missing. They have no place.
        num_cut (`int`): Texts in the batches of this process that were longer than the model has positions for.
        num_cut_conditions (`int`): The same of conditions, which may have half of the positions.

    Raises:
        ValueError: for other data, at once or when the first bad sentence is reached.
    """

    def __init__(
        self,
        data: Any,
        processor: BNVAEProcessor | None = None,
        text_column: str | None = None,
        batch_size: int = 64,
        num_processes: int = 1,
        process_index: int = 0,
        is_conditional: bool = False,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
        if isinstance(data, (DatasetDict, IterableDatasetDict)):
            raise ValueError(f"data holds several splits ({', '.join(data)}). Choose one, like data['validation'].")
        if isinstance(data, (str, Mapping)) or not isinstance(data, Iterable):
            raise ValueError(
                "data must be a data set, a list of texts, or an iterable of batches, got "
                f"{type(data).__name__}: {reprlib.repr(data)}. Put a single text or batch into a list."
            )
        if isinstance(data, (Dataset, IterableDataset)):
            data = data.with_format(None)  # plain numbers, whatever format the data set has
        self.processor, self.text_column, self.batch_size = processor, text_column, batch_size
        self.num_processes, self.process_index = num_processes, process_index
        self.is_conditional = is_conditional
        self.count = self.checksum = self.num_empty = self.num_cut = self.num_cut_conditions = 0
        try:
            size = len(data)
        except TypeError:
            size = None  # a stream
        elements = iter(data)
        head = list(islice(elements, 1))
        self._elements = chain(head, elements)
        self._kind = self._find_kind(head[0]) if head else "nothing"
        if size is not None:
            size = size if self._kind == "batches" else math.ceil(size / batch_size)
            size = len(range(process_index, size, num_processes))
        self.num_batches = size  # of this process, where it is known

    @property
    def are_ready(self) -> bool:
        """Whether the data are ready batches."""
        return self._kind == "batches"

    def _find_kind(self, first: Any) -> str:
        if isinstance(first, Mapping):
            if self.text_column is not None:
                kind = "rows"
            elif isinstance(first.get("input_ids"), torch.Tensor) and first["input_ids"].dim() == 2:
                return "batches"
            elif "input_ids" in first and ("labels" in first or TEXT not in first):
                kind = "tokens"
            else:
                kind = "rows"
        elif isinstance(first, str) or first is None:
            if self.is_conditional:
                raise ValueError(
                    "The model was trained with conditions, and data are texts without them. Give rows of a data set "
                    "with the columns text and condition, or tokenised sentences."
                )
            kind = "texts"
        else:
            raise ValueError(
                "data must hold texts, rows of a data set or batches, got an element of type "
                f"{type(first).__name__}: {reprlib.repr(first)}."
            )
        if self.processor is None:
            raise ValueError(
                f"data are {'tokenised sentences, which are padded' if kind == 'tokens' else 'texts, which are made'} "
                f"{'' if kind == 'tokens' else 'token ids '}by the model's processor, and there is none. Pass "
                "processor=BNVAEProcessor.from_pretrained(...), or batches of tensors."
            )
        return kind

    def __iter__(self) -> Iterator[SentenceBatch]:
        if self._kind == "batches":
            yield from self._ready_batches()
        elif self._kind != "nothing":
            yield from self._made_batches()

    def _ready_batches(self) -> Iterator[SentenceBatch]:
        for number, batch in enumerate(self._elements):
            _require_token_ids(batch, f"Batch {number}")
            tensors = {name: values for name, values in batch.items() if isinstance(values, torch.Tensor)}
            first, size = self.count, len(tensors["labels"])
            if len(tensors["input_ids"]) != size:
                raise ValueError(
                    f"Batch {number} has {len(tensors['input_ids'])} rows of input_ids and {size} of labels."
                )
            self.count += size
            self._add_to_checksum(tensors["labels"])
            if size and number % self.num_processes == self.process_index:
                yield SentenceBatch(first, tensors)

    def _made_batches(self) -> Iterator[SentenceBatch]:
        sentences = self._elements if self._kind == "tokens" else self._kept_texts()
        number = 0
        while batch := list(islice(sentences, self.batch_size)):
            first = self.count
            self.count += len(batch)
            is_own = number % self.num_processes == self.process_index
            number += 1
            if self._kind == "tokens":
                for index, row in enumerate(batch, first):
                    _require_token_ids(row, f"Sentence {index}")
                    self._add_to_checksum(row["labels"])
                if is_own:
                    yield SentenceBatch(first, self._collate(batch))
                continue
            self._add_to_checksum(batch)
            if is_own:
                conditions = None
                if self.is_conditional:
                    batch, conditions = map(list, zip(*batch, strict=True))
                encoded = self.processor(batch, return_truncated=True, condition=conditions)
                cut = encoded.pop("truncated")
                self.num_cut_conditions += sum(map(bool, encoded.pop("condition_truncated", ())))
                self.num_cut += sum(map(bool, cut))
                rows = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
                texts = [None if was_cut else text for text, was_cut in zip(batch, cut, strict=True)]
                yield SentenceBatch(first, self._collate(rows), texts)

    def _collate(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return BNVAEDataCollator(self.processor)(rows)

    def _kept_texts(self) -> Iterator[str | tuple[str, str]]:
        """The texts that are not empty, with their conditions if there are any."""
        for element in self._elements:
            text = element
            if self._kind == "rows":
                column = self.text_column or TEXT
                if not isinstance(element, Mapping) or column not in element:
                    columns = ", ".join(element) if isinstance(element, Mapping) else type(element).__name__
                    raise ValueError(
                        f"data have no column {column!r}. Their columns: {columns}. Choose that of the texts with "
                        "text_column, or give tokenised sentences: input_ids, attention_mask and labels."
                    )
                text = element[column]
                if self.is_conditional and not isinstance(element.get(CONDITION), str):
                    raise ValueError(
                        "The model was trained with conditions, so each row of data needs a text in its column "
                        f"{CONDITION!r}, got {reprlib.repr(element.get(CONDITION))}. It may be empty."
                    )
            if text is not None and not isinstance(text, str):
                raise ValueError(f"data must hold texts, got {type(text).__name__}: {reprlib.repr(text)}.")
            if text is None or not text.strip():
                self.num_empty += 1
            else:
                yield (text, element[CONDITION]) if self.is_conditional else text

    def _add_to_checksum(self, content: Any) -> None:
        if self.num_processes > 1:
            values = content.flatten().tolist() if isinstance(content, torch.Tensor) else content
            self.checksum = zlib.crc32(repr(values).encode("utf-8", "surrogatepass"), self.checksum)


def _require_token_ids(sentences: Any, name: str) -> None:
    """Refuse sentences without the token ids of one of the two networks."""
    found = list(sentences) if isinstance(sentences, Mapping) else []
    missing = [needed for needed in _NEEDED if needed not in found]
    if missing:
        raise ValueError(
            f"{name} lacks {' and '.join(missing)}; it has {', '.join(found) or type(sentences).__name__}. An "
            "evaluation needs input_ids for the encoder and labels for the decoder, as BNVAEProcessor makes both of "
            "texts."
        )
