"""The linear probe is checked where the truth is known: on Gaussian classes, whose Bayes rule is linear, and on labels
without meaning. It is also compared with scikit-learn's pipeline and search."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_bnvae.evaluation import probe
from hf_bnvae.evaluation.probe import PENALTIES, ProbeResult, probe_features, require_labels, split_in_halves

SIZE = 8


def gaussian_classes(counts, distance=1.0, seed=0):
    """Features N(+-distance u, I) of two classes along one direction u: the Bayes accuracy is Phi(distance)."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], counts)
    direction = np.ones(SIZE) / math.sqrt(SIZE)
    features = (
        random.standard_normal((len(labels), SIZE)) + np.where(labels[:, None] == 1, 1, -1) * distance * direction
    )
    order = random.permutation(len(labels))
    return features[order], labels[order]


def bayes(distance: float) -> float:
    return 0.5 * (1 + math.erf(distance / math.sqrt(2)))


@pytest.fixture(scope="module")
def result() -> ProbeResult:
    return probe_features(*gaussian_classes([1000, 1000]), *gaussian_classes([4000, 4000], seed=1))


def test_all_labels_give_the_bayes_accuracy_and_few_less(result):
    few, more, all_ = result.rows
    assert [row.labels_per_class for row in result.rows] == [10, 100, None]
    assert [row.num_labels for row in result.rows] == [20, 200, 2000]
    assert [row.num_draws for row in result.rows] == [10, 10, 1]
    assert all_.accuracy == pytest.approx(bayes(1.0), abs=0.012)
    assert few.accuracy < more.accuracy < all_.accuracy + 0.003
    assert more.accuracy > bayes(1.0) - 0.03 and 0.65 < few.accuracy < bayes(1.0) - 0.02
    assert few.accuracy_std > 2 * more.accuracy_std > 0 == all_.accuracy_std
    assert (result.num_train, result.num_test, result.num_features, result.num_classes) == (2000, 8000, SIZE, 2)
    assert result.majority_accuracy == result.chance_balanced_accuracy == 0.5


@pytest.mark.slow
def test_labels_without_meaning_give_chance():
    x, y = gaussian_classes([1000, 1000])
    x_test, y_test = gaussian_classes([4000, 4000], seed=1)
    shuffled = np.random.default_rng(0).permutation(y)
    result = probe_features(x, shuffled, x_test, y_test, labels_per_class=(100,))
    # The few labels of a draw may by chance lean one way, in which the classes do differ; so may their mean.
    assert result.rows[0].accuracy == pytest.approx(0.5, abs=0.1)
    noise = np.random.default_rng(1).standard_normal
    result = probe_features(noise(x.shape), y, noise(x_test.shape), y_test)
    for row in result.rows:
        assert row.accuracy == pytest.approx(0.5, abs=0.02)


def test_all_labels_are_what_scikit_learns_pipeline_makes_of_them():
    x, y = gaussian_classes([120, 80], distance=0.7)
    x_test, y_test = gaussian_classes([300, 100], seed=1, distance=0.7)
    folds = StratifiedKFold(5, shuffle=True, random_state=int(np.random.default_rng([3]).integers(2**31)))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"logisticregression__C": PENALTIES}, scoring="neg_log_loss", cv=folds).fit(x, y)
    assert probe._choose_penalty(x, y, [3]) == search.best_params_["logisticregression__C"]
    (row,) = probe_features(x, y, x_test, y_test, labels_per_class=(), seed=3).rows
    predicted = search.predict(x_test)
    assert row.accuracy == pytest.approx(np.mean(predicted == y_test))
    assert row.balanced_accuracy == pytest.approx(balanced_accuracy_score(y_test, predicted))
    assert row.accuracy != pytest.approx(row.balanced_accuracy)


def test_the_penalty_is_strong_for_noise_and_weak_for_what_can_be_told_apart():
    x, y = gaussian_classes([50, 50], distance=6.0)
    noise = np.random.default_rng(0).standard_normal((100, 40))
    assert probe._choose_penalty(noise, y, [0]) < 0.1 < probe._choose_penalty(x, y, [0])


def test_scale_and_shift_of_features_do_not_matter():
    x, y = gaussian_classes([60, 60])
    x_test, y_test = gaussian_classes([200, 200], seed=1)
    plain = probe_features(x, y, x_test, y_test, (10,), 2)
    scale, shift = 10.0 ** np.arange(-4, 4), np.arange(SIZE)
    assert probe_features(x * scale + shift, y, x_test * scale + shift, y_test, (10,), 2).rows == pytest.approx(
        plain.rows
    )
    # A dimension that never moves, as collapsed ones nearly do, adds nothing and breaks nothing.
    dead = [np.hstack([values, np.full((len(values), 1), 3.0)]) for values in (x, x_test)]
    assert probe_features(dead[0], y, dead[1], y_test, (10,), 2).rows == pytest.approx(plain.rows)
    assert probe_features(x[:, ::2], y, x_test[:, ::2], y_test, (10,), 2).rows != plain.rows


def test_a_seed_means_the_same_draws_for_tensors_arrays_and_any_names():
    x, y = gaussian_classes([60, 60])
    x_test, y_test = gaussian_classes([200, 200], seed=1)
    first = probe_features(x, y, x_test, y_test, (10,), 3)
    assert probe_features(torch.tensor(x), torch.tensor(y), torch.tensor(x_test), y_test.tolist(), (10,), 3) == first
    rough = [torch.tensor(values).bfloat16() for values in (x, x_test)]
    near = probe_features(rough[0], y, rough[1], y_test, (10,), 3)
    assert near.rows[-1].accuracy == pytest.approx(first.rows[-1].accuracy, abs=0.02)
    names = np.array(["good", "great"])
    assert probe_features(x, names[y], x_test, names[y_test].tolist(), (10,), 3) == first
    other = probe_features(x, y, x_test, y_test, (10,), 3, seed=1)
    assert other.rows[0] != first.rows[0] and other.rows[0].num_labels == first.rows[0].num_labels


def test_several_classes():
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = 4 * np.eye(3)
    x = centres[labels] + random.standard_normal((300, 3))
    x_test = centres[labels] + random.standard_normal((300, 3))
    result = probe_features(x, labels, x_test, labels, (10,), 3)
    assert result.num_classes == 3 and result.chance_balanced_accuracy == pytest.approx(1 / 3)
    assert all(row.accuracy > 0.97 for row in result.rows)
    permuted = probe_features(x, labels, x_test, (labels + 1) % 3, (10,), 3)
    assert all(row.accuracy < 0.03 for row in permuted.rows)


def test_balanced_draws_of_unbalanced_classes_need_balanced_accuracy():
    """Why it is there: with features that say nothing, balanced training is far below the majority's rate."""
    random = np.random.default_rng(0)
    y, y_test = np.repeat([0, 1], [900, 100]), np.repeat([0, 1], [3600, 400])
    result = probe_features(
        random.standard_normal((1000, SIZE)), y, random.standard_normal((4000, SIZE)), y_test, labels_per_class=(20,)
    )
    assert result.majority_accuracy == 0.9 and result.chance_balanced_accuracy == 0.5
    few, all_ = result.rows
    assert few.accuracy < 0.65 and few.balanced_accuracy == pytest.approx(0.5, abs=0.03)
    assert all_.accuracy == pytest.approx(0.9, abs=0.005) and all_.balanced_accuracy == pytest.approx(0.5, abs=0.02)


def test_more_labels_than_there_are_is_left_out_and_said():
    x, y = gaussian_classes([50, 30])
    result = probe_features(x, y, x, y, labels_per_class=(10, 30, 31, 100), num_draws=2)
    assert [row.labels_per_class for row in result.rows] == [10, 30, None]
    assert result.omitted == dict.fromkeys(("31", "100"), "the class 1 has 30 labelled training texts only")


def test_a_class_of_two_is_enough_to_choose_a_penalty():
    x, y = gaussian_classes([40, 2])
    assert len(probe_features(x, y, x, y, labels_per_class=()).rows) == 1


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 0, 0, 0], [0, 0], "two classes or more, and all training labels are 0"),
        (["a", "a", "b", "b"], ["a", "c"], "classes that the training set lacks: 'c'"),
        ([0, 0, 1, 1], ["0", "1"], r"training set's labels are numbers \(0\), the test set's strings \('0'\)"),
        ([0, 0, 0, 1], [0, 1], "The class 1 has one labelled training text"),
        ([0, None, 1, 1], [0, 1], "1 of 4 labels of the training set are missing .* at index 1"),
        ([0.0, 1.0, math.nan, math.nan], [0, 1], "2 of 4 labels of the training set are missing .* at index 2"),
        (["a", "a", "b", " "], ["a", "b"], "1 of 4 labels of the training set are missing"),
        ([0, 0, 1, 1], [0, None], "1 of 2 labels of the test set are missing"),
        ([0, 0, 0.5, 1], [0, 1], r"must name classes, .* got 0.5 in the training set"),
        ([0, 0, "b", "b"], [0, "b"], "must name classes"),
        ([], [0, 1], "training set of the probe has no label"),
    ],
)
def test_labels_that_are_no_classes_are_refused(train, test, message):
    with pytest.raises(ValueError, match=message):
        probe_features(np.ones((len(train), 2)), train, np.ones((len(test), 2)), test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_draws": 0}, "num_draws must be at least 1, got 0"),
        ({"labels_per_class": (1,)}, r"labels_per_class must be 2 or more each, got \[1\]"),
        ({"features_train": np.ones((3, 2))}, r"training features must have shape \(4, features\), got \(3, 2\)"),
        ({"features_test": np.ones(4)}, r"test features must have shape \(4, features\), got \(4,\)"),
        ({"features_test": np.ones((4, 3))}, "width 2, test features 3"),
        ({"features_train": np.full((4, 2), math.nan)}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    x, y = np.ones((4, 2)), [0, 0, 1, 1]
    given = {"features_train": x, "labels_train": y, "features_test": x, "labels_test": y, **arguments}
    with pytest.raises(ValueError, match=message):
        probe_features(**given)


def test_halves_have_half_of_each_class():
    labels = ["a"] * 11 + ["b"] * 4
    train, test = split_in_halves(labels)
    assert sorted([*train, *test]) == list(range(15))
    assert [np.array(labels)[train].tolist().count(name) for name in "ab"] == [6, 2]
    assert train.tolist() == split_in_halves(labels)[0].tolist() != split_in_halves(labels, seed=1)[0].tolist()
    with pytest.raises(ValueError, match="The class 'c' has one text"):
        split_in_halves([*labels, "c"])


def test_booleans_and_whole_floats_are_classes():
    assert require_labels([True, False], "test").tolist() == [1, 0]
    assert require_labels([1.0, 2.0], "test").tolist() == [1, 2]
    assert require_labels(np.array([3, 4]), "test").tolist() == [3, 4]


def test_a_result_survives_json(result):
    assert ProbeResult.from_json(result.to_json()) == result
    changed = json.loads(result.to_json())
    changed["rows"][0]["accuracy"] = 0.0
    assert ProbeResult.from_json(json.dumps(changed)) != result


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    monkeypatch.delitem(sys.modules, "hf_bnvae.evaluation.probe")
    with pytest.raises(ImportError, match=r"pip install 'scikit-learn>=1.5'"):
        import hf_bnvae.evaluation.probe  # noqa: F401
