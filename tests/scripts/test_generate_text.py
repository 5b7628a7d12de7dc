"""The script that makes texts, as a user runs it: from the command line, a file, the standard input, with mistakes."""

import io
import json
import runpy
import shutil
import sys

import pytest
from paths import SCRIPTS

SCRIPT = str(SCRIPTS / "generate_text.py")


@pytest.fixture
def run(monkeypatch, capsys, trained_folder):
    """A function that runs the script on the saved model: the lines that it prints."""

    def run_script(task: str, *arguments: str, stdin: str = "", model: str = trained_folder) -> list[str]:
        monkeypatch.setattr(sys, "argv", [SCRIPT, task, "--model_name_or_path", model, "--device", "cpu", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        runpy.run_path(SCRIPT, run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_script


def test_samples_come_by_a_seed(run, trained_model):
    lines = run("sample", "--num_samples", "4", "--seed", "3")
    assert lines == trained_model.sample(4, seed=3, do_sample=False)
    assert run("sample", "--num_samples", "4", "--seed", "4") != lines
    standard = run("sample", "--num_samples", "4", "--seed", "3", "--prior", "standard")
    assert standard == trained_model.sample(4, seed=3, prior="standard", do_sample=False) != lines
    assert run("sample", "--num_samples", "4", "--seed", "3", "--prior", "fitted") == lines
    options = ["--prompt", "The", "--do_sample", "--top_p", "0.9", "--num_return_sequences", "2", "--seed", "1"]
    records = [json.loads(line) for line in run("sample", *options, "--output_format", "jsonl")]
    assert [len(record["generated"]) for record in records] == [2] * 5
    assert all(text.startswith("The") for record in records for text in record["generated"])


def test_texts_from_arguments_a_file_and_standard_input_are_the_same(run, trained_model, texts, tmp_path):
    expected = trained_model.reconstruct(texts[:5], do_sample=False)
    assert run("reconstruct", *texts[:5]) == expected
    assert run("reconstruct", "--batch_size", "2", stdin="\n".join(texts[:5]) + "\n") == expected
    windows = "\ufeff" + "\r\n".join(texts[:5]) + "\r\n"
    assert run("reconstruct", stdin=windows) == expected
    path = tmp_path / "texts.txt"
    path.write_text(windows, encoding="utf-8", newline="")
    assert run("reconstruct", "--input_file", str(path)) == expected
    path.write_text("\n".join(texts[:5]))
    assert run("reconstruct", "--input_file", str(path)) == expected
    records = [json.loads(line) for line in run("reconstruct", *texts[:5], "--output_format", "jsonl")]
    assert records == [{"text": t, "generated": g} for t, g in zip(texts, expected, strict=False)]
    assert len(set(expected)) > 1


def test_edits_follow_a_saved_direction(run, trained_model, trained_folder, texts, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained_folder, folder)
    direction = trained_model.direction(texts[:40], texts[40:80], name="mine")
    direction.save(folder)
    for strength in (1.0, -2.0):
        lines = run("edit", "--direction", "mine", "--strength", str(strength), *texts[:4], model=str(folder))
        assert lines == trained_model.edit(texts[:4], direction, strength, do_sample=False)
    assert lines != trained_model.reconstruct(texts[:4], do_sample=False)
    with pytest.raises(SystemExit):
        run("edit", "--direction", "other", texts[0], model=str(folder))


def test_interpolations_and_analogies_of_lines_with_tabs(run, trained_model, texts):
    pairs = "".join(f"{texts[i]}\t{texts[i + 2]}\n" for i in range(2))
    options = ["--steps", "4", "--method", "spherical"]
    expected = trained_model.interpolate(texts[:2], texts[2:4], 4, "spherical", do_sample=False)
    assert run("interpolate", *options, stdin=pairs) == [*expected[0], "", *expected[1]]
    assert run("interpolate", *options, texts[0], texts[2]) == expected[0]
    records = [json.loads(line) for line in run("interpolate", *options, "--output_format", "jsonl", stdin=pairs)]
    assert records[1] == {"a": texts[1], "b": texts[3], "generated": expected[1]}
    expected = trained_model.analogy(*texts[:3], degree=0.7, do_sample=False)
    assert run("analogy", *texts[:3], "--degree", "0.7") == [expected]
    assert run("analogy", "--degree", "0.7", stdin="\t".join(texts[:3])) == [expected]


def test_results_go_to_a_new_file_and_never_over_an_old_one(run, texts, tmp_path):
    path = tmp_path / "out.txt"
    assert run("reconstruct", texts[0], "--output_file", str(path)) == []
    written = path.read_text()
    assert len(written.splitlines()) == 1
    with pytest.raises(SystemExit, match="exists already"):
        run("reconstruct", texts[1], "--output_file", str(path))
    assert path.read_text() == written
    # What fails leaves no file in the way of the next try.
    other = tmp_path / "other.txt"
    with pytest.raises(SystemExit, match="must hold a text"):
        run("reconstruct", "--output_file", str(other), stdin="\n")
    assert not other.exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["interpolate", "only one"], "", "interpolate takes 2 texts at a time, got 1"),
        (["analogy"], "one\ttwo\n", "Line 1 must hold 3 texts with a tab between them"),
        (["reconstruct"], "The food\n\nMy sister\n", "Line 2 must hold a text"),
        (["reconstruct", "--device", "nonsense"], "", "--device nonsense cannot be used"),
        (["interpolate", "The food", "My sister", "--steps", "1"], "", "at least 2"),
        (["reconstruct", "The food", "--max_new_tokens", "400"], "", "room for max_new_tokens=31, got 400"),
        (["reconstruct", "--input_file", "missing.txt"], "", "missing.txt"),
    ],
)
def test_mistakes_are_named(run, arguments, stdin, words):
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        run(*arguments, stdin=stdin)


def test_options_that_do_not_go_together_are_refused(run, capsys):
    for arguments, words in (
        (["reconstruct", "a", "--top_k", "3"], "--top_k needs --do_sample"),
        (["reconstruct", "a", "--input_file", "b.txt"], "either texts or --input_file"),
        (["reconstruct", "a", "--batch_size", "0"], "--batch_size: must be at least 1, got 0"),
        (["reconstruct", "a", "--num_beams", "0"], "--num_beams: must be at least 1, got 0"),
        (["sample", "--num_samples", "-2"], "--num_samples: must be at least 1, got -2"),
        (["sample", "--seed", "-1"], "--seed: must be at least 0, got -1"),
    ):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert end.value.code == 2 and words in capsys.readouterr().err


def test_what_is_no_bnvae_is_refused(run, tmp_path, decoder_config, trained_model):
    from transformers import GPT2LMHeadModel

    GPT2LMHeadModel(decoder_config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(SystemExit, match="it is a 'gpt2', no BNVAE"):
        run("sample", model=str(tmp_path / "gpt2"))
    with pytest.raises(SystemExit, match="nowhere could not be loaded as a folder or from the Hub"):
        run("sample", model=str(tmp_path / "nowhere"))
    trained_model.save_pretrained(tmp_path / "alone")
    for file in (*(tmp_path / "alone").glob("**/*token*.json"), tmp_path / "alone" / "processor_config.json"):
        file.unlink()
    with pytest.raises(SystemExit, match=r"alone holds a model, but its processor could not be loaded"):
        run("sample", model=str(tmp_path / "alone"))
