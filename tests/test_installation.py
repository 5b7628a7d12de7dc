"""The package as it is installed: a wheel holds every room, and a clone's folder does not hide the package."""

import json
import os
import subprocess
import sys

import pytest
from paths import PACKAGE


@pytest.mark.slow
def test_a_wheel_holds_every_room(wheel_site, tmp_path):
    """Every module of the package is imported from a wheel in a process that sees no checkout."""
    files = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py")]
    # The modules for `evaluate` are data: it imports a copy of each.
    is_data = [path.parent.name == path.stem for path in files]
    modules = [".".join(path.with_suffix("").parts) for path, skip in zip(files, is_data, strict=True) if not skip]
    code = f"""
import importlib, json
modules = [importlib.import_module(name.removesuffix(".__init__")) for name in {modules!r}]
print(json.dumps([module.__file__ for module in modules]))
"""
    environment = {**os.environ, "PYTHONPATH": str(wheel_site)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    places = json.loads(run.stdout.splitlines()[-1])
    assert len(places) == len(modules) > 50
    assert all(place.startswith(str(wheel_site)) for place in places)
    assert all((wheel_site / path).is_file() for path in files)
    assert (wheel_site / "hf_bnvae" / "reporting" / "model_card_template.md").is_file()


@pytest.mark.slow
def test_an_editable_install_works_from_the_folder_that_contains_the_clone(clone, tmp_path):
    """Python looks into the folder where it starts first, and finds a folder `hf_bnvae` there that is no package."""
    # Without the last one pip would uninstall the package from the environment in which the tests run.
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--no-deps",
        "--ignore-installed",
    ]
    command += ["--no-build-isolation", "--prefix", str(tmp_path), "--editable", str(clone)]
    subprocess.run(command, check=True, capture_output=True)
    (path_file,) = tmp_path.rglob("*.pth")
    assert path_file.read_text().strip() == str(clone)
    code = f"""
import site, sys
site.addsitedir({str(path_file.parent)!r})
import hf_bnvae
assert hf_bnvae.BNVAEModel.__name__ == "BNVAEModel"
print(hf_bnvae.__file__)
"""
    # Without site-packages of this environment's own, which may have an installation of the package, too.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path)}
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=clone.parent, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(clone / "hf_bnvae" / "__init__.py")
