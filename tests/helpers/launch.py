"""Starts a worker of `helpers/distributed` in two processes."""

import os
import subprocess
import sys

from paths import HELPERS


def launch_two(worker: str, *arguments: str) -> None:
    """Run `helpers/distributed/<worker>` with gloo in two processes, and wait until both have ended well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(HELPERS / "distributed" / worker), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert finished.returncode == 0, finished.stderr[-4000:]
