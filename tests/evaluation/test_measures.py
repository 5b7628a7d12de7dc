"""Figures of a corpus against closed forms and plain loops."""

import math
import weakref
from functools import partial
from operator import getitem

import mpmath
import pytest
import torch
from factor_model import FactorModel
from torch.distributions import MultivariateNormal, Normal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, GPT2Config

from hf_bnvae import (
    BatchNormMeanPosterior,
    BNVAEConfig,
    BNVAEModel,
    DiagonalGaussian,
    GaussianPosterior,
    build_posterior_head,
    recalibrate_posterior,
)
from hf_bnvae.evaluation import (
    active_units,
    aggregate_moments,
    corpus_figures,
    decoder_nll,
    importance,
    importance_weighted_nll,
    mutual_information,
)
from hf_bnvae.evaluation.importance import CPU_LOGITS, rows_of_a_pass, rows_within
from hf_bnvae.evaluation.information import _AggregatedPosterior
from hf_bnvae.evaluation.moments import CorpusSums, RunningMoments
from hf_bnvae.model.gaussian_bnvae import prior_log_prob
from hf_bnvae.model.posterior_bnvae import PromisedMoments

# --- sums instead of tensors -----------------------------------------------------------------------------------------


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
    """Sums run over the corpus: a batch of three sentences and a batch of one count as four, not as two means."""
    nll, kl = torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([[1.0], [1.0], [1.0], [5.0]])
    figures = corpus_figures(nll, kl, torch.zeros(4, 1), torch.zeros(4, 1), GaussianPosterior(2, 1))
    assert (figures["reconstruction_nll"], figures["kl"], figures["loss"]) == (4.0, 2.0, 6.0)
    assert figures["elbo"] == -6.0 and figures["active_units"] == 0 and figures["kl_floor"] == 0


@pytest.mark.parametrize("size", [1, 7, 400])
def test_sums_of_batches_are_the_figures_of_the_whole(size):
    """Against the definitions on whole tensors in float64, with means that are large compared with their spread."""
    nll, kl = 1e4 + torch.rand(400), torch.rand(400, 3)
    mean = torch.tensor([300.0, 300.0, 0.0]) + torch.tensor([0.12, 0.08, 1.0]) * torch.randn(400, 3)
    logvar = torch.randn(400, 3)
    head = BatchNormMeanPosterior(2, 3)
    head.shift.data.fill_(0.5)
    tensors = {"reconstruction_nll": nll, "kl": kl, "mean": mean, "logvar": logvar}
    halves = CorpusSums(), CorpusSums()
    for number, start in enumerate(range(0, 400, size)):
        halves[number % 2].update(**{name: values[start : start + size] for name, values in tensors.items()})
    found = CorpusSums().merge(halves[1]).merge(halves[0]).figures(head)
    mu, variance = mean.double(), logvar.double().exp()
    expected = {
        "loss": nll.double().mean() + kl.double().sum(-1).mean(),
        "reconstruction_nll": nll.double().mean(),
        "kl": kl.double().sum(-1).mean(),
        "kl_floor": head.kl_floor(),
        "elbo": -nll.double().mean() - kl.double().sum(-1).mean(),
        "active_units": mu.var(0).ge(0.01).sum(),
        "aggregate_mean": mu.mean(0).square().mean().sqrt(),
        "aggregate_second_moment": (mu.square() + variance).mean(),
        "mean_moment_ratio": ((mu - 0.5).square().mean(0) / head.promised_moments().mean_square).mean(),
    }
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-10)
    assert corpus_figures(**tensors, head=head) == pytest.approx(found, rel=1e-10)
    spread = RunningMoments().update(mean[:150]).update(mean[150:]).variance
    torch.testing.assert_close(spread, mu.var(0), rtol=1e-9, atol=0)
    assert found["active_units"] == 2
    # In single precision the variance, as a difference of large numbers, would keep no digit.
    naive = mean.square().mean(0) - mean.mean(0).square()
    assert ((naive - mu.var(0)).abs() / mu.var(0))[:2].max() > 0.1


def test_running_moments_of_little_or_nothing():
    assert RunningMoments().standard_error is None
    one = RunningMoments().update(torch.tensor([3.0])).update(torch.empty(0))
    assert (one.count, one.mean.item(), one.standard_error) == (1, 3.0, None) and one.variance.isnan()
    assert one.merge(RunningMoments()).count == 1


# --- information -----------------------------------------------------------------------------------------------------


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
    """The information lies above log(32), the limit of an estimate per batch, and well below log N."""
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


def test_marginal_kl_of_a_shifted_and_narrow_aggregate_is_exact():
    """The posteriors' means are N(0.7, 0.5), their variances 0.1: the aggregate is N(0.7, 0.6) in each dimension."""
    mean = 0.7 + math.sqrt(0.5) * torch.randn(6000, 2).double()
    estimate = mutual_information(DiagonalGaussian(mean, torch.full_like(mean, math.log(0.1))))
    marginal_kl, information = 0.6 + 0.7**2 - math.log(0.6) - 1, math.log(0.6 / 0.1)
    assert abs(estimate.marginal_kl - marginal_kl) < 4 * estimate.marginal_kl_error
    assert abs(estimate.mutual_information - information) < 4 * estimate.mutual_information_error
    assert 0 < estimate.marginal_kl_error < 0.02 and estimate.marginal_kl > 10 * estimate.marginal_kl_error


def test_direct_sums_keep_what_a_matrix_product_loses():
    """With sigma = 1e-4, against sums in 50 digits. An expanded product in single precision would keep no digit."""
    means = torch.randn(20, 4).repeat_interleave(3, 0) + 1e-4 * torch.randn(60, 4)
    posterior, noise = DiagonalGaussian(means, torch.full((60, 4), 2 * math.log(1e-4))), torch.randn(60, 4).double()
    with mpmath.workdps(50):
        variance = mpmath.exp(mpmath.mpf(posterior.logvar[0, 0].item()))
        exact = [[mpmath.mpf(value) for value in row] for row in means.tolist()]
        gain = mpmath.mpf(0)
        for own, shift in zip(exact, noise.tolist(), strict=True):
            point = [m + mpmath.sqrt(variance) * n for m, n in zip(own, shift, strict=True)]
            densities = [
                mpmath.exp(-sum((p - m) ** 2 for p, m in zip(point, other, strict=True)) / (2 * variance))
                for other in [own, *exact]
            ]
            gain += mpmath.log(densities[0]) - mpmath.log(sum(densities[1:]) / 60)
        reference = float(gain / 60)
    assert math.log(20) < reference < math.log(60) - 0.1
    estimate = mutual_information(posterior, noise=noise).mutual_information
    assert estimate == pytest.approx(reference, rel=1e-8)

    latents, precision = posterior.sample(noise.float()), torch.exp(-posterior.logvar)
    expanded = (latents.square() @ precision.T - 2 * latents @ (means * precision).T) + (
        means.square() * precision
    ).sum(1)
    product = (-0.5 * expanded.diagonal() - (-0.5 * expanded).logsumexp(1) + math.log(60)).mean()
    assert not abs(product.item() - reference) < 0.3


def test_most_exponents_are_a_product_and_the_sharp_ones_direct_sums():
    """Posteriors like the ones of `bn`, whose sigma crosses 0, against sums in a plain loop."""
    mean, sigma, noise = (torch.randn(600, 8, generator=torch.Generator().manual_seed(i)).double() for i in range(3))
    posterior = DiagonalGaussian(mean, sigma.square().log())
    latents = posterior.sample(noise)
    densities = Normal(mean, posterior.std)
    aggregate = torch.stack([densities.log_prob(latent).sum(-1).logsumexp(0) - math.log(600) for latent in latents])
    distance = (aggregate - prior_log_prob(latents)).mean().item()
    estimate = mutual_information(posterior, noise=noise)
    assert estimate.marginal_kl == pytest.approx(distance, abs=1e-7)
    gain = (densities.log_prob(latents).sum(-1) - aggregate).mean().item()
    assert estimate.mutual_information == pytest.approx(gain, abs=1e-7)
    # Some of these posteriors are sharp and most are not. No wide posterior is sharp.
    reach = latents.abs().amax(0)
    sharp = _AggregatedPosterior(posterior, reach).sharp
    assert 0 < sum(len(of_dimension[1]) for of_dimension in sharp) < 0.05 * sigma.numel()
    assert not _AggregatedPosterior(DiagonalGaussian(mean, torch.zeros_like(mean)), reach).sharp


def test_a_density_beyond_all_numbers_is_none_of_the_sum():
    """One posterior is so narrow that the ratio of two densities at a latent overflows float64."""
    mean, logvar, noise = torch.zeros(2, 32).double(), torch.zeros(2, 32).double(), torch.zeros(2, 32).double()
    logvar[1] = 2 * math.log(1e-20)
    estimate = mutual_information(DiagonalGaussian(mean, logvar), noise=noise)
    ratio = 32 * math.log(1e20)
    assert ratio > 709
    # The first one's density is the other's over exp(ratio); the second's is its own.
    assert estimate.mutual_information == pytest.approx((-ratio + 2 * math.log(2)) / 2, rel=1e-12)


def test_posteriors_straight_from_a_training_are_measured_too():
    mean, logvar = torch.randn(30, 3, requires_grad=True), torch.zeros(30, 3, requires_grad=True)
    noise = torch.randn(30, 3)
    estimate = mutual_information(DiagonalGaussian(2 * mean, 2 * logvar), noise=noise)
    assert estimate == mutual_information(DiagonalGaussian((2 * mean).detach(), logvar.detach()), noise=noise)
    assert estimate != mutual_information(DiagonalGaussian(mean, logvar), noise=noise)


def test_mutual_information_of_a_collapsed_posterior_is_zero():
    estimate = mutual_information(DiagonalGaussian(torch.zeros(100, 4), torch.zeros(100, 4)))
    assert estimate.mutual_information == pytest.approx(0, abs=1e-12)
    kl = DiagonalGaussian(torch.ones(1, 4), torch.zeros(1, 4)).kl().sum()
    shifted = mutual_information(DiagonalGaussian(torch.ones(5000, 4), torch.zeros(5000, 4)))
    assert shifted.marginal_kl == pytest.approx(kl.item(), abs=0.15)


# --- importance-weighted likelihood ----------------------------------------------------------------------------------


def test_importance_weighted_nll_is_exact_with_the_true_posterior():
    model = FactorModel()
    truth = -model.marginal.log_prob(model.data)
    for num_samples in (1, 7):
        estimate = importance_weighted_nll(model.nll, model.posterior(), num_samples)
        torch.testing.assert_close(estimate, truth, rtol=1e-12, atol=1e-12)
    other = importance_weighted_nll(model.nll, model.posterior(shift=0.3), 7)
    assert (other - truth).abs().min() > 1e-6
    torch.testing.assert_close(model.negative_elbo(model.posterior()), truth, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_importance_weighted_nll_falls_from_the_elbo_to_the_truth():
    """The posterior lies beside the true one and is wider. Each of 150 sentences is repeated 40 times."""
    model = FactorModel()
    posterior, truth = model.posterior(shift=0.3, log_scale=0.5), -model.marginal.log_prob(model.data)
    bound, noise = model.negative_elbo(posterior), torch.randn(40, 150, 64, 2).double()
    means = {}
    for num_samples in (1, 4, 16, 64):
        draws = [partial(getitem, part) for part in noise[:, :, :num_samples]]
        estimates = torch.stack([importance_weighted_nll(model.nll, posterior, num_samples, noise=d) for d in draws])
        excess = (estimates - truth).mean(1)  # of one repetition
        means[num_samples], error = excess.mean().item(), excess.std().item() / 40**0.5
        assert means[num_samples] > -4 * error
        if num_samples == 1:
            assert abs(means[1] - (bound - truth).mean()) < 4 * error
    assert means[1] > means[4] > means[16] > means[64] > 0 and means[64] < 0.05 * means[1]
    # On the same samples the ELBO never exceeds the estimate, for any sentence (Jensen).
    draws = [partial(getitem, part) for part in noise[0].split(1, 1)]
    singles = [importance_weighted_nll(model.nll, posterior, 1, noise=draw) for draw in draws]
    together = importance_weighted_nll(model.nll, posterior, 64, noise=partial(getitem, noise[0]))
    assert (together < torch.stack(singles).mean(0)).all()
    # Many samples: the truth, within the error.
    many = importance_weighted_nll(model.nll, posterior, 20_000)
    assert (many - truth).abs().mean() < 0.02
    # Without the weights, -log of the mean of p(x|z) would lie below the truth.
    drawn = posterior.mean + posterior.std * noise[0].transpose(0, 1)
    unweighted = math.log(64) - torch.stack([-model.nll(z, torch.arange(150)) for z in drawn]).logsumexp(0)
    assert (unweighted - truth).mean() < -0.5


@pytest.mark.parametrize("rows_per_pass", [1, 5, 12, 40, 10_000])
def test_passes_are_no_larger_than_allowed_and_change_nothing(rows_per_pass):
    model, sizes = FactorModel(), []

    def nll(latents, rows):
        sizes.append(len(rows))
        return model.nll(latents, rows)

    def estimate(rows_per_pass):
        generator = torch.Generator().manual_seed(2)
        return importance_weighted_nll(nll, model.posterior(0.3), 12, rows_per_pass, generator=generator)

    found = estimate(rows_per_pass)
    assert max(sizes) <= rows_per_pass and sum(sizes) == 150 * 12
    torch.testing.assert_close(found, estimate(100), rtol=1e-12, atol=1e-12)


def test_each_pass_may_have_a_size_of_its_own():
    model, sizes = FactorModel(), {}

    def nll(latents, rows):
        sizes.setdefault(int(rows.min()), []).append(len(rows))
        return model.nll(latents, rows)

    def estimate(rows_per_pass):
        generator = torch.Generator().manual_seed(2)
        return importance_weighted_nll(nll, model.posterior(0.3), 12, rows_per_pass, generator=generator)

    expected = estimate(100)
    sizes.clear()
    torch.testing.assert_close(estimate(lambda place: 5 if place < 2 else 60), expected, rtol=1e-12, atol=1e-12)
    assert sizes.pop(0) == sizes.pop(1) == [4, 4, 4]
    assert sizes == {place: [60 if place < 147 else 36] for place in range(2, 150, 5)}
    with pytest.raises(ValueError, match="rows_per_pass must be at least 1, got 0"):
        estimate(lambda place: 0)


def enumerable(make_model, **fields):
    """A model in evaluation mode with running statistics and an injection strong enough to matter."""
    model = make_model(latent_size=2, latent_injection="both", **fields)
    with torch.no_grad():
        for parameter in model.injection.parameters():
            parameter.normal_(std=0.5)
    return model


@pytest.mark.slow
def test_importance_weighted_nll_converges_to_the_integral(make_model, processor, texts):
    """Against a fine grid over both latent dimensions. The estimate is above the truth, falling with more samples."""
    model = enumerable(make_model, posterior="gaussian").eval()
    batch = processor(texts[:3], return_tensors="pt")
    with torch.no_grad():
        model.posterior.mean_projection.weight.mul_(5)  # well beside the true posterior
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
        model.posterior.mean_projection.weight.mul_(5)  # well beside the true posterior
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


class PeakMemory(TorchDispatchMode):
    """The most bytes of tensors that are made inside and alive at once. Tensors from before do not count."""

    def __init__(self, *given: torch.Tensor) -> None:
        super().__init__()
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in given}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage._cdata)
        return made

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


@pytest.mark.parametrize(
    ("vocab_size", "hidden_size", "dtype"),
    [
        (50257, 64, torch.float32),
        (50257, 64, torch.bfloat16),
        (50257, 64, torch.float64),
        (100, 512, torch.float32),
        (3000, 128, torch.bfloat16),
    ],
)
def test_a_pass_keeps_to_the_budget_of_memory(vocab_size, hidden_size, dtype):
    """It holds where the vocabulary needs most memory and where hidden states do. At least a third of it is used."""
    model = BNVAEModel(
        BNVAEConfig.from_encoder_decoder_configs(
            BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8),
            GPT2Config(vocab_size=vocab_size, n_embd=hidden_size, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2),
            latent_size=2,
            posterior="gaussian",
        )
    )
    model = model.to(dtype).eval()
    budget = 1 / 32
    rows = rows_within(budget, model, 20)
    assert rows > 1
    latents, labels = torch.zeros(rows, 2, dtype=dtype), torch.randint(0, vocab_size, (rows, 20))
    nll, places = decoder_nll(model, labels), torch.arange(rows)
    with torch.no_grad():
        nll(latents, places)
        with PeakMemory(*model.parameters(), *model.buffers(), latents, labels, places) as memory:
            nll(latents, places)
    assert budget / 3 < memory.peak / 2**30 <= budget


def test_a_budget_too_small_for_a_sentence_still_takes_one(make_model):
    model = make_model()
    assert rows_within(1e-9, model, 30) == 1 < rows_within(1, model, 30) == rows_within(2, model, 60)
    with pytest.raises(ValueError, match="memory_budget_gib must be above 0, got 0"):
        rows_within(0, model, 30)


def test_a_pass_on_the_cpu_keeps_its_logits_small(make_model, monkeypatch):
    model = make_model()
    monkeypatch.setattr(importance, "freed_memory_is_kept", lambda: False)
    bytes_of_a_label = 4 * model.config.decoder.vocab_size
    for length in (1, 7, 300):
        rows = rows_of_a_pass(100, model, length)
        assert rows * length * bytes_of_a_label <= CPU_LOGITS < (rows + 1) * length * bytes_of_a_label
        assert rows < rows_within(100, model, length)
    assert rows_of_a_pass(100, model, 10**9) == rows_of_a_pass(1e-9, model, 7) == 1
    # Only in this case: an accelerator keeps its blocks, and so does a process that was told to keep them.
    monkeypatch.setattr(importance, "freed_memory_is_kept", lambda: True)
    assert rows_of_a_pass(100, model, 7) == rows_within(100, model, 7)
    monkeypatch.setattr(importance, "freed_memory_is_kept", lambda: False)
    assert rows_of_a_pass(100, model.to("meta"), 7) == rows_within(100, model, 7)


def batches_of(processor, texts, size):
    return [dict(processor(texts[i : i + size], return_tensors="pt")) for i in range(0, len(texts), size)]


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
    assert figures["mean_moment_ratio"] == pytest.approx(1, abs=1e-4)
    assert recalibrate_posterior(make_model(posterior="gaussian"), []) == 0
    with pytest.raises(ValueError, match="at least two sentences, and none"):
        recalibrate_posterior(model, [])
