"""What a training says where a user made a mistake, and where it is interrupted."""

import errno
import os
import runpy
import signal
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from paths import SCRIPTS

from hf_bnvae.jobs import training_program
from hf_bnvae.jobs.option_parser import user_errors
from hf_bnvae.jobs.trackers import TRACKERS
from hf_bnvae.jobs.training_program import begin_training, interruptions_explained
from hf_bnvae.utils.checkpoints import record_contents


@pytest.fixture
def run(tmp_path):
    """What the explanations need of a run that has begun."""
    return SimpleNamespace(job=SimpleNamespace(path=tmp_path, is_main=True))


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    raise KeyboardInterrupt


def fill():
    raise OSError(errno.ENOSPC, "No space left on device")


def take_too_much():
    torch.empty(1 << 50)


@pytest.mark.parametrize(
    ("happens", "status", "told"),
    [
        (interrupt, 130, "Interrupted."),
        (terminate, 143, "Terminated."),
        (fill, 1, "The disk of {} is full."),
        (take_too_much, 1, "--gradient_accumulation_steps is the same training."),
    ],
)
def test_an_interruption_says_what_is_kept_and_how_to_go_on(run, capsys, happens, status, told):
    path, before = run.job.path, signal.getsignal(signal.SIGTERM)
    for kept in (
        "The last checkpoint is none: nothing was saved yet. The same command begins anew;",
        f"Kept: {path}/checkpoint-7.",
    ):
        with pytest.raises(SystemExit) as end, interruptions_explained(run):
            happens()
        assert end.value.code == status and signal.getsignal(signal.SIGTERM) == before
        assert f"{told.format(path)} {kept}" in capsys.readouterr().err
        checkpoint = path / "checkpoint-7"
        checkpoint.mkdir(exist_ok=True)
        record_contents(checkpoint)
        (checkpoint / "trainer_state.json").write_text("{}")


def test_a_disk_that_is_full_is_noticed_where_the_error_does_not_say_so(run, monkeypatch, capsys):
    usage = namedtuple("usage", "free")
    error = RuntimeError("PytorchStreamWriter failed writing file")
    with pytest.raises(RuntimeError), interruptions_explained(run):
        raise error
    monkeypatch.setattr(training_program.shutil, "disk_usage", lambda path: usage(4096))
    with pytest.raises(SystemExit), interruptions_explained(run):
        raise error
    assert "is full" in capsys.readouterr().err


def test_other_errors_and_other_processes_are_left_alone(run, capsys):
    with pytest.raises(ZeroDivisionError), interruptions_explained(run):
        1 / 0  # noqa: B018
    run.job.is_main = False
    with pytest.raises(SystemExit), interruptions_explained(run):
        interrupt()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--train_file nowhere.txt", "nowhere.txt: no such file or folder"),
        ("--rte 4", "There is no option --rte. Did you mean --rate?"),
        ("--rate 0", "rate must be a positive number"),
        ("--learning_rate abc", "invalid float value: 'abc'"),
        ("--hidden_size 0 --train_file nowhere.txt", "hidden_size must be at least 1, got 0."),
        ("--num_layers 0 --train_file nowhere.txt", "num_layers must be at least 1, got 0."),
        ("--vocab_size 3 --train_file nowhere.txt", "vocab_size must be at least 260, got 3."),
        ("--learning_rate -1 --train_file nowhere.txt", "learning_rate must not be negative, got -1.0."),
        ("--validation_split_percentage 100 --train_file nowhere.txt", "must lie between 0 and 100, got 100.0."),
        ("--validation_split_percentage 0 --train_file nowhere.txt", "must lie between 0 and 100, got 0.0."),
        ("--latent_size 0 --train_file nowhere.txt", "latent_size must be at least 1"),
        ("--encoding utf-99 --train_file nowhere.txt", "encoding='utf-99'"),
        ("--max_seq_length 2 --train_file nowhere.txt", "max_seq_length must be at least 4"),
        ("--output_dir a.txt/run --train_file nowhere.txt", "a.txt is a file. Choose another one."),
        ("--output_dir dangling --train_file a.txt", "dangling is a link to nowhere, which does not exist."),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").touch()
    Path("dangling").symlink_to("nowhere")
    with pytest.raises(SystemExit) as end:
        begin_training([*words.split(), "--use_cpu", "true"], "Trainer")
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.startswith("error: ") and message in told and told.count("\n") == 1
    assert sorted(os.listdir()) == ["a.txt", "dangling"]


@pytest.mark.parametrize(
    ("loop", "name", "message"),
    [
        ("Trainer", "trackio", "--report_to trackio needs a package that is not installed: pip install trackio."),
        ("Trainer", "azure_ml", "pip install azureml-core."),
        ("Trainer", "wandbb", "--report_to wandbb: Trainer has no such tracker. Did you mean wandb?"),
        ("Trainer", "aim", "--report_to aim: Trainer has no such tracker. Choose from azure_ml, clearml,"),
        ("Accelerate", "trackio", "--report_to trackio needs a package that is not installed: pip install trackio."),
        (
            "Accelerate",
            "tensorbord",
            "--report_to tensorbord: Accelerate has no such tracker. Did you mean tensor",
        ),
        ("Accelerate", "neptune", "--report_to neptune: Accelerate has no such tracker. Choose from aim, clearml,"),
    ],
)
def test_a_tracker_is_looked_for_before_texts_are_read(loop, name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--report_to", name, "--train_file", "nowhere.txt", "--use_cpu", "true"]
    with pytest.raises(SystemExit) as end:
        begin_training(options, loop)
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.startswith("error: ") and message in told and told.count("\n") == 1
    # The control: what is not tracked is read.
    with pytest.raises(SystemExit):
        begin_training(["--report_to", "none", *options[2:]], loop)
    assert "nowhere.txt: no such file" in capsys.readouterr().err


def test_every_loop_has_its_trackers():
    own_loop = runpy.run_path(str(SCRIPTS / "run_bnvae_no_trainer.py"))["LOOP"]
    assert TRACKERS.keys() == {"Trainer", own_loop}
    for known, find_installed in TRACKERS.values():
        assert {*map(str, find_installed())} <= {*known}


def test_the_traceback_is_there_for_who_asks(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # without the run that another command may have left
    monkeypatch.setattr("sys.argv", ["hf-bnvae", "--rate", "0", "--traceback"])
    with pytest.raises(ValueError, match="rate must be"):
        begin_training(None, "Trainer")
    with pytest.raises(KeyError), user_errors():
        {}["no mistake of a user"]
