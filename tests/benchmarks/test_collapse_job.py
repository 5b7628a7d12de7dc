"""The collapse benchmark as a whole: its texts, its options, and all stages on tiny networks."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from paths import SCRIPTS

from hf_bnvae.benchmarks.collapse import job
from hf_bnvae.benchmarks.collapse.remedies import REMEDIES
from hf_bnvae.benchmarks.collapse.settings import CHOICES, EVALUATION, SETTINGS, Choice
from hf_bnvae.benchmarks.texts import TextSources, prepare_texts


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_collapse", SCRIPTS / "benchmark_collapse.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_texts_are_halved_at_random_and_belong_to_one_benchmark(tmp_path):
    lines = ["label\ttext", *(f"{'neg' if i < 40 else 'pos'}\tsentence {i}" for i in range(80))]
    (tmp_path / "valid.tsv").write_text("\n".join(lines))
    (tmp_path / "train.txt").write_text("\n".join(f"training {i}" for i in range(9)))
    files = (str(tmp_path / "train.txt"), str(tmp_path / "valid.tsv"))
    sources = TextSources(*files, "text", "label")
    with pytest.raises(ValueError, match="train"):  # one column of that name for both files
        prepare_texts(tmp_path / "a" / "texts", TextSources(*files, "no such column", "label"))
    training, reported = prepare_texts(tmp_path / "b" / "texts", sources)
    halves = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (training["validation_file"], reported["file"])
    ]
    assert [len(half) for half in halves] == [40, 40]
    assert {row["text"] for half in halves for row in half} == {f"sentence {i}" for i in range(80)}
    assert all({row["label"] for row in half} == {"neg", "pos"} for half in halves)
    assert reported["label_column"] == "label" and reported["probe_train_file"] == training["validation_file"]
    assert prepare_texts(tmp_path / "b" / "texts", sources) == (training, reported)
    with pytest.raises(ValueError, match="a benchmark on other texts"):
        prepare_texts(tmp_path / "b" / "texts", TextSources(*files, "text"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1", "1"], "--seeds must differ"),
        (["--min_information", "-3"], "must not be negative"),
        (["--num_workers", "0"], "at least 1"),
        (["--choices", "freeze"], "--choices of --setting small are pooling, latent_injection"),
        (["--render_only"], "no benchmark in nowhere to render"),
        (["--label_column", "label"], "names a column of --validation_file"),
    ],
)
def test_wrong_options_are_refused(script, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        script.parse_arguments(["--output_dir", "nowhere", *options])
    assert message in capsys.readouterr().err


FILES = {"train_file": "train.tsv", "validation_file": "valid.tsv", "text_column": "text", "label_column": "label"}


def call(script, folder: Path, *options: str) -> str:
    """The message that the script exits with, empty if it comes to its end."""
    flags = [str(part) for name, value in FILES.items() for part in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark_collapse.py", *flags, "--output_dir", str(folder), *options])
        try:
            script.main()
        except SystemExit as stopped:
            return str(stopped.code)
    return ""


def read(folder: Path, name: str = "results.json") -> dict:
    return json.loads((folder / name).read_text())


def models(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A working directory with labelled sentences, where the setting `small` is tiny and grids have two points."""
    folder = tmp_path_factory.mktemp("collapse")
    lines = [f"{'ab'[i % 2]}\tthe {'good' if i % 2 else 'bad'} sentence number {i} ." for i in range(120)]
    for name, part in (("train", lines[:80]), ("valid", lines[80:])):
        (folder / f"{name}.tsv").write_text("\n".join(["label\ttext", *part]))
    setting = {"num_train_epochs": 3, "hidden_size": 32, "num_layers": 1, "latent_size": 4, "vocab_size": 300}
    setting |= {
        "learning_rate": 1e-3,
        "latent_learning_rate": 1e-3,
        "num_importance_samples": 2,
        "eval_strategy": "no",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "small", setting | {"save_strategy": "no", "disable_tqdm": True})
        patch.setitem(EVALUATION, "small", {"num_importance_samples": 3})
        patch.setitem(CHOICES, "small", [Choice("pooling", ("cls", "mean"))])
        patch.setattr(job, "REMEDIES", tuple(replace(remedy, grid=remedy.grid[:2]) for remedy in REMEDIES))
        patch.chdir(folder)
        yield folder


OPTIONS = ("--remedies", "autoencoder first", "bn_rms", "--num_workers", "2", "--choices")


@pytest.fixture(scope="module")
def first(tiny, script):
    """Two remedies with two seeds, one of them with pretraining. One run cannot be made: its folder is not empty."""
    (tiny / "out/bn_rms/0-1").mkdir(parents=True)
    (tiny / "out/bn_rms/0-1/mine.txt").write_text("not a run's")
    message = call(script, Path("out"), "--seeds", "1", "2", *OPTIONS)
    results, page = read(tiny / "out"), (tiny / "out/results.md").read_text()
    return {"message": message, "results": results, "page": page, "models": models(tiny / "out")}


@pytest.fixture(scope="module")
def second(tiny, script, first):
    """The same benchmark again with one seed and a choice, when nothing is in the way any more."""
    (tiny / "out/bn_rms/0-1/mine.txt").unlink()
    message = call(script, Path("out"), "--seeds", "1", *OPTIONS, "pooling")
    return {"message": message, "results": read(tiny / "out"), "models": models(tiny / "out")}


@pytest.fixture(scope="module")
def elsewhere(tiny, script, second):
    """The second call in another folder, from the record alone."""
    call(script, Path("elsewhere"), "--seeds", "1", *OPTIONS, "pooling", "--known_runs", "out/runs.json")
    return tiny / "elsewhere"


@pytest.mark.slow
def test_a_run_that_fails_is_a_row_and_the_others_go_on(first):
    assert first["message"].startswith("1 of the tasks failed")
    _, bn_rms = first["results"]["remedies"]
    assert bn_rms["grid"][0]["figures"] is None and bn_rms["grid"][0]["has_failed"]
    assert bn_rms["grid"][1]["figures"] is not None and "| bn_rms            | bn_tau" in first["page"]


@pytest.mark.slow
def test_chosen_settings_are_run_with_every_seed_and_evaluated_on_the_held_out_half(first):
    autoencoder, bn_rms = first["results"]["remedies"]
    assert [run["seed"] for run in autoencoder["runs"]] == [1, 2] and autoencoder["dropout_runs"] == []
    assert len(bn_rms["dropout_runs"]) == 2
    assert autoencoder["grid"][0]["figures"]["num_sentences"] == 20
    for run in (*autoencoder["runs"], *bn_rms["runs"]):
        assert run["figures"]["num_sentences"] == 20 and run["figures"]["iw_nll_num_samples"] == 3
        assert run["probe"]["results"]["means"]["num_test"] == 20
        # Under its own fitted prior, too, with samples that the benchmark's judge has read.
        assert run["figures"]["fitted_prior"] == "gaussian"
        kinds = run["samples"]["kinds"]
        assert len(kinds) == 5 and all(quality["perplexity"] > 1 for quality in kinds.values())
        assert kinds["held-out texts"] == autoencoder["runs"][0]["samples"]["kinds"]["held-out texts"]
    assert "| bn_rms            | fitted prior, drawn tokens" in first["page"]


@pytest.mark.slow
def test_records_name_no_folder_of_this_machine(tiny, first):
    for name in ("results.json", "runs.json"):
        text = (tiny / "out" / name).read_text()
        assert '"seeds"' in text or '"runs"' in text
        assert str(tiny) not in text
    assert (tiny / "out/results.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_run_goes_on_with_its_pretrained_encoder(tiny, first):
    record = read(tiny / "out/autoencoder-first/0-1", "run.json")
    assert record["settings"]["encoder_side_name_or_path"] == "out/autoencoder-first/pretraining-1"
    assert record["settings"]["num_train_epochs"] == 2.0


@pytest.mark.slow
def test_a_second_call_repeats_nothing_but_what_failed(first, second):
    assert second["message"] == ""
    assert first["models"].items() <= second["models"].items() and len(second["models"]) > len(first["models"])
    assert second["results"]["remedies"][1]["grid"][0]["figures"] is not None
    (pooling,) = second["results"]["choices"]
    assert [[run["seed"] for run in point["runs"]] for point in pooling["points"]] == [[1], [1]]


@pytest.mark.slow
def test_the_record_gives_the_same_tables_on_another_machine(tiny, elsewhere):
    assert not models(elsewhere) and models(tiny / "out")
    for name in ("results.json", "results.md", "runs.json"):
        assert (elsewhere / name).read_text() == (tiny / "out" / name).read_text()


@pytest.mark.slow
def test_shared_options_are_varied_alone_and_without_a_chosen_setting(tiny, script, monkeypatch):
    monkeypatch.setitem(SETTINGS, "small", SETTINGS["small"] | {"auxiliary": "bag_of_words"})
    choices = [Choice("auxiliary", ("bag_of_words", "none"), name, 1) for name in ("autoencoder first", "ln")]
    monkeypatch.setitem(CHOICES, "small", choices)
    asked = ("--seeds", "1", "--only_choices", "--num_workers", "2", "--remedies", "autoencoder first")
    assert call(script, Path("alone"), *asked) == ""
    made = sorted(path.parent.relative_to(tiny / "alone").as_posix() for path in models(tiny / "alone"))
    assert made == [
        "autoencoder-first/1-1",
        "autoencoder-first/pretraining-1",
        "choices/autoencoder-first-1-auxiliary-none-1",
        "choices/autoencoder-first-1-auxiliary-none-1-pretraining",
    ]
    page = (tiny / "alone/results.md").read_text()
    assert page.count("| auxiliary |") == 2 and "not yet" not in page and not (tiny / "alone/results.png").exists()
    rows = [line for line in page.splitlines() if "| auxiliary |" in line]
    assert all(" / " in row for row in rows)  # under both priors
    (varied,) = read(tiny / "alone")["choices"]
    first, second = (point["runs"][0]["figures"]["iw_nll"] for point in varied["points"])
    assert varied["base"].startswith("autoencoder first") and first != second


@pytest.mark.slow
def test_a_call_that_asks_for_other_runs_loses_none_of_the_record(tiny, script, elsewhere):
    before = (elsewhere / "results.md").read_text()
    call(
        script,
        Path("elsewhere"),
        "--seeds",
        "7",
        *OPTIONS,
        "pooling",
        "--known_runs",
        "out/runs.json",
        "--render_only",
    )
    assert read(elsewhere, "runs.json") == read(tiny / "out", "runs.json")
    assert (elsewhere / "results.md").read_text() != before  # there is no run with this seed
