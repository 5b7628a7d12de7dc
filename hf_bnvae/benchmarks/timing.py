# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What work costs on this machine: seconds, memory, and the peak of the machine's matrix products."""

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
    The seconds that a call took.

    Args:
        cpu (`float`): CPU seconds of the process, all threads together. Other processes change them very little. But
            threads that spin while they wait count as work, so set `OMP_WAIT_POLICY=PASSIVE`.
        wall (`float`): Seconds of the clock on the wall, until the device has finished.
    """

    cpu: float
    wall: float


def clock_of(device: torch.device) -> Clock:
    """The clock to compare with. On the CPU these are CPU seconds, because the processor may have other work. On an
    accelerator these are wall seconds, because the process only hands work to it."""
    return "cpu" if device.type == "cpu" else "wall"


def timed(function: Callable[[], Any], device: torch.device) -> Seconds:
    """The seconds that a call takes until `device` has finished it."""
    synchronize(device)
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    synchronize(device)
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def take_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[Seconds]]:
    """
    Time several ways of doing the same work.

    Every round runs all ways, so that a machine that becomes slower does so for all of them. Every second round runs
    them in reverse order, so that no way always follows the same other way.

    Args:
        ways (mapping): Functions by name. Call each of them once before, if a first call prepares something.
        rounds (`int`): How many rounds.
        device (`torch.device`): Where the work is done.

    Returns:
        `dict`: For each way the seconds of its calls, in the order of the rounds.
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
    """The choice with which `function` is fastest: the best of `repeats` calls counts, after a first call that does
    not count."""
    if len(choices) == 1:
        return choices[0]
    function(choices[0])
    ways = {str(choice): lambda choice=choice: function(choice) for choice in choices}
    seconds, clock = take_turns(ways, repeats, device), clock_of(device)
    return min(choices, key=lambda choice: min(getattr(taken, clock) for taken in seconds[str(choice)]))


def peak_memory(function: Callable[[], Any], device: torch.device) -> int:
    """The most bytes that `function` adds to PyTorch's blocks on `device` while it runs."""
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
    """The most bytes that `function` adds to PyTorch's blocks on the CPU while it runs. The profiler records every
    block that is taken or given back. The figure is the same in every run, if `function` gives back no block that was
    taken before it started."""
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
    """Whether this system supports [`resident_peak`]. Linux does."""
    return Path("/proc/self/clear_refs").exists()


def resident_peak(function: Callable[[], Any]) -> tuple[int, int]:
    """The bytes that the process has in memory before `function`, and the most that it has while `function` runs
    (Linux' `VmHWM`, which is reset before). This includes memory that libraries take outside PyTorch's allocator."""

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
    Operations per second of a product of square matrices: the best of several products. A multiplication with its
    addition counts as two operations.

    Args:
        device (`torch.device`): Where the products are computed. On the CPU the seconds are CPU seconds, so that the
            figure is the peak of one core.
        dtype (`torch.dtype`): Precision of the matrices.
        width (`int`, *optional*): Width of the matrices. The default is 1024 on the CPU and 8192 elsewhere.
        repeats (`int`, *optional*, defaults to 10): How many products are timed.
    """
    width = width or (1024 if device.type == "cpu" else 8192)
    left, right = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    ways = {"product": lambda: torch.mm(left, right, out=product)}
    take_turns(ways, 2, device)
    clock = clock_of(device)
    return 2 * width**3 / min(getattr(taken, clock) for taken in take_turns(ways, repeats, device)["product"])
