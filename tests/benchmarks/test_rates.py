"""The rates benchmark: its options, its page, and all of it on tiny networks."""

import importlib.util
import json
import sys

import pytest
from paths import SCRIPTS
from tiny import SCRIPT_OPTIONS, make_texts

from hf_bnvae.benchmarks import judges, rates
from hf_bnvae.benchmarks.commands import words_of
from hf_bnvae.benchmarks.rates import RatesBenchmark
from hf_bnvae.benchmarks.tables.rates import render_rates
from hf_bnvae.evaluation.plots import plot_rates
from hf_bnvae.jobs.training_options import parse_arguments


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_rates", SCRIPTS / "benchmark_rates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_further_options_go_to_the_training(script):
    plan = script.parse_arguments(["--rates", "4", "8", "--num_train_epochs", "1", "--auxiliary", "bag_of_words"])
    assert plan.training == {"num_train_epochs": 1, "auxiliary": "bag_of_words"} and plan.rates == [4, 8]
    # They are typed as for a training, and become what a training takes them for.
    words = ["--bf16", "--learning_rate", ".001", "--hidden-size=64", "--report_to", "none", "--use_cpu", "True"]
    typed = {"bf16": True, "learning_rate": 1e-3, "hidden_size": 64, "report_to": "none", "use_cpu": True}
    assert script.parse_arguments(words).training == typed
    arguments = parse_arguments(words_of(typed))
    assert {name: getattr(arguments[-1], name) for name in ("bf16", "report_to", "use_cpu")} == {
        "bf16": True,
        "report_to": [],
        "use_cpu": True,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rates", "4", "4"], "--rates must be different positive numbers of nats, got [4.0, 4.0]"),
        (["--rates", "0"], "positive numbers"),
        (["--rates", "nan"], "positive numbers"),
        (["--rates", "4", "inf"], "positive numbers"),
        (["--rate", "8"], "--rate has no place in this benchmark"),
        (["--bn_tau", "0.1"], "--bn_tau has no place in this benchmark"),
        (["--model", "runs/bnvae"], "--model_name_or_path has no place in this benchmark"),
        (["--do_train", "true"], "--do_train has no place in this benchmark"),
        (["--num_importance_samples", "5"], "--num_importance_samples has no place in this benchmark"),
        (["--num_workers", "0"], "at least 1"),
        (["--posterior", "bn"], "--posterior has no place in this benchmark"),
        (["--seed"], "argument --seed: expected one argument"),
        (["--hidden_sise", "32"], "There is no option --hidden_sise. Did you mean --hidden_size?"),
    ],
)
def test_wrong_options_are_refused(script, capsys, options, message):
    with pytest.raises(SystemExit):
        script.parse_arguments(options)
    assert message in capsys.readouterr().err


def model(rate: float | None, nll: float, used: float) -> dict:
    """A finished model of the record, with figures by its rate."""
    quality = {"perplexity": 20 + used, "frechet_distance": 0.1, "self_bleu": 9.0, "distinct": 1.0, "num_texts": 50}
    kinds = ("held-out texts", "standard prior, greedy", "fitted prior, greedy")
    figures = {"kl": rate or 0.0, "decoder_information": used, "iw_nll": nll, "fitted_iw_nll": nll - 0.5}
    figures |= {"iw_negative_elbo": nll - used + (rate or 0.0), "iw_kl": rate or 0.0}
    figures |= {"reconstruction_bleu": 3 * used, "reconstruction_chrf": 4 * used, "reconstruction_exact": used}
    return {
        "rate": rate,
        "figures": figures | {"num_sentences": 100, "iw_nll_num_sentences": 60},
        "samples": {
            "kinds": dict.fromkeys(kinds, quality),
            "reconstructions": {"similarity": 0.1 * used, "random_similarity": 0.2, "token_f1": 0.5},
            "paths": {"distinct": 5, "inner_perplexity": 30.0, "end_perplexity": 25.0, "num_paths": 9, "num_steps": 9},
        },
        "examples": {
            "reconstructions": [[f"text {i}", f"text {i} at {rate}"] for i in range(4)],
            "interpolation": ["text 0", f"between at {rate}", "text 1"],
        },
        "training": {"train_samples": 1000, "num_parameters": 2e6, "train_runtime": 600, "hardware": "CPU"}
        | {f"{name}_version": "1" for name in ("torch", "transformers", "hf_bnvae")},
    }


def record(*models: dict, **others) -> dict:
    """The record of a benchmark with these models."""
    shared = {
        "texts": dict.fromkeys(("train", "tuning", "held_out"), "0123456789abcdef"),
        "training": {"hidden_size": 32},
        "judges": {"language_model": "a language model", "encoder": "an encoder"},
        "failed": [],
    }
    return {**shared, "models": list(models), **others}


def test_the_page_shows_each_rate_as_a_share_of_the_text():
    page = render_rates(record(model(None, 40.0, -0.01), model(4.0, 41.0, 3.0), model(32.0, 44.0, 20.0)))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line]
    by_rate = {row[0]: row for row in reversed(rows)}
    # A text has 39.5 nats, and with its latent 24 are left. What the model's own p(x) is worse counts for nothing.
    assert by_rate["32"][:5] == ["32", "32.00", "20.00", "39%", "43.50"]
    assert by_rate["none (`gaussian`)"][3] == "-1%"
    nearly = render_rates(record(model(None, 40.0, 0.45), model(4.0, 41.0, 3.0)))
    assert "| 0%  " in nearly and "-0%" not in nearly
    assert by_rate["32"][5:10] == ["60.0", "80.0", "20.0", "2.00", "0.50"]
    assert "text 2 at 32.0" in page and "text 3" not in page
    # The way at the middle rate and at the highest one.
    assert "between at 32.0" in page and "between at 4.0" in page and "between at None" not in page
    assert "10 minutes a model. CPU; torch 1" in page and "These failed" not in page
    assert render_rates(record()) == "No model is finished yet."
    assert render_rates(record(failed=[4.0])) == "No model is finished yet. These failed: 4."


def test_a_rate_that_failed_is_named():
    assert "These failed: none (`gaussian`), 16." in render_rates(record(model(4.0, 41.0, 3.0), failed=[None, 16.0]))


def test_a_figure_that_is_missing_leaves_the_page_whole():
    """The latents of a model may be undecodable, and a judge may be missing."""
    bare = model(4.0, 41.0, 3.0)
    for name in ("reconstruction_bleu", "reconstruction_chrf", "reconstruction_exact", "decoder_information"):
        bare["figures"][name] = None
    del bare["samples"]["reconstructions"], bare["samples"]["paths"]
    models = [bare, model(8.0, 41.0, 6.0)]
    row = next(line for line in render_rates(record(*models)).splitlines() if line.startswith("| 4 "))
    assert [cell.strip() for cell in row.strip("|").split("|")][5:] == ["-"] * 5
    kept = plot_rates(models, [0.1, 0.2]).axes[0]
    assert [line.get_label() for line in kept.lines] == ["nats that the latent saves"]


def test_the_picture_shows_the_figures_of_the_models_that_have_a_rate():
    models = [model(None, 40.0, 0.0), model(4.0, 41.0, 3.0), model(8.0, 41.0, 6.0)]
    kept, fluent, diverse = plot_rates(models, [0.0, 0.1, 0.2]).axes
    curves = {line.get_label(): list(line.get_ydata()) for line in kept.lines}
    assert curves["nats that the latent saves"] == [10, 20] and curves["BLEU"] == [9, 18]
    assert curves["similarity"] == pytest.approx([30, 60]) and curves["similarity to another text"] == [20, 20]
    assert [list(line.get_ydata()) for line in fluent.lines[:2]] == [[23, 26], [30, 30]]
    assert [list(line.get_xdata()) for line in diverse.lines[:1]] == [[4, 8]]
    with pytest.raises(ValueError, match="no model with a rate"):
        plot_rates(models[:1], [0.0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latent_size", "0"], "latent_size must be at least 1"),
        (["--auxiliary", "none", "--auxiliary_weight", "2"], "needs an auxiliary"),
    ],
)
def test_settings_that_no_training_takes_stop_before_anything_is_trained(
    script, tmp_path, monkeypatch, words, message
):
    (tmp_path / "train.txt").write_text("\n".join(make_texts(40)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark_rates.py", "--train_file", "train.txt", *words])
    with pytest.raises(SystemExit, match=message):
        script.main()
    assert {path.name for path in (tmp_path / "runs" / "rates").iterdir()} == {"texts"}


@pytest.mark.slow
def test_every_rate_is_trained_and_judged_and_nothing_twice(script, tmp_path, monkeypatch, capsys):
    texts = make_texts(200)
    (tmp_path / "train.txt").write_text("\n".join(texts[:160]))
    (tmp_path / "valid.txt").write_text("\n".join(texts[160:]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(judges.TRAINING, "num_train_epochs", 1)
    monkeypatch.setitem(rates.EVALUATION, "num_importance_samples", 10)
    own = ("max_importance_sentences", "num_importance_samples")  # those of the benchmark's evaluation count
    options = {name: value for name, value in SCRIPT_OPTIONS.items() if name not in own}
    options |= {"num_train_epochs": 1, "latent_size": 4}
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    files = ["--train_file", "train.txt", "--validation_file", "valid.txt", "--output_dir", "out"]
    argv = ["benchmark_rates.py", *files, "--rates", "8", "2", *flags]
    monkeypatch.setattr(sys, "argv", argv)
    script.main()
    printed = capsys.readouterr().out
    assert "The first 3 held-out texts" in printed and (tmp_path / "out" / "rates.png").is_file()
    record = json.loads((tmp_path / "out" / "rates.json").read_text())
    assert [found["rate"] for found in record["models"]] == [None, 2, 8] and record["failed"] == []
    assert str(tmp_path) not in json.dumps(record) and record["models"][0]["training"]["train_samples"] == 160
    assert record["models"][2]["figures"]["kl"] > record["models"][1]["figures"]["kl"] > 1
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("model.safetensors")}
    assert len(made) == 4, "three models and the judge"
    again = RatesBenchmark(script.parse_arguments(argv[1:]))
    assert again.run() == [] and {f: f.stat().st_mtime_ns for f in made} == made
    assert again.write_results() == (tmp_path / "out" / "rates.md").read_text().rstrip("\n")
