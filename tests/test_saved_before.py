"""What the package saved before its files were put into rooms still loads: `helpers/saved_before.tar.xz` holds folders
that commit cfd9a45 wrote, and what it said of them (`expected.json`)."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tiny
import torch
from paths import HELPERS, SCRIPTS

from hf_bnvae import BNVAEModel, BNVAEProcessor


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved_before")
    with tarfile.open(HELPERS / "saved_before.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(saved) -> dict:
    return json.loads((saved / "expected.json").read_text())


def noise_of(expected) -> torch.Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(1))


def test_a_saved_model_encodes_decodes_and_scores_as_it_did(saved, expected):
    processor = BNVAEProcessor.from_pretrained(saved / "model")
    model = BNVAEModel.from_pretrained(saved / "model").attach_processor(processor)
    texts = expected["texts"]
    torch.testing.assert_close(model.encode_texts(texts), torch.tensor(expected["latents"]), atol=1e-5, rtol=1e-5)
    assert model.reconstruct(texts, show_progress=False) == expected["reconstructions"]
    assert model.sample(3, seed=0) == expected["samples"]
    batch = processor(tiny.make_texts(400)[:8], return_tensors="pt")
    loss = model(**batch, noise=noise_of(expected)).loss.item()
    assert loss == pytest.approx(expected["loss"], rel=1e-5)
    # The control: other weights say other things.
    torch.nn.init.normal_(model.injection.memory.weight)
    assert model(**batch, noise=noise_of(expected)).loss.item() != pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_saved_model_loads_without_the_package(saved, expected, tmp_path):
    """By the code in its own folder, in a process in which `hf_bnvae` cannot be imported."""
    code = f"""
import sys
sys.modules["hf_bnvae"] = None
import torch
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("model", trust_remote_code=True)
model.attach_processor(AutoProcessor.from_pretrained("model", trust_remote_code=True))
assert type(model).__module__.startswith("transformers_modules.")
assert model.reconstruct({expected["texts"]!r}, show_progress=False) == {expected["reconstructions"]!r}
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=saved, env=environment)


def test_a_saved_sentence_transformer_embeds_as_it_did(saved, expected):
    """Its `modules.json` names a module that has moved."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    embedder = sentence_transformers.SentenceTransformer(str(saved / "sentence_transformer"), trust_remote_code=True)
    embeddings = torch.as_tensor(embedder.encode(expected["texts"]))
    torch.testing.assert_close(embeddings, torch.tensor(expected["embeddings"]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_base_given", [True, False])
def test_a_saved_adapter_scores_as_it_did(saved, expected, monkeypatch, is_base_given):
    """Its configuration names a module that has moved."""
    peft = pytest.importorskip("peft")
    monkeypatch.chdir(saved)
    if is_base_given:
        adapted = peft.PeftModel.from_pretrained(BNVAEModel.from_pretrained("model"), "lora")
    else:
        adapted = peft.AutoPeftModel.from_pretrained("lora", import_allowlist=["hf_bnvae.modeling_bnvae"])
    processor = BNVAEProcessor.from_pretrained("model")
    batch = processor(tiny.make_texts(400)[:8], return_tensors="pt")
    loss = adapted.eval()(**batch, noise=torch.zeros(8, 8)).loss.item()
    assert loss == pytest.approx(expected["lora_loss"], rel=1e-5)
    with adapted.disable_adapter():
        assert adapted(**batch, noise=torch.zeros(8, 8)).loss.item() != pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("loop", "script"), [("trainer", "run_bnvae"), ("accelerate", "run_bnvae_no_trainer")])
def test_an_unfinished_run_is_resumed_and_ends_as_it_would_have(saved, expected, tmp_path, loop, script):
    shutil.copytree(saved / f"unfinished_{loop}", tmp_path / "out")
    texts = tmp_path / "mine.txt"
    shutil.copy(saved / "mine.txt", texts)
    record = tmp_path / "out" / "run.json"
    record.write_text(record.read_text().replace("TRAIN_FILE", str(texts)))
    settings = json.loads(record.read_text())["settings"]
    names = [
        "hidden_size",
        "num_layers",
        "latent_size",
        "vocab_size",
        "num_train_epochs",
        "warmup_steps",
        "use_cpu",
        "seed",
    ]
    names += ["per_device_train_batch_size"]
    options = {name: settings[name] for name in names}
    options |= {"train_file": "mine.txt", "output_dir": "out", "num_importance_samples": 2, "disable_tqdm": True}
    options |= {"save_strategy": "steps", "save_steps": 6, "eval_strategy": "steps", "eval_steps": 6}
    options |= {"logging_steps": 1, "save_total_limit": 2}
    command = [sys.executable, str(SCRIPTS / f"{script}.py")]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "cache")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Resuming the unfinished run in out from checkpoint-6." in run.stdout
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    whole = expected[f"run_{loop}"]
    assert {name: results[name] for name in whole["figures"]} == pytest.approx(whole["figures"], rel=1e-4)
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    steps = {entry["step"]: entry for entry in history if "kl" in entry and entry["step"] > 6}
    for entry in whole["log"]:
        assert {name: steps[entry["step"]][name] for name in entry} == pytest.approx(entry, rel=1e-4)
