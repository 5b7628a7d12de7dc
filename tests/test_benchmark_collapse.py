"""The collapse benchmark: what it plans, what it chooses, what it says; and all of it on tiny networks."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from hf_bnvae.arguments import parse_arguments
from hf_bnvae.collapse_table import is_better_on_both, render_grids, render_remedies, render_verdicts

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "benchmark_collapse.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_collapse", SCRIPT)
    # Dataclasses look their module up.
    module = sys.modules["benchmark_collapse"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def benchmark(script, tmp_path):
    return script.CollapseBenchmark(
        tmp_path, script.SETTINGS["small"], {"train_file": "train.jsonl"}, {"file": "held_out.jsonl"}
    )


def figures(iw_nll, information):
    return {"eval_iw_nll": iw_nll, "eval_mutual_information": information}


def test_every_grid_is_of_equal_size_and_varies_something(script):
    assert {len(remedy.grid) for remedy in script.REMEDIES} == {3}
    for remedy in script.REMEDIES:
        assert len({json.dumps(point) for point in remedy.grid}) == 3
        assert {point["posterior"] for point in remedy.grid} == {remedy.grid[0]["posterior"]}
    assert set(script.OURS) < {remedy.name for remedy in script.REMEDIES}
    folders = {remedy.name.replace(", ", "-").replace(" ", "-") for remedy in script.REMEDIES}
    assert len(folders) == len(script.REMEDIES)


def test_every_run_is_a_command_that_the_training_script_understands(script, benchmark):
    for run in benchmark.tuning():
        for one in (run, run.after):
            if one is not None:
                model_args, _, report_args, training_args = parse_arguments(one.command()[2:])
                assert training_args.seed == 42 and report_args.num_importance_samples == 50
                for name, value in one.options.items():
                    holder = next(a for a in (model_args, report_args, training_args, _) if hasattr(a, name))
                    assert getattr(holder, name) in (value, str(value)), name
    assert model_args.posterior == "bn_rms" and model_args.rate == 12
    assert [run.options["learning_rate"] for run in benchmark.tuning()[:4]] == [1e-3, 2e-3, 4e-3, 2e-3]


def test_all_runs_share_networks_texts_and_budget(script, benchmark):
    runs = benchmark.tuning()
    assert len(runs) == 3 * len(script.REMEDIES)
    budgets = [
        run.options["num_train_epochs"] + (run.after.options["num_train_epochs"] if run.after else 0) for run in runs
    ]
    assert budgets == pytest.approx([1.0] * len(runs))
    assert sum(run.after is not None for run in runs) == 3
    assert len({run.after.folder for run in runs if run.after}) == 1
    for name in ("hidden_size", "num_layers", "latent_size", "max_train_samples", "train_file", "seed"):
        assert len({run.options[name] for run in runs}) == 1
    assert len({run.folder for run in runs}) == len(runs)


def test_the_lowest_likelihood_is_chosen_among_those_that_are_alive(script):
    points = {0: figures(50.0, 0.1), 1: figures(52.0, 3.0), 2: figures(53.0, 5.0)}
    assert script.choose(points, 2.0) == 1
    assert script.choose(points, 4.0) == 2
    assert script.choose(points, 9.0) == 0
    assert script.choose({}, 2.0) is None


def entry(name, nlls, information):
    runs = [
        {"seed": seed, "figures": dict.fromkeys(FIGURES, 1.0) | {"iw_nll": nll, "mutual_information": mi}}
        for seed, (nll, mi) in enumerate(zip(nlls, information, strict=True))
    ]
    grid = [
        {"options": {"posterior": name, "bn_tau": 0.1}, "figures": runs[0]["figures"]},
        {"options": {"posterior": name, "bn_tau": 0.25}, "figures": None},
    ]
    return {"name": name, "grid": grid, "chosen": 0, "runs": runs, "is_ours": name == "bn", "dropout_runs": []}


FIGURES = ("kl", "marginal_kl", "reconstruction_nll", "active_units", "reconstruction_bleu")


def test_tables_and_verdicts_say_what_was_found():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), entry("a", [52.0, 53.0], [3.0, 3.0]), entry("b", [40.0], [3.0])]
    table = render_remedies(entries)
    assert "| bn     | bn_tau 0.1     | 51.00 ± 1.41 | 4.50 ± 0.71 |" in table
    assert "| b      | bn_tau 0.1     | 40.00 " in table
    assert render_remedies(entries, "dropout_runs").count("\n") == 1
    grids = render_grids(entries)
    assert grids.count("failed") == 3 and grids.count("chosen") == 3 and "bn_tau 0.25" in grids
    assert is_better_on_both(entries[0], entries[1]) and not is_better_on_both(entries[1], entries[0])
    assert not is_better_on_both(entries[0], entries[2])
    verdict = render_verdicts(entries)
    assert verdict == ("- `bn` (bn_tau 0.1) has a lower IW-NLL and more mutual information than *a*; not *b*.")


@pytest.mark.slow
def test_a_benchmark_of_tiny_runs_tunes_repeats_reports_and_goes_on(tmp_path, monkeypatch, capsys, script):
    """Two remedies, one of them with pretraining, on a file of labelled sentences."""
    lines = [f"{'ab'[i % 2]}\tthe {'good' if i % 2 else 'bad'} sentence number {i} ." for i in range(120)]
    for name, part in (("train", lines[:80]), ("valid", lines[80:])):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["label\ttext", *part]))
    tiny = {"num_train_epochs": 3, "hidden_size": 32, "num_layers": 1, "latent_size": 4, "vocab_size": 300}
    tiny |= {"learning_rate": 1e-3, "latent_learning_rate": 1e-3, "num_importance_samples": 2, "eval_strategy": "no"}
    monkeypatch.setitem(script.SETTINGS, "small", tiny | {"save_strategy": "no", "disable_tqdm": True})
    monkeypatch.setitem(script.EVALUATION, "small", {"num_importance_samples": 3})
    monkeypatch.chdir(tmp_path)
    options = {"train_file": "train.tsv", "validation_file": "valid.tsv", "text_column": "text"}
    options |= {"label_column": "label", "output_dir": "out", "num_workers": 2}
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    remedies = ["--seeds", "1", "2", "--remedies", "autoencoder first", "bn_rms"]
    monkeypatch.setattr(sys, "argv", ["benchmark_collapse.py", *flags, *remedies])
    # A run that cannot be made is a row, and the others go on.
    (tmp_path / "out/bn_rms/0-1").mkdir(parents=True)
    (tmp_path / "out/bn_rms/0-1/mine.txt").write_text("not a run's")
    with pytest.raises(SystemExit, match="1 tasks failed"):
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
    assert (tmp_path / "out/results.png").stat().st_size > 10_000
    assert Path("out/results.md").read_text().strip() in printed
    # Its models are those of the commands: the pretrained encoder was gone on with.
    record = json.loads(Path("out/autoencoder-first/0-1/run.json").read_text())
    assert record["settings"]["encoder_side_name_or_path"] == "out/autoencoder-first/pretraining-1"
    assert record["settings"]["num_train_epochs"] == 2.0
    # Again: nothing is repeated but what failed.
    (tmp_path / "out/bn_rms/0-1/mine.txt").unlink()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    script.main()
    after = {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    assert before.items() <= after.items() and len(after) > len(before)
    assert json.loads(Path("out/results.json").read_text())["remedies"][1]["grid"][0]["figures"] is not None
