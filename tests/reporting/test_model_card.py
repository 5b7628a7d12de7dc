"""Model cards: what a run left is what they say, the Hub's parser reads them, and no value breaks out of them."""

import json
import runpy
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tiny
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from paths import SCRIPTS

from hf_bnvae.evaluation import evaluate_model
from hf_bnvae.evaluation.result import EvaluationResult
from hf_bnvae.jobs.evaluation_arguments import EvaluationArguments
from hf_bnvae.jobs.evaluation_job import EvaluationJob
from hf_bnvae.reporting.markdown import fenced, inline, markdown_table
from hf_bnvae.reporting.model_card import BNVAEModelCard, is_sealed, latent_space, seal

NASTY = "a: 'b' \"c\"\n---\n# d | <script>e</script> `f` ``` {{ g }} [h](i) *j* <!-- k --> \\ no"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run of the training script."""
    folder = tmp_path_factory.mktemp("card")
    lines = [f"This is sentence number {i} of my own file ." for i in range(40)]
    (folder / "mine.txt").write_text("\n".join(lines))
    options = {"train_file": folder / "mine.txt", "output_dir": folder / "run", "license": "mit", "language": "en"}
    options |= {**tiny.SCRIPT_OPTIONS, "posterior": "bn_rms", "rate": 2, "hub_token": "hf_secret"}
    argv = sys.argv
    sys.argv = ["run_bnvae.py", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    try:
        runpy.run_path(str(SCRIPTS / "run_bnvae.py"), run_name="__main__")
    finally:
        sys.argv = argv
    return folder / "run"


def made(card: BNVAEModelCard) -> str:
    """All that the model made, which may well be a text of its training."""
    return "\n".join([*card.examples["samples"], *card.examples["interpolation"]])


def html(card: str) -> str:
    """The body as a browser gets it."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(ModelCard(card).text)


def test_a_run_leaves_its_card(run):
    text, results = (run / "README.md").read_text(), json.loads((run / "all_results.json").read_text())
    assert f"KL {results['eval_kl']:.2f} nats per sentence (floor {results['eval_kl_floor']:.2f})" in text
    assert "Posterior: `bn_rms` (rate 2), pooling `mean`" in text and "is at least 2.00 nats" in text
    assert "- Texts: 36 of mine.txt" in text and results["eval_corpus_train_sha256"] in text
    assert "On held-out texts of mine.txt, 4 texts:" in text


def test_the_json_beside_a_card_renders_it_again(run):
    text, card = (run / "README.md").read_text(), BNVAEModelCard.from_json_file(run / "model_card.json")
    assert card == BNVAEModelCard.from_folder(run, license="mit", language="en") and card.render() == text
    changed = replace(card, figures={**card.figures, "kl": card.figures["kl"] + 1})
    assert changed.render() != text


def test_a_card_that_is_written_again_is_the_same(run):
    text, card = (run / "README.md").read_text(), BNVAEModelCard.from_json_file(run / "model_card.json")
    assert is_sealed(text) and card.save(run) == run / "README.md" and (run / "README.md").read_text() == text


def test_a_card_s_command_has_no_folder_of_this_machine(run):
    command = BNVAEModelCard.from_json_file(run / "model_card.json").command.split()
    assert command[:2] == ["hf-bnvae", "train"] and "--output_dir" not in command
    assert command[command.index("--train_file") + 1] == "mine.txt" and command[command.index("--rate") + 1] == "2.0"


def test_a_card_holds_no_secret_and_no_text_of_one_s_own_file(run):
    text, card = (run / "README.md").read_text(), BNVAEModelCard.from_json_file(run / "model_card.json")
    assert "hf_secret" not in text and str(run.parent) not in text
    own = json.loads((run / "examples.json").read_text())["reconstructions"]
    assert len(own) == 4 and card.examples["reconstructions"] == []
    lines = (run.parent / "mine.txt").read_text().splitlines()
    assert not any(line in text for line in lines if line not in made(card))
    for example in card.examples["samples"]:  # the model's own texts are shown
        assert example in text


@pytest.mark.slow
def test_the_command_of_a_card_makes_the_same_run(run, monkeypatch, tmp_path):
    command = BNVAEModelCard.from_json_file(run / "model_card.json").command
    monkeypatch.chdir(run.parent)
    monkeypatch.setattr(sys, "argv", [*command.split()[1:], "--output_dir", str(tmp_path / "again")])
    runpy.run_path(str(SCRIPTS / "run_bnvae.py"), run_name="__main__")
    first, second = (BNVAEModelCard.from_json_file(path / "model_card.json") for path in (run, tmp_path / "again"))
    assert first.command == second.command and first.hashes == second.hashes
    assert first.figures == second.figures and first.settings == second.settings


def test_pictures_stand_in_the_card(run):
    card = BNVAEModelCard.from_json_file(run / "model_card.json")
    assert {"kl_per_dimension.png", "aggregated_posterior.png"} <= set(card.pictures)
    page = html(card.render())
    for name in card.pictures:
        assert (run / name).stat().st_size > 5_000 and f'<img src="{name}"' in page


def test_every_figure_is_metadata_that_the_hub_reads(run):
    card = BNVAEModelCard.from_json_file(run / "model_card.json")
    data = ModelCard.load(run / "README.md").data
    assert (data.license, data.language, data.library_name) == ("mit", "en", "transformers")
    assert data.pipeline_tag == "feature-extraction" and "bnvae" in data.tags
    read = {result.metric_type: result.metric_value for result in data.eval_results}
    assert {name: card.figures[name] for name in read} == read
    shown = {f.name for f in EvaluationResult.__dataclass_fields__.values() if f.metadata["label"]}
    assert shown - read.keys() == {"num_sentences", "latent_gain_within"}  # the latter needs conditions


def test_pretrained_networks_and_data_sets_of_the_hub_are_named(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    record = json.loads((run / "run.json").read_text())
    assert BNVAEModelCard.from_folder(run).base_models == []
    (tmp_path / "local").mkdir()
    config["encoder"]["_name_or_path"] = "google-bert/bert-base-cased"
    config["decoder"]["_name_or_path"] = str(tmp_path / "local")
    record["settings"]["dataset_name"] = "community/yelp"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "run.json").write_text(json.dumps(record))
    card = BNVAEModelCard.from_folder(tmp_path)
    assert card.base_models == ["google-bert/bert-base-cased"] and card.datasets == ["community/yelp"]
    assert card.encoder == "google-bert/bert-base-cased" and card.decoder == "gpt2, 1 layers, width 32"
    data = ModelCard(card.render()).data
    assert data.base_model == ["google-bert/bert-base-cased"] and data.datasets == ["community/yelp"]
    assert str(tmp_path) not in card.render()


def test_texts_that_everybody_can_read_may_be_shown(run):
    report = json.loads((run / "report.json").read_text())
    card = BNVAEModelCard.from_folder(run)
    shown = {}
    for is_public in (True, False):
        told = {**report, "data": {**report["data"], "is_public": is_public}}
        shown[is_public] = card.with_evaluation(told).examples["reconstructions"]
    assert shown == {True: report["examples"]["reconstructions"], False: []}


def test_conditions_of_one_s_own_file_are_not_shown_either(run, tmp_path):
    report = json.loads((run / "report.json").read_text())
    own = {**report["examples"], "conditions": ["what has Mr Smith ?"] * 4}
    card = BNVAEModelCard.from_folder(run)
    shown = {}
    for is_public in (True, False):
        told = {**report, "examples": own, "data": {**report["data"], "is_public": is_public}}
        card = card.with_evaluation(told)
        card.save(tmp_path)
        written = (tmp_path / "model_card.json").read_text() + (tmp_path / "README.md").read_text()
        shown[is_public] = "Mr Smith" in written
    assert shown == {True: True, False: False}
    assert "under a condition of the held-out texts" in card.render()
    # A card of an earlier version, which kept them.
    record = json.loads((tmp_path / "model_card.json").read_text())
    record["examples"]["conditions"] = own["conditions"]
    (tmp_path / "model_card.json").write_text(json.dumps(record))
    assert "Mr Smith" not in BNVAEModelCard.from_json_file(tmp_path / "model_card.json").render()


HEALTHY = {"reconstruction_nll": 40.0, "frequency_nll": 60.0, "kl": 5.0, "kl_floor": 4.0}
HEALTHY |= {"mutual_information": 3.0, "latent_gain": 3.0}


def test_a_collapsed_model_says_so_at_the_top(make_model, processor, texts):
    model = make_model(posterior="gaussian").eval()
    figures = asdict(evaluate_model(model, texts[:40], processor, num_importance_samples=2, show_progress=False))
    card = BNVAEModelCard(model_name="m", repo_id="u/m", config=latent(model), figures=figures)
    collapsed = replace(card, figures={**figures, **HEALTHY, "kl": 0.01, "mutual_information": 0.0})
    body = ModelCard(collapsed.render()).text.strip().splitlines()
    assert body[0] == "# m" and body[2].startswith(
        "> **Do not rely on this model's latents.** The latent space is collapsed"
    )
    alive = replace(card, figures={**figures, **HEALTHY})
    body = ModelCard(alive.render()).text.strip().splitlines()
    assert body[2].startswith("> **The latent space is alive.** With another one's latent, a text loses 3.00")
    assert body[4].startswith("> Measured: KL 5.00 nats per sentence (floor 4.00), of which 3.00 are information")
    noisy = replace(card, figures={**figures, **HEALTHY, "mean_moment_ratio": 0.01, "latent_gain": 0.0})
    assert "dropout in the encoder" in ModelCard(noisy.render()).text.strip().splitlines()[2]
    unknown = ModelCard(replace(card, figures={}).render())
    assert unknown.text.strip().splitlines()[2].startswith("> **Nobody knows") and not unknown.data.eval_results


def latent(model):
    return latent_space(model.config)


@pytest.fixture
def plain(make_model) -> BNVAEModelCard:
    return BNVAEModelCard(model_name="m", repo_id="u/m", config=latent(make_model()))


@pytest.fixture
def nasty(plain) -> BNVAEModelCard:
    """A card whose values look like YAML, HTML, Markdown and templates."""
    return replace(
        plain,
        model_name=NASTY,
        texts=NASTY,
        evaluated_on=NASTY,
        encoder=NASTY,
        command=NASTY,
        hardware=NASTY,
        versions={"x_version": NASTY},
        settings={"y": NASTY},
        tags=[NASTY],
        examples={"reconstructions": [[NASTY, NASTY]], "samples": [NASTY], "interpolation": [NASTY]},
        figures={"kl": 1.0, "kl_floor": 0.5},
    )


def test_metadata_are_what_they_were_made_of_to_the_letter(nasty):
    data = ModelCard(nasty.render()).data
    assert data.tags[-1] == data.model_name == NASTY
    assert {result.dataset_name for result in data.eval_results} == {NASTY}


def test_no_value_breaks_out_of_its_place(plain, nasty):
    page = html(nasty.render())
    assert "<script>" not in page and "<!-- k -->" not in page and '<a href="i">' not in page
    assert "&lt;script&gt;e&lt;/script&gt;" in page
    # As many headings as without: none was made, none was swallowed by a block of code.
    without = html(replace(plain, examples={n: [] for n in nasty.examples}, figures=nasty.figures).render())
    assert page.count("<h2>") == without.count("<h2>") and page.count("<h1>") == 1


def test_a_card_of_any_values_goes_through_json(nasty):
    assert BNVAEModelCard(**json.loads(json.dumps(asdict(nasty)))).render() == nasty.render()
    assert is_sealed(nasty.render())


@pytest.fixture
def saved(run, tmp_path) -> Path:
    """The finished run's configuration and record, to change, with weights in two files."""
    for name in ("config.json", "run.json", "report.json", "kl_per_dimension.png"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(b"weights")
    return tmp_path


def test_nothing_that_is_of_other_weights_stays_in_a_card(run, saved):
    card = BNVAEModelCard.from_json_file(run / "model_card.json")
    own = BNVAEModelCard.from_folder(saved).weights_sha256
    replace(card, weights_sha256=own, tags=["mine"]).save(saved)
    assert BNVAEModelCard.of_weights(saved) == replace(card, weights_sha256=own, tags=["mine"])
    for number in (1, 2):  # any file of them
        (saved / f"model-0000{number}-of-00002.safetensors").write_bytes(b"others!")
        other = BNVAEModelCard.of_weights(saved)
        assert (other.figures, other.examples, other.pictures) == ({}, None, []), number
        assert (other.license, other.language, other.tags) == ("mit", "en", ["mine"])
        (saved / f"model-0000{number}-of-00002.safetensors").write_bytes(b"weights")


def test_figures_that_are_zero_are_metadata_too(make_model):
    figures = {"kl": 0.0, "kl_floor": 0.0, "active_units": 0, "iw_nll": None}
    card = BNVAEModelCard(model_name="m", repo_id="u/m", config=latent(make_model()), figures=figures)
    read = {result.metric_type: result.metric_value for result in ModelCard(card.render()).data.eval_results}
    assert read == {"kl": 0.0, "kl_floor": 0.0, "active_units": 0}


def test_mutual_information_near_its_most_is_said_to_be_a_lower_bound(make_model):
    figures = {"kl": 9.0, "kl_floor": 4.0, "log_num_sentences": 3.0, "mutual_information": 2.5}
    card = BNVAEModelCard(model_name="m", repo_id="u/m", config=latent(make_model()), figures=figures)
    said = "- The mutual information is within 1 nat of the most that could be measured"
    assert said in card.render()
    assert said not in replace(card, figures={**figures, "mutual_information": 1.5}).render()


def test_directions_stand_in_the_card(saved, trained_model, texts):
    assert "## Directions" not in BNVAEModelCard.from_folder(saved).render()
    direction = trained_model.direction(texts[:30], texts[30:60], "a | <b>", positive_name="odd ones")
    trained_model.directions[direction.name] = direction
    try:
        trained_model.save_pretrained(saved)
    finally:
        trained_model._directions = None
    card = BNVAEModelCard.from_folder(saved)
    assert "odd ones (30 texts)" in card.render() and f"| {direction.held_out_accuracy:.2f} " in card.render()
    assert "a | <b>" in MarkdownIt("commonmark").enable("table").render(card.render()).replace("&lt;", "<").replace(
        "&gt;", ">"
    )
    # One that was made after the card was written.
    card.save(saved)
    trained_model.direction(texts[:9], texts[30:60], "newer").save(saved)
    again = BNVAEModelCard.of_weights(saved)
    assert [row["name"] for row in again.directions] == ["a | <b>", "newer"] and again.figures == card.figures
    with pytest.raises(ValueError, match="directions: scale"):
        replace(again, directions=[{**again.directions[0], "scale": "far"}])


def test_texts_of_a_folder_without_its_run_are_not_shown(saved):
    (saved / "run.json").unlink()
    examples = BNVAEModelCard.from_folder(saved).examples
    assert examples["reconstructions"] == [] and examples["samples"]


def test_a_card_of_a_run_without_an_evaluation_has_no_figures(saved):
    whole = BNVAEModelCard.from_folder(saved)
    (saved / "report.json").unlink()
    card = BNVAEModelCard.from_folder(saved)
    assert (card.figures, card.examples) == ({}, None) and whole.figures and whole.examples
    assert (card.texts, card.command) == (whole.texts, whole.command)


def test_somebody_s_own_report_is_not_taken_for_the_run_s(saved):
    for content in ('{"sales": 3}', "sales"):
        (saved / "report.json").write_text(content)
        assert BNVAEModelCard.from_folder(saved).figures == {}


def test_the_run_s_settings_name_what_it_comes_from(saved):
    record = json.loads((saved / "run.json").read_text())
    for given, expected in (
        ({"dataset_name": "community/yelp"}, (["community/yelp"], [], None, "community/yelp")),
        ({"model_name_or_path": "ada/bnvae"}, ([], ["ada/bnvae"], "en", "text")),
        ({"model_name_or_path": str(saved)}, ([], [], "en", "text")),
        ({"train_file": "/home/me/mine.txt"}, ([], [], None, "text")),
        ({}, ([], [], "en", "text")),  # the default corpus
    ):
        settings = {**record["settings"], "train_file": None, **given}
        (saved / "run.json").write_text(json.dumps({**record, "settings": settings}))
        card = BNVAEModelCard.from_folder(saved)
        results = ModelCard(card.render()).data.eval_results
        assert (card.datasets, card.base_models, card.language, results[0].dataset_type) == expected, given
        assert "/home/me" not in card.render()


def test_values_tables_and_blocks_show_what_they_hold():
    for value in (NASTY, "*a*", "<b>", "a_b_c", "&amp;", "1 | 2"):
        text = MarkdownIt().render(inline(value))
        assert text == f"<p>{escaped(' '.join(value.split()))}</p>\n"
        block = MarkdownIt().render(fenced(value))
        assert block == f"<pre><code>{escaped(value)}\n</code></pre>\n"
        table = MarkdownIt().enable("table").render("\n".join(markdown_table(("x", "y"), [("1 | 2", "3")])))
        assert table.count("<td>") == 2 and "<td>1 | 2</td>" in table
    # The control: it is the escaping that does so.
    assert "<em>" in MarkdownIt().render("*a*")


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def test_a_card_changed_by_hand_is_left_alone(run, tmp_path, caplog):
    card = BNVAEModelCard.from_json_file(run / "model_card.json")
    assert card.save(tmp_path) is not None
    path = tmp_path / "README.md"
    mine = path.read_text().replace("## Limits", "## My own words\n\n## Limits")
    path.write_text(mine)
    assert card.save(tmp_path) is None and path.read_text() == mine
    assert "changed by hand" in caplog.text and str(path) in caplog.text
    path.write_text("# All mine\n")
    assert card.save(tmp_path) is None and path.read_text() == "# All mine\n"
    assert is_sealed(seal("x\ny").replace("\n", "\r\n"))  # as git may check it out
    assert is_sealed(seal("x")) and not is_sealed("x") and not is_sealed(seal("x").replace("x", "y", 1))


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    """The report of an evaluation of the run's model, with a probe."""
    folder = tmp_path_factory.mktemp("evaluation")
    lines = [f"{'ab'[i % 2]},This is sentence number {i} ." for i in range(30)]
    (folder / "test.csv").write_text("\n".join(["label,text", *lines]))
    args = EvaluationArguments(
        model_name_or_path=str(run),
        file=str(folder / "test.csv"),
        text_column="text",
        label_column="label",
        num_importance_samples=2,
        device="cpu",
        output_dir=str(folder / "out"),
    )
    EvaluationJob(args).run()
    return json.loads((folder / "out" / "report.json").read_text())


@pytest.mark.slow
def test_the_figures_of_an_evaluation_replace_those_of_the_run(run, report):
    card = BNVAEModelCard.from_folder(run)
    evaluated = card.with_evaluation(report)
    assert evaluated.figures["num_sentences"] == 30 != card.figures["num_sentences"]
    page = html(evaluated.render())
    assert "On test.csv, 30 texts:" in page and "rate_distortion.png" in page
    assert evaluated.command == card.command
    hashes = {"corpus_train_sha256": card.hashes["corpus_train_sha256"]}
    assert evaluated.hashes == {**hashes, "corpus_validation_sha256": report["data"]["sha256"]} != card.hashes


def test_what_a_probe_read_stands_in_the_card(run, report):
    told = json.loads(json.dumps(report))
    for row in told["probe"]["results"]["draws"]["rows"]:
        row |= {"accuracy": 0.123, "balanced_accuracy": 0.456}
    told["probe"]["results"]["means"]["majority_accuracy"] = 0.789
    card = BNVAEModelCard.from_folder(run)
    rows = [line.split("|")[1:3] for line in card.with_evaluation(told).render().splitlines() if line.startswith("| ")]
    shown = {title.strip(): share.strip() for title, share in rows}
    assert shown["draws from the posteriors"] == "12.3" and shown["always the most frequent class"] == "78.9"
    without = {name: value for name, value in report.items() if name != "probe"}
    assert "draws from the posteriors" not in card.with_evaluation(without).render()


def test_a_card_tells_neither_where_files_are_nor_what_is_in_them(run, report):
    told = json.dumps(report)
    assert told.count("/test.csv") >= 3
    card = BNVAEModelCard.from_folder(run).with_evaluation(report)
    assert (
        "/test.csv" not in json.dumps(asdict(card)) and str(Path(report["data"]["source"]).parent) not in card.render()
    )
    assert card.examples["reconstructions"] == [] != report["examples"]["reconstructions"]


def test_what_is_no_model_or_no_card_is_refused(tmp_path, run):
    with pytest.raises(ValueError, match=r"holds no BNVAE.*and there is none"):
        BNVAEModelCard.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="its model_type is 'bert'"):
        BNVAEModelCard.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        BNVAEModelCard.from_folder(tmp_path)
    record = json.loads((run / "model_card.json").read_text())
    for broken, named in (({**record, "more": 1}, "more"), ({"config": {}}, "model_name, repo_id")):
        (tmp_path / "card.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=named):
            BNVAEModelCard.from_json_file(tmp_path / "card.json")
    for wrong, named in (({"license": "My Licence"}, "license"), ({"language": "English"}, "language")):
        with pytest.raises(ValueError, match=named):
            BNVAEModelCard.from_folder(run, **wrong)


def test_the_trainer_writes_a_card_of_what_it_knows(make_trainer, tmp_path):
    trainer = make_trainer(output_dir=str(tmp_path), max_steps=2)
    trainer.train()
    figures = trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card(license="mit", language="en", tags="mine", model_name="Mine", finetuned_from="a/b")
    card = BNVAEModelCard.from_json_file(tmp_path / "model_card.json")
    assert card.figures["kl"] == figures["eval_kl"] and "iw_nll" not in card.figures
    assert card.settings["max_steps"] == 2
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model == ["a/b"] and data.model_name == "Mine" and "mine" in data.tags
    assert f"KL {figures['eval_kl']:.2f} nats" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_a_trainer_s_card_has_no_figures_of_weights_that_are_no_more(make_trainer, tmp_path):
    """Those of an evaluation during training are of other weights or statistics than what is saved after it."""
    arguments = {"max_steps": 4, "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    trainer = make_trainer(output_dir=str(tmp_path), load_best_model_at_end=True, **arguments)
    trainer.train()
    assert sum("eval_kl" in entry for entry in trainer.state.log_history) == 2
    trainer.save_model()
    trainer.create_model_card()
    assert BNVAEModelCard.from_json_file(tmp_path / "model_card.json").figures == {}
    figures = trainer.evaluate()
    trainer.create_model_card()
    assert BNVAEModelCard.from_json_file(tmp_path / "model_card.json").figures["kl"] == figures["eval_kl"]
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    assert BNVAEModelCard.from_json_file(tmp_path / "model_card.json").figures == {}
