"""Which files of an Optimus checkpoint the conversion takes, and which injection it gives the model."""

import argparse
import re
import shutil

import pytest
import torch
from optimus_original import (
    LATENT_SIZE,
    LAYERS,
    STEP,
    WAYS,
    convert,
    original_settings,
    random_state,
    write_checkpoint,
)

from hf_bnvae import BNVAEConfig
from hf_bnvae.interop.optimus.checkpoint import find_optimus_checkpoint
from hf_bnvae.interop.optimus.convert import Injection, convert_optimus_checkpoint, saved_injection

LAYOUTS = {
    "whole": {},
    "halves": {"parts": ("encoder", "decoder")},
    "full, and the halves' configurations": {"parts": ("full",)},
    "data-parallel": {"prefix": "module."},
    "data-parallel halves": {"prefix": "module.", "parts": ("encoder", "decoder")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model(layout, tmp_path, out, sizes, warned):
    path = write_checkpoint(tmp_path / "checkpoint", sizes, **LAYOUTS[layout])
    weights = convert(path, out).state_dict()
    state = random_state(sizes)
    assert torch.equal(weights["posterior.scale_projection.weight"], state["encoder.linear.weight"][LATENT_SIZE:])
    assert torch.equal(weights["injection.memory.weight"], state["decoder.transformer.linear.weight"])
    same = [name for name in weights if name in state]
    assert len(same) == len(state) - LAYERS - 3  # all but the causal masks and the three maps of the latent
    assert all(torch.equal(weights[name], state[name]) for name in same)
    assert warned() == ""


def test_a_training_of_several_steps_wants_a_choice(tmp_path, sizes, out):
    run = tmp_path / "run"
    for step in (500, 1000):
        write_checkpoint(run, sizes, ("encoder", "decoder"), step=step, seed=step)
    write_checkpoint(run / "checkpoint-1500", sizes, ("full",), step=1500, seed=1500)
    (run / "eval_vae_results.txt").write_text("elbo = 1")
    with pytest.raises(ValueError, match=rf"several steps in {run}: 500 in .*, 1000 in .*1500 in .*with --step"):
        convert_optimus_checkpoint(run, out)
    with pytest.raises(ValueError, match=r"There is no step 700 in .*There are: 500 in .*, 1000 in"):
        convert_optimus_checkpoint(run, out, step=700)
    assert not out.exists()
    for step in (1000, 1500):
        weights = convert(run, tmp_path / str(step), step=step).decoder.state_dict()["transformer.wpe.weight"]
        assert torch.equal(weights, random_state(sizes, step)["decoder.transformer.wpe.weight"])
    # A single step needs no choice, wherever it lies.
    assert find_optimus_checkpoint(run / "checkpoint-1500").step == 1500
    shutil.copytree(run / "checkpoint-1500", run, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="Step 1500 is there more than once"):
        convert_optimus_checkpoint(run, out, step=1500)


def test_the_full_checkpoint_overrides_the_halves_and_that_is_said(tmp_path, sizes, out, warned):
    path = write_checkpoint(tmp_path / "checkpoint", sizes)
    other = write_checkpoint(tmp_path / "other", sizes, seed=1)
    decoder = f"checkpoint-decoder-{STEP}/pytorch_model.bin"
    shutil.copy(other / decoder, path / decoder)
    weights = convert(path, out).state_dict()
    assert torch.equal(
        weights["decoder.transformer.wpe.weight"], random_state(sizes)["decoder.transformer.wpe.weight"]
    )
    assert re.search(r"tensors of .*decoder-7/pytorch_model.bin are not those of .*training.bin", warned())
    assert "--weights halves" in warned() and "encoder-7/pytorch" not in warned()
    weights = convert(path, tmp_path / "halves", weights="halves").state_dict()
    assert torch.equal(
        weights["decoder.transformer.wpe.weight"], random_state(sizes, 1)["decoder.transformer.wpe.weight"]
    )
    assert torch.equal(weights["encoder.pooler.dense.bias"], random_state(sizes)["encoder.pooler.dense.bias"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", [("full",), ("encoder", "decoder")])
def test_the_injection_is_the_one_that_was_trained(way, parts, tmp_path, sizes, out, warned):
    memory, embedding = WAYS[way]
    settings = original_settings(latent_as_gpt_memory=memory, latent_as_gpt_emb=embedding)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, parts, settings=settings)
    model = convert(path, out)
    assert model.config.latent_injection == way and warned() == ""
    assert [model.injection.memory is not None, model.injection.embedding is not None] == [memory, embedding]


def test_an_injection_that_is_asked_for_wins_and_that_is_said(tmp_path, sizes, out, warned):
    settings = original_settings(latent_as_gpt_emb=0)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, settings=settings)
    assert convert(path, out, latent_injection="both").config.latent_injection == "both"
    assert "was trained with the injection 'memory', and is converted with 'both'" in warned()


def test_an_injection_that_nothing_tells_is_both_with_a_warning(tmp_path, sizes, out, warned):
    settings = original_settings(latent_as_gpt_memory=None, latent_as_gpt_emb=None)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, settings=settings)
    assert convert(path, out, latent_injection="memory").config.latent_injection == "memory"
    assert warned() == ""
    assert convert(path, tmp_path / "other").config.latent_injection == "both"
    assert "does not say how the latent enters the decoder" in warned()


def test_a_decoder_from_a_checkpoint_had_both_injections_whatever_the_settings_say():
    flags = {"latent_as_gpt_memory": 1, "latent_as_gpt_emb": 0}
    assert saved_injection(argparse.Namespace(**flags)) == "memory"
    assert saved_injection(argparse.Namespace(**flags, use_pretrained_model=True)) == "both"
    assert saved_injection(None) is None
    with pytest.raises(ValueError, match="leave the latent no way into the decoder"):
        saved_injection(argparse.Namespace(latent_as_gpt_memory=0, latent_as_gpt_emb=0))


def test_injections_are_the_configurations():
    for way in Injection.__args__:
        assert BNVAEConfig(latent_injection=way).latent_injection == way
    assert set(Injection.__args__) == set(WAYS)
