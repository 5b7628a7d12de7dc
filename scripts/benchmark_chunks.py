#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What chunks cost and save in a training step on the CPU: memory, time, computed positions, and the targets for them.

Sentences are padded, as of networks in whose rows they cannot share. Weights, tokens and the lengths of the short
sentences are random, from a seed. A step is forward, backward and fused AdamW on one posterior batch. Memory is what a
step adds at most to parameters + gradients + optimiser state, all of which an earlier step has allocated; each
measurement has a process of its own, and is made with two tools:

- `allocator`: every block that PyTorch takes and gives back, as the profiler records them. It is the same in every run
  and counts what `torch.cuda.max_memory_allocated` would, so the target is about this one.
- `kernel`: resident memory at its highest (Linux' `VmHWM`, reset ahead of the step). It also sees what libraries take
  past PyTorch's allocator.

Gradients are `kept` (`zero_grad(set_to_none=False)`), so that the baseline is there from the first moment of a step;
the target is about these. Where they are `freed` (`set_to_none=True`, with `--everything`), a plain batch reaches its
peak while it has none yet, and the whole of the gradients is subtracted from that peak all the same.

Times are CPU seconds and wall seconds of steps taken in turn, and each ratio is the median of those of the rounds.
With the C library's heap as it comes, large blocks are `returned` to the system, and every step pays page faults for
them: most for the plain batch, whose blocks are the largest. With a heap where they are `retained`, as on
accelerators (with `--everything`), computing alone is compared. The predicted ratio is that of the matrix products
with weights: each position of a network takes its layers' weights, each label the decoder's vocabulary projection,
which is never computed for padding, so chunks leave it as it is. Backward costs twice what forward costs, and
checkpointing computes forward twice.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from hf_bnvae.benchmarks.speed import SIZES, build_model, draw_lengths, make_batch
from hf_bnvae.benchmarks.timing import allocator_peak, has_resident_peak, resident_peak, take_turns

SIZE = SIZES["mid"]
BATCH_SIZE, CHUNK_SIZE = 256, 16
WAYS = {
    "longest": {},  # a batch of its own: the sentences of the longest chunk
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
# Blocks that are given back leave the process at once, so that resident memory follows them.
MEMORY_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MKL_DISABLE_FAST_MM": "1",
}
# What the C library does with large blocks that are given back, while times are taken.
HEAPS = {"returned": {}, "retained": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}}
MIB = 2**20


class Training:
    """A model, its optimiser and a batch for each way of running it."""

    def __init__(self, seed: int) -> None:
        self.model = build_model(SIZE, seed)
        self.model.config.pack_sentences = False  # chunks alone, beside a batch that is padded
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
    """How many bytes more than before `function` the process has in memory at most while it runs."""
    before, highest = resident_peak(function)
    return highest - before


TOOLS = {"allocator": allocator_peak, "kernel": kernel_peak}


def measure_memory(seed: int, way: str, tool: str, gradients: str) -> int:
    """Bytes that a step adds at most to parameters, gradients and optimiser state."""
    training = Training(seed)
    training.step(way)  # allocates the baseline, and the buffers that libraries hold on to
    freed = {"kept": False, "freed": True}[gradients]
    gradient_bytes = sum(parameter.grad.nbytes for parameter in training.model.parameters())
    training.optimizer.zero_grad(set_to_none=freed)
    return TOOLS[tool](lambda: training.step(way)) - freed * gradient_bytes


def measure_time(seed: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """For each way the CPU seconds and wall seconds of its steps, taken in turn after a round that does not count."""
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
    """Real tokens of a batch, positions that reach each network's first layer, and weights that a position meets."""
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
        + int(training.batches[way]["labels"].ne(-100).sum()) * SIZE.decoder_vocabulary * SIZE.width,
        **positions,
    }


MEASUREMENTS = {"memory": measure_memory, "time": measure_time, "positions": measure_positions}


def in_fresh_process(measurement: str, environment: dict[str, str] | None = None, **arguments: Any) -> Any:
    """The result of one of the `MEASUREMENTS`, made in a process of its own."""
    command = [sys.executable, __file__, "--measurement", json.dumps([measurement, arguments])]
    # Threads that wait must sleep, or CPU seconds would count their waiting; and the profiler is to be quiet.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "KINETO_LOG_LEVEL": "99", **(environment or {})}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def run_benchmark(seed: int, rounds: int, everything: bool) -> dict[str, Any]:
    """The measurements, what follows from them, and with what they were made. `everything` includes what has no
    target: gradients that are freed, and the heap that retains."""
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


def render(results: dict[str, Any]) -> str:
    """The results as a table for a terminal."""
    batch, memory, positions = results["batch"], results["memory_bytes"], results["positions"]
    lines = [
        f"{batch['sentences']} sentences, {batch['tokens']} tokens, {batch['share_of_padding']:.0%} padding, "
        f"chunks of {batch['chunk_size']}; {results['made_with']['threads']} threads",
        "",
        f"{'a step adds (MiB)':28}" + "".join(f"{way:>14}" for way in WAYS),
    ]
    for gradients, tools in memory.items():
        for tool, added in tools.items():
            cells = (f"{added[way] / MIB:.1f}" if way in added else "" for way in WAYS)
            lines.append(f"{tool + ', gradients ' + gradients:28}" + "".join(f"{cell:>14}" for cell in cells))
    lines += ["", f"{'positions / tokens':28}{'encoder':>14}{'decoder':>14}"]
    for way, counts in positions.items():
        shares = (counts[network] / counts["tokens"] for network in ("encoder", "decoder"))
        lines.append(f"{way:28}" + "".join(f"{share:14.3f}" for share in shares))
    for heap, ways in results["time_ratios"].items():
        columns = ("CPU", "wall", "predicted", "CPU seconds")
        lines += ["", f"{'time / plain, heap ' + heap:28}" + "".join(f"{column:>14}" for column in columns)]
        for way, ratios in ways.items():
            seconds = statistics.median(results["seconds"][heap][way]["cpu"])
            cells = (ratios["cpu"], ratios["wall"], results["predicted_time_ratios"][way], seconds)
            lines.append(f"{way:28}" + "".join(f"{cell:14.3f}" for cell in cells))
    lines.append("")
    for name, target in results["targets"].items():
        verdict = "met" if target["met"] else "MISSED"
        lines.append(f"{verdict:7}{target['value']:.3f}, at most {target['at_most']}: {name}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--everything", action="store_true", help="Measure what has no target too.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="Steps of each way that are timed.")
    parser.add_argument("--output_file", type=Path, help="Where to write all figures as JSON.")
    parser.add_argument("--measurement", help=argparse.SUPPRESS)  # what a fresh process is to measure
    args = parser.parse_args()
    if args.measurement:
        name, arguments = json.loads(args.measurement)
        print(json.dumps(MEASUREMENTS[name](**arguments)))
        return
    results = run_benchmark(args.seed, args.rounds, args.everything)
    if args.output_file:
        args.output_file.write_text(json.dumps(results, indent=2) + "\n")
    print(render(results))


if __name__ == "__main__":
    main()
