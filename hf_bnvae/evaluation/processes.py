# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Work that several processes share."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from ..model.posterior_bnvae import num_processes

T = TypeVar("T")


def process_index() -> int:
    """Which of the processes this one is, 0 where it is alone."""
    return dist.get_rank() if num_processes() > 1 else 0


def gather_results(work: Callable[[], T]) -> list[T]:
    """
    What each process makes of `work`, in the order of the processes, on all of them. If it fails on one it fails on
    all, so that none waits for it.

    Args:
        work (`Callable`): This process' share. What it returns is pickled.

    Raises:
        RuntimeError: where it failed on another process, with that one's error. Where it failed itself, its own.
    """
    if num_processes() == 1:
        return [work()]
    result, failure = None, None
    try:
        result = work()
    except Exception as error:
        failure = error
    gathered: list[Any] = [None] * num_processes()
    dist.all_gather_object(gathered, (result, None if failure is None else f"{type(failure).__name__}: {failure}"))
    if failure is not None:
        raise failure
    for index, (_, message) in enumerate(gathered):
        if message is not None:
            raise RuntimeError(f"The work failed on process {index}: {message}")
    return [result for result, _ in gathered]
