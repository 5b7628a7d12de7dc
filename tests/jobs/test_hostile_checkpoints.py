"""Neither loop runs code of a checkpoint that it resumes: a payload stands in place of each of its files in turn."""

import json
import runpy
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
import torch
from paths import SCRIPTS
from payloads import WRITERS, write_pickle

from hf_bnvae.utils.checkpoints import record_contents, unmark_checkpoint

pytestmark = pytest.mark.slow

OPTIONS = {**tiny.SCRIPT_OPTIONS, "train_file": "mine.txt", "output_dir": "out", "max_steps": 2, "save_steps": 1}
OPTIONS |= {"do_train": "true", "eval_strategy": "no", "save_total_limit": 5}
UNSAFE = (".bin", ".pt", ".pth", ".pkl")


def start(script: str) -> None:
    path = str(SCRIPTS / f"{script}.py")
    with pytest.MonkeyPatch.context() as patch:
        flags = [part for name, value in OPTIONS.items() for part in (f"--{name}", str(value))]
        patch.setattr(sys, "argv", [path, *flags])
        runpy.run_path(path, run_name="__main__")


@pytest.fixture(scope="module", params=["run_bnvae", "run_bnvae_no_trainer"])
def unfinished(request, tmp_path_factory) -> tuple[str, Path]:
    """A script, and a folder with its run as a kill after the first of two steps leaves it, in `whole`."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "mine.txt").write_text("\n".join(tiny.make_texts(40)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        start(request.param)
    whole = (folder / "out").rename(folder / "whole")
    shutil.rmtree(whole / "checkpoint-2")
    record = json.loads((whole / "run.json").read_text())
    (whole / "run.json").write_text(json.dumps({**record, "finished": False}))
    return request.param, folder


def restore(folder: Path) -> Path:
    """Put the run back as it was. Returns its checkpoint."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    return Path(shutil.copytree(folder / "whole", folder / "out"), "checkpoint-1")


def put(payload: str, name: str, checkpoint: Path, mark: Path) -> None:
    """A payload in place of a file, as if it had always belonged to the checkpoint."""
    state = (checkpoint / "trainer_state.json").read_bytes()
    unmark_checkpoint(checkpoint)
    WRITERS[payload](checkpoint / name, mark)
    if name != "contents.json":
        record_contents(checkpoint)
    if name != "trainer_state.json":
        (checkpoint / "trainer_state.json").write_bytes(state)


def test_no_file_of_a_checkpoint_runs_code(unfinished, monkeypatch, tmp_path, capsys):
    script, folder = unfinished
    monkeypatch.chdir(folder)
    whole = folder / "whole" / "checkpoint-1"
    names = [path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()]
    mark, refused = tmp_path / "mark", set()
    for name in names:
        kinds = ["python"] if name.endswith(".py") else ["pickle", "torch"] if name.endswith(UNSAFE) else ["pickle"]
        for kind in kinds:
            put(kind, name, restore(folder), mark)
            capsys.readouterr()
            with suppress(Exception, SystemExit):  # whatever it says, it must not run the payload
                start(script)
            if f"{name} could run code when it is loaded" in capsys.readouterr().err:
                refused.add(name)
            assert not mark.exists(), (name, kind)
    assert refused == {name for name in names if name.endswith(UNSAFE)} and len(refused) >= 3


def test_an_undamaged_checkpoint_is_resumed(unfinished, monkeypatch, capsys):
    script, folder = unfinished
    monkeypatch.chdir(folder)
    restore(folder)
    capsys.readouterr()
    start(script)
    assert "Resuming the unfinished run in out from checkpoint-1." in capsys.readouterr().out


def test_the_payload_runs_where_a_pickle_is_loaded_without_care(tmp_path):
    write_pickle(tmp_path / "custom_checkpoint_0.pkl", tmp_path / "mark")
    with pytest.raises(RuntimeError, match="corrupt file"):  # after the payload
        torch.load(tmp_path / "custom_checkpoint_0.pkl", weights_only=False)
    assert (tmp_path / "mark").exists()
