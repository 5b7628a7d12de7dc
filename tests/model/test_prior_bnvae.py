"""The priors against torch's distributions, and what a model does with a fitted one."""

import copy

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from hf_bnvae import PRIORS, BNVAEConfig, BNVAEModel, DiagonalGaussian, GaussianPrior, StandardPrior, fit_prior

GREEDY = {"max_new_tokens": 10, "do_sample": False}


@pytest.fixture
def moments():
    """A mean and a covariance with a factor of 20 between its largest and its smallest variance."""
    axes = torch.linalg.qr(torch.randn(6, 6).double()).Q
    return torch.randn(6).double(), axes @ torch.diag(torch.linspace(0.2, 4, 6).double()) @ axes.T


@pytest.fixture
def gaussian(moments):
    return GaussianPrior.from_moments(*moments).double()


@pytest.fixture
def model(trained_model):
    return trained_model


def test_the_density_is_that_of_the_gaussian(gaussian, moments):
    latents = torch.randn(3, 5, 6).double()
    torch.testing.assert_close(
        gaussian.log_prob(latents), MultivariateNormal(*moments).log_prob(latents), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(StandardPrior(6).log_prob(latents), Normal(0, 1).log_prob(latents).sum(-1))
    assert (gaussian.log_prob(latents) - StandardPrior(6).log_prob(latents)).abs().min() > 1e-3


def test_whitened_draws_are_standard_and_come_back(gaussian, moments):
    draws = gaussian.sample(50_000, seed=3)
    torch.testing.assert_close(draws.mean(0).double(), moments[0], atol=0.05, rtol=0)
    torch.testing.assert_close(draws.T.cov().double(), moments[1], atol=0.1, rtol=0)
    whitened = gaussian.whiten(draws)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(6), atol=0.03, rtol=0)
    torch.testing.assert_close(gaussian.unwhiten(whitened), draws, atol=1e-5, rtol=0)
    assert (draws.T.cov() - torch.eye(6)).abs().max() > 0.5  # control


def test_draws_depend_on_the_seed_alone(gaussian):
    assert torch.equal(gaussian.sample(4, seed=1), gaussian.sample(4, seed=1))
    assert not torch.equal(gaussian.sample(4, seed=1), gaussian.sample(4, seed=2))
    torch.manual_seed(1)
    assert torch.equal(gaussian.sample(4), gaussian.sample(4, seed=1))
    torch.manual_seed(1)
    assert torch.equal(StandardPrior(6).sample(4), torch.randn(4, 6, generator=torch.Generator().manual_seed(1)))


def test_the_kl_is_the_closed_form(gaussian, moments):
    posterior = DiagonalGaussian(torch.randn(7, 6).double(), torch.randn(7, 6).double())
    exact = MultivariateNormal(posterior.mean, torch.diag_embed(posterior.logvar.exp()))
    torch.testing.assert_close(
        gaussian.kl(posterior), kl_divergence(exact, MultivariateNormal(*moments)), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(StandardPrior(6).kl(posterior), posterior.kl().sum(-1))


def test_a_degenerate_covariance_is_refused(moments):
    mean, covariance = moments
    covariance[:, 2] = covariance[2, :] = 0
    with pytest.raises(ValueError, match=r"degenerate: the variance of the latents is .* in one direction and 0 in"):
        GaussianPrior.from_moments(mean, covariance)
    covariance[2, 2] = 1e-6  # small, and still a direction
    assert GaussianPrior.from_moments(mean, covariance).scale_tril[2, 2] == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="not finite"):
        GaussianPrior.from_moments(mean * torch.nan, covariance)


def test_the_configuration_names_every_prior(encoder_config, decoder_config):
    for name, kind in PRIORS.items():
        config = BNVAEConfig(encoder=encoder_config, decoder=decoder_config, prior=name)
        assert config.prior == kind.name == name
    with pytest.raises(Exception, match="prior"):
        BNVAEConfig(encoder=encoder_config, decoder=decoder_config, prior="cubic")


# --- a model with a fitted prior -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fitted_prior_is_saved_and_loaded(trained_folder, model, tmp_path, dtype):
    loaded = BNVAEModel.from_pretrained(trained_folder, dtype=dtype)
    assert loaded.fitted_prior is loaded.prior
    assert loaded.config.prior == "gaussian" and loaded.prior.scale_tril.dtype == torch.float32
    torch.testing.assert_close(loaded.prior.scale_tril, model.prior.scale_tril.float(), atol=0, rtol=0)
    assert torch.equal(loaded.prior.sample(2, seed=0), copy.deepcopy(model.prior).float().sample(2, seed=0))
    assert not torch.equal(loaded.prior.sample(2, seed=0), StandardPrior(8).sample(2, seed=0))  # control


def test_a_loaded_model_gets_a_prior_and_keeps_it(make_model, processor, texts, tmp_path):
    plain = make_model(posterior="gaussian").eval()
    plain.save_pretrained(tmp_path / "plain")
    loaded = BNVAEModel.from_pretrained(tmp_path / "plain").attach_processor(processor)
    assert loaded.config.prior == "standard" and not [name for name in loaded.state_dict() if "prior" in name]
    fitted = fit_prior(loaded, texts[:50])
    loaded.save_pretrained(tmp_path / "fitted")
    again = BNVAEModel.from_pretrained(tmp_path / "fitted")
    assert torch.equal(again.prior.mean, fitted.mean) and torch.equal(again.prior.scale_tril, fitted.scale_tril)
    assert again.fitted_prior is again.prior
    again.set_prior(StandardPrior(8))
    again.save_pretrained(tmp_path / "without")
    assert BNVAEModel.from_pretrained(tmp_path / "without").fitted_prior is None


def test_a_prior_of_other_weights_is_not_used(make_model, processor, texts, caplog):
    """However the weights were changed: by a loop of one's own, an adapter, another head."""
    model = make_model(posterior="gaussian").eval().attach_processor(processor)
    fit_prior(model, texts[:50])
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    assert model.fitted_prior is model.prior and rounded.fitted_prior is rounded.prior
    with torch.no_grad():
        weight = model.posterior.mean_projection.weight
        weight += 0.1 * weight.std() * torch.randn(weight.shape)
    assert model.sample(3, seed=0, **GREEDY) == model.sample(3, seed=0, prior="standard", **GREEDY)
    assert "fitted to other weights" in caplog.text and "N(0, I) is used instead" in caplog.text
    with pytest.raises(ValueError, match="fitted to other weights"):
        model.sample(3, prior="fitted")
    assert fit_prior(model, texts[:50]) is model.fitted_prior


def test_a_prior_that_was_never_fitted_does_not_count(encoder_config, decoder_config, trained_model):
    config = BNVAEConfig(encoder=encoder_config, decoder=decoder_config, prior="gaussian", latent_size=8)
    assert BNVAEModel(config).fitted_prior is None
    with pytest.raises(ValueError, match="'prior' is no field"):
        BNVAEModel.from_encoder_decoder_pretrained("encoder", "decoder", prior="gaussian")


def test_a_prior_is_copied(make_model, trained_model):
    model = make_model().double()
    model.set_prior(trained_model.prior)
    model.prior.mean.add_(1)
    assert (model.prior.mean - trained_model.prior.mean).abs().min() > 0.9


def test_many_latents_are_one_system_of_equations(gaussian, monkeypatch):
    seen = []
    solve = torch.linalg.solve_triangular
    monkeypatch.setattr(
        torch.linalg, "solve_triangular", lambda a, b, **kw: seen.append((a.shape, b.shape)) or solve(a, b, **kw)
    )
    gaussian.log_prob(torch.randn(5, 7, 6).double())
    assert seen == [((6, 6), (6, 35))], "L is not copied for each latent"


def test_a_prior_of_another_size_is_refused(make_model):
    with pytest.raises(ValueError, match="must have 8 dimensions, as the latents do, got 6"):
        make_model().set_prior(GaussianPrior(6))


def test_without_a_fitted_prior_the_error_says_how_to_get_one(make_model, processor, texts):
    model = make_model(posterior="gaussian").eval().attach_processor(processor)
    with pytest.raises(ValueError, match=r"no fitted prior.*fit_prior\(model, texts\)"):
        model.sample(2, prior="fitted")
    with pytest.raises(ValueError, match="no fitted prior"):
        model.neighbours(texts[0], texts[:9], whitened=True)
    with pytest.raises(ValueError, match="prior must be 'fitted' or 'standard', got 'mine'"):
        model.sample(2, prior="mine")
    assert model.sample(2, seed=0, **GREEDY) == model.sample(2, seed=0, prior="standard", **GREEDY)


def test_an_arc_lies_on_the_sphere_of_the_prior(model, texts, monkeypatch):
    seen = []
    monkeypatch.setattr(
        model, "_decode_latents", lambda latents, *args: seen.append(latents) or ["text"] * len(latents)
    )
    ends = model.encode_texts(texts[:2])
    ends = model.prior.unwhiten(3 * torch.nn.functional.normalize(model.prior.whiten(ends), dim=-1))
    model.interpolate(*ends, steps=5, method="spherical")
    model.interpolate(*ends, steps=5)
    arc, line = seen
    torch.testing.assert_close(model.prior.whiten(arc).norm(dim=-1), torch.full((5,), 3.0).double())
    torch.testing.assert_close(arc[[0, -1]], ends)
    assert model.prior.whiten(line).norm(dim=-1)[2] < 2.9  # control
    torch.testing.assert_close(line[2], ends.mean(0))


def test_whitened_neighbours_are_near_where_the_prior_is_standard(model, texts):
    latents = model.encode_texts(texts[:60])
    whitened = model.prior.whiten(latents)
    for metric in ("euclidean", "cosine"):
        expected = model.neighbours(whitened[:9], whitened, k=3, metric=metric)
        found = model.neighbours(latents[:9], latents, k=3, metric=metric, whitened=True)
        assert [[n.index for n in row] for row in found] == [[n.index for n in row] for row in expected]
        assert found != model.neighbours(latents[:9], latents, k=3, metric=metric)  # control
