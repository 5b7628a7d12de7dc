"""What an evaluation hands on of the texts that it encodes, and that it keeps nothing of it."""

import gc
import weakref

import pytest
import torch

from hf_bnvae.evaluation import evaluate_model
from hf_bnvae.evaluation.encoding import encode_corpus

QUICK = {"batch_size": 8, "num_importance_samples": 2, "max_importance_sentences": 8, "show_progress": False}


def test_each_batch_is_handed_on_once_with_its_place(trained_model, processor, texts):
    batches = []
    evaluate_model(
        trained_model, texts[:30], processor, **QUICK, on_encoded=lambda first, batch: batches.append((first, batch))
    )
    assert [first for first, _ in batches] == [0, 8, 16, 24]
    expected = encode_corpus(trained_model, processor, texts[:30])
    for name in ("features", "mean", "logvar"):
        found = torch.cat([getattr(batch, name) for _, batch in batches])
        torch.testing.assert_close(found, getattr(expected, name))
        assert not torch.allclose(found, getattr(expected, name).flip(0))


def test_places_do_not_count_texts_that_are_left_out(trained_model, processor, texts):
    sizes = {}
    data = ["", *texts[:8], " ", *texts[8:12]]
    evaluate_model(
        trained_model,
        data,
        processor,
        **QUICK,
        on_encoded=lambda first, batch: sizes.__setitem__(first, len(batch.mean)),
    )
    assert sizes == {0: 8, 8: 4}


@pytest.mark.slow
def test_asking_for_the_batches_changes_no_figure(trained_model, processor, texts):
    plain = evaluate_model(trained_model, texts[:30], processor, **QUICK)
    assert evaluate_model(trained_model, texts[:30], processor, **QUICK, on_encoded=lambda *_: None) == plain
    assert evaluate_model(trained_model, texts[1:31], processor, **QUICK) != plain


@pytest.mark.slow
def test_an_evaluation_keeps_no_batch(trained_model, processor, texts):
    """Of a stream, so that the data may be larger than memory."""
    alive, seen, kept = [], [], []

    def look(first, batch):
        gc.collect()
        alive.append(sum(reference() is not None for reference in seen))
        seen.append(weakref.ref(batch))

    evaluate_model(trained_model, iter(texts[:40]), processor, **QUICK, on_encoded=look)
    assert alive == [0, 0, 0, 0, 0]
    # The control: batches that the caller keeps are seen.
    alive.clear(), seen.clear()

    def keep(first, batch):
        look(first, batch)
        kept.append(batch)

    evaluate_model(trained_model, iter(texts[:40]), processor, **QUICK, on_encoded=keep)
    assert alive == [0, 1, 2, 3, 4]
