"""Rules of the code base that no linter knows: who may import whom, and what travels with a checkpoint."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hf_bnvae"
RUNTIME = sorted(PACKAGE.glob("*_bnvae.py"))
ALLOWED_IN_RUNTIME = {"torch", "transformers", "huggingface_hub"} | set(sys.stdlib_module_names)


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.name)
def test_runtime_files_can_travel_with_a_checkpoint(path):
    siblings = {file.stem for file in RUNTIME}
    for level, module in imports_of(path):
        if level == 0:
            assert module.split(".")[0] in ALLOWED_IN_RUNTIME, module
        else:
            assert level == 1 and module in siblings, module
    # Transformers' copier reads the text, so a line of a docstring that looks like an import counts as one.
    for line in path.read_text(encoding="utf-8").splitlines():
        assert not line.strip().startswith(("from hf_bnvae", "import hf_bnvae")), line


def test_evaluation_does_not_know_training():
    training = {"trainer", "training_args", "arguments", "job", "run_directory", "report"}
    training |= {"evaluation_arguments", "evaluation_job", "evaluation_report", "saved_model"}
    for path in (PACKAGE / "evaluation").glob("*.py"):
        for level, module in imports_of(path):
            assert not (level == 2 and module.split(".")[0] in training), (path.name, module)


def test_nothing_imports_the_scripts():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert not any(module.split(".")[0] == "scripts" for _, module in imports_of(path)), path


def test_no_module_has_the_name_of_a_package_it_would_hide():
    names = {path.stem for path in [*(ROOT / "scripts").glob("*.py"), *PACKAGE.rglob("*.py")]}
    assert not names & {"evaluate", "datasets", "accelerate", "transformers", "torch", "tokenizers"}


def test_public_names_exist_and_training_is_imported_late():
    code = (
        "import sys, hf_bnvae; "
        "late = {'datasets', 'sentence_transformers', 'hf_bnvae.trainer', 'hf_bnvae.evaluation'}; "
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
