"""One posterior batch in two processes (gloo), under DDP and FSDP2, gives what one process gives for all sentences."""

from functools import cache

import pytest
import torch
from cuts import (
    AUXILIARY,
    BATCH,
    STEPS,
    TIED,
    Setting,
    deviation,
    fitted_prior,
    gradient_error,
    train_by_hand,
    train_with_trainer,
)
from launch import launch_two

from hf_bnvae import fit_prior, recalibrate_posterior
from hf_bnvae.training.sampling import posterior_noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """What came out of each case in two processes. One launch runs all cases."""
    folder = tmp_path_factory.mktemp("processes")
    launch_two("worker.py", str(folder))
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.fixture(scope="module")
def alone(setting):
    """A function that gives the training of one process with all sentences."""

    @cache
    def train(posterior: str, with_free_bits: bool = False) -> dict[str, torch.Tensor]:
        free_bits = setting.free_bits(posterior) if with_free_bits else 0.0
        return train_by_hand(setting, posterior, free_bits=free_bits)

    return train


@pytest.mark.parametrize("posterior", ["bn", "bn_rms", "bn_mean"])
@pytest.mark.parametrize("with_free_bits", [False, True], ids=["", "free_bits"])
@pytest.mark.parametrize("first", [16, 20], ids=["even", "uneven"])
def test_two_processes_train_on_one_batch(alone, processes, posterior, with_free_bits, first):
    found = processes[f"ddp {posterior} {first} {with_free_bits}"]
    assert deviation(found, alone(posterior, with_free_bits)) < 1


@pytest.mark.parametrize("case", ["uneven chunks", "trainer", "trainer accumulating"])
def test_processes_and_other_cuts_at_once(alone, processes, case):
    found = processes[f"ddp bn {case}"]
    assert len([name for name in found if name.startswith("loss")]) == STEPS
    assert deviation(found, alone("bn")) < 1


@pytest.mark.parametrize("first", [16, 20], ids=["even", "uneven"])
def test_two_processes_share_a_batch_with_conditions(processes, first):
    whole = train_by_hand(Setting(is_conditional=True), "bn")
    assert deviation(processes[f"ddp conditional {first}"], whole) < 1


def test_statistics_of_each_process_by_itself_are_another_training(alone, processes):
    assert gradient_error(processes["ddp unsynchronised"], alone("bn")) > 1e-2


@pytest.mark.parametrize("case", ["even", "uneven", "uneven chunks", "trainer", "trainer accumulating"])
def test_sharded_weights_are_the_same_training(alone, processes, case):
    assert deviation(processes[f"fsdp bn {case}"], alone("bn")) < 1


def test_the_auxiliary_learns_from_the_whole_batch(setting, processes, tmp_path):
    whole = train_with_trainer(setting, "bn", str(tmp_path), per_device_train_batch_size=BATCH, **AUXILIARY)
    assert deviation(processes["ddp bn trainer auxiliary"], whole) < 1
    assert deviation(processes["fsdp bn trainer auxiliary"], whole) < 1
    # The controls: no auxiliary, and networks that each learn from the sentences of one process.
    assert deviation(processes["ddp bn trainer"], whole) > 100
    assert deviation(processes["ddp bn networks apart"], whole) > 100
    tied = train_with_trainer(setting, "bn", str(tmp_path), per_device_train_batch_size=BATCH, **TIED)
    assert deviation(processes["ddp bn trainer tied auxiliary"], tied) < 1
    assert deviation(processes["fsdp bn trainer tied auxiliary"], tied) < 1
    assert deviation(tied, whole) > 100


def test_population_statistics_are_those_of_all_processes(setting, processes):
    model = setting.model("bn_rms")
    recalibrate_posterior(model, [setting.batch(0, BATCH * STEPS)])
    for name, statistic in processes["population"].items():
        torch.testing.assert_close(model.posterior.get_buffer(name), statistic, rtol=1e-12, atol=1e-14)
    recalibrate_posterior(model, [setting.batch(0, 70)])  # the share of one process alone
    ratio = model.posterior.mean_norm.running_var / processes["population"]["mean_norm.running_var"]
    assert (ratio - 1).abs().max() > 1e-3


def test_the_fitted_prior_is_that_of_all_processes(setting, processes):
    model = setting.model("gaussian")
    fit_prior(model, [setting.batch(0, BATCH * STEPS)])
    for name, found in processes["fitted prior"].items():
        torch.testing.assert_close(model.prior.get_buffer(name), found, rtol=1e-10, atol=1e-12)
    fit_prior(model, [setting.batch(0, 70)])  # the share of one process alone
    assert (model.prior.scale_tril - processes["fitted prior"]["scale_tril"]).abs().max() > 1e-3


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_training_ends_with_the_prior_of_one_process(setting, processes, tmp_path, way):
    priors = []
    arguments = {"after": lambda model: priors.append(fitted_prior(model)), "per_device_train_batch_size": BATCH}
    train_with_trainer(setting, "bn", str(tmp_path), **arguments)
    train_with_trainer(setting, "bn", str(tmp_path), **arguments, max_steps=1)  # control
    (whole, short), found = priors, processes[f"prior {way}"]
    for name, buffer in whole.items():
        torch.testing.assert_close(found[name], buffer, rtol=1e-6, atol=1e-8)
    assert (short["scale_tril"] - found["scale_tril"]).abs().max() > 1e-4


def test_noise_is_that_of_one_process(processes):
    assert torch.equal(processes["noise"]["noise"], posterior_noise(8, 2, seed=7, step=11))
    assert not torch.equal(processes["noise"]["noise"], posterior_noise(8, 2, seed=7, step=12))
