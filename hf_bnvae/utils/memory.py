# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The C library's heap, from which PyTorch takes its blocks on the CPU."""

import ctypes
import platform

# Parameters of glibc's `mallopt`.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1

_is_kept = False


def keep_freed_memory() -> bool:
    """
    Have the process keep the memory that is freed for what it takes next, as allocators of accelerators do.

    As it comes, glibc gives blocks above 32 MiB back to the system, which clears the pages of each one that is taken
    again: logits above all. On the CPU that can be half of the time of a training step. The process then holds on to
    the most memory that it ever had.

    Returns:
        `bool`: Whether it does so now; `False` where the C library is not glibc, and nothing was changed.
    """
    global _is_kept
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        _is_kept = all(mallopt(parameter, _MOST) == 1 for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
    return _is_kept


def freed_memory_is_kept() -> bool:
    """Whether [`keep_freed_memory`] has done so."""
    return _is_kept
