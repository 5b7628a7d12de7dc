"""The prior that is fitted to the posteriors: against exact moments, and at the end of a training."""

import copy

import pytest
import torch
from cases import cases
from datasets import Dataset

from hf_bnvae import BNVAEModel, BNVAETrainer, DiagonalGaussian, GaussianPrior, StandardPrior, fit_prior
from hf_bnvae.data.collator import encoder_inputs
from hf_bnvae.training.fitted_prior import AggregatedMoments


@pytest.fixture
def posterior():
    """Posteriors whose aggregate has a covariance, far from the origin."""
    mixing = torch.randn(4, 4).double()
    return DiagonalGaussian(torch.randn(300, 4).double() @ mixing + 5, torch.randn(300, 4).double() - 1)


def aggregate(posterior: DiagonalGaussian) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the aggregated posterior, by the law of total covariance, written out."""
    mean = posterior.mean.mean(0)
    rows = zip(posterior.mean, posterior.logvar, strict=True)
    covariance = sum(torch.outer(row - mean, row - mean) + logvar.exp().diag() for row, logvar in rows)
    return mean, covariance / len(posterior.mean)


def moments_of(posterior, *cuts):
    moments = AggregatedMoments(posterior.mean.shape[1])
    for mean, logvar in zip(posterior.mean.tensor_split(cuts), posterior.logvar.tensor_split(cuts), strict=True):
        moments.update(DiagonalGaussian(mean, logvar))
    return moments.across_processes()


def test_the_moments_are_exact_and_do_not_depend_on_batches(posterior):
    expected = aggregate(posterior)
    for cuts in ((), (1, 7, 7 + 64, 299)):
        count, *found = moments_of(posterior, *cuts)
        assert count == 300
        torch.testing.assert_close(tuple(found), expected, rtol=1e-12, atol=1e-12)
    # Control: the variances of the posteriors belong to it.
    assert (posterior.mean.T.cov(correction=0) - expected[1]).abs().max() > 0.1


def test_the_kl_falls_by_the_kl_of_the_prior_itself(posterior):
    """Averaged over the posteriors of the fit, the KL from N(0, I) is larger by exactly KL(N(m, S) || N(0, I))."""
    mean, covariance = aggregate(posterior)
    prior = GaussianPrior.from_moments(mean, covariance).double()
    gap = 0.5 * (covariance.trace() - 4 - covariance.logdet() + mean @ mean)

    def fall(of: DiagonalGaussian) -> torch.Tensor:
        return (of.kl().sum(-1) - prior.kl(of)).mean()

    assert gap > 1
    torch.testing.assert_close(fall(posterior), gap, rtol=1e-5, atol=0)
    # Control: over other posteriors it is no equality.
    assert (fall(DiagonalGaussian(posterior.mean[:100], posterior.logvar[:100])) - gap).abs() > 0.01


# --- a model ---------------------------------------------------------------------------------------------------------


def test_texts_and_batches_give_the_prior_of_the_posteriors(trained_model, processor, texts):
    posterior = trained_model.encode(**encoder_inputs(processor(texts, return_tensors="pt")))
    expected = GaussianPrior.from_moments(*aggregate(posterior))
    model = copy.deepcopy(trained_model)
    batches = [dict(processor(texts[i : i + 33], return_tensors="pt")) for i in range(0, len(texts), 33)]
    for data in (texts, batches, iter(texts), (batch for batch in batches)):
        model.set_prior(StandardPrior(8))
        modes = [module.training for module in model.modules()]
        prior = fit_prior(model, data)
        assert model.prior is prior and model.config.prior == "gaussian"
        assert [module.training for module in model.modules()] == modes
        torch.testing.assert_close(prior.scale_tril.float(), expected.scale_tril, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(prior.mean.float(), expected.mean, rtol=1e-5, atol=1e-6)
    assert (fit_prior(model, texts[:50]).scale_tril - expected.scale_tril).abs().max() > 1e-3  # control


def test_dropout_has_no_part_in_it(make_model, processor, texts):
    model = make_model(posterior="gaussian", encoder_dropout=0.5).attach_processor(processor).eval()
    first = fit_prior(model, texts[:60])
    again = fit_prior(model.train(), [dict(processor(texts[:60], return_tensors="pt"))])
    torch.testing.assert_close(again.scale_tril, first.scale_tril, rtol=1e-4, atol=1e-6)
    assert model.training


def test_what_cannot_be_fitted_is_said(make_model, processor, texts, caplog):
    model = make_model(posterior="gaussian").attach_processor(processor).eval()
    for data in ([], texts[:1]):
        with pytest.raises(ValueError, match=r"at least two texts, got (none|1)"):
            fit_prior(model, data)
    rows = Dataset.from_dict({"text": texts})
    for data in (texts[0], rows, processor(texts), torch.randn(9, 8), [{"input_ids": [1, 2]}]):
        with pytest.raises(
            ValueError, match=r"data must be texts, a list or a column \(dataset\['text'\]\), or batches"
        ):
            fit_prior(model, data)
    with pytest.raises(ValueError, match="never estimated"):
        fit_prior(make_model().eval().attach_processor(processor), texts)
    assert model.fitted_prior is None
    fit_prior(model, texts[:9])
    assert not caplog.messages
    fit_prior(model, texts[:8])
    assert "fitted on 8 texts, no more than the 8 latent dimensions" in caplog.text
    # A posterior that is the same point for all texts.
    with torch.no_grad():
        model.posterior.mean_projection.weight.zero_()
        model.posterior.scale_projection.weight.zero_()
        model.posterior.scale_projection.bias.copy_(torch.tensor([-60.0, *[0.0] * 7]))
    with pytest.raises(ValueError, match="degenerate"):
        fit_prior(model, texts)
    assert model.config.prior == "gaussian", "the earlier one stays"


# --- at the end of a training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", cases(["bn_rms", "gaussian"], quick=["bn_rms"]))
def test_a_training_ends_with_the_prior_of_the_training_set(make_trainer, processor, texts, posterior):
    trainer = make_trainer(model={"posterior": posterior})
    trainer.train()
    found = trainer.model.prior
    expected = fit_prior(trainer.model.eval(), texts[: len(trainer.train_dataset)])
    torch.testing.assert_close(found.scale_tril, expected.scale_tril, rtol=1e-5, atol=1e-6)
    assert trainer.model.config.prior == "gaussian"
    # Control: the prior is no part of the training, and can be left out.
    plain = make_trainer(model={"posterior": posterior}, prior="standard")
    plain.train()
    assert plain.model.config.prior == "standard" and plain.model.fitted_prior is None
    ours = {name: tensor for name, tensor in trainer.model.state_dict().items() if not name.startswith("prior.")}
    assert ours.keys() == plain.model.state_dict().keys()
    assert all(torch.equal(tensor, plain.model.state_dict()[name]) for name, tensor in ours.items())
    with pytest.raises(ValueError, match="prior must be one of standard, gaussian, got 'mine'"):
        make_trainer(prior="mine")


def test_a_prior_of_earlier_weights_is_not_saved_with_later_ones(make_trainer, trained_model):
    model = copy.deepcopy(trained_model).float()
    assert model.fitted_prior is not None
    earlier = model.prior.scale_tril.clone()
    trainer = make_trainer(model=model, save_strategy="steps", save_steps=2, learning_rate=1e-2)
    trainer.train()
    checkpoint = BNVAEModel.from_pretrained(f"{trainer.args.output_dir}/checkpoint-2")
    assert checkpoint.config.prior == "standard"
    assert model.fitted_prior is not None and (model.prior.scale_tril - earlier).abs().max() > 1e-3


def test_a_training_does_not_fail_for_its_prior(make_trainer, make_model, caplog):
    model = make_model(posterior="gaussian")
    with torch.no_grad():
        model.posterior.scale_projection.weight.zero_()
        model.posterior.scale_projection.bias[0] = -100
        model.posterior.mean_projection.weight.zero_()
    trainer = make_trainer(model=model, learning_rate=0, latent_learning_rate=0)
    trainer.train()
    assert "The model keeps the prior N(0, I). The fitted prior is degenerate" in caplog.text
    assert model.fitted_prior is None


def test_a_model_of_model_init_begins_without_a_prior(make_trainer, trained_folder, dataset, processor):
    args = make_trainer(prior="standard").args
    data = {"train_dataset": dataset, "processing_class": processor}
    trainer = BNVAETrainer(model_init=lambda: BNVAEModel.from_pretrained(trained_folder), args=args, **data)
    assert BNVAEModel.from_pretrained(trained_folder).fitted_prior is not None
    trainer.train()
    assert trainer.model.config.prior == "standard"
