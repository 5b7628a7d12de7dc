"""Directions from labelled texts, against scikit-learn itself and on latents whose sides are known."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from hf_bnvae import fit_direction
from hf_bnvae.evaluation.probe import balanced_accuracy

GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture(scope="module")
def labelled():
    """Latents of two classes that differ in one dimension."""
    latents = torch.randn(300, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = (latents[:, 3] > 0.2).long()
    return latents, labels


def test_the_normal_is_that_of_logistic_regression_and_finds_the_dimension(trained_model, labelled):
    latents, labels = labelled
    direction = fit_direction(trained_model, latents, labels)
    assert direction.held_out_accuracy > 0.95 and direction.method == "probe"
    assert direction.normal.abs().argmax() == 3
    # The same side as some logistic regression on the same coordinates, almost always.
    white = trained_model.current_prior.whiten(latents).numpy()
    scaler = StandardScaler().fit(white)
    other = LogisticRegression(C=100, max_iter=1000).fit(scaler.transform(white), labels)
    found = direction.score(latents).numpy() > 0
    assert (found == other.predict(scaler.transform(white)).astype(bool)).mean() > 0.97
    assert balanced_accuracy(found == labels.numpy(), labels.numpy()) > 0.97


def test_labels_that_say_nothing_have_the_accuracy_of_chance(trained_model, labelled):
    latents, labels = labelled
    shuffled = labels[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert 0.4 < fit_direction(trained_model, latents, shuffled).held_out_accuracy < 0.6


def test_it_is_a_method_of_the_model_and_its_direction_is_followed(trained_model, texts):
    labels = ["long" if len(text) > 35 else "short" for text in texts[:200]]
    direction = trained_model.fit_direction(texts[:200], labels, seed=1)
    assert (direction.name, direction.negative, direction.positive) == ("long to short", "long", "short")
    assert (direction.num_negative, direction.num_positive) == (labels.count("long"), labels.count("short"))
    back = trained_model.fit_direction(texts[:200], labels, seed=1, positive="long", name="longer")
    assert (back.name, back.positive) == ("longer", "long")
    torch.testing.assert_close(back.step, -direction.step, rtol=1e-3, atol=1e-4)
    latents = trained_model.encode_texts(texts[:5])
    expected = trained_model.reconstruct(latents + direction.step.to(latents), **GREEDY)
    assert trained_model.edit(texts[:5], direction, **GREEDY) == expected


def test_balanced_accuracy_is_scikit_learn_s():
    y = np.array([0] * 90 + [1] * 10)
    guess = np.random.default_rng(0).integers(0, 2, 100)
    assert balanced_accuracy(guess == y, y) == pytest.approx(balanced_accuracy_score(y, guess))
    assert balanced_accuracy(y == 0, y) == 0.5


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0] * 300, {}, "needs two, got 1"),
        ([0, 1, 2] * 100, {}, "needs two, got 3: 0, 1, 2"),
        ([0] * 297 + [1] * 3, {}, "The class 1 has 3 texts"),
        ([0, 1] * 149 + [None, 1], {}, "missing"),
        ([0, 1] * 50, {}, "300 texts and 100 labels"),
        ([0, 1] * 150, {"positive": "1"}, r"positive must be one of the classes \[0, 1\]"),
        ([0, 1] * 150, {"name": "a\nb"}, "a line of text"),
    ],
)
def test_what_is_not_two_classes_is_refused(trained_model, labelled, labels, options, message):
    with pytest.raises(ValueError, match=message):
        fit_direction(trained_model, labelled[0], labels, **options)
