"""A pushed model in a process that cannot import the package, and a package that comes from a wheel."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import PACKAGE, ROOT
from pushing import CARD, QUICK, RUNTIME, change, contents, equal, on_hub
from remote_client import TEXTS, use, without_package
from transformers import AutoTokenizer, pipeline

from hf_bnvae import BNVAEModel, BNVAEProcessor
from hf_bnvae.hub.push import push_folder


@pytest.mark.slow
def test_without_the_package_remote_code_makes_the_same_to_the_bit(hub, target, folder, client, tmp_path):
    push_folder(folder, target)
    model, processor = BNVAEModel.from_pretrained(folder), BNVAEProcessor.from_pretrained(folder)
    tensors, texts = use(model, processor)
    texts["pipelines"] = [pipeline(task, model=str(folder), device="cpu") for task in ("latent-text", "text-latent")]
    texts["pipelines"] = [texts["pipelines"][0](TEXTS, max_new_tokens=12), texts["pipelines"][1](TEXTS)]
    for source, saved in (("ada/model", [str(tmp_path / "saved again")]), (str(tmp_path / "saved again"), [])):
        found, made = client(source, *saved)
        assert all(module.startswith("transformers_modules.") for module in made.pop("modules"))
        assert equal(found, tensors) and equal(made, texts)
    # Remote code saves the same files as the package, and the package loads them.
    assert contents(tmp_path / "saved again").keys() == contents(folder).keys() - CARD
    again = BNVAEModel.from_pretrained(tmp_path / "saved again").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    # The control: other weights make other things.
    change(folder)
    push_folder(folder, target)
    found, made = client("ada/model")
    assert not equal(found, tensors) and made["pipelines"] != texts["pipelines"]


@pytest.mark.slow
def test_without_the_package_code_is_run_only_by_those_who_trust_it(hub, target, folder, tmp_path):
    push_folder(folder, target)
    environment = without_package(tmp_path / "packages") | {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    code = "from transformers import AutoModel; AutoModel.from_pretrained('ada/model', trust_remote_code=False)"
    command = [sys.executable, "-S", "-P", "-c", code]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert ended.returncode != 0 and "trust_remote_code=True" in ended.stderr
    assert not list((tmp_path / "home").rglob("modeling_bnvae.py"))


def test_a_saved_folder_refers_to_code_that_is_in_it(saved_folder):
    config = json.loads((saved_folder / "config.json").read_text())
    references = {*config["auto_map"].values(), *(task["impl"] for task in config["custom_pipelines"].values())}
    references |= set(json.loads((saved_folder / "processor_config.json").read_text())["auto_map"].values())
    for reference in references:
        module, _, name = reference.partition(".")
        source = (saved_folder / f"{module}.py").read_text()
        assert f"class {name}(" in source and source == (PACKAGE / "model" / f"{module}.py").read_text()
    assert {path.name for path in saved_folder.glob("*.py")} == RUNTIME
    # Loaded alone, the decoder's tokenizer is an ordinary tokenizer.
    assert AutoTokenizer.from_pretrained(saved_folder)(TEXTS[0])["input_ids"]


@pytest.mark.slow
def test_from_a_wheel_a_script_trains_and_pushes_what_loads_without_the_package(
    hub, target, run, wheel_site, client, tmp_path
):
    """The process sees no file of the checkout except the scripts."""
    for script in (ROOT / "scripts").glob("*.py"):
        shutil.copy(script, tmp_path)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(wheel_site),
    }

    def start(*command: str) -> str:
        command = [sys.executable, *command]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout

    place = start("-c", "import hf_bnvae; print(hf_bnvae.__file__)")
    assert Path(place.strip()).is_relative_to(wheel_site)
    options = {
        **QUICK,
        "output_dir": "out",
        "push_to_hub": "true",
        "hub_model_id": "ada/model",
        "hub_token": target.token,
    }
    start("run_bnvae.py", *(part for name, value in options.items() for part in (f"--{name}", str(value))))
    assert on_hub(hub) == contents(tmp_path / "out")
    assert "ada/model (main) holds these very files already" in start(
        "push_to_hub.py", "out", "--repo_id", "ada/model", "--token", target.token
    )
    for script in sorted(tmp_path.glob("run_*.py")):
        assert "usage:" in start(script.name, "--help")
    _, made = client("ada/model")
    assert len(made["sample"]) == 3
