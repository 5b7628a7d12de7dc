"""Seconds, memory and the peak of matrix products, against work whose cost is known."""

import mmap

import pytest
import torch

from hf_bnvae.benchmarks.timing import (
    allocator_peak,
    fastest,
    has_resident_peak,
    matrix_product_peak,
    resident_peak,
    take_turns,
)

CPU = torch.device("cpu")


def test_the_ways_take_turns():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in ("ours", "floor", "naive")}
    assert {name: len(taken) for name, taken in take_turns(ways, 3, CPU).items()} == dict.fromkeys(ways, 3)
    assert calls == ["ours", "floor", "naive", "naive", "floor", "ours", "ours", "floor", "naive"]


def test_the_fastest_choice_is_taken():
    matrix = torch.randn(200, 200)

    def work(repeats: int) -> None:
        for _ in range(repeats):
            matrix @ matrix

    assert fastest(work, [200, 5, 100], CPU) == 5
    assert fastest(lambda repeats: work(200 - repeats), [195, 5, 100], CPU) == 195


def test_memory_is_what_is_held_at_once():
    size = 16 * 2**20

    def tensor() -> torch.Tensor:
        return torch.ones(size // 4)

    def pages() -> mmap.mmap:
        block = mmap.mmap(-1, size)
        for page in range(0, size, mmap.PAGESIZE):
            block[page] = 1
        return block

    def one_after_the_other(make) -> None:
        for _ in range(3):
            make()

    def at_once(make) -> None:
        _ = [make() for _ in range(3)]

    for function, blocks in ((one_after_the_other, 1), (at_once, 3)):
        assert allocator_peak(lambda function=function: function(tensor)) == pytest.approx(blocks * size, rel=0.01)
        if has_resident_peak():
            before, highest = resident_peak(lambda function=function: function(pages))
            assert highest - before == pytest.approx(blocks * size, rel=0.1)


def test_the_peak_is_of_matrix_products():
    product = matrix_product_peak(CPU, torch.float32, width=512)
    assert product > 5 * matrix_product_peak(CPU, torch.float32, width=8)
