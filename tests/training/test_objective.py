"""The objective's pure functions, against values worked out by hand and plain loops."""

import itertools

import pytest
import torch
from torch.distributions import Normal

from hf_bnvae import BNVAEOutput, BNVAETrainingArguments, DiagonalGaussian
from hf_bnvae.training.objective import beta_at_step, density_gap, free_bits_kl


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


def test_density_gap_is_that_of_the_mixture():
    """Against numerical integration over a grid, dimension by dimension."""
    torch.manual_seed(0)
    posterior = DiagonalGaussian(torch.randn(6, 3).double(), torch.randn(6, 3).double() - 1)
    noise = torch.randn(20000, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    grid = torch.linspace(-12, 12, 24001).double()
    gap = 0.0
    for dimension in range(3):
        components = Normal(posterior.mean[:, dimension, None], posterior.std[:, dimension, None])
        density = components.log_prob(grid).exp().mean(0)
        ratio = density.log() - Normal(0.0, 1.0).log_prob(grid)
        gap += torch.trapezoid(torch.where(density > 0, density * ratio, 0), grid).item()
    assert density_gap(posterior, noise).item() == pytest.approx(gap, abs=0.02)
    assert posterior.kl().sum(-1).mean().item() > gap + 1
    # Posteriors that are narrow, but fill the prior together, have nearly no gap.
    means = Normal(0.0, 1.0).icdf((torch.arange(200) + 0.5).double() / 200).unsqueeze(1)
    narrow = DiagonalGaussian(means, torch.full_like(means, -4))
    assert density_gap(narrow, torch.randn(32, 200, 1).double()).item() < 0.05
    assert narrow.kl().mean().item() > 1.5


def test_density_gap_is_a_training_argument(tmp_path):
    args = BNVAETrainingArguments(tmp_path, regularizer="density_gap", beta=0.5, seed=3)
    outputs = BNVAEOutput(
        reconstruction_nll=torch.rand(8), mean=torch.randn(8, 4), logvar=torch.randn(8, 4), kl=torch.rand(8, 4)
    )
    first, again, other = (args.loss(outputs, step, 10) for step in (0, 0, 1))
    assert first == again != other
    noise = torch.randn(200, 8, 4, generator=torch.Generator().manual_seed(1))
    expected = outputs.reconstruction_nll.mean() + 0.5 * density_gap(outputs.posterior, noise)
    assert first.item() == pytest.approx(expected.item(), abs=0.2)
    plain = BNVAETrainingArguments(tmp_path, beta=0.5).loss(outputs, 0, 10)
    assert plain.item() == pytest.approx((outputs.reconstruction_nll.mean() + 0.5 * outputs.kl.sum(-1).mean()).item())
    for options, message in (
        ({"regularizer": "density_gap", "free_bits": 0.5}, "the density gap has none"),
        ({"regularizer": "gap"}, "one of kl, density_gap"),
    ):
        with pytest.raises(ValueError, match=message):
            BNVAETrainingArguments(tmp_path, **options)
