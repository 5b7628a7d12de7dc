"""Trainings on texts with conditions as a user runs them: both loops, resumed, evaluated, asked for texts."""

import io
import json
import os
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import tiny
import torch
from paths import SCRIPTS
from test_training_scripts import interrupted_at

from hf_bnvae import BNVAEModel

OPTIONS = {**tiny.SCRIPT_OPTIONS, "train_file": "talks.jsonl", "text_column": "answers", "condition_column": "turns"}


def write_talks(folder: Path) -> None:
    """25 contexts, each a list of turns with two answers. One context is empty."""
    rows = [
        {"turns": [f"Question {i} ?", "And so on ."][: 1 + i % 2], "answers": [f"Yes , {i} .", f"No , not {i} ."]}
        for i in range(25)
    ]
    rows[3] = {"turns": [], "answers": ["Hello .", "Good morning ."]}
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, rows)))


def start(script: str, *arguments: str, **options) -> str:
    """Run a script in this process: what it prints."""
    path = str(SCRIPTS / f"{script}.py")
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [path, *arguments, *flags])
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a finished run, `out`, and of the texts; and what the run printed. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("conditional")
    write_talks(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, start("run_bnvae", output_dir="out", **OPTIONS)


@pytest.fixture
def inside(finished, monkeypatch) -> Path:
    monkeypatch.chdir(finished[0])
    return finished[0]


def report_of(folder: str) -> dict:
    return json.loads(Path(folder, "report.json").read_text())


def test_a_run_shows_conditions_and_how_to_give_them(finished):
    folder, printed = finished
    examples = report_of(folder / "out")["examples"]
    assert len(examples["conditions"]) == len(examples["reconstructions"]) > 1
    assert "Reconstructions (condition, text, then what is decoded from its mean)" in printed
    assert "Samples of the fitted prior, under the condition: " in printed
    assert 'model.sample(3, condition="A context of your own .")' in printed
    assert BNVAEModel.from_pretrained(folder / "out").config.conditional
    card = (folder / "out" / "README.md").read_text()
    assert "Both networks are given the text's condition, too." in card
    assert "`model.sample(5, condition=context)`" in card and "`model.sample(5)`" not in card
    figures = report_of(folder / "out")["figures"]
    assert figures["latent_gain_within_num_sentences"] == figures["num_sentences"]  # two answers to each context
    assert figures["latent_gain_within"] != figures["latent_gain"]


def test_the_held_out_texts_are_evaluated_again_with_their_conditions(inside):
    start("run_evaluation", model="out", output_dir="again", device="cpu", num_importance_samples=10)
    again, own = report_of("again"), report_of("out")
    assert again["data"]["sha256"] == own["data"]["sha256"]
    # The estimators draw with other seeds; the KL is a function of texts and conditions.
    assert again["figures"]["kl"] == pytest.approx(own["figures"]["kl"], rel=1e-4)


def test_an_evaluation_asks_for_conditions_and_refuses_them_elsewhere(inside, trained_folder):
    files = {"file": "talks.jsonl", "text_column": "answers", "device": "cpu", "num_importance_samples": 2}
    with pytest.raises(SystemExit, match=r"out was trained with conditions.*--condition_column"):
        start("run_evaluation", model="out", output_dir="refused", **files)
    with pytest.raises(SystemExit, match=r"trained without conditions\. Leave --condition_column out"):
        start("run_evaluation", model=trained_folder, output_dir="refused", condition_column="turns", **files)
    assert not Path("refused").exists()


def test_texts_are_made_under_a_condition(inside):
    given = {"model": "out", "device": "cpu", "max_new_tokens": 8}
    lines = start("generate_text", "sample", condition="Question 3 ?", num_samples=2, seed=0, **given).splitlines()
    model = BNVAEModel.from_pretrained("out").eval()
    assert lines == model.sample(2, condition="Question 3 ?", seed=0, do_sample=False, max_new_tokens=8)
    with pytest.raises(SystemExit, match="condition is missing"):
        start("generate_text", "reconstruct", "Yes .", **given)
    both = {"condition": "Question 3 ?", "text_condition": "Question 4 ?"}
    transferred = start("generate_text", "reconstruct", "Yes .", **both, **given).splitlines()
    assert transferred == model.reconstruct(["Yes ."], **both, do_sample=False, max_new_tokens=8)
    # Several of them are the turns of one condition.
    turns = {"condition": ("Question 3 ?", "Oh ?"), "text_condition": ("Hello .", "Question 4 ?")}
    options = [word for name, own in turns.items() for turn in own for word in (f"--{name}", turn)]
    drawn = {"max_new_tokens": 8, "num_return_sequences": 20, "do_sample": True, "seed": 0}

    def made(of_condition, of_text) -> list[str]:
        both = {"condition": of_condition(turns["condition"]), "text_condition": of_text(turns["text_condition"])}
        return [" ".join(text.split()) for text in model.reconstruct("Yes .", **both, **drawn)]

    more = {"device": "cpu", "model": "out", **{k: v for k, v in drawn.items() if k != "do_sample"}}
    lines = start("generate_text", "reconstruct", "Yes .", "--do_sample", *options, **more).splitlines()
    assert lines == made("\n".join, "\n".join)
    # The controls: a turn is lost on either side.
    for other in (made(lambda own: own[-1], "\n".join), made("\n".join, lambda own: own[-1])):
        assert lines != other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "out", "condition_column": None}, r"out was trained with conditions.*--condition_column"),
        ({"condition_column": "answers"}, r"cannot hold both texts and conditions"),
        ({"condition_column": "context"}, r"has no column 'context'.*turns, answers.*condition_column"),
        ({"train_file": None, "text_column": None}, r"condition_column='turns' names a column of your texts"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(inside, options, words):
    given = {name: value for name, value in {**OPTIONS, **options}.items() if value is not None}
    if "model" in options:
        for name in ("hidden_size", "num_layers", "latent_size", "vocab_size"):
            given.pop(name)
    with pytest.raises(SystemExit, match=words):
        start("run_bnvae", output_dir="refused", **given)
    assert not Path("refused").exists()


def test_a_model_without_conditions_does_not_go_on_with_them(inside, trained_folder):
    options = {name: OPTIONS[name] for name in ("train_file", "text_column", "condition_column", "use_cpu")}
    with pytest.raises(SystemExit, match=r"trained without conditions and cannot take --condition_column turns"):
        start("run_bnvae", model=trained_folder, output_dir="refused", **options)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["run_bnvae", "run_bnvae_no_trainer"])
def test_a_stopped_run_ends_as_if_never_stopped(tmp_path, monkeypatch, script):
    write_talks(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = {**OPTIONS, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "save_steps": 2}
    options |= {"encoder_dropout": 0.1, "auxiliary": "bag_of_words"}
    start(script, output_dir="whole", **options)
    with interrupted_at(5, monkeypatch):
        start(script, output_dir="stopped", **options)
    start(script, output_dir="stopped", **options)
    whole, resumed = (BNVAEModel.from_pretrained(name).state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start(script, output_dir="other", **{**options, "seed": 1})  # control
    other = BNVAEModel.from_pretrained("other").state_dict()
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.slow
def test_both_loops_make_the_same_model(tmp_path, monkeypatch):
    write_talks(tmp_path)
    monkeypatch.chdir(tmp_path)
    for script in ("run_bnvae", "run_bnvae_no_trainer"):
        start(script, output_dir=script, **OPTIONS, gradient_accumulation_steps=2, encoder_dropout=0.1)
    first, second = (BNVAEModel.from_pretrained(name).state_dict() for name in ("run_bnvae", "run_bnvae_no_trainer"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert report_of("run_bnvae")["figures"] == report_of("run_bnvae_no_trainer")["figures"]
    assert os.path.isdir("run_bnvae")
