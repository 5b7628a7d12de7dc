"""The README's table and texts are what the stored runs give, and the figures are those of finished runs."""

import json
from dataclasses import replace

import pytest
from paths import ROOT

from hf_bnvae.benchmarks.results_table import (
    BEGIN,
    END,
    EXAMPLES_BEGIN,
    EXAMPLES_END,
    collect_runs,
    render_run_examples,
    render_runs,
    update_readme,
)
from hf_bnvae.reporting.commands import recorded_options
from hf_bnvae.reporting.model_card import CARD_JSON, BNVAEModelCard, is_sealed


def stored() -> list[dict]:
    return json.loads((ROOT / "model_cards" / "results.json").read_text(encoding="utf-8"))


CARDS = sorted(path.parent for path in (ROOT / "model_cards").glob(f"*/{CARD_JSON}"))


@pytest.mark.parametrize("folder", CARDS, ids=[folder.name for folder in CARDS])
def test_cards_are_what_their_runs_give(folder):
    card = BNVAEModelCard.from_json_file(folder / CARD_JSON)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert card.render() == text and is_sealed(text)
    changed = replace(card, figures={**card.figures, "mutual_information": card.figures["mutual_information"] + 1})
    assert changed.render() != text
    # Nothing but what the card shows lies beside it, and it came with a command.
    assert {path.name for path in folder.iterdir()} == {CARD_JSON, "README.md", *card.pictures}
    assert card.pictures and recorded_options(card.command) != card.command


def test_there_are_cards_of_a_healthy_and_of_a_collapsed_model():
    verdicts = {BNVAEModelCard.from_json_file(folder / CARD_JSON).diagnosis is None for folder in CARDS}
    assert verdicts == {True, False}


def test_the_readme_shows_the_stored_figures():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert update_readme(readme, stored()) == readme
    changed = stored()
    changed[0]["results"]["eval_kl"] += 1
    assert update_readme(readme, changed) != readme
    changed = stored()
    changed[0]["examples"]["interpolation"][4] += " indeed"
    assert update_readme(readme, changed) != readme
    assert len(stored()[0]["examples"]["interpolation"]) == 9


def test_stored_figures_are_consistent():
    """Every run: ELBO from its parts, the likelihood's bound, information below log N, KL as its two halves."""
    for run in stored():
        r = run["results"]
        assert r["eval_elbo"] == pytest.approx(-r["eval_reconstruction_nll"] - r["eval_kl"])
        assert r["eval_iw_nll"] < -r["eval_elbo"] + 3 * r["eval_iw_nll_error"]
        assert r["eval_mutual_information"] <= r["eval_log_num_sentences"]
        assert r["eval_kl"] == pytest.approx(r["eval_mutual_information"] + r["eval_marginal_kl"], abs=0.5)


def test_runs_are_collected_with_their_commands(tmp_path):
    record = {"command": "python scripts/run_bnvae.py --rate 4.0", "settings": {"rate": 4.0, "seed": 7}}
    (tmp_path / "run.json").write_text(json.dumps({**record, "finished": True}))
    results = {"eval_kl": 1.0, "torch_version": "x", "hardware": "an abacus"}
    (tmp_path / "all_results.json").write_text(json.dumps({**results, "train_loss": 2.0}))
    (tmp_path / "examples.json").write_text(json.dumps({"samples": ["a"]}))
    (run,) = collect_runs([str(tmp_path)])
    assert run == {"command": record["command"], "seed": 7, "results": results, "examples": {"samples": ["a"]}}
    (tmp_path / "run.json").write_text(json.dumps({**record, "finished": False}))
    with pytest.raises(ValueError, match="no finished run"):
        collect_runs([str(tmp_path)])


def test_a_readme_without_markers_is_refused():
    for readme in ("# Title\n", f"{BEGIN}\n{END}\n"):
        with pytest.raises(ValueError, match="lacks the markers"):
            update_readme(readme, stored())
    updated = update_readme(f"{EXAMPLES_BEGIN}\n{EXAMPLES_END}\n{BEGIN}\n{END}\n", stored())
    assert render_runs(stored()) in updated and render_run_examples(stored()[0]) in updated
