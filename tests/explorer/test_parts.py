"""What the page is made of, without a browser: the map's texts and places, a sentence's figures, the pictures."""

import importlib.util
import json
import math
import socket
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from hf_bnvae import cli
from hf_bnvae.evaluation import evaluate_model
from hf_bnvae.explorer.options import exploring_parser, model_name
from hf_bnvae.explorer.page import build_page
from hf_bnvae.explorer.plane import pca, umap
from hf_bnvae.explorer.sentence import sentence_figures
from hf_bnvae.explorer.shown_corpus import load_corpus
from hf_bnvae.explorer.tabs.common import as_lines, decoding_settings, require_text, typed_lines
from hf_bnvae.explorer.tabs.dimensions import draw_bars
from hf_bnvae.explorer.tabs.map import draw_points


@pytest.fixture
def table(tmp_path, labelled_texts):
    path = tmp_path / "texts.tsv"
    path.write_text("\n".join(["text\tlabel", *("\t".join(row) for row in labelled_texts)]))
    return str(path)


def test_a_file_becomes_texts_with_their_latents_and_labels(trained_model, table, labelled_texts):
    corpus = load_corpus(trained_model, texts=table, text_column="text", label_column="label")
    texts, labels = map(list, zip(*labelled_texts, strict=True))
    assert corpus.texts == texts and corpus.labels == labels and corpus.description.startswith("60 texts. ")
    torch.testing.assert_close(corpus.latents, trained_model.encode_texts(texts))
    assert load_corpus(trained_model) is None


def test_a_large_corpus_is_cut_down_at_random_and_the_page_says_so(trained_model, table, labelled_texts):
    corpus = load_corpus(trained_model, texts=table, text_column="text", max_points=20)
    assert (
        len(corpus.texts) == 20 and corpus.labels is None and "20 texts of 60, drawn at random" in corpus.description
    )
    places = [[text for text, _ in labelled_texts].index(text) for text in corpus.texts]
    assert places == sorted(places) != list(range(20))
    assert load_corpus(trained_model, texts=table, text_column="text", max_points=20).texts == corpus.texts


@pytest.mark.parametrize("whitened", [False, True])
def test_latents_that_encode_has_written_are_taken_in_either_coordinates(
    trained_folder, trained_model, table, labelled_texts, tmp_path, whitened
):
    command = [table, str(tmp_path / "latents"), "--model", trained_folder, "--text_column", "text", "--with_text"]
    cli.encode([*command, "--columns", "label", *(["--whiten"] if whitened else [])])
    corpus = load_corpus(trained_model, latents=str(tmp_path / "latents"), label_column="label")
    assert (corpus.texts, corpus.labels) == tuple(map(list, zip(*labelled_texts, strict=True)))
    expected = trained_model.encode_texts(corpus.texts)
    torch.testing.assert_close(corpus.latents.double(), expected.double(), rtol=1e-3, atol=1e-3)


def test_latents_of_another_model_are_refused(trained_folder, make_model, processor, table, tmp_path):
    cli.encode([table, str(tmp_path / "latents"), "--model", trained_folder, "--text_column", "text", "--with_text"])
    other = make_model(latent_size=8, seed=5).eval().attach_processor(processor)
    other.posterior.train()
    other(**processor([f"The food {i} ." for i in range(20)], return_tensors="pt"))
    with pytest.raises(ValueError, match="not those that this model gives"):
        load_corpus(other.eval(), latents=str(tmp_path / "latents"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": "a", "latents": "b"}, "not both"),
        ({"max_points": 1}, "--max_points must be at least 2"),
        ({"text_column": "text"}, "are columns of --texts or --latents"),
        ({"texts": "nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_mistakes_are_named(trained_model, options, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(trained_model, **options)


def test_the_plane_is_that_of_the_largest_variance():
    random = np.random.default_rng(0)
    wide = random.normal(size=(200, 2)) @ np.diag([5.0, 3.0])
    turned = np.linalg.qr(random.normal(size=(6, 6)))[0]
    latents = np.concatenate([wide, random.normal(size=(200, 4)) / 10], 1) @ turned + 7
    coordinates, words = pca(latents)
    # The same distances as in the two wide directions, up to the narrow ones.
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (coordinates, wide)]
    assert np.abs(distances[0] - distances[1]).max() < 0.1 and "100% of the variance" in words
    assert np.allclose(pca(np.array([[0.0], [2.0]]))[0], [[-1, 0], [1, 0]]) or np.allclose(
        pca(np.array([[0.0], [2.0]]))[0], [[1, 0], [-1, 0]]
    )
    assert pca(np.ones((3, 4)))[0].shape == (3, 2)


def test_umap_keeps_neighbours_or_names_what_it_lacks():
    random = np.random.default_rng(0)
    groups = np.concatenate([random.normal(size=(40, 8)), random.normal(size=(40, 8)) + 9])
    with pytest.raises(ValueError, match="at least 10 texts, got 9"):
        umap(groups[:9])
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(ImportError, match="pip install umap-learn"):
            umap(groups)
        return
    places, _ = umap(groups)
    apart = np.linalg.norm(places[:40].mean(0) - places[40:].mean(0))
    assert apart > 2 * places[:40].std()


def test_the_ends_of_a_dimension_are_its_extreme_texts(trained_model, table):
    corpus = load_corpus(trained_model, texts=table, text_column="text")
    low, high = corpus.ends(2, 3)
    order = sorted(range(60), key=lambda i: corpus.latents[i, 2].item())
    assert low == [corpus.texts[i] for i in order[:3]] and high == [corpus.texts[i] for i in order[::-1][:3]]


def test_figures_of_a_sentence_are_those_of_the_evaluation(trained_model, texts):
    """The evaluation of copies of one sentence is the sentence's own, up to the error of the draws."""
    figures = sentence_figures(trained_model, texts[0])
    result = evaluate_model(
        trained_model, [texts[0]] * 30, num_importance_samples=100, num_self_bleu_samples=None, show_progress=False
    )
    assert figures.kl.sum().item() == pytest.approx(result.kl, rel=1e-5)
    assert figures.iw_nll == pytest.approx(result.iw_nll, abs=5 * figures.error + 0.05)
    assert figures.decoder_information == pytest.approx(result.decoder_information, abs=5 * figures.error + 0.05)
    assert figures.decoder_information <= figures.kl.sum().item() + 5 * figures.error
    assert (
        sentence_figures(trained_model, texts[0]).iw_nll
        == figures.iw_nll
        != sentence_figures(trained_model, texts[0], seed=1).iw_nll
    )
    assert f"{figures.kl.sum():.1f} nats" in str(figures) and not math.isnan(figures.error)


def svg(html: str):
    return ElementTree.fromstring(html[: html.index("</svg>") + len("</svg>")])


def test_every_point_has_its_text_and_its_label_s_colour():
    texts = ["a <b>", 'c "d"', "e & f"]
    drawn = svg(draw_points(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.5]]), texts, ["x", "y", "x"]))
    circles = list(drawn)
    assert [circle[0].text for circle in circles] == ["x: a <b>", 'y: c "d"', "x: e & f"]
    assert [circle.get("data-number") for circle in circles] == ["0", "1", "2"]
    colours = [circle.get("fill") for circle in circles]
    assert colours[0] == colours[2] != colours[1]
    # Left is left, and up is up.
    assert float(circles[0].get("cx")) < float(circles[1].get("cx")) < float(circles[2].get("cx"))
    assert float(circles[0].get("cy")) > float(circles[2].get("cy")) > float(circles[1].get("cy"))
    hostile = draw_points(np.zeros((2, 2)), ["</title><script>alert(1)</script>", "b"], ["<img src=x>", "y"])
    assert "<script>" not in hostile and "<img" not in hostile and "<img src=x>" in unescape(hostile)


def test_bars_are_as_high_as_their_kl():
    rects = [one for one in svg(draw_bars([0.5, 2.0, 0.0], 1)) if one.tag == "rect"]
    heights = [float(rect.get("height")) for rect in rects]
    assert heights[0] == pytest.approx(heights[1] / 4, abs=0.1) and heights[2] == 0
    assert rects[0].get("fill") == rects[2].get("fill") != rects[1].get("fill")


def test_inputs_of_strangers_have_limits():
    assert require_text("a") == "a" and typed_lines(" a \n\n b", "texts") == ["a", "b"]
    for call in (
        lambda: require_text(" "),
        lambda: require_text(None),
        lambda: require_text("a" * 1001),
        lambda: typed_lines("\n", "texts"),
        lambda: typed_lines("a\n" * 201, "texts"),
    ):
        with pytest.raises(ValueError, match=r"Type|may have"):
            call()


def test_controls_mean_arguments_of_generate():
    assert decoding_settings("the likeliest token", 4, 1, None) == {
        "seed": 0,
        "do_sample": False,
        "show_progress": False,
    }
    assert decoding_settings("beam search", 4, 1, 3)["num_beams"] == 4
    drawn = decoding_settings("drawn tokens", 2, 0.7, 3)
    assert drawn["do_sample"] and drawn["num_return_sequences"] == 2 and drawn["temperature"] == 0.7
    assert as_lines(["a\nb", "c"]) == "a b\nc" and as_lines([["a", "b"], ["c"]]) == "a\nb\n\nc"


def test_the_command_takes_one_model():
    parser = exploring_parser()
    assert (
        model_name(parser.parse_args(["runs/a"])) == model_name(parser.parse_args(["--model", "runs/a"])) == "runs/a"
    )
    for wrong in ([], ["a", "--model", "b"]):
        with pytest.raises(ValueError, match="Name one saved model"):
            model_name(parser.parse_args(wrong))


def test_a_model_with_one_dimension_has_a_page(make_model, processor, texts):
    model = make_model(latent_size=1, posterior="gaussian").eval().attach_processor(processor)
    assert build_page(model, "one").config["components"]


def test_labels_that_are_missing_have_a_name():
    drawn = draw_points(np.zeros((3, 2)), ["a", "b", "c"], [1 / 7, None, float("nan")])
    assert "0.142857:" in drawn and drawn.count("no label: ") == 2
    # Both without a label have the colour that stands beside these words below the points.
    first, *missing = [circle.get("fill") for circle in svg(drawn)]
    assert len(set(missing)) == 1 and missing[0] != first
    assert f'<span style="color:{missing[0]}">&#9679;</span> no label' in drawn


def test_the_command_names_what_is_wrong(capsys, tmp_path, explored):
    taken = socket.create_server(("127.0.0.1", 0))
    for options, message in (
        ([str(tmp_path)], "could not be loaded"),
        ([str(explored), "--texts", "nowhere.txt"], "nowhere.txt"),
        ([str(explored), "--server_port", "80000"], "--server_port must be from 1 to 65535"),
        ([str(explored), "--server_name", "999.1.1.1"], "--server_name 999.1.1.1 cannot be used"),
        ([str(explored), "--server_port", str(taken.getsockname()[1])], "cannot be used"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.explore(options)
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_map_of_a_conditional_model_has_texts_with_conditions(answering_model, trained_model, tmp_path, texts):
    path = tmp_path / "texts.tsv"
    rows = [f"{text}\t{text.split()[0]} ?" for text in texts[:20]]
    path.write_text("\n".join(["text\tasked", *rows]))
    corpus = load_corpus(answering_model, texts=str(path), text_column="text", condition_column="asked")
    assert corpus.conditions == [f"{text.split()[0]} ?" for text in texts[:20]]
    expected = answering_model.encode_texts(texts[:20], condition=corpus.conditions)
    torch.testing.assert_close(corpus.latents, expected)
    with pytest.raises(ValueError, match=r"trained with conditions\. Say which column"):
        load_corpus(answering_model, texts=str(path), text_column="text")
    with pytest.raises(ValueError, match="trained without conditions"):
        load_corpus(trained_model, texts=str(path), text_column="text", condition_column="asked")


def test_a_column_of_encoded_files_may_hold_conditions_and_colours(answering_model, answering_folder, tmp_path, texts):
    path, latents = tmp_path / "texts.tsv", str(tmp_path / "latents")
    asked = [f"{text.split()[0]} ?" for text in texts[:20]]
    path.write_text("\n".join(["text\tasked", *map("\t".join, zip(texts[:20], asked, strict=True))]))
    options = ["--text_column", "text", "--condition_column", "asked", "--columns", "asked", "--with_text"]
    cli.encode([str(path), latents, "--model", answering_folder, *options])
    corpus = load_corpus(answering_model, latents=latents, label_column="asked", condition_column="asked")
    assert (corpus.texts, corpus.labels, corpus.conditions) == (texts[:20], asked, asked)
    expected = answering_model.encode_texts(texts[:20], condition=asked)
    torch.testing.assert_close(corpus.latents.double(), expected.double(), rtol=1e-3, atol=1e-3)


def test_latents_without_a_condition_are_not_shown(answering_model, answering_folder, tmp_path, texts, caplog):
    path, latents = tmp_path / "texts.jsonl", str(tmp_path / "latents")
    rows = [{"text": text, "asked": "A ?", "late": None if i == 3 else "A ?"} for i, text in enumerate(texts[:12])]
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = ["--columns", "late", "--with_text"]
    options = ["--text_column", "text", "--condition_column", "asked", *columns]
    cli.encode([str(path), latents, "--model", answering_folder, *options])
    corpus = load_corpus(answering_model, latents=latents, label_column="late", condition_column="late")
    assert corpus.texts == [*texts[:3], *texts[4:12]] and set(corpus.conditions) == set(corpus.labels) == {"A ?"}
    assert len(corpus.plane) == len(corpus.latents) == 11 and "1 of 12 latents are not shown" in caplog.text


def test_a_sentence_costs_what_it_costs_under_its_condition(answering_model, texts):
    figures = [
        sentence_figures(answering_model, texts[0], condition=own) for own in (f"{texts[0].split()[0]} ?", "A ?")
    ]
    assert figures[0].iw_nll + 1 < figures[1].iw_nll  # the condition says how the text begins


def test_a_page_shows_the_box_of_the_condition_where_there_are_any(answering_model, trained_model):
    for model, is_visible in ((answering_model, True), (trained_model, False)):
        (box,) = [b for b in build_page(model, "model").blocks.values() if getattr(b, "elem_id", None) == "condition"]
        assert box.visible is is_visible and box.value == ""


def test_the_page_begins_with_the_first_text_under_its_own_condition(answering_model, tmp_path, texts):
    path = tmp_path / "texts.tsv"
    path.write_text("\n".join(["text\tasked", *(f"{text}\t{text.split()[0]} ?" for text in texts[:5])]))
    corpus = load_corpus(answering_model, texts=str(path), text_column="text", condition_column="asked")
    blocks = build_page(answering_model, "model", corpus).blocks.values()
    values = {b.elem_id: b.value for b in blocks if getattr(b, "elem_id", None) in ("condition", "reconstruct-text")}
    assert values == {"condition": f"{texts[0].split()[0]} ?", "reconstruct-text": texts[0]}
