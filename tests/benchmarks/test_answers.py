"""The benchmark of many answers: figures of conditional models against the library's own, and its tables."""

import copy
import json
import runpy
import sys
from io import StringIO

import pytest
import torch
from paths import SCRIPTS
from transformers import BertModel

from hf_bnvae import BNVAEModel
from hf_bnvae.benchmarks.answers import judge_answering
from hf_bnvae.benchmarks.tables.answers import render_answers
from hf_bnvae.data.corpora import load_text_set
from hf_bnvae.evaluation.answers import judge_answers
from hf_bnvae.evaluation.condition_probe import share_explained
from hf_bnvae.evaluation.judges import EncoderJudge

pytestmark = pytest.mark.slow

COLUMNS = {"text_column": "answers", "condition_column": "asked"}


@pytest.fixture(scope="module")
def files(texts, encoder_config, processor, tmp_path_factory):
    """Contexts with four answers each, and an encoder that no model has."""
    folder = tmp_path_factory.mktemp("answers")
    by_word: dict[str, list[str]] = {}
    for text in texts[:200]:
        by_word.setdefault(text.split()[0], []).append(text)
    for name, part in (("train", slice(4, 20)), ("test", slice(0, 4))):
        rows = [{"asked": f"{word} ?", "answers": own[part]} for word, own in by_word.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    torch.manual_seed(5)
    BertModel(copy.deepcopy(encoder_config)).save_pretrained(folder / "judge")
    processor.encoder_tokenizer.save_pretrained(folder / "judge")
    return folder


@pytest.fixture(scope="module")
def record(files, answering_folder):
    pairs = [load_text_set(str(files / f"{name}.jsonl"), **COLUMNS) for name in ("train", "test")]
    models = [("ours", answering_folder), ("ours", answering_folder), ("other", answering_folder)]
    return judge_answering(models, *pairs, str(files / "judge"), num_answers=3)


def test_figures_are_those_of_the_library(record, files, answering_folder):
    model = BNVAEModel.from_pretrained(answering_folder).eval()
    rows = [json.loads(line) for line in (files / "test.jsonl").read_text().splitlines()]
    answers = model.sample(3, condition=[row["asked"] for row in rows], seed=0, do_sample=False, batch_size=256)
    expected = judge_answers(answers, [row["answers"] for row in rows], EncoderJudge(str(files / "judge")))
    ours, other = record["models"]
    assert (ours["name"], len(ours["figures"]), len(other["figures"])) == ("ours", 2, 1)
    for name in ("bleu_recall", "embedding_f1", "distinct_2_within"):
        assert ours["figures"][0][name] == pytest.approx(getattr(expected, name))
    assert ours["examples"] == answers[:3] and record["num_contexts"] == len(rows)
    parts = []
    for name in ("train", "test"):
        pairs = load_text_set(str(files / f"{name}.jsonl"), **COLUMNS)
        parts.append(EncoderJudge(str(files / "judge")).embed(pairs["condition"][:]))
        parts.append(model.encode_texts(pairs["text"][:], condition=pairs["condition"][:]))
    assert ours["figures"][0]["condition_share"] == pytest.approx(share_explained(*parts), abs=1e-3)


def test_people_are_judged_by_halves(record, files):
    rows = [json.loads(line)["answers"] for line in (files / "test.jsonl").read_text().splitlines()]
    expected = judge_answers([own[:2] for own in rows], [own[2:] for own in rows])
    assert record["people"]["bleu_f1"] == pytest.approx(expected.bleu_f1)


def test_the_tables_show_every_model_with_its_spread(record):
    shown = render_answers(record)
    assert shown.count("| ours ") == 2 + len(record["examples"]) and "| people |" in shown.replace("  ", "")
    assert record["examples"][0]["condition"] in shown and record["models"][0]["examples"][0][0] in shown


def test_the_script_prints_the_tables_and_keeps_the_figures(
    files, answering_folder, trained_folder, tmp_path, monkeypatch, capsys
):
    options = {"train_file": files / "train.jsonl", "test_file": files / "test.jsonl", "text_column": "answers"}
    options |= {"condition_column": "asked", "judge_encoder": files / "judge", "num_answers": 2}
    script = str(SCRIPTS / "benchmark_answers.py")

    def run(model: str, **more) -> str:
        flags = [part for name, value in {**options, **more}.items() for part in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", [script, model, *flags])
        monkeypatch.setattr(sys, "stdout", StringIO())
        runpy.run_path(script, run_name="__main__")
        return sys.stdout.getvalue()

    assert "BLEU precision" in run(f"one={answering_folder}", output_file=tmp_path / "answers.json")
    assert json.loads((tmp_path / "answers.json").read_text())["models"][0]["name"] == "one"
    with pytest.raises(SystemExit, match="was trained without conditions, so it answers nothing"):
        run(f"two={trained_folder}")
    for file, words in (("answers.json", "exists already"), ("none/answers.json", "none does not exist")):
        with pytest.raises(SystemExit):  # before any work
            run(f"two={trained_folder}", output_file=tmp_path / file)
        assert words in capsys.readouterr().err
    assert json.loads((tmp_path / "answers.json").read_text())["models"][0]["name"] == "one"
