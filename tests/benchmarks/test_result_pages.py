"""The pages of results are what the kept records give, and the records are what finished runs left."""

import importlib.util
import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
from paths import ROOT, SCRIPTS

from hf_bnvae.benchmarks.pages import (
    KL_SPLIT_PICTURE,
    SPEED,
    blocks_of_pages,
    draw_kl_split,
    render_pages,
    update_page,
)
from hf_bnvae.benchmarks.records import (
    collect_recipe,
    collect_runs,
    join_records,
    keep_benchmark,
    keep_card,
    keep_recipe,
    keep_runs,
    keep_speed,
    read_benchmarks,
    read_recipes,
    read_runs,
    read_speed,
)
from hf_bnvae.benchmarks.tables.collapse import measures_of
from hf_bnvae.benchmarks.tables.recipes import render_recipe
from hf_bnvae.benchmarks.tables.runs import options_of
from hf_bnvae.benchmarks.tables.speed import compared_pieces, file_name, has_aims, render_machines
from hf_bnvae.benchmarks.tables.verdict import render_verdict
from hf_bnvae.reporting.commands import recorded_options
from hf_bnvae.reporting.model_card import CARD_JSON, BNVAEModelCard, is_sealed

KEPT = ROOT / "model_cards"
CARDS = sorted(path.parent for path in KEPT.glob(f"*/{CARD_JSON}"))


@pytest.fixture
def cards(tmp_path):
    """A copy of the kept records, with the README in the folder above."""
    shutil.copy(ROOT / "README.md", tmp_path)
    return shutil.copytree(KEPT, tmp_path / "model_cards")


def pages(cards):
    """The texts of all pages, by name."""
    return {
        path.relative_to(cards.parent).as_posix(): path.read_text(encoding="utf-8") for path in blocks_of_pages(cards)
    }


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
    verdicts = {BNVAEModelCard.from_json_file(folder / CARD_JSON).is_alive for folder in CARDS}
    assert verdicts == {True, False}


def test_pages_show_the_kept_figures():
    for path, blocks in blocks_of_pages(KEPT).items():
        page = path.read_text(encoding="utf-8")
        assert update_page(page, blocks) == page, f"{path.name} is out of date: python scripts/render_results.py"


def change_the_default_job(runs):
    runs[0]["results"]["eval_decoder_information"] += 1


def change_a_rate(results):
    results["models"][-1]["figures"]["kl"] += 1


def change_a_recipe(recipe):
    recipe["evaluations"][0]["examples"]["interpolation"][4] += " indeed"


def change_an_embedding(record):
    record["models"][-1]["figures"]["means"]["stsb: cosine"] += 0.1


def change_an_edit(record):
    record["models"][-1]["edits"][-1]["flipped"][0] += 0.1


def change_an_answer(record):
    record["models"][-1]["figures"][0]["bleu_recall"] += 9


def change_an_example(runs):
    runs[0]["examples"]["interpolation"][4] += " indeed"


def change_a_remedy(benchmark):
    for seed_run in benchmark["remedies"][-1]["runs"]:
        seed_run["figures"]["iw_nll"] -= 9


def change_a_choice(benchmark):
    benchmark["choices"][0]["points"][0]["runs"][0]["figures"]["iw_nll"] += 9


def change_a_time(results):
    results["training"]["256"]["ratio_to_floor"] += 1


@pytest.mark.parametrize(
    ("record", "change", "expected"),
    [
        ("results.json", change_the_default_job, {"README.md", "model_cards/README.md"}),
        ("results.json", change_an_example, {"model_cards/README.md"}),
        (
            "collapse_small.json",
            change_a_remedy,
            {"model_cards/README.md", "model_cards/collapse_benchmark.md"},
        ),
        ("rates.json", change_a_rate, {"model_cards/which_rate.md"}),
        ("embeddings.json", change_an_embedding, {"model_cards/embeddings.md"}),
        ("answers.json", change_an_answer, {"model_cards/answers.md"}),
        ("edits.json", change_an_edit, {"model_cards/edits.md"}),
        ("recipe_yelp.json", change_a_recipe, {"model_cards/recipe_yelp.md"}),
        (
            "recipe_decode_embeddings.json",
            change_a_recipe,
            {"README.md", "model_cards/recipe_decode_embeddings.md"},
        ),
        ("collapse_pretrained_large.json", change_a_choice, {"model_cards/collapse_benchmark.md"}),
        (
            "speed_mid_fp32_intel_r_xeon_r_processor.json",
            change_a_time,
            {"model_cards/README.md", "model_cards/speed.md"},
        ),
    ],
)
def test_other_figures_give_other_pages(cards, record, change, expected):
    before = pages(cards)
    content = json.loads((cards / record).read_text())
    change(content)
    (cards / record).write_text(json.dumps(content))
    render_pages(cards)
    after = pages(cards)
    assert {name for name in after if after[name] != before[name]} == expected


def dead_links(page: str, folder) -> set[str]:
    links = re.findall(r"\]\(([^)#]+)", page)
    assert links
    return {link for link in links if "://" not in link and not (folder / link).exists()}


@pytest.mark.parametrize("name", ["README.md", "collapse_benchmark.md", "which_rate.md"])
def test_links_and_pictures_of_the_pages_exist(name):
    page = (KEPT / name).read_text(encoding="utf-8")
    assert not dead_links(page, KEPT)
    pictures = set(re.findall(r"\]\(([^)#]+)\.png", page))
    assert pictures and dead_links(page.replace(".png", ".jpg"), KEPT) == {f"{path}.jpg" for path in pictures}


def test_the_first_run_has_an_interpolation_of_nine_texts():
    assert len(read_runs(KEPT)[0]["examples"]["interpolation"]) == 9


def test_a_page_without_markers_is_refused_before_any_page_is_written(cards):
    (cards / "speed.md").write_text("# Speed\n")
    content = read_runs(cards)
    content[0]["results"]["eval_mutual_information"] += 1
    (cards / "results.json").write_text(json.dumps(content))
    before = pages(cards)
    with pytest.raises(ValueError, match="lacks the markers <!-- speed: begin -->"):
        render_pages(cards)
    assert pages(cards) == before


def test_the_verdict_has_three_lines_that_follow_the_records():
    runs, benchmark, machines = read_runs(KEPT), read_benchmarks(KEPT)["small"], read_speed(KEPT)
    lines = render_verdict(runs, benchmark, machines).splitlines()
    assert len(lines) == 3 and "is missed" in lines[1] and "Missed aims: " in lines[2]
    ours = next(entry for entry in benchmark["remedies"] if entry["name"] == "bn_rms, rate")
    likelihood, information = measures_of(benchmark["remedies"])
    for seed_run in ours["runs"]:
        seed_run["figures"] |= {likelihood: 1.0, information: 8.0}
    measured = next(machine for machine in machines if has_aims(machine))
    for _, _, figures in compared_pieces(measured):
        figures |= {"ratio_to_floor": 0.5, "ratio_to_naive": 0.01}
    lines = render_verdict(runs, benchmark, machines).splitlines()
    assert "is reached" in lines[1] and "better likelihood than 10 of them" in lines[1]
    assert lines[2].endswith("All aims are met.")


def test_stored_figures_are_consistent():
    """Every run: ELBO from its parts, the likelihood's bound, information below log N, KL as its two halves."""
    for run in read_runs(KEPT):
        r = run["results"]
        assert r["eval_elbo"] == pytest.approx(-r["eval_reconstruction_nll"] - r["eval_kl"])
        assert r["eval_iw_nll"] < -r["eval_elbo"] + 3 * r["eval_iw_nll_error"]
        assert r["eval_mutual_information"] <= r["eval_log_num_sentences"]
        assert r["eval_kl"] == pytest.approx(r["eval_mutual_information"] + r["eval_marginal_kl"], abs=0.5)


def test_models_that_were_judged_one_by_one_share_a_table():
    def answers(name: str, *figures: int, **settings) -> dict:
        return {"models": [{"name": name, "figures": list(figures), "examples": ["a"]}], "num_texts": 5, **settings}

    joined = join_records([answers("a", 1), answers("b", 2), answers("a", 3, 4)])
    assert joined == {"num_texts": 5, "models": answers("a", 1, 3, 4)["models"] + answers("b", 2)["models"]}
    for other in ({"num_texts": 6}, {"seed": 1}):
        with pytest.raises(ValueError, match=f"share no table: {next(iter(other))}"):
            join_records([answers("a", 1), answers("b", 2, **other)])
    edits = [{"models": [{"name": name, "edits": []}]} for name in "aba"]
    assert [row["name"] for row in join_records(edits[:2])["models"]] == ["a", "b"]
    with pytest.raises(ValueError, match="Two records have models named a"):
        join_records(edits)


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


def test_runs_are_kept_in_the_order_of_their_folders(cards, tmp_path):
    kept = read_runs(cards)
    for name, run in (("a", kept[0]), ("b", kept[1])):
        (tmp_path / name).mkdir()
        record = {"command": run["command"], "settings": {"seed": run["seed"]}, "finished": True}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        (tmp_path / name / "all_results.json").write_text(json.dumps({**run["results"], "train_loss": 2.0}))
        (tmp_path / name / "examples.json").write_text(json.dumps(run["examples"]))
    keep_runs([tmp_path / "b", tmp_path / "a"], cards)
    assert read_runs(cards) == [kept[1], kept[0]] != kept[:2]


def test_a_benchmark_is_kept_under_the_name_of_its_setting(cards, tmp_path):
    results = {**read_benchmarks(cards)["small"], "setting_name": "large"}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "runs.json").write_text(json.dumps({"texts": {}, "runs": {}}))
    (tmp_path / "results.png").write_bytes(b"a picture")
    keep_benchmark(tmp_path, cards)
    assert read_benchmarks(cards)["large"] == results
    assert set(read_benchmarks(KEPT)) == {"small", "small_auxiliary", "small_auxiliary_long", "pretrained_large"}
    assert (cards / "collapse_large.png").read_bytes() == b"a picture" and (
        cards / "collapse_large_runs.json"
    ).exists()


def test_results_of_speed_are_kept_by_machine(cards, tmp_path):
    intel = next(results for results in read_speed(cards) if has_aims(results))
    abacus = {**intel, "machine": {**intel["machine"], "device": "Abacus (wood)"}}
    (tmp_path / "abacus.json").write_text(json.dumps(abacus))
    kept = cards / file_name(abacus)
    assert kept.name == "speed_mid_fp32_abacus_wood.json" != file_name(intel)
    # The second one is a file that is already kept.
    for written in (tmp_path / "abacus.json", kept):
        keep_speed(written, cards)
        assert len(read_speed(cards)) == 1 + len(read_speed(KEPT)) and abacus in read_speed(cards)
    render_pages(cards)
    page = (cards / "speed.md").read_text()
    assert SPEED.update(page, render_machines(read_speed(cards))) == page and "Abacus (wood)" in page
    assert page.count(intel["command"]) > (KEPT / "speed.md").read_text().count(intel["command"])


def test_a_card_is_kept_with_its_pictures_alone(cards, tmp_path):
    run = shutil.copytree(CARDS[0], tmp_path / CARDS[0].name)
    (run / "model.safetensors").touch()
    (cards / run.name / "old.png").touch()
    keep_card(run, cards)
    assert {path.name for path in (cards / run.name).iterdir()} == {path.name for path in CARDS[0].iterdir()}
    assert (cards / run.name / "README.md").read_text() == (CARDS[0] / "README.md").read_text()


@pytest.fixture
def recipe_folders(tmp_path):
    """Folders of a run and of two evaluations, as the first kept recipe left them: the recipe, the run, and the
    evaluations by name."""
    name, recipe = next(iter(read_recipes(KEPT).items()))
    run = shutil.copytree(KEPT / name.removeprefix("recipe_"), tmp_path / name.removeprefix("recipe_"))
    record = {"command": recipe["command"], "settings": {"seed": recipe["seed"]}, "finished": True}
    (run / "run.json").write_text(json.dumps(record))
    (run / "all_results.json").write_text(json.dumps({**recipe, "train_loss": 2.0}))
    (run / "examples.json").write_text(json.dumps({"samples": ["a"]}))
    evaluations = {}
    for number, kept in enumerate(recipe["evaluations"]):
        folder = tmp_path / f"evaluation-{number}"
        folder.mkdir()
        found = {**kept, "command": kept["command"].replace("--file ", f"--file {tmp_path}/")}
        report = {"kind": "hf_bnvae evaluation", "version": 2, "settings": {"model_name_or_path": f"runs/{run.name}"}}
        (folder / "report.json").write_text(json.dumps({**report, **found}))
        evaluations[found["name"]] = folder
    return recipe, run, evaluations


def test_a_recipe_is_kept_as_its_folders_give_it_without_their_paths(cards, recipe_folders):
    recipe, run, evaluations = recipe_folders
    assert "--file held_out.jsonl" in recipe["evaluations"][0]["command"]
    assert collect_recipe(run, evaluations) == recipe
    name = f"recipe_{run.name}"
    (cards / f"{name}.json").unlink()
    shutil.rmtree(cards / run.name)
    keep_recipe(run, evaluations, cards)
    assert read_recipes(cards) == read_recipes(KEPT) and (cards / run.name / CARD_JSON).is_file()


def test_an_evaluation_of_another_model_is_no_part_of_a_recipe(cards, recipe_folders, tmp_path):
    _, run, evaluations = recipe_folders
    with pytest.raises(ValueError, match=f"is an evaluation of runs/{run.name}, not of other"):
        keep_recipe(run.rename(tmp_path / "other"), evaluations, cards)
    assert not (cards / "other").exists() and not (cards / "recipe_other.json").exists()


def test_an_evaluation_that_judged_nothing_is_no_part_of_a_recipe(cards, recipe_folders):
    _, run, evaluations = recipe_folders
    report = next(iter(evaluations.values())) / "report.json"
    report.write_text(json.dumps({k: v for k, v in json.loads(report.read_text()).items() if k != "samples"}))
    with pytest.raises(ValueError, match="has not judged reconstructions"):
        collect_recipe(run, evaluations)


def test_the_cosines_of_a_recipe_are_those_of_its_judge():
    recipes = read_recipes(KEPT)
    own, judged = (recipes[f"recipe_{name}"] for name in ("decode_embeddings", "yelp"))
    for recipe, space, name in (
        (own, "the model's own encoder", "own_similarity"),
        (judged, "all-MiniLM-L6-v2, which has no part in the model", "similarity"),
    ):
        cosine = recipe["evaluations"][0]["samples"]["reconstructions"][name]
        page = render_recipe(recipe)
        assert f"in the space of {space}." in page and f" {cosine:.2f} " in page
    # The space of an encoder that was trained together with the decoder is no measure of both.
    trained = {**own, "command": own["command"].replace("--freeze encoder", "")}
    page = render_recipe(trained)
    assert "cosine" not in page and "| F1   |" in page


def test_the_time_of_a_resumed_recipe_is_that_of_all_its_texts():
    whole = read_recipes(KEPT)["recipe_yelp"]
    minutes = re.search(r"million parameters, (\d+) minutes", render_recipe(whole))[1]
    # Its last piece took a quarter of the time.
    speed = 2 * whole["train_samples"] / whole["train_runtime"]
    piece = {**whole, "epoch": 2.0, "train_samples_per_second": speed, "train_runtime": whole["train_runtime"] / 4}
    assert f"million parameters, {minutes} minutes" in render_recipe(piece)


def test_the_script_without_options_changes_no_page(cards, monkeypatch):
    spec = importlib.util.spec_from_file_location("render_results", SCRIPTS / "render_results.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "CARDS", cards)
    monkeypatch.setattr(sys, "argv", ["render_results.py"])
    before = pages(cards)
    (cards / "speed.md").write_text(before["model_cards/speed.md"].replace("| training", "| eating"))
    script.main()
    assert pages(cards) == before


def test_the_picture_of_the_readme_shows_the_recorded_figures():
    runs = read_runs(KEPT)
    used, unused = ([bar.get_width() for bar in bars] for bars in draw_kl_split(runs).axes[0].containers)
    by_options = {options_of(run): run["results"] for run in runs}
    shown = [by_options[options] for options in ("--posterior gaussian", "--rate 8.0", "")]
    assert used == pytest.approx([max(figures["eval_decoder_information"], 0) for figures in shown])
    totals = [max(figures["eval_iw_kl"], 0) for figures in shown]
    assert [sum(parts) for parts in zip(used, unused, strict=True)] == pytest.approx(totals, abs=0.05)
    assert used != pytest.approx(unused)
    assert (KEPT / KL_SPLIT_PICTURE).is_file() and KL_SPLIT_PICTURE in (ROOT / "README.md").read_text()
