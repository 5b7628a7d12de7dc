"""Scores of disentanglement against their values on toys: one dimension for each factor, copies, mixtures, noise."""

import numpy as np
import pytest
import torch

from hf_bnvae.evaluation.disentanglement import disentanglement_scores

N = 4000


@pytest.fixture(scope="module")
def factors():
    """Three independent factors, with 2, 4 and 5 values."""
    random = np.random.default_rng(0)
    return {name: random.integers(size, size=N) for name, size in (("a", 2), ("b", 4), ("c", 5))}


def scores(columns, factors):
    return disentanglement_scores(np.stack(columns, 1), factors, num_groups=400)


def test_one_dimension_for_each_factor_is_perfect(factors):
    found = scores([*factors.values()], factors)
    # Of independent factors, samples have a little information about each other.
    assert found.mig == pytest.approx(1, abs=0.01) and found.modularity == pytest.approx(1, abs=0.01)
    assert found.z_diff > 0.99 and found.z_min_var > 0.99 and found.informativeness == 1
    assert found.disentanglement > 0.999 and found.completeness > 0.999
    values = found.mutual_information
    assert values["b"][1] == pytest.approx(np.log(4), abs=0.01) and values["b"][0] == pytest.approx(0, abs=0.01)
    assert found.num_texts == N and set(values) == {"a", "b", "c"}


def test_scale_shift_and_order_of_dimensions_say_nothing(factors):
    plain = scores([*factors.values()], factors)
    moved = scores([factors["c"] * -3.0 + 7, factors["a"] * 100.0, factors["b"] / 50], factors)
    for name in ("mig", "modularity"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name), abs=1e-9)
    assert moved.z_diff > 0.99 and moved.z_min_var > 0.97


def test_a_copy_of_a_dimension_closes_the_gap_and_halves_the_completeness(factors):
    found = scores([factors["a"], factors["b"], factors["b"], factors["c"]], factors)
    # The factor b has two equally good dimensions; a and c have one.
    assert found.mig == pytest.approx(2 / 3, abs=0.01)
    assert found.modularity == pytest.approx(1, abs=0.01) and found.disentanglement > 0.98
    # b spends log 2 of the log 4 that four dimensions can spend.
    assert found.completeness == pytest.approx(1 - 0.5 / 3, abs=0.03)
    assert found.informativeness == 1


def test_a_dimension_of_two_factors_is_not_modular(factors):
    mixed = factors["a"] + 2 * factors["b"]  # both can be read from it
    found = scores([mixed, factors["c"]], factors)
    # Information log 2 about a and log 4 about b: 1 - (log 2)² / ((log 4)² * 2) = 7/8, beside 1 of the other one.
    assert found.modularity == pytest.approx((7 / 8 + 1) / 2, abs=0.01)
    assert found.disentanglement < 0.9 and found.informativeness == 1


def test_mixtures_of_equal_weight_have_no_gap(factors):
    random = np.random.default_rng(1)
    x, y = random.integers(4, size=(2, N))
    found = disentanglement_scores(np.stack([x + y, x - y], 1), {"x": x, "y": y}, num_groups=400)
    assert found.mig == pytest.approx(0, abs=0.01) and found.informativeness == 1
    # A sum of two of four values has the information H(x + y) - H(y) about either.
    counts = np.array([1, 2, 3, 4, 3, 2, 1]) / 16
    expected = -np.sum(counts * np.log(counts)) - np.log(4)
    assert found.mutual_information["x"][0] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_noise_has_the_scores_of_chance(factors):
    noise = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    found = disentanglement_scores(noise, factors, num_groups=400)
    assert abs(found.z_diff - 1 / 3) < 0.1 and abs(found.z_min_var - 1 / 3) < 0.1
    assert found.mig < 0.01 and found.disentanglement < 0.1
    assert abs(found.informativeness - np.mean([1 / 2, 1 / 4, 1 / 5])) < 0.05


@pytest.mark.parametrize("count", [60, 300])
def test_few_texts_do_not_flatter(count):
    random = np.random.default_rng(1)
    factors = {name: random.integers(3, size=count) for name in ("a", "b")}
    found = disentanglement_scores(random.normal(size=(count, 32)), factors, num_groups=400)
    assert found.z_diff < 0.72 and found.z_min_var < 0.72


def test_a_factor_with_a_value_for_every_text_is_refused(factors):
    with pytest.raises(ValueError, match="hardly two texts of one value"):
        disentanglement_scores(np.random.default_rng(0).normal(size=(50, 3)), {"a": [0, 1] * 25, "b": list(range(50))})


@pytest.mark.slow
def test_a_seed_gives_the_same_scores(factors):
    latents = np.stack([*factors.values()], 1) + np.random.default_rng(2).normal(size=(N, 3))
    first, again, other = (disentanglement_scores(latents, factors, 100, seed=seed) for seed in (0, 0, 1))
    assert first == again != other and first.mig == other.mig
    assert '"mig"' in first.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"a": f["a"]}, "two at least, got 1"),
        (lambda f: {**f, "d": np.zeros(N, int)}, "'d' has one value only"),
        (lambda f: {**f, "d": f["a"][:-1]}, "'d' has 3999 labels, and there are 4000 latents"),
        (lambda f: {**f, "d": [None, *f["a"][1:].tolist()]}, "missing"),
    ],
)
def test_what_is_no_factor_is_refused(factors, change, message):
    with pytest.raises(ValueError, match=message):
        disentanglement_scores(np.ones((N, 2)) * np.arange(N)[:, None], change(factors))


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.full((N, 2), 0.1), "the same"),
        (np.ones((N, 2)), "the same"),
        (np.full((N, 2), np.nan), "finite"),
    ],
)
def test_latents_that_say_nothing_are_refused(factors, latents, message):
    with pytest.raises(ValueError, match=message):
        disentanglement_scores(latents, factors)
