"""What a training and an evaluation print and write of hostile texts and names, where a terminal knows only ASCII."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import tiny
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from paths import ROOT, SCRIPTS

pytestmark = pytest.mark.slow

NAME = "mi\x1b]0;t\x07ne<b>.txt"
PIECES = ["\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\u202eevil", "<script>alert(1)</script>", "![p](http://x/y.png)"]
ASCII = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
]


def run(script: str, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status of a script, and what it has printed to both streams."""
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HF_HOME": str(folder / "cache"), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=400,
    )
    return ended.returncode, ended.stdout.decode("utf-8")


@pytest.fixture(scope="module", params=[("run_bnvae", ASCII[0]), ("run_bnvae_no_trainer", ASCII[1])], ids=str)
def trained(request, tmp_path_factory) -> tuple[Path, dict[str, str], int, str]:
    """The folder of a training on hostile texts, its environment, its exit status, and what it printed."""
    script, environment = request.param
    folder = tmp_path_factory.mktemp(script)
    lines = [f"{text} {' '.join(PIECES)} é" for text in tiny.make_texts(40)]
    (folder / NAME).write_text("\n".join(lines), encoding="utf-8")
    options = {**tiny.SCRIPT_OPTIONS, "train_file": NAME, "output_dir": "out\x1b[2J", "num_examples": 5}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return folder, environment, *run(script, folder, *flags, environment=environment)


def require_harmless(printed: str) -> None:
    """No control characters, except those of progress bars: back to the start of a line, and up to another bar."""
    found = {c for c in printed.replace("\x1b[A", "") if unicodedata.category(c) == "Cc" or c in "\u202e"}
    assert found <= {"\n", "\t", "\r"}


def test_a_training_ends_and_writes_its_report_whatever_the_terminal_encodes(trained):
    folder, _, status, printed = trained
    assert status == 0, printed[-3000:]
    out = folder / "out\x1b[2J"
    for name in ("report.md", "report.json", "all_results.json", "README.md"):
        assert (out / name).stat().st_size > 100, name
    assert json.loads((out / "run.json").read_text())["finished"]
    assert "E[mu\\xb2 + sigma\\xb2]" in printed  # the encoding lacks it
    assert "E[mu² + sigma²]" in (out / "report.md").read_text(encoding="utf-8")


def test_nothing_that_a_training_prints_steers_the_terminal(trained):
    *_, printed = trained
    require_harmless(printed)
    assert "\\x1b[2J" in printed and "<script>" in printed  # both are shown


def test_pages_of_a_run_hold_its_texts_as_texts(trained):
    folder, *_ = trained
    for name in ("report.md", "README.md"):
        page = (folder / "out\x1b[2J" / name).read_text(encoding="utf-8")
        require_harmless(page)
        rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(ModelCard(page).text)
        assert "<script" not in rendered and "<b>" not in rendered and '<img src="http' not in rendered
    assert "script" in (folder / "out\x1b[2J" / "report.md").read_text(encoding="utf-8")


def test_an_evaluation_prints_and_writes_them_as_texts_too(trained):
    folder, environment, *_ = trained
    options = ["--model", "out\x1b[2J", "--file", NAME, "--num_importance_samples", "2", "--device", "cpu"]
    options += ["--compare_with", "out\x1b[2J", "--output_dir", "evaluated\x1b[2J"]
    status, printed = run("run_evaluation", folder, *options, environment=environment)
    assert status == 0, printed[-3000:]
    require_harmless(printed)
    page = (folder / "evaluated\x1b[2J" / "report.md").read_text(encoding="utf-8")
    require_harmless(page)
    assert "<script" not in MarkdownIt("commonmark", {"html": True}).enable("table").render(page)


def test_an_error_names_a_file_as_text(trained):
    folder, environment, *_ = trained
    for options in (["--model", "no\x1b[2Jne"], ["--model", "out\x1b[2J", "--file", "no\x1b[2Jne.txt"]):
        status, printed = run("run_evaluation", folder, *options, environment=environment)
        assert status == 2 and "error: " in printed and "x1b[2J" in printed
        require_harmless(printed)
