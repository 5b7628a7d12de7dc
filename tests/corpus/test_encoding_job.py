"""`hf-bnvae encode`: from files to files, relaunched, refused, and what it says."""

import json
import os
import subprocess
import sys

import pytest
import tiny
import torch
from datasets import load_dataset
from paths import ROOT
from pyarrow import parquet

from hf_bnvae import BNVAEModel, cli

TEXTS = tiny.make_texts(50)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A working folder with a table of texts."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{text.replace(',', ' ')},key-{n},{n % 3}" for n, text in enumerate(TEXTS)]
    rows[4] = ",key-4,1"  # an empty text
    (tmp_path / "mine.csv").write_text("\n".join(["review,key,stars", *rows]))
    return tmp_path


@pytest.fixture
def encode(mine, trained_folder, capsys):
    """A function that runs the command: what it prints."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        base = ["mine.csv", "latents", "--model", trained_folder, "--text_column", "review", "--disable_tqdm"]
        cli.main(["encode", *base, *arguments])
        return capsys.readouterr().out

    return run


def refused(encode, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        encode(*arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_texts_become_files_of_latents_and_a_summary_says_how_many(encode, mine, trained_folder):
    printed = encode("--id_column", "key", "--columns", "stars", "--with_text", "--tasks", "3")
    assert "49 latents of 50 texts in 3 files" in printed and "49 encoded, of which 0 were cut; 1 empty" in printed
    assert printed.endswith("Written to latents.\n")
    found = load_dataset("parquet", data_files="latents/*.parquet", split="train", cache_dir=str(mine / "cache"))
    assert found.column_names == ["id", "mean", "text", "stars"]
    kept = [n for n in range(50) if n != 4]
    assert found["id"][:] == [f"key-{n}" for n in kept] and found["stars"][:] == [str(n % 3) for n in kept]
    model = BNVAEModel.from_pretrained(trained_folder).eval()
    expected = model.encode_texts(found["text"][:]).float()
    assert torch.allclose(found.with_format("torch")["mean"][:], expected, atol=1e-5)
    whole = "".join(path.read_text(errors="replace") for path in (mine / "latents").iterdir())
    assert str(mine) not in whole and trained_folder not in whole  # files for others name no folder of this machine


def test_the_same_command_makes_only_what_is_missing_and_another_one_is_refused(encode, mine, capsys):
    encode("--tasks", "2")
    before = {path.name: path.read_bytes() for path in (mine / "latents").iterdir()}
    assert sorted(before) == ["00000.parquet", "00001.parquet", "encoding.json"]
    assert "2 of the files were there already" in encode("--tasks", "2")
    (mine / "latents" / "00001.parquet").unlink()
    printed = encode("--tasks", "2")
    assert "1 of the files were there already" in printed and "25 encoded" in printed
    assert {path.name: path.read_bytes() for path in (mine / "latents").iterdir()} == before
    others = {
        "tasks: '2', not '3'": ["--tasks", "3"],
        "latent_dtype: 'float32', not 'float16'": ["--tasks", "2", "--latent_dtype", "float16"],
        "num_texts: 50, not 20": ["--tasks", "2", "--max_samples", "20"],
        "id_column: None, not 'key'": ["--tasks", "2", "--id_column", "key"],
    }
    for message, arguments in others.items():
        assert message in refused(encode, capsys, *arguments)
    (mine / "mine.csv").write_text((mine / "mine.csv").read_text().replace("sister", "brother"))
    assert "texts_sha256 differs" in refused(encode, capsys, "--tasks", "2")
    assert {path.name: path.read_bytes() for path in (mine / "latents").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id_column", "name"], "has no column 'name'. Its columns: review, key, stars"),
        (["--text_column", "text"], "has no column 'text'. Its columns: review, key, stars"),
        (["--tasks", "0"], "--tasks must be a whole number of at least 1, got 0"),
        (["--columns", "review", "key", "--with_text", "--batch_size", "0"], "batch_size must be a whole number"),
        (["--whiten", "--with_logvar"], "no logvar"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(encode, mine, capsys, arguments, message):
    assert message in refused(encode, capsys, *arguments)
    assert not (mine / "latents").exists()


def test_a_folder_of_something_else_is_left_alone(encode, mine, capsys):
    (mine / "latents").mkdir()
    (mine / "latents" / "thesis.txt").write_text("mine")
    assert "latents is not empty, and holds no latents. Choose another folder." in refused(encode, capsys)
    assert [path.name for path in (mine / "latents").iterdir()] == ["thesis.txt"]


def test_one_large_file_in_seven_tasks_keeps_ids_order_and_values(mine, trained_folder):
    texts = [*TEXTS[25:], TEXTS[3], *TEXTS[:25], TEXTS[3]]  # no order of length, and copies
    (mine / "large.txt").write_text("\n".join(texts))
    cli.main(["encode", "large.txt", "latents", "--model", trained_folder, "--tasks", "7", "--disable_tqdm"])
    files = sorted((mine / "latents").glob("*.parquet"))
    assert [parquet.read_metadata(file).num_rows for file in files] == [7, 7, 8, 7, 8, 7, 8]
    tables = [parquet.read_table(file) for file in files]
    assert [name for table in tables for name in table["id"].to_pylist()] == [str(n) for n in range(52)]
    found = torch.tensor([mean for table in tables for mean in table["mean"].to_pylist()])
    expected = BNVAEModel.from_pretrained(trained_folder).eval().encode_texts(texts).float()
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found.flip(0), expected, atol=1e-2)  # control


def test_a_folder_without_files_can_be_claimed_again(encode, mine, capsys):
    (mine / "latents").mkdir()
    (mine / "latents" / "encoding.json").write_text('{"tasks": "7"}')
    (mine / "latents" / "00000.parquet.1a2b.partial").write_text("of a killed task")
    assert "49 latents of 50 texts" in encode()
    assert sorted(path.name for path in (mine / "latents").iterdir()) == ["00000.parquet", "encoding.json"]
    (mine / "latents" / "encoding.json").write_text("[]")
    assert "encoding.json of latents is damaged" in refused(encode, capsys)


def test_a_folder_as_a_data_set_is_named_without_its_place(mine, trained_folder, capsys):
    (mine / "there").mkdir()
    (mine / "there" / "a.csv").write_text("text\nA text .\n")
    where = ["encode", "latents", "--dataset_name", str(mine / "there"), "--model", trained_folder, "--disable_tqdm"]
    cli.main(where)
    assert json.loads((mine / "latents" / "encoding.json").read_text())["texts"] == "there (train)"
    assert str(mine).encode() not in b"".join(path.read_bytes() for path in (mine / "latents").iterdir())


@pytest.mark.slow
def test_a_task_that_fails_leaves_no_token_in_its_log_and_no_traceback_on_the_terminal(mine, trained_folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("mine.csv", "mine.csv"):
        command = [sys.executable, "-m", "hf_bnvae.cli", "encode", name, "latents", "--model", trained_folder]
        more = ["--text_column", "review", "--token", "hf_SECRET", "--disable_tqdm"]
        run = subprocess.run([*command, *more], capture_output=True, text=True, env=environment)
        if (mine / "latents/00000.parquet").is_file():
            (mine / "latents/00000.parquet").unlink()
            (mine / "latents/00000.parquet").mkdir()  # the file cannot get its name
    log = (mine / "latents-logs/logs/task_00000.log").read_text()
    assert run.returncode == 2 and "Traceback" in log and "IsADirectoryError" in log
    assert "Traceback" not in run.stderr and len(run.stderr.strip().splitlines()[-1]) < 300
    assert not any("hf_SECRET" in text for text in (log, run.stdout, run.stderr))


@pytest.mark.slow
def test_several_workers_write_the_same_files_and_show_no_log(encode, mine, trained_folder):
    encode("--tasks", "4", "--num_draws", "2")
    alone = {path.name: path.read_bytes() for path in (mine / "latents").iterdir()}
    command = [sys.executable, "-m", "hf_bnvae.cli", "encode", "mine.csv", "together", "--model", trained_folder]
    more = ["--text_column", "review", "--tasks", "4", "--workers", "2", "--num_draws", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([*command, *more], capture_output=True, text=True, env=environment, check=True)
    assert {path.name: path.read_bytes() for path in (mine / "together").iterdir()} == alone
    assert "49 latents of 50 texts in 4 files" in run.stdout and "INFO" not in run.stderr
    subprocess.run([*command[:5], "other", *command[6:], *more, "--seed", "7"], env=environment, check=True)
    assert (mine / "other/00000.parquet").read_bytes() != alone["00000.parquet"]  # control: draws are in the files
    assert "SUCCESS" in (mine / "together-logs/logs/task_00002.log").read_text()
    assert json.loads((mine / "together/encoding.json").read_text())["tasks"] == "4"
    assert sum(parquet.read_metadata(path).num_rows for path in (mine / "together").glob("*.parquet")) == 49
