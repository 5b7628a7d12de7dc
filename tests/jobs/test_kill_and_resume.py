"""After `kill -9` at any moment the same command ends with the result of a run that was never killed, bit for bit.

Both scripts are really started and really killed, at moments before the first checkpoint, between two, while one is
written or deleted, and after the last step. Minutes: marked slow."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tiny
import torch
from paths import HELPERS, ROOT
from safetensors.torch import load_file

from hf_bnvae.jobs.training_job import TrainingJob
from hf_bnvae.jobs.training_options import parse_arguments
from hf_bnvae.utils.checkpoints import last_complete_checkpoint

pytestmark = pytest.mark.slow

KILLED_AT = Path(HELPERS, "killed_at.py")
SECONDS = 400

# 58 training texts, 8 at a time, make 7 steps an epoch, so that the last step lies in the middle of the second epoch.
# Dropout makes every step depend on the random state. A constant learning rate makes the last step count.
OPTIONS = {
    "train_file": "mine.txt",
    "hidden_size": 32,
    "num_layers": 1,
    "latent_size": 4,
    "vocab_size": 300,
    "encoder_dropout": 0.1,
    "max_steps": 11,
    "warmup_steps": 0,
    "lr_scheduler_type": "constant",
    "auxiliary": "bag_of_words",
    "auxiliary_steps": 8,
    "save_steps": 3,
    "save_total_limit": 2,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "logging_steps": 1,
    "num_importance_samples": 2,
    "disable_tqdm": "true",
    "use_cpu": "true",
}

# The moments at which a run is killed, one after the other (see `killed_at.py`). Beside each stand the checkpoint from
# which the next start goes on, and the one that this start calls cut off.
Moment = tuple[str, str, int]
ALONE: dict[str, list[tuple[Moment, int | None, int | None]]] = {
    "run_bnvae.py": [
        (("open", ".arrow", 1), None, None),  # the cache of the data
        (("call", "posterior_noise", 5), 3, None),
        (("open", "checkpoint-6/trainer_state.json", 1), 3, 6),
        (("os.remove", "optimizer.pt", 1), 9, None),  # checkpoint 3 is half deleted
        (("open", "out/all_results.json", 3), 11, None),  # written, read, written
    ],
    "run_bnvae_no_trainer.py": [
        (("open", "checkpoint-3/config.json", 1), None, 3),
        (("call", "posterior_noise", 9), 6, None),
        (("open", "checkpoint-9/trainer_state.json.partial", 1), 6, 9),
        (("os.remove", "optimizer.bin", 1), 9, None),
        (("call", "recalibrate_posterior", 2), 11, None),  # the first is for the evaluation of the last step
    ],
}
# One process dies before it writes its random state. The random state of the other is there.
LAST_FILE: dict[str, Moment] = {
    "run_bnvae.py": ("call", "_save_rng_state", 3),  # the trainer's calls `Trainer`'s
    "run_bnvae_no_trainer.py": ("call", "save_accelerator_state", 2),
}


class Runs:
    """Starts a script in a folder, in one or two processes, which share a batch."""

    def __init__(self, folder: Path, script: str, processes: int) -> None:
        self.folder, self.script, self.processes = folder, str(ROOT / "scripts" / script), processes
        options = {**OPTIONS, "per_device_train_batch_size": 8 // processes}
        self.options = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        (folder / "mine.txt").write_text("\n".join(tiny.make_texts(64)))

    def start(self, out: str, *more: str, killed_at: Moment | None = None) -> subprocess.Popen:
        command = [sys.executable]
        if self.processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
            command += ["-m", "torch.distributed.run", "--nproc_per_node", str(self.processes), "--master_port", port]
        if killed_at is not None:
            command += [str(KILLED_AT), *map(str, killed_at)]
        command += [self.script, *self.options, "--output_dir", out, *more]
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HOME": str(self.folder / out) + "-cache"}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self.folder / f"{out}.log").open("w") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **threads, "PYTHONPATH": path},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def printed(self, out: str) -> str:
        return (self.folder / f"{out}.log").read_text()

    def finish(self, process: subprocess.Popen, out: str) -> None:
        wait(process)
        assert process.returncode == 0, self.printed(out)

    def kill(self, killed_at: Moment) -> None:
        process = self.start("out", killed_at=killed_at)
        wait(process)
        # The launcher of several processes survives, and says that one was killed.
        assert process.returncode == (-signal.SIGKILL if self.processes == 1 else 1), self.printed("out")
        assert not json.loads(self.record()).get("finished")

    def record(self) -> str:
        file = self.folder / "out" / "run.json"
        return file.read_text() if file.exists() else "{}"

    def went_on_from(self) -> tuple[int | None, int | None]:
        """What the last start said: the checkpoint that it resumed from, and one that was cut off."""
        resumed = re.search(r"Resuming the unfinished run in out from checkpoint-(\d+)\.", self.printed("out"))
        cut_off = re.search(r"out/checkpoint-(\d+) was cut off", self.printed("out"))
        return tuple(found and int(found[1]) for found in (resumed, cut_off))

    def outcome(self, out: str) -> dict:
        """Weights and running statistics, the figures of the final evaluation, and the figures of each step."""
        folder = self.folder / out
        figures = json.loads((folder / "all_results.json").read_text())
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        timed = re.compile("runtime|per_second|^train_")
        return {
            "tensors": load_file(folder / "model.safetensors"),
            "figures": {name: value for name, value in figures.items() if name.startswith("eval_")},
            "history": [{n: v for n, v in e.items() if not timed.search(n)} for e in history if "train_loss" not in e],
        }


def wait(process: subprocess.Popen) -> None:
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        kill_all(process)
        raise


def kill_all(process: subprocess.Popen) -> None:
    """Kill a launcher's process group, and the processes that it started in other groups."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        child.kill()
    process.wait()
    psutil.wait_procs(children)


def require_same(actual: dict, expected: dict) -> None:
    assert actual["tensors"].keys() == expected["tensors"].keys()
    assert any("running" in name for name in expected["tensors"])
    for name, tensor in expected["tensors"].items():
        assert torch.equal(actual["tensors"][name], tensor), name
    assert len(expected["figures"]) > 10 and actual["figures"] == expected["figures"]
    assert actual["history"] == expected["history"]


@pytest.mark.parametrize("script", ALONE)
def test_a_run_that_is_killed_again_and_again_ends_as_if_never_killed(script, tmp_path):
    runs = Runs(tmp_path, script, processes=1)
    others = {"whole": runs.start("whole"), "control": runs.start("control", "--seed", "43")}
    before: tuple[int | None, int | None] = (None, None)
    for killed_at, *after in ALONE[script]:
        runs.kill(killed_at)
        assert runs.went_on_from() == before, killed_at
        before = tuple(after)
    runs.finish(runs.start("out"), "out")
    assert runs.went_on_from() == before
    for name, process in others.items():
        runs.finish(process, name)
    whole, control = runs.outcome("whole"), runs.outcome("control")
    require_same(runs.outcome("out"), whole)
    assert not torch.equal(*(run["tensors"]["posterior.mean_projection.weight"] for run in (whole, control)))


@pytest.fixture(scope="module", params=LAST_FILE)
def killed(request, tmp_path_factory) -> tuple[Runs, tuple[int | None, int | None]]:
    """A run in two processes that was killed twice, beside one that never was; and where its second start went on. The
    last test finishes the run, and the tests before leave its files as they were."""
    runs = Runs(tmp_path_factory.mktemp("killed"), request.param, processes=2)
    runs.finish(runs.start("whole"), "whole")
    runs.kill(LAST_FILE[request.param])
    process = runs.start("out")
    # Both at once, while a checkpoint is written or soon after.
    folder, deadline = runs.folder / "out" / "checkpoint-9", time.monotonic() + SECONDS
    while not folder.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    kill_all(process)
    return runs, runs.went_on_from()


def test_two_processes_go_on_from_the_checkpoint_that_both_have_written(killed):
    assert killed[1] == (3, 6)


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        ([], "processes: 2, not 1"),
        (["--posterior", "ln"], "posterior: None, not 'ln'"),
        (["--latent_size", "5"], "latent_size: 4, not 5"),
    ],
)
def test_a_killed_run_is_not_resumed_with_other_settings(killed, monkeypatch, more, difference):
    runs, _ = killed
    monkeypatch.chdir(runs.folder)
    loop = json.loads(runs.record())["settings"]["loop"]
    job = TrainingJob(*parse_arguments([*runs.options, "--output_dir", "out", *more]), loop=loop)
    with pytest.raises(ValueError, match=f"unfinished run with other settings.*{difference}"):
        job.begin()


def test_a_checkpoint_is_whole_only_with_the_random_state_of_both_processes(killed, monkeypatch):
    runs, _ = killed
    monkeypatch.chdir(runs.folder)
    checkpoint = last_complete_checkpoint("out")
    random_state = next(Path(checkpoint).glob("r*_1.*"))  # the second process'
    whole, step = random_state.read_bytes(), int(checkpoint.rpartition("-")[2])
    for damage in (random_state.unlink, lambda: random_state.write_bytes(whole[:-1])):
        damage()
        assert last_complete_checkpoint("out") == f"out/checkpoint-{step - 3}"
        random_state.write_bytes(whole)
    assert last_complete_checkpoint("out") == checkpoint


def test_two_processes_that_are_killed_end_as_if_never_killed(killed, monkeypatch):
    runs, _ = killed
    monkeypatch.chdir(runs.folder)
    checkpoint = last_complete_checkpoint("out")
    runs.finish(runs.start("out"), "out")
    assert f"from {Path(checkpoint).name}." in runs.printed("out")
    require_same(runs.outcome("out"), runs.outcome("whole"))
