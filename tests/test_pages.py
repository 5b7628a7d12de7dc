"""The Markdown pages of the repository, against the files that they name and the code that they show."""

import re
from pathlib import Path

import pytest
import tiny
from pages import BLOCK, code_blocks, run_blocks, save_pair, shown_output
from paths import PACKAGE, ROOT

from hf_bnvae import fit_prior, recalibrate_posterior

ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")
FOLDERS = ("hf_bnvae", "model_cards", "scripts", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
# The other pages are model cards, which the code renders, and their template.
WRITTEN = [
    path for path in PAGES if path.name != "model_card_template.md" and path.parent.parent != ROOT / "model_cards"
]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
SCRIPT = re.compile(r"scripts/[\w/]+\.(?:py|yaml)")


def files_of(room: Path) -> set[str]:
    """The files of a room that its page names: modules and templates."""
    found = [path for path in room.rglob("*") if path.suffix in (".py", ".md")]
    return {path.relative_to(room).as_posix() for path in found if path.name not in ("__init__.py", "README.md")}


def named_files(page: str) -> set[str]:
    """The files that the first column of a page's table names."""
    return set(re.findall(r"^\| `([\w/]+\.(?:py|md))` \|", page, re.MULTILINE))


def broken_links(path: Path, page: str) -> list[str]:
    """The links of a page to files of the repository that are not there."""
    targets = [one or other for one, other in LINK.findall(BLOCK.sub("", page))]
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    return [target for target in local if target and not (path.parent / target).exists()]


# Blocks that need only the package; the root's README has a test of its own.
WITH_PYTHON = [
    path for path in PAGES if PACKAGE in path.parents and code_blocks(path.read_text(encoding="utf-8"), "python")
]
RECIPE = ROOT / "model_cards" / "recipe_yelp.md"


@pytest.fixture
def networks(processor, texts, encoder_config, decoder_config, tmp_path, monkeypatch) -> None:
    """A working folder with small networks under the names that the pages load."""
    monkeypatch.chdir(tmp_path)
    model = tiny.build_model(encoder_config, decoder_config, latent_size=32)
    batch = dict(processor(texts[:32], return_tensors="pt"))
    recalibrate_posterior(model, [batch])
    fit_prior(model, [batch])
    conditional = tiny.build_model(encoder_config, decoder_config, latent_size=32, conditional=True)
    recalibrate_posterior(conditional, [dict(processor(texts[:32], condition="Why ?", return_tensors="pt"))])
    conditional.attach_processor(processor).save_pretrained("runs/answers")
    for folder in ("runs/bnvae", "runs/yelp", "user/name"):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    save_pair(processor, encoder_config, decoder_config)
    processor.tokenizer.save_pretrained("openai-community/gpt2")


@pytest.mark.parametrize("room", ROOMS)
def test_the_page_of_a_room_names_its_files_and_no_others(room):
    page = (PACKAGE / room / "README.md").read_text(encoding="utf-8")
    assert named_files(page) == files_of(PACKAGE / room)


def test_a_file_that_a_page_leaves_out_is_found(tmp_path):
    for name in ("known.py", "new.py", "__init__.py"):
        (tmp_path / name).touch()
    page = "| `known.py` | `other.py` is named in the second column |\n| `gone.py` | it was deleted |\n"
    assert named_files(page) == {"known.py", "gone.py"}
    assert files_of(tmp_path) == {"known.py", "new.py"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_resolve(path):
    if path.name != "model_card_template.md":
        assert not broken_links(path, path.read_text(encoding="utf-8"))


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "there.md").touch()
    page = "[one](there.md#part) [two](gone.md) ![three](gone.png) [four](https://example.org)\n```\n[five](code.md)\n```\n"
    assert broken_links(tmp_path / "page.md", page) == ["gone.md", "gone.png"]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_scripts_that_pages_name_are_there(path):
    named = set(SCRIPT.findall(path.read_text(encoding="utf-8")))
    assert not {name for name in named if not (ROOT / name).is_file()}


def test_the_page_of_the_scripts_names_each_of_them():
    page = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    folder = ROOT / "scripts"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".py", ".yaml")}
    assert set(re.findall(r"^\| `([\w/]+\.(?:py|yaml))` \|", page, re.MULTILINE)) == files


@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda path: path.parent.name)
def test_python_on_the_page_of_a_room_runs_and_prints_what_it_shows(path, networks):
    assert not run_blocks(code_blocks(path.read_text(encoding="utf-8"), "python"), path)


def test_python_of_the_recipe_runs(networks):
    assert not run_blocks(code_blocks(RECIPE.read_text(encoding="utf-8"), "python"), RECIPE)


def test_an_output_that_differs_from_its_comment_is_found():
    block = 'print("a")  # a\nprint("b",\n      1)  # c\nprint("anything")\n'
    assert shown_output(block) == ["a", "c", None]
    assert run_blocks([block], Path("page.md")) == [("c", "b 1")]
