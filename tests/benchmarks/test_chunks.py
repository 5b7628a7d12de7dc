"""What chunks promise about memory, computed positions and time, measured by `scripts/benchmark_chunks.py`."""

import json
import os
import subprocess
import sys

import pytest
from paths import SCRIPTS

SCRIPT = SCRIPTS / "benchmark_chunks.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    file = tmp_path_factory.mktemp("benchmark") / "chunks.json"
    # With the threads that a user has: the other tests are too small for a second one.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, SCRIPT, "--rounds", "5", "--output_file", file]
    subprocess.run(command, check=True, env=environment)
    return json.loads(file.read_text())


def test_the_batch_is_half_padding(results):
    assert 0.4 < results["batch"]["share_of_padding"] < 0.6


def test_checkpointed_chunks_take_the_memory_of_one_chunk(results):
    for tool, added in results["memory_bytes"]["kept"].items():
        assert added["checkpointed"] <= 1.2 * added["longest"], tool
        # Controls: without chunks, and with chunks alone, a step keeps the whole batch.
        assert added["plain"] > 5 * added["longest"] and added["chunks"] > 3 * added["longest"], tool


def test_both_tools_see_the_same_memory(results):
    for added in results["memory_bytes"].values():
        for way, kernel in added.get("kernel", {}).items():
            assert kernel == pytest.approx(added["allocator"][way], rel=0.05)


def test_sorted_chunks_compute_little_padding(results):
    for network in ("encoder", "decoder"):
        chunks, plain = results["positions"]["chunks"], results["positions"]["plain"]
        assert chunks["tokens"] <= chunks[network] <= 1.15 * chunks["tokens"]
        assert plain[network] > 1.5 * plain["tokens"]


def test_checkpointed_chunks_cost_at_most_a_quarter_more_time(results):
    assert results["time_ratios"]["returned"]["checkpointed"]["cpu"] <= 1.25
