"""One call evaluates and reports: figures and pictures are those of the library's own functions, every text is encoded
once, and a folder is known by its report."""

import json
from dataclasses import asdict

import pytest
import torch
from counting import encoded_texts
from datasets import Dataset

from hf_bnvae.evaluation import evaluate_model
from hf_bnvae.evaluation.encoding import encode_corpus
from hf_bnvae.reporting.evaluate_and_report import (
    EvaluatedTexts,
    evaluate_and_report,
    joined_encodings,
    read_log_history,
)
from hf_bnvae.reporting.provenance import TextSource
from hf_bnvae.reporting.report import Examples, render_examples, render_figures
from hf_bnvae.reporting.report_files import EVALUATION, TRAINING, is_report, read_report

QUICK = {"batch_size": 16, "num_importance_samples": 2, "max_importance_sentences": 8, "show_progress": False}


def evaluated(texts: list[str]) -> EvaluatedTexts:
    source = TextSource.of_file("/home/me/mine.txt")
    return EvaluatedTexts(texts, "0" * 64, source, Dataset.from_dict({"text": texts}))


@pytest.fixture(scope="module")
def made(trained_model, texts, tmp_path_factory):
    """A report, and the numbers of texts that were encoded for it at once."""
    about = {"kind": EVALUATION, "name_or_path": "mine", "command": "python mine.py", "settings": {"seed": 3}}
    with encoded_texts() as counts:
        report = evaluate_and_report(
            trained_model, evaluated(texts[:40]), **about, **QUICK, num_examples=3, seed=3, compared_with=[]
        )
    return report, counts


def test_every_text_is_encoded_once(made, trained_model, processor, texts):
    _, counts = made
    assert sum(counts) == 40
    with encoded_texts() as again:  # the control: the counter sees an encoding
        encode_corpus(trained_model, processor, texts[:3])
    assert again == [3]


def test_figures_are_those_of_an_evaluation(made, trained_model, processor, texts):
    report, _ = made
    alone = evaluate_model(trained_model, texts[:40], processor, **QUICK, seed=3)
    assert report.result == alone and report.record["figures"] == asdict(alone)
    other = evaluate_model(trained_model, texts[:40], processor, **QUICK, seed=4)
    assert other.reconstruction_nll != alone.reconstruction_nll


def test_kl_per_dimension_is_that_of_the_encoded_texts(made, trained_model, processor, texts):
    report, _ = made
    expected, other = (
        encode_corpus(trained_model, processor, part).posterior.kl().mean(0).tolist()
        for part in (texts[:40], texts[40:80])
    )
    assert report.record["kl_per_dimension"] == pytest.approx(expected, rel=1e-9)
    assert report.record["kl_per_dimension"] != pytest.approx(other, rel=1e-2)


def test_examples_are_what_the_model_makes_of_the_texts(made, trained_model, texts):
    examples = made[0].record["examples"]
    greedy = {"do_sample": False}
    assert examples["reconstructions"] == list(
        zip(texts[:3], trained_model.reconstruct(texts[:3], **greedy), strict=True)
    )
    assert examples["samples"] == trained_model.sample(3, seed=3, **greedy)
    assert examples["interpolation"] == trained_model.interpolate(texts[0], texts[1], steps=9, **greedy)
    assert examples["samples"] != trained_model.sample(3, seed=4, **greedy)


def test_the_markdown_holds_figures_and_texts(made):
    report, _ = made
    assert render_figures(report.result) in report.markdown
    for text in report.record["examples"]["samples"]:
        assert f"- {text}" in report.markdown
    assert "python mine.py" in report.markdown and "Samples of the fitted prior" in report.markdown


def test_a_probe_gets_the_encoded_texts(trained_model, processor, texts):
    seen = []

    def probe(encoded):
        seen.append(encoded)
        return {"labels": "x"}

    about = {"kind": EVALUATION, "name_or_path": "mine", "command": "", "settings": {}}
    report = evaluate_and_report(trained_model, evaluated(texts[:20]), **about, **QUICK, probe=probe)
    assert report.record["probe"] == {"labels": "x"} and len(seen) == 1
    expected = encode_corpus(trained_model, processor, texts[:20])
    for name in ("features", "mean", "logvar"):
        torch.testing.assert_close(getattr(seen[0], name), getattr(expected, name))
    assert not torch.allclose(seen[0].mean, expected.mean.flip(0))


def test_saving_removes_what_an_earlier_evaluation_left(made, tmp_path):
    (tmp_path / "training_curves.png").write_text("of an earlier model")
    (tmp_path / "notes.txt").write_text("mine")
    made[0].save(tmp_path)
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {*made[0].record["files"], "notes.txt"}
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(made[0].record))
    assert (tmp_path / "report.md").read_text() == made[0].markdown


def test_a_report_is_known_by_its_kind(made, tmp_path):
    made[0].save(tmp_path)
    file = tmp_path / "report.json"
    assert is_report(file, EVALUATION) and is_report(file, TRAINING, EVALUATION) and not is_report(file, TRAINING)
    for content in ('{"sales": 3}', "[]", "{", "\udce9".encode("utf-8", "surrogatepass")):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert not is_report(file, EVALUATION, TRAINING)
    assert not is_report(tmp_path / "missing.json", EVALUATION)


def test_reports_are_read_from_their_folder_or_file(made, tmp_path):
    made[0].save(tmp_path)
    assert read_report(str(tmp_path)) == read_report(str(tmp_path / "report.json"))
    assert read_report(str(tmp_path))["figures"] == made[0].record["figures"]
    (tmp_path / "report.json").write_text('{"sales": 3}')
    with pytest.raises(ValueError, match=r"is no evaluation: it must be a report\.json"):
        read_report(str(tmp_path))


def test_a_report_without_the_newer_entries_can_be_compared_with(made, trained_model, texts):
    old = json.loads(json.dumps(made[0].record))
    del old["hardware"], old["data"]["public_source"], old["data"]["is_public"]
    about = {"kind": EVALUATION, "name_or_path": "new", "command": "", "settings": {"seed": 0}}
    report = evaluate_and_report(trained_model, evaluated(texts[:20]), **about, **QUICK, compared_with=[old])
    assert report.record["compared_with"] == [
        {
            "name": "mine",
            "same_texts": True,
            **{name: old["figures"][name] for name in ("kl", "reconstruction_nll", "mutual_information")},
        }
    ]
    assert "rate_distortion.png" in report.pictures


def test_without_a_comparison_there_is_no_picture_of_rates(trained_model, texts):
    about = {"kind": TRAINING, "name_or_path": "new", "command": "", "settings": {"seed": 0}}
    report = evaluate_and_report(trained_model, evaluated(texts[:20]), **about, **QUICK)
    assert set(report.pictures) == {"kl_per_dimension.png", "aggregated_posterior.png"}


def test_encodings_are_joined_in_the_order_of_their_parts(trained_model, processor, texts):
    whole = encode_corpus(trained_model, processor, texts[:30])
    parts = [encode_corpus(trained_model, processor, part) for part in (texts[:20], texts[20:30])]
    joined, turned = joined_encodings(parts), joined_encodings(parts[::-1])
    for name in ("features", "mean", "logvar"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name))
    assert not torch.allclose(turned.mean, whole.mean)


def test_a_damaged_log_of_a_training_is_noted(tmp_path):
    assert read_log_history(str(tmp_path)) == (None, [])
    file = tmp_path / "trainer_state.json"
    file.write_text('{"log_history": [{"step": 1}]}')
    assert read_log_history(str(tmp_path)) == ([{"step": 1}], [])
    for damaged in ("{", "{}"):
        file.write_text(damaged)
        log, (note,) = read_log_history(str(tmp_path))
        assert log is None and "no training curves" in note and str(file) in note


def test_examples_without_reconstructions_can_be_shown(made):
    examples = made[0].record["examples"]
    assert "Reconstructions" not in render_examples(Examples(**{**examples, "reconstructions": []}))
    assert "Reconstructions" in render_examples(Examples(**examples))
