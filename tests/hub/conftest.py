"""A saved model, a place on the Hub to push the model to, and processes without the package that load it."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from paths import HELPERS, ROOT
from remote_client import without_package
from safetensors.torch import load_file

from hf_bnvae import BNVAEModel
from hf_bnvae.hub.target import HubTarget


@pytest.fixture(scope="module")
def saved_model(processor, texts) -> BNVAEModel:
    """A model that has estimated its running statistics. Tests do not change it."""
    model = tiny.build_model(*tiny.make_configs(processor), posterior="bn_rms")
    with torch.no_grad():
        model.train()(**processor(texts[:64], return_tensors="pt"))
    return model.eval()


@pytest.fixture(scope="module")
def saved_folder(saved_model, processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    saved_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved_folder, tmp_path) -> Path:
    """A copy of the saved model, which a test may change."""
    return Path(shutil.copytree(saved_folder, tmp_path / "model"))


@pytest.fixture
def target(hub) -> HubTarget:
    return HubTarget("ada/model", token=hub.add_user("ada"))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a script in `tmp_path` with options as keywords."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("\n".join(f"This is sentence number {i} of my own file ." for i in range(20)))

    def run_script(script: str, *arguments: str, **options):
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", [script, *arguments, *flags])
        runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")

    return run_script


@pytest.fixture
def client(hub, tmp_path):
    """A function that loads and uses a model in a fresh process that cannot import the package."""
    environment = without_package(tmp_path / "packages") | {
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "elsewhere"),
        "HF_HUB_CACHE": str(tmp_path / "elsewhere" / "hub"),
    }

    def load(source: str, *saved: str):
        script = tmp_path / "client.py"
        shutil.copy(Path(HELPERS, "remote_client.py"), script)
        command = [sys.executable, "-S", "-P", str(script), source, str(tmp_path / "found"), *saved]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return load_file(tmp_path / "found.safetensors"), json.loads((tmp_path / "found.json").read_text())

    return load
