"""The executors: their options, the script for Slurm, and that a cluster writes the files that one process writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from datatrove.data import Document
from paths import ROOT

from hf_bnvae import cli
from hf_bnvae.corpus import LatentEncoder, LatentWriter, LocalLatentExecutor
from hf_bnvae.corpus.corpus_job import TextCounter
from hf_bnvae.corpus.executors import executor_options

TEXTS = tiny.make_texts(30)
SLURM = ["--executor", "slurm", "--executor_options", "partition=gpu", "time=01:30:00", "gpus_per_task=1", "qos="]


@pytest.fixture
def encode(tmp_path, monkeypatch, trained_folder, capsys):
    """A function that encodes thirty texts in two tasks: what the command prints, or its error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("\n".join(TEXTS))

    def run(folder: str, *options: str) -> str:
        capsys.readouterr()
        base = ["encode", "mine.txt", folder, "--model", trained_folder, "--tasks", "2", "--disable_tqdm"]
        try:
            cli.main([*base, *options])
        except SystemExit as end:
            assert end.code == 2
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.parquet")}


def test_options_have_the_names_and_types_of_datatroves_own(tmp_path):
    words = ["partition=gpu", "time=01:30:00", "gpus_per_task=2", 'sbatch_args={"account": "me"}', "requeue=false"]
    assert executor_options("slurm", words) == {
        "partition": "gpu",
        "time": "01:30:00",
        "gpus_per_task": 2,
        "sbatch_args": {"account": "me"},
        "requeue": False,
    }
    assert executor_options("slurm", ["time=90", "partition=7"])["time"] == "90"
    assert executor_options("ray", ["mem_per_cpu_gb=1.5", "time=90"]) == {"mem_per_cpu_gb": 1.5, "time": 90}
    assert executor_options("local", ["start_method=spawn"]) == {"start_method": "spawn"}


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("local", ["start_method"], "takes NAME=VALUE, got 'start_method'"),
        ("local", ["gpus=3"], "The executor local has no option 'gpus'. Its options: start_method, "),
        ("ray", ["gpu_per_task=1"], "Did you mean gpus_per_task?"),
        ("ray", ["gpus_per_task=one"], "gpus_per_task must be a whole number, got 'one'"),
        ("ray", ["log_first=1"], "log_first must be true or false, got '1'"),
        ("ray", ["cpus_per_task=true"], "cpus_per_task must be a whole number, got 'true'"),
        ("ray", ["mem_per_cpu_gb=much"], "mem_per_cpu_gb must be a number, got 'much'"),
        ("local", ["local_tasks=1.5"], "local_tasks must be a whole number, got '1.5'"),
        ("slurm", ["time=10", "partition=a", "sbatch_args=5"], "sbatch_args must be a JSON object, got '5'"),
        ("slurm", ["time=10"], "The executor slurm needs partition: --executor_options partition=VALUE"),
        ("slurm", [], "The executor slurm needs time and partition"),
    ],
)
def test_wrong_options_are_named(kind, words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        executor_options(kind, words)


def test_without_slurm_the_script_is_left_to_look_at(encode, tmp_path):
    said = encode("latents", *SLURM)
    script = tmp_path / "latents-logs" / "launch_script.slurm"
    assert "There is no sbatch here. Start the command on a machine that may give jobs to Slurm. The script" in said
    assert str(script) in said and files("latents") == {}
    lines = script.read_text().splitlines()
    for line in ("partition=gpu", "time=01:30:00", "gpus=1", "array=0-1%1"):
        assert f"#SBATCH --{line}" in lines
    assert not any("qos" in line for line in lines)
    if Path(sys.prefix, "bin", "activate").is_file():
        assert f"source {sys.prefix}/bin/activate" in lines


# What Slurm does with a job, on one machine and at once.
SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
first, last = re.search(r"--array=(\\d+)-(\\d+)", script).groups() if "launch_pickled" in script else (0, -1)
for task in range(int(first), int(last) + 1):
    environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "here"}}
    with open("slurm.log", "a") as log:
        subprocess.run(["bash", sys.argv[-1]], env=environment, stdout=log, stderr=log)
print("Submitted batch job 7")
"""


@pytest.mark.slow
def test_tasks_that_slurm_starts_write_the_files_of_one_process(encode, tmp_path, monkeypatch):
    bin = tmp_path / "bin"
    bin.mkdir()
    programs = {
        "sbatch": SBATCH.format(python=sys.executable),
        "srun": '#!/bin/bash\nshift 3\nexec "$@"\n',  # behind -l -n 1
        "scontrol": "#!/bin/bash\necho here\n",
    }
    for name, content in programs.items():
        (bin / name).write_text(content)
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    encode("alone")
    said = encode("latents", *SLURM)
    assert "Gave 2 of 2 tasks to Slurm, as job 7" in said
    assert files("latents") == files("alone") and len(files("alone")) == 2, Path("slurm.log").read_text()
    assert "2 of the files were there already" in encode("latents", *SLURM)
    Path("latents/00001.parquet").unlink()
    assert "Gave 1 of 2 tasks to Slurm" in encode("latents", *SLURM)
    assert json.loads(Path("latents-logs/ranks_to_run.json").read_text()) == [1]
    assert files("latents") == files("alone")
    programs["sbatch"] = "#!/bin/bash\nexit 3\n"
    (bin / "sbatch").write_text(programs["sbatch"])
    Path("latents/00001.parquet").unlink()
    assert "sbatch refused" in encode("latents", *SLURM)


@pytest.mark.slow
def test_a_cluster_of_ray_writes_the_files_of_one_process(encode, tmp_path, trained_folder):
    pytest.importorskip("ray")
    encode("alone")
    # In a process of its own: a cluster ends with the process that started it.
    command = [sys.executable, "-m", "hf_bnvae.cli", "encode", "mine.txt", "latents", "--model", trained_folder]
    more = ["--tasks", "2", "--executor", "ray", "--disable_tqdm", "--executor_options", "mem_per_cpu_gb=0.5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([*command, *more], capture_output=True, text=True, env=environment, timeout=600)
    assert "30 latents of 30 texts in 2 files" in run.stdout, run.stdout + run.stderr
    assert files("latents") == files("alone")


@pytest.mark.slow
def test_a_killed_process_ends_the_run_in_words(tmp_path, trained_folder):
    encoder = LatentEncoder(trained_folder)

    def dies(data, rank, world_size):
        os.kill(os.getpid(), signal.SIGKILL)

    def kills_one_that_waits(data, rank, world_size):
        yield Document(text=TEXTS[rank], id=str(rank))
        if rank == 0:
            (tmp_path / "pid").write_text(str(os.getpid()))
        else:
            while not (tmp_path / "out/00000.parquet").is_file():
                time.sleep(0.05)
            time.sleep(0.5)
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
            time.sleep(600)  # it is ended

    def runs(data, rank, world_size):
        yield Document(text=TEXTS[rank], id=str(rank))

    for first, expected in ((dies, 0), (kills_one_that_waits, 1), (runs, 2)):
        pipeline = [first, encoder, LatentWriter(str(tmp_path / "out"), encoder)]
        executor = LocalLatentExecutor(pipeline, tasks=2, workers=2, logging_dir=str(tmp_path / "logs"), is_quiet=True)
        if first is runs:
            executor.run()  # control
        else:
            with pytest.raises(ChildProcessError, match="repeat the command"):
                executor.run()
        assert len(list((tmp_path / "out").glob("*.parquet"))) == expected


def test_a_counter_passes_documents_on_and_counts_them_in_a_file(tmp_path):
    documents = [Document(text="", id=str(n)) for n in range(200)]
    file = tmp_path / "count"
    assert list(TextCounter(file)(iter(documents))) == documents
    assert file.stat().st_size == 192  # 64 at once; the bar is away when the last ones come
    list(TextCounter(file)(iter(documents[:70])))
    assert file.stat().st_size == 256
