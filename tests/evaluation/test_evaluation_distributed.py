"""An evaluation in two processes (gloo) gives on both what one process gives, and fails on both if it fails on one."""

import json
from dataclasses import asdict

import pytest
from launch import launch_two

from hf_bnvae.evaluation import evaluate_model

pytestmark = pytest.mark.slow

SETTINGS = {"num_importance_samples": 10, "max_importance_sentences": 25, "num_self_bleu_samples": 20}
SETTINGS |= {"max_information_sentences": 45, "show_progress": False}


@pytest.fixture(scope="module")
def processes(trained_folder, tmp_path_factory) -> list[dict]:
    """What each of the two processes got. One launch runs all cases."""
    folder = tmp_path_factory.mktemp("evaluation")
    launch_two("evaluation_worker.py", str(folder), trained_folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def numbers(figures: dict) -> dict:
    """The figures, without those that are words, and those that only a model with conditions has."""
    kept = {name: value for name, value in figures.items() if not isinstance(value, str)}
    return {n: value for n, value in kept.items() if value is not None or not n.startswith("latent_gain_within")}


@pytest.mark.parametrize("data", ["texts", "stream", "tokenized", "loader", "one batch"])
def test_processes_give_what_one_gives(trained_model, processor, texts, processes, data):
    alone = numbers(asdict(evaluate_model(trained_model, texts[:60], processor, **SETTINGS)))
    assert processes[0]["found"][data] == processes[1]["found"][data]  # to the last digit
    assert numbers(processes[0]["found"][data]) == pytest.approx(alone, rel=1e-9)
    # The control: the share of one process alone gives another KL.
    half = asdict(evaluate_model(trained_model, texts[:30], processor, **SETTINGS))
    assert half["kl"] != pytest.approx(alone["kl"], rel=1e-4)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_of_one_is_a_failure_of_all(processes, rank):
    failures = processes[rank]["failures"]
    assert failures["shared out"].startswith("ValueError: The processes were given different data (30, 30 sentences)")
    assert failures["fewer"].startswith("ValueError: The processes were given different data (60, 59 sentences)")
    assert "hold the token id 70000" in failures["in part bad"]
    start = "ValueError: The labels of" if rank == 1 else "RuntimeError: The work failed on process 1: ValueError"
    assert failures["in part bad"].startswith(start)
    assert "at least two sentences, got 1" in failures["one"]
