"""The modules for `evaluate` give what the pure functions give, alone and combined, from a checkout and a wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
import torch
from paths import PACKAGE

import hf_bnvae
from hf_bnvae.evaluation import active_units, aggregate_moments, mutual_information, posteriors_from_rows, self_bleu

OF_POSTERIORS = ("mutual_information", "marginal_kl", "active_units", "moments")


@pytest.fixture
def load(tmp_path):
    """A function that loads a module by its name, with its cache in a folder of this test."""
    return lambda name: evaluate.load(hf_bnvae.metric_path(name), cache_dir=str(tmp_path))


@pytest.fixture
def rows() -> dict[str, list[list[float]]]:
    """Posteriors of 30 sentences in three dimensions, one of which is dead."""
    mean = torch.randn(30, 3).double() * torch.tensor([1.0, 0.5, 0.001])
    return {"mean": mean.tolist(), "logvar": torch.full((30, 3), -1.0).double().tolist()}


def test_modules_give_what_the_functions_give(load, rows):
    posterior = posteriors_from_rows(**rows)
    estimate = mutual_information(posterior, torch.Generator().manual_seed(3))
    found = load("mutual_information").compute(**rows, seed=3)
    assert found == {
        "mutual_information": estimate.mutual_information,
        "mutual_information_error": estimate.mutual_information_error,
        "log_num_sentences": estimate.log_num_sentences,
    }
    assert found != load("mutual_information").compute(**rows, seed=4)
    assert load("marginal_kl").compute(**rows, seed=3) == {
        "marginal_kl": estimate.marginal_kl,
        "marginal_kl_error": estimate.marginal_kl_error,
    }
    assert (
        load("active_units").compute(**rows) == {"active_units": active_units(posterior.mean)} == {"active_units": 2}
    )
    assert load("active_units").compute(**rows, threshold=1e-9) == {"active_units": 3}
    assert load("moments").compute(**rows) == aggregate_moments(posterior.mean, posterior.logvar)
    texts = ["the food was great .", "the food was cold .", "I left ."]
    assert load("self_bleu").compute(predictions=texts) == {"self_bleu": self_bleu(texts)}


def test_modules_of_posteriors_can_be_combined(load, rows):
    combined = evaluate.combine([load(name) for name in OF_POSTERIORS])
    apart: dict[str, float] = {}
    for name in OF_POSTERIORS:
        figures = load(name).compute(**rows)
        assert not apart.keys() & figures.keys()  # else `combine` would rename them
        apart |= figures
    assert combined.compute(**rows) == apart
    # The same figures come from batches, given as lists or tensors.
    combined.add_batch(**{name: values[:20] for name, values in rows.items()})
    combined.add_batch(**{name: torch.tensor(values[20:], dtype=torch.float64) for name, values in rows.items()})
    assert combined.compute() == apart
    combined.add_batch(**{name: values[:20] for name, values in rows.items()})
    assert combined.compute() != apart


def test_bad_input_is_refused(load, rows):
    with pytest.raises(ValueError, match=r"no metric 'bleu'\. The metrics: active_units, marginal_kl, moments"):
        hf_bnvae.metric_path("bleu")
    ragged = {**rows, "mean": [[0.0], *rows["mean"][1:]]}
    with pytest.raises(ValueError, match=r"got 30 and 30 sentences with \[1, 3\] and \[3\] numbers each"):
        load("moments").compute(**ragged)
    one = {name: values[:1] for name, values in rows.items()}
    for name in ("mutual_information", "marginal_kl", "active_units"):
        with pytest.raises(ValueError, match="at least two sentences, got 1"):
            load(name).compute(**one)
    with pytest.raises(ValueError, match="at least two texts, got 1"):
        load("self_bleu").compute(predictions=["alone"])


def test_every_module_has_its_citation_and_its_inputs(load):
    folders = [path for path in (PACKAGE / "evaluation" / "metrics").iterdir() if path.is_dir()]
    folders = [path for path in folders if path.stem[0] != "_"]
    assert {path.name for path in folders} == {*OF_POSTERIORS, "self_bleu"}
    for path in folders:
        module = load(path.name)
        assert module.name == path.name and "@" in module.citation and module.description
        assert all(name in module.inputs_description for name in module.features)


@pytest.mark.slow
def test_modules_are_in_the_wheel_and_load_without_network(wheel_site, tmp_path):
    code = (
        "import json, evaluate, hf_bnvae\n"
        f"metrics = [evaluate.load(hf_bnvae.metric_path(name)) for name in {OF_POSTERIORS!r}]\n"
        "figures = evaluate.combine(metrics).compute(mean=[[0.0], [2.0]], logvar=[[0.0], [0.0]])\n"
        "figures |= evaluate.load(hf_bnvae.metric_path('self_bleu')).compute(predictions=['a b', 'a b'])\n"
        "print(json.dumps([hf_bnvae.__file__, figures]))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(wheel_site),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment, text=True)
    place, figures = json.loads(ended.stdout.strip().splitlines()[-1])
    assert Path(place).is_relative_to(wheel_site)
    assert figures["active_units"] == 1 and figures["aggregate_second_moment"] == 3 and figures["self_bleu"] == 100
