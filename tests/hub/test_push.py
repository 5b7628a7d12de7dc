"""Pushing to the Hub and loading from there, with the real client over HTTP and a Hub on this machine.

What a reader sees is compared with the files of the folder that was pushed. What a loaded model makes is compared, to
the bit, with what the model made before it was pushed."""

import copy
from dataclasses import replace

import pytest
import torch
from loopback_hub import File
from pushing import CARD, RUNTIME, change, contents, equal, on_hub, told
from remote_client import use
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoProcessor, BertModel, pipeline

from hf_bnvae import BNVAEConfig, BNVAEModel, BNVAEProcessor
from hf_bnvae.hub.push import push_folder
from hf_bnvae.hub.target import HubTarget


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
    # Someone who trusts the repository's code gets the classes of the installed package all the same.
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
    (folder / "README.md").write_text("mine ![](kl.png)")
    (folder / "kl.png").write_bytes(b"picture")
    (folder / "training_args.json").write_text("{}")
    push_folder(folder, target)
    shards = folder.parent / "shards"
    saved_model.save_pretrained(shards, max_shard_size="100KB")
    push_folder(shards, target)
    there = on_hub(hub)
    # Otherwise loading would take the old weights instead of the new shards.
    assert "model.safetensors" not in there and "training_args.json" not in there
    ours = {name: content for name, content in contents(shards).items() if name != "README.md"}
    assert {name: there[name] for name in ours} == ours
    # Somebody may have pushed a processor alone, or written a card on the Hub.
    assert there["README.md"] == b"mine ![](kl.png)" and "kl.png" in there and "processor_config.json" in there
    loaded = BNVAEModel.from_pretrained("ada/model").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in saved_model.state_dict().items())
    push_folder(folder, target)
    assert on_hub(hub) == contents(folder)


def test_revisions_are_branches_tags_and_commits(hub, folder, target, run, capsys):
    first = push_folder(folder, target, tag="v1")
    weights = {"v1": load_file(folder / "model.safetensors")}
    change(folder)
    options = {"repo_id": "ada/model", "token": target.token, "branch": "try-out", "tag": "v2"}
    run("push_to_hub", str(folder), **options, commit_message="Other weights")
    printed = capsys.readouterr().out
    assert f"its earlier files are in commit {first.commit}" in printed and "revision='v2'" in printed
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
        ({"repo_id": "runs/mine"}, "runs/mine is also a folder here, but a name on the Hub is needed"),
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
    # A new branch of that repository would hold it too.
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
    # One branch has a card that was written by hand, the other has none.
    files = repository.find("dev").files
    repository.commit("dev", "Words", {**files, "README.md": File(b"# By hand", False)})
    change(folder)
    push_folder(folder, dev)
    push_folder(folder, target)
    assert on_hub(hub, revision="dev")["README.md"] == b"# By hand"
    assert on_hub(hub)["README.md"] == (folder / "README.md").read_bytes()
    # Then the branch gets a model of another kind.
    repository.commit("dev", "BERT", {"config.json": File(b'{"model_type": "bert"}', False)})
    assert "holds a 'bert'" in told(folder, dev)
    push_folder(folder, target)


def test_tokenizer_files_of_another_processor_go_with_it(hub, saved_model, folder, target):
    push_folder(folder, target)
    repository = hub.repositories["ada/model"]
    stale = {"vocab.txt": File(b"x", False), "encoder_tokenizer/vocab.txt": File(b"x", False)}
    repository.commit("main", "Another's", {**repository.find("main").files, **stale})
    alone = folder.parent / "alone"
    bare = copy.copy(saved_model)
    bare._processor = bare._origin = None
    bare.save_pretrained(alone)
    push_folder(alone, target)  # this push has no processor, and the one on the Hub may belong to the model
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
    # First nobody listens at the port. Then the client must not ask anybody.
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
