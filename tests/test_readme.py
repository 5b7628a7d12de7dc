"""Every code block of the README runs as it stands, with networks that the test saved under the names on the Hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from pages import BLOCK, code_blocks, run_blocks, save_pair
from paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# These install the package, and then train for minutes or run all tests. `.ci/run` installs as they do.
INSTALLATION = "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e "
COMMANDS = [block for block in code_blocks(README, "bash") if not block.startswith(INSTALLATION)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processor, encoder_config, decoder_config) -> Path:
    """A working folder with all that the README names: a finished run, a model of the Hub, a pair, texts."""
    path = tmp_path_factory.mktemp("readme")
    texts = tiny.make_texts(80)
    (path / "sentences.txt").write_text("\n".join(texts))
    (path / "reviews.csv").write_text("review\n" + "\n".join(texts))
    options = {**tiny.SCRIPT_OPTIONS, "latent_size": 32, "train_file": "sentences.txt"}
    type_command(path, "hf-bnvae train " + " ".join(f"--{name} {value}" for name, value in options.items()))
    shutil.copytree(path / "runs/bnvae", path / "user/name")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        save_pair(processor, encoder_config, decoder_config)
    return path


def type_command(folder: Path, command: str) -> str:
    """Run a command in a shell that finds `hf-bnvae`, and return what it prints."""
    program = f"hf-bnvae() {{ '{sys.executable}' -m hf_bnvae.cli \"$@\"; }}\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "cache")}
    run = subprocess.run(
        ["bash", "-euc", program + command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_readme_fits_its_length():
    assert len(README.splitlines()) <= 150


def test_every_block_is_run_or_installs():
    languages = {language for language, _ in BLOCK.findall(README)}
    assert languages == {"bash", "python", "text"}
    installing = [block for block in code_blocks(README, "bash") if block.startswith(INSTALLATION)]
    assert [block.removeprefix(INSTALLATION).strip() for block in installing] == [
        ". && hf-bnvae train",
        "'.[test]' && pytest",
    ]
    assert len(COMMANDS) == 4
    ci = (ROOT / ".ci" / "run").read_text()
    assert "pip install --quiet -c constraints.txt -e '.[test,dev]'" in ci


@pytest.mark.slow
def test_python_of_the_readme_runs_and_prints_what_it_shows(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert not run_blocks(code_blocks(README, "python"), ROOT / "README.md")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[:2]))
def test_commands_of_the_readme_run(folder, command):
    assert type_command(folder, command)


@pytest.mark.slow
def test_a_command_that_fails_is_noticed(folder):
    with pytest.raises(AssertionError, match="Which texts"):
        type_command(folder, "hf-bnvae evaluate --model nowhere")
