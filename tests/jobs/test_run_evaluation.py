"""The script that evaluates a saved model, as a user runs it: on files, data sets, its own held-out texts, with
mistakes. Figures are checked against those that the library computes."""

import copy
import json
import platform
import runpy
import shlex
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import tiny
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from paths import SCRIPTS
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import hf_bnvae.evaluation
from hf_bnvae import BNVAEModel
from hf_bnvae.data.corpora import load_text_set
from hf_bnvae.evaluation.encoding import encode_corpus
from hf_bnvae.evaluation.probe import probe_features
from hf_bnvae.jobs.evaluation_arguments import EvaluationArguments
from hf_bnvae.model.saved_files_bnvae import write_checksums
from hf_bnvae.reporting.model_card import BNVAEModelCard, write_card
from hf_bnvae.reporting.report_files import read_report
from hf_bnvae.utils.memory import freed_memory_is_kept

pytestmark = pytest.mark.slow

QUICK = ["--num_importance_samples", "2", "--max_importance_sentences", "8", "--num_draws", "2", "--device", "cpu"]
PICTURES = {"kl_per_dimension.png", "aggregated_posterior.png", "rate_distortion.png"}


def start(*arguments: str, model: str = "", script: str = "run_evaluation") -> str:
    """Run a script in this process and in the working directory: what it prints."""
    path = str(SCRIPTS / f"{script}.py")
    own = ["--model_name_or_path", model, *QUICK] if script == "run_evaluation" else []
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr(sys, "argv", [path, *own, *arguments])
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()


@pytest.fixture
def run(monkeypatch, tmp_path, trained_folder):
    """A function that runs the script in `tmp_path` on the saved model: what it prints."""
    monkeypatch.chdir(tmp_path)

    def run_script(*arguments: str, model: str = trained_folder, script: str = "run_evaluation") -> str:
        return start(*arguments, model=model, script=script)

    return run_script


@pytest.fixture
def table(tmp_path, texts) -> Path:
    return write_table(tmp_path, texts)


def write_table(folder: Path, texts: list[str]) -> Path:
    """40 texts with labels that their first word gives away, and columns that are faulty."""
    path = folder / "reviews.csv"
    lines = ["review,article,one,gaps,number"]
    for i, text in enumerate(texts[:40]):
        lines.append(f"{text},{text.split()[0] in ('The', 'A')},same,{'' if i == 3 else 'x'},{i}")
    path.write_text("\n".join(lines) + "\n")
    return path


def read(folder: str | Path) -> dict:
    return json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of the saved model on the table."""

    folder: Path
    printed: str
    kept_memory: bool

    @property
    def report(self) -> dict:
        return read(self.folder)

    @property
    def markdown(self) -> str:
        return (self.folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, trained_folder, texts) -> Evaluated:
    """Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_table(folder, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("hf_bnvae.utils.memory._is_kept", False)
        printed = start("--file", "reviews.csv", "--text_column", "review", model=trained_folder)
        kept_memory = freed_memory_is_kept()
    return Evaluated(folder / "evaluations" / f"{Path(trained_folder).name}-reviews", printed, kept_memory)


def test_figures_stand_under_both_priors(evaluated):
    figures = evaluated.report["figures"]
    assert figures["fitted_prior"] == "gaussian"
    gap = figures["fitted_elbo"] - figures["elbo"]
    assert gap == pytest.approx(figures["kl"] - figures["fitted_kl"]) and gap > 0
    _, _, after = evaluated.markdown.partition("Under the prior N(0, I)")
    rows = ([cell.strip() for cell in line.split("|")] for line in after.splitlines() if line.startswith("|"))
    table = {row[1]: row[2:4] for row in rows}
    assert table["figure"] == ["N(0, I)", "fitted"]
    assert table["KL"] == [f"{figures['kl']:.2f}", f"{figures['fitted_kl']:.2f}"]
    assert table["marginal KL"][1].startswith(f"{figures['fitted_marginal_kl']:.2f} ± ")


def test_samples_are_judged_if_a_judge_is_named(run, table, processor, tmp_path, trained_folder):
    torch.manual_seed(9)
    config = GPT2Config(vocab_size=len(processor.tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=40)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "judge")
    processor.tokenizer.save_pretrained(tmp_path / "judge")
    options = ["--file", str(table), "--text_column", "review", "--output_dir", "judged"]
    judges = ["--judge_language_model", str(tmp_path / "judge"), "--judge_encoder", "judge"]
    run(*options, *judges, "--num_judged_samples", "6")
    samples = read("judged")["samples"]
    assert samples["judges"] == {"language_model": "judge", "encoder": "judge"}, "without folders of this machine"
    assert {quality["num_texts"] for quality in samples["kinds"].values()} == {6} and len(samples["kinds"]) == 5
    assert "## How good samples are" in Path("judged/report.md").read_text()
    assert read_report("judged")["samples"] == samples
    # Mistakes end before the evaluation.
    with pytest.raises(SystemExit, match="The judge nowhere could not be loaded"):
        run(*options[:-1], "other", "--judge_encoder", "nowhere")
    shutil.copytree(trained_folder, "own")
    BNVAEModel.from_pretrained("own").decoder.save_pretrained("own-decoder")
    processor.tokenizer.save_pretrained("own-decoder")
    with pytest.raises(SystemExit, match="judge own-decoder is the model's decoder"):
        run(*options[:-1], "other", "--judge_language_model", "own-decoder")
    assert not Path("other").exists()


def test_a_file_gives_a_folder_with_report_and_pictures(evaluated):
    assert {entry.name for entry in evaluated.folder.iterdir()} == {"report.json", "report.md", *PICTURES}
    assert set(evaluated.report["files"]) == {"report.json", "report.md", *PICTURES}
    assert f"Written to {Path(*evaluated.folder.parts[-2:])}." in evaluated.printed


def test_an_evaluation_on_the_cpu_keeps_freed_memory_where_the_c_library_can(evaluated):
    assert evaluated.kept_memory == (platform.libc_ver()[0] == "glibc")


def test_the_report_is_printed_and_says_what_was_measured(evaluated):
    report, markdown = evaluated.report, evaluated.markdown
    assert markdown in evaluated.printed
    for piece in ("| IW-NLL", report["verdict_text"], "## Pictures", "torch", report["data"]["sha256"]):
        assert piece in markdown
    assert "Training" not in markdown and "linear classifier" not in markdown


def test_the_pictures_of_a_report_are_pictures(evaluated):
    for name in PICTURES:
        assert f"]({name})" in evaluated.markdown
        with Image.open(evaluated.folder / name) as image:
            assert min(image.size) > 400 and len(image.convert("RGB").getcolors(2**20)) > 20


def test_the_report_holds_the_figures_of_the_library(evaluated, trained_model, processor, texts):
    report = evaluated.report
    encoded = encode_corpus(trained_model, processor, texts[:40])
    assert report["kl_per_dimension"] == pytest.approx(encoded.posterior.kl().mean(0).tolist())
    assert sum(report["kl_per_dimension"]) == pytest.approx(report["figures"]["kl"])
    assert sum(report["kl_floor_per_dimension"]) == pytest.approx(8.0, rel=1e-4)
    assert report["data"]["num_texts"] == report["figures"]["num_sentences"] == 40
    other = encode_corpus(trained_model, processor, texts[40:80])
    assert report["kl_per_dimension"] != pytest.approx(other.posterior.kl().mean(0).tolist())


def test_the_report_names_model_versions_and_hardware(evaluated):
    report = evaluated.report
    assert report["model"]["posterior"] == "bn_rms" and report["versions"]["torch_version"] == torch.__version__
    assert report["hardware"].startswith(("CPU", "1 x"))


def test_the_command_of_a_report_repeats_it(evaluated, run, table):
    report = evaluated.report
    words = shlex.split(report["command"])
    assert words[:2] == ["hf-bnvae", "evaluate"] and "--output_dir" not in words
    run(*words[2:], "--output_dir", "again")
    assert read("again")["figures"] == report["figures"]
    run(*words[2:], "--output_dir", "other", "--seed", "7")
    assert read("other")["figures"]["reconstruction_nll"] != report["figures"]["reconstruction_nll"]
    assert read("other")["kl_per_dimension"] == report["kl_per_dimension"]


@pytest.fixture
def carded(run, table, trained_folder, tmp_path) -> Path:
    """A model's folder with a card that an evaluation has updated."""
    mine = Path(shutil.copytree(trained_folder, tmp_path / "mine"))
    run("--file", "reviews.csv", "--text_column", "review", "--update_card", model=str(mine))
    return mine


def test_the_card_beside_a_model_gets_the_figures_when_asked(carded, trained_folder):
    before = {path.name for path in Path(trained_folder).iterdir()}
    shown = PICTURES - {"rate_distortion.png"}  # with names of folders in it
    assert {path.name for path in carded.iterdir()} == before | shown | {"README.md", "model_card.json"}
    report, card = read("evaluations/mine-reviews"), BNVAEModelCard.from_json_file(carded / "model_card.json")
    assert card.figures == {name: value for name, value in report["figures"].items() if value is not None}
    assert set(card.pictures) == shown and card.examples["reconstructions"] == []
    assert "--update_card" not in report["command"]


def test_a_model_s_folder_is_left_alone_when_nobody_asks(evaluated, trained_folder):
    assert not {"README.md", "model_card.json", *PICTURES} & {path.name for path in Path(trained_folder).iterdir()}


def test_the_figures_of_a_card_are_pushed_with_their_weights_alone(carded):
    card = BNVAEModelCard.from_json_file(carded / "model_card.json")
    write_card(carded, "ada/model")
    pushed = BNVAEModelCard.from_json_file(carded / "model_card.json")
    assert pushed == replace(card, repo_id="ada/model", model_name="model")
    assert f"KL {card.figures['kl']:.2f} nats" in (carded / "README.md").read_text()
    with open(carded / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    write_card(carded, "ada/model")
    assert "Nobody knows" in (carded / "README.md").read_text()


def test_the_card_of_a_model_on_the_hub_cannot_be_updated(run, table):
    with pytest.raises(SystemExit, match="writes to the folder of the model, and ada/model is no folder"):
        run("--file", "reviews.csv", "--text_column", "review", "--update_card", model="ada/model")


def test_an_evaluation_is_replaced_only_when_asked(run, table):
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


def test_other_files_are_never_replaced(run, table, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.json").write_text('{"sales": 3}')
    options = ["--file", "reviews.csv", "--text_column", "review", "--output_dir"]
    for more in ([], ["--overwrite_output_dir"]):
        with pytest.raises(SystemExit, match=r"holds no evaluation \(report.json\). Nothing was touched"):
            run(*options, str(mine), *more)
    assert (mine / "report.json").read_text() == '{"sales": 3}'
    with pytest.raises(SystemExit, match="is a file"):
        run(*options, "reviews.csv")


def test_what_a_killed_evaluation_leaves_is_no_obstacle(run, table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json.partial").write_text('{"kind')
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out")
    assert {entry.name for entry in Path("out").iterdir()} == {"report.json", "report.md", *PICTURES}
    # Killed after the figures: the pages are missing, so nothing whole is replaced.
    Path("out", "report.md").unlink()
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out")
    with pytest.raises(SystemExit, match="holds an evaluation already"):
        run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out")


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


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, texts) -> Path:
    """The folder of a training run, and of its evaluation on the texts that it held out. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "mine.txt").write_text("\n".join(texts[:60]))
    options = {**tiny.SCRIPT_OPTIONS, "latent_size": 2, "num_train_epochs": 2, "posterior": "bn_mean"}
    options |= {"train_file": "mine.txt", "output_dir": "trained", "logging_steps": 1, "max_eval_samples": 5}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        start(*(str(part) for name, value in options.items() for part in (f"--{name}", value)), script="run_bnvae")
        start(model="trained")
    return folder


def test_the_held_out_texts_of_a_run_are_found_again(trained_run):
    report = read(trained_run / "evaluations" / "trained-held-out")
    trained = json.loads((trained_run / "trained" / "all_results.json").read_text())
    assert report["data"]["sha256"] == trained["eval_corpus_validation_sha256"]
    assert report["data"]["num_texts"] == 5
    assert report["figures"]["kl"] == pytest.approx(trained["eval_kl"])


def test_a_report_shows_the_curves_of_the_training(trained_run):
    folder = trained_run / "evaluations" / "trained-held-out"
    assert (folder / "training_curves.png").is_file()
    assert "](training_curves.png)" in (folder / "report.md").read_text(encoding="utf-8")


def test_an_evaluation_on_other_texts_is_compared_with_a_warning(trained_run, run, tmp_path, texts):
    (tmp_path / "other.txt").write_text("\n".join(texts[:9]))
    folder = trained_run / "evaluations" / "trained-held-out"
    model = str(trained_run / "trained")
    run("--file", "other.txt", "--compare_with", str(folder), "--output_dir", "compared", model=model)
    (other,) = read("compared")["compared_with"]
    assert other["kl"] == read(folder)["figures"]["kl"] and other["same_texts"] is False
    assert "Compared with: `trained`, on other texts" in Path("compared/report.md").read_text(encoding="utf-8")


def test_a_damaged_log_costs_the_curves_and_not_the_report(trained_run, run, tmp_path):
    copy = Path(shutil.copytree(trained_run / "trained", tmp_path / "copy"))
    (copy / "trainer_state.json").write_text("{")
    run("--output_dir", "damaged", model=str(copy))
    assert "no training curves" in read("damaged")["notes"][0]
    assert "training_curves.png" not in read("damaged")["files"]


def test_held_out_texts_that_have_changed_are_refused(trained_run, run, tmp_path, texts):
    copy = Path(shutil.copytree(trained_run / "trained", tmp_path / "copy"))
    (tmp_path / "mine.txt").write_text("\n".join(texts[100:160]))
    record = json.loads((copy / "run.json").read_text())
    record["settings"]["train_file"] = str(tmp_path / "mine.txt")
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="no longer what they were"):
        run("--output_dir", "changed", model=str(copy))
    assert not Path("changed").exists()


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
    with pytest.raises(SystemExit, match=r"pip install 'scikit-learn>=1.5'"):
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
        (["--text_column", "x"], "--text_column needs --file or --dataset_name"),
        (["--condition_column", "x"], "--condition_column needs --file or --dataset_name"),
        (["--file", "a.txt", "--compare_with", "reviews.csv"], "--compare_with reviews.csv is no evaluation"),
        (["--file", "a.txt", "--compare_with", "bare.json"], "bare.json is damaged: model is missing or of another"),
        (["--file", "a.txt", "--output_dir", "one.txt/out"], "one.txt is a file. Choose another one."),
        (["--file", "one.txt", "--max_eval_samples", "5", "--device", "nonsense"], "at least two texts"),
        (["--file", "two.txt", "--device", "nonsense"], "--device nonsense cannot be used"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(run, table, tmp_path, arguments, words):
    for name, content in (("empty.txt", ""), ("one.txt", "The food .\n"), ("two.txt", "The food .\nMy dog .\n")):
        (tmp_path / name).write_text(content)
    (tmp_path / "blank.csv").write_text('text\n""\n" "\n')
    (tmp_path / "bare.json").write_text('{"kind": "hf_bnvae evaluation", "figures": {}}')
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


def test_a_collapsed_model_gets_its_report(run, table, tmp_path, make_model, changed_model):
    head = make_model(posterior="gaussian").posterior
    with torch.no_grad():
        for layer in (head.mean_projection, head.scale_projection):
            layer.weight.mul_(1e-3), layer.bias.zero_()
    changed_model.posterior = head.eval()
    changed_model.config.posterior, changed_model.config.rate = "gaussian", None
    changed_model.save_pretrained(tmp_path / "collapsed")
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out", model="collapsed")
    report = read("out")
    assert report["kl_floor_per_dimension"] == [0.0] * 8 and report["figures"]["kl"] < 0.01
    assert report["verdict"] == "collapsed" and "The posterior is the prior" in report["verdict_text"]
    assert report["verdict_text"] in Path("out/report.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["in/reviews.csv"], "reviews"),
        (["in/reviews.csv.gz"], "reviews"),
        (["in/reviews.v2.txt"], "reviews.v2"),
        (["in/a.txt", "in/b.txt", "in/c.txt"], "a-and-2-more"),
        (["in"], "in"),
        (["."], "work"),
        (["in/"], "in"),
        (["in/*.txt"], "in"),
        (["in/*.csv.gz"], "in"),
        (["in/**/*.txt"], "in"),
        (["in/part-*.txt"], "part"),
        (["in/20[12]?-part.txt", "in/a.txt"], "20-part-and-1-more"),
        (["*.txt"], "work"),
        (["/*.txt"], "texts"),
        (["in/c[1].txt"], "c-1-"),  # of this name, and no pattern
    ],
)
def test_the_default_folder_is_named_after_the_texts(tmp_path, monkeypatch, files, name):
    folder = tmp_path / "work" / "in"
    folder.mkdir(parents=True)
    (folder / "c[1].txt").touch()
    monkeypatch.chdir(folder.parent)
    assert str(EvaluationArguments("m", file=files).path) == f"evaluations/m-{name}"


def test_a_broken_model_gets_its_report(run, table, tmp_path, changed_model):
    changed_model.save_pretrained(tmp_path / "broken")
    # This library would not save such weights. Another program may.
    file = tmp_path / "broken" / "model.safetensors"
    weights = load_file(file)
    weights["encoder.embeddings.word_embeddings.weight"].fill_(torch.nan)
    save_file(weights, file, metadata={"format": "pt"})
    write_checksums(tmp_path / "broken")
    printed = run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out", model="broken")
    report = read("out")
    assert report["verdict"] == "broken" and report["figures"]["kl"] is None
    assert report["kl_per_dimension"] == [None] * 8
    assert "The latent space is broken. No number: reconstruction, KL, ELBO" in printed
    assert "There are no pictures" in report["notes"][0] and {p.name for p in Path("out").iterdir()} == set(
        report["files"]
    )


def test_a_decoder_without_the_latent_is_called_deaf_on_its_card(run, table, tmp_path, changed_model):
    with torch.no_grad():
        for weights in changed_model.injection.parameters():
            weights.zero_()
    changed_model.save_pretrained(tmp_path / "deaf")
    options = ["--num_importance_samples", "20", "--output_dir", "out", "--update_card"]
    run("--file", "reviews.csv", "--text_column", "review", *options, model="deaf")
    report = read("out")
    assert report["verdict"] == "deaf" and report["version"] == 2
    assert report["figures"]["latent_gain"] == 0.0 and abs(report["figures"]["decoder_information"]) < 0.2
    card = BNVAEModelCard.from_json_file(tmp_path / "deaf" / "model_card.json")
    assert card.verdict == "deaf" and not card.is_alive
    text = Path("deaf/README.md").read_text(encoding="utf-8")
    assert "**Do not rely on this model's latents.** The latent space is deaf." in text and "is alive" not in text


@pytest.fixture
def changed_model(trained_model, processor, tmp_path):
    """A copy of the trained model whose weights a test may change. Its processor is where the test saves it."""
    for name in ("broken", "collapsed", "deaf"):
        processor.save_pretrained(tmp_path / name)
    return copy.deepcopy(trained_model)


def test_a_report_of_an_older_version_is_compared(run, table, evaluated, tmp_path):
    """It has no verdict and no figures of the decoder."""
    old = json.loads(json.dumps(evaluated.report))
    for name in ("version", "verdict", "verdict_text"):
        del old[name]
    for name in ("decoder_information", "latent_gain", "frequency_nll", "reconstruction_chrf"):
        old["figures"].pop(name)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "report.json").write_text(json.dumps({**old, "diagnosis": None}))
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out", "--compare_with", "old")
    assert read("out")["compared_with"][0]["same_texts"]
    assert read_report("old")["verdict"] == "alive"
    assert "Nobody asked the decoder" in read_report("old")["verdict_text"]


def test_copies_among_the_texts_are_told(run, table):
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1], lines[2]]) + "\n")
    run("--file", "reviews.csv", "--text_column", "review", "--output_dir", "out")
    assert "2 of 42 evaluation texts are exact copies of others." in read("out")["notes"]
