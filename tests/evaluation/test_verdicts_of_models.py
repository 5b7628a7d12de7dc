"""Which verdict real small models get."""

import copy

import pytest
import tiny
import torch

from hf_bnvae import BNVAEModel, recalibrate_posterior
from hf_bnvae.evaluation import EvaluationResult, evaluate_model
from hf_bnvae.reporting.report import render_figures

OPTIONS = {"max_importance_sentences": 40, "num_self_bleu_samples": None, "show_progress": False}


@pytest.fixture
def evaluate(processor, texts):
    """A function that evaluates a model on texts, by default on some of its training."""

    def run(model: BNVAEModel, data: list[str] | None = None) -> EvaluationResult:
        return evaluate_model(model, texts[:60] if data is None else data, processor, **OPTIONS)

    return run


@pytest.fixture
def changeable(trained_model) -> BNVAEModel:
    """A copy of the trained model, in which a test may change weights."""
    return copy.deepcopy(trained_model)


def test_a_healthy_model_is_alive(evaluate, trained_model):
    result = evaluate(trained_model)
    assert result.verdict.name == "alive", result.verdict
    assert 0.25 * result.kl < result.decoder_information < result.kl and result.latent_gain > 1
    assert "The latent space is alive." in render_figures(result)


def test_a_decoder_that_does_not_get_the_latent_is_deaf(evaluate, changeable, trained_model):
    with torch.no_grad():
        for weights in changeable.injection.parameters():
            weights.zero_()
    result, healthy = evaluate(changeable), evaluate(trained_model)
    assert result.verdict.name == "deaf"
    assert result.latent_gain == 0.0
    assert abs(result.decoder_information) < 0.1
    # All that the posterior tells is as it was.
    for name in ("kl", "mutual_information", "active_units", "marginal_kl"):
        assert getattr(result, name) == getattr(healthy, name)


def test_an_untrained_model_is_not_trained(evaluate, make_model, processor, texts):
    model = make_model(posterior="bn_rms")
    recalibrate_posterior(model, [dict(processor(texts, return_tensors="pt"))])
    assert evaluate(model).verdict.name == "not trained"


def test_one_posterior_for_all_texts_is_collapsed(evaluate, changeable, make_model):
    """The KL is 4.5 nats and no unit is active, in a head without a floor."""
    head = make_model(posterior="gaussian").posterior
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.mean_projection.bias.fill_((2 * 4.5 / head.latent_size) ** 0.5)
    changeable.posterior = head
    result = evaluate(changeable.eval())
    assert result.kl == pytest.approx(4.5, rel=1e-5) and result.active_units == 0
    assert result.verdict.name == "collapsed" and "nearly the same posterior" in str(result.verdict)


def test_a_weight_that_is_no_number_breaks_the_model(evaluate, changeable):
    with torch.no_grad():
        changeable.decoder.get_input_embeddings().weight[5:].fill_(torch.nan)
    assert evaluate(changeable).verdict.name == "broken"


def test_texts_of_another_kind_are_told(evaluate, trained_model):
    """Short texts of the same words, as people try them first."""
    others = [" ".join(text.split()[:2]) for text in tiny.make_texts(720)]
    verdict = evaluate(trained_model, sorted(set(others))[:32]).verdict
    assert verdict.name in ("unlike its training texts", "not trained", "noisy"), verdict
