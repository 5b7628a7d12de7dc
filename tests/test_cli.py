"""The command `hf-bnvae`: quick help, short errors, the same functions as the scripts, and an installation from a
wheel."""

import json
import os
import shlex
import signal
import subprocess
import sys
from typing import get_args

import pytest

import hf_bnvae
from hf_bnvae import cli
from hf_bnvae.interop.optimus.checkpoint import Weights
from hf_bnvae.interop.optimus.convert import Injection
from hf_bnvae.jobs.text_generation import TASKS
from hf_bnvae.reporting.commands import command_line, option_words, recorded_options, training_program

# Beside the package itself and the standard library.
ALLOWED_FOR_HELP = {"transformers.hf_argparser"}


def modules_imported_for(calls: list[list[str]]) -> list[set[str]]:
    """
    The modules of other packages that calls of the command import beyond `import hf_bnvae`, one set for each call; the
    calls share a fresh process.
    """
    code = f"""
import contextlib, io, json, sys
import hf_bnvae
found = []
for arguments in {calls!r}:
    before = set(sys.modules)
    from hf_bnvae.cli import main
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as end:
            assert not end.code, end
    own = {{"hf_bnvae", *sys.stdlib_module_names}}
    found.append(sorted(n for n in set(sys.modules) - before if n.split(".")[0] not in own))
print(json.dumps(found))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(names) for names in json.loads(run.stdout)]


@pytest.mark.slow
def test_help_imports_no_more_than_the_package():
    calls = [["--help"], *([name, "--help"] for name in cli.COMMANDS), ["generate", "sample", "--help"]]
    *quick, slow = modules_imported_for([*calls, ["train", "--help_all"]])
    assert set().union(*quick) <= ALLOWED_FOR_HELP
    # The control: the options of `Trainer` need `Trainer`'s own modules.
    assert "transformers.training_args" in slow


def test_help_lists_the_commands_with_a_sentence_each(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in cli.COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, command.__doc__] for line in lines)
        assert command.__doc__.endswith(".")
    assert list(cli.COMMANDS) == [
        "train",
        "evaluate",
        "generate",
        "encode",
        "decode",
        "explore",
        "check",
        "push",
        "convert",
        "export",
    ]


@pytest.mark.parametrize("arguments", [[name] for name in cli.COMMANDS] + [["generate", task] for task in TASKS])
def test_every_help_has_an_example_that_parses_so_far(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and text.startswith(f"usage: hf-bnvae {' '.join(arguments)}")
    assert f"hf-bnvae {arguments[0]} " in text
    if arguments != ["generate"]:
        assert "example:" in text and text.count("\n  --traceback ") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate"], "Missing: --model_name_or_path. `hf-bnvae evaluate --help` shows an example."),
        (["train", "--rat", "2"], "There is no option --rat. Did you mean --rate?"),
        (["trian"], "There is no command 'trian'. Did you mean train?"),
        (["qqq"], "Choose one of train, evaluate, generate, encode, decode, explore, check, push, convert, export."),
        (["train", "--postterior", "bn"], "There is no option --postterior. Did you mean --posterior?"),
        (["train", "--rate", "high"], "argument --rate: invalid float value: 'high'"),
        (["train", "--do_predict"], "do_predict does nothing here. Use do_eval"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml could not be read"),
        (["train", "--train_file", "nowhere.txt", "--use_cpu", "true"], "nowhere.txt"),
        (["evaluate", "--modle", "x"], "There is no option --modle. Did you mean --model?"),
        (["evaluate", "--model", "x", "--fiel", "y"], "There is no option --fiel. Did you mean --file?"),
        (["evaluate", "--model", "nowhere", "--file", "nowhere.csv"], "nowhere.csv"),
        (["generate", "smaple"], "There is no task 'smaple'. Did you mean sample?"),
        (["generate", "sample", "--model", "x", "--top_k", "3"], "--top_k needs --do_sample"),
        (["generate", "sample", "--model", "x", "--sede", "3"], "There is no option --sede. Did you mean --seed?"),
        (["encode", "mine.txt", "out", "--modle", "x"], "There is no option --modle. Did you mean --model?"),
        (["decode", "nowhere", "out", "--model", "x"], "there is no .parquet file of latents"),
        (["encode", "out", "--model", "x"], "Give either files to encode, ahead of the folder to write"),
        (["encode", "nowhere.txt", "out", "--model", "nowhere"], "nowhere could not be loaded"),
        (["push", "--repo_id", "user/name"], "Name one folder of a saved model: hf-bnvae push FOLDER"),
        (["push", "nowhere", "--repo_id", "user/name", "--dry_run"], "nowhere"),
        (["convert", "--checkpoint_path", "nowhere", "--output_dir", "out"], "nowhere"),
        (["export", "--model", "nowhere", "--output_dir", "out"], "nowhere could not be loaded"),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    captured = capsys.readouterr()
    *_, line = captured.err.splitlines()
    assert line.startswith("error: ") and words in line
    assert captured.err.count("error: ") == 1 and "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_process_ends_with_status_2_too(tmp_path):
    command = [sys.executable, "-m", "hf_bnvae.cli", "train", "--postterior", "bn"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == "error: There is no option --postterior. Did you mean --posterior?\n"


@pytest.mark.slow
def test_texts_that_nobody_reads_any_more_end_the_process_quietly(trained_folder):
    options = ["--model", trained_folder, "--device", "cpu", "--num_samples", "100000", "--batch_size", "8"]
    command = [sys.executable, "-m", "hf_bnvae.cli", "generate", "sample", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    process.stdout.close()
    assert first.strip() and process.wait(timeout=120) == 141
    assert "Broken pipe" not in (told := process.stderr.read()) and "Traceback" not in told


def test_a_model_is_named_in_the_same_way_by_all(trained_folder, tmp_path, capsys):
    spellings = [["--model_name_or_path", trained_folder], ["--model", trained_folder]]
    printed = []
    for spelling in [[trained_folder], *spellings]:
        cli.main(["push", *spelling, "--repo_id", "ada/model", "--dry_run"])
        printed.append(capsys.readouterr().out)
    for spelling in spellings:
        cli.main(["generate", "sample", *spelling, "--num_samples", "2", "--seed", "1", "--device", "cpu"])
        printed.append(capsys.readouterr().out)
    # A broken connection stays an error of Python: its signal would end the process without a word.
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
    assert len({*printed[:3]}) == 1 and "Nothing was uploaded" in printed[0]
    assert len({*printed[3:]}) == 1 and len(printed[3].splitlines()) == 2


def test_choices_of_the_conversion_are_the_library_s(capsys):
    with pytest.raises(SystemExit):
        cli.main(["convert", "--help"])
    text = capsys.readouterr().out
    for choices in (get_args(Weights), get_args(Injection)):
        assert f"{{{','.join(choices)}}}" in text


@pytest.mark.slow
def test_the_command_of_a_wheel_does_what_messages_tell(wheel_site, trained_folder, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(wheel_site), "PATH": f"{wheel_site / 'bin'}:{os.environ['PATH']}"}

    def run(line: str) -> str:
        ended = subprocess.run(shlex.split(line), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    push = command_line(("hf-bnvae", "push", trained_folder), {"repo_id": "ada/model", "dry_run": True})
    assert "Nothing was uploaded to ada/model" in run(push)
    assert "hf-bnvae train --help_all" in run("hf-bnvae train --help")
    assert run("hf-bnvae --help") == run(f"{sys.executable} -m hf_bnvae.cli --help")


# -- commands as text ------------------------------------------------------------------------------------------------


def test_options_become_words_that_a_shell_reads():
    options = {"a": 1, "b": None, "c": True, "d": False, "e": [1, 2], "f": "two words", "g": [], "h": 0}
    assert option_words(options) == ["--a", "1", "--c", "--e", "1", "2", "--f", "two words", "--h", "0"]
    assert shlex.split(command_line(["x"], options)) == ["x", *option_words(options)]


def test_a_training_is_started_by_its_own_program():
    assert training_program("Trainer") == ["hf-bnvae", "train"]
    launched = ["accelerate", "launch", "--num_processes", "2"]
    assert training_program("Trainer", 2) == [*launched, "-m", "hf_bnvae.cli", "train"]
    assert training_program("Accelerate", 2) == [*launched, "scripts/run_bnvae_no_trainer.py"]


@pytest.mark.parametrize("start", ["hf-bnvae train", "python scripts/run_bnvae.py"])
def test_options_of_recorded_commands_are_found(start):
    assert recorded_options(f"{start} --rate 4.0") == "--rate 4.0" and recorded_options(start) == ""
    assert recorded_options(f"accelerate launch {start}") == f"accelerate launch {start}"


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"hf-bnvae {hf_bnvae.__version__}\n"


def test_the_model_of_an_unfinished_training_is_not_there_yet(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        cli.main(["generate", "sample", "--model", str(tmp_path)])
    assert ended.value.code == 2 and "has not ended" in capsys.readouterr().err
