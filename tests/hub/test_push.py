"""Pushing to the Hub and loading from there, with the real client over HTTP and a Hub on this machine.

What a reader sees is compared with the files of the folder that was pushed, what a model makes with what it made
before it was pushed, to the bit. What is pushed by a training, and what is not, is looked up in the Hub's commits."""

import json
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from loopback_hub import ADDRESS, File
from paths import HELPERS, PACKAGE, ROOT
from remote_client import TEXTS, use, without_package
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, BertModel, pipeline

from hf_bnvae import BNVAEConfig, BNVAEModel, BNVAEProcessor, BNVAETrainingArguments, cli
from hf_bnvae.hub.contents import list_files, require_whole_model
from hf_bnvae.hub.push import BackgroundPushes, push_folder
from hf_bnvae.hub.target import HubError, HubTarget
from hf_bnvae.reporting.model_card import BNVAEModelCard, write_card

RUNTIME = {path.name for path in (PACKAGE / "model").glob("*_bnvae.py")}
BOTH = pytest.mark.parametrize("script", ["run_bnvae", "run_bnvae_no_trainer"])
CARD = {"README.md", "model_card.json"}
QUICK = {"train_file": "mine.txt", **tiny.SCRIPT_OPTIONS}


@pytest.fixture(scope="module")
def saved_model(processor, texts) -> BNVAEModel:
    """A model with running statistics of its own. Tests leave it as it is."""
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
    """A copy of the saved model, to change."""
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


def contents(folder: Path) -> dict[str, bytes]:
    """What of a folder is to be on the Hub, and nothing else."""
    return {name: (folder / name).read_bytes() for name in list_files(folder).uploaded}


def on_hub(hub, repo: str = "ada/model", revision: str = "main") -> dict[str, bytes]:
    files = hub.repositories[repo].files(revision)
    del files[".gitattributes"]
    return files


def change(folder: Path, seed: int = 5) -> None:
    """Other weights."""
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(seed)
    weights["posterior.mean_projection.weight"] = torch.randn_like(weights["posterior.mean_projection.weight"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def equal(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name])
        if isinstance(expected[name], torch.Tensor)
        else found[name] == expected[name]
        for name in expected
    )


# --- what of a folder is uploaded ------------------------------------------------------------------------------------


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
    """Offline, without a token, and nobody listening at the Hub's address."""
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
    """Loading takes them, too."""
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


# --- pushed and loaded -----------------------------------------------------------------------------------------------


def test_model_and_processor_are_pushed_and_loaded_with_the_same_outputs(hub, saved_model, processor, make_model):
    token = hub.add_user("ada")
    saved_model.push_to_hub("ada/model", token=token)
    processor.push_to_hub("ada/model", token=token)
    assert set(on_hub(hub)) >= RUNTIME | {"README.md", "model.safetensors"}
    expected = use(saved_model, processor)
    for classes in ((BNVAEModel, BNVAEProcessor), (AutoModel, AutoProcessor)):
        model, loaded = (cls.from_pretrained("ada/model") for cls in classes)
        assert (type(model), type(loaded)) == (BNVAEModel, BNVAEProcessor)
        found = use(model, loaded)
        assert equal(found[0], expected[0]) and equal(found[1], expected[1])
    assert type(AutoConfig.from_pretrained("ada/model")) is BNVAEConfig
    # The classes of the installed package, also for someone who trusts the repository's.
    assert type(AutoModel.from_pretrained("ada/model", trust_remote_code=True)) is BNVAEModel
    for task in ("latent-text", "text-latent"):
        assert type(pipeline(task, model="ada/model")).__module__ == "hf_bnvae.model.pipeline_bnvae"
    # The control: another model makes other things.
    other = use(make_model(seed=3, posterior="bn_rms").eval(), processor)
    assert not equal(other[0], expected[0]) and not equal(other[1], expected[1])


def test_saving_can_push_too_with_the_code(hub, saved_model, processor, tmp_path):
    token = hub.add_user("ada")
    saved_model.save_pretrained(tmp_path / "model", push_to_hub=True, token=token, private=True)
    processor.save_pretrained(str(tmp_path / "model"), push_to_hub=True, repo_id="ada/model", token=token)
    assert hub.repositories["ada/model"].is_private
    there = on_hub(hub)
    assert set(there) == {*CARD, *contents(tmp_path / "model")} and set(there) >= RUNTIME


def test_one_call_pushes_model_processor_and_card_in_one_commit(hub, saved_model, processor, folder, target, caplog):
    options, other = {"token": target.token}, BNVAEModel.from_pretrained(folder)
    with torch.no_grad():
        other.posterior.mean_projection.weight.add_(1.0)
    push_folder(folder, target)
    card = BNVAEModelCard.from_json_file(folder / "model_card.json")
    said = {"license": "mit", "language": "en", "model_name": "A title"}
    replace(card, figures={"kl": 3.0, "kl_floor": 2.0}, **said).save(folder)
    push_folder(folder, target, "With figures")
    caplog.clear()
    # The same weights keep their card, whoever pushes them, with a tag more.
    BNVAEModel.from_pretrained(folder).push_to_hub("ada/model", tags="mine", commit_message="Tagged", **options)
    text = on_hub(hub)["README.md"].decode()
    assert "KL 3.00" in text and "- mine" in text and "has no figures" not in caplog.text
    assert "has no processor attached" in caplog.text
    caplog.clear()
    # Others have no figures of theirs, nor a file that would be loaded in place of their shards.
    other.add_model_tags("yours")
    pushed = other.attach_processor(processor).push_to_hub("model", max_shard_size="100KB", **options)
    assert hub.repositories["ada/model"].history()[2:] == ["With figures", "Tagged", "Upload model"]
    assert pushed.repo_id == "ada/model" and "has no processor attached" not in caplog.text
    there = on_hub(hub)
    assert "KL 3.00" not in there["README.md"].decode() and "has no figures" in caplog.text
    assert b"license: mit" in there["README.md"] and b"- mine\n- yours\n" in there["README.md"]
    assert "model.safetensors" not in there and "processor_config.json" in there
    loaded = BNVAEModel.from_pretrained("ada/model")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in other.state_dict().items())
    assert not torch.equal(loaded.posterior.mean_projection.weight, saved_model.posterior.mean_projection.weight)
    for asked in ({"create_pr": True}, {"commit_description": "x"}):
        with pytest.raises(ValueError, match=f"has no {next(iter(asked))}"):
            other.push_to_hub("ada/model", **asked, **options)
    with pytest.raises(HubError, match="may not write to ada/model"):
        other.push_to_hub("ada/model", token=hub.add_user("eve"))


def test_the_form_that_is_no_card_makes_way_for_one(hub, processor, folder, target):
    """Transformers' own push leaves it, the processor's for example."""
    processor.push_to_hub("ada/model", token=target.token)
    assert b"[More Information Needed]" in on_hub(hub)["README.md"]
    filled = on_hub(hub)["README.md"].replace(b"[More Information Needed]", b"Ada", 1)
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == (folder / "README.md").read_bytes()
    # A file of another meaning is none that the card is rendered from.
    (folder / "model_card.json").unlink()
    files = {**hub.repositories["ada/model"].find("main").files, "model_card.json": File(b'{"x": 1}', False)}
    hub.repositories["ada/model"].commit("main", "Another's", files)
    push_folder(folder, target)
    # The control: with a word of somebody's own, or metadata that nobody can read, it is left alone.
    repository = hub.repositories["ada/model"]
    for mine in (filled, b"---\n[: no YAML\n---\n# Mine"):
        files = {**repository.find("main").files, "README.md": File(mine, False)}
        repository.commit("main", "Mine", files)
        push_folder(folder, target)
        assert on_hub(hub)["README.md"] == mine


def test_pushing_again_makes_a_commit_where_something_has_changed(hub, folder, target):
    first = push_folder(folder, target, "One")
    assert first.is_new and on_hub(hub) == contents(folder)
    again = push_folder(folder, target, "Two")
    assert again.commit == again.previous == first.commit and not again.is_new
    change(folder)
    changed = push_folder(folder, target, "Three")
    assert changed.previous == first.commit != changed.commit and on_hub(hub) == contents(folder)
    assert hub.repositories["ada/model"].history() == ["initial commit", "One", "Three"]
    # Only what has changed is sent.
    assert sum(request.startswith("PUT") for request in hub.requests) == 2


def test_the_model_there_is_replaced_as_a_whole_and_other_files_stay(hub, saved_model, folder, target):
    (folder / "README.md").write_text("mine")
    (folder / "kl.png").write_bytes(b"picture")
    (folder / "training_args.json").write_text("{}")
    push_folder(folder, target)
    shards = folder.parent / "shards"
    saved_model.save_pretrained(shards, max_shard_size="100KB")
    push_folder(shards, target)
    there = on_hub(hub)
    # Loading would prefer the old weights to the new shards.
    assert "model.safetensors" not in there and "training_args.json" not in there
    ours = {name: content for name, content in contents(shards).items() if name != "README.md"}
    assert {name: there[name] for name in ours} == ours
    # A processor may have been pushed by itself, and a card written on the Hub.
    assert there["README.md"] == b"mine" and "kl.png" in there and "processor_config.json" in there
    loaded = BNVAEModel.from_pretrained("ada/model").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in saved_model.state_dict().items())
    push_folder(folder, target)
    assert on_hub(hub) == contents(folder)


def test_every_push_has_a_card_that_is_of_its_weights(hub, folder, saved_model, target, caplog):
    push_folder(folder, target)
    card = BNVAEModelCard.from_json_file(folder / "model_card.json")
    assert (card.model_name, card.repo_id) == ("model", "ada/model")
    text = on_hub(hub)["README.md"].decode()
    assert text == card.render() == (folder / "README.md").read_text() and "from_pretrained('ada/model')" in text
    # Figures stay with the weights that they are of.
    replace(card, figures={"kl": 3.0, "kl_floor": 2.0}, model_name="A title").save(folder)
    push_folder(folder, target)
    assert "# A title" in on_hub(hub)["README.md"].decode() and "KL 3.00" in on_hub(hub)["README.md"].decode()
    assert "has no figures" not in caplog.text
    change(folder)
    push_folder(folder, target)
    assert "KL 3.00" not in on_hub(hub)["README.md"].decode() and "has no figures" in caplog.text


def test_a_card_by_hand_is_kept_wherever_it_is(hub, folder, target, caplog):
    push_folder(folder, target)
    (folder / "README.md").write_text("# By my hand")
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By my hand" and "left as it is" in caplog.text
    (folder / "README.md").write_text("# By my other hand")
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By my other hand"
    (folder / "README.md").write_text("# By my hand")
    push_folder(folder, target)
    caplog.clear()
    # Here there is none any more, and there it is still.
    (folder / "README.md").unlink()
    change(folder)
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By my hand"
    assert "The README.md of ada/model was written or changed by hand" in caplog.text
    assert on_hub(hub)["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_a_card_by_hand_is_kept_also_where_it_cannot_be_read(hub, folder, target):
    """A file that is not reached is not one that is not there, nor what it was before."""
    push_folder(folder, target)
    push_folder(folder, target)  # after which the client has the card that is there
    repository = hub.repositories["ada/model"]
    files = {**repository.find("main").files, "README.md": File(b"# By hand", False)}
    repository.commit("main", "Words", files)
    change(folder)
    for break_off in (hub.drop_connection, partial(hub.refuse, status=408)):
        break_off("HEAD", "README.md$", times=100)
        assert "failed" in told(folder, target)
        assert on_hub(hub)["README.md"] == b"# By hand" and repository.history()[-1] == "Words"
        hub.faults.clear()
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By hand" and repository.history()[-1] == "Upload model"


def test_revisions_are_branches_tags_and_commits(hub, folder, target, run, capsys):
    first = push_folder(folder, target, tag="v1")
    weights = {"v1": load_file(folder / "model.safetensors")}
    change(folder)
    options = {"repo_id": "ada/model", "token": target.token, "branch": "try-out", "tag": "v2"}
    run("push_to_hub", str(folder), **options, commit_message="Other weights")
    printed = capsys.readouterr().out
    assert f"what it held before is its commit {first.commit}" in printed and "revision='v2'" in printed
    weights["v2"] = load_file(folder / "model.safetensors")
    assert hub.repositories["ada/model"].history("try-out")[-1] == "Other weights"
    revisions = {"main": "v1", "v1": "v1", first.commit: "v1", "try-out": "v2", "v2": "v2"}
    name = "posterior.mean_projection.weight"
    for revision, version in revisions.items():
        found = BNVAEModel.from_pretrained("ada/model", revision=revision).state_dict()[name]
        assert torch.equal(found, weights[version][name]), revision
    assert not torch.equal(weights["v1"][name], weights["v2"][name])
    with pytest.raises(OSError, match="v3 is not a valid git identifier"):
        BNVAEModel.from_pretrained("ada/model", revision="v3")


def test_a_private_repository_is_for_those_with_a_token(hub, folder, target, run):
    run("push_to_hub", str(folder), "--private", repo_id="ada/model", token=target.token)
    assert hub.repositories["ada/model"].is_private
    from hf_bnvae.jobs.saved_model import load_saved_model

    for token in (None, hub.add_user("eve")):
        with pytest.raises(ValueError, match=r"(?s)ada/model could not be loaded.*token"):
            load_saved_model("ada/model", token=token)
    assert load_saved_model("ada/model", token=target.token).processor is not None


# --- mistakes --------------------------------------------------------------------------------------------------------


def told(folder, target, **more) -> str:
    """What is told of a push that fails."""
    with pytest.raises(HubError) as caught:
        push_folder(folder, target, **more)
    message = str(caught.value)
    assert f"{folder} is as it was." in message, message
    return message


def test_mistakes_are_told_and_change_nothing(hub, folder, target, monkeypatch):
    monkeypatch.chdir(folder.parent)
    push_folder(folder, target, tag="v1")
    reader, eve = hub.add_user("bob", may_write=False), hub.add_user("eve")
    (folder.parent / "runs" / "mine").mkdir(parents=True)
    commits = dict(hub.repositories["ada/model"].commits)
    for arguments, words in (
        ({"token": None}, "There is no token to push with"),
        ({"token": ""}, "There is no token to push with"),  # of a variable that is not set
        ({"token": "hf_wrong"}, "does not accept the token (401: Invalid credentials in Authorization header)"),
        (
            {"token": reader, "repo_id": "bob/model"},
            "may not write to bob/model (403: Forbidden: you must use a write",
        ),
        ({"token": eve}, "may not write to ada/model (403: You don't have the rights"),
        ({"token": eve}, 'under the namespace "ada")'),
        ({"repo_id": "runs/mine"}, "runs/mine is also a folder here; what is wanted is a name on the Hub"),
        ({"repo_id": "./runs/mine"}, "'./runs/mine' is no name of a repository: user/name"),
        ({"repo_id": str(folder)}, "is no name of a repository"),
        ({"repo_id": "ada/two words"}, "is no name of a repository"),
        ({"repo_id": ""}, "'' is no name of a repository: user/name, of letters, digits, '-', '_' and '.'. Nothing"),
        ({"private": True}, "is there already and public, but a private repository was asked for"),
        ({"branch": "v1"}, "v1 is a tag or a commit"),
        ({"branch": "0" * 40}, "is a tag or a commit"),
    ):
        given = {"repo_id": "ada/model", "token": target.token, **arguments}
        message = told(folder, HubTarget(**given))
        assert words in message and "Nothing was uploaded." in message, message
    assert "has a tag v1 already" in told(folder, target, tag="v1")
    assert hub.repositories["ada/model"].commits == commits and set(hub.repositories) == {"ada/model"}


def test_the_model_of_somebody_elses_kind_is_not_overwritten(hub, folder, target, encoder_config, processor):
    BertModel(encoder_config).push_to_hub("ada/bert", token=target.token)
    before = on_hub(hub, "ada/bert")
    message = told(folder, HubTarget("ada/bert", token=target.token))
    assert "ada/bert is there already and holds a 'bert', no BNVAE" in message
    # Also on a branch that would begin there.
    assert "holds a 'bert'" in told(folder, HubTarget("ada/bert", "mine", token=target.token))
    assert on_hub(hub, "ada/bert") == before and list(hub.repositories["ada/bert"].branches) == ["main"]
    processor.tokenizer.push_to_hub("ada/weights", token=target.token)
    repository = hub.repositories["ada/weights"]
    push_folder(folder, HubTarget("ada/weights", token=target.token))  # a tokenizer is no model
    files = {"weights/model.gguf": repository.find("main").files["tokenizer.json"]}
    repository.commit("main", "llama", files)
    assert "holds weights/model.gguf, no BNVAE" in told(folder, HubTarget("ada/weights", token=target.token))
    for content in (b"no JSON", b"[1]", b"{}"):
        repository.commit("main", "settings", {"config.json": File(content, False)})
        words = "is there already and holds a config.json of no model, no BNVAE"
        assert words in told(folder, HubTarget("ada/weights", token=target.token)), content


def test_what_a_branch_holds_is_looked_at_on_that_branch(hub, folder, target, caplog):
    dev = replace(target, branch="dev")
    push_folder(folder, target)
    push_folder(folder, dev)
    repository = hub.repositories["ada/model"]
    # A card by hand on the one, none on the other.
    files = repository.find("dev").files
    repository.commit("dev", "Words", {**files, "README.md": File(b"# By hand", False)})
    change(folder)
    push_folder(folder, dev)
    push_folder(folder, target)
    assert on_hub(hub, revision="dev")["README.md"] == b"# By hand"
    assert on_hub(hub)["README.md"] == (folder / "README.md").read_bytes()
    # And then another model on it.
    repository.commit("dev", "BERT", {"config.json": File(b'{"model_type": "bert"}', False)})
    assert "holds a 'bert'" in told(folder, dev)
    push_folder(folder, target)


def test_tokenizer_files_of_another_processor_go_with_it(hub, saved_model, folder, target):
    push_folder(folder, target)
    repository = hub.repositories["ada/model"]
    stale = {"vocab.txt": File(b"x", False), "encoder_tokenizer/vocab.txt": File(b"x", False)}
    repository.commit("main", "Another's", {**repository.find("main").files, **stale})
    alone = folder.parent / "alone"
    saved_model.save_pretrained(alone)
    push_folder(alone, target)  # without a processor: it may be this model's
    assert on_hub(hub).keys() > stale.keys()
    push_folder(folder, target)
    assert not on_hub(hub).keys() & stale.keys()


def test_a_name_alone_is_one_of_the_users_own(hub, folder, target):
    assert push_folder(folder, HubTarget("model", token=target.token)).repo_id == "ada/model"


def test_somebody_elses_commit_meanwhile_is_not_written_over(hub, folder, target):
    push_folder(folder, target)
    change(folder)
    repository = hub.repositories["ada/model"]

    def commit_first(method, path):
        if method == "POST" and path.endswith("/commit/main"):
            repository.commit("main", "Somebody else's", repository.find("main").files)

    hub.on_request = commit_first
    assert "Somebody else changed main of ada/model meanwhile" in told(folder, target)
    assert repository.history()[-1] == "Somebody else's"
    hub.on_request = None
    push_folder(folder, target)
    assert on_hub(hub) == contents(folder)


def test_without_a_network_it_is_told_what_was_kept(folder, hub, run, monkeypatch):
    # A port at which nobody listens, and then a client that is not to ask anybody.
    for name, value, words in (
        ("ENDPOINT", "http://127.0.0.1:9", "The connection to the Hub failed (ConnectError: "),
        ("HF_HUB_OFFLINE", True, "The Hub was not asked, since HF_HUB_OFFLINE is set"),
    ):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        with pytest.raises(SystemExit) as ended:
            run("push_to_hub", str(folder), repo_id="ada/model", token="hf_x")
        message = str(ended.value)
        assert words in message and message.endswith(f"Nothing was uploaded. {folder} is as it was."), message
    assert hub.requests == []


# --- connections that break ------------------------------------------------------------------------------------------


def watch(hub, *wholes: dict[str, bytes]) -> list[int]:
    """Look at main with every request, as a reader would: it must hold one of `wholes`. Returns which it was."""
    seen = []

    def look(method, path):
        if "ada/model" in hub.repositories:
            seen.append(wholes.index(on_hub(hub)))

    hub.on_request = look
    return seen


def test_a_connection_that_drops_once_is_picked_up_again(hub, folder, target):
    push_folder(folder, target)
    old = contents(folder)
    change(folder)
    seen = watch(hub, old, contents(folder))
    hub.drop_connection("PUT", "^/lfs/")
    push_folder(folder, target)
    assert sum(request.startswith("PUT") for request in hub.requests) == 3  # one before, two now
    assert set(seen) == {0} and on_hub(hub) == contents(folder)


def test_an_answer_that_is_lost_leaves_the_whole_new_model_and_pushing_again_is_safe(hub, folder, target):
    push_folder(folder, target, "One")
    change(folder)
    hub.drop_connection("POST", "/commit/", before_answer=True)
    message = told(folder, target, commit_message="Two")
    assert (
        "main of ada/model holds what it held before, or all of the new model if only the answer was lost" in message
    )
    assert on_hub(hub) == contents(folder)
    push_folder(folder, target, "Three")
    assert hub.repositories["ada/model"].history() == ["initial commit", "One", "Two"]


def test_a_tag_that_is_not_given_is_told_from_a_model_that_is_not_pushed(hub, folder, target):
    hub.drop_connection("POST", "/tag/")
    message = told(folder, target, tag="v1")
    assert "The model is on main, and only the tag v1 is missing" in message and "held before" not in message
    assert on_hub(hub) == contents(folder) and hub.repositories["ada/model"].tags == {}
    again = push_folder(folder, target, tag="v1")
    assert again.commit == again.previous == hub.repositories["ada/model"].tags["v1"]


def test_a_commit_that_is_cut_off_leaves_the_old_model(hub, folder, target):
    push_folder(folder, target)
    old = contents(folder)
    change(folder)
    hub.drop_connection("POST", "/commit/")
    told(folder, target)
    assert on_hub(hub) == old != contents(folder)
    push_folder(folder, target)
    assert on_hub(hub) == contents(folder)


@pytest.mark.slow
def test_a_push_that_is_killed_leaves_the_old_model_and_can_be_repeated(hub, saved_model, folder, target, tmp_path):
    push_folder(folder, target)
    old, sent = contents(folder), set(hub.large_files)
    change(folder)
    BNVAEModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="100KB")
    write_card(folder, "ada/model")  # as the push will
    new = contents(folder)
    script = [sys.executable, str(ROOT / "scripts" / "push_to_hub.py"), str(folder), "--repo_id", "ada/model"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    seen = watch(hub, old, new)
    look = hub.on_request
    process = subprocess.Popen([*script, "--token", target.token], env=environment, stdout=subprocess.DEVNULL)

    def kill(method, path):
        look(method, path)
        if method == "PUT" and len(hub.large_files) > len(sent):  # the second shard
            os.kill(process.pid, signal.SIGKILL)

    hub.on_request = kill
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert len(hub.large_files) > len(sent) and on_hub(hub) == old
    hub.on_request = look
    push_folder(folder, target)
    assert set(seen) == {0} and on_hub(hub) == new
    loaded = BNVAEModel.from_pretrained("ada/model").state_dict()
    assert all(torch.equal(tensor, loaded[n]) for n, tensor in BNVAEModel.from_pretrained(folder).state_dict().items())


# --- trainings -------------------------------------------------------------------------------------------------------


def assert_nothing_is_pickled(hub) -> None:
    """In no commit of any repository, by name or by content."""
    files = {
        (path, file.content)
        for repository in hub.repositories.values()
        for commit in repository.commits.values()
        for path, file in commit.files.items()
    }
    assert len(files) > 10
    for path, content in files:
        assert path.endswith((".safetensors", ".json", ".py", ".md", ".png", ".gitattributes")), path
        # A pickle of protocol 2 or later, and what torch.save makes of one.
        assert not content.startswith((b"\x80", b"PK")), path


def test_a_training_pushes_the_model_of_its_checkpoints_and_itself(hub, make_trainer, target, processor):
    arguments = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "hub_always_push": True}
    trainer = make_trainer(push_to_hub=True, hub_model_id="ada/model", hub_token=target.token, **arguments)
    repository = hub.repositories["ada/model"]
    assert repository.history() == ["initial commit"]
    trainer.train()
    assert repository.history()[1:] == ["Training in progress, step 2", "Training in progress, step 4"]
    checkpoint = Path(trainer.args.output_dir, "checkpoint-4")
    there = on_hub(hub)
    assert there.keys() == contents(checkpoint).keys() | CARD and (checkpoint / "optimizer.pt").exists()
    assert {name: there[name] for name in contents(checkpoint)} == contents(checkpoint)
    assert "<HUB_TOKEN>" in on_hub(hub)["training_args.json"].decode() and "processor_config.json" in on_hub(hub)
    assert [path.name for path in Path(trainer.args.output_dir).iterdir()] == ["checkpoint-4"]
    (Path(trainer.args.output_dir) / "README.md").write_text("# Mine")
    trainer.save_model()
    assert repository.history()[3:] == ["Model save"] and on_hub(hub)["README.md"] == b"# Mine"
    change(Path(trainer.args.output_dir))
    pushed = trainer.push_to_hub()
    assert pushed.commit == pushed.previous  # it saves what it has, which is there
    loaded = BNVAEModel.from_pretrained("ada/model").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in trainer.model.state_dict().items())
    assert_nothing_is_pickled(hub)


def test_no_model_of_a_training_stands_below_the_figures_of_another(hub, make_trainer, folder, target, caplog):
    push_folder(folder, target)
    card = BNVAEModelCard.from_json_file(folder / "model_card.json")
    replace(card, figures={"kl": 3.0, "kl_floor": 2.0}, license="mit").save(folder)
    push_folder(folder, target)
    assert b"KL 3.00" in on_hub(hub)["README.md"]
    arguments = {"save_strategy": "steps", "save_steps": 2, "hub_always_push": True, "hub_token": target.token}
    trainer = make_trainer(push_to_hub=True, hub_model_id="ada/model", **arguments)
    trainer.train()
    repository = hub.repositories["ada/model"]
    assert repository.history()[3:] == ["Training in progress, step 2", "Training in progress, step 4"]
    for oid in ancestors(repository)[:2]:
        text = repository.files(oid)["README.md"]
        assert b"KL 3.00" not in text and b"Nobody knows" in text and b"license: mit" in text
    assert caplog.text.count("has no figures") == 1


def test_a_training_that_pushes_is_resumed_as_any(hub, make_trainer, target, tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 2}
    pushing = {"push_to_hub": True, "hub_model_id": "ada/model", "hub_token": target.token}
    plain = make_trainer(output_dir=str(tmp_path / "plain"), **arguments)
    plain.train()
    make_trainer(**arguments, **pushing).train()
    resumed = make_trainer(model={"seed": 1}, **arguments, **pushing)
    resumed.train(resume_from_checkpoint=f"{resumed.args.output_dir}/checkpoint-2")
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_with_the_strategy_end_only_the_end_is_pushed(hub, make_trainer, target):
    arguments = {"save_strategy": "steps", "save_steps": 2, "hub_strategy": "end", "hub_revision": "trained"}
    trainer = make_trainer(push_to_hub=True, hub_model_id="ada/model", hub_token=target.token, **arguments)
    trainer.train()
    repository = hub.repositories["ada/model"]
    assert repository.history("trained") == ["initial commit"]
    trainer.push_to_hub()
    assert repository.history("trained") == ["initial commit", "End of training"]
    assert repository.history("main") == ["initial commit"]


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_strategies_that_upload_optimiser_states_are_refused(strategy, tmp_path, make_trainer):
    with pytest.raises(ValueError, match=f"hub_strategy='{strategy}' uploads the optimiser's .* pickles"):
        BNVAETrainingArguments(str(tmp_path), push_to_hub=True, hub_strategy=strategy, use_cpu=True)
    trainer = make_trainer(hub_strategy=strategy)
    with pytest.raises(ValueError, match="pickles"):
        trainer.push_to_hub()


def test_a_training_that_may_not_push_does_not_begin(hub, make_trainer, target, folder):
    push_folder(folder, target)  # everybody may read it
    for arguments, words in (
        ({"hub_token": "hf_wrong"}, "does not accept the token"),
        ({"hub_token": hub.add_user("eve")}, "may not write to ada/model"),
        ({"hub_token": target.token, "hub_revision": "0" * 40}, "is a tag or a commit"),
    ):
        with pytest.raises(HubError, match=words):
            make_trainer(push_to_hub=True, hub_model_id="ada/model", **arguments)


def test_a_checkpoint_that_is_deleted_while_it_is_pushed_arrives_whole(hub, make_trainer, target, caplog):
    arguments = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
    trainer = make_trainer(push_to_hub=True, hub_model_id="ada/model", hub_token=target.token, **arguments)
    checkpoint, gone = Path(trainer.args.output_dir, "checkpoint-2"), []

    def wait_for_its_end(method, path):
        if "/preupload/" in path:
            until = time.monotonic() + 60
            while checkpoint.exists() and time.monotonic() < until:
                time.sleep(0.02)
            gone.append(not checkpoint.exists())

    hub.on_request = wait_for_its_end
    trainer.train()
    assert gone == [True]
    assert hub.repositories["ada/model"].history() == ["initial commit", "Training in progress, step 2"]
    assert set(on_hub(hub)) == {*contents(Path(trainer.args.output_dir, "checkpoint-4")), *CARD}
    BNVAEModel.from_pretrained("ada/model")
    assert "still under way, so the model of" in caplog.text and "checkpoint-4 is not pushed" in caplog.text
    assert not list(Path(trainer.args.output_dir).glob(".*"))


def test_checkpoints_are_pushed_from_a_file_system_without_links(hub, folder, target, tmp_path, monkeypatch, caplog):
    def refuse(*paths):
        raise OSError("Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    pushes = BackgroundPushes(target, tmp_path / "out")
    pushes.push(folder, "A checkpoint")
    pushes.wait()
    assert "was not pushed" not in caplog.text
    there = on_hub(hub)
    assert {name: there[name] for name in contents(folder)} == contents(folder)
    assert not list((tmp_path / "out").iterdir()) and not (folder / "README.md").exists()


def test_a_push_that_fails_on_the_way_costs_the_training_nothing(hub, make_trainer, target, caplog):
    arguments = {"save_strategy": "steps", "save_steps": 2, "hub_always_push": True}
    trainer = make_trainer(push_to_hub=True, hub_model_id="ada/model", hub_token=target.token, **arguments)
    hub.drop_connection("POST", "/commit/")
    trainer.train()
    assert "checkpoint-2 was not pushed, and the training goes on. The connection to the Hub failed" in caplog.text
    assert hub.repositories["ada/model"].history() == ["initial commit", "Training in progress, step 4"]
    assert trainer.state.global_step == 4 and Path(trainer.args.output_dir, "checkpoint-2").is_dir()


def test_a_model_with_adapters_is_not_pushed_by_a_trainer(hub, make_trainer, make_model, target):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=r"decoder\..*c_attn", modules_to_save=["posterior", "injection"])
    with pytest.raises(ValueError, match="adapters are of no use without the one under them"):
        make_trainer(
            model=get_peft_model(make_model(), config),
            push_to_hub=True,
            hub_model_id="ada/model",
            hub_token=target.token,
        )
    assert hub.repositories == {}


@BOTH
def test_a_script_pushes_what_it_trained_with_its_figures(hub, target, run, script, capsys):
    options = {
        "push_to_hub": "true",
        "hub_model_id": "ada/model",
        "hub_token": target.token,
        "hub_always_push": "true",
    }
    run(script, **QUICK, **options, hub_private_repo="true", output_dir="out")
    repository = hub.repositories["ada/model"]
    steps = [f"Training in progress, step {step}" for step in (1, 2, 3)]
    assert repository.is_private and repository.history() == ["initial commit", *steps, "End of training"]
    assert on_hub(hub) == contents(Path("out")) and "all_results.json" in on_hub(hub)
    assert f"Pushed to {ADDRESS}/ada/model (main)" in capsys.readouterr().out
    assert_nothing_is_pickled(hub)
    # Each commit holds a model that loads, with the code for those without this package.
    for title, oid in zip(repository.history(), reversed(ancestors(repository)), strict=True):
        if title != "initial commit":
            model = BNVAEModel.from_pretrained("ada/model", revision=oid, token=target.token)
            assert model.posterior.is_estimated and set(repository.files(oid)) >= RUNTIME, title
    run(script, **QUICK, **options, output_dir="out")
    assert "push it:        hf-bnvae push out --repo_id ada/model" in capsys.readouterr().out


def test_what_a_training_on_ones_own_folders_pushes_names_and_shows_none_of_them(
    hub, target, run, saved_model, processor, tmp_path
):
    """A pair and a data set in folders: their paths, that of the run, and the texts stay here."""
    mine = tmp_path / "my client"
    for part in ("encoder", "decoder"):
        getattr(saved_model, part).save_pretrained(mine / part)
    processor.encoder_tokenizer.save_pretrained(mine / "encoder")
    processor.tokenizer.save_pretrained(mine / "decoder")
    (mine / "letters").mkdir()
    texts = [f"Letter {i} is about account number {i} ." for i in range(20)]
    (mine / "letters" / "train.txt").write_text("\n".join(texts))
    names = {"encoder_name_or_path": mine / "encoder", "decoder_name_or_path": mine / "decoder"}
    options = {k: v for k, v in QUICK.items() if k not in ("train_file", "hidden_size", "num_layers", "vocab_size")}
    options |= {**names, "dataset_name": mine / "letters", "hub_strategy": "end"}
    pushing = {"push_to_hub": "true", "hub_model_id": "ada/model", "hub_token": target.token}
    run("run_bnvae", **options, **pushing, output_dir=mine / "out")
    there = on_hub(hub)
    shown = {name: content for name, content in there.items() if b"my client" in content}
    assert shown == {} and "my client" in (mine / "out" / "run.json").read_text()
    card = BNVAEModelCard.from_json_file(mine / "out" / "model_card.json")
    assert (card.texts, card.datasets, card.base_models) == ("letters", [], [])
    assert card.examples["reconstructions"] == [] and card.examples["samples"]
    own = json.loads((mine / "out" / "examples.json").read_text())["reconstructions"]
    made = "\n".join([*card.examples["samples"], *card.examples["interpolation"]])
    assert own and not any(text.encode() in there["README.md"] for text, _ in own if text not in made)
    # The same data set is found from elsewhere.
    os.chdir(mine)
    assert BNVAEModelCard.from_folder(mine / "out").texts == "letters"


def ancestors(repository) -> list[str]:
    oids = [repository.branches["main"]]
    while repository.commits[oids[-1]].parent is not None:
        oids.append(repository.commits[oids[-1]].parent)
    return oids


@BOTH
def test_a_push_that_fails_at_the_end_leaves_a_finished_run_and_the_command_for_later(
    hub, target, run, script, capsys
):
    options = {"push_to_hub": "true", "hub_model_id": "ada/model", "hub_token": target.token, "hub_strategy": "end"}
    hub.drop_connection("POST", "/commit/")
    with pytest.raises(SystemExit) as ended:
        run(script, **QUICK, **options, output_dir="my out")
    message = str(ended.value)
    assert "The connection to the Hub failed" in message and "The run is finished and saved in my out" in message
    assert json.loads(Path("my out/run.json").read_text())["finished"] and Path("my out/all_results.json").exists()
    assert "Saved to my out. To load it" in capsys.readouterr().out
    assert hub.repositories["ada/model"].history() == ["initial commit"]
    program, *arguments = shlex.split(message.splitlines()[-1])
    assert program == "hf-bnvae"
    cli.main([*arguments, "--token", target.token])
    assert on_hub(hub) == contents(Path("my out"))


@BOTH
def test_a_script_tells_mistakes_of_the_push_before_it_writes_anything(hub, target, run, script):
    options = {"push_to_hub": "true", "hub_model_id": "ada/model", "hub_token": target.token}
    for more, error, words in (
        ({"hub_token": "hf_wrong"}, HubError, "does not accept the token"),
        ({"hub_model_id": "a/b/c"}, HubError, "is no name of a repository"),
        ({"hub_strategy": "checkpoint"}, ValueError, "pickles"),
        ({"do_eval": "true", "model_name_or_path": "x"}, ValueError, "Push a saved model with `hf-bnvae push`"),
    ):
        with pytest.raises(error, match=words):
            run(script, **QUICK, **{**options, **more}, output_dir="out")
        assert not Path("out").exists()


# --- a machine without the package -----------------------------------------------------------------------------------


@pytest.fixture
def client(hub, tmp_path):
    """A function that loads and uses a model in a fresh process from which the package cannot be seen."""
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
    # What was saved from remote code is what the package saves, and loads with it.
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
    # The decoder's tokenizer by itself is an ordinary one.
    assert AutoTokenizer.from_pretrained(saved_folder)(TEXTS[0])["input_ids"]


# --- from a wheel ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_a_wheel_a_script_trains_and_pushes_what_loads_without_the_package(
    hub, target, run, wheel_site, client, tmp_path
):
    """No file of the checkout is in sight but the scripts."""
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
