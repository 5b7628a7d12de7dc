# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Memory: the C library's heap, from which PyTorch takes its blocks on the CPU, and errors of too little memory."""

import ctypes
import platform

import torch

# Parameters of glibc's `mallopt`.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1

_is_kept = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, on the CPU or on another device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, (RuntimeError, OSError)) and "allocate memory" in str(error)


def keep_freed_memory() -> bool:
    """
    Make the process keep freed memory for its next allocations, as the allocators of accelerators do.

    By default glibc gives blocks above 32 MiB (mostly logits) back to the system. The system clears the pages of every
    block that it gives out again. On a CPU that can be half of the time of a training step. After this call, the
    process never shrinks below the most memory that it has used.

    Returns:
        `bool`: Whether the process keeps freed memory now. `False` if the C library is not glibc; nothing is changed.
    """
    global _is_kept
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        _is_kept = all(mallopt(parameter, _MOST) == 1 for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
    return _is_kept


def freed_memory_is_kept() -> bool:
    """Whether [`keep_freed_memory`] was called and worked."""
    return _is_kept
