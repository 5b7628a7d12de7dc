# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The page of a model as a Gradio Space on the Hub, in one commit."""

import re
import sys
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, hf_hub_download
from huggingface_hub.constants import REPOCARD_NAME
from huggingface_hub.errors import RepositoryNotFoundError
from packaging.requirements import Requirement
from packaging.version import Version
from transformers.utils import logging

from ..reporting.model_card import is_sealed, seal
from .push import Pushed
from .target import HubError, HubTarget, client_of, explained, with_whole_name
from .wheel import package_wheel

logger = logging.get_logger(__name__)

APP_FILE = "app.py"
# What the Hub puts into a new Space.
_OF_A_NEW_SPACE = {".gitattributes", REPOCARD_NAME}
_MARK = "# hf_bnvae wrote this file."


def space_files(model: str, revision: str, title: str) -> dict[str, bytes]:
    """
    The files of a Space that shows a model.

    Args:
        model (`str`): The model's name on the Hub.
        revision (`str`): The commit of the model that the page shows.
        title (`str`): The title of the Space.

    Returns:
        `dict`: Paths and contents: the program, its requirements with the versions that are installed here, the card,
        and this package as a wheel.

    Raises:
        ImportError: without Gradio, whose version the card names.
    """
    if find_spec("gradio") is None:
        raise ImportError("A Space needs Gradio: pip install 'gradio>=6.20' (the extra `explore`)")
    wheel, content = package_wheel()
    return {
        APP_FILE: _app(model, revision).encode(),
        "requirements.txt": _requirements(wheel).encode(),
        "README.md": _card(model, title).encode(),
        wheel: content,
    }


def _app(model: str, revision: str) -> str:
    return (
        f"{_MARK} A push with --space replaces it.\n"
        "from hf_bnvae.explorer.serving import show\n\n"
        f"show({model!r}, revision={revision!r})\n"
    )


def _requirements(wheel: str) -> str:
    named = [Requirement(line) for line in distribution("hf-bnvae").requires or ()]
    names = [one.name for one in named if one.marker is None or one.marker.evaluate({"extra": ""})]
    # The Hub installs Gradio by the card's `sdk_version`. A version is without the part that names a build for one
    # kind of machine, as in 2.13.0+cpu.
    pinned = {name: Version(version(name)).public for name in names}
    return "\n".join([f"./{wheel}", *(f"{name}=={number}" for name, number in sorted(pinned.items())), ""])


def _card(model: str, title: str) -> str:
    name = re.sub(r"[^\w .-]", " ", title)
    lines = "\n".join(
        [
            "---",
            f'title: "{name}: latent space"',
            "sdk: gradio",
            f"sdk_version: {version('gradio')}",
            f'python_version: "{sys.version_info.major}.{sys.version_info.minor}"',
            f"app_file: {APP_FILE}",
            f"models:\n- {model}",
            "tags:\n- bnvae\n- text-vae",
            "---",
            "",
            f"A page that shows the latent space of [{model}](https://huggingface.co/{model}), made by `hf_bnvae`.",
            "",
            "The page answers one person at a time. Up to 20 wait, and a text may have 1,000 characters.",
        ]
    )
    return seal(lines)


def push_space(space: HubTarget, model: str, revision: str, title: str) -> Pushed:
    """
    Create or update the Space of a model, in one commit.

    Args:
        space ([`HubTarget`]): The Space. Its branch must be `main`, which is what a Space runs.
        model, revision, title (`str`): As in [`space_files`].

    Raises:
        HubError: without a token, for a name that is not valid, for a Space with a program that this package did not
            write, and if the upload fails. The Space is then unchanged.
    """
    files = space_files(model, revision, title)
    api = client_of(space)
    with explained(space, "The Space is as it was."):
        repo_id = with_whole_name(space).repo_id
        is_new = False
        try:
            info = api.space_info(repo_id)
        except RepositoryNotFoundError:
            api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=space.private)
            info, is_new = api.space_info(repo_id), True
        held = {sibling.rfilename for sibling in info.siblings}
        if not is_new:
            _require_own_space(repo_id, info.sha, held, space.token)
            if _is_written_by_hand(repo_id, info.sha, held, space.token):
                logger.warning(f"The README.md of the Space {repo_id} was changed by hand and is left as it is.")
                del files[REPOCARD_NAME]
        stale = [name for name in held - files.keys() if name.startswith("hf_bnvae-") and name.endswith(".whl")]
        operations = [
            *(CommitOperationDelete(path_in_repo=name) for name in sorted(stale)),
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()),
        ]
        commit = api.create_commit(
            repo_id, operations, commit_message=f"Show {model}", repo_type="space", parent_commit=info.sha
        )
    return Pushed(repo_id, "main", commit.oid, info.sha, f"{api.endpoint}/spaces/{repo_id}", is_new)


def _require_own_space(repo_id: str, commit: str, held: set[str], token: str | None) -> None:
    """Refuse a Space that holds anything but this page, or nothing yet."""
    is_own = APP_FILE in held and _read(repo_id, APP_FILE, commit, token).startswith(_MARK)
    if not (is_own or held <= _OF_A_NEW_SPACE):
        raise HubError(
            f"The Space {repo_id} is there already and runs another program. Choose another name, or delete that "
            "Space first."
        )


def _is_written_by_hand(repo_id: str, commit: str, held: set[str], token: str | None) -> bool:
    """Whether somebody changed the card of a Space that has this page."""
    is_ours = APP_FILE in held and REPOCARD_NAME in held
    return is_ours and not is_sealed(_read(repo_id, REPOCARD_NAME, commit, token))


def _read(repo_id: str, name: str, commit: str, token: str | None) -> str:
    path = hf_hub_download(repo_id, name, repo_type="space", revision=commit, token=token)
    return Path(path).read_text(encoding="utf-8", errors="replace")


def render_space(files: dict[str, bytes], space: str) -> str:
    """As text: the files of a Space."""
    width = max(len(f"{len(content):,}") for content in files.values())
    lines = [f"Of the page, these go to the Space {space}:", ""]
    return "\n".join([*lines, *(f"  {len(content):>{width},}  {name}" for name, content in files.items())])
