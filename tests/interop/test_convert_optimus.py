"""The command that converts a checkpoint of the original Optimus: what it prints, and what it leaves in the output
folder."""

import os
import re
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from optimus_original import STEP, convert
from paths import HELPERS, ROOT

from hf_bnvae import BNVAEConfig, BNVAEProcessor
from hf_bnvae.interop.optimus.convert import convert_optimus_checkpoint

SCRIPT = ROOT / "scripts" / "convert_optimus_checkpoint.py"


def test_what_is_in_the_output_folder_is_never_touched(checkpoint, out, tmp_path):
    out.mkdir()
    convert(checkpoint, out)  # an empty one is free
    before = {file: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(ValueError, match=r"is not empty \(it holds .*config.json, .*Nothing was touched"):
        convert_optimus_checkpoint(checkpoint, out)
    assert {file: file.read_bytes() for file in out.iterdir()} == before
    with pytest.raises(ValueError, match="is not empty"):
        convert_optimus_checkpoint(checkpoint, checkpoint)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file"):
        convert_optimus_checkpoint(checkpoint, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_a_conversion_that_is_killed_leaves_no_folder_that_looks_whole(checkpoint, tmp_path, out, tokenizers):
    options = ["--checkpoint_path", str(checkpoint), "--output_dir", str(out)]
    options += [word for name, path in tokenizers.items() for word in (f"--{name}", path)]
    killer = [sys.executable, str(Path(HELPERS, "killed_at.py"))]
    for moment in (["open", "processor_config.json", "1"], ["os.rename", ".partial", "1"]):
        command = [*killer, *moment, str(SCRIPT), *options]
        killed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert killed.returncode == -9, killed.stderr
        assert not out.exists()
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith("out")]
    assert len(left) == 2 and all(re.fullmatch(r"out\.\d+\.partial", name) for name in left)
    convert_optimus_checkpoint(checkpoint, out, **tokenizers)
    assert BNVAEProcessor.from_pretrained(out).tokenizer.pad_token == "<PAD>"


def test_a_conversion_that_fails_while_writing_leaves_nothing(checkpoint, tmp_path, out):
    before = set(tmp_path.iterdir())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"out could not be written .*Nothing was left"):
            convert_optimus_checkpoint(checkpoint, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert set(tmp_path.iterdir()) == before
    convert(checkpoint, out)


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the script: what it prints."""

    def run_script(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_the_script_says_what_it_took_and_what_is_not_there(run, checkpoint, out, tokenizers, tmp_path):
    printed = run("--checkpoint_path", checkpoint, "--output_dir", out)
    assert f"Converted step {STEP} with the weights of {checkpoint}/checkpoint-full-{STEP}/training.bin" in printed
    assert "latent_size=6, latent_injection='both'" in printed and f"Written to {out}." in printed
    assert "Only the model was written" in printed and "those of bert-base-cased and gpt2" in printed
    options = [word for name, path in tokenizers.items() for word in (f"--{name}", path)]
    other = tmp_path / "other"
    options += ["--weights", "halves", "--latent_injection", "memory", "--step", STEP]
    printed = run("--checkpoint_path", tmp_path, "--output_dir", other, *options)
    assert "encoder-7/pytorch_model.bin and " in printed and "Only the model" not in printed
    assert BNVAEConfig.from_pretrained(other).latent_injection == "memory"
    assert BNVAEProcessor.from_pretrained(other).tokenizer.eos_token == "<EOS>"


def test_mistakes_are_named(run, checkpoint, tmp_path, capsys):
    paths = ["--checkpoint_path", checkpoint, "--output_dir", tmp_path / "out"]
    with pytest.raises(SystemExit, match="error: There is no step 8"):
        run(*paths, "--step", "8")
    with pytest.raises(SystemExit, match="error: Give both"):
        run(*paths, "--encoder_tokenizer", "bert-base-cased")
    with pytest.raises(SystemExit, match=r"error: .*is not empty"):
        run(*paths[:2], "--output_dir", tmp_path)
    with pytest.raises(SystemExit, match="invalid choice: 'none'") as ended:
        run(*paths, "--latent_injection", "none")
    assert ended.value.code == 2
    with pytest.raises(ValueError, match="weights must be one of full, halves, got 'half'"):
        convert_optimus_checkpoint(checkpoint, tmp_path / "out", weights="half")
    assert not (tmp_path / "out").exists()
