"""Reconstructions and paths by judges, against loops; exact reconstructions."""

import copy
from dataclasses import asdict

import pytest
import torch

from hf_bnvae.evaluation.judged_latents import STEPS, judge_paths, judge_reconstructions
from hf_bnvae.evaluation.text_scores import CHARACTERS, RunningScores, token_f1

GREEDY = {"do_sample": False, "show_progress": False}


def test_reconstructions_are_compared_with_their_texts_and_with_others(trained_model, encoder, texts):
    found = judge_reconstructions(trained_model, texts[:20], encoder, num_texts=20, batch_size=7)
    decoded = trained_model.reconstruct(texts[:20], **GREEDY)
    own = encoder.embed(texts[:20]) @ encoder.embed(decoded).T
    assert found.similarity == pytest.approx(own.diagonal().mean().item(), abs=1e-5)
    assert found.num_texts == 20 and abs(found.similarity - found.random_similarity) > 1e-4
    # In the model's own space, and in words, by loops.
    with torch.no_grad():
        features = [
            [
                trained_model.features(**trained_model.processor(t, return_tensors="pt", return_labels=False))
                for t in pair
            ]
            for pair in zip(texts[:20], decoded, strict=True)
        ]
    cosines = [torch.nn.functional.cosine_similarity(*pair).item() for pair in features]
    assert found.own_similarity == pytest.approx(sum(cosines) / 20, abs=1e-4)
    f1 = sum(token_f1(*pair) for pair in zip(texts[:20], decoded, strict=True)) / 20
    assert found.token_f1 == pytest.approx(f1) and 0 < f1 < 1
    # All pairs of two texts are one cosine each way.
    pair = judge_reconstructions(trained_model, texts[:2], encoder, num_texts=5)
    crossed = (own[0, 1] + own[1, 0]).item() / 2
    assert pair.num_texts == 2 and pair.random_similarity == pytest.approx(crossed, abs=1e-5)
    # Without a judge there is the model's own space, and there are the words.
    alone = judge_reconstructions(trained_model, texts[:2], None, num_texts=5)
    assert alone.similarity is None and alone.random_similarity is None
    assert asdict(alone) | {"similarity": None, "random_similarity": None} == asdict(pair) | {
        "similarity": None,
        "random_similarity": None,
    }


def test_copies_of_a_text_are_no_other_text(trained_model, encoder, texts):
    found = judge_reconstructions(trained_model, [texts[0]] * 3, encoder, num_texts=3)
    assert found.random_similarity is None and found.own_random_similarity is None
    mixed = judge_reconstructions(trained_model, [texts[0], *[texts[1]] * 5], encoder, num_texts=6)
    pair = judge_reconstructions(trained_model, texts[:2], encoder, num_texts=2)
    # Only the two places where the texts differ count, one each way.
    assert mixed.random_similarity == pytest.approx(pair.random_similarity, abs=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_one_text_cannot_be_compared_with_another(trained_model, encoder, texts, number):
    with pytest.raises(ValueError, match=f"At least two texts are needed, to compare one with another, got {number}"):
        judge_reconstructions(trained_model, texts[:number], encoder, num_texts=5)
    with pytest.raises(ValueError, match=f"got {number}"):
        judge_reconstructions(trained_model, texts[:5], encoder, num_texts=number)
    with pytest.raises(ValueError, match="At least two texts"):
        judge_paths(trained_model, texts[:number], None, num_paths=5)
    with pytest.raises(ValueError, match="At least two texts"):
        judge_paths(trained_model, texts[:5], None, num_paths=0)


def test_the_f1_of_tokens_is_of_sets_and_keeps_case():
    assert token_f1("the food , the staff", "the food !") == pytest.approx(2 * 2 / (4 + 3))
    assert token_f1("great lunch!", "great lunch !") == 1, "as BLEU cuts texts"
    assert token_f1("The food", "the food") == 0.5
    assert token_f1("\u4f60\u597d\u5417", "\u4f60\u597d", CHARACTERS) == pytest.approx(2 * 2 / (3 + 2))
    assert token_f1("", "") == 1 and token_f1("a", "") == 0


def test_a_decoder_that_ignores_the_latent_makes_no_text_more_similar(trained_model, encoder, texts):
    deaf = copy.deepcopy(trained_model)
    with torch.no_grad():
        deaf.injection.memory.weight.zero_()
    found = judge_reconstructions(deaf, texts[:20], encoder, num_texts=20)
    assert found.similarity == pytest.approx(found.random_similarity, abs=1e-6)
    assert found.own_similarity == pytest.approx(found.own_random_similarity, abs=1e-6)
    assert judge_paths(deaf, texts[:20], None, num_paths=3).distinct == 1


def test_paths_are_interpolations_between_random_pairs(trained_model, language_model, texts):
    found = judge_paths(trained_model, texts[:9], language_model, num_paths=100, seed=1)
    assert (found.num_paths, found.num_steps) == (4, STEPS), "half of the texts"
    assert 1 <= found.distinct <= STEPS
    one = judge_paths(trained_model, texts[:2], language_model, num_paths=1)
    paths = [trained_model.interpolate(*ends, steps=STEPS, **GREEDY) for ends in (texts[:2], texts[1::-1])]
    expected = [
        (len(set(path)), language_model.perplexity(path[1:-1]), language_model.perplexity([path[0], path[-1]]))
        for path in paths
    ]
    seen = (one.distinct, one.inner_perplexity, one.end_perplexity)
    assert any(seen == pytest.approx(values, rel=1e-4) for values in expected)
    assert judge_paths(trained_model, texts[:9], None, num_paths=2).inner_perplexity is None


def test_exact_reconstructions_are_counted_over_batches():
    scores = RunningScores().update(["a b", "c"], ["a b", "d"])
    assert scores.exact() == 50
    assert scores.merge(RunningScores().update(["x", "y"], ["x", "y"])).exact() == 75
    assert RunningScores().update(["A b"], ["a b"]).exact() == 0
