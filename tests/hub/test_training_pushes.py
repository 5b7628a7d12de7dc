"""What a training pushes, and what it keeps for itself, as the Hub's commits show."""

import json
import os
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import cases
from loopback_hub import ADDRESS
from pushing import BOTH, CARD, QUICK, RUNTIME, ancestors, change, contents, on_hub

from hf_bnvae import BNVAEModel, BNVAETrainingArguments, cli
from hf_bnvae.hub.push import BackgroundPushes, push_folder
from hf_bnvae.hub.target import HubError
from hf_bnvae.reporting.model_card import BNVAEModelCard

pytestmark = pytest.mark.slow


def assert_nothing_is_pickled(hub) -> None:
    """No commit of any repository holds a pickle, judged by the names and the contents of its files."""
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
    assert pushed.commit == pushed.previous  # the trainer saves its own weights again, which the Hub has already
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


@pytest.mark.slow
@BOTH
def test_a_script_pushes_what_it_trained_with_its_figures(hub, target, run, script, capsys):
    options = {
        "push_to_hub": "true",
        "hub_model_id": "ada/model",
        "hub_token": target.token,
        "hub_always_push": "true",
        "save_strategy": "epoch",
    }
    run(script, **QUICK, **options, hub_private_repo="true", output_dir="out")
    repository = hub.repositories["ada/model"]
    steps = [f"Training in progress, step {step}" for step in (1, 2, 3)]
    assert repository.is_private and repository.history() == ["initial commit", *steps, "End of training"]
    assert on_hub(hub) == contents(Path("out")) and "all_results.json" in on_hub(hub)
    assert f"Pushed to {ADDRESS}/ada/model (main)" in capsys.readouterr().out
    assert_nothing_is_pickled(hub)
    # Each commit holds a model that loads, and the code for readers without this package.
    for title, oid in zip(repository.history(), reversed(ancestors(repository)), strict=True):
        if title != "initial commit":
            model = BNVAEModel.from_pretrained("ada/model", revision=oid, token=target.token)
            assert model.posterior.is_estimated and set(repository.files(oid)) >= RUNTIME, title
    run(script, **QUICK, **options, output_dir="out")
    assert "push it:        hf-bnvae push out --repo_id ada/model" in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_training_on_ones_own_folders_pushes_names_and_shows_none_of_them(
    hub, target, run, saved_model, processor, tmp_path
):
    """The pair and the data set lie in folders. Their paths, the path of the run, and the texts are not pushed."""
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
    # From another folder the same data set has the same name.
    os.chdir(mine)
    assert BNVAEModelCard.from_folder(mine / "out").texts == "letters"


@pytest.mark.parametrize("script", cases(["run_bnvae", "run_bnvae_no_trainer"], quick=["run_bnvae"]))
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
    for more, words in (
        ({"hub_token": "hf_wrong"}, "does not accept the token"),
        ({"hub_model_id": "a/b/c"}, "is no name of a repository"),
        ({"hub_strategy": "checkpoint"}, "pickles"),
        ({"do_eval": "true", "model_name_or_path": "x"}, "Push a saved model with `hf-bnvae push`"),
    ):
        with pytest.raises(SystemExit, match=words):
            run(script, **QUICK, **{**options, **more}, output_dir="out")
        assert not Path("out").exists()
