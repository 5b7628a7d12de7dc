"""The script that judges latents as embeddings, as a user would start it."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paths import SCRIPTS

from hf_bnvae.benchmarks.embeddings import ScoredPairs


@pytest.fixture
def run(monkeypatch, capsys, trained_folder):
    """A function that runs the script on the trained model: what it prints."""

    def start(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmark_embeddings.py", trained_folder, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / "benchmark_embeddings.py"), run_name="__main__")
        return capsys.readouterr().out

    return start


@pytest.fixture
def write_pairs(tmp_path, texts):
    """A function that writes pairs of texts: the file. `scores` are the words in its last column."""

    def write(scores: list[str], first: str = '"quoted', header: str = "sentence1\tsentence2\tscore"):
        others = zip(texts[:20], texts[20:40], strict=True)
        pairs = [(first, "None"), *others][: len(scores)]
        lines = ["\t".join((*pair, score)) for pair, score in zip(pairs, scores, strict=True)]
        file = tmp_path / "pairs.tsv"
        file.write_text("\n".join([header, *lines]))
        return file

    return write


@pytest.fixture
def write_labelled(tmp_path, texts):
    """A function that writes two files of labelled texts: the files."""

    def write(name: str, label: Callable[[int], object] = lambda number: number % 2) -> tuple[Path, Path]:
        files = tuple(tmp_path / f"{name}.{part}.jsonl" for part in ("train", "test"))
        for start, file in zip((0, 40), files, strict=True):
            rows = ({"text": text, "label": label(number)} for number, text in enumerate(texts[start : start + 40]))
            file.write_text("\n".join(map(json.dumps, rows)))
        return files

    return write


@pytest.mark.slow
def test_pairs_and_labels_give_both_figures_of_each_measure(run, write_pairs, write_labelled, tmp_path):
    pairs = write_pairs([str(number) for number in range(12)])
    sets = [option for name in ("odd", "more") for option in ("--labelled", *write_labelled(name))]
    printed = run("--pairs", pairs, *sets, "--labels_per_class", "5", "--output_file", tmp_path / "figures.json")
    record = json.loads((tmp_path / "figures.json").read_text())
    (model,) = record["models"]
    assert record["num_texts"] == {"pairs": 12, "odd": 40, "more": 40}
    assert list(model["figures"]["means"]) == [
        *("pairs: cosine", "pairs: distance"),
        *("odd: 5 labels a class", "odd: all labels", "more: 5 labels a class", "more: all labels"),
    ]
    assert model["figures"]["features"] != model["figures"]["means"]
    for measure in ("pairs: cosine", "more: all labels"):
        cell = " / ".join(f"{100 * model['figures'][kind][measure]:.1f}" for kind in ("features", "means"))
        assert cell in printed


def test_numbers_of_labels_that_a_set_is_too_small_for_are_named(run, write_labelled):
    files = write_labelled("few", lambda number: "rare" if number < 3 else "common")
    printed = run("--labelled", *files, "--labels_per_class", "2", "30")
    assert "few: 2 labels a class" in printed
    assert "No column of few: 30 labels a class: " in printed


def test_no_pair_is_lost_to_a_quotation_mark_or_a_word_that_tables_take_for_nothing(write_pairs, texts):
    pairs = ScoredPairs.from_file(str(write_pairs(["1.5", "2"])))
    assert (pairs.first, pairs.second, pairs.scores) == (['"quoted', texts[0]], ["None", texts[20]], [1.5, 2.0])
    with pytest.raises(ValueError, match="line 2: a text is empty"):
        ScoredPairs.from_file(str(write_pairs(["1.5", "2"], first=" ")))


@pytest.mark.parametrize(
    ("scores", "header", "message"),
    [
        (["1", "four", "2"], None, "pairs.tsv, line 3: the score is no number: 'four'"),
        (["1", "", "2"], None, "pairs.tsv, line 3: the score is no number: ''"),
        (["1", "2\t3"], None, "pairs.tsv, line 3: the row does not have the 3 fields of the header"),
        (["1", "2"], "sentence1\tsentence2\tscore\tgenre", "line 2: the row does not have the 4 fields"),
        (["1", "inf", "2"], None, "Score 2 of 3 is no finite number: inf"),
        (["1", "1", "1"], None, "All scores are 1"),
        (["1", "2"], "a\tb\tscore", "has no column sentence1; its columns are a, b, score"),
    ],
)
def test_files_that_are_no_pairs_are_refused(run, write_pairs, capsys, scores, header, message):
    file = write_pairs(scores, **({} if header is None else {"header": header}))
    with pytest.raises(SystemExit):
        run("--pairs", file)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give --pairs, --labelled, or both."),
        (("--labelled", "a.jsonl"), "--labelled: expected 2 arguments"),
        (("--pairs", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_missing_files_are_named(run, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capsys.readouterr().err
