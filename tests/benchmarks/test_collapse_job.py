"""The collapse benchmark as a whole: its texts, its options, and all stages on tiny networks."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from paths import SCRIPTS

from hf_bnvae.benchmarks.collapse.settings import CHOICES, EVALUATION, SETTINGS, Choice
from hf_bnvae.benchmarks.collapse.texts import TextSources, prepare_texts


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


@pytest.mark.slow
def test_a_benchmark_of_tiny_runs_tunes_repeats_reports_and_goes_on(tmp_path, monkeypatch, capsys, script):
    """Two remedies, one of them with pretraining, on a file of labelled sentences."""
    lines = [f"{'ab'[i % 2]}\tthe {'good' if i % 2 else 'bad'} sentence number {i} ." for i in range(120)]
    for name, part in (("train", lines[:80]), ("valid", lines[80:])):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["label\ttext", *part]))
    tiny = {"num_train_epochs": 3, "hidden_size": 32, "num_layers": 1, "latent_size": 4, "vocab_size": 300}
    tiny |= {"learning_rate": 1e-3, "latent_learning_rate": 1e-3, "num_importance_samples": 2, "eval_strategy": "no"}
    monkeypatch.setitem(SETTINGS, "small", tiny | {"save_strategy": "no", "disable_tqdm": True})
    monkeypatch.setitem(EVALUATION, "small", {"num_importance_samples": 3})
    monkeypatch.chdir(tmp_path)
    options = {"train_file": "train.tsv", "validation_file": "valid.tsv", "text_column": "text"}
    options |= {"label_column": "label", "output_dir": "out", "num_workers": 2}
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    remedies = ["--seeds", "1", "2", "--remedies", "autoencoder first", "bn_rms", "--choices"]
    monkeypatch.setattr(sys, "argv", ["benchmark_collapse.py", *flags, *remedies])
    # A run that cannot be made is a row, and the others go on.
    (tmp_path / "out/bn_rms/0-1").mkdir(parents=True)
    (tmp_path / "out/bn_rms/0-1/mine.txt").write_text("not a run's")
    with pytest.raises(SystemExit, match="1 of the tasks failed"):
        script.main()
    printed = capsys.readouterr().out
    assert "bn_rms/0-1: failed" in printed and "| bn_rms            | bn_tau" in printed
    results = json.loads(Path("out/results.json").read_text())
    first, second = results["remedies"]
    assert [run["seed"] for run in first["runs"]] == [1, 2] and first["dropout_runs"] == []
    assert len(second["dropout_runs"]) == 2 and second["grid"][0]["figures"] is None
    for run in (*first["runs"], *second["runs"]):
        assert run["figures"]["num_sentences"] == 20 and run["figures"]["iw_nll_num_samples"] == 3
        assert run["probe"]["results"]["means"]["num_test"] == 20
    assert first["grid"][0]["figures"]["num_sentences"] == 20
    for name in ("results.json", "runs.json"):  # which are kept for others
        assert str(tmp_path) not in Path("out", name).read_text()
    assert (tmp_path / "out/results.png").stat().st_size > 10_000
    assert Path("out/results.md").read_text().strip() in printed
    # Its models are those of the commands: the pretrained encoder was gone on with.
    record = json.loads(Path("out/autoencoder-first/0-1/run.json").read_text())
    assert record["settings"]["encoder_side_name_or_path"] == "out/autoencoder-first/pretraining-1"
    assert record["settings"]["num_train_epochs"] == 2.0
    # Again: nothing is repeated but what failed.
    (tmp_path / "out/bn_rms/0-1/mine.txt").unlink()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    monkeypatch.setitem(CHOICES, "small", [Choice("pooling", ("cls", "mean"))])
    again = [*remedies[remedies.index("--remedies") :], "pooling", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark_collapse.py", *flags, *again])
    script.main()
    after = {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    assert before.items() <= after.items() and len(after) > len(before)
    assert json.loads(Path("out/results.json").read_text())["remedies"][1]["grid"][0]["figures"] is not None
    (pooling,) = json.loads(Path("out/results.json").read_text())["choices"]
    assert [[run["seed"] for run in point["runs"]] for point in pooling["points"]] == [[1], [1]]
    # On another machine its record is enough, and gives the same tables.
    flags[flags.index("out")] = "elsewhere"
    monkeypatch.setattr(sys, "argv", ["benchmark_collapse.py", *flags, *again, "--known_runs", "out/runs.json"])
    script.main()
    assert not list(Path("elsewhere").rglob("model.safetensors"))
    for name in ("results.json", "results.md", "runs.json"):
        assert Path("elsewhere", name).read_text() == Path("out", name).read_text()
    # A call that asks for other runs loses none of the record.
    again[again.index("--seeds") + 1] = "7"
    options = [*flags, *again, "--known_runs", "out/runs.json", "--render_only"]
    monkeypatch.setattr(sys, "argv", ["benchmark_collapse.py", *options])
    script.main()
    assert json.loads(Path("elsewhere/runs.json").read_text()) == json.loads(Path("out/runs.json").read_text())
