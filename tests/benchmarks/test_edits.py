"""The benchmark of edits on a small model: its figures against plain loops, and mistakes of a user."""

import json
import runpy
import sys

import pytest
import torch
from paths import SCRIPTS
from transformers import GPT2Config, GPT2LMHeadModel

from hf_bnvae import BNVAEModel
from hf_bnvae.benchmarks.edits import judge_edits, read_models, train_text_classifier
from hf_bnvae.benchmarks.embeddings import LabelledTexts
from hf_bnvae.benchmarks.tables.edits import render_edits
from hf_bnvae.evaluation import reconstruction_bleu
from hf_bnvae.evaluation.judges import LanguageModelJudge

pytestmark = pytest.mark.slow

QUIET = {"do_sample": False, "show_progress": False}


@pytest.fixture(scope="module")
def labelled(texts) -> LabelledTexts:
    labels = ["long" if len(text) > 35 else "short" for text in texts]
    return LabelledTexts("length", (texts[:250], labels[:250]), (texts[250:330], labels[250:330]))


@pytest.fixture(scope="module")
def judge(processor, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("judge"))
    torch.manual_seed(9)
    size = len(processor.tokenizer)
    config = GPT2Config(
        vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=80, bos_token_id=0, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    processor.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def record(labelled, judge, trained_folder):
    models = [("one", trained_folder), ("two", trained_folder), ("two", trained_folder)]
    return judge_edits(models, labelled, judge, strengths=(0.0, 1.5), num_direction_texts=200, num_texts=50)


def test_figures_are_those_of_edits_one_by_one(record, labelled, judge, trained_folder):
    model = BNVAEModel.from_pretrained(trained_folder).eval()
    direction = model.fit_direction(labelled.train[0][:200], labelled.train[1][:200])
    sources, classes = labelled.test[0][:50], labelled.test[1][:50]
    classifier, language_model = train_text_classifier(*labelled.train), LanguageModelJudge(judge)
    for place, strength in enumerate((0.0, 1.5)):
        # From long to short texts is the positive way.
        signs = [1 if label == "long" else -1 for label in classes]
        edited = [model.edit(t, direction, sign * strength, **QUIET) for t, sign in zip(sources, signs, strict=True)]
        flipped = [classifier.predict([t])[0] != label for t, label in zip(edited, classes, strict=True)]
        found = record["models"][0]["edits"][place]
        assert found["strength"] == strength
        assert found["flipped"] == [pytest.approx(sum(flipped) / 50)]
        assert found["bleu"] == [pytest.approx(reconstruction_bleu(edited, sources), rel=1e-4)]
        assert found["perplexity"] == [pytest.approx(language_model.perplexity(edited), rel=1e-3)]
        assert [row[place] for row in record["models"][0]["examples"]] == edited[:4]
    zero, far = record["models"][0]["edits"]
    assert zero != {**far, "strength": 0.0}
    assert record["texts"]["bleu"] == pytest.approx(100)
    assert record["texts"]["flipped"] == pytest.approx(sum(classifier.predict(sources) != classes) / 50)


def test_a_conditional_model_decodes_under_the_other_class(labelled, judge, trained_folder, answering_folder):
    models = [("one", trained_folder), ("classes", answering_folder)]
    record = judge_edits(models, labelled, judge, strengths=(1.5,), num_direction_texts=200, num_texts=50)
    model = BNVAEModel.from_pretrained(answering_folder).eval()
    sources, own = labelled.test[0][:50], labelled.test[1][:50]
    other = [{"long": "short", "short": "long"}[label] for label in own]
    classifier, found = train_text_classifier(*labelled.train), record["models"][1]
    made = []
    for name, conditions, edit in zip(("own", "other"), (own, other), found["edits"], strict=True):
        made.append(
            [
                model.reconstruct(text, text_condition=encoded, condition=decoded, **QUIET)
                for text, encoded, decoded in zip(sources, own, conditions, strict=True)
            ]
        )
        flipped = sum(classifier.predict([t])[0] != label for t, label in zip(made[-1], own, strict=True))
        assert (edit["condition"], edit["flipped"]) == (name, [pytest.approx(flipped / 50)])
        assert edit["bleu"] == [pytest.approx(reconstruction_bleu(made[-1], sources), rel=1e-4)]
    assert made[0] != made[1] and found["examples"] == [list(pair) for pair in zip(*made, strict=True)][:4]
    latents = model.encode_texts(labelled.train[0][:200], condition=labelled.train[1][:200])
    accuracy = model.fit_direction(latents, labelled.train[1][:200]).held_out_accuracy
    assert found["held_out_accuracy"] == [pytest.approx(accuracy)]
    page = render_edits(record)
    assert "| own class | other class |" in " ".join(page.split()) and "needs no direction" in page
    with pytest.raises(ValueError, match="Some models named a are conditional"):
        judge_edits([("a", trained_folder), ("a", answering_folder)], labelled, judge, num_texts=10)


def test_models_of_one_name_share_a_row(record):
    assert [(model["name"], model["num_models"]) for model in record["models"]] == [("one", 1), ("two", 2)]
    one, two = (model["edits"][1]["flipped"] for model in record["models"])
    assert two == one * 2
    page = render_edits(record)
    assert "± 0.0" in page and "needs no direction" not in page and page.count("| two ") == 1 + len(record["examples"])


def test_a_judge_that_is_a_part_of_the_model_is_refused(labelled, trained_folder, tmp_path):
    model = BNVAEModel.from_pretrained(trained_folder)
    model.decoder.save_pretrained(tmp_path)
    model.processor.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="judge"):
        judge_edits([("one", trained_folder)], labelled, str(tmp_path), num_texts=10)


def test_models_have_names(tmp_path):
    (tmp_path / "a").mkdir()
    assert read_models([f"x, 2=={tmp_path}/a", f"{tmp_path}/a"]) == [
        ("x, 2=", f"{tmp_path}/a"),
        ("a", f"{tmp_path}/a"),
    ]
    with pytest.raises(ValueError, match="There is no folder nowhere"):
        read_models(["x=nowhere"])


@pytest.mark.slow
def test_the_script_prints_the_table_and_writes_the_record(
    labelled, judge, trained_folder, tmp_path, monkeypatch, capsys
):
    files = {}
    for name, (texts, labels) in {"train": labelled.train, "valid": labelled.test}.items():
        files[name] = tmp_path / f"{name}.tsv"
        rows = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
        files[name].write_text("\n".join(["text\tlabel", *rows]))
    argv = ["benchmark_edits.py", f"a={trained_folder}", "--train_file", files["train"]]
    argv += ["--validation_file", files["valid"], "--judge_language_model", judge, "--num_texts", "20"]
    argv += ["--output_file", tmp_path / "edits.json"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in argv])
    runpy.run_path(str(SCRIPTS / "benchmark_edits.py"), run_name="__main__")
    record = json.loads((tmp_path / "edits.json").read_text())
    assert capsys.readouterr().out.strip() == render_edits(record) and record["num_texts"] == 20
