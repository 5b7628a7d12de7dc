"""Texts and names of others stay texts: in reports and cards they become neither HTML nor commands of a terminal."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from paths import ROOT

from hf_bnvae.reporting.evaluation_report import render_report
from hf_bnvae.reporting.markdown import code, fenced, inline, markdown_table, prose
from hf_bnvae.reporting.model_card import BNVAEModelCard
from hf_bnvae.utils.terminal import visible

HOSTILE = "\x1b]0;t\x07\x1b[2J\x9b31m\u202e\r`|```\n\n<script>alert(1)</script>\n![p](http://x/y.png) \\<script>"
CARD = ROOT / "model_cards" / "docstrings" / "model_card.json"
ROW = {"labels_per_class": None, "num_labels": 9, "num_draws": 1, "accuracy": 0.5, "accuracy_std": 0.0}
ROW |= {"balanced_accuracy": 0.5, "balanced_accuracy_std": 0.0}
FEATURES = {"num_train": 9, "num_test": 9, "num_features": 4, "num_classes": 2, "majority_accuracy": 0.5}
FEATURES |= {"chance_balanced_accuracy": 0.5, "rows": [ROW], "omitted": {"1000": "the class a has too few"}, "seed": 0}
PROBE = {"labels": "stars", "results": dict.fromkeys(("means", "draws", "features"), FEATURES)}

# Markdown of every kind, and pieces that close or open it.
PIECES = [
    "<script>",
    "</script>",
    "<b onclick=x>",
    "<!--",
    "-->",
    "`",
    "```",
    "\n",
    "\n\n",
    "|",
    "\\",
    "![a](http://x)",
]
PIECES += [
    "[a](http://x)",
    "\x1b[31m",
    "\x9b",
    "\u202e",
    "\r",
    "# ",
    "> ",
    "- ",
    "    ",
    "a",
    " ",
    "*",
    "&lt;",
    "<http://x>",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def html(page: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(page)


def require_safe(page: str) -> None:
    """No command of a terminal in the page, and no script, picture or link of others in what a browser gets."""
    assert visible(page) == page
    rendered = html(page)
    for part in ("<script", "<b ", "<!-- ", '<img src="http', '<a href="http://x'):
        assert part not in rendered, (part, page)


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values that are no mapping and no list."""
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from leaves(part, (*path, key))
    else:
        yield path


def replaced(record: Any, path: tuple, text: str) -> Any:
    record = copy.deepcopy(record)
    part = record
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = text
    return record


@given(TEXTS)
def test_a_text_breaks_out_of_no_place_in_a_page(text):
    for page in (
        f"A {inline(text)} b",
        f"- {code(text)}: b",
        f"> {prose(text)}\n",
        fenced(text),
        "\n".join(markdown_table(["a", inline(text)], [["b", inline(text)]])),
    ):
        require_safe(page)
    table = "\n".join(markdown_table(["a", "b"], [[text, "c"]]))  # a cell may hold links, and nothing that acts
    assert visible(table) == table and "<script" not in html(table) and html(table).count("<td>") == 2


def test_the_check_finds_what_is_raw():
    for page in ("<script>a</script>", "![p](http://x/y.png)", "a\x1b[2J", "a\u202e"):
        with pytest.raises(AssertionError):
            require_safe(page)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What a `report.json` of an evaluation holds, with all parts."""
    card = json.loads(CARD.read_text(encoding="utf-8"))
    quality = {"num_texts": 5, "perplexity": 9.0, "frechet_distance": 0.1, "self_bleu": 1.0, "distinct": 1.0}
    similarity = dict.fromkeys(("own_similarity", "own_random_similarity", "similarity", "random_similarity"), 0.5)
    paths = {"distinct": 3.0, "num_steps": 9, "num_paths": 5, "inner_perplexity": 8.0, "end_perplexity": 7.0}
    return {
        "model": {
            "name_or_path": "runs/a",
            "commit": "c" * 40,
            "posterior": "bn_rms",
            "latent_size": 4,
            "num_parameters": 9,
        },
        "data": {"source": "mine.txt", "num_texts": 40, "sha256": "0" * 64},
        "figures": card["figures"],
        "verdict_text": card["verdict_text"],
        "files": ["report.json", "kl_per_dimension.png"],
        "probe": {**PROBE, "description": "trained on a.csv", "train_sha256": "0" * 64},
        "samples": {
            "judges": {"language_model": "gpt2", "encoder": "bert"},
            "kinds": {"held-out texts": quality},
            "reconstructions": {"num_texts": 5, "token_f1": 0.5, **similarity},
            "paths": paths,
        },
        "examples": {**card["examples"], "reconstructions": [["a", "b"]]},
        "notes": ["A note."],
        "settings": {"seed": 3},
        "versions": {"torch_version": "2.13.0"},
        "compared_with": [{"name": "runs/b", "same_texts": True}],
        "command": "hf-bnvae evaluate",
    }


def test_no_text_of_a_report_breaks_out_of_its_place(report):
    require_safe(render_report(report))
    texts = [path for path in leaves(report) if isinstance(_at(report, path), str)]
    assert len(texts) > 30
    for path in texts:
        page = render_report(replaced(report, path, HOSTILE))
        require_safe(page)
        is_shown = "files" not in path and path[-1] not in ("text_tokenizer", "fitted_prior", "prior")
        assert ("script" in page) == is_shown, path  # as text


def _at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """What a `model_card.json` holds, with all fields."""
    card = {**json.loads(CARD.read_text(encoding="utf-8")), "probe": PROBE, "num_train_texts": 9, "license": "mit"}
    return {**card, "tags": ["mine"], "base_models": ["a/b"], "datasets": ["c/d"]}


def read(record: dict[str, Any], folder: Path) -> str:
    (folder / "model_card.json").write_text(json.dumps(record))
    return BNVAEModelCard.from_json_file(folder / "model_card.json").render()


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, None, True, -1.5], ids=lambda v: type(v).__name__
)
def test_no_value_of_a_card_s_json_breaks_out_of_its_place(record, tmp_path, value):
    """Each value in turn, in the fields and in their parts: an error that names the file, or a page that is safe."""
    paths = list(leaves(record)) + [(name,) for name in record]
    refused = 0
    for path in paths:
        try:
            page = read(replaced(record, path, value), tmp_path)
        except ValueError as error:
            assert "model_card.json is not the JSON of a model card: " in str(error)
            refused += 1
            continue
        require_safe(ModelCard(page).text.replace("<!-- hf_bnvae wrote", ""))
        assert visible(page) == page
    assert refused > 10 or value is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("num_parameters",), "<b>"),
        (("num_train_texts",), "<b>"),
        (("config", "latent_size"), "<b>"),
        (("config", "posterior"), "<b>"),
        (("config", "pooling"), "<b>"),
        (("config", "scale", "rate"), "<b>"),
        (("config", "scale"), {"<b>": 1.0}),
        (("figures", "kl"), "<b>"),
        (("figures", "active_units"), "<b>"),
        (("probe", "results", "means", "num_classes"), "<b>"),
        (("probe", "results", "means", "rows", 0, "labels_per_class"), "<b>"),
        (("examples", "samples"), "<b>"),
        (("tags",), "<b>"),
        (("model_name",), 3),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(record, tmp_path, path, value):
    with pytest.raises(ValueError, match=rf"model_card\.json .*The field {path[0]}.* must be .*, got "):
        read(replaced(record, path, value), tmp_path)


def test_a_card_with_all_fields_is_read(record, tmp_path):
    page = read(record, tmp_path)
    assert "Labels: stars, 2 classes, 9 test texts." in page
    require_safe(ModelCard(page).text.replace("<!-- hf_bnvae wrote", ""))
