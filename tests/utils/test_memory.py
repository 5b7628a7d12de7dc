"""Freed memory that the process keeps: page faults of blocks that are taken again and again, in fresh processes."""

import subprocess
import sys

import pytest

from hf_bnvae.utils.memory import freed_memory_is_kept, keep_freed_memory

PAGE_FAULTS = """
import resource, sys
import torch
from hf_bnvae.utils.memory import freed_memory_is_kept, keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
assert freed_memory_is_kept() == (sys.argv[1] == "kept")
for turn in range(15):
    torch.ones(2**24)  # 64 MiB, 16384 pages
    if turn == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_a_block_that_is_taken_again_costs_no_page_faults():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], check=True, capture_output=True).stdout)
        for how in ("kept", "returned")
    }
    assert faults["kept"] < 1000 < 10 * 16384 / 2 < faults["returned"], faults


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("hf_bnvae.utils.memory._is_kept", False)
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory() and not freed_memory_is_kept()
