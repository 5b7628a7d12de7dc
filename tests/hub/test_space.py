"""The page of a model as a Space: what is pushed, what is refused, and that the pushed files alone serve the page."""

import hashlib
import io
import os
import subprocess
import sys
import time
import urllib.request
import zipfile
from importlib.metadata import distribution, metadata, version

import pytest
from huggingface_hub import SpaceCardData
from huggingface_hub.repocard import RepoCard
from loopback_hub import ADDRESS, File
from pushing import on_hub
from remote_client import without_package

from hf_bnvae import cli
from hf_bnvae.hub.push import push_folder
from hf_bnvae.hub.space import push_space, space_files
from hf_bnvae.hub.target import HubError, HubTarget
from hf_bnvae.hub.wheel import PACKAGE, package_wheel


@pytest.fixture
def space(target) -> HubTarget:
    return HubTarget("ada/page", token=target.token)


def test_a_space_is_one_commit_with_program_requirements_card_and_wheel(folder, hub, target, space):
    pushed = push_folder(folder, target)
    shown = push_space(space, pushed.repo_id, pushed.commit, "model")
    files = on_hub(hub, "space:ada/page")
    wheel, content = package_wheel()
    assert set(files) == {"app.py", "requirements.txt", "README.md", wheel} and files[wheel] == content
    assert f"show('ada/model', revision='{pushed.commit}')" in files["app.py"].decode()
    assert hub.repositories["space:ada/page"].history() == ["initial commit", "Show ada/model"]
    assert shown.is_new and shown.url == f"{ADDRESS}/spaces/ada/page"
    lines = files["requirements.txt"].decode().split()
    assert lines[0] == f"./{wheel}" and f"transformers=={version('transformers')}" in lines
    assert all("==" in line and "+" not in line for line in lines[1:])
    card = RepoCard(files["README.md"].decode()).data
    assert isinstance(card, SpaceCardData) or card.to_dict()["sdk"] == "gradio"
    told = card.to_dict()
    assert (told["sdk_version"], told["app_file"], told["models"]) == (version("gradio"), "app.py", ["ada/model"])


def test_a_space_is_updated_and_an_older_wheel_goes(folder, hub, target, space):
    pushed = push_folder(folder, target)
    push_space(space, pushed.repo_id, pushed.commit, "model")
    repository = hub.repositories["space:ada/page"]
    files = dict(repository.find("main").files)
    files["hf_bnvae-0.0.0-py3-none-any.whl"] = files["notes.txt"] = files["app.py"]
    repository.commit("main", "by hand", files)
    again = push_space(space, pushed.repo_id, "a" * 40, "model")
    held = on_hub(hub, "space:ada/page")
    assert not again.is_new and "hf_bnvae-0.0.0-py3-none-any.whl" not in held and "notes.txt" in held
    assert "a" * 40 in held["app.py"].decode()


def test_somebody_else_s_program_is_not_replaced(folder, hub, target, space):
    push_space(space, "ada/model", "main", "model")
    repository = hub.repositories["space:ada/page"]
    files = dict(repository.find("main").files)
    files["app.py"] = files["requirements.txt"]
    repository.commit("main", "another program", files)
    with pytest.raises(HubError, match="runs another program"):
        push_space(space, "ada/model", "main", "model")
    assert repository.history()[-1] == "another program"


@pytest.mark.parametrize("program", ["main.py", "index.html"])
def test_a_program_of_another_name_is_not_replaced_either(folder, hub, target, space, program):
    push_space(space, "ada/model", "main", "model")
    repository = hub.repositories["space:ada/page"]
    files = dict(repository.find("main").files)
    files[program] = files.pop("app.py")
    repository.commit("main", "another program", files)
    with pytest.raises(HubError, match="runs another program"):
        push_space(space, "ada/model", "main", "model")
    # A Space in which nothing is yet can be taken.
    repository.commit("main", "empty", {name: files[name] for name in (".gitattributes", "README.md")})
    assert not push_space(space, "ada/model", "main", "model").is_new


def test_a_card_that_somebody_changed_stays(folder, hub, target, space, caplog):
    push_space(space, "ada/model", "main", "model")
    repository = hub.repositories["space:ada/page"]
    files = dict(repository.find("main").files)
    files["README.md"] = File(files["README.md"].content + b"My own words.\n", False)
    repository.commit("main", "by hand", files)
    push_space(space, "ada/model", "b" * 40, "model")
    held = on_hub(hub, "space:ada/page")
    assert b"My own words." in held["README.md"] and "b" * 40 in held["app.py"].decode()


def test_without_a_token_nothing_is_pushed(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(HubError, match="no token"):
        push_space(HubTarget("ada/page"), "ada/model", "main", "model")


def test_the_command_pushes_model_and_page_and_a_dry_run_lists_both(folder, hub, target, capsys):
    options = [str(folder), "--repo_id", "ada/model", "--space", "ada/page", "--token", target.token]
    cli.push([*options, "--dry_run"])
    said = capsys.readouterr().out
    assert "app.py" in said and "requirements.txt" in said and ".whl" in said and "ada/page" in said
    assert not hub.repositories
    cli.push(options)
    assert set(hub.repositories) == {"ada/model", "space:ada/page"}
    commit = hub.repositories["ada/model"].branches["main"]
    assert commit in on_hub(hub, "space:ada/page")["app.py"].decode()
    assert "a new repository. The Hub now builds it" in capsys.readouterr().out


def test_the_wheel_holds_the_package_and_installs(tmp_path):
    name, content = package_wheel()
    assert hashlib.sha256(content).digest() == hashlib.sha256(package_wheel()[1]).digest()
    file = tmp_path / name
    file.write_bytes(content)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*command, str(file)], check=True, capture_output=True)
    installed = {p.relative_to(tmp_path / "site" / "hf_bnvae") for p in (tmp_path / "site" / "hf_bnvae").rglob("*.py")}
    assert installed == {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None


def test_the_wheel_says_what_it_is_where_a_build_has_left_its_own_metadata(monkeypatch, tmp_path):
    told = metadata("hf-bnvae").as_string()
    (tmp_path / "hf_bnvae.egg-info").mkdir()
    (tmp_path / "hf_bnvae.egg-info" / "PKG-INFO").write_text(told)
    monkeypatch.syspath_prepend(tmp_path)
    assert distribution("hf-bnvae").read_text("METADATA") is None  # it is found first
    name, content = package_wheel()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = archive.read(f"{name.removesuffix('-py3-none-any.whl')}.dist-info/METADATA").decode()
    assert found == told


@pytest.mark.slow
def test_the_pushed_files_serve_the_page_of_the_pushed_model(folder, hub, target, space, tmp_path):
    """As a Space does it: the files of its repository, the wheel installed, no clone of this repository in sight."""
    pushed = push_folder(folder, target)
    push_space(space, pushed.repo_id, pushed.commit, "model")
    place = tmp_path / "space"
    place.mkdir()
    for name, content in on_hub(hub, "space:ada/page").items():
        (place / name).write_bytes(content)
    wheel = next(place.glob("*.whl"))
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    environment = without_package(tmp_path / "packages")
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache"), "GRADIO_SERVER_PORT": "7999"}
    environment["HF_HUB_CACHE"] = str(tmp_path / "cache" / "hub")
    environment["PYTHONPATH"] = os.pathsep.join([str(site), environment["PYTHONPATH"]])
    command = [sys.executable, "-S", "-P", "app.py"]
    with open(tmp_path / "log", "w") as log:
        program = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        page = ""
        for _ in range(240):
            assert program.poll() is None, (tmp_path / "log").read_text()[-3000:]
            try:
                page = urllib.request.urlopen("http://127.0.0.1:7999/config", timeout=5).read().decode()
                break
            except OSError:
                time.sleep(0.5)
        assert "reconstruct-text" in page and "ada/model" in page
    finally:
        program.kill()
        program.wait()


def test_a_title_cannot_break_the_card():
    card = space_files("ada/model", "main", 'a": b\n---\nsdk: static')["README.md"].decode()
    assert RepoCard(card).data.to_dict()["sdk"] == "gradio"
