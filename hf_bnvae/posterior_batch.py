# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The posterior batch, all sentences that share statistics: which they are, and how they are cut into the shares of
processes and into micro-batches. Sentences and noise of a posterior batch do not depend on the cut."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Sampler


class PosteriorBatchSampler(Sampler[list[int]]):
    """
    The micro-batches of one process, as lists of indices. In each epoch the sentences are shuffled and cut into
    posterior batches, each of these into a share for every process, and that into micro-batches.

    Which sentences share a posterior batch depends on its size, the seed and the epoch alone: a batch of 32, eight
    micro-batches of 4, and two processes with 16 each have the same ones. A last posterior batch that is not full is
    shared out evenly, so that no process comes off with nothing and none is given a sentence twice.

    Args:
        num_sentences (`int`): Size of the data set.
        batch_size (`int`): Sentences of a micro-batch.
        accumulation_steps (`int`, *optional*, defaults to 1): Micro-batches of a process in a posterior batch.
        num_processes, process_index (`int`, *optional*): How many processes there are, and which is this one.
        least (`int`, *optional*, defaults to 1): A last posterior batch with fewer sentences is skipped, unless it is
            the only one. One that has not a sentence for each process is skipped too.
        drop_last (`bool`, *optional*, defaults to `False`): Skip the last one whenever it is not full.
        shuffle (`bool`, *optional*, defaults to `True`): Whether to shuffle.
        seed (`int`, *optional*, defaults to 0): Seed of the shuffling.

    Raises:
        ValueError: for fewer sentences than processes, or if `drop_last` leaves nothing.
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
                f"{num_sentences} sentences do not fill one posterior batch of {self.posterior_batch_size}, and "
                "incomplete ones are to be dropped. Use a smaller batch, or dataloader_drop_last=False."
            )

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in that epoch from now on."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        indices = torch.arange(self.num_sentences)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            indices = torch.randperm(self.num_sentences, generator=generator)
        for batch in indices[: self.num_sentences - self.num_skipped].split(self.posterior_batch_size):
            yield from divide_batch(batch, self.batch_size, self.num_processes, self.process_index)

    def __len__(self) -> int:
        """The number of micro-batches, the same for all processes."""
        full, left_over = divmod(self.num_sentences - self.num_skipped, self.posterior_batch_size)
        micro_batches = full * self.accumulation_steps
        return micro_batches + _num_parts(left_over, self.batch_size, self.num_processes)


def divide_batch(
    indices: torch.Tensor, batch_size: int, num_processes: int = 1, process_index: int = 0
) -> list[list[int]]:
    """
    The share of one process of a posterior batch, as micro-batches: as many for each process, and as even as can be.

    Args:
        indices (`torch.Tensor` of shape `(sentences,)`): The sentences, at least one for each process.
        batch_size (`int`): Sentences of a micro-batch. There is one more in some where shares differ by one and a
            share has no sentence for a further micro-batch.
        num_processes, process_index (`int`, *optional*): How many processes there are, and which is this one.
    """
    share = indices.tensor_split(num_processes)[process_index]
    parts = _num_parts(len(indices), batch_size, num_processes)
    return [part.tolist() for part in share.tensor_split(parts)]


def _num_parts(num_sentences: int, batch_size: int, num_processes: int) -> int:
    greatest, least = math.ceil(num_sentences / num_processes), num_sentences // num_processes
    return min(math.ceil(greatest / batch_size), least)


def posterior_noise(
    sizes: Sequence[int], latent_size: int, process_index: int = 0, seed: int = 0, step: int = 0
) -> torch.Tensor:
    """
    The standard normal noise of the reparameterisation for one process' share of a posterior batch.

    It is drawn for the whole posterior batch, from the seed and the step alone. So processes never draw alike, and
    the noise of a sentence depends neither on their number nor on what was drawn before.

    Args:
        sizes (`Sequence[int]`): The number of sentences of each process.
        latent_size (`int`): Number of latent dimensions.
        process_index (`int`, *optional*, defaults to 0): Which process this is.
        seed, step (`int`, *optional*): Of the training.

    Returns:
        `torch.Tensor` of shape `(sizes[process_index], latent_size)`, on the CPU.
    """
    generator = torch.Generator().manual_seed(_mix(seed, step))
    noise = torch.randn(sum(sizes), latent_size, generator=generator)
    return noise.split(list(sizes))[process_index]


def join_batches(
    batches: Sequence[Mapping[str, torch.Tensor]], padding: Mapping[str, int] | None = None
) -> dict[str, torch.Tensor]:
    """
    Micro-batches as one batch, each tensor padded on the right to the greatest length.

    Args:
        batches (sequence of mappings): With the same entries, each with a row for each sentence. Where none has an
            `attention_mask` but their lengths differ, one is made.
        padding (mapping, *optional*): The value that pads each entry, 0 for those without.
    """
    batches, padding = [dict(batch) for batch in batches], padding or {}
    if len({batch["input_ids"].shape[1] for batch in batches}) > 1:
        for batch in batches:
            batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
    joined = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        if parts[0].dim() > 1:
            width = max(part.shape[1] for part in parts)
            fill = padding.get(name, 0)
            pads = [(0, 0) * (part.dim() - 2) + (0, width - part.shape[1]) for part in parts]
            parts = [F.pad(part, pad, value=fill) for part, pad in zip(parts, pads, strict=True)]
        joined[name] = torch.cat(parts)
    return joined


def _mix(*numbers: int) -> int:
    """One seed from several numbers, without the collisions of their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
