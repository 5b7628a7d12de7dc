"""The heads work alone: the documented example, a VAE of images, runs as a user would start it."""

import json
import runpy
import sys

import pytest
from paths import SCRIPTS

pytestmark = pytest.mark.slow


@pytest.fixture
def figures(monkeypatch, capsys):
    """A function that runs the script: the figures that the script prints."""

    def run(*arguments: str) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", ["run_digits_vae.py", *arguments])
        runpy.run_path(str(SCRIPTS / "run_digits_vae.py"), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.mark.parametrize(
    ("posterior", "rate"),
    [("bn_rms", "6"), ("bn", "10"), ("bn_mean", None), ("ln", None)],
)
def test_digits_are_encoded(figures, posterior, rate):
    result = figures("--posterior", posterior, *(("--rate", rate) if rate else ()))
    assert result["active_units"] >= 4 and result["mutual_information"] > 2.5
    # The mean image alone leaves 434 nats (binomial, up to the same constant).
    assert result["reconstruction_nll"] < 300
    assert 0.8 < result["mean_moment_ratio"] < 1.25
    if posterior != "bn_mean":  # which leaves the variances free
        assert 0.7 < result["aggregate_second_moment"] < 1.3
    if rate:
        assert result["kl_floor"] == pytest.approx(float(rate), rel=1e-5)
