"""Which files of a folder are pushed, and which folders hold no whole model. Nothing here asks the Hub."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from pushing import RUNTIME, contents
from safetensors.torch import load_file, save_file

from hf_bnvae import BNVAEModel
from hf_bnvae.hub.contents import list_files, render_contents, require_whole_model
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


def test_directions_are_uploaded_and_damaged_ones_refused(folder, saved_model):
    assert "directions.safetensors" not in list_files(folder).uploaded
    saved_model.direction(*torch.randn(2, 9, saved_model.config.latent_size)).save(folder)
    found = list_files(folder)
    assert "directions.safetensors" in found.uploaded
    require_whole_model(found)
    file = folder / "directions.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"directions\.safetensors is damaged"):
        require_whole_model(list_files(folder))


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
        "evil_bnvae.py": "no file of a saved model",
        "holiday.png": "no file of a saved model",
        "figures/screen.png": "no file of a saved model",
        "model-00009-of-00009.safetensors": "no file of a saved model",
        "chat_template.jinja": "a text VAE has no chat",
    }
    for name in [*pictures, *strangers]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "README.md").write_text('![KL](kl.png) and <img alt="prior" src="figures/prior.png"> and ![](no.png)')
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


SECRET = "root:x:0:0"


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file outside the model's folder."""
    path = tmp_path / "passwd"
    path.write_text(SECRET)
    return path


@pytest.mark.parametrize(
    "name", ["merges.txt", "kl_per_dimension.png", "encoder_tokenizer/vocab.txt", "training_args.json", "README.md"]
)
def test_a_link_out_of_the_folder_is_refused_and_named(folder, hub, target, secret, run, capsys, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(ValueError, match=rf"{name} is a link to {secret}, and a push follows only links"):
        push_folder(folder, target)
    assert hub.requests == [] and secret.read_text() == SECRET
    with pytest.raises(SystemExit):
        run("push_to_hub", str(folder), "--dry_run", repo_id="ada/model")
    assert f"a link to what is not uploaded -> {secret}" in capsys.readouterr().out


def test_a_link_to_a_folder_or_to_a_private_file_of_the_folder_is_refused(folder, tmp_path):
    (folder / ".env").write_text(SECRET)
    (folder / "merges.txt").symlink_to(".env")
    with pytest.raises(ValueError, match=r"merges\.txt is a link to .*\.env"):
        require_whole_model(list_files(folder))
    (folder / "merges.txt").unlink()
    (folder / "encoder_tokenizer").rename(tmp_path / "elsewhere")
    (folder / "encoder_tokenizer").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"encoder_tokenizer is a link to .*elsewhere"):
        require_whole_model(list_files(folder))


def test_a_link_that_would_not_be_uploaded_stays_and_is_shown(folder, secret):
    (folder / "notes.txt").symlink_to(secret)
    (folder / "data").symlink_to(secret.parent)
    found = list_files(folder)
    require_whole_model(found)
    assert not {"notes.txt", "data"} & found.uploaded.keys()
    shown = render_contents(found).splitlines()
    for target in (secret, secret.parent):
        assert any(line.endswith(f" -> {target}") for line in shown)


def test_a_link_between_uploaded_files_is_uploaded(folder):
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    (folder / "special_tokens_map.json").symlink_to("tokenizer_config.json")
    found = list_files(folder)
    require_whole_model(found)
    assert found.uploaded["special_tokens_map.json"] == found.uploaded["tokenizer_config.json"]
    assert f"special_tokens_map.json -> {(folder / 'tokenizer_config.json').resolve()}" in render_contents(found)


def test_a_snapshot_of_the_cache_is_pushed_and_nothing_else_that_it_leads_to(folder, tmp_path, secret, hub, target):
    """All files of a snapshot are links to blobs of its repository."""
    repository = tmp_path / "hub" / "models--ada--other"
    snapshot, blobs = repository / "snapshots" / ("c" * 40), repository / "blobs"
    blobs.mkdir(parents=True)
    expected = contents(folder)
    for number, name in enumerate(expected):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (blobs / str(number)).write_bytes(expected[name])
        (snapshot / name).symlink_to(blobs / str(number))
    assert contents(snapshot) == expected
    require_whole_model(list_files(snapshot))
    other = tmp_path / "hub" / "models--bob--secret" / "blobs"
    other.mkdir(parents=True)
    for place in (secret, Path(shutil.copy(secret, other / "1"))):
        (snapshot / "merges.txt").unlink(missing_ok=True)
        (snapshot / "merges.txt").symlink_to(place)
        with pytest.raises(ValueError, match=rf"merges\.txt is a link to {place}"):
            push_folder(snapshot, target)
    assert hub.requests == []


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
        (
            lambda f: (f / "generation_config.json").write_text('{"eos_token_id": {}}'),
            r"damaged: its eos_token_id is {}",
        ),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), r"config.json is of a 'gpt2', no BNVAE"),
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
