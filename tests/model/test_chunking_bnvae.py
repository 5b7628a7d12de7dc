"""The chunks of a batch, against all ways to cut it, and the passes that a network gets. Other tests, of posterior
batches, check that chunks change no result."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hf_bnvae.model.chunking_bnvae import BatchPlan, count_chunks, cut_into_chunks, plan_chunks

LENGTHS = st.lists(st.integers(1, 30), min_size=2, max_size=9)


def cut(lengths: list[int], num_chunks: int) -> list[list[int]]:
    """The lengths in each chunk."""
    rows = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    lengths = torch.tensor(lengths)
    parts = cut_into_chunks({"rows": rows}, lengths, num_chunks, own=lengths).parts
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


@pytest.mark.parametrize("chunk_size", [32, 100])
def test_a_batch_that_fits_is_one_chunk_as_it_came(chunk_size):
    rows, lengths = torch.zeros(32, 40), torch.arange(32, 0, -1)
    mask = torch.arange(40) < lengths.unsqueeze(1)
    plan = plan_chunks({"rows": rows}, mask, chunk_size, nn.Module())
    assert plan.order is None and len(plan.parts) == 1 and plan.parts[0]["rows"] is rows
    # Control: a smaller chunk size cuts and sorts.
    smaller = plan_chunks({"rows": rows}, mask, 31, nn.Module())
    assert len(smaller.parts) > 1 and smaller.order.tolist() == list(range(31, -1, -1))


def passes_of(model, **inputs) -> list[torch.Tensor]:
    """The token ids of each pass through the encoder."""
    seen = []
    handle = model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    try:
        model.features(**inputs)
    finally:
        handle.remove()
    return seen


def test_without_a_chunk_size_the_network_gets_the_batch_itself(make_model, batch):
    model, ids = make_model(pack_sentences=False), batch["input_ids"]
    inputs = {"input_ids": ids, "attention_mask": batch["attention_mask"]}
    (whole,) = passes_of(model, **inputs)
    assert whole is ids
    # Control: with a chunk size the network gets copies of some rows.
    assert len(passes_of(model, **inputs, chunk_size=4)) > 1


def test_without_a_mask_every_position_is_real(make_model):
    """Also a token of number 0, which in a mask stands for padding."""
    model = make_model(pack_sentences=False).eval()
    ids = torch.randint(5, 60, (6, 7))
    ids[:, 4:] = 0
    chunks = passes_of(model, input_ids=ids, chunk_size=2)
    assert len(chunks) > 1 and all(chunk.shape[1] == 7 for chunk in chunks)
    # Control: with a mask the positions behind the last real one are cut off.
    chunks = passes_of(model, input_ids=ids, attention_mask=ids.ne(0).long(), chunk_size=2)
    assert len(chunks) > 1 and all(chunk.shape[1] == 4 for chunk in chunks)


@pytest.mark.parametrize("checkpoint_chunks", [False, True])
def test_results_of_chunks_come_in_the_order_of_the_batch(checkpoint_chunks):
    values = torch.tensor([[5.0, 0, 0], [1, 2, 3], [4, 4, 0]], requires_grad=True)
    plan = cut_into_chunks({"values": values}, torch.tensor([1, 3, 2]), 2)

    def totals(values):
        return (values.sum(1),)

    (result,) = plan.run(totals, checkpoint_chunks)
    assert result.tolist() == [5, 6, 8] and plan.order.tolist() == [0, 2, 1]
    # Control: without the order the results would be those of other sentences.
    assert torch.cat([totals(**part)[0] for part in plan.parts]).tolist() == [5, 8, 6]


def test_a_checkpointed_part_is_computed_again_in_the_backward_pass():
    calls = []

    def square(values):
        calls.append(len(values))
        return (values.square().sum(1),)

    for checkpoints, expected in ((True, [3, 3]), (False, [3])):
        calls.clear()
        values = torch.ones(3, 2, requires_grad=True)
        BatchPlan([{"values": values}]).run(square, checkpoints)[0].sum().backward()
        assert calls == expected and torch.equal(values.grad, torch.full((3, 2), 2.0))
