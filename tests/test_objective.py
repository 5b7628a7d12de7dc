"""The objective's pure functions, against values worked out by hand and plain loops."""

import itertools

import pytest
import torch

from hf_bnvae.objective import beta_at_step, free_bits_kl


def test_constant_beta():
    assert [beta_at_step(step, 10, beta=0.3) for step in (0, 5, 10, 50)] == [0.3] * 4


def test_linear_beta_is_zero_then_rises_then_stays():
    values = [beta_at_step(s, 100, "linear", 2.0, zero_ratio=0.2, increase_ratio=0.4) for s in range(101)]
    assert values[:20] == [0.0] * 20
    assert values[40] == pytest.approx(1.0)
    assert all(b >= a for a, b in itertools.pairwise(values))
    assert values[60:] == pytest.approx([2.0] * 41)


def test_cyclical_beta_repeats_and_stays_at_the_end():
    options = {"schedule": "cyclical", "beta": 1.0, "zero_ratio": 0.0, "increase_ratio": 0.5, "num_cycles": 4}
    values = [beta_at_step(s, 400, **options) for s in range(401)]
    assert values[:100] == values[100:200] == values[300:400]
    assert values[25] == pytest.approx(0.5) and values[75] == 1.0 and values[100] == 0.0
    assert values[400] == 1.0
    single = [beta_at_step(s, 400, **{**options, "schedule": "linear"}) for s in range(401)]
    assert single != values


def test_without_a_rise_beta_jumps():
    assert beta_at_step(4, 10, "linear", zero_ratio=0.5, increase_ratio=0) == 0
    assert beta_at_step(5, 10, "linear", zero_ratio=0.5, increase_ratio=0) == 1


def test_free_bits_match_plain_loops():
    kl = torch.rand(7, 5).double() * torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0]).double()
    free = 0.4
    by_batch = sum(max(float(kl[:, j].mean()), free) for j in range(5))
    masked = sum(float(v) for v in kl.flatten() if v > free) / 7
    assert free_bits_kl(kl, free).item() == pytest.approx(by_batch)
    assert free_bits_kl(kl, free, "optimus").item() == pytest.approx(masked)
    assert free_bits_kl(kl).item() == pytest.approx(float(kl.sum()) / 7)
    assert len({round(x, 6) for x in (by_batch, masked, float(kl.sum()) / 7)}) == 3


def test_free_bits_stop_the_gradient_below_the_threshold_only():
    kl = torch.tensor([[0.1, 1.0], [0.3, 3.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(free_bits_kl(kl, 0.5), kl)
    assert gradient.tolist() == [[0.0, 0.5], [0.0, 0.5]]
    (gradient,) = torch.autograd.grad(free_bits_kl(kl, 0.2, "optimus"), kl)
    assert gradient.tolist() == [[0.0, 0.5], [0.5, 0.5]]
