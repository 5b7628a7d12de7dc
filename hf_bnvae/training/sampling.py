# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The posterior batch: all sentences that share statistics.

The functions choose its sentences and cut them into the shares of processes and into micro-batches. Sentences and
noise of a posterior batch do not depend on the cut.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import gather
from torch.nn import functional as F
from torch.utils.data import Sampler
from transformers.utils import logging

from ..model.loss_bnvae import IGNORE_INDEX
from ..model.posterior_bnvae import SMALL_BATCH
from ..utils.random_state import mix_seeds, seeded_generator
from .training_args import BNVAETrainingArguments

logger = logging.get_logger(__name__)

# The number of texts that are compared, and the share of batches of one text from which on a warning is logged.
COMPARED_TEXTS = 10_000
MANY_BATCHES = 0.01


def posterior_batch_size(args: BNVAETrainingArguments) -> int:
    """The number of sentences of a posterior batch."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def warn_of_equal_texts(dataset: Any, args: BNVAETrainingArguments) -> None:
    """
    Warn if many posterior batches hold one and the same text only: its features do not vary, so the KL has no floor.

    Args:
        dataset (`datasets.Dataset`): Tokenised texts. Nothing is known of other kinds of data sets.
        args ([`BNVAETrainingArguments`]): The settings.
    """
    if not isinstance(dataset, datasets.Dataset) or "input_ids" not in dataset.column_names or len(dataset) == 0:
        return
    # Tensors of other formats are equal only to themselves.
    rows = dataset.with_format(None).select(range(0, len(dataset), math.ceil(len(dataset) / COMPARED_TEXTS)))[
        "input_ids"
    ]
    batch_size = posterior_batch_size(args)
    counts = Counter(map(tuple, rows))
    share = max(counts.values()) / counts.total()
    if share**batch_size > MANY_BATCHES:
        logger.warning_once(
            f"{share:.1%} of the training texts are the same text, so {share**batch_size:.0%} of the batches of "
            f"{batch_size} hold nothing else. Nothing varies in such a batch: its KL falls below the floor, and the "
            "latents of other texts mean nothing. Leave copies out (--drop_duplicates), or train on other texts."
        )


class PosteriorBatchSampler(Sampler[list[int]]):
    """
    The micro-batches of one process, as lists of indices.

    In each epoch the sentences are shuffled and cut into posterior batches. Each posterior batch is cut into one share
    per process, and each share into micro-batches.

    Which sentences share a posterior batch depends only on its size, the seed and the epoch. A batch of 32, eight
    micro-batches of 4, and two processes with 16 each have the same sentences. A last posterior batch that is not full
    is divided evenly, so that every process gets sentences and no sentence is used twice.

    Args:
        num_sentences (`int`): Size of the data set.
        batch_size (`int`): Sentences of a micro-batch.
        accumulation_steps (`int`, *optional*, defaults to 1): Micro-batches of a process in a posterior batch.
        num_processes, process_index (`int`, *optional*): The number of processes, and the index of this one.
        least (`int`, *optional*, defaults to 1): A last posterior batch with fewer sentences is skipped, unless it is
            the only one. A batch with fewer sentences than processes is skipped too.
        drop_last (`bool`, *optional*, defaults to `False`): Skip the last batch whenever it is not full.
        shuffle (`bool`, *optional*, defaults to `True`): Whether to shuffle.
        seed (`int`, *optional*, defaults to 0): Seed of the shuffling.

    Raises:
        ValueError: if there are fewer sentences than processes, or if `drop_last` leaves no batch.
    """

    def __init__(
        self,
        num_sentences: int,
        batch_size: int,
        accumulation_steps: int = 1,
        num_processes: int = 1,
        process_index: int = 0,
        least: int = 1,
        drop_last: bool = False,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if num_sentences < num_processes:
            raise ValueError(f"{num_sentences} sentences are too few to share out among {num_processes} processes.")
        self.num_sentences, self.batch_size = num_sentences, batch_size
        self.accumulation_steps, self.seed, self.shuffle = accumulation_steps, seed, shuffle
        self.num_processes, self.process_index = num_processes, process_index
        self.posterior_batch_size = batch_size * accumulation_steps * num_processes
        self.epoch = 0
        left_over = num_sentences % self.posterior_batch_size
        is_only = left_over == num_sentences
        too_few = left_over < num_processes or (left_over < least and not is_only)
        self.num_skipped = left_over if drop_last or too_few else 0
        if self.num_skipped == num_sentences:
            raise ValueError(
                f"{num_sentences} sentences do not fill one posterior batch of {self.posterior_batch_size}, "
                "and dataloader_drop_last=True drops incomplete batches. Use a smaller batch, or "
                "dataloader_drop_last=False."
            )

    def set_epoch(self, epoch: int) -> None:
        """From now on shuffle as in epoch `epoch`."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        indices = torch.arange(self.num_sentences)
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix_seeds(self.seed, self.epoch))
            indices = torch.randperm(self.num_sentences, generator=generator)
        for batch in indices[: self.num_sentences - self.num_skipped].split(self.posterior_batch_size):
            yield from divide_batch(batch, self.batch_size, self.num_processes, self.process_index)

    def __len__(self) -> int:
        """The number of micro-batches, which is the same for all processes."""
        full, left_over = divmod(self.num_sentences - self.num_skipped, self.posterior_batch_size)
        micro_batches = full * self.accumulation_steps
        return micro_batches + _num_parts(left_over, self.batch_size, self.num_processes)


def divide_batch(
    indices: torch.Tensor, batch_size: int, num_processes: int = 1, process_index: int = 0
) -> list[list[int]]:
    """
    The share of one process of a posterior batch, as micro-batches of nearly equal size.

    Every process has the same number of micro-batches.

    Args:
        indices (`torch.Tensor` of shape `(sentences,)`): The sentences, at least one for each process.
        batch_size (`int`): Sentences of a micro-batch. Some micro-batches have one more, if shares differ by one
            sentence and one share is too small for another micro-batch.
        num_processes, process_index (`int`, *optional*): The number of processes, and the index of this one.
    """
    share = indices.tensor_split(num_processes)[process_index]
    parts = _num_parts(len(indices), batch_size, num_processes)
    return [part.tolist() for part in share.tensor_split(parts)]


def _num_parts(num_sentences: int, batch_size: int, num_processes: int) -> int:
    greatest, least = math.ceil(num_sentences / num_processes), num_sentences // num_processes
    return min(math.ceil(greatest / batch_size), least)


def training_sampler(
    num_sentences: int, args: BNVAETrainingArguments, accumulation_steps: int, uses_batch: bool
) -> PosteriorBatchSampler:
    """
    The sampler of a training. It logs a warning if the last batch is skipped because it is too small to normalise by.

    Args:
        num_sentences (`int`): Size of the training set.
        args ([`BNVAETrainingArguments`]): The settings.
        accumulation_steps (`int`): The number of micro-batches of one process in a posterior batch.
        uses_batch (`bool`): Whether the posterior is normalised over the batch.
    """
    sampler = PosteriorBatchSampler(
        num_sentences,
        args.train_batch_size * args.gradient_accumulation_steps // accumulation_steps,
        accumulation_steps=accumulation_steps,
        num_processes=args.world_size,
        process_index=args.process_index,
        least=SMALL_BATCH if uses_batch else 1,
        drop_last=args.dataloader_drop_last,
        shuffle=args.train_sampling_strategy != "sequential",
        seed=args.seed if args.data_seed is None else args.data_seed,
    )
    if sampler.num_skipped and not args.dataloader_drop_last:
        logger.warning_once(
            f"The last batch of an epoch would have {sampler.num_skipped} sentence{'s' * (sampler.num_skipped > 1)}, "
            "too few to normalise by, so it is skipped. In each epoch other sentences, drawn at random, are left over."
        )
    return sampler


def statistics_batches(
    num_sentences: int, args: BNVAETrainingArguments, num_batches: int | None = None
) -> list[list[int]]:
    """
    Micro-batches of the sentences from which this process recomputes running statistics.

    Args:
        num_sentences (`int`): Size of the training set.
        args ([`BNVAETrainingArguments`]): The settings.
        num_batches (`int`, *optional*): Draw the sentences of this number of posterior batches at random; all
            sentences if not given.
    """
    indices = torch.randperm(num_sentences, generator=torch.Generator().manual_seed(args.seed))
    if num_batches is not None:
        indices = indices[: max(num_batches * posterior_batch_size(args), args.world_size)]
    return divide_batch(indices, args.train_batch_size, args.world_size, args.process_index)


def posterior_noise(batch_size: int, latent_size: int, seed: int, step: int) -> torch.Tensor:
    """
    The standard normal noise of the reparameterisation for this process' share of a posterior batch.

    The noise is drawn for the whole posterior batch, from the seed and the step alone. So processes never draw the
    same noise, and a sentence's noise depends neither on the number of processes nor on earlier draws. All processes
    must make this call.

    Args:
        batch_size (`int`): Sentences of this process.
        latent_size (`int`): Number of latent dimensions.
        seed (`int`): Seed of the training.
        step (`int`): The step.

    Returns:
        `torch.Tensor` of shape `(batch_size, latent_size)`, on the CPU.
    """
    state = PartialState()
    sizes = gather(torch.tensor([batch_size], device=state.device)).tolist()
    return torch.randn(sum(sizes), latent_size, generator=seeded_generator(seed, step)).split(sizes)[
        state.process_index
    ]


def join_batches(batches: Sequence[Mapping[str, torch.Tensor]], pad_token_id: int = 0) -> dict[str, torch.Tensor]:
    """
    Join micro-batches to one batch. Each tensor is padded on the right to the greatest length.

    Args:
        batches (sequence of mappings): Batches with the same entries, each with one row per sentence. If they have no
            `attention_mask` and their lengths differ, the function makes one.
        pad_token_id (`int`, *optional*, defaults to 0): Pads `input_ids`; -100 pads `labels` and `condition_ids`, 0
            pads all others.
    """
    batches = [dict(batch) for batch in batches]
    padding = {"input_ids": pad_token_id, "labels": IGNORE_INDEX, "condition_ids": IGNORE_INDEX}
    if len({batch["input_ids"].shape[1] for batch in batches}) > 1:
        for batch in batches:
            batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
    joined = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        if parts[0].dim() > 1:
            width = max(part.shape[1] for part in parts)
            pads = [(0, 0) * (part.dim() - 2) + (0, width - part.shape[1]) for part in parts]
            parts = [F.pad(part, pad, value=padding.get(name, 0)) for part, pad in zip(parts, pads, strict=True)]
        joined[name] = torch.cat(parts)
    return joined
