"""Freed memory that the process keeps: page faults of blocks that are taken again and again, in a fresh process."""

import subprocess
import sys

import pytest

from hf_bnvae.utils.memory import freed_memory_is_kept, keep_freed_memory

PAGE_FAULTS = """
import resource
import torch
from hf_bnvae.utils.memory import freed_memory_is_kept, keep_freed_memory


def count_faults():
    for turn in range(15):
        torch.ones(2**24)  # 64 MiB, 16384 pages
        if turn == 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


assert not freed_memory_is_kept()
returned = count_faults()
assert keep_freed_memory() and freed_memory_is_kept()
print(returned, count_faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_a_block_that_is_taken_again_costs_no_page_faults():
    run = subprocess.run([sys.executable, "-c", PAGE_FAULTS], check=True, capture_output=True, text=True)
    returned, kept = map(int, run.stdout.split())
    assert kept < 1000 < 10 * 16384 / 2 < returned, (kept, returned)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("hf_bnvae.utils.memory._is_kept", False)
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory() and not freed_memory_is_kept()
