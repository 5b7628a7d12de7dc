"""The posterior heads, against their mathematics: floors, moments, closed forms, running statistics.

Properties are checked over random features, weights, scales and batch sizes, in float32, float64 and under bfloat16
autocast; each with a head or a use that must violate it.
"""

import inspect
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from transformers.utils import logging

from hf_bnvae import (
    POSTERIOR_HEADS,
    BatchNormMeanPosterior,
    BatchNormPosterior,
    BatchNormRMSPosterior,
    DeltaPosterior,
    DiagonalGaussian,
    DiversityUncertaintyPosterior,
    GaussianPosterior,
    LayerNormPosterior,
    build_posterior_head,
    population_statistics,
)
from hf_bnvae.model.gaussian_bnvae import prior_log_prob
from hf_bnvae.model.scales_bnvae import SCALE_SETTINGS, RateScale, TauScale

scales = st.one_of(
    st.fixed_dictionaries({"tau": st.floats(0.01, 0.99)}), st.fixed_dictionaries({"rate": st.floats(0.05, 60)})
)
batch_sizes = st.integers(2, 200)
latent_sizes = st.integers(2, 24)
seeds = st.integers(0, 2**31)
modes = st.sampled_from(["float32", "autocast", "float64"])


def random_head(head_class, latent_size, seed, input_size=20, **scale):
    """A head with random weights, biases, thetas, allocations and shifts."""
    torch.manual_seed(seed)
    head = head_class(input_size, latent_size, **scale)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=math.exp(torch.empty(()).uniform_(-2, 1).item()))
    return head


def random_features(batch_size, seed, input_size=20):
    generator = torch.Generator().manual_seed(seed)
    spread = math.exp(torch.empty(()).uniform_(-2, 2, generator=generator).item())
    offset = torch.randn(input_size, generator=generator)
    return spread * (torch.randn(batch_size, input_size, generator=generator) + offset)


def run(head, features, mode):
    """The posterior in training mode, as float64 for checking, from float32 weights, under autocast or in float64."""
    if mode == "float64":
        head, features = head.double(), features.double()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode == "autocast"):
        posterior = head(features.bfloat16() if mode == "autocast" else features)
    assert posterior.mean.dtype == posterior.logvar.dtype == (torch.float64 if mode == "float64" else torch.float32)
    return DiagonalGaussian(posterior.mean.double(), posterior.logvar.double())


def is_well_conditioned(layer, features, mode):
    """The premise: in every dimension the pre-activations' variance is at least 1e-2 and |mean| / std at most 10."""
    features = features.bfloat16().double() if mode == "autocast" else features.double()
    values = features @ layer.weight.double().T
    variance = values.var(0, correction=0)
    return bool((variance >= 1e-2).all() and (values.mean(0).abs() <= 10 * variance.sqrt()).all())


def log_gamma_sigma_squared(head, scale):
    """By its definition, in float64."""
    if "tau" in scale:
        return math.log(1 - scale["tau"]) + torch.sigmoid(-head.scale.theta.double()).log()
    return -2 * scale["rate"] * torch.softmax(head.scale.allocation.double(), 0)


def mean_kl(posterior):
    return posterior.kl().sum(-1).mean().item()


# --- the Gaussian ----------------------------------------------------------------------------------------------------


def test_kl_and_log_density_match_torch_distributions():
    posterior = DiagonalGaussian(torch.randn(7, 5).double(), torch.randn(7, 5).double())
    reference = Normal(posterior.mean, posterior.std)
    prior = Normal(torch.zeros(5).double(), torch.ones(5).double())
    latents = torch.randn(3, 7, 5).double()
    torch.testing.assert_close(posterior.kl(), kl_divergence(reference, prior))
    torch.testing.assert_close(posterior.log_prob(latents), reference.log_prob(latents).sum(-1))
    torch.testing.assert_close(prior_log_prob(latents), prior.log_prob(latents).sum(-1))
    assert not torch.allclose(posterior.kl(), kl_divergence(prior, reference))


def test_sample_is_the_mean_plus_std_times_noise():
    posterior = DiagonalGaussian(torch.randn(7, 5), torch.randn(7, 5))
    noise = torch.randn(7, 5)
    torch.testing.assert_close(posterior.sample(noise), posterior.mean + posterior.std * noise)
    torch.testing.assert_close(posterior.mode(), posterior.mean)
    one = posterior.sample(generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(one, posterior.sample(generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(one, posterior.sample(generator=torch.Generator().manual_seed(4)))


def test_noise_of_another_shape_is_refused():
    posterior = DiagonalGaussian(torch.zeros(7, 5), torch.zeros(7, 5))
    with pytest.raises(ValueError, match=r"\(7, 5\), got \(5,\)"):
        posterior.sample(torch.randn(5))


# --- floors and moments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_class", [BatchNormPosterior, BatchNormRMSPosterior])
@given(latent_size=latent_sizes, batch_size=batch_sizes, scale=scales, seed=seeds, mode=modes)
def test_scaled_heads_hold_floor_and_moments(head_class, latent_size, batch_size, scale, seed, mode):
    head, features = random_head(head_class, latent_size, seed, **scale), random_features(batch_size, seed)
    assume(is_well_conditioned(head.mean_projection, features, mode))
    assume(head_class is BatchNormRMSPosterior or is_well_conditioned(head.scale_projection, features, mode))
    posterior = run(head, features, mode)
    variance = posterior.logvar.exp()
    assert posterior.mean.mean(0).abs().max() <= 1e-5
    second_moment = (posterior.mean.square() + variance).mean(0)
    torch.testing.assert_close(second_moment, torch.ones_like(second_moment), rtol=0, atol=1e-5)
    promised = head.promised_moments()
    torch.testing.assert_close(posterior.mean.square().mean(0), promised.mean_square.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(variance.mean(0), promised.variance.double(), rtol=0, atol=1e-5)
    sharpened = -0.5 * log_gamma_sigma_squared(head, scale).sum().item()
    assert mean_kl(posterior) >= sharpened - 1e-5 * latent_size
    assert head.kl_floor().item() == pytest.approx(sharpened, rel=1e-6, abs=1e-5 * latent_size)
    # Su's own bound is the weaker one.
    assert sharpened >= 0.5 * promised.mean_square.double().sum().item() - 1e-5 * latent_size


@given(latent_size=latent_sizes, batch_size=batch_sizes, seed=seeds, mode=modes)
def test_mean_head_holds_its_floor(latent_size, batch_size, seed, mode):
    gamma = 0.05 + 0.9 * (seed % 101) / 101
    head = random_head(BatchNormMeanPosterior, latent_size, seed, gamma=gamma)
    features = random_features(batch_size, seed)
    assume(is_well_conditioned(head.mean_projection, features, mode))
    posterior = run(head, features, mode)
    floor = 0.5 * (gamma**2 + head.shift.double().square()).sum().item()
    assert mean_kl(posterior) >= floor - 1e-5 * latent_size
    assert head.kl_floor().item() == pytest.approx(floor, rel=1e-5)


@given(latent_size=latent_sizes, batch_size=st.integers(1, 50), scale=scales, seed=seeds, mode=modes)
def test_layer_norm_head_holds_its_floor_for_every_sentence(latent_size, batch_size, scale, seed, mode):
    head, features = random_head(LayerNormPosterior, latent_size, seed, **scale), random_features(batch_size, seed)
    with torch.no_grad():
        mean = features.double() @ head.mean_projection.weight.double().T + head.mean_projection.bias.double()
    assume(bool((mean.var(1, correction=0) >= 1e-2).all()))
    posterior = run(head, features, mode)
    assert posterior.kl().sum(-1).min().item() >= head.kl_floor().item() - 1e-5 * latent_size


def test_layer_norm_head_holds_its_floor_where_the_dimensions_hardly_differ():
    """Of two dimensions, where every sentence's KL is the floor itself."""
    head = LayerNormPosterior(20, 2, rate=2.0)
    mean, scale = 100 + torch.randn(2, 1000, 2)
    kl = head.normalise(mean, scale).kl().sum(-1)
    torch.testing.assert_close(kl, torch.full_like(kl, 2.0), rtol=0, atol=2e-5)


@given(latent_size=latent_sizes, batch_size=batch_sizes, seed=seeds, mode=modes)
def test_diversity_uncertainty_head_holds_its_floor_and_variance(latent_size, batch_size, seed, mode):
    gamma = 0.05 + 0.9 * (seed % 101) / 101
    head = random_head(DiversityUncertaintyPosterior, latent_size, seed, gamma=gamma)
    features = random_features(batch_size, seed)
    assume(is_well_conditioned(head.mean_projection, features, mode))
    posterior = run(head, features, mode)
    shift = head.shift.double()
    moments = (posterior.mean - shift).square().mean(0)
    assert moments.mean().item() == pytest.approx(gamma**2, rel=1e-4)
    torch.testing.assert_close(moments, head.promised_moments().mean_square.double(), rtol=1e-4, atol=1e-6)
    floor = 0.5 * (latent_size * gamma**2 + shift.square().sum().item())
    assert mean_kl(posterior) >= floor - 1e-5 * max(latent_size, floor)
    assert head.kl_floor().item() == pytest.approx(floor, rel=1e-5)
    least = 1 / (2 * math.pi * math.e)
    assert posterior.logvar.exp().min().item() >= least * (1 - 1e-6)
    # An entropy of no less than 0 in every dimension.
    assert (0.5 * (posterior.logvar + math.log(2 * math.pi * math.e))).min().item() >= -1e-6


def test_diversity_uncertainty_head_drops_variances_in_training_only():
    head, features = DiversityUncertaintyPosterior(20, 50), torch.randn(200, 20)
    free = F.linear(features, head.scale_projection.weight, head.scale_projection.bias).exp()
    variance = head(features).logvar.exp() - head.least_variance
    dropped = variance < 1e-6
    assert 0.18 < dropped.float().mean().item() < 0.22
    torch.testing.assert_close(variance[~dropped], free[~dropped] / 0.8, rtol=1e-3, atol=1e-5)
    evaluated = head.eval()(features).logvar.exp() - head.least_variance
    torch.testing.assert_close(evaluated, free, rtol=1e-3, atol=1e-5)
    head.train()
    (gradient,) = torch.autograd.grad(head(features).logvar.sum(), head.scale_projection.bias)
    assert gradient.isfinite().all() and (gradient > 0).all()


@given(latent_size=latent_sizes, batch_size=st.integers(1, 50), delta=st.floats(0.001, 5), seed=seeds, mode=modes)
def test_delta_head_commits_its_rate_in_every_dimension_of_every_sentence(latent_size, batch_size, delta, seed, mode):
    head = random_head(DeltaPosterior, latent_size, seed, rate=delta * latent_size)
    posterior = run(head, random_features(batch_size, seed), mode)
    kl = posterior.kl()
    assert kl.min().item() >= delta - 1e-5 * max(1, delta)
    assert head.kl_floor().item() == pytest.approx(latent_size * delta)
    for std in (head.least_std, head.greatest_std):
        assert kl_divergence(Normal(0.0, std), Normal(0.0, 1.0)).item() == pytest.approx(delta, abs=1e-6)
    assert head.least_std < 1 < head.greatest_std
    assert posterior.std.min() >= head.least_std * (1 - 1e-6)
    assert posterior.std.max() <= head.greatest_std * (1 + 1e-6)


def test_diversity_uncertainty_heads_spread_has_no_gradient_along_itself():
    """The head renormalises the spread. So its length has no effect, and its shares have one."""
    head = random_head(DiversityUncertaintyPosterior, 6, 1).double()
    mean = head(random_features(50, 1).double()).mean
    (gradient,) = torch.autograd.grad((mean * torch.arange(6)).square().sum(), head.spread)
    assert (gradient * head.spread).sum().abs() < 1e-9 * gradient.norm() * head.spread.norm()
    assert gradient.norm() > 1


def test_a_rate_that_no_delta_head_can_hold_is_refused():
    with pytest.raises(ValueError, match="125000 nats for each of 8 dimensions"):
        DeltaPosterior(4, 8, rate=1e6)


def test_delta_head_keeps_finite_gradients_at_the_ends_of_its_range():
    head = DeltaPosterior(4, 3, rate=0.9).double()
    scale = torch.tensor([[-800.0, 0.0, 800.0]]).double().requires_grad_()
    mean = torch.tensor([[-1.0, -1.0, -1.0]]).double().requires_grad_()
    posterior = head.normalise(mean, scale)
    gradients = torch.autograd.grad(posterior.kl().sum() + posterior.mean.sum(), (mean, scale))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert posterior.kl().tolist()[0] == pytest.approx([0.3] * 3, abs=1e-6)
    # What is added beyond the committed rate: half of it in nats.
    more = head.normalise(torch.tensor([[0.5, 0.5, 0.5]]).double(), scale.detach())
    assert more.kl().tolist()[0] == pytest.approx([0.55] * 3, abs=1e-6)


def test_floor_and_moments_fail_without_normalisation():
    """The control: the free head on the same features, and the normalised one in evaluation on other data."""
    features = random_features(64, 1)
    free = random_head(GaussianPosterior, 8, 1)
    with torch.no_grad():
        for projection in (free.mean_projection, free.scale_projection):
            projection.weight.mul_(0.01)
            projection.bias.zero_()
    posterior = free(features)
    second_moment = (posterior.mean.square() + posterior.logvar.exp()).mean(0)
    assert mean_kl(posterior) < 4 * math.log(2)
    assert (second_moment - 1).abs().max() > 1e-3

    head = random_head(BatchNormPosterior, 8, 1)
    head(features)
    posterior = head.eval()(2 * features)
    assert ((posterior.mean.square() + posterior.logvar.exp()).mean(0) - 1).abs().max() > 1e-3
    # `ln` holds nothing per dimension.
    posterior = random_head(LayerNormPosterior, 8, 1)(features)
    assert ((posterior.mean.square() + posterior.logvar.exp()).mean(0) - 1).abs().max() > 1e-2


@pytest.mark.parametrize("variance", [1e-4, 1e-9, 1e-14])
@pytest.mark.parametrize("head_class", [BatchNormPosterior, BatchNormRMSPosterior])
def test_the_moments_hold_however_little_the_features_vary(head_class, variance):
    """The features of a new encoder vary little. With an epsilon of 1e-8 trainings fell below the floor there."""
    head = head_class(4, 4)
    with torch.no_grad():
        head.mean_projection.weight.copy_(torch.eye(4))
        head.scale_projection.weight.copy_(torch.eye(4))
    values = torch.randn(64, 4) * variance**0.5
    posterior = head(values)
    promised = head.promised_moments()
    torch.testing.assert_close(posterior.mean.square().mean(0), promised.mean_square, rtol=1e-4, atol=0)
    torch.testing.assert_close(posterior.logvar.exp().mean(0), promised.variance, rtol=1e-4, atol=0)
    assert mean_kl(posterior) > head.kl_floor() - 1e-3
    with population_statistics(head), torch.no_grad():
        head(values)
    mean_square = head.eval()(values).mean.square().mean(0)
    torch.testing.assert_close(mean_square, promised.mean_square, rtol=1e-4, atol=0)


def test_rounding_is_not_taken_for_variation():
    head = BatchNormMeanPosterior(4, 4)
    with torch.no_grad():
        head.mean_projection.weight.copy_(torch.eye(4))
    constant = torch.full((64, 4), 1000.0)
    rounded = constant + 1e-4 * torch.randn(64, 4)  # neighbouring numbers are 6e-5 apart
    for values in (constant, rounded):
        assert head(values).mean.square().mean() < 0.05 * head.gamma**2
    values = constant + torch.randn(64, 4)
    torch.testing.assert_close(head(values).mean.var(0, correction=0), torch.full((4,), head.gamma**2))


@given(seed=seeds, scale=scales)
def test_mean_kl_of_scaled_heads_has_a_closed_form(seed, scale):
    """With both moments fixed, the mean KL is -1/2 sum_j E[log sigma_j^2]."""
    head = random_head(BatchNormRMSPosterior, 6, seed, **scale).double()
    posterior = head(random_features(32, seed).double())
    assert mean_kl(posterior) == pytest.approx(-0.5 * posterior.logvar.sum(-1).mean().item(), rel=1e-4, abs=1e-5)


def test_signed_deviation_starts_0_64_nats_above_the_floor():
    """For a normal pre-activation 1/2 E[-log x^2] = (log 2 + Euler's gamma) / 2 = 0.635 nats a dimension."""
    head = BatchNormPosterior(4, 4).double()
    with torch.no_grad():
        head.scale_projection.weight.copy_(torch.eye(4))
    excess = mean_kl(head(torch.randn(200_000, 4).double())) - head.kl_floor().item()
    assert excess / 4 == pytest.approx(0.5 * (math.log(2) + 0.5772156649), abs=0.01)


def test_rms_head_starts_0_40_nats_above_the_floor():
    """Softplus of a standard normal, by numerical integration: 0.40 nats a dimension, and less for smaller ones."""
    grid = torch.linspace(-12, 12, 200_001).double()
    density = Normal(0.0, 1.0).log_prob(grid).exp() * (grid[1] - grid[0])
    for std, expected in ((1.0, 0.40), (0.1, 0.0)):
        value = torch.nn.functional.softplus(std * grid)
        excess = 0.5 * ((density * value.square()).sum().log() - (density * value.square().log()).sum())
        assert excess.item() == pytest.approx(expected, abs=0.011 if std == 1.0 else 0.01)
        head = BatchNormRMSPosterior(4, 4).double()
        with torch.no_grad():
            head.scale_projection.weight.copy_(std * torch.eye(4))
            head.scale_projection.bias.zero_()
        measured = (mean_kl(head(torch.randn(200_000, 4).double())) - head.kl_floor().item()) / 4
        assert measured == pytest.approx(excess.item(), abs=0.005)


def test_extreme_preactivations_stay_finite():
    for head_class in POSTERIOR_HEADS.values():
        head = head_class(4, 4)
        with torch.no_grad():
            head.mean_projection.weight.copy_(torch.eye(4))
            head.scale_projection.weight.copy_(torch.eye(4))
        features = torch.tensor([[-80.0, -40.0, 0.0, 40.0]]) * torch.linspace(0.1, 1, 16).unsqueeze(1)
        features.requires_grad_()
        posterior = head(features)
        posterior.kl().sum().backward()
        assert torch.isfinite(posterior.mean).all() and torch.isfinite(posterior.logvar).all()
        assert torch.isfinite(features.grad).all()


# --- scales ----------------------------------------------------------------------------------------------------------


def test_su_scale_matches_its_formula():
    scale = TauScale(5, tau=0.3)
    with torch.no_grad():
        scale.theta.copy_(torch.tensor([-30.0, -2.0, 0.0, 1.0, 30.0]))
    theta = scale.theta.double()
    gamma_sigma_squared = 0.7 * torch.sigmoid(-theta)
    gamma_mu_squared = 0.3 + 0.7 * torch.sigmoid(theta)
    log_gamma = scale(torch.float64)
    torch.testing.assert_close(log_gamma.exp(), gamma_sigma_squared)
    torch.testing.assert_close(-torch.expm1(log_gamma), gamma_mu_squared)


@pytest.mark.parametrize("posterior", ["bn", "bn_rms", "ln"])
@pytest.mark.parametrize("theta", [-4.0, 0.0, 1.0])
def test_a_head_begins_where_theta_does(posterior, theta):
    head = build_posterior_head(posterior, 6, 8, tau=0.1, theta_init=theta)
    assert head.kl_floor().item() == pytest.approx(-4 * math.log(0.9) + 4 * math.log1p(math.exp(theta)), rel=1e-5)
    with pytest.raises(ValueError, match="theta_init must be a finite number"):
        build_posterior_head(posterior, 6, 8, tau=0.1, theta_init=math.inf)
    for scales, message in (({"theta_init": theta}, "give tau"), ({"tau": 0.1, "rate": 2.0}, "give only one")):
        with pytest.raises(ValueError, match=message):
            build_posterior_head(posterior, 6, 8, **scales)
    assert build_posterior_head(posterior, 6, 8).kl_floor().item() == pytest.approx(4.0)


@pytest.mark.parametrize("latent_size", [2, 16, 300])
@pytest.mark.parametrize("rate", [0.5, 8.0, 40.0])
def test_rate_is_the_floor_whatever_the_allocation(latent_size, rate):
    scale = RateScale(latent_size, rate)
    for spread in (0.0, 1.0, 60.0):
        with torch.no_grad():
            scale.allocation.copy_(spread * torch.randn(latent_size))
        log_gamma = scale(torch.float32)
        assert -0.5 * log_gamma.sum().item() == pytest.approx(rate, rel=1e-5)
        assert (-torch.expm1(log_gamma) > 0).all()


def test_a_vanishing_share_has_a_finite_gradient():
    head = BatchNormRMSPosterior(4, 3, rate=6.0)
    with torch.no_grad():
        head.scale.allocation.copy_(torch.tensor([0.0, -500.0, 0.0]))
    head(torch.randn(16, 4)).sample().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("posterior", ["bn", "bn_rms", "bn_mean", "ln"])
def test_rate_sets_the_floor_of_every_head(posterior):
    head = build_posterior_head(posterior, 4, 16, rate=5.0)
    assert head.kl_floor().item() == pytest.approx(5.0, rel=1e-6)


def test_the_settings_of_a_head_are_the_arguments_of_its_class():
    assert SCALE_SETTINGS.keys() == POSTERIOR_HEADS.keys()
    for name, head_class in POSTERIOR_HEADS.items():
        arguments = set(inspect.signature(head_class).parameters) - {"input_size", "latent_size"}
        assert arguments == set(SCALE_SETTINGS[name])


@pytest.mark.parametrize("head_class", [BatchNormPosterior, BatchNormRMSPosterior, LayerNormPosterior])
@pytest.mark.parametrize("tau", [0.0, 1.0, -0.1, 1.5])
def test_tau_outside_its_range_is_refused(head_class, tau):
    with pytest.raises(ValueError, match="tau"):
        head_class(4, 4, tau=tau)


def test_gamma_of_one_or_more_is_refused_with_the_reason():
    for arguments in ({"gamma": 1.0}, {"gamma": 0.0}, {"rate": 2.0}):
        with pytest.raises(ValueError, match="posterior hole"):
            BatchNormMeanPosterior(4, 4, **arguments)


def test_layer_norm_of_one_dimension_is_refused():
    with pytest.raises(ValueError, match="latent_size >= 2"):
        LayerNormPosterior(4, 1)


def test_scale_and_shift_parameters_are_scales_and_shifts():
    def names(**scales):
        heads = {name: build_posterior_head(name, 4, 4, **scales) for name in POSTERIOR_HEADS}
        return {
            name: {n for n, p in head.named_parameters() if any(p is q for q in head.scale_and_shift_parameters())}
            for name, head in heads.items()
        }

    others = {"bn_mean": {"shift"}, "du": {"spread", "shift"}, "delta": set(), "gaussian": set()}
    assert names(tau=0.5) == {"bn": {"scale.theta"}, "bn_rms": {"scale.theta"}, "ln": {"scale.theta"}, **others}
    assert names() == {"bn": {"scale.allocation"}, "bn_rms": {"scale.allocation"}, "ln": set(), **others}


# --- statistics ------------------------------------------------------------------------------------------------------


def test_running_statistics_are_torchs():
    head = BatchNormPosterior(6, 4).double()
    reference = torch.nn.BatchNorm1d(4, eps=1e-30, affine=False).double()
    for seed in range(5):
        values = random_features(16, seed, 6).double()
        torch.testing.assert_close(
            head.mean_norm(head.mean_projection(values)), reference(head.mean_projection(values))
        )
    torch.testing.assert_close(head.mean_norm.running_mean, reference.running_mean)
    torch.testing.assert_close(head.mean_norm.running_var, reference.running_var)
    head.eval(), reference.eval()
    values = torch.randn(3, 4).double()
    torch.testing.assert_close(head.mean_norm(values), reference(values))


@pytest.mark.parametrize("head_class", [BatchNormPosterior, BatchNormRMSPosterior, BatchNormMeanPosterior])
def test_population_statistics_do_not_depend_on_how_the_data_is_cut(head_class):
    features = random_features(100, 3) + 5
    head = random_head(head_class, 6, 3).double()
    outcomes = []
    for sizes in ([100], [1, 99], [30, 30, 30, 10]):
        with population_statistics(head), torch.no_grad():
            for part in features.double().split(sizes):
                head(part)
        outcomes.append({name: value.clone() for name, value in head.named_buffers() if "running" in name})
    for outcome in outcomes[1:]:
        for name, value in outcome.items():
            torch.testing.assert_close(value, outcomes[0][name], rtol=1e-10, atol=1e-12)
    posterior = head.eval()(features.double())
    promised = head.promised_moments()
    square = (posterior.mean - promised.shift).square().mean(0)
    torch.testing.assert_close(square, promised.mean_square, rtol=1e-6, atol=0)
    if promised.variance is not None:
        torch.testing.assert_close(posterior.logvar.exp().mean(0), promised.variance, rtol=1e-6, atol=0)
    # The control: statistics averaged over batches are others.
    averaged = random_head(head_class, 6, 3).double()
    for part in features.double().split([30, 30, 30, 10]):
        averaged(part)
    assert any(not torch.allclose(value, outcomes[0][n]) for n, value in averaged.named_buffers() if "running" in n)


def test_an_error_while_accumulating_keeps_the_old_statistics():
    head = BatchNormPosterior(6, 4)
    head(torch.randn(16, 6))
    before = {name: value.clone() for name, value in head.named_buffers()}
    with pytest.raises(RuntimeError), population_statistics(head):
        head(torch.randn(16, 6) + 3)
        raise RuntimeError
    assert all(torch.equal(value, before[name]) for name, value in head.named_buffers())
    with pytest.raises(ValueError, match="at least two sentences, and none"), population_statistics(head):
        pass


def test_a_training_batch_of_one_sentence_is_refused_by_batch_heads_only():
    for name, head_class in POSTERIOR_HEADS.items():
        head = head_class(6, 4)
        if head.uses_batch:
            with pytest.raises(ValueError, match="at least two sentences"):
                head(torch.randn(1, 6))
        else:
            head(torch.randn(1, 6))
        assert head.uses_batch == (name.startswith("bn") or name == "du")


def test_small_batches_warn_once(caplog):
    head = BatchNormPosterior(6, 4)
    for _ in range(3):
        head(torch.randn(7, 6))
    assert len([r for r in caplog.records if "only 7 sentences" in r.message]) == 1
    caplog.clear()
    head(torch.randn(8, 6))
    GaussianPosterior(6, 4)(torch.randn(1, 6))
    assert not caplog.records


def test_at_two_sentences_the_means_are_plus_or_minus_gamma_without_gradient():
    """The reason for the warning about small batches: the derivative of the sign is 0."""
    head = BatchNormPosterior(6, 4).double()
    features = torch.randn(2, 6).double()
    posterior = head(features)
    gamma = head.promised_moments().mean_square.sqrt()
    torch.testing.assert_close(posterior.mean.abs(), gamma.expand(2, 4), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(posterior.mean[0].sum(), head.mean_projection.weight)
    posterior = head(torch.randn(8, 6).double())
    (larger,) = torch.autograd.grad(posterior.mean[0].sum(), head.mean_projection.weight)
    assert gradient.abs().max() < 1e-5 * larger.abs().max()


def test_evaluation_without_statistics_warns_once(caplog):
    head = BatchNormPosterior(6, 4).eval()
    assert not head.is_estimated and GaussianPosterior(6, 4).is_estimated
    head(torch.randn(3, 6))
    head(torch.randn(3, 6))
    assert len([r for r in caplog.records if "never estimated" in r.message]) == 1
    head.train()(torch.randn(16, 6))
    assert head.is_estimated
    logging.warning_once.cache_clear()
    caplog.clear()
    head.eval()(torch.randn(3, 6))
    assert not caplog.records


def test_data_parallel_replicas_are_refused():
    replica = BatchNormPosterior(6, 4)._replicate_for_data_parallel()
    with pytest.raises(ValueError, match="torchrun"):
        replica(torch.randn(16, 6))


@pytest.mark.parametrize("name", POSTERIOR_HEADS)
@pytest.mark.parametrize("scale", [{}, {"rate": 1.5}])
def test_the_floors_of_the_dimensions_add_up_to_the_heads(name, scale):
    head = build_posterior_head(name, 8, 6, **scale)
    with torch.no_grad():
        for parameter in head.scale_and_shift_parameters():
            parameter.normal_()
    floor = head.kl_floor_per_dimension()
    assert floor.shape == (6,) and (floor >= 0).all()
    assert floor.sum().item() == pytest.approx(head.kl_floor().item(), rel=1e-4)


def test_the_floors_of_the_dimensions_are_their_formulas():
    head = build_posterior_head("bn_rms", 8, 6, rate=3)
    with torch.no_grad():
        head.scale.allocation.normal_()
    expected = 3 * torch.softmax(head.scale.allocation.detach(), 0)
    assert torch.allclose(head.kl_floor_per_dimension().float(), expected, rtol=1e-4)
    head = build_posterior_head("bn_mean", 8, 6, gamma=0.6)
    with torch.no_grad():
        head.shift.normal_()
    assert torch.allclose(head.kl_floor_per_dimension().float(), 0.5 * (0.36 + head.shift.detach() ** 2), rtol=1e-4)


def test_a_batchs_kl_stays_above_the_floor_in_each_dimension():
    features = torch.randn(64, 8, dtype=torch.float64)
    for name in ("bn", "bn_rms", "bn_mean", "du", "delta"):
        head = build_posterior_head(name, 8, 6).double().train()
        kl, floor = head(features).kl().mean(0), head.kl_floor_per_dimension()
        assert (kl > floor - 1e-6).all(), name
        assert name == "du" or not (kl > floor + 0.7).all(), name
