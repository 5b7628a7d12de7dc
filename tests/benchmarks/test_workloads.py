"""The speed benchmark's workloads: the floor and the naive way do the work that they are described to do.

Hooks on the networks' layers count the positions that each way computes.
"""

from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from hf_bnvae.benchmarks.synthetic import SIZES, draw_lengths, make_processor, make_texts
from hf_bnvae.benchmarks.workloads import COMPARED, Setting

TINY = SIZES["tiny"]


@contextmanager
def counted():
    """Positions that reach the layers of encoder and decoder, and those whose logits are computed."""
    counts = Counter()

    def hook(module, arguments):
        if isinstance(module, (BertLayer, GPT2Block)):
            counts[type(module).__name__] += arguments[0].shape[:2].numel()
        elif isinstance(module, nn.Linear) and module.out_features == TINY.decoder_vocabulary:
            counts["logits"] += arguments[0].shape[:-1].numel()

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        yield counts
    finally:
        handle.remove()


def build(name: str, sentences: int | None = None, seed: int = 1):
    return COMPARED[name](Setting("tiny", seed=seed), sentences or TINY.sentences[name][0])


def test_sentences_have_twelve_tokens_on_average_and_five_to_thirty():
    for count, seed in ((1, 0), (2, 1), (300, 1), (300, 2)):
        lengths = draw_lengths(count, seed)
        assert lengths.sum() == 12 * count and lengths.min() >= 5 and lengths.max() <= 30
    assert lengths.max() > 20 and not torch.equal(lengths, draw_lengths(300, 1))


def test_texts_have_the_drawn_numbers_of_tokens():
    lengths = draw_lengths(20, 1)
    batch = make_processor(TINY)(make_texts(lengths, TINY, 1), return_tensors="pt")
    assert torch.equal(batch["attention_mask"].sum(1), lengths)
    # Token 3 stands for words that a vocabulary lacks. Almost no word is one of them.
    assert batch["input_ids"].eq(3).float().mean() < 0.05


@pytest.mark.parametrize("sentences", [16, 48])
def test_the_floor_of_training_computes_every_real_token_once_and_no_padding(sentences):
    tokens = int(draw_lengths(sentences, 1).sum())
    work = build("training", sentences)
    for chunk_size in (5, sentences):
        with counted() as counts:
            work.floor(chunk_size)
        assert counts == {"BertLayer": tokens, "GPT2Block": tokens, "logits": tokens}
    assert work.tokens == tokens
    # Controls: one padded piece computes all padding, and chunks compute some of it.
    with counted() as counts:
        work.naive()
    padded = sentences * int(draw_lengths(sentences, 1).max())
    assert counts == {"BertLayer": padded, "GPT2Block": padded, "logits": padded} and padded > 1.4 * tokens
    with counted() as counts:
        work.ours(8)
    assert tokens < counts["BertLayer"] < padded and counts["logits"] == tokens


def test_the_other_floors_compute_every_real_token_too():
    for name, sentences, layers in (("encoding", 100, ["BertLayer"]), ("iw_nll", 6, ["GPT2Block", "logits"])):
        work, passes = build(name), TINY.num_samples if name == "iw_nll" else 1
        with counted() as counts:
            work.floor(7)
        assert work.tokens == int(draw_lengths(sentences, 1).sum()) * passes
        assert counts == dict.fromkeys(layers, work.tokens)
    # The naive way encodes each sentence once, and also computes the last position, which scores nothing.
    with counted() as counts:
        work.naive()
    scored = work.tokens + 6 * TINY.num_samples
    assert counts == {"BertLayer": work.tokens // TINY.num_samples, "GPT2Block": scored, "logits": scored}
    work = build("generation")
    with counted() as counts:
        work.floor(5)
    assert counts == dict.fromkeys(["GPT2Block", "logits"], 12 * TINY.new_tokens) and work.tokens == counts["logits"]
    # The naive way computes the whole text before each token, and its logits, again.
    with counted() as counts:
        work.naive()
    again = TINY.naive_texts * TINY.new_tokens * (TINY.new_tokens + 1) // 2
    assert counts == {"GPT2Block": again, "logits": again}


@pytest.mark.parametrize("name", ["encoding", "generation", "iw_nll"])
def test_all_ways_compute_in_the_precision_that_is_asked_for(name):
    for bf16, expected in ((True, torch.bfloat16), (False, torch.float32)):
        work, seen = COMPARED[name](Setting("tiny", bf16=bf16), 6), []

        def hook(module, arguments, seen=seen):
            if isinstance(module, (BertLayer, GPT2Block)):
                seen.append(arguments[0].dtype)

        handle = nn.modules.module.register_module_forward_pre_hook(hook)
        try:
            for way in (lambda work=work: work.ours(6), lambda work=work: work.floor(6), work.naive):
                seen.clear()
                way()
                assert set(seen) == {expected}
        finally:
            handle.remove()


@pytest.mark.parametrize("bf16", [False, True])
def test_the_floor_makes_the_same_training_at_any_chunk_size(bf16):
    whole, chunks = (COMPARED["training"](Setting("tiny", bf16=bf16), 48) for _ in range(2))
    losses = [whole.floor(48) for _ in range(3)], [chunks.floor(5) for _ in range(3)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][2] < losses[0][0] * (1 - 1e-3)  # control: the steps change it


def test_the_naive_way_makes_the_same_training():
    ours, naive = build("training"), build("training")
    losses = [ours.ours(8) for _ in range(3)], [naive.naive() for _ in range(3)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # Controls: the steps change the loss, and other sentences and weights have another one.
    assert losses[0][2] < losses[0][0] * (1 - 1e-4)
    assert build("training", seed=2).naive() != pytest.approx(losses[0][0], rel=1e-5)


@pytest.mark.parametrize("name", ["encoding", "iw_nll"])
def test_the_naive_way_has_the_same_result(name):
    work = build(name)
    ours, naive = work.ours(16), work.naive()
    torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, naive.roll(1, 0), rtol=1e-4, atol=1e-5)  # control: another sentence's


def test_the_naive_way_generates_the_same_texts():
    work = build("generation")
    ours, naive = work.ours(5), work.naive()
    assert torch.equal(ours[: TINY.naive_texts], naive) and naive.shape == (2, 1 + TINY.new_tokens)
    other = build("generation", seed=2)  # control: other weights and latents
    assert not torch.equal(other.ours(5)[: TINY.naive_texts], naive)
