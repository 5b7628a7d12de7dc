"""Which files of a folder are pushed, and which folders hold no whole model. Nothing here asks the Hub."""

import json
import shutil
from pathlib import Path

import pytest
from pushing import RUNTIME, contents
from safetensors.torch import load_file, save_file

from hf_bnvae import BNVAEModel
from hf_bnvae.hub.contents import list_files, require_whole_model
from hf_bnvae.hub.push import push_folder


def test_all_that_the_library_saves_is_uploaded(saved_folder, saved_model, tmp_path):
    found = list_files(saved_folder)
    assert found.left_out == {}
    assert set(found.uploaded) >= RUNTIME | {"config.json", "model.safetensors", "processor_config.json"}
    require_whole_model(found)
    saved_model.save_pretrained(tmp_path, max_shard_size="100KB")
    sharded = list_files(tmp_path)
    require_whole_model(sharded)
    assert sharded.left_out == {} and "model.safetensors" not in sharded.uploaded
    assert sum(name.endswith(".safetensors") for name in sharded.uploaded) > 1


def test_a_dry_run_lists_what_is_uploaded_and_why_the_rest_stays(folder, run, capsys):
    """The command needs no network and no token: nobody listens at the Hub's address."""
    ours = set(contents(folder))
    pictures = {"README.md", "kl.png", "figures/prior.png"}
    strangers = {
        "training_args.bin": "can run code when it is loaded (a pickle)",
        "optimizer.pt": "can run code when it is loaded (a pickle)",
        "checkpoint-3/model.safetensors": "the state of a training",
        "checkpoint-3/kl.png": "the state of a training",
        "run.json": "the training's own record",
        "examples.json": "holds texts of the corpus",
        "customers.csv": "no file of a saved model",
        "secrets.json": "no file of a saved model",
        ".env": "no file of a saved model",
        "deploy.py": "no file of a saved model",
        "figures/old/kl.png": "no file of a saved model",
        "encoder_tokenizer/notes.txt": "no file of a saved model",
    }
    for name in [*pictures, *strangers]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run("push_to_hub", str(folder), "--dry_run", repo_id="ada/model")
    printed = capsys.readouterr().out
    above, below = printed.split("These stay:")
    assert {line.split()[-1] for line in above.splitlines()[2:] if line} == ours | pictures
    for name, reason in strangers.items():
        shown = "checkpoint-3/" if name.startswith("checkpoint") else name
        assert any(line.split()[:1] == [shown] and reason in line for line in below.splitlines()), name
    assert "Nothing was uploaded to ada/model (main)" in printed
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(SystemExit, match="is no name of a repository"):
        run("push_to_hub", str(folder), "--dry_run", repo_id="ada/two words")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f), r"There is no folder"),
        (lambda f: (f / "config.json").unlink(), r"holds no saved BNVAE: there is no config\.json"),
        (lambda f: (f / "model.safetensors").unlink(), r"not saved to its end.*model\.safetensors is missing"),
        (lambda f: cut_off(f / "model.safetensors"), r"model\.safetensors is damaged or was cut off"),
        (lambda f: cut_off(f / "config.json"), r"config\.json is damaged or was cut off"),
        (lambda f: cut_off(f / "tokenizer.json"), r"tokenizer\.json is damaged or was cut off"),
        (lambda f: (f / "modeling_bnvae.py").unlink(), r"modeling_bnvae\.py is missing"),
        (lambda f: (f / "injection_bnvae.py").unlink(), r"injection_bnvae\.py is missing"),
        (lambda f: shutil.rmtree(f / "encoder_tokenizer"), r"encoder_tokenizer/tokenizer_config\.json is missing"),
        (lambda f: (f / "processor_config.json").unlink(), r"processor_config\.json is missing"),
        (lambda f: (f / "config.json").write_text("[]"), r"must hold a JSON object, got a list"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), r"holds a 'gpt2', no BNVAE"),
    ],
)
def test_a_folder_without_a_whole_model_is_refused_before_the_hub_is_asked(folder, hub, target, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        push_folder(folder, target)
    assert hub.requests == []


def test_a_model_of_shards_is_refused_without_one_of_them(saved_model, tmp_path):
    saved_model.save_pretrained(tmp_path, max_shard_size="100KB")
    shard = max(tmp_path.glob("model-*-of-*.safetensors"))
    weights = load_file(shard)
    name, _ = weights.popitem()
    save_file(weights, shard)
    with pytest.raises(ValueError, match=rf"{shard.name} lacks {name}, which its index names"):
        require_whole_model(list_files(tmp_path))
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{shard.name} is missing"):
        require_whole_model(list_files(tmp_path))


def test_whole_weights_need_no_shards_that_an_old_index_names(folder):
    """Loading takes the whole weights, too."""
    index = {"weight_map": {"posterior.mean_projection.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    require_whole_model(list_files(folder))
    BNVAEModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors is missing"):
        require_whole_model(list_files(folder))


def test_folders_that_are_nearly_a_model_are_told_apart(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"adapters of PEFT.*merge_and_unload"):
        require_whole_model(list_files(tmp_path))
