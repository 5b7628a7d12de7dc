"""Into which chunks a batch is cut, against all ways of cutting it. That chunks change no result is tested with
posterior batches."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hf_bnvae.model.chunking_bnvae import count_chunks, cut_into_chunks

LENGTHS = st.lists(st.integers(1, 30), min_size=2, max_size=9)


def cut(lengths: list[int], num_chunks: int) -> list[list[int]]:
    """The lengths in each chunk."""
    rows = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    lengths = torch.tensor(lengths)
    parts, _ = cut_into_chunks({"rows": rows}, lengths, num_chunks, own=lengths)
    assert num_chunks == 1 or all(part["rows"].shape == (len(part["own"]), max(part["own"])) for part in parts)
    return [part["own"].tolist() for part in parts]


def all_cuts(lengths: list[int]):
    ordered = sorted(lengths)
    for count in range(len(ordered)):
        for places in combinations(range(1, len(ordered)), count):
            ends = [0, *places, len(ordered)]
            yield [ordered[start:end] for start, end in pairwise(ends)]


def positions(chunk: list[int]) -> int:
    return len(chunk) * max(chunk)


def fits(chunks: list[list[int]], max_positions: float) -> bool:
    """Whether the last chunk has no more positions than that, and each other three quarters of it, or one sentence."""
    return positions(chunks[-1]) <= max_positions and all(
        len(chunk) == 1 or positions(chunk) <= 0.75 * max_positions for chunk in chunks[:-1]
    )


@given(LENGTHS, st.integers(1, 9))
def test_chunks_are_as_few_as_the_longest_sentences_allow(lengths, chunk_size):
    count = count_chunks(torch.tensor(lengths), chunk_size, nn.Module())
    if chunk_size >= len(lengths):
        assert count == 1
        return
    room = chunk_size * max(lengths)
    assert count == min(len(chunks) for chunks in all_cuts(lengths) if fits(chunks, room))
    chunks = cut(lengths, count)
    assert len(chunks) == count and fits(chunks, room) and len(chunks[-1]) <= chunk_size
    assert [length for chunk in chunks for length in chunk] == sorted(lengths)


@given(LENGTHS, st.data())
def test_the_largest_chunk_is_as_small_as_can_be(lengths, data):
    count = data.draw(st.integers(2, len(lengths)))
    chunks = cut(lengths, count)
    assert len(chunks) == count and all(chunks)
    # The least room with which so many chunks do; no chunk may need more.
    room = min(
        max(positions(c[-1]), *(positions(chunk) / 0.75 for chunk in c[:-1] if len(chunk) > 1), max(lengths))
        for c in all_cuts(lengths)
        if len(c) <= count
    )
    assert fits(chunks, room + 1)


def test_short_sentences_share_a_chunk():
    lengths = [4] * 24 + [32] * 8
    assert count_chunks(torch.tensor(lengths), 8, nn.Module()) == 2
    assert [len(chunk) for chunk in cut(lengths, 2)] == [24, 8]
    # Control: where all are long, they are cut by their number, with room for gradients beside all but the last.
    assert count_chunks(torch.tensor([32] * 32), 8, nn.Module()) == 5


@pytest.mark.parametrize("chunk_size", [None, 32, 100])
def test_a_batch_that_fits_is_one_chunk_as_it_came(chunk_size):
    lengths = torch.arange(32, 0, -1)
    assert count_chunks(lengths, chunk_size, nn.Module()) == 1
    assert cut_into_chunks({"rows": torch.zeros(32, 40)}, lengths)[1] is None
