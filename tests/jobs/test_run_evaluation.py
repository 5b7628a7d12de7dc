"""The script that evaluates a saved model, as a user runs it: on files, data sets, its own held-out texts, with
mistakes. Figures are checked against those that the library computes."""

import json
import platform
import runpy
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from paths import SCRIPTS
from PIL import Image
from transformers import GPT2LMHeadModel

import hf_bnvae.evaluation
from hf_bnvae.data.corpora import load_text_set
from hf_bnvae.evaluation.encoding import encode_corpus
from hf_bnvae.evaluation.probe import probe_features
from hf_bnvae.jobs.evaluation_arguments import EvaluationArguments
from hf_bnvae.reporting.model_card import BNVAEModelCard, write_card
from hf_bnvae.utils.memory import freed_memory_is_kept

QUICK = ["--num_importance_samples", "2", "--max_importance_sentences", "8", "--num_draws", "2", "--device", "cpu"]
PICTURES = {"kl_per_dimension.png", "aggregated_posterior.png", "rate_distortion.png"}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, trained_folder):
    """A function that runs the script in `tmp_path` on the saved model: what it prints."""
    monkeypatch.chdir(tmp_path)

    def run_script(*arguments: str, model: str = trained_folder, script: str = "run_evaluation") -> str:
        path = str(SCRIPTS / f"{script}.py")
        own = ["--model_name_or_path", model, *QUICK] if script == "run_evaluation" else []
        monkeypatch.setattr(sys, "argv", [path, *own, *arguments])
        capsys.readouterr()
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture
def table(tmp_path, texts) -> Path:
    """40 texts with labels that their first word gives away, and columns that are faulty."""
    path = tmp_path / "reviews.csv"
    lines = ["review,article,one,gaps,number"]
    for i, text in enumerate(texts[:40]):
        lines.append(f"{text},{text.split()[0] in ('The', 'A')},same,{'' if i == 3 else 'x'},{i}")
    path.write_text("\n".join(lines) + "\n")
    return path


def read(folder: str | Path) -> dict:
    return json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))


def test_a_file_gives_a_report_with_pictures(run, table, trained_model, processor, texts, trained_folder, monkeypatch):
    monkeypatch.setattr("hf_bnvae.utils.memory._is_kept", False)
    printed = run("--file", "reviews.csv", "--text_column", "review")
    folder = Path("evaluations", f"{Path(trained_folder).name}-reviews")
    assert f"Written to {folder}." in printed
    assert freed_memory_is_kept() == (platform.libc_ver()[0] == "glibc")
    assert {entry.name for entry in folder.iterdir()} == {"report.json", "report.md", *PICTURES}
    report, markdown = read(folder), (folder / "report.md").read_text(encoding="utf-8")
    assert set(report["files"]) == {"report.json", "report.md", *PICTURES}
    assert markdown in printed
    for piece in (
        "| IW-NLL",
        report["diagnosis"] or "The latent space is alive.",
        "## Pictures",
        "torch",
        report["data"]["sha256"],
    ):
        assert piece in markdown
    for name in PICTURES:
        assert f"]({name})" in markdown
        with Image.open(folder / name) as image:
            assert min(image.size) > 400 and len(image.convert("RGB").getcolors(2**20)) > 20
    assert "Training" not in markdown and "linear classifier" not in markdown
    encoded = encode_corpus(trained_model, processor, texts[:40])
    assert report["kl_per_dimension"] == pytest.approx(encoded.posterior.kl().mean(0).tolist())
    assert sum(report["kl_per_dimension"]) == pytest.approx(report["figures"]["kl"])
    assert sum(report["kl_floor_per_dimension"]) == pytest.approx(8.0, rel=1e-4)
    assert report["data"]["num_texts"] == report["figures"]["num_sentences"] == 40
    assert report["model"]["posterior"] == "bn_rms" and report["versions"]["torch_version"] == torch.__version__
    # What it says of repeating it repeats it.
    words = shlex.split(report["command"])
    assert words[:2] == ["hf-bnvae", "evaluate"] and words[-2:] != ["--output_dir", str(folder)]
    run(*words[2:], "--output_dir", "again")
    assert read("again")["figures"] == report["figures"]
    run(*words[2:], "--output_dir", "other", "--seed", "7")
    assert read("other")["figures"]["reconstruction_nll"] != report["figures"]["reconstruction_nll"]
    assert read("other")["kl_per_dimension"] == report["kl_per_dimension"]


def test_the_card_beside_a_model_gets_the_figures_when_asked(run, table, trained_folder, tmp_path):
    mine = Path(shutil.copytree(trained_folder, tmp_path / "mine"))
    before = {path.name for path in mine.iterdir()}
    options = ("--file", "reviews.csv", "--text_column", "review")
    run(*options, model=str(mine))
    assert {path.name for path in mine.iterdir()} == before
    run(*options, "--update_card", "--overwrite_output_dir", model=str(mine))
    shown = PICTURES - {"rate_distortion.png"}  # with names of folders in it
    assert {path.name for path in mine.iterdir()} == before | shown | {"README.md", "model_card.json"}
    report, card = read("evaluations/mine-reviews"), BNVAEModelCard.from_json_file(mine / "model_card.json")
    assert card.figures == {name: value for name, value in report["figures"].items() if value is not None}
    assert set(card.pictures) == shown and card.examples["reconstructions"] == []
    assert "--update_card" not in report["command"]
    # They are pushed with these weights, under the new name, and with no others.
    write_card(mine, "ada/model")
    pushed = BNVAEModelCard.from_json_file(mine / "model_card.json")
    assert pushed == replace(card, repo_id="ada/model", model_name="model")
    assert f"KL {card.figures['kl']:.2f} nats" in (mine / "README.md").read_text()
    with open(mine / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    write_card(mine, "ada/model")
    assert "Nobody knows" in (mine / "README.md").read_text()
    with pytest.raises(SystemExit, match="writes to the folder of the model, and ada/model is no folder"):
        run(*options, "--update_card", model="ada/model")


def test_an_evaluation_is_replaced_only_when_asked_and_other_files_never(run, table, tmp_path):
    options = ["--file", "reviews.csv", "--text_column", "review", "--output_dir", "out"]
    run(*options)
    before = read("out")
    with pytest.raises(SystemExit, match=r"holds an evaluation already.*--overwrite_output_dir"):
        run(*options, "--seed", "1")
    assert read("out") == before
    Path("out/notes.txt").write_text("mine")
    Path("out/training_curves.png").write_text("of an earlier model")
    run(*options, "--seed", "1", "--overwrite_output_dir")
    assert read("out")["settings"]["seed"] == 1
    assert Path("out/notes.txt").read_text() == "mine" and not Path("out/training_curves.png").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.json").write_text('{"sales": 3}')
    for arguments in (options[:-1], [*options[:-1], str(mine), "--overwrite_output_dir"]):
        with pytest.raises(SystemExit, match=r"holds no evaluation \(report.json\). Nothing was touched"):
            run(*arguments, *([str(mine)] if arguments[-1] == "--output_dir" else []))
    assert (mine / "report.json").read_text() == '{"sales": 3}'
    with pytest.raises(SystemExit, match="is a file"):
        run(*options[:-1], "reviews.csv")


def test_a_model_folder_is_no_place_for_a_report(run, table, trained_folder):
    before = sorted(Path(trained_folder).iterdir())
    with pytest.raises(SystemExit, match="holds no evaluation"):
        run(
            "--file",
            "reviews.csv",
            "--text_column",
            "review",
            "--output_dir",
            trained_folder,
            "--overwrite_output_dir",
        )
    assert sorted(Path(trained_folder).iterdir()) == before


def test_the_probe_is_what_the_library_computes(run, table, texts, tmp_path, trained_model, processor):
    train = tmp_path / "train.jsonl"
    labels = [text.split()[0] in ("The", "A") for text in texts]
    rows = [{"review": t, "article": label} for t, label in zip(texts[40:240], labels[40:240], strict=True)]
    train.write_text("\n".join(map(json.dumps, rows)))
    options = ["--file", "reviews.csv", "--text_column", "review", "--label_column", "article"]
    run(*options, "--probe_train_file", str(train), "--labels_per_class", "5", "1000", "--output_dir", "out")
    report, markdown = read("out"), Path("out/report.md").read_text(encoding="utf-8")
    encoded = encode_corpus(trained_model, processor, texts[:240])
    for name, values in (("means", encoded.mean), ("features", encoded.features)):
        expected = probe_features(values[40:], labels[40:240], values[:40], labels[:40], (5,), 2, 42)
        found = report["probe"]["results"][name]
        assert [row["accuracy"] for row in found["rows"]] == pytest.approx([row.accuracy for row in expected.rows])
        assert (found["num_train"], found["num_test"]) == (200, 40)
        assert found["majority_accuracy"] == expected.majority_accuracy
    assert report["probe"]["results"]["means"]["rows"][-1]["accuracy"] > expected.majority_accuracy
    assert report["probe"]["results"]["draws"]["rows"] != report["probe"]["results"]["means"]["rows"]
    assert "No row of 1000 labels per class: the class" in markdown
    assert "| means of the posteriors " in markdown and "over 2 random draws" in markdown
    assert report["probe"]["train_sha256"] in markdown and not report["notes"]
    # Without training texts of its own one half trains and the other tests.
    run(*options, "--labels_per_class", "5", "--output_dir", "halves")
    halves = read("halves")["probe"]["results"]["means"]
    assert (halves["num_train"], halves["num_test"]) == (20, 20)
    assert "a random half of each class trains" in Path("halves/report.md").read_text(encoding="utf-8")


def test_test_texts_among_the_training_texts_are_counted(run, table):
    shutil.copy("reviews.csv", "copy.csv")
    options = ["--text_column", "review", "--label_column", "article", "--labels_per_class", "5"]
    run("--file", "reviews.csv", "--probe_train_file", "copy.csv", *options, "--output_dir", "out")
    assert read("out")["notes"] == ["40 of the probe's test texts are among its training texts."]
    assert "> 40 of the probe's" in Path("out/report.md").read_text(encoding="utf-8")


def test_a_data_set_with_splits_and_named_classes(run, texts, tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    for name, start in (("train", 0), ("test", 60)):
        part = texts[start : start + 60]
        labels = [int(text.startswith("The")) for text in part]
        split = Dataset.from_dict({"text": part, "label": labels}, features=features)
        DatasetDict({name: split})[name].to_parquet(tmp_path / "data" / f"{name}.parquet")
    options = ["--dataset_name", str(tmp_path / "data"), "--label_column", "label", "--labels_per_class", "4"]
    run(*options, "--probe_train_split", "train", "--output_dir", "out")
    report = read("out")
    assert report["data"]["num_texts"] == report["probe"]["results"]["means"]["num_train"] == 60
    loaded = load_text_set(dataset_name=str(tmp_path / "data"), dataset_split="test", label_column="label")
    assert set(loaded["label"]) == {"neg", "pos"}
    with pytest.raises(SystemExit, match="Unknown split"):
        run(*options, "--dataset_split", "nonsense", "--output_dir", "other")


def test_the_held_out_texts_of_a_run_are_found_again(run, tmp_path, texts):
    (tmp_path / "mine.txt").write_text("\n".join(texts[:60]))
    training = ["--train_file", "mine.txt", "--output_dir", "trained", "--hidden_size", "32", "--num_layers", "1"]
    training += [
        "--latent_size",
        "2",
        "--vocab_size",
        "300",
        "--num_train_epochs",
        "2",
        "--num_importance_samples",
        "2",
    ]
    training += ["--use_cpu", "true", "--disable_tqdm", "true", "--warmup_steps", "0", "--posterior", "bn_mean"]
    run(*training, "--logging_steps", "1", "--max_eval_samples", "5", script="run_bnvae")
    run(model="trained")
    folder = Path("evaluations/trained-held-out")
    report, markdown = read(folder), (folder / "report.md").read_text(encoding="utf-8")
    trained = json.loads(Path("trained/all_results.json").read_text())
    assert report["data"]["sha256"] == trained["eval_corpus_validation_sha256"]
    assert report["data"]["num_texts"] == 5
    assert report["figures"]["kl"] == pytest.approx(trained["eval_kl"])
    assert (folder / "training_curves.png").is_file() and "](training_curves.png)" in markdown
    # Others can be set beside it, and it is said if their texts were others.
    (tmp_path / "other.txt").write_text("\n".join(texts[:9]))
    run("--file", "other.txt", "--compare_with", str(folder), "--output_dir", "compared", model="trained")
    (other,) = read("compared")["compared_with"]
    assert other["kl"] == report["figures"]["kl"] and other["same_texts"] is False
    assert "Compared with: `trained`, on other texts" in Path("compared/report.md").read_text(encoding="utf-8")
    # A log that is damaged costs the curves, not the report.
    Path("trained/trainer_state.json").write_text("{")
    run("--output_dir", "damaged", model="trained")
    assert "no training curves" in read("damaged")["notes"][0]
    (tmp_path / "mine.txt").write_text("\n".join(texts[100:160]))
    with pytest.raises(SystemExit, match="no longer what they were"):
        run("--output_dir", "changed", model="trained")


def test_without_matplotlib_the_report_says_how_to_get_pictures(run, table, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "hf_bnvae.evaluation.plots", raising=False)
    monkeypatch.delattr(hf_bnvae.evaluation, "plots", raising=False)
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out")
    assert {entry.name for entry in Path("out").iterdir()} == {"report.json", "report.md"}
    markdown = Path("out/report.md").read_text(encoding="utf-8")
    assert "no pictures" in markdown and "pip install 'matplotlib>=3.9'" in markdown and "![" not in markdown


def test_without_scikit_learn_the_probe_is_refused(run, table, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    monkeypatch.delitem(sys.modules, "hf_bnvae.evaluation.probe", raising=False)
    monkeypatch.delattr(hf_bnvae.evaluation, "probe", raising=False)
    with pytest.raises(SystemExit, match=r"pip install 'hf-bnvae\[probe\]'"):
        run("--file", "reviews.csv", "--text_column", "review", "--label_column", "article")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Which texts"),
        (["--file", "missing.txt"], "missing.txt: no such file"),
        (["--file", "reviews.docx"], "files must end in one of"),
        (["--file", "reviews.csv"], "has several columns and none is called 'text'"),
        (["--file", "reviews.csv", "--text_column", "nothing"], "has no column 'nothing'"),
        (["--file", "empty.txt"], "empty.txt is empty"),
        (["--file", "blank.csv"], "holds no text"),
        (["--file", "one.txt"], "at least two texts, and one.txt has 1"),
        (["--file", "a.txt", "--dataset_name", "b"], "Give either --file or --dataset_name"),
        (["--file", "a.txt", "--num_importance_samples", "0"], "num_importance_samples must be at least 1, got 0"),
        (["--file", "a.txt", "--max_eval_samples", "1"], "max_eval_samples must be at least 2, got 1"),
        (["--file", "a.txt", "--labels_per_class", "1"], r"labels_per_class must be 2 or more each, got \[1\]"),
        (["--file", "a.txt", "--probe_train_file", "b.txt"], "need --label_column"),
        (["--label_column", "x"], "--label_column needs --file or --dataset_name"),
        (["--file", "a.txt", "--compare_with", "reviews.csv"], "--compare_with reviews.csv is no evaluation"),
        (["--file", "one.txt", "--max_eval_samples", "5", "--device", "nonsense"], "at least two texts"),
        (["--file", "two.txt", "--device", "nonsense"], "--device nonsense cannot be used"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(run, table, tmp_path, arguments, words):
    for name, content in (("empty.txt", ""), ("one.txt", "The food .\n"), ("two.txt", "The food .\nMy dog .\n")):
        (tmp_path / name).write_text(content)
    (tmp_path / "blank.csv").write_text('text\n""\n" "\n')
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        run(*arguments)
    assert not (tmp_path / "evaluations").exists()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("nothing", "has no column 'nothing'.*Choose one with label_column"),
        ("review", "cannot hold both texts and labels"),
        ("one", "two classes or more, and all training labels are 'same'"),
        ("gaps", "1 of 40 labels of the labelled set are missing .None, NaN or empty., the first at index 3"),
        ("number", "has one text, which cannot be both trained on and tested"),
    ],
)
def test_labels_that_are_none_are_named(run, table, column, words):
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        run("--file", "reviews.csv", "--text_column", "review", "--label_column", column)


def test_a_probe_is_not_tested_on_its_training_texts(run, table):
    options = ["--file", "reviews.csv", "--text_column", "review", "--label_column", "article"]
    with pytest.raises(SystemExit, match="tested on the texts that train it"):
        run(*options, "--probe_train_file", "./reviews.csv")


def test_what_is_no_bnvae_is_refused(run, table, tmp_path, decoder_config, make_model, processor):
    options = ["--file", "reviews.csv", "--text_column", "review"]
    GPT2LMHeadModel(decoder_config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(SystemExit, match="it is a 'gpt2', no BNVAE"):
        run(*options, model="gpt2")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(SystemExit, match=f"{name} could not be loaded as a folder or from the Hub"):
            run(*options, model=name)
    make_model(posterior="bn").save_pretrained(tmp_path / "untrained")
    processor.save_pretrained(tmp_path / "untrained")
    with pytest.raises(SystemExit, match="running statistics were never estimated"):
        run(*options, model="untrained")
    assert not (tmp_path / "evaluations").exists()


def test_a_collapsed_model_gets_its_report(run, table, tmp_path, make_model, processor):
    model = make_model(posterior="gaussian")
    with torch.no_grad():
        for layer in (model.posterior.mean_projection, model.posterior.scale_projection):
            layer.weight.mul_(1e-3), layer.bias.zero_()
    model.save_pretrained(tmp_path / "collapsed")
    processor.save_pretrained(tmp_path / "collapsed")
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out", model="collapsed")
    report = read("out")
    assert report["kl_floor_per_dimension"] == [0.0] * 8 and report["figures"]["kl"] < 0.01
    assert "collapsed onto the prior" in report["diagnosis"]
    assert report["diagnosis"] in Path("out/report.md").read_text(encoding="utf-8")
    assert {entry.name for entry in Path("out").iterdir()} >= PICTURES


def test_two_texts_and_one_likelihood_are_enough(run, tmp_path, texts):
    (tmp_path / "two.txt").write_text("\n".join(texts[:2]))
    run("--file", "two.txt", "--max_importance_sentences", "1", "--num_examples", "1", "--output_dir", "out")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert report["figures"]["iw_nll_error"] is None and report["figures"]["num_sentences"] == 2
    assert {entry.name for entry in Path("out").iterdir()} >= PICTURES


def test_the_token_is_not_written_down():
    args = EvaluationArguments("user/model", token="hf_secret", file="my texts.csv", labels_per_class=[5], seed=1)
    assert args.command() == (
        "hf-bnvae evaluate --model_name_or_path user/model --file 'my texts.csv' --labels_per_class 5 --seed 1"
    )
    assert str(args.path) == "evaluations/model-my-texts"
    assert (
        str(EvaluationArguments("m", dataset_name="a/b", dataset_split="train[:9]").path) == "evaluations/m-b-train-9-"
    )
