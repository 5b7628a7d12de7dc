"""The common tests of Transformers, as the package `transformers_tests`. They come from its source distribution.

`TRANSFORMERS_TESTS` names the folder `tests` of an unpacked source distribution. Without this variable the tests that
ask for the package are skipped. The page of `tests/transformers_common` says how to get the folder, and which of the
common tests are skipped.
"""

import importlib
import os
import re
import sys
import unittest
from pathlib import Path
from types import ModuleType

import pytest
import transformers
from paths import ROOT

VARIABLE = "TRANSFORMERS_TESTS"
PACKAGE = "transformers_tests"

# Modules that the common tests import and the source distribution lacks, each with the name that is imported. The
# tests that use these names are of other models.
ABSENT = {
    f"{PACKAGE}.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    f"{PACKAGE}.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    f"{PACKAGE}.utils.test_configuration_utils": {"config_common_kwargs": {}},
    "fetch_hub_objects_for_ci": {"url_to_local_path": str},
}
PAGE = (ROOT / "tests" / "transformers_common" / "README.md").read_text(encoding="utf-8")
# The tests that we skip, with their reasons: the rows of the page's table that name a single test.
SKIPPED = dict(re.findall(r"^\| `(test_\w+)` \| (.+) \|$", PAGE, re.MULTILINE))
# All tests in the page's tables, also those that skip themselves.
ON_THE_PAGE = {name for row in re.findall(r"^\|.+", PAGE, re.MULTILINE) for name in re.findall(r"`(test_\w+)`", row)}


def import_common_tests(name: str) -> ModuleType:
    """
    A module of the common tests. Skips the test module that calls this function if nobody has set the variable.

    Args:
        name (`str`): The module's name, such as `test_modeling_common`.

    Raises:
        FileNotFoundError: if the variable names a folder without this module.
        RuntimeError: if the tests are those of another version than the installed one.
    """
    if not os.environ.get(VARIABLE):
        pytest.skip(f"set {VARIABLE} as tests/transformers_common/README.md says", allow_module_level=True)
    folder = Path(os.environ[VARIABLE]).resolve()
    if not (folder / f"{name}.py").is_file():
        raise FileNotFoundError(f"{VARIABLE}={folder} has no {name}.py.")
    if f"\nVersion: {transformers.__version__}\n" not in (folder.parent / "PKG-INFO").read_text(encoding="utf-8"):
        raise RuntimeError(f"{VARIABLE}={folder} has not the tests of Transformers {transformers.__version__}.")
    # Read when Transformers' test helpers are imported. Our own mark decides what is slow.
    os.environ.setdefault("RUN_SLOW", "1")
    if PACKAGE not in sys.modules:
        # A module of the tests reads this file, which holds nothing and is absent, too.
        (folder / "__init__.py").touch()
        package = ModuleType(PACKAGE)
        package.__path__ = [str(folder)]
        sys.modules[PACKAGE] = package
        for absent, names in ABSENT.items():
            sys.modules[absent] = ModuleType(absent)
            vars(sys.modules[absent]).update(names)
    return importlib.import_module(f"{PACKAGE}.{name}")


def skipping(tests: type) -> type:
    """A decorator that skips the tests that `SKIPPED` names, with its reasons."""
    for name in SKIPPED.keys() & set(dir(tests)):
        setattr(tests, name, unittest.skip(SKIPPED[name])(getattr(tests, name)))
    return tests


def stands_on_the_page(test: str) -> bool:
    """Whether the page names a test as skipped. `expand` adds a number to the name of each of its cases."""
    return test in ON_THE_PAGE or re.sub(r"_\d+(_\w+)?$", "", test) in ON_THE_PAGE
