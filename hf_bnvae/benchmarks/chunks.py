# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What chunks cost and save in a training step on the CPU: memory, time and computed positions.

A step is forward, backward and fused AdamW on one posterior batch. The sentences are padded, as in networks whose rows
sentences cannot share. Weights, tokens and lengths are random, from a seed. Every measurement has a process to itself.

Memory is the most that a step adds to parameters + gradients + optimiser state, which an earlier step has allocated.
Two tools measure it:

- `allocator`: every block that PyTorch takes and gives back, as the profiler records them. The figure is the same in
  every run, and counts what `torch.cuda.max_memory_allocated` would count. The target is about this tool.
- `kernel`: the peak of resident memory (Linux' `VmHWM`, which is reset before the step). This includes memory that
  libraries take outside PyTorch's allocator.

Gradients are `kept` (`zero_grad(set_to_none=False)`), so that the baseline exists from the first moment of a step. The
target is about kept gradients. With `freed` gradients (`set_to_none=True`) a plain batch reaches its peak before it
has gradients; all gradients are subtracted from that peak all the same.

Ways take turns, and a ratio of times is the median of the rounds' ratios. Normally the C library returns large blocks
to the system (`returned`), and every step pays page faults for them. The plain batch pays most, because its blocks are
the largest. With a heap that keeps the blocks (`retained`), as on accelerators, the computing alone is compared.

The predicted ratio of times counts the matrix products with weights. Every position of a network meets the weights
of its layers. Every label meets the decoder's vocabulary projection, which is never computed for padding, so chunks do
not change that part. Backward costs twice as much as forward, and checkpointing computes forward twice.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn

from ..model.loss_bnvae import IGNORE_INDEX
from .synthetic import SIZES, build_model, draw_lengths, make_batch
from .timing import allocator_peak, has_resident_peak, resident_peak, take_turns

SIZE = SIZES["mid"]
BATCH_SIZE, CHUNK_SIZE = 256, 16
WAYS = {
    "longest": {},  # a plain batch of the sentences of the longest chunk
    "plain": {},
    "chunks": {"chunk_size": CHUNK_SIZE},
    "checkpointed": {"chunk_size": CHUNK_SIZE, "checkpoint_chunks": True},
}
TARGETS = {
    "memory of checkpointed chunks / memory of the longest chunk as a plain batch": 1.2,
    "CPU time of checkpointed chunks / of the plain batch": 1.25,
    "encoder positions of chunks / tokens": 1.15,
    "decoder positions of chunks / tokens": 1.15,
}
# Blocks that are given back leave the process at once, so that resident memory follows.
MEMORY_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MKL_DISABLE_FAST_MM": "1",
}
# What the C library does with large blocks that are given back, while times are measured.
HEAPS = {"returned": {}, "retained": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}}


class Training:
    """A model, its optimiser, and the batch of each way."""

    def __init__(self, seed: int) -> None:
        self.model = build_model(SIZE, seed)
        self.model.config.pack_sentences = False  # so that chunks are compared with a padded batch
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        lengths = draw_lengths(BATCH_SIZE, seed)
        batch, longest = (make_batch(part, SIZE, seed) for part in (lengths, lengths.topk(CHUNK_SIZE).values))
        self.batches = {way: longest if way == "longest" else batch for way in WAYS}

    def forward(self, way: str) -> torch.Tensor:
        return self.model(**self.batches[way], **WAYS[way]).loss

    def step(self, way: str) -> None:
        self.forward(way).backward()
        self.optimizer.step()


def kernel_peak(function: Callable[[], None]) -> int:
    """The most bytes that `function` adds to the process's resident memory while it runs."""
    before, highest = resident_peak(function)
    return highest - before


TOOLS = {"allocator": allocator_peak, "kernel": kernel_peak}


def measure_memory(seed: int, way: str, tool: str, gradients: str) -> int:
    """The most bytes that a step adds to parameters, gradients and optimiser state."""
    training = Training(seed)
    training.step(way)  # allocates the baseline, and the buffers that libraries keep
    freed = {"kept": False, "freed": True}[gradients]
    gradient_bytes = sum(parameter.grad.nbytes for parameter in training.model.parameters())
    training.optimizer.zero_grad(set_to_none=freed)
    return TOOLS[tool](lambda: training.step(way)) - freed * gradient_bytes


def measure_time(seed: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """For each way the CPU seconds and wall seconds of its steps. The ways take turns; the first round does not
    count."""
    training = Training(seed)

    def step(way: str) -> None:
        training.optimizer.zero_grad()
        training.step(way)

    ways = {way: lambda way=way: step(way) for way in WAYS if way != "longest"}
    turns = take_turns(ways, rounds + 1, torch.device("cpu"))
    return {
        way: {"cpu": [taken.cpu for taken in calls[1:]], "wall": [taken.wall for taken in calls[1:]]}
        for way, calls in turns.items()
    }


def measure_positions(seed: int, way: str) -> dict[str, int]:
    """The real tokens of a batch, the positions that reach the first layer of each network, and the multiplications
    with weights."""
    training = Training(seed)
    layers = {"encoder": training.model.encoder.encoder.layer, "decoder": training.model.decoder.transformer.h}
    positions = dict.fromkeys(layers, 0)

    def count(network: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            positions[network] += arguments[0].shape[:2].numel()

        return hook

    for network, stack in layers.items():
        stack[0].register_forward_pre_hook(count(network))
    training.forward(way)
    matrices = {
        network: sum(weight.numel() for weight in stack.parameters() if weight.dim() == 2)
        for network, stack in layers.items()
    }
    return {
        "tokens": int(training.batches[way]["attention_mask"].sum()),
        "multiplications": sum(positions[network] * matrices[network] for network in layers)
        + int(training.batches[way]["labels"].ne(IGNORE_INDEX).sum()) * SIZE.decoder_vocabulary * SIZE.width,
        **positions,
    }


MEASUREMENTS = {"memory": measure_memory, "time": measure_time, "positions": measure_positions}


def in_fresh_process(measurement: str, environment: dict[str, str] | None = None, **arguments: Any) -> Any:
    """The result of one of the `MEASUREMENTS`, made in a new process with further environment variables."""
    command = [sys.executable, "-m", __name__, json.dumps([measurement, arguments])]
    # Waiting threads must sleep, or CPU seconds would count their waiting. The profiler must print nothing.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "KINETO_LOG_LEVEL": "99", **(environment or {})}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def run_benchmark(seed: int, rounds: int, everything: bool) -> dict[str, Any]:
    """
    Measure memory, positions and times.

    Args:
        seed (`int`): Seed of weights, tokens and lengths.
        rounds (`int`): Steps of each way that are timed.
        everything (`bool`): Include what has no target: freed gradients, and the heap that keeps blocks.

    Returns:
        `dict`: The measurements, the targets with their values, and the versions and settings.
    """
    tools = [tool for tool in TOOLS if tool == "allocator" or has_resident_peak()]
    memory = {
        gradients: {
            tool: {
                way: in_fresh_process("memory", MEMORY_ENVIRONMENT, seed=seed, way=way, tool=tool, gradients=gradients)
                for way in ways
            }
            for tool in tools
        }
        for gradients, ways in {"kept": list(WAYS), "freed": ["longest", "checkpointed"]}.items()
        if gradients == "kept" or everything
    }
    positions = {way: in_fresh_process("positions", seed=seed, way=way) for way in ("plain", "chunks")}
    seconds = {
        heap: in_fresh_process("time", environment, seed=seed, rounds=rounds)
        for heap, environment in HEAPS.items()
        if heap == "returned" or everything
    }
    ratios = {
        heap: {
            way: {
                clock: statistics.median(a / b for a, b in zip(times[clock], ways["plain"][clock], strict=True))
                for clock in times
            }
            for way, times in ways.items()
        }
        for heap, ways in seconds.items()
    }
    chunks = positions["chunks"]["multiplications"] / positions["plain"]["multiplications"]
    added, tokens = memory["kept"]["allocator"], positions["chunks"]["tokens"]
    values = [
        added["checkpointed"] / added["longest"],
        ratios["returned"]["checkpointed"]["cpu"],
        positions["chunks"]["encoder"] / tokens,
        positions["chunks"]["decoder"] / tokens,
    ]
    return {
        "targets": {
            name: {"value": value, "at_most": limit, "met": value <= limit}
            for (name, limit), value in zip(TARGETS.items(), values, strict=True)
        },
        "batch": {
            "sentences": BATCH_SIZE,
            "chunk_size": CHUNK_SIZE,
            "tokens": tokens,
            "share_of_padding": 1 - tokens / positions["plain"]["encoder"],
        },
        "memory_bytes": memory,
        "positions": positions,
        "time_ratios": ratios,
        "predicted_time_ratios": {"plain": 1.0, "chunks": chunks, "checkpointed": chunks * 4 / 3},
        "seconds": seconds,
        "model": {
            "layers": SIZE.layers,
            "width": SIZE.width,
            "heads": SIZE.heads,
            "latent_size": SIZE.latent_size,
            "vocabularies": [SIZE.encoder_vocabulary, SIZE.decoder_vocabulary],
        },
        "made_with": {
            "seed": seed,
            "rounds": rounds,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "system": platform.platform(),
            "threads": torch.get_num_threads(),
        },
    }


if __name__ == "__main__":  # a fresh process, with what it is to measure as its argument
    measurement, arguments = json.loads(sys.argv[1])
    print(json.dumps(MEASUREMENTS[measurement](**arguments)))
