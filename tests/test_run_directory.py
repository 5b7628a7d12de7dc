"""A run's folder: begun, resumed, finished, foreign, damaged. Nothing in it is ever overwritten silently."""

import json

import pytest

from hf_bnvae.run_directory import RunDirectory

SETTINGS = {"posterior": "bn", "seed": 42}


def test_a_new_folder_is_begun_and_an_unfinished_run_resumed(tmp_path):
    path = tmp_path / "run"
    directory = RunDirectory(path, SETTINGS)
    assert directory.find_checkpoint() is None and not path.exists()
    directory.start()
    assert RunDirectory(path, SETTINGS).find_checkpoint() is None and not RunDirectory(path, SETTINGS).is_finished
    for step in (5, 20):
        (path / f"checkpoint-{step}").mkdir()
        (path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert RunDirectory(path, SETTINGS).find_checkpoint() == str(path / "checkpoint-20")


def test_a_finished_run_is_known_as_one(tmp_path):
    directory = RunDirectory(tmp_path / "run", SETTINGS)
    directory.start()
    directory.finish()
    again = RunDirectory(tmp_path / "run", {**SETTINGS, "posterior": "ln"})
    assert again.is_finished
    assert again.differences() == ["posterior: 'bn', not 'ln'"]


def test_checkpoints_of_other_settings_are_refused_and_the_settings_named(tmp_path):
    RunDirectory(tmp_path / "run", SETTINGS).start()
    other = RunDirectory(tmp_path / "run", {**SETTINGS, "posterior": "ln", "latent_size": 8})
    # Before the first checkpoint there is nothing to lose: a corrected command just begins.
    assert other.find_checkpoint() is None
    (tmp_path / "run" / "checkpoint-5").mkdir()
    (tmp_path / "run" / "checkpoint-5" / "trainer_state.json").write_text("{}")
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


def test_checkpoints_that_were_cut_off_are_passed_over_and_named(tmp_path, caplog):
    RunDirectory(tmp_path, SETTINGS).start()
    for step, state in ((5, "{}"), (10, '{"global_'), (15, None), ("best", "{}")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert RunDirectory(tmp_path, SETTINGS).find_checkpoint() == str(tmp_path / "checkpoint-5")
    assert "checkpoint-10 was cut off" in caplog.text and "checkpoint-15 was cut off" in caplog.text
