"""What the conversion of an Optimus checkpoint refuses: weights and configurations that do not belong together,
folders that hold no checkpoint, damaged files, and pickles that would run code."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from optimus_original import (
    STEP,
    WIDTH,
    convert,
    original_configs,
    original_settings,
    random_state,
    save_legacy,
    write_checkpoint,
)
from paths import ROOT

from hf_bnvae.interop.optimus.checkpoint import load_safely
from hf_bnvae.interop.optimus.convert import convert_optimus_checkpoint, convert_state_dict


def test_weights_that_are_missing_unexpected_or_of_another_shape_are_listed(checkpoint, out, sizes):
    file = checkpoint / f"checkpoint-full-{STEP}" / "training.bin"
    state = random_state(sizes)
    lost = {"decoder.transformer.h.1.ln_2.bias", "decoder.transformer.h.0.attn.c_attn.bias"}
    shape = state["encoder.pooler.dense.weight"].shape
    changed = {name: tensor for name, tensor in state.items() if name not in lost}
    changed |= {
        "encoder.pooler.dense.weight": torch.zeros(3, 4),
        "encoder.crossattention.weight": torch.zeros(2),
        "decoder.transformer.h.0.attn.masked_bias": torch.zeros(1),
        "decoder.transformer.h.2.attn.c_attn.bias": torch.zeros(3 * WIDTH),  # no causal mask
    }
    save_legacy({"model_state_dict": changed}, file)
    with pytest.raises(ValueError) as caught:
        convert_optimus_checkpoint(checkpoint, out)
    lists = dict(part.split(": ") for part in str(caught.value).partition("describe. ")[2].rstrip(".").split("; "))
    assert set(lists["missing"].split(", ")) == lost
    assert set(lists["unexpected"].split(", ")) == set(changed) - set(state)
    assert lists["of another shape"] == f"encoder.pooler.dense.weight (3, 4), expected {tuple(shape)}"
    assert not out.exists()


def test_both_maps_of_the_posterior_come_from_one_and_a_missing_one_is_named_once():
    template = {f"posterior.{name}_projection.weight": torch.zeros(2, 3) for name in ("mean", "scale")}
    with pytest.raises(ValueError, match=r"missing: encoder.linear.weight\.$"):
        convert_state_dict({}, template)
    with pytest.raises(ValueError, match=r"encoder.linear.weight \(3, 3\), expected \(4, 3\)\.$"):
        convert_state_dict({"encoder.linear.weight": torch.zeros(3, 3)}, template)


def test_output_embeddings_of_their_own_are_refused(checkpoint, out, sizes):
    state = random_state(sizes)
    state["decoder.lm_head.weight"] = state["decoder.lm_head.weight"] + 1e-3
    save_legacy({"model_state_dict": state}, checkpoint / f"checkpoint-full-{STEP}" / "training.bin")
    with pytest.raises(ValueError, match=r"lm_head.weight and decoder.transformer.wte.weight differ"):
        convert_optimus_checkpoint(checkpoint, out)


@pytest.mark.parametrize(
    ("half", "change", "message"),
    [
        ("decoder", {"latent_size": 8}, "gives means and log variances of 6 dimensions.*latent_size=8"),
        ("decoder", {"latent_size": None}, "latent_size=32"),
        ("decoder", {"n_head": None}, "The decoder's config.json lacks n_head"),
        ("encoder", {"layer_norm_eps": None, "hidden_act": None}, "The encoder's config.json lacks hidden_act, layer"),
        ("decoder", {"n_ctx": 10}, "n_ctx=10 and n_positions=20"),
        ("decoder", {"vocab_size": 5}, r"decoder.transformer.wte.weight \(\d+, 24\), expected \(5, 24\)"),
        ("encoder", {"num_hidden_layers": 1}, r"unexpected: encoder.encoder.layer.1.attention.self.query.weight, "),
        ("encoder", {"hidden_size": "wide"}, "config.json holds what cannot be.*hidden_size"),
        ("decoder", {"vocab_size": "many"}, "config.json holds what cannot be"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(half, change, message, checkpoint, out, sizes):
    config = {**original_configs(sizes)[half], **change}
    config = {name: value for name, value in config.items() if value is not None}
    (checkpoint / f"checkpoint-{half}-{STEP}" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        convert_optimus_checkpoint(checkpoint, out)
    assert not out.exists()


def test_missing_parts_are_named(tmp_path, sizes, out):
    path = write_checkpoint(tmp_path / "checkpoint", sizes, ("encoder", "decoder"))
    shutil.rmtree(path / f"checkpoint-decoder-{STEP}")
    with pytest.raises(ValueError, match=r"no .*decoder-7/config.json and no .*decoder-7/pytorch_model.bin\. A conv"):
        convert_optimus_checkpoint(path, out)
    path = write_checkpoint(tmp_path / "full", sizes, ("full",))
    with pytest.raises(ValueError, match=r"no .*encoder-7/pytorch_model.bin and no .*decoder-7/pytorch_model.bin\."):
        convert_optimus_checkpoint(path, out, weights="halves")
    shutil.rmtree(path / f"checkpoint-encoder-{STEP}")
    with pytest.raises(ValueError, match=r"there is no .*encoder-7/config.json\. A conversion needs the config.json"):
        convert_optimus_checkpoint(path, out)
    assert not out.exists()


def test_folders_that_hold_no_checkpoint_are_told_apart(checkpoint, tmp_path, out, make_model):
    make_model(posterior="gaussian").save_pretrained(tmp_path / "bnvae")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("")
    cases = {
        tmp_path / "bnvae": "holds a BNVAE already",
        tmp_path / "empty": "It holds nothing",
        tmp_path / "file.zip": "an archive must be unpacked first",
        tmp_path / "nowhere": "is no folder",
        checkpoint / f"checkpoint-full-{STEP}": f"one part of a checkpoint. Give the folder above it: {checkpoint}",
        ROOT / "tests": "There is no checkpoint of Optimus in .*It holds .*, ...",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            convert_optimus_checkpoint(path, out)
    assert not out.exists()


def damaged(kind: str, whole: bytes) -> bytes:
    return {
        "random": np.random.default_rng(0).bytes(5000),
        "page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty": b"",
        "cut in its pickle": whole[:200],
        "cut in its tensors": whole[: len(whole) // 2],
        "cut at its end": whole[:-1],
    }[kind]


KINDS = ["random", "page", "pointer", "empty", "cut in its pickle", "cut in its tensors", "cut at its end"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["full", "decoder"])
def test_a_damaged_file_is_named(kind, part, checkpoint, tmp_path, out):
    options = {} if part == "full" else {"weights": "halves"}
    name = {"full": "training.bin", "decoder": "pytorch_model.bin"}[part]
    file = checkpoint / f"checkpoint-{part}-{STEP}" / name
    file.write_bytes(damaged(kind, file.read_bytes()))
    # Half of a name looks like an unknown name.
    message = rf"{name} (is no file of torch, or is damaged or cut off \(.*again|holds torch\S+, .* If it is whole)"
    with pytest.raises(ValueError, match=message) as caught:
        convert_optimus_checkpoint(checkpoint, out, **options)
    assert "weights_only" not in str(caught.value) and not out.exists()
    assert ("is empty" in str(caught.value)) == (kind == "empty")
    if part == "full":
        assert "--weights halves" in str(caught.value)
        convert(checkpoint, out, weights="halves")


def test_a_cut_archive_of_newer_torch_is_named_and_a_whole_one_read(checkpoint, out, sizes):
    file = checkpoint / f"checkpoint-full-{STEP}" / "training.bin"
    torch.save({"model_state_dict": random_state(sizes), "args": original_settings()}, file)
    convert(checkpoint, out)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or cut off"):
        load_safely(file)


def test_a_torch_file_without_weights_is_refused(checkpoint, out):
    file = checkpoint / f"checkpoint-full-{STEP}" / "training.bin"
    for content in ([1, 2], {"epoch": 3}, {"model_state_dict": {"a": 1}}, original_settings()):
        save_legacy(content, file)
        with pytest.raises(ValueError, match=r"training\.bin holds no weights where"):
            convert_optimus_checkpoint(checkpoint, out)
    (checkpoint / f"checkpoint-decoder-{STEP}" / "config.json").write_text("<html>")
    with pytest.raises(ValueError, match=r"config\.json is damaged .* it is no JSON"):
        convert_optimus_checkpoint(checkpoint, out, weights="halves")


class Attack:
    """Its pickle runs a command when somebody loads it without care."""

    def __init__(self, file: Path) -> None:
        self.command = f"{sys.executable} -c \"open('{file}', 'w')\""

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [True, False])
def test_weights_that_would_run_a_command_are_refused(legacy, checkpoint, tmp_path, out, sizes, warned):
    proof = tmp_path / "proof"
    attack = Attack(proof)
    content = {"model_state_dict": random_state(sizes), "args": original_settings(extra=attack)}
    files = {
        checkpoint / f"checkpoint-full-{STEP}" / "training.bin": (content, {}),
        checkpoint / f"checkpoint-encoder-{STEP}" / "pytorch_model.bin": (attack, {"weights": "halves"}),
    }
    for file, (value, options) in files.items():
        whole = file.read_bytes()
        torch.save(value, file, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=rf"{file.name} holds (posix|nt)\.system, which .* could run code"):
            convert_optimus_checkpoint(checkpoint, out, **options)
        assert not proof.exists() and not out.exists()
        if file.name == "pytorch_model.bin":
            # The full checkpoint's weights are still good.
            file.unlink()
            torch.save(value, file, _use_new_zipfile_serialization=not legacy)
            convert_optimus_checkpoint(checkpoint, out)
            assert "not compared" in warned() and "system" in warned()
            shutil.rmtree(out)
        file.write_bytes(whole)


@pytest.mark.parametrize("legacy", [True, False])
def test_settings_that_would_run_a_command_are_not_read_and_not_needed(legacy, checkpoint, tmp_path, out, warned):
    proof = tmp_path / "proof"
    for half in ("encoder", "decoder"):
        file = checkpoint / f"checkpoint-{half}-{STEP}" / "training_encoder_args.bin"
        settings = original_settings(extra=Attack(proof))
        torch.save(settings, file, _use_new_zipfile_serialization=not legacy)
    assert convert(checkpoint, out, weights="halves").config.latent_injection == "both"
    assert "settings were not read" in warned() and "does not say how the latent enters" in warned()
    assert not proof.exists()
    # The control: loaded without care it runs.
    torch.load(file, weights_only=False)
    assert proof.exists()


def test_numbers_of_numpy_are_read_by_both_names_of_their_constructor(tmp_path):
    file = tmp_path / "settings.bin"
    save_legacy(original_settings(), file)
    written = file.read_bytes()
    names = [b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"]
    (own,) = (name for name in names if name in written)
    for name in names:
        file.write_bytes(written.replace(own, name))
        assert load_safely(file).beta == 0.5
    save_legacy({"array": np.arange(3)}, file)
    with pytest.raises(ValueError, match=r"holds numpy\S*_reconstruct, which is neither"):
        load_safely(file)
