"""NaN goes nowhere: not into running statistics, not into a folder, not into texts."""

import copy
import math

import pytest
import torch
from torch import nn

from hf_bnvae import (
    BatchNormRMSPosterior,
    BNVAEModel,
    build_posterior_head,
    population_statistics,
    recalibrate_posterior,
)
from hf_bnvae.model import input_checks_bnvae
from hf_bnvae.model.batch_statistics_bnvae import BatchRootMeanSquare
from hf_bnvae.model.finite_bnvae import require_finite_weights

HEADS = ("bn", "bn_rms", "bn_mean", "du")


def statistics(head: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in head.named_buffers()}


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("posterior", HEADS)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_leaves_the_running_statistics_as_they_are(posterior, number):
    head, features = build_posterior_head(posterior, 16, 4), torch.randn(32, 16)
    head(features)
    before = statistics(head)
    features[3] = number
    head(features)
    assert equal(statistics(head), before)
    head(torch.randn(32, 16))  # control: the next batch counts again
    assert not equal(statistics(head), before) and head.mean_norm.num_batches_tracked == 2
    features[3] = 1e30  # whose squares are infinite
    head(features)
    assert all(buffer.isfinite().all() for buffer in head.buffers())


def test_a_mask_row_of_zeros_that_nobody_could_look_at_leaves_the_statistics_as_they_are(
    make_model, batch, monkeypatch
):
    """As on an accelerator, where the check would wait for the device."""
    monkeypatch.setattr(input_checks_bnvae, "_may_look_at", lambda values: False)
    model = make_model(posterior="bn_rms").train()
    model(**batch)
    before = statistics(model.posterior)
    broken = {**batch, "attention_mask": batch["attention_mask"].clone()}
    broken["attention_mask"][3] = 0
    assert model(**broken).loss.isnan()
    assert equal(statistics(model.posterior), before)


@pytest.mark.parametrize("posterior", HEADS)
def test_recalibrating_with_a_broken_encoder_is_refused_and_changes_nothing(make_model, batch, posterior):
    model = make_model(posterior=posterior)
    recalibrate_posterior(model, [batch])
    before = statistics(model.posterior)
    with torch.no_grad():
        next(model.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite, so the old running statistics stay"):
        recalibrate_posterior(model, [batch])
    assert equal(statistics(model.posterior), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["decoder.transformer.h.1.mlp.c_fc.weight", "posterior.mean_norm.running_var"])
def test_a_model_that_is_not_finite_is_not_saved(make_model, tmp_path, name, dtype):
    model = make_model(posterior="bn_rms")
    model.decoder.to(dtype)
    tensor = model.state_dict()[name]
    tensor.view(-1)[-1] = float("nan")
    with pytest.raises(FloatingPointError, match=f"The weight {name} is not finite"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    tensor.view(-1)[-1] = 1
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(FloatingPointError, match=name):
        model.save_pretrained(tmp_path / "other", state_dict={**model.state_dict(), name: tensor * float("inf")})


def test_tensors_without_numbers_to_look_at_count_as_finite():
    require_finite_weights(
        {
            "counts": torch.tensor([1, 2]),
            "nothing": torch.empty(0),
            "away": torch.empty(3, device="meta"),
            "small": torch.randn(5).to(torch.float8_e4m3fn),
            "sparse": torch.eye(3).to_sparse(),
        }
    )
    with pytest.raises(FloatingPointError, match="small"):
        require_finite_weights({"small": torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)})


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}, {"cache_implementation": "static"}])
def test_a_broken_decoder_says_so_instead_of_an_empty_text(trained_model, options):
    broken = copy.deepcopy(trained_model)
    assert broken.reconstruct("The food .", max_new_tokens=4, seed=0)  # control
    with torch.no_grad():
        broken.decoder.get_output_embeddings().weight[7] = float("nan")
    with pytest.raises(FloatingPointError, match="The decoder's logits of row 0 are not finite"):
        broken.reconstruct("The food .", max_new_tokens=4, seed=0, **options)


# --- standard deviations far below what single precision can square --------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [-30.0, -44.0, -62.0, -200.0, -1000.0])
def test_small_deviations_give_the_same_posterior_in_training_and_in_evaluation(bias, dtype):
    head = BatchNormRMSPosterior(16, 4).to(dtype)
    with torch.no_grad():
        head.scale_projection.bias.fill_(bias)
    features = torch.randn(64, 16, dtype=dtype)
    with torch.no_grad(), population_statistics(head):
        trained = head(features)
    evaluated = head.eval()(features)
    assert evaluated.logvar.isfinite().all()
    torch.testing.assert_close(evaluated.logvar, trained.logvar, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(evaluated.mean, trained.mean, rtol=1e-3, atol=1e-4)
    # Split batches, which are summed, and a head that was saved and loaded.
    other = BatchNormRMSPosterior(16, 4).to(dtype)
    other.load_state_dict(head.state_dict())
    with torch.no_grad(), population_statistics(head):
        for part in features.split(24):
            head.train()(part)
    torch.testing.assert_close(head.eval()(features).logvar, evaluated.logvar, rtol=1e-6, atol=1e-4)
    assert torch.equal(other.eval()(features).logvar, evaluated.logvar)


@torch.no_grad()
def test_running_averages_reach_small_deviations_and_come_back():
    """Against a plain average of logarithms in double precision."""
    norm, expected = BatchRootMeanSquare(4), torch.zeros(4, dtype=torch.float64)
    for log_value, steps in ((-70.0, 1200), (-10.0, 20)):
        for _ in range(steps):
            norm.train()(torch.full((32, 4), log_value))
            expected = torch.logaddexp(
                expected + math.log(0.9), torch.full_like(expected, 2 * log_value + math.log(0.1))
            )
        found = -2 * norm.eval()(torch.zeros(1, 4))[0]
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-2)
        assert (norm.running_mean_square < 0).all() == (log_value == -70.0)


def test_statistics_of_an_older_version_are_mean_squares(make_model, tmp_path, batch):
    model = make_model(posterior="bn_rms")
    recalibrate_posterior(model, [batch])
    stored = model.posterior.scale_norm.running_mean_square
    assert (stored > 0).all()
    values = torch.randn(5, 8)
    norm = model.posterior.scale_norm.eval()
    assert torch.equal(norm(values), values - 0.5 * stored.log())
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path).posterior.scale_norm
    assert torch.equal(loaded(values), norm(values))


# --- features that do not vary ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_latents_of_new_texts_stay_small_after_training_on_equal_texts(posterior, dtype):
    head = build_posterior_head(posterior, 64, 8).to(dtype)
    features = (3 + torch.randn(1, 64)).repeat(32, 1).to(dtype)
    new = 3 + torch.randn(16, 64, dtype=dtype)
    # Rounding as of an encoder of many layers, whose results depend a little on the size of the batch.
    noise = torch.finfo(dtype).eps * 4 * torch.randn(32, 64, dtype=dtype)
    for seen in (features, features + noise):
        for _ in range(400):  # until the averages have forgotten where they started
            head.train()(seen)
        averaged = head.eval()(new)
        with population_statistics(head.train()):
            head(seen)
        for found in (averaged, head.eval()(new)):
            assert found.mean.abs().max() < 10
            # `bn_mean` and `du` leave the variance free.
            assert found.kl().sum(-1).mean() < 20
    # The control: features that vary by a thousandth give latents as always.
    varied = features + 1e-3 * torch.randn(32, 64, dtype=dtype)
    with population_statistics(head.train()):
        expected = head(varied).mean
    torch.testing.assert_close(head.eval()(varied).mean, expected, rtol=1e-2, atol=1e-2)
    assert expected.std() > 0.1
