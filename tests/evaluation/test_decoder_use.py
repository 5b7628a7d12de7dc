"""Decoder information and latent gain against closed forms; decoders that ignore the latent."""

import math
import statistics
from functools import partial
from operator import getitem

import pytest
import torch
from cases import cases
from factor_model import FactorModel
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from hf_bnvae import DiagonalGaussian, GaussianPrior, build_posterior_head
from hf_bnvae.evaluation import estimate_likelihood, importance_weighted_nll
from hf_bnvae.evaluation.decoder_use import LEAST_DRAWS, num_draws


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact_information(model: FactorModel, posterior: DiagonalGaussian) -> torch.Tensor:
    """E_q[log p(x|z)] - log p(x) of each sentence."""
    reconstruction = model.negative_elbo(posterior) - posterior.kl().sum(-1)
    return -reconstruction - model.marginal.log_prob(model.data)


# --- against closed forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_scale", cases([0.5, -1.0], quick=[-1.0]))
def test_decoder_information_covers_the_truth_as_often_as_its_error_says(log_scale):
    """Its 95% interval, over 200 seeds. The posterior lies beside the true one, and is wider or narrower."""
    model = FactorModel(count=40)
    posterior = model.posterior(shift=0.3, log_scale=log_scale)
    truth = exact_information(model, posterior).mean().item()
    distances, errors, biases = [], [], []
    for seed in range(200):
        estimate = estimate_likelihood(model.nll, posterior, generator=seeded(seed))
        errors.append(estimate.variance.sum().sqrt().item() / len(model.data))
        distances.append(estimate.decoder_information.mean().item() - truth)
        biases.append((estimate.iw_nll - estimate.reconstruction_nll).mean().item() - truth)
    covered = sum(abs(distance) < 1.96 * error for distance, error in zip(distances, errors, strict=True))
    assert 180 <= covered <= 198
    # Half of the interval is too short.
    assert sum(abs(distance) < 0.98 * error for distance, error in zip(distances, errors, strict=True)) < 180
    # The plain difference has the logarithm's bias besides, which is removed. It is largest for a narrow posterior.
    error = statistics.stdev(distances) / math.sqrt(200)
    assert abs(statistics.mean(distances)) < 3 * error
    if log_scale == -1.0:
        assert statistics.mean(biases) > 4 * error


def test_decoder_information_is_the_kl_of_the_true_posterior_and_less_of_others():
    model = FactorModel()
    for shift, log_scale in ((0.0, 0.0), (0.3, 0.0), (1.5, 0.0)):
        posterior = model.posterior(shift, log_scale)
        kl = posterior.kl().sum(-1).mean().item()
        truth = exact_information(model, posterior).mean().item()
        estimate = estimate_likelihood(model.nll, posterior, 2000, generator=seeded(0))
        error = estimate.variance.sum().sqrt().item() / len(model.data)
        assert error < 0.05
        assert estimate.decoder_information.mean().item() == pytest.approx(truth, abs=4 * error)
        if shift == 0:
            assert truth == pytest.approx(kl)
        else:
            assert truth < kl - 0.1
    assert truth < 0  # a posterior far off misleads the decoder


def test_the_likelihood_is_that_of_the_integral():
    model = FactorModel()
    truth = -model.marginal.log_prob(model.data)
    for log_scale in (0.5, -1.0, -2.0):
        posterior = model.posterior(0.3, log_scale)
        estimate = estimate_likelihood(model.nll, posterior, 2000, generator=seeded(0))
        torch.testing.assert_close(estimate.iw_nll, truth, rtol=0, atol=0.4)
        assert (estimate.iw_nll - truth).mean().abs() < 0.01
    # Draws from the narrow posterior alone miss most of the integral.
    alone = importance_weighted_nll(model.nll, posterior, 2000, generator=seeded(0))
    assert (alone - truth).mean() > 0.1


def test_under_a_fitted_prior_both_likelihoods_are_those_of_their_integrals():
    model = FactorModel()
    moments = torch.tensor([0.4, -0.8]).double(), torch.tensor([[1.6, 0.5], [0.5, 0.6]]).double()
    prior = GaussianPrior.from_moments(*moments).double()
    posterior = model.posterior(0.3, 0.3)
    estimate = estimate_likelihood(model.nll, posterior, 2000, generator=seeded(0), fitted_prior=prior)
    reconstruction = model.negative_elbo(posterior) - posterior.kl().sum(-1)
    truths = [
        -marginal.log_prob(model.data)
        for marginal in (model.marginal, model.marginal_under(MultivariateNormal(*moments)))
    ]
    assert (truths[0] - truths[1]).mean().abs() > 0.1  # control: the priors differ
    for own, truth in zip((estimate, estimate.fitted), truths, strict=True):
        torch.testing.assert_close(own.iw_nll, truth, rtol=0, atol=0.4)
        error = own.variance.sum().sqrt().item() / len(model.data)
        assert own.decoder_information.mean().item() == pytest.approx(
            (truth - reconstruction).mean().item(), abs=4 * error
        )
    assert estimate_likelihood(model.nll, posterior, generator=seeded(0)).fitted is None


# --- a decoder that ignores the latent -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [4.0, 8.0, 32.0, 1000.0])
def test_a_deaf_decoder_has_no_information(rate):
    head = build_posterior_head("bn_rms", 64, 32, rate=rate).train()
    posterior = head(torch.randn(200, 64))
    posterior = DiagonalGaussian(posterior.mean.detach(), posterior.logvar.detach())
    nll = 30 + 10 * torch.rand(200)

    def deaf(latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return nll[rows]

    prior = GaussianPrior.from_moments(
        posterior.mean.mean(0), posterior.mean.T.cov() + posterior.logvar.exp().mean(0).diag()
    )
    estimate = estimate_likelihood(deaf, posterior, generator=seeded(0), fitted_prior=prior)
    assert abs(estimate.fitted.decoder_information.mean().item()) < 0.1
    estimate = estimate_likelihood(deaf, posterior, generator=seeded(0))
    assert abs(estimate.decoder_information.mean().item()) < 0.1
    assert (estimate.iw_nll - nll).abs().max() < 0.5
    # Draws from the posterior alone take much of the KL for information.
    alone = importance_weighted_nll(deaf, posterior, generator=seeded(0)) - nll
    assert alone.mean() > {4.0: 0.3, 8.0: 1.0, 32.0: 15.0, 1000.0: 900.0}[rate]


# --- how it is cut ---------------------------------------------------------------------------------------------------


def test_estimates_do_not_depend_on_how_they_are_cut():
    model = FactorModel()
    posterior, noise = model.posterior(0.3), torch.randn(150, 30, 2).double()
    whole, parts, other = (
        estimate_likelihood(model.nll, posterior, 30, rows, partial(getitem, n))
        for rows, n in ((10_000, noise), (7, noise), (7, noise.flip(0)))
    )
    for name in ("iw_nll", "reconstruction_nll", "decoder_information", "variance"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name), rtol=1e-9, atol=1e-9)
        assert (getattr(whole, name) - getattr(other, name)).abs().max() > 1e-3


def test_every_component_has_the_draws_that_an_error_needs():
    for number in (LEAST_DRAWS, 11, 12, 13, 14, 15, 100, 1001):
        draws = num_draws(number)
        assert sum(draws) == number and min(draws) >= 2
    with pytest.raises(ValueError, match="at least 10, got 9"):
        num_draws(9)


# --- bounds ----------------------------------------------------------------------------------------------------------


@given(
    num_samples=st.integers(1, 20),
    shift=st.floats(-1, 1),
    log_scale=st.floats(-2, 1),
    seed=st.integers(0, 2**31),
)
def test_the_iw_nll_is_no_more_than_minus_the_elbo_of_the_same_draws(num_samples, shift, log_scale, seed):
    """With draws of the posterior, and the KL from the same draws (Jensen)."""
    torch.manual_seed(seed)
    model = FactorModel()
    posterior, noise = model.posterior(shift, log_scale), torch.randn(150, num_samples, 2).double()
    together = importance_weighted_nll(model.nll, posterior, num_samples, noise=partial(getitem, noise))
    latents = posterior.mean[:, None] + posterior.std[:, None] * noise
    rows = torch.arange(150)
    negative_elbo = torch.stack(
        [
            model.nll(z, rows) + posterior.log_prob(z) + 0.5 * (z.square().sum(-1) + 2 * math.log(2 * math.pi))
            for z in latents.unbind(1)
        ]
    ).mean(0)
    assert (together <= negative_elbo + 1e-9).all()
