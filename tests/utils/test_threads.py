"""How threads wait for each other: what torch's OpenMP library has read when it was loaded, in a fresh process."""

import os
import re
import subprocess
import sys

import pytest

SPIN_COUNT = "GOMP_SPINCOUNT"


def spin_count(code: str, **variables: str) -> str | None:
    """The spin count that GNU's OpenMP library prints while `code` loads it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**own, "OMP_DISPLAY_ENV": "verbose", **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(rf"{SPIN_COUNT} = '(\d+)'", run.stderr)
    return found and found[1]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch has another OpenMP library")
@pytest.mark.parametrize(
    ("code", "variables", "is_ours"),
    [
        ("import hf_bnvae", {}, True),
        ("from hf_bnvae.cli import main", {}, True),
        ("import sys; sys.path.append('scripts'); import run_bnvae_no_trainer", {}, True),
        ("import torch, hf_bnvae", {}, False),
        ("import hf_bnvae", {SPIN_COUNT: "77"}, False),
        ("import hf_bnvae", {"OMP_WAIT_POLICY": "PASSIVE"}, False),
    ],
)
def test_threads_spin_briefly_unless_torch_or_the_user_came_first(code, variables, is_ours):
    found = spin_count(code, **variables)
    assert found is not None and (found == "1000") == is_ours
