"""The collapse benchmark: what it plans, what it chooses, what it says; and all of it on tiny networks."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from paths import SCRIPTS

from hf_bnvae.benchmarks.collapse_table import (
    render_choices,
    render_frontier,
    render_grids,
    render_probes,
    render_remedies,
    render_verdicts,
    update_page,
    wins,
)
from hf_bnvae.evaluation.plots import plot_remedies
from hf_bnvae.jobs.arguments import parse_arguments

SCRIPT = SCRIPTS / "benchmark_collapse.py"


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
        tmp_path,
        script.SETTINGS["small"],
        {"train_file": "train.jsonl"},
        {"file": "held_out.jsonl"},
        choices=(*script.CHOICES["small"], script.Choice("rate", (4, 16), "bn_rms, rate", 1)),
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
    assert model_args.posterior == "bn_rms" and model_args.rate == 8
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
    assert script.choose(points, 9.0, is_strict=True) is None and script.choose(points, 4.0, is_strict=True) == 2


def entry(name, nlls, information):
    runs = [
        {"seed": seed, "figures": dict.fromkeys(FIGURES, 1.0) | {"iw_nll": nll, "mutual_information": mi}}
        for seed, (nll, mi) in enumerate(zip(nlls, information, strict=True))
    ]
    grid = [
        {"options": {"posterior": name, "bn_tau": 0.1}, "figures": runs[0]["figures"], "has_failed": False},
        {"options": {"posterior": name, "bn_tau": 0.25}, "figures": None, "has_failed": name != "b"},
    ]
    return {"name": name, "grid": grid, "chosen": 0, "runs": runs, "is_ours": name == "bn", "dropout_runs": []}


FIGURES = ("kl", "marginal_kl", "reconstruction_nll", "active_units", "reconstruction_bleu")


def test_tables_and_verdicts_say_what_was_found():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), entry("a", [52.0, 53.0], [3.0, 3.0]), entry("b", [40.0], [3.0])]
    table = render_remedies(entries)
    assert "| bn     | bn_tau 0.1     | 2     | 51.00 ± 1.41 | 4.50 ± 0.71 |" in table
    assert "| b      | bn_tau 0.1     | 1     | 40.00 " in table
    assert render_remedies(entries, "dropout_runs").count("\n") == 1
    grids = render_grids(entries)
    assert grids.count("failed") == 2 and grids.count("not yet") == 1 and grids.count("chosen") == 3
    assert render_verdicts(entries) == (
        "- `bn` (bn_tau 0.1) is better in likelihood and in information, with every seed, than *a*; better in "
        "information only than *b*."
    )
    assert render_verdicts(entries[1:]) == ""


def test_every_setting_of_the_others_is_held_against_ours():
    ours, other = entry("bn", [50.0], [4.0]), entry("a", [51.0], [3.0])
    assert "Of the 1 settings" in render_frontier([ours, other]) and ", 1 have one" in render_frontier([ours, other])
    better = {**entry("b", [49.0], [1.0]), "is_ours": False}
    text = render_frontier([ours, other, better])
    assert "Of the 2 settings" in text and ", 1 have one" in text and text.endswith("; not *b* (bn_tau 0.1).")
    assert render_frontier([ours]) == render_frontier([other]) == ""


def test_a_remedy_wins_with_every_seed_or_not_at_all():
    ours = entry("bn", [50.0, 52.0], [4.0, 5.0])
    assert wins(ours, entry("a", [51.0, 53.0], [3.0, 4.9])) == (True, True)
    assert wins(ours, entry("a", [51.0, 53.0], [3.0, 5.1])) == (True, False)
    assert wins(ours, entry("a", [60.0, 51.9], [3.0, 4.9])) == (False, True)
    assert wins(ours, entry("a", [40.0, 41.0], [9.0, 9.0])) == (False, False)
    assert wins(ours, {**ours, "runs": []}) == (False, False)


def test_the_picture_shows_means_spreads_and_grids():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0]), {**entry("a", [47.0], [1.0]), "runs": []}]
    figure = plot_remedies(entries)
    likelihood, marginal, grids = figure.axes
    assert marginal.containers[0].lines[0].get_xydata().tolist() == [[4.5, 1.0]]
    (mark,) = likelihood.containers
    assert mark.lines[0].get_xydata().tolist() == [[4.5, 51.0]]
    (horizontal,), (vertical,) = (bars.get_segments() for bars in mark.lines[2])
    assert horizontal[:, 0].tolist() == pytest.approx([4.5 - 0.5**0.5, 4.5 + 0.5**0.5])
    assert vertical[:, 1].tolist() == pytest.approx([51 - 2**0.5, 51 + 2**0.5])
    # The grids are of other texts, and in a picture of their own.
    assert [line.get_xydata().tolist() for line in grids.lines] == [[[4.0, 50.0]], [[1.0, 47.0]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bn", "a"]
    # Before anything is chosen there are the grids alone.
    (only,) = plot_remedies([{**one, "runs": []} for one in entries]).axes
    assert len(only.lines) == 2
    far = plot_remedies([entry("a", [47.0], [0.0]), entry("b", [90.0], [1.0])]).axes[2]
    assert far.get_ylim()[0] < 47 and far.get_ylim()[1] - far.get_ylim()[0] == pytest.approx(6)
    many = [{**entry(f"{i}", [47.0], [1.0]), "is_ours": i % 4 == 0} for i in range(13)]
    drawn = plot_remedies(many).axes[2].lines
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in drawn}
    assert len(looks) == len({(line.get_color(), line.get_markerfacecolor()) for line in drawn}) == 13
    # What hardly differs looks so.
    for axes in plot_remedies([entry("a", [47.0, 47.001], [0.0, 0.0001])]).axes:
        assert all(most - least >= 1 for least, most in (axes.get_xlim(), axes.get_ylim()))


def test_the_probe_is_shown_on_means_and_on_draws():
    def probe(accuracies):
        rows = [{"labels_per_class": n, "accuracy": a} for n, a in zip((10, None), accuracies, strict=True)]
        return {"rows": rows, "majority_accuracy": 0.575}

    runs = [{"probe": {"results": {"means": probe((0.6, a)), "draws": probe((0.5, 0.575))}}} for a in (0.7, 0.8)]
    assert render_probes([{"name": "a", "runs": []}, {"name": "b", "runs": runs}]).splitlines() == [
        "| remedy | on                        | 10 labels per class | all labels |",
        "|--------|---------------------------|---------------------|------------|",
        "| b      | means of the posteriors   | 60.0 ± 0.0          | 75.0 ± 7.1 |",
        "| b      | draws from the posteriors | 50.0 ± 0.0          | 57.5 ± 0.0 |",
        "",
        "Always naming the most frequent class: 57.5.",
    ]


def test_a_page_gets_the_tables_of_its_setting():
    entries = [entry("bn", [50.0, 52.0], [4.0, 5.0])]
    for run in entries[0]["runs"]:
        counts = {"num_sentences": 9, "log_num_sentences": 2.2, "iw_nll_num_sentences": 9, "iw_nll_num_samples": 5}
        run["figures"] |= counts
    points = [
        {"value": value, "runs": entry("bn", [nll], [3.0])["runs"]} for value, nll in (("cls", 51.0), (None, 50.0))
    ]
    results = {
        "setting_name": "small",
        "remedies": entries,
        "informed": [
            {"min_information": 4.0, "remedies": [entry("ln", [55.0], [4.5])]},
            {"min_information": 9.0, "remedies": [{**entry("du", [60.0], [5.0]), "runs": []}]},
        ],
        "choices": [{"base": "bn", "option": "pooling", "points": [*points, {"value": "mean", "runs": []}]}],
        "torch_version": "1",
        "transformers_version": "2",
        "hardware": "CPU",
        "min_information": 2.0,
        "encoder_dropout": 0.1,
    }
    page = "before\n<!-- collapse small: begin -->\nold\n<!-- collapse small: end -->\nafter"
    summary, whole = (update_page(page, results, is_whole) for is_whole in (False, True))
    for text in (summary, whole):
        assert text.startswith("before\n") and text.endswith("\nafter") and "old" not in text
        assert "| bn     | bn_tau 0.1     | 2     | 51.00 ± 1.41 |" in text
        assert update_page(text, results, text is whole) == text
        assert "at least 4 nats" in text and "| ln     |" in text and "at least 9 nats" not in text
    choices = render_choices(results["choices"])
    assert choices in whole and "pooling" not in summary
    # Nothing was varied where the first value alone has been run.
    unvaried = [{**results["choices"][0], "points": [points[0], {"value": "mean", "runs": []}]}]
    assert "pooling" not in update_page(page, {**results, "choices": unvaried}, is_whole=True)
    assert choices.splitlines()[2:] == [
        "| bn | pooling | cls   | 1     | 51.00  | 3.00 | 1.00        | 1.00 | 1.00           | 1      | 1.0  |",
        "| bn | pooling | none  | 1     | 50.00  | 3.00 | 1.00        | 1.00 | 1.00           | 1      | 1.0  |",
    ]
    with pytest.raises(ValueError, match="collapse large: begin"):
        update_page(page, {**results, "setting_name": "large"}, is_whole=False)


def test_choices_are_varied_one_at_a_time_in_a_run_of_ours(script, benchmark):
    runs = benchmark.choice_runs()
    # The first value of each is what all remedies have, so that its run is made once, and by the remedy.
    bases = {benchmark.run_of(script.remedy_of(c.remedy), c.point, 42).folder for c in benchmark.choices}
    assert len(runs) == 3 * (len(bases) + sum(len(choice.values) - 1 for choice in benchmark.choices))
    assert bases < {run.folder for run in runs} and len(bases) == 7
    for choice in benchmark.choices:
        base = benchmark.run_of(script.remedy_of(choice.remedy), choice.point, 42)
        for value in choice.values:
            run = benchmark.choice_run(choice, value, 42)
            parse_arguments(run.command()[2:])
            own = {n: v for n, v in run.options.items() if base.options.get(n) != v}
            assert own == ({} if value == choice.values[0] else {choice.option: value})
    held = script.Choice("freeze_steps", (None, 100), "bn_rms, rate", 1, {"freeze": "both"})
    assert (
        benchmark.choice_run(held, None, 42).options
        == benchmark.run_of(script.remedy_of("bn_rms, rate"), 1, 42).options
    )
    options = benchmark.choice_run(held, 100, 42).options
    assert (options["freeze"], options["freeze_steps"]) == ("both", 100)
    assert [choice.base for choice in benchmark.choices[-3:]] == [
        "bn_rms: bn_tau 0.1",
        "bn_rms, rate: rate 4",
        "bn_rms, rate: rate 4",
    ]
    base = benchmark.run_of(script.remedy_of("bn_rms"), 0, 42)
    for name, setting in script.SETTINGS.items():
        for choice in script.CHOICES[name]:
            options = setting | script.remedy_of(choice.remedy).grid[choice.point]
            assert options.get(choice.option) == choice.values[0]
    assert benchmark.collect_choices() == []
    finish(base)
    finish(benchmark.choice_run(benchmark.choices[0], "cls", 43), eval_iw_nll=49.0)
    first, *others = benchmark.collect_choices()
    assert [[run["seed"] for run in point["runs"]] for point in first["points"]] == [[42], [43], []]
    assert first["points"][1]["runs"][0]["figures"]["iw_nll"] == 49.0
    # Those of other bases have none yet.
    same = [
        c for c in benchmark.choices if benchmark.run_of(script.remedy_of(c.remedy), c.point, 42).folder == base.folder
    ]
    assert [entry["option"] for entry in (first, *others)] == [choice.option for choice in same] and others


def test_what_has_no_value_is_left_out_of_a_command(script, tmp_path):
    command = script.Run(tmp_path, {"freeze": None, "rate": 8}).command()
    assert command[2:] == ["--rate", "8", "--output_dir", str(tmp_path)]


def finish(run, **figures):
    """What the training script leaves of a run."""
    run.folder.mkdir(parents=True)
    record = {"finished": True, "settings": {n: str(v) if isinstance(v, Path) else v for n, v in run.options.items()}}
    (run.folder / "run.json").write_text(json.dumps(record))
    results = {"eval_iw_nll": 50.0, "eval_mutual_information": 3.0, **figures}
    (run.folder / "all_results.json").write_text(json.dumps(results))


def test_only_a_finished_grid_is_chosen_from_and_main_remedies_are_repeated_with_dropout(script, benchmark):
    remedy = next(r for r in script.REMEDIES if r.name == "bn_rms")
    runs = [benchmark.run_of(remedy, point, 42) for point in range(3)]
    finish(runs[0])
    finish(runs[1], eval_iw_nll=49.0)
    assert benchmark.chosen(remedy) is None and benchmark.repetitions() == []
    runs[2].folder.mkdir()
    (runs[2].folder / "run.json").write_text(json.dumps({"finished": False, "settings": {}}))
    assert runs[2].results is None and benchmark.chosen(remedy) is None
    script.failure_mark(runs[2].folder).touch()
    assert benchmark.chosen(remedy) == 1
    repeated = [*benchmark.repetitions(), *benchmark.repetitions(0.1)]
    assert [(e.after.options["seed"], e.after.options.get("encoder_dropout")) for e in repeated] == [
        *((seed, None) for seed in (42, 43, 44)),
        *((seed, 0.1) for seed in (42, 43, 44)),
    ]
    assert repeated[0].after.folder == runs[1].folder and len({e.folder for e in repeated}) == 6
    # A comparison of those that have more leaves out who has not.
    informed = script.CollapseBenchmark(benchmark.folder, benchmark.setting, benchmark.data, {}, is_strict=True)
    informed.min_information = 3.0
    assert informed.chosen(remedy) == 1
    informed.min_information = 3.1
    assert informed.chosen(remedy) is None and informed.repetitions() == []
    (found,) = benchmark.collect()
    assert found["chosen"] == 1 and found["grid"][2]["has_failed"] and found["runs"] == []


def test_a_run_of_other_settings_is_not_taken_for_ours(script, benchmark):
    run = benchmark.run_of(script.REMEDIES[0], 0, 42)
    finish(run)
    assert run.results["eval_iw_nll"] == 50.0
    benchmark.setting = {**benchmark.setting, "hidden_size": 64}
    with pytest.raises(ValueError, match=r"other settings \(hidden_size: 128, not 64\)"):
        benchmark.collect()


def test_what_a_record_knows_is_not_run_again_but_for_a_model(script, benchmark, monkeypatch):
    remedy = script.remedy_of("autoencoder first")
    plain = benchmark.run_of(remedy, 0, 42)
    names = [benchmark.name_of(run) for run in (plain.after, plain)]
    assert names == ["autoencoder-first/pretraining-42", "autoencoder-first/0-42"]
    options = {run.folder: json.loads(json.dumps(run.options)) for run in (plain.after, plain)}
    results = figures(47.0, 2.5)
    benchmark.known = {
        name: {"options": options[run.folder], "results": results}
        for name, run in zip(names, (plain.after, plain), strict=True)
    }
    run = benchmark.run_of(remedy, 0, 42)
    assert run.results == run.after.results == results and not run.is_here
    made = []

    def make(command, **kwargs):
        folder = Path(command[command.index("--output_dir") + 1])
        made.append(benchmark.name_of(next(one for one in (run, run.after, evaluation) if one.folder == folder)))
        if folder != evaluation.folder:
            finish(next(one for one in (run, run.after) if one.folder == folder), **results)
        return type("Completed", (), {"returncode": 0})

    monkeypatch.setattr(script.subprocess, "run", make)
    evaluation = script.Evaluation(run, {"file": Path("held_out.jsonl")})
    assert script.execute([run], 1) == [] and made == []
    # An evaluation that is not known needs the model, and with it the one that this goes on from.
    assert script.execute([evaluation], 1) == [] and made == [*names, "autoencoder-first/0-42-held-out"]
    # Control: of other settings it is another run.
    benchmark.known[names[1]]["options"]["free_bits"] = 0.25
    other = benchmark.run_of(remedy, 0, 42)
    assert other.results == results, "its folder goes first"
    (other.folder / "run.json").unlink()
    with pytest.raises(ValueError, match=r"0-42 has other settings \(free_bits: 0.25, not 0.125\)"):
        _ = other.results


def test_a_record_of_other_texts_is_refused(script, tmp_path):
    texts, file = {"train": "1", "tuning": "2", "held_out": "3"}, tmp_path / "runs.json"
    with pytest.raises(ValueError, match="is no file"):
        script.read_known_runs([file], texts)
    file.write_text(json.dumps({"remedies": []}))
    with pytest.raises(ValueError, match=r"is no runs.json of this benchmark"):
        script.read_known_runs([file], texts)
    file.write_text(json.dumps({"texts": texts, "runs": {"a": {}}}))
    assert script.read_known_runs([file], texts) == {"a": {}} and script.read_known_runs([], texts) == {}
    with pytest.raises(ValueError, match="of other texts"):
        script.read_known_runs([file], {**texts, "train": "4"})
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"texts": texts, "runs": {"a": {"results": 1}, "b": {}}}))
    assert script.read_known_runs([file, other], texts) == {"a": {}, "b": {}}, "the first one counts"
    assert script.read_known_runs([other, file], texts) == {"a": {"results": 1}, "b": {}}


def test_what_a_run_left_to_the_defaults_is_known_by_its_model(script, benchmark):
    run = benchmark.run_of(script.REMEDIES[0], 0, 42)
    finish(run)
    record = json.loads((run.folder / "run.json").read_text())
    record["settings"]["pooling"] = None
    (run.folder / "run.json").write_text(json.dumps(record))
    (run.folder / "config.json").write_text(json.dumps({"pooling": "mean"}))
    assert run.results is not None
    (run.folder / "config.json").write_text(json.dumps({"pooling": "cls"}))
    with pytest.raises(ValueError, match="pooling: cls, not mean"):
        _ = run.results


def test_the_learning_rates_of_a_grid_go_together(script, benchmark):
    for run in benchmark.tuning():
        assert run.options["latent_learning_rate"] == run.options["learning_rate"]


def test_texts_are_halved_at_random_and_belong_to_one_benchmark(script, tmp_path):
    lines = ["label\ttext", *(f"{'neg' if i < 40 else 'pos'}\tsentence {i}" for i in range(80))]
    (tmp_path / "valid.tsv").write_text("\n".join(lines))
    (tmp_path / "train.txt").write_text("\n".join(f"training {i}" for i in range(9)))
    sources = (str(tmp_path / "train.txt"), str(tmp_path / "valid.tsv"), "text", "label")
    with pytest.raises(ValueError, match="train"):  # one column of that name for both files
        script.prepare_texts(tmp_path / "a" / "texts", *sources[:2], "no such column", "label")
    training, reported = script.prepare_texts(tmp_path / "b" / "texts", *sources)
    halves = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (training["validation_file"], reported["file"])
    ]
    assert [len(half) for half in halves] == [40, 40]
    assert {row["text"] for half in halves for row in half} == {f"sentence {i}" for i in range(80)}
    assert all({row["label"] for row in half} == {"neg", "pos"} for half in halves)
    assert reported["label_column"] == "label" and reported["probe_train_file"] == training["validation_file"]
    assert script.prepare_texts(tmp_path / "b" / "texts", *sources) == (training, reported)
    with pytest.raises(ValueError, match="a benchmark on other texts"):
        script.prepare_texts(tmp_path / "b" / "texts", sources[0], sources[1], "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1", "1"], "--seeds must differ"),
        (["--min_information", "-3"], "must not be negative"),
        (["--num_workers", "0"], "at least 1"),
        (["--choices", "freeze"], "--choices of --setting small are pooling, latent_injection"),
        (["--render_only"], "no benchmark in nowhere to render"),
        (["--label_column", "label"], "is one of --validation_file"),
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
    monkeypatch.setitem(script.SETTINGS, "small", tiny | {"save_strategy": "no", "disable_tqdm": True})
    monkeypatch.setitem(script.EVALUATION, "small", {"num_importance_samples": 3})
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
    monkeypatch.setitem(script.CHOICES, "small", [script.Choice("pooling", ("cls", "mean"))])
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
