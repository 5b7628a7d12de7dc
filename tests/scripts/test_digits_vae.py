"""The heads work alone: the documented example, a VAE of images, is run as a user would."""

import json
import subprocess
import sys

import pytest
from paths import SCRIPTS

SCRIPT = SCRIPTS / "run_digits_vae.py"


def figures(*arguments: str) -> dict[str, float]:
    output = subprocess.run([sys.executable, SCRIPT, *arguments], check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize(("posterior", "rate"), [("bn_rms", "6"), ("bn", "10"), ("bn_mean", None), ("ln", None)])
def test_digits_are_encoded(posterior, rate):
    result = figures("--posterior", posterior, *(("--rate", rate) if rate else ()))
    assert result["active_units"] >= 4 and result["mutual_information"] > 2.5
    # The mean image alone leaves 434 nats (binomial, up to the same constant).
    assert result["reconstruction_nll"] < 300
    assert 0.8 < result["mean_moment_ratio"] < 1.25
    if posterior != "bn_mean":  # which leaves the variances free
        assert 0.7 < result["aggregate_second_moment"] < 1.3
    if rate:
        assert result["kl_floor"] == pytest.approx(float(rate), rel=1e-5)
