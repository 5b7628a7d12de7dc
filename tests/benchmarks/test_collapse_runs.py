"""The collapse benchmark's runs: which ones it plans, which settings it chooses, and which runs it does not repeat."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_bnvae.benchmarks.collapse.comparison import Comparison, choose
from hf_bnvae.benchmarks.collapse.remedies import OURS, REMEDIES, remedy_of
from hf_bnvae.benchmarks.collapse.settings import CHOICES, SETTINGS, Choice
from hf_bnvae.benchmarks.runs import Evaluation, Run, execute, failure_mark, read_known_runs
from hf_bnvae.jobs.training_options import parse_arguments


@pytest.fixture
def benchmark(tmp_path):
    return Comparison(
        tmp_path,
        SETTINGS["small"],
        {"train_file": "train.jsonl"},
        {"file": "held_out.jsonl"},
        choices=(*CHOICES["small"], Choice("rate", (4, 16), "bn_rms, rate", 1)),
    )


def figures(iw_nll, information):
    return {"eval_iw_nll": iw_nll, "eval_mutual_information": information}


def finish(run, **figures):
    """What the training script leaves of a run."""
    run.folder.mkdir(parents=True)
    record = {"finished": True, "settings": {n: str(v) if isinstance(v, Path) else v for n, v in run.options.items()}}
    (run.folder / "run.json").write_text(json.dumps(record))
    results = {"eval_iw_nll": 50.0, "eval_mutual_information": 3.0, **figures}
    (run.folder / "all_results.json").write_text(json.dumps(results))


def test_every_grid_is_of_equal_size_and_varies_something():
    assert {len(remedy.grid) for remedy in REMEDIES} == {3}
    for remedy in REMEDIES:
        assert len({json.dumps(point) for point in remedy.grid}) == 3
        assert {point["posterior"] for point in remedy.grid} == {remedy.grid[0]["posterior"]}
    assert set(OURS) < {remedy.name for remedy in REMEDIES}
    folders = {remedy.name.replace(", ", "-").replace(" ", "-") for remedy in REMEDIES}
    assert len(folders) == len(REMEDIES)


def test_every_run_is_a_command_that_the_training_script_understands(benchmark):
    for run in benchmark.tuning():
        for one in (run, run.after):
            if one is not None:
                model_args, _, report_args, training_args = parse_arguments(one.command()[4:])
                assert training_args.seed == 42 and report_args.num_importance_samples == 50
                for name, value in one.options.items():
                    holder = next(a for a in (model_args, report_args, training_args, _) if hasattr(a, name))
                    assert getattr(holder, name) in (value, str(value)), name
    assert model_args.posterior == "bn_rms" and model_args.rate == 8
    assert [run.options["learning_rate"] for run in benchmark.tuning()[:4]] == [1e-3, 2e-3, 4e-3, 2e-3]


def test_all_runs_share_networks_texts_and_budget(benchmark):
    runs = benchmark.tuning()
    assert len(runs) == 3 * len(REMEDIES)
    budgets = [
        run.options["num_train_epochs"] + (run.after.options["num_train_epochs"] if run.after else 0) for run in runs
    ]
    assert budgets == pytest.approx([1.0] * len(runs))
    assert sum(run.after is not None for run in runs) == 3
    assert len({run.after.folder for run in runs if run.after}) == 1
    for name in ("hidden_size", "num_layers", "latent_size", "max_train_samples", "train_file", "seed"):
        assert len({run.options[name] for run in runs}) == 1
    assert len({run.folder for run in runs}) == len(runs)


def test_the_learning_rates_of_a_grid_go_together(benchmark):
    for run in benchmark.tuning():
        assert run.options["latent_learning_rate"] == run.options["learning_rate"]


def test_the_lowest_likelihood_is_chosen_among_those_that_are_alive():
    points = {0: figures(50.0, 0.1), 1: figures(52.0, 3.0), 2: figures(53.0, 5.0)}
    assert choose(points, 2.0) == 1
    assert choose(points, 4.0) == 2
    assert choose(points, 9.0) == 0
    assert choose({}, 2.0) is None
    assert choose(points, 9.0, is_strict=True) is None and choose(points, 4.0, is_strict=True) == 2


def base_of(benchmark, choice):
    return benchmark.run_of(remedy_of(choice.remedy), choice.point, 42)


def test_choices_are_varied_one_at_a_time(benchmark):
    for choice in benchmark.choices:
        base = base_of(benchmark, choice)
        for value in choice.values:
            run = benchmark.choice_run(choice, value, 42)
            parse_arguments(run.command()[4:])
            own = {n: v for n, v in run.options.items() if base.options.get(n) != v}
            assert own == ({} if value == choice.values[0] else {choice.option: value})


def test_the_first_value_of_a_choice_is_the_remedy_s_own_run(benchmark):
    runs = benchmark.choice_runs()
    bases = {base_of(benchmark, choice).folder for choice in benchmark.choices}
    assert len(runs) == 3 * (len(bases) + sum(len(choice.values) - 1 for choice in benchmark.choices))
    assert bases < {run.folder for run in runs} and len(bases) == 7
    for name, setting in SETTINGS.items():
        for choice in CHOICES[name]:
            options = setting | remedy_of(choice.remedy).grid[choice.point]
            assert options.get(choice.option) == choice.values[0]


def test_options_that_go_together_are_set_for_all_values_but_the_first(benchmark):
    held = Choice("freeze_steps", (None, 100), "bn_rms, rate", 1, {"freeze": "both"})
    assert benchmark.choice_run(held, None, 42).options == base_of(benchmark, held).options
    options = benchmark.choice_run(held, 100, 42).options
    assert (options["freeze"], options["freeze_steps"]) == ("both", 100)


def test_a_choice_of_a_remedy_with_pretraining_changes_the_pretraining_too(benchmark):
    varied = Choice("auxiliary", ("bag_of_words", "none"), "autoencoder first", 1)
    base, run = base_of(benchmark, varied), benchmark.choice_run(varied, "bag_of_words", 42)
    assert base.after is not None and run.after.folder not in (base.after.folder, run.folder)
    for task, before in ((run, base), (run.after, base.after)):
        assert task.options == {**before.options, "auxiliary": "bag_of_words"} != before.options


def test_the_auxiliary_is_offered_to_every_remedy_and_taken_from_it():
    with_auxiliary = {choice.remedy: choice for choice in CHOICES["small_auxiliary"]}
    assert with_auxiliary.keys() == {remedy.name for remedy in REMEDIES}
    assert {choice.values for choice in with_auxiliary.values()} == {("bag_of_words", "none")}
    differing = {name for name, value in SETTINGS["small_auxiliary"].items() if SETTINGS["small"].get(name) != value}
    assert differing == {"auxiliary"}
    long = SETTINGS["small_auxiliary_long"]
    assert {name for name in long if long[name] != SETTINGS["small_auxiliary"].get(name)} == {"num_train_epochs"}
    assert {choice.remedy for choice in CHOICES["small_auxiliary_long"]} == {"gaussian", "bn_rms, rate"}


def test_a_choice_names_the_remedy_and_the_setting_that_it_varies(benchmark):
    assert [choice.base for choice in benchmark.choices[-3:]] == [
        "bn_rms: bn_tau 0.1",
        "bn_rms, rate: rate 4",
        "bn_rms, rate: rate 4",
    ]


def test_only_choices_with_finished_runs_are_collected(benchmark):
    assert benchmark.collect_choices() == []
    base = benchmark.run_of(remedy_of("bn_rms"), 0, 42)
    finish(base)
    finish(benchmark.choice_run(benchmark.choices[0], "cls", 43), eval_iw_nll=49.0)
    first, *others = benchmark.collect_choices()
    assert [[run["seed"] for run in point["runs"]] for point in first["points"]] == [[42], [43], []]
    assert first["points"][1]["runs"][0]["figures"]["iw_nll"] == 49.0
    # Choices with other bases have no run yet.
    same = [choice for choice in benchmark.choices if base_of(benchmark, choice).folder == base.folder]
    assert [entry["option"] for entry in (first, *others)] == [choice.option for choice in same] and others


def test_what_has_no_value_is_left_out_of_a_command(tmp_path):
    command = Run(tmp_path, {"freeze": None, "rate": 8}).command()
    assert command[2:] == ["hf_bnvae.cli", "train", "--rate", "8", "--output_dir", str(tmp_path)]


def test_only_a_finished_grid_is_chosen_from_and_main_remedies_are_repeated_with_dropout(benchmark):
    remedy = next(r for r in REMEDIES if r.name == "bn_rms")
    runs = [benchmark.run_of(remedy, point, 42) for point in range(3)]
    finish(runs[0])
    finish(runs[1], eval_iw_nll=49.0)
    assert benchmark.chosen(remedy) is None and benchmark.repetitions() == []
    runs[2].folder.mkdir()
    (runs[2].folder / "run.json").write_text(json.dumps({"finished": False, "settings": {}}))
    assert runs[2].results is None and benchmark.chosen(remedy) is None
    failure_mark(runs[2].folder).touch()
    assert benchmark.chosen(remedy) == 1
    repeated = [*benchmark.repetitions(), *benchmark.repetitions(0.1)]
    assert [(e.after.options["seed"], e.after.options.get("encoder_dropout")) for e in repeated] == [
        *((seed, None) for seed in (42, 43, 44)),
        *((seed, 0.1) for seed in (42, 43, 44)),
    ]
    assert repeated[0].after.folder == runs[1].folder and len({e.folder for e in repeated}) == 6
    # A strict comparison leaves out remedies with too little information.
    informed = Comparison(benchmark.folder, benchmark.setting, benchmark.data, {}, is_strict=True)
    informed.min_information = 3.0
    assert informed.chosen(remedy) == 1
    informed.min_information = 3.1
    assert informed.chosen(remedy) is None and informed.repetitions() == []
    (found,) = benchmark.collect()
    assert found["chosen"] == 1 and found["grid"][2]["has_failed"] and found["runs"] == []


def test_a_run_of_other_settings_is_not_taken_for_ours(benchmark):
    run = benchmark.run_of(REMEDIES[0], 0, 42)
    finish(run)
    assert run.results["eval_iw_nll"] == 50.0
    benchmark.setting = {**benchmark.setting, "hidden_size": 64}
    with pytest.raises(ValueError, match=r"other settings \(hidden_size: 128, not 64\)"):
        benchmark.collect()


def test_what_a_record_knows_is_not_run_again_but_for_a_model(benchmark, monkeypatch):
    remedy = remedy_of("autoencoder first")
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

    monkeypatch.setattr(subprocess, "run", make)
    evaluation = Evaluation(run, {"file": Path("held_out.jsonl")})
    assert execute([run], 1) == [] and made == []
    # An evaluation that is not known needs the model, and the model that this one starts with.
    assert execute([evaluation], 1) == [] and made == [*names, "autoencoder-first/0-42-held-out"]
    # What is known of the run stays, so that tables do not mix figures of two versions.
    shutil.rmtree(run.folder)
    finish(run, **figures(46.0, 3.5))
    assert run.is_here and run.results == results
    # Control: with other settings it is another run.
    benchmark.known[names[1]]["options"]["free_bits"] = 0.25
    other = benchmark.run_of(remedy, 0, 42)
    assert other.results == figures(46.0, 3.5), "its own folder counts"
    (other.folder / "run.json").unlink()
    with pytest.raises(ValueError, match=r"0-42 has other settings \(free_bits: 0.25, not 0.125\)"):
        _ = other.results


def test_a_record_of_other_texts_is_refused(tmp_path):
    texts, file = {"train": "1", "tuning": "2", "held_out": "3"}, tmp_path / "runs.json"
    with pytest.raises(ValueError, match="is no file"):
        read_known_runs([file], texts)
    file.write_text(json.dumps({"remedies": []}))
    with pytest.raises(ValueError, match=r"is no runs.json of this benchmark"):
        read_known_runs([file], texts)
    file.write_text(json.dumps({"texts": texts, "runs": {"a": {}}}))
    assert read_known_runs([file], texts) == {"a": {}} and read_known_runs([], texts) == {}
    with pytest.raises(ValueError, match="of other texts"):
        read_known_runs([file], {**texts, "train": "4"})
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"texts": texts, "runs": {"a": {"results": 1}, "b": {}}}))
    assert read_known_runs([file, other], texts) == {"a": {}, "b": {}}, "the first one counts"
    assert read_known_runs([other, file], texts) == {"a": {"results": 1}, "b": {}}


def test_what_a_run_left_to_the_defaults_is_known_by_its_model(benchmark):
    run = benchmark.run_of(REMEDIES[0], 0, 42)
    finish(run)
    record = json.loads((run.folder / "run.json").read_text())
    record["settings"]["pooling"] = None
    (run.folder / "run.json").write_text(json.dumps(record))
    (run.folder / "config.json").write_text(json.dumps({"pooling": "mean"}))
    assert run.results is not None
    (run.folder / "config.json").write_text(json.dumps({"pooling": "cls"}))
    with pytest.raises(ValueError, match="pooling: cls, not mean"):
        _ = run.results
