"""A device without float64, as Apple's GPUs are: statistics, prior, figures and texts are those of the CPU."""

import subprocess
import sys

import pytest
from paths import HELPERS


@pytest.mark.slow
def test_what_follows_a_training_needs_no_float64_on_the_device():
    """Checks and control are in the program."""
    ended = subprocess.run([sys.executable, str(HELPERS / "without_float64.py")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
