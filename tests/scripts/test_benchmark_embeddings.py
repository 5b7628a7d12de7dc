"""The script that judges latents as embeddings, as a user would start it."""

import json
import runpy
import sys

import pytest
from paths import SCRIPTS


@pytest.fixture
def run(monkeypatch, capsys, trained_folder):
    """A function that runs the script on the trained model: what it prints."""

    def start(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmark_embeddings.py", trained_folder, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / "benchmark_embeddings.py"), run_name="__main__")
        return capsys.readouterr().out

    return start


@pytest.fixture
def script():
    """What stands in the script, by name."""
    return runpy.run_path(str(SCRIPTS / "benchmark_embeddings.py"))


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


def test_pairs_and_labels_give_a_row_for_each_embedding(run, write_pairs, tmp_path, texts):
    pairs = write_pairs([str(number) for number in range(12)])
    labelled = tmp_path / "labelled.jsonl"
    rows = ({"text": text, "label": number % 2} for number, text in enumerate(texts[:60]))
    labelled.write_text("\n".join(map(json.dumps, rows)))
    files = ("--train_file", labelled, "--test_file", labelled, "--labels_per_class", "5")
    printed = run("--pairs", pairs, *files, "--output_file", tmp_path / "figures.json")
    (found,) = json.loads((tmp_path / "figures.json").read_text()).values()
    assert found.keys() >= {"features", "means"}
    assert found["means"].keys() == {
        "Spearman (cosine)",
        "Spearman (distance)",
        "accuracy (5 labels a class)",
        "accuracy (all labels)",
    }
    assert f"{100 * found['means']['Spearman (cosine)']:.1f}" in printed
    assert f"{100 * found['features']['accuracy (all labels)']:.1f}" in printed


def test_no_pair_is_lost_to_a_quotation_mark_or_a_word_that_tables_take_for_nothing(script, write_pairs, texts):
    first, second, scores = script["read_pairs"](str(write_pairs(["1.5", "2"])))
    assert (first, second, scores) == (['"quoted', texts[0]], ["None", texts[20]], [1.5, 2.0])
    with pytest.raises(ValueError, match="line 2: a text is empty"):
        script["read_pairs"](str(write_pairs(["1.5", "2"], first=" ")))


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
        ((), "Give --pairs, or --train_file and --test_file."),
        (("--train_file", "a.jsonl"), "Give both --train_file and --test_file."),
        (("--pairs", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_missing_files_are_named(run, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert message in capsys.readouterr().err
