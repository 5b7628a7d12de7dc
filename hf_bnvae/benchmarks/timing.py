# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What work costs on this machine: seconds of several ways of doing it, taken in turn, memory, and the peak of its
matrix products."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True)
class Seconds:
    """
    What a call took.

    Args:
        cpu (`float`): CPU seconds of the process, all threads together. Other processes' work hardly changes them,
            but threads that spin while they wait count as work (`OMP_WAIT_POLICY=PASSIVE`).
        wall (`float`): Seconds that went by until the device was done.
    """

    cpu: float
    wall: float


def clock_of(device: torch.device) -> Clock:
    """The clock that says most: of a processor that may have other work its CPU seconds, of an accelerator, to which
    the process only hands work, the seconds that go by."""
    return "cpu" if device.type == "cpu" else "wall"


def timed(function: Callable[[], Any], device: torch.device) -> Seconds:
    """What a call takes, until `device` has finished it."""
    synchronize(device)
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    synchronize(device)
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def take_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[Seconds]]:
    """
    Times of several ways of doing the same work. Each round runs all of them one after the other, so that a machine
    that becomes slower does so for all; every other round in reverse, so that none always comes after the same.

    Args:
        ways (mapping): What to call, by name. What the first call of each has to prepare should be done already.
        rounds (`int`): How many rounds.
        device (`torch.device`): Where the work is done.

    Returns:
        `dict`: For each way what its calls took, in the order of the rounds.
    """
    seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in reversed(ways) if turn % 2 else ways:
            seconds[name].append(timed(ways[name], device))
    return seconds


def median(seconds: list[Seconds], clock: Clock) -> float:
    """The median of several calls' seconds."""
    return statistics.median(getattr(taken, clock) for taken in seconds)


def fastest(function: Callable[[int], Any], choices: list[int], device: torch.device, repeats: int = 3) -> int:
    """The choice with which `function` is fastest, by the best of `repeats` calls after one that does not count."""
    if len(choices) == 1:
        return choices[0]
    function(choices[0])
    ways = {str(choice): lambda choice=choice: function(choice) for choice in choices}
    seconds, clock = take_turns(ways, repeats, device), clock_of(device)
    return min(choices, key=lambda choice: min(getattr(taken, clock) for taken in seconds[str(choice)]))


def peak_memory(function: Callable[[], Any], device: torch.device) -> int:
    """How many bytes more than before `function` PyTorch's blocks on `device` take at most while it runs."""
    if device.type == "cpu":
        return allocator_peak(function)
    memory = torch.get_device_module(device)
    synchronize(device)
    memory.reset_peak_memory_stats(device)
    before = memory.memory_allocated(device)
    function()
    synchronize(device)
    return memory.max_memory_allocated(device) - before


def allocator_peak(function: Callable[[], Any]) -> int:
    """How many bytes more than before `function` PyTorch's blocks take at most while it runs, on the CPU: every block
    that is taken and given back, as the profiler records them. It is the same in every run, if `function` keeps
    nothing of what an earlier one took: giving that back would count where the profiler had seen it taken."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    taken = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        taken += event["args"]["Bytes"]
        peak = max(peak, taken)
    return peak


def has_resident_peak() -> bool:
    """Whether this system tells [`resident_peak`]: Linux does."""
    return Path("/proc/self/clear_refs").exists()


def resident_peak(function: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that the process has in memory before `function`, and at most while it runs (Linux' `VmHWM`, which is
    reset ahead of it). It also sees what libraries take past PyTorch's allocator."""

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    function()
    return before, status("VmHWM")


def matrix_product_peak(
    device: torch.device, dtype: torch.dtype, width: int | None = None, repeats: int = 10
) -> float:
    """
    Operations per second, two for each multiplication, of the best of several products of square matrices.

    Args:
        device (`torch.device`): Where they are made; on the CPU the seconds are CPU seconds, so that it is the peak of
            one core.
        dtype (`torch.dtype`): In what precision.
        width (`int`, *optional*): Of the matrices; by default 1024 on the CPU and 8192 elsewhere.
        repeats (`int`, *optional*, defaults to 10): How many products.
    """
    width = width or (1024 if device.type == "cpu" else 8192)
    left, right = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    ways = {"product": lambda: torch.mm(left, right, out=product)}
    take_turns(ways, 2, device)
    clock = clock_of(device)
    return 2 * width**3 / min(getattr(taken, clock) for taken in take_turns(ways, repeats, device)["product"])
