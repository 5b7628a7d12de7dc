"""The count of changes of file on the way of a batch, and its rule, on calls whose way is known."""

import runpy

import torch
from paths import SCRIPTS

from hf_bnvae import DiagonalGaussian

SCRIPT = str(SCRIPTS / "report_file_changes.py")


def test_a_training_pass_stays_on_few_files(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [SCRIPT])
    runpy.run_path(SCRIPT, run_name="__main__")
    counts = dict(line.removesuffix(" changes of file").split(": ") for line in capsys.readouterr().out.splitlines())
    assert counts.keys() == {"packed", "padded", "reconstruct"}
    assert 0 < int(counts["padded"]) <= 25 < int(counts["packed"]) <= 40


def test_a_call_into_another_file_and_back_counts_twice(make_model):
    files_on_the_way = runpy.run_path(SCRIPT)["files_on_the_way"]
    posterior = DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3))
    assert files_on_the_way(posterior.kl) == ["model/gaussian_bnvae.py"]
    # Frames of torch stand between the head and its scale, and do not count.
    head = make_model(posterior="bn").posterior.eval()
    files = files_on_the_way(head.kl_floor)
    assert files == ["model/posterior_bnvae.py", "model/scales_bnvae.py", "model/posterior_bnvae.py"]


def test_a_way_outside_of_the_package_has_no_file():
    files_on_the_way = runpy.run_path(SCRIPT)["files_on_the_way"]
    assert files_on_the_way(lambda: torch.nn.Linear(2, 2)(torch.zeros(1, 2))) == []
