# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Work that is shared between processes."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from ..model.posterior_bnvae import num_processes

T = TypeVar("T")


def process_index() -> int:
    """The rank of this process; 0 if it works alone."""
    return dist.get_rank() if num_processes() > 1 else 0


def gather_results(work: Callable[[], T]) -> list[T]:
    """
    Do this process' share of the work, and get the results of all processes. If one process fails, all of them raise
    an error, so that no process waits for ever.

    Args:
        work (`Callable`): The share of this process. Its result is pickled.

    Returns:
        `list`: The results in the order of the processes, the same on all processes.

    Raises:
        RuntimeError: if the work failed on another process. If it failed on this process, its own error is raised.
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
