# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The speed benchmark: each workload in its ways, taken in turn, and how cost grows with the training set.

`ours` and `floor` each run at the chunk size that is fastest for them.
"""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from datasets import Dataset
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback

from ..reporting.provenance import library_versions
from ..training.trainer import BNVAETrainer
from ..training.training_args import BNVAETrainingArguments
from ..utils.memory import freed_memory_is_kept
from .synthetic import Size, build_model, draw_lengths, make_processor
from .timing import (
    Clock,
    Seconds,
    clock_of,
    fastest,
    has_resident_peak,
    matrix_product_peak,
    median,
    peak_memory,
    resident_peak,
    take_turns,
)
from .workloads import COMPARED, Setting, Work


@dataclass(frozen=True)
class Protocol:
    """
    How work is measured.

    Args:
        rounds (`int`, *optional*, defaults to 11): Number of rounds. All ways take one turn in every round, and the
            figures are medians over rounds.
        control (`bool`, *optional*, defaults to `False`): Give the floor a second turn in every round. The ratio of
            its two turns shows the noise.
        chunk_sizes (`tuple[int, ...]`, *optional*): The chunk sizes to try; by default the chunk sizes of the size.
    """

    rounds: int = 11
    control: bool = False
    chunk_sizes: tuple[int, ...] | None = None


WORKS = (*COMPARED, "growth")


def run_benchmark(
    works: Sequence[str],
    setting: Setting,
    protocol: Protocol | None = None,
    sentences: Sequence[int] | None = None,
    on_figures: Callable[[str, int, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """
    Measure several workloads.

    Args:
        works (sequence of `str`): Names in `WORKS`.
        setting ([`Setting`]): Networks, device and precision.
        protocol ([`Protocol`], *optional*): How to measure.
        sentences (sequence of `int`, *optional*): The numbers of sentences to measure; by default the size's numbers.
        on_figures (`Callable`, *optional*): Called after each measurement with the workload's name, the number of
            sentences and the results so far.

    Returns:
        `dict`: For each workload a `dict` from the number of sentences, as a string, to the figures: seconds of
        `ours`, `floor` and `naive`, `ratio_to_floor` and `ratio_to_naive`, and what these were made from. A way that
        does not exist is `None`. The keys `machine`, `versions` and `settings` say what was measured.
    """
    protocol = protocol or Protocol()
    results: dict[str, Any] = {
        "machine": _machine(setting),
        "versions": library_versions(),
        "settings": {
            "size": setting.size_name,
            "device": str(setting.device),
            "bf16": setting.bf16,
            "seed": setting.seed,
            **asdict(protocol),
        },
    }
    for name in works:
        figures = results[name] = {}
        for count in sentences or setting.size.sentences[name]:
            if name in COMPARED:
                figures[str(count)] = compare(COMPARED[name], name, count, setting, protocol)
            else:
                figures[str(count)] = grow(count, setting, protocol)
            if on_figures is not None:
                on_figures(name, count, results)
    return results


def compare(
    build: Callable[[Setting, int], Work], name: str, sentences: int, setting: Setting, protocol: Protocol
) -> dict[str, Any]:
    """
    Measure a piece of work in all of its ways.

    Args:
        build (`Callable`): Makes the work, from a setting and a number of sentences.
        name (`str`): The workload's name in the size's `chunk_sizes`.
        sentences (`int`): How many sentences.
        setting ([`Setting`]): Networks, device and precision.
        protocol ([`Protocol`]): How to measure.

    Returns:
        `dict`: Seconds and ratios of the ways, their memory in bytes, and the share of the peak of matrix products
        that they reach.
    """
    work, device, clock = build(setting, sentences), setting.device, clock_of(setting.device)
    tried = protocol.chunk_sizes or setting.size.chunk_sizes[name]
    choices = sorted({min(chunk_size, work.rows) for chunk_size in tried})
    chosen = {
        "ours": fastest(work.ours, choices if work.ours_in_chunks else choices[:1], device),
        "floor": fastest(work.floor, choices, device),
    }
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: work.ours(chosen["ours"]),
        "floor": lambda: work.floor(chosen["floor"]),
    }
    if work.naive is not None:
        ways["naive"] = work.naive
    # A first call may create what later calls keep, for example the optimiser's state. That is no part of the work.
    for function in ways.values():
        function()
    memory = {way: peak_memory(function, device) for way, function in ways.items()}
    with FlopCounterMode(display=False) as counter:
        ways["floor"]()
    if protocol.control:
        ways["floor_again"] = ways["floor"]
    rounds = take_turns(ways, protocol.rounds, device)
    shares = {"naive": work.naive_share}
    medians = {
        each: {way: median(taken, each) / shares.get(way, 1.0) for way, taken in rounds.items()}
        for each in get_args(Clock)
    }
    # Measured right after the work, because a machine with other programs may have become slower.
    seconds, peak = medians[clock], matrix_product_peak(device, work.dtype, setting.size.product_width)
    return {
        "ours": seconds["ours"],
        "floor": seconds["floor"],
        "naive": seconds.get("naive"),
        "ratio_to_floor": seconds["ours"] / seconds["floor"],
        "ratio_to_naive": seconds["ours"] / seconds["naive"] if "naive" in seconds else None,
        "floor_again_to_floor": seconds["floor_again"] / seconds["floor"] if protocol.control else None,
        "clock": clock,
        "medians": medians,
        "rounds": {way: [asdict(taken) for taken in calls] for way, calls in rounds.items()},
        "naive_share": work.naive_share if "naive" in ways else None,
        "chunk_size": chosen if work.ours_in_chunks else {"floor": chosen["floor"]},
        "tokens": work.tokens or None,
        "tokens_per_second": work.tokens / seconds["ours"] if work.tokens else None,
        "peak_memory_bytes": memory,
        "matrix_product_peak": peak,
        "share_of_peak": {way: counter.get_total_flops() / seconds[way] / peak for way in ("ours", "floor")},
    }


def grow(sentences: int, setting: Setting, protocol: Protocol) -> dict[str, Any]:
    """
    Train one epoch with [`BNVAETrainer`] on a data set on the disk, in the largest batches of the size.

    The first training of a process prepares more than later ones do, so a short training runs before the one that is
    measured.

    Args:
        sentences (`int`): Size of the training set.
        setting ([`Setting`]): Networks, device and precision.
        protocol ([`Protocol`]): Its `chunk_sizes`, if given, replace the chunk sizes of the size.

    Returns:
        `dict`: Seconds, tokens a second, and the peak of memory in bytes. On the CPU this is the memory of the whole
        process, elsewhere the memory of PyTorch's blocks.
    """
    size, device, clock = setting.size, setting.device, clock_of(setting.device)
    batch_size, processor = max(size.sentences["training"]), make_processor(size)
    chunk_size = (protocol.chunk_sizes or size.chunk_sizes["growth"])[0]
    lengths = draw_lengths(sentences, setting.seed)

    def train(count: int) -> Seconds:
        with tempfile.TemporaryDirectory() as folder:
            rows = Dataset.from_generator(
                _tokenised,
                cache_dir=folder,
                gen_kwargs={"lengths": lengths[:count], "size": size, "seed": setting.seed},
            )
            args = BNVAETrainingArguments(
                folder,
                per_device_train_batch_size=batch_size,
                chunk_size=chunk_size,
                num_train_epochs=1,
                use_cpu=device.type == "cpu",
                bf16=setting.bf16,
                seed=setting.seed,
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            model = build_model(size, setting.seed)
            trainer = BNVAETrainer(model=model, args=args, train_dataset=rows, processing_class=processor)
            trainer.remove_callback(PrinterCallback)
            return take_turns({"train": trainer.train}, 1, device)["train"][0]

    train(min(sentences, 2 * batch_size))
    taken: list[Seconds] = []
    if device.type != "cpu":
        peak = peak_memory(lambda: taken.append(train(sentences)), device)
    elif has_resident_peak():
        _, peak = resident_peak(lambda: taken.append(train(sentences)))
    else:
        peak = None
        taken.append(train(sentences))
    seconds = getattr(taken[0], clock)
    return {
        "ours": seconds,
        "floor": None,
        "naive": None,
        "ratio_to_floor": None,
        "ratio_to_naive": None,
        "clock": clock,
        "medians": {each: {"ours": getattr(taken[0], each)} for each in get_args(Clock)},
        "chunk_size": {"ours": chunk_size},
        "tokens": int(lengths.sum()),
        "tokens_per_second": int(lengths.sum()) / seconds,
        "peak_memory_bytes": {"ours": peak},
    }


def _tokenised(lengths: torch.Tensor, size: Size, seed: int) -> Iterator[dict[str, list[int]]]:
    """Rows of a data set, one for each length, with random tokens."""
    generator = torch.Generator().manual_seed(seed)
    for length in lengths.tolist():
        yield {
            "input_ids": torch.randint(size.encoder_vocabulary, (length,), generator=generator).tolist(),
            "labels": torch.randint(size.decoder_vocabulary, (length,), generator=generator).tolist(),
        }


def _machine(setting: Setting) -> dict[str, Any]:
    """The machine, and the operations a second of its matrix products."""
    device, is_cpu = setting.device, setting.device.type == "cpu"
    return {
        "device": _processor_name() if is_cpu else torch.get_device_module(device).get_device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "freed_memory_is_kept": freed_memory_is_kept(),
        "system": platform.platform(),
        "matrix_product_peak": {
            str(dtype).removeprefix("torch."): matrix_product_peak(device, dtype, setting.size.product_width)
            for dtype in (torch.float32, torch.bfloat16, torch.float64)
        },
    }


def _processor_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
