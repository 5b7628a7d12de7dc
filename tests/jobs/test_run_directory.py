"""A run's folder: begun, resumed, finished, foreign, damaged. Nothing in it is ever overwritten silently."""

import json
import os
import subprocess
import sys

import pytest
import torch
from paths import ROOT
from safetensors.torch import save_file

from hf_bnvae.jobs import run_directory
from hf_bnvae.jobs.run_directory import RunDirectory
from hf_bnvae.jobs.training_options import parse_arguments
from hf_bnvae.model.saved_files_bnvae import sha256_of
from hf_bnvae.utils import checkpoints
from hf_bnvae.utils.checkpoints import (
    finish_deletions,
    last_complete_checkpoint,
    record_contents,
    require_as_written,
    unmark_checkpoint,
)

SETTINGS = {"posterior": "bn", "seed": 42}


def write_checkpoint(path, step):
    folder = path / f"checkpoint-{step}"
    folder.mkdir()
    for name in ("model.safetensors", "rng_state_0.pth", "rng_state_1.pth"):
        (folder / name).write_text(name)
    record_contents(folder)
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_a_new_folder_is_begun_and_an_unfinished_run_resumed(tmp_path):
    path = tmp_path / "run"
    directory = RunDirectory(path, SETTINGS)
    assert directory.find_checkpoint() is None and not path.exists()
    directory.start()
    assert RunDirectory(path, SETTINGS).find_checkpoint() is None and not RunDirectory(path, SETTINGS).is_finished
    for step in (5, 20):
        write_checkpoint(path, step)
    assert RunDirectory(path, SETTINGS).find_checkpoint() == str(path / "checkpoint-20")


def test_what_a_kill_left_of_a_deleted_checkpoint_is_deleted_and_nothing_else(tmp_path):
    for step in (2, 4, 6, 8):
        write_checkpoint(tmp_path, step)
    for step in (4, 8):  # half deleted, and half written
        (tmp_path / f"checkpoint-{step}" / "contents.json").unlink()
    for limit in (None, 0, 3):  # as many complete ones are not newer
        finish_deletions(tmp_path, limit)
        assert len(list(tmp_path.iterdir())) == 4
    finish_deletions(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-6", "checkpoint-8"]


def test_a_finished_run_is_known_as_one(tmp_path):
    directory = RunDirectory(tmp_path / "run", SETTINGS)
    directory.start()
    directory.finish()
    again = RunDirectory(tmp_path / "run", {**SETTINGS, "posterior": "ln"})
    assert again.is_finished
    assert again.differences() == ["posterior: 'bn', not 'ln'"]


def test_a_run_of_an_older_version_takes_any_prior_since_it_is_fitted_at_the_end(tmp_path):
    RunDirectory(tmp_path / "run", SETTINGS).start()
    for prior in ("standard", "gaussian"):
        assert RunDirectory(tmp_path / "run", {**SETTINGS, "prior": prior}).differences() == []
    # Control: a run that has recorded its prior keeps it.
    RunDirectory(tmp_path / "other", {**SETTINGS, "prior": "standard"}).start()
    (difference,) = RunDirectory(tmp_path / "other", {**SETTINGS, "prior": "gaussian"}).differences()
    assert difference == "prior: 'standard', not 'gaussian'"


def test_a_run_of_an_older_version_had_no_auxiliary(tmp_path):
    RunDirectory(tmp_path / "run", SETTINGS).start()
    assert RunDirectory(tmp_path / "run", {**SETTINGS, "auxiliary": "none"}).differences() == []
    (difference,) = RunDirectory(tmp_path / "run", {**SETTINGS, "auxiliary": "bag_of_words"}).differences()
    assert difference == "auxiliary: 'none', not 'bag_of_words'"


def test_a_run_of_an_older_version_left_its_rate_to_the_configuration(tmp_path):
    for posterior, bn_tau, found in (
        (None, None, []),
        ("bn", None, []),
        ("bn_rms", 0.1, ["rate: None, not 4.0"]),
        ("gaussian", None, ["rate: None, not 4.0"]),
    ):
        settings = {"posterior": posterior, "bn_tau": bn_tau, "rate": None}
        RunDirectory(tmp_path / f"{posterior}", settings).start()
        again = RunDirectory(tmp_path / f"{posterior}", {**settings, "rate": 4.0})
        assert again.differences() == found
    other = RunDirectory(tmp_path / "bn", {"posterior": "bn", "bn_tau": None, "rate": 32.0})
    assert other.differences() == ["rate: 4.0, not 32.0"]


def test_the_same_command_goes_on_from_an_unfinished_run_that_had_other_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "bnvae"
    earlier = {"posterior": None, "rate": None, "num_train_epochs": 2.0, "seed": 1}

    def found(*words: str) -> tuple[object, ...]:
        model, _, _, training = parse_arguments([*words, "--use_cpu", "true"])
        return model.rate, training.auxiliary, training.num_train_epochs

    assert found() == (32.0, "bag_of_words", 4.0)
    RunDirectory(run, earlier).start()
    assert found() == (None, "none", 2.0)
    assert found("--rate", "8", "--num_train_epochs", "3") == (8.0, "none", 3.0)
    assert found("--output_dir", "another") == (32.0, "bag_of_words", 4.0)
    assert found("--encoder_name_or_path", "a", "--decoder_name_or_path", "b")[:2] == (None, "none")
    # What the run had itself is kept apart from what it left to defaults.
    RunDirectory(run, {**earlier, "rate": 32.0, "auxiliary": "bag_of_words", "num_train_epochs": 4.0}).start()
    assert found() == (32.0, "bag_of_words", 4.0)
    RunDirectory(run, earlier).finish()
    assert found() == (32.0, "bag_of_words", 4.0), "a finished run is not gone on with"


def test_checkpoints_of_other_settings_are_refused_and_the_settings_named(tmp_path):
    RunDirectory(tmp_path / "run", SETTINGS).start()
    other = RunDirectory(tmp_path / "run", {**SETTINGS, "posterior": "ln", "latent_size": 8})
    # Before the first checkpoint there is nothing to lose: a corrected command just begins.
    assert other.find_checkpoint() is None
    write_checkpoint(tmp_path / "run", 5)
    with pytest.raises(ValueError, match=r"latent_size: None, not 8; posterior: 'bn', not 'ln'"):
        other.find_checkpoint()


def test_other_peoples_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"not made by this script \(it holds thesis\.tex\)"):
        RunDirectory(tmp_path, SETTINGS).find_checkpoint()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_welcome(tmp_path):
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() is None


def test_a_damaged_record_is_refused(tmp_path):
    directory = RunDirectory(tmp_path / "run", SETTINGS)
    directory.start()
    file = tmp_path / "run" / "run.json"
    assert json.loads(file.read_text())["settings"] == SETTINGS
    file.write_text(file.read_text()[:20])
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        directory.find_checkpoint()


def test_a_run_that_was_killed_before_its_record_was_whole_is_begun_anew(tmp_path):
    (tmp_path / "run.json.partial").write_text('{"finis')
    directory = RunDirectory(tmp_path, SETTINGS)
    assert directory.find_checkpoint() is None
    directory.start()
    directory.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("name", ["model.safetensors", "rng_state_1.pth", "contents.json", "trainer_state.json"])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_checkpoints_that_were_cut_off_are_passed_over_and_named(name, damage, tmp_path, caplog):
    RunDirectory(tmp_path, SETTINGS).start()
    write_checkpoint(tmp_path, 5)
    write_checkpoint(tmp_path, "best")
    file = write_checkpoint(tmp_path, 10) / name
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-10") and not caplog.text
    if damage == "missing":
        file.unlink()
    else:
        file.write_text(file.read_text()[:1])
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-5")
    unknown = damage == "missing" and name == "contents.json"
    assert f"checkpoint-10 {'does not say what belongs to it' if unknown else 'was cut off'}" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "rng_state_1.pth"])
def test_a_checkpoint_with_other_bits_is_passed_over_and_the_file_named(name, tmp_path, caplog):
    RunDirectory(tmp_path, SETTINGS).start()
    write_checkpoint(tmp_path, 5)
    file = write_checkpoint(tmp_path, 10) / name
    file.write_text(file.read_text().upper())
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10"), "sizes alone do not tell"
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-5")
    assert f"checkpoint-10 is damaged: {name} is not as written. It is skipped." in caplog.text


def test_a_file_is_read_once_to_be_hashed_until_it_changes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(checkpoints, "sha256_of", lambda file: read.append(file.name) or sha256_of(file))
    directory = RunDirectory(tmp_path, SETTINGS)
    directory.start()
    folder = write_checkpoint(tmp_path, 5)
    read.clear()  # what was read to record the hashes
    require_as_written(directory.find_checkpoint())
    assert len(read) == len(set(read)) > 1
    changed = folder / "rng_state_1.pth"
    changed.write_text(changed.read_text().upper())
    os.utime(changed, ns=(0, changed.stat().st_mtime_ns + 10**9))  # a clock may be coarser than this test is fast
    with pytest.raises(ValueError, match=r"rng_state_1.pth is not as written"):
        require_as_written(folder)
    assert sorted(read) == sorted([*set(read), changed.name])


def test_a_checkpoint_of_an_older_version_is_passed_over_where_it_cannot_be_read(tmp_path, caplog):
    RunDirectory(tmp_path, SETTINGS).start()
    for step in (5, 10):
        folder = write_checkpoint(tmp_path, step)
        save_file({"weight": torch.ones(3)}, folder / "model.safetensors")
        torch.save({"state": torch.ones(3)}, folder / "optimizer.pt")
        (folder / "config.json").write_text('{"rate": 4}')
        files = [file for file in folder.iterdir() if file.name not in ("contents.json", "trainer_state.json")]
        (folder / "contents.json").write_text(json.dumps({file.name: file.stat().st_size for file in files}))
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-10") and not caplog.text
    for name, place in (("optimizer.pt", b"\x00\x00\x80?"), ("config.json", b"{"), ("model.safetensors", b"{")):
        file = tmp_path / "checkpoint-10" / name
        whole = file.read_bytes()
        file.write_bytes(whole.replace(place, b"?" * len(place), 1))
        assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-5")
        assert f"checkpoint-10 is damaged: {name} is not as written" in caplog.text
        file.write_bytes(whole)
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-10")


def test_a_run_that_another_one_overtook_while_it_read_its_texts_touches_nothing(tmp_path):
    """Both looked at the folder before either began. The first one trains, and finishes, before the second begins."""
    first, second, third = (RunDirectory(tmp_path / "run", SETTINGS) for _ in range(3))
    for run in (first, second):
        assert not run.is_finished and run.find_checkpoint() is None
    first.start()
    write_checkpoint(tmp_path / "run", 5)
    first.finish()
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"Another process has trained in .* meanwhile\. Nothing was touched"):
        second.start()
    after = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert {file: after[file] for file in before} == before and third.is_finished
    # Control: a run that looks again may go on from what is there.
    third.find_checkpoint()
    third.start()


def test_a_checkpoint_that_is_written_again_does_not_count_until_it_is_whole(tmp_path):
    RunDirectory(tmp_path, SETTINGS).start()
    folder = write_checkpoint(tmp_path, 5)
    (folder / "notes.txt").write_text("mine")
    unmark_checkpoint(folder)
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() is None
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "model.safetensors").exists()


@pytest.mark.slow
def test_two_processes_cannot_train_in_one_folder(tmp_path, monkeypatch):
    """An orphan that still trains keeps a second run out; the same process may begin anew."""
    monkeypatch.setattr(run_directory, "LOCK_SECONDS", 0.1)
    RunDirectory(tmp_path, SETTINGS).start()
    directory = RunDirectory(tmp_path, SETTINGS)
    directory.start()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = (
        "import hf_bnvae.jobs.run_directory as r; r.LOCK_SECONDS = 0.1; "
        f"r.RunDirectory({str(tmp_path)!r}, {{}}).start()"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert other.returncode != 0 and "Another process is training in" in other.stderr
    directory.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
