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
    return script.CollapseBenchmark(tmp_path, script.SETTINGS["small"], {"train_file": "train.jsonl"})


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
    assert [run.options["learning_rate"] for run in benchmark.tuning()[:4]] == [5e-4, 1e-3, 2e-3, 1e-3]


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
    return {"name": name, "grid": grid, "chosen": 0, "runs": runs}


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
    verdict = render_verdicts(entries, ["bn"])
    assert verdict == ("- `bn` (bn_tau 0.1) has a lower IW-NLL and more mutual information than *a*; not *b*.")
