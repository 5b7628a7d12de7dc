"""One posterior batch in several processes (gloo), under DDP and FSDP2: what one process gives with all sentences."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cuts import BATCH, STEPS, Setting, deviation, gradient_error, train_by_hand
from paths import HELPERS

from hf_bnvae import recalibrate_posterior
from hf_bnvae.training.sampling import posterior_noise

WORKER = HELPERS / "distributed" / "worker.py"


def run_workers(kind: str, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [*command, str(WORKER), kind, str(folder)], env=environment, capture_output=True, text=True, timeout=400
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


@pytest.fixture(scope="module")
def ddp(tmp_path_factory):
    return run_workers("ddp", tmp_path_factory.mktemp("ddp"))


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory):
    return run_workers("fsdp", tmp_path_factory.mktemp("fsdp"))


@pytest.mark.parametrize("posterior", ["bn", "bn_rms", "bn_mean"])
@pytest.mark.parametrize("with_free_bits", [False, True], ids=["", "free_bits"])
@pytest.mark.parametrize("first", [16, 20], ids=["even", "uneven"])
def test_two_processes_train_on_one_batch(setting, ddp, posterior, with_free_bits, first):
    free_bits = setting.free_bits(posterior) if with_free_bits else 0.0
    whole = train_by_hand(setting, posterior, free_bits=free_bits)
    assert deviation(ddp[f"{posterior} {first} {with_free_bits}"], whole) < 1


@pytest.mark.parametrize("case", ["uneven chunks", "trainer", "trainer accumulating"])
def test_processes_and_other_cuts_at_once(setting, ddp, case):
    found = ddp[f"bn {case}"]
    assert len([name for name in found if name.startswith("loss")]) == STEPS
    assert deviation(found, train_by_hand(setting, "bn")) < 1


def test_statistics_of_each_process_by_itself_are_another_training(setting, ddp):
    assert gradient_error(ddp["unsynchronised"], train_by_hand(setting, "bn")) > 1e-2


@pytest.mark.parametrize("case", ["even", "uneven", "uneven chunks", "trainer", "trainer accumulating"])
def test_sharded_weights_are_the_same_training(setting, fsdp, case):
    assert deviation(fsdp[f"bn {case}"], train_by_hand(setting, "bn")) < 1


def test_population_statistics_are_those_of_all_processes(setting, ddp):
    model = setting.model("bn_rms")
    recalibrate_posterior(model, [setting.batch(0, BATCH * STEPS)])
    for name, statistic in ddp["population"].items():
        torch.testing.assert_close(model.posterior.get_buffer(name), statistic, rtol=1e-12, atol=1e-14)
    recalibrate_posterior(model, [setting.batch(0, 70)])  # the share of one process alone
    assert (model.posterior.mean_norm.running_var / ddp["population"]["mean_norm.running_var"] - 1).abs().max() > 1e-3


def test_noise_is_that_of_one_process(ddp):
    assert torch.equal(ddp["noise"]["noise"], posterior_noise(8, 2, seed=7, step=11))
    assert not torch.equal(ddp["noise"]["noise"], posterior_noise(8, 2, seed=7, step=12))
