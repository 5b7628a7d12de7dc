"""Figures of a corpus against closed forms and plain loops."""

import math
import re

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from hf_bnvae import DiagonalGaussian, GaussianPosterior, build_posterior_head, recalibrate_posterior
from hf_bnvae.evaluation import (
    active_units,
    aggregate_moments,
    corpus_figures,
    decoder_nll,
    diagnose,
    evaluate_model,
    importance_weighted_nll,
    mutual_information,
    reconstruction_bleu,
)
from hf_bnvae.posterior_bnvae import PromisedMoments


def test_active_units_count_dimensions_that_vary():
    mean = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.14], [0.0, 0.0, 0.0]])
    variances = mean.var(0)
    assert variances[0] >= 0.01 > variances[2] > 0
    assert active_units(mean) == 1
    assert active_units(mean, threshold=0.001) == 2
    with pytest.raises(ValueError, match="at least two sentences, got 1"):
        active_units(mean[:1])


def test_moments_are_over_what_is_promised():
    mean = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    logvar = torch.log(torch.tensor([[0.5, 1.0], [1.5, 3.0]]))
    promised = PromisedMoments(torch.tensor([2.0, 2.0]), torch.tensor([0.5, 1.0]), torch.tensor([2.0, 1.0]))
    figures = aggregate_moments(mean, logvar, promised)
    assert figures["aggregate_mean"] == pytest.approx(2.0)
    assert figures["aggregate_second_moment"] == pytest.approx(((5 + 1) + (4 + 2)) / 2)
    assert figures["mean_moment_ratio"] == pytest.approx((1 / 0.5 + 0 / 1.0) / 2)
    assert figures["variance_moment_ratio"] == pytest.approx((1 / 2.0 + 2 / 1.0) / 2)
    assert set(aggregate_moments(mean, logvar, PromisedMoments())) == {"aggregate_mean", "aggregate_second_moment"}


def test_corpus_figures_do_not_depend_on_batches():
    """Sums over the corpus: three sentences and one weigh as four, not as two means."""
    nll, kl = torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([[1.0], [1.0], [1.0], [5.0]])
    figures = corpus_figures(nll, kl, torch.zeros(4, 1), torch.zeros(4, 1), GaussianPosterior(2, 1))
    assert (figures["reconstruction_nll"], figures["kl"], figures["loss"]) == (4.0, 2.0, 6.0)
    assert figures["elbo"] == -6.0 and figures["active_units"] == 0 and figures["kl_floor"] == 0


class LinearGaussian:
    """x = z + noise in one dimension per latent, z standard normal: every figure is known exactly."""

    def __init__(self, size: int, noise: float) -> None:
        self.size, self.noise = size, noise
        self.posterior_variance = noise**2 / (1 + noise**2)

    def data(self, count: int) -> torch.Tensor:
        return torch.randn(count, self.size).double() + self.noise * torch.randn(count, self.size).double()

    def posterior(self, data: torch.Tensor) -> DiagonalGaussian:
        mean = data / (1 + self.noise**2)
        return DiagonalGaussian(mean, torch.full_like(mean, math.log(self.posterior_variance)))

    @property
    def information(self) -> float:
        return 0.5 * self.size * math.log(1 + 1 / self.noise**2)


def test_mutual_information_of_a_linear_gaussian_model_is_exact():
    """Above log(32), where an estimate per batch would be capped, and well below log N."""
    model = LinearGaussian(4, noise=0.4)
    assert math.log(32) < model.information < math.log(6000) - 3
    estimate = mutual_information(model.posterior(model.data(6000)), torch.Generator().manual_seed(1))
    assert estimate.mutual_information == pytest.approx(model.information, abs=0.1)
    assert abs(estimate.mutual_information - model.information) < 5 * estimate.mutual_information_error + 0.05
    # The exact aggregated posterior is the prior.
    assert estimate.marginal_kl == pytest.approx(0, abs=0.1)
    assert not estimate.is_lower_bound


def test_mutual_information_is_capped_at_log_n_and_says_so():
    model = LinearGaussian(20, noise=0.1)
    estimate = mutual_information(model.posterior(model.data(200)))
    assert model.information > 40
    assert estimate.mutual_information == pytest.approx(math.log(200), abs=1e-3)
    assert estimate.mutual_information <= estimate.log_num_sentences + 1e-9 and estimate.is_lower_bound


def test_mutual_information_survives_tiny_sigmas():
    """Against the direct sum over pairs in a plain loop, with standard deviations down to 1e-8."""
    posterior = DiagonalGaussian(
        torch.randn(40, 3).double(), torch.log(10 ** -torch.empty(40, 3).uniform_(0, 16).double())
    )
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    latents = posterior.mean + posterior.std * noise
    densities = Normal(posterior.mean, posterior.std)
    gains = []
    for latent, own in zip(latents, densities.log_prob(latents).sum(-1), strict=True):
        aggregate = densities.log_prob(latent.expand(40, 3)).sum(-1).logsumexp(0) - math.log(40)
        gains.append(float(own - aggregate))
    estimate = mutual_information(posterior, torch.Generator().manual_seed(5))
    assert estimate.mutual_information == pytest.approx(sum(gains) / 40, rel=1e-9)


def test_mutual_information_of_a_collapsed_posterior_is_zero():
    estimate = mutual_information(DiagonalGaussian(torch.zeros(100, 4), torch.zeros(100, 4)))
    assert estimate.mutual_information == pytest.approx(0, abs=1e-12)
    kl = DiagonalGaussian(torch.ones(1, 4), torch.zeros(1, 4)).kl().sum()
    shifted = mutual_information(DiagonalGaussian(torch.ones(5000, 4), torch.zeros(5000, 4)))
    assert shifted.marginal_kl == pytest.approx(kl.item(), abs=0.15)


def enumerable(make_model, **fields):
    """A model in evaluation mode with running statistics and an injection strong enough to matter."""
    model = make_model(latent_size=2, **fields)
    with torch.no_grad():
        for parameter in model.injection.parameters():
            parameter.normal_(std=0.5)
    return model


def test_importance_weighted_nll_converges_to_the_integral(make_model, processor, texts):
    """Against a fine grid over the two latent dimensions; not below it in expectation, falling with the samples."""
    model = enumerable(make_model, posterior="gaussian").eval()
    batch = processor(texts[:3], return_tensors="pt")
    with torch.no_grad():
        posterior = model.encode(batch["input_ids"], batch["attention_mask"])
        axis = torch.linspace(-6, 6, 121)
        grid = torch.cartesian_prod(axis, axis)
        prior = MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(grid) + 2 * math.log(axis[1] - axis[0])
        truth = []
        for row in batch["labels"]:
            parts = [model(latents=p, labels=row.expand(len(p), -1)).reconstruction_nll for p in grid.split(2000)]
            truth.append(-torch.logsumexp(prior - torch.cat(parts), 0).item())
        truth = torch.tensor(truth)
        estimates = {
            k: torch.stack(
                [
                    importance_weighted_nll(
                        decoder_nll(model, batch["labels"]),
                        posterior,
                        k,
                        generator=torch.Generator().manual_seed(seed),
                    ).float()
                    for seed in range(repeats)
                ]
            )
            for k, repeats in ((1, 64), (8, 16), (2000, 1))
        }
    torch.testing.assert_close(estimates[2000][0], truth, rtol=0, atol=0.05)
    means = {k: v.mean(0) for k, v in estimates.items()}
    errors = {k: v.std(0) / len(v) ** 0.5 for k, v in estimates.items() if len(v) > 1}
    for k, error in errors.items():
        assert (means[k] > truth - 4 * error).all()
    assert means[1].sum() > means[8].sum() > truth.sum()


def test_importance_weighted_nll_does_not_depend_on_how_it_is_cut(make_model, processor, texts):
    model = enumerable(make_model, posterior="gaussian").eval()
    batch = processor(texts[:3], return_tensors="pt")
    with torch.no_grad():
        posterior = model.encode(batch["input_ids"], batch["attention_mask"])
    nll = decoder_nll(model, batch["labels"])
    values = [
        importance_weighted_nll(nll, posterior, 12, rows, generator=torch.Generator().manual_seed(1))
        for rows in (1, 7, 1000)
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(values[0], values[2], rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        importance_weighted_nll(nll, posterior, 0)


def batches_of(processor, texts, size):
    return [dict(processor(texts[i : i + size], return_tensors="pt")) for i in range(0, len(texts), size)]


def test_evaluation_gives_figures_of_the_corpus_however_it_is_cut(make_model, processor, texts):
    model = make_model(posterior="bn_rms")
    with torch.no_grad():
        model.posterior.mean_projection.weight.mul_(100)  # variances far above BN's epsilon
    recalibrate_posterior(model, batches_of(processor, texts, 50))
    before = torch.get_rng_state()
    options = {"num_importance_samples": 3, "max_importance_sentences": 20, "show_progress": False}
    model.train()
    one, other = (evaluate_model(model, batches_of(processor, texts, size), **options) for size in (400, 33))
    assert model.training and torch.equal(torch.get_rng_state(), before)
    assert one.num_sentences == other.num_sentences == 400 and one.iw_nll_num_sentences == 20
    # Without noise in them these do not depend on the batches at all, to rounding.
    for name in ("kl", "kl_floor", "active_units", "aggregate_second_moment", "mean_moment_ratio"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4), name
    assert one.mean_moment_ratio == pytest.approx(1, abs=1e-4) and one.variance_moment_ratio == pytest.approx(
        1, abs=1e-4
    )
    assert one.elbo == -(one.reconstruction_nll + one.kl)
    again = evaluate_model(model, batches_of(processor, texts, 400), **options)
    assert again == one
    metrics = one.to_metrics()
    assert metrics["eval_iw_nll"] == one.iw_nll and metrics["eval_log_num_sentences"] == pytest.approx(math.log(400))


def test_bleu_of_reconstructions_is_that_of_the_texts_that_the_model_makes(trained_model, processor, texts):
    options = {"num_importance_samples": 1, "max_importance_sentences": 2, "show_progress": False}
    batches = batches_of(processor, texts[:40], 16)
    assert evaluate_model(trained_model, batches, **options).reconstruction_bleu is None
    measured = evaluate_model(trained_model, batches, processor, **options).reconstruction_bleu
    assert measured == pytest.approx(reconstruction_bleu(trained_model.reconstruct(texts[:40]), texts[:40]))
    # The model has learnt something of these texts, so another's latent keeps less of a text.
    swapped = reconstruction_bleu(trained_model.reconstruct(texts[40:80]), texts[:40])
    assert measured > swapped + 1


def test_bleu_by_hand():
    assert reconstruction_bleu(["a b c d e"], ["a b c d e"]) == pytest.approx(100)
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and none of 1, smoothed to 1/2 (exponential): no brevity penalty.
    expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
    assert reconstruction_bleu(["a b c x"], ["a b c d"]) == pytest.approx(expected)
    for wrong in ((["a"], []), ([], [])):
        with pytest.raises(ValueError, match="As many reconstructions as texts"):
            reconstruction_bleu(*wrong)


def test_evaluation_refuses_what_it_cannot_measure(make_model, processor, texts):
    model = make_model()
    with pytest.raises(ValueError, match="never estimated"):
        evaluate_model(model, batches_of(processor, texts, 50))
    gaussian = make_model(posterior="gaussian")
    with pytest.raises(ValueError, match="at least two sentences"):
        evaluate_model(gaussian, batches_of(processor, texts[:1], 1), num_importance_samples=1)
    with pytest.raises(ValueError, match="at least two sentences"):
        evaluate_model(gaussian, [])


def test_recalibration_gives_exact_moments_and_leaves_modes_alone(make_model, processor, texts):
    model = make_model(posterior="bn")
    model.decoder.eval()
    modes = [module.training for module in model.modules()]
    assert recalibrate_posterior(model, batches_of(processor, texts, 33)) == 400
    assert [module.training for module in model.modules()] == modes
    model.eval()
    with torch.no_grad():
        posterior = model.encode(*(batches_of(processor, texts, 400)[0][k] for k in ("input_ids", "attention_mask")))
    head = build_posterior_head("bn", 2, 8)
    figures = aggregate_moments(posterior.mean, posterior.logvar, head.promised_moments())
    # bn falls short by eps / (v + eps) only.
    variance = model.posterior.mean_norm.running_var
    assert figures["mean_moment_ratio"] == pytest.approx((variance / (variance + 1e-8)).mean().item(), abs=1e-4)
    assert recalibrate_posterior(make_model(posterior="gaussian"), []) == 0
    with pytest.raises(ValueError, match="at least two sentences, and none"):
        recalibrate_posterior(model, [])


HEALTHY = {"kl": 12.0, "kl_floor": 11.0, "active_units": 32, "mean_moment_ratio": 0.97, "variance_moment_ratio": 1.02}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"kl": 11.0}, None),
        ({"mean_moment_ratio": 0.015}, "dying.*means' second moment is 0.015.*encoder_dropout=0"),
        ({"variance_moment_ratio": 2.5}, "dying.*variances' second moment is 2.5"),
        ({"kl": 0.3, "kl_floor": 0.0, "active_units": 0}, "dead.*collapsed onto the prior.*posterior='bn'"),
        ({"kl": 11.9, "active_units": 0}, "dead.*only what the batch normalisation enforces"),
        ({"kl": 13.0, "active_units": 0}, None),
    ],
)
def test_diagnosis(changes, words):
    message = diagnose({**HEALTHY, **changes})
    if words is None:
        assert message is None
    else:
        assert message is not None and re.search(words, message)
