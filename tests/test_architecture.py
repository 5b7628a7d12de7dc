"""Rules of the code base that no linter knows: who may import whom, and what travels with a checkpoint."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from paths import PACKAGE, ROOT

# From the top of the house to its ground: a room imports rooms further down, never up.
ROOMS = (
    *("benchmarks", "explorer", "corpus", "jobs", "interop", "training"),
    *("hub", "reporting", "evaluation", "data", "utils", "model"),
)
# Interoperability stands beside the way down.
ALLOWED_IN_INTEROP = {"interop", "evaluation", "data", "utils", "model"}
# What every room may import of the package's own folder.
SHARED_MODULES = {"_version"}

RUNTIME = sorted((PACKAGE / "model").glob("*_bnvae.py"))
# Transformers needs safetensors.
ALLOWED_IN_RUNTIME = {"torch", "transformers", "huggingface_hub", "safetensors"} | set(sys.stdlib_module_names)


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def rooms_imported_by(path: Path) -> set[str]:
    """The rooms, and modules of the package's own folder, that a file of the package imports."""
    folders = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for level, module in imports_of(path):
        if level == 0 and module.split(".")[0] == "hf_bnvae":
            names = module.split(".")[1:]
        elif level > 0:
            names = [*folders[: len(folders) - (level - 1)], *filter(None, module.split("."))]
        else:
            continue
        found.add(names[0] if names else "")
    return found


def wrong_arrows(room: str, imported: set[str]) -> set[str]:
    """Of what a room imports, what it must not."""
    if room == "interop":
        return imported - ALLOWED_IN_INTEROP - SHARED_MODULES
    below = set(ROOMS[ROOMS.index(room) :]) - ({"interop"} if room != "interop" else set())
    return imported - below - SHARED_MODULES


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below_them(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert not wrong_arrows(room, rooms_imported_by(path)), path


def test_an_arrow_that_points_up_is_found():
    assert wrong_arrows("evaluation", {"evaluation", "model", "training"}) == {"training"}
    assert wrong_arrows("interop", {"model", "training"}) == {"training"}
    assert wrong_arrows("jobs", {"training", "interop", "cli"}) == {"interop", "cli"}
    assert rooms_imported_by(PACKAGE / "interop" / "optimus" / "convert.py") == {"interop", "utils", "model"}


def test_every_folder_of_the_package_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.name)
def test_files_of_the_model_can_travel_with_a_checkpoint(path):
    siblings = {file.stem for file in RUNTIME}
    for level, module in imports_of(path):
        if level == 0:
            assert module.split(".")[0] in ALLOWED_IN_RUNTIME, module
        else:
            assert level == 1 and module in siblings, module
    # Transformers' copier reads the text, so a line of a docstring that looks like an import counts as one.
    for line in path.read_text(encoding="utf-8").splitlines():
        assert not line.strip().startswith(("from hf_bnvae", "import hf_bnvae")), line


def test_the_model_room_holds_nothing_else():
    names = {path.name for path in (PACKAGE / "model").iterdir() if path.suffix == ".py"}
    assert names == {"__init__.py", *(path.name for path in RUNTIME)}
    assert not (PACKAGE / "model" / "__init__.py").read_text()


def test_nothing_imports_the_scripts():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert not any(module.split(".")[0] == "scripts" for _, module in imports_of(path)), path


def test_no_module_has_the_name_of_a_package_it_would_hide():
    names = {path.stem for path in [*(ROOT / "scripts").glob("*.py"), *PACKAGE.rglob("*.py")]}
    assert not names & {"evaluate", "datasets", "accelerate", "transformers", "torch", "tokenizers"}


@pytest.mark.slow
def test_public_names_exist_and_training_is_imported_late():
    code = (
        "import sys, hf_bnvae; "
        "late = {'datasets', 'sentence_transformers', 'hf_bnvae.training.trainer', 'hf_bnvae.evaluation'}; "
        "assert not late & set(sys.modules); "
        "[getattr(hf_bnvae, name) for name in hf_bnvae.__all__]; "
        "assert set(hf_bnvae.__all__) <= set(dir(hf_bnvae)); "
        "from transformers import AutoConfig; assert AutoConfig.for_model('bnvae').latent_size == 32"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_public_name_is_an_attribute_error():
    import hf_bnvae

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hf_bnvae.nonsense


def test_tested_versions_are_pinned():
    constraints = (ROOT / "constraints.txt").read_text()
    pinned = dict(line.split("==") for line in constraints.splitlines() if line and not line.startswith("#"))
    assert pinned["torch"] == "2.13.0"
    assert {"transformers", "datasets", "accelerate", "evaluate", "numpy", "tokenizers"} <= pinned.keys()
