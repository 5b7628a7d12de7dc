# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Saved models on the Hub: which files of a folder go there, and how they do, all in one commit."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download
from huggingface_hub.constants import REPOCARD_NAME
from huggingface_hub.errors import (
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, logging

from ..model.configuration_bnvae import BNVAEConfig
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.model_card import CARD_JSON, BNVAEModelCard, is_blank, is_sealed, write_card
from ..utils.json_files import read_json
from .contents import MODEL_FILES, PROCESSOR_FILES, FolderContents, list_files, matches, require_whole_model
from .target import HubError, HubTarget, client_of, explained

logger = logging.get_logger(__name__)


# Files by which a repository of some other model is known.
_WEIGHTS_OF_ANY_KIND = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack")


# Beside the checkpoints: hard links to the files that are being uploaded in the background.
_STAGING_FOLDER = ".push"


@dataclass(frozen=True)
class Pushed:
    """
    What a push has done.

    Args:
        repo_id (`str`): The repository, with its namespace.
        branch (`str`): The branch.
        commit (`str`): The commit that it is at now.
        previous (`str`): The one that it was at before, the same if nothing had changed.
        url (`str`): The repository's page.
        is_new (`bool`, *optional*, defaults to `False`): Whether the repository was created.
    """

    repo_id: str
    branch: str
    commit: str
    previous: str
    url: str
    is_new: bool = False


# -- what is in a folder ---------------------------------------------------------------------------------------------


# -- the way to the Hub ----------------------------------------------------------------------------------------------


def prepare_repository(target: HubTarget, tag: str | None = None) -> tuple[HubTarget, bool]:
    """
    Create the repository and the branch where they are not there, and make sure that one may push there: with this
    token, and over what it holds.

    Args:
        target ([`HubTarget`]): Where to push.
        tag (`str`, *optional*): A tag that is to be given afterwards.

    Returns:
        The target with the repository's whole name, and whether it was created.

    Raises:
        HubError: for a name that is none, without a token, without the permission, without a network, for a tag that
            is there or one in place of a branch, and where the repository is public but a private one was asked for,
            or holds another model.
    """
    with explained(target):
        return _prepare(client_of(target), target, tag)


def push_folder(
    folder: str | Path, target: HubTarget, commit_message: str = "Upload model", tag: str | None = None
) -> Pushed:
    """
    Upload a saved model with its card, which is written to the folder first, in one commit, so that whoever loads it
    sees the old one or the new one. A folder that has no card yet takes over what that of the repository says, its
    figures only if the weights are the same.

    Files of a model that was there and are none of this one's, such as shards, go in the same commit; files of other
    kinds stay, README.md and pictures too where the folder has none.

    Args:
        folder (`str`): The folder of a saved model.
        target ([`HubTarget`]): Where to.
        commit_message (`str`, *optional*): The commit's.
        tag (`str`, *optional*): A tag for the commit.

    Returns:
        [`Pushed`]: If the branch holds these very files there is no new commit.

    Raises:
        ValueError: if the folder holds no whole model.
        HubError: as [`prepare_repository`], and if the upload fails. The branch is then as it was.
    """
    return _push_with_card(folder, target, commit_message, tag, kept=f"{Path(folder)} is as it was.")


def _push_with_card(
    folder: str | Path, target: HubTarget, commit_message: str, tag: str | None = None, kept: str = ""
) -> Pushed:
    require_whole_model(list_files(folder))
    unchanged = f"Nothing was uploaded. {kept}"
    with explained(target, unchanged):
        target, is_new = _prepare(client_of(target), target, tag)
        if not Path(folder, CARD_JSON).is_file():
            _fetch_card(folder, target)
    # Only now is the whole name known.
    write_card(folder, target.repo_id)
    contents = list_files(folder)
    with explained(target, unchanged):
        if _is_written_by_hand(contents, target):
            logger.warning(
                f"The README.md of {target.repo_id} was written or changed by hand and is left as it is. Delete it "
                "there to get a new one."
            )
            del contents.uploaded[REPOCARD_NAME]
    pushed = _push(contents, target, commit_message, tag, kept)
    return replace(pushed, is_new=is_new)


def push_model(
    model: BNVAEModel,
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    max_shard_size: int | str = "50GB",
    tags: str | list[str] | None = None,
    **unsupported: Any,
) -> Pushed:
    """
    What `model.push_to_hub` is where this package is installed: the model with its code, the processor that is
    attached to it and a card, in one commit, by [`push_folder`].

    Args:
        model ([`BNVAEModel`]): The model.
        repo_id (`str`): Where to.
        commit_message, private, token, max_shard_size (*optional*): As in [`~PreTrainedModel.push_to_hub`].
        revision (`str`, *optional*): A branch, main if not given.
        tags (`str` or `list[str]`, *optional*): For the card, beside those that it and the model have.
        unsupported: What else Transformers' own takes, which must not ask for anything.

    Raises:
        ValueError: for a description of the commit, or a pull request.
        HubError: as [`push_folder`].
    """
    asked = [name for name, value in unsupported.items() if value]
    if asked:
        raise ValueError(
            f"The push of a BNVAE has no {', '.join(asked)}. Push to a branch of its own (revision=...), and open a "
            "pull request from there."
        )
    target = HubTarget(repo_id, revision or "main", private, token if isinstance(token, str) else None)
    target, _ = prepare_repository(target)
    if model.processor is None:
        logger.warning(
            "The model has no processor attached, so it is pushed without one, and nobody can use it with texts "
            "unless the repository has it: model.attach_processor(processor), or processor.push_to_hub(...)."
        )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        if model.processor is not None:
            model.processor.save_pretrained(folder)
        added = [*(model.model_tags or ()), *([tags] if isinstance(tags, str) else tags or ())]
        if added:
            with explained(target, "Nothing was uploaded."):
                _fetch_card(folder, target)
            card = BNVAEModelCard.of_weights(folder)
            replace(card, tags=list(dict.fromkeys([*card.tags, *added]))).to_json_file(Path(folder, CARD_JSON))
        return push_folder(folder, target, commit_message or "Upload model")


def _push(
    contents: FolderContents, target: HubTarget, commit_message: str, tag: str | None = None, kept: str = ""
) -> Pushed:
    """Upload files to a repository that was prepared."""
    api = client_of(target)
    with explained(target, f"Nothing was uploaded. {kept}"):
        info = api.model_info(target.repo_id, revision=target.branch)
    # A processor may have been pushed by itself.
    replaced = (*MODEL_FILES, *(PROCESSOR_FILES if PROCESSOR_NAME in contents.uploaded else ()))
    held = {sibling.rfilename for sibling in info.siblings}
    stale = sorted(name for name in held - set(contents.uploaded) if matches(name, replaced))
    operations = [
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=contents.folder / name) for name in contents.uploaded),
    ]
    outcome = (
        f"{target.branch} of {target.repo_id} holds what it held before, or all of the new model if only the answer "
        f"was lost; pushing again is safe. {kept}"
    )
    with explained(target, outcome):
        commit = api.create_commit(
            target.repo_id,
            operations,
            commit_message=commit_message,
            revision=target.branch,
            # What was looked at above is what is written over.
            parent_commit=info.sha,
        )
    if tag is not None:
        with explained(target, f"The model is on {target.branch}, and only the tag {tag} is missing. {kept}"):
            api.create_tag(target.repo_id, tag=tag, revision=commit.oid)
    return Pushed(target.repo_id, target.branch, commit.oid, info.sha, f"{api.endpoint}/{target.repo_id}")


def render_pushed(pushed: Pushed) -> str:
    """What a push has done, for people."""
    where = f"{pushed.url} ({pushed.branch})"
    if pushed.is_new:
        return f"Pushed to {where}, a new repository."
    if pushed.commit == pushed.previous:
        return f"{where} holds these very files already. Nothing was uploaded."
    return f"Pushed to {where}, which was there; what it held before is its commit {pushed.previous}."


class BackgroundPushes:
    """
    The models of a training's checkpoints, pushed while it goes on, one after the other. A push that fails is said and
    costs the training nothing.

    Args:
        target ([`HubTarget`]): Where to.
        run_folder (`str`): The folder that holds the checkpoints.
        always (`bool`): Wait for a push that is under way when the next checkpoint is there, rather than leave that
            checkpoint out.
    """

    def __init__(self, target: HubTarget, run_folder: str | Path, always: bool = False) -> None:
        self.target, self.always = target, always
        self._staging = Path(run_folder) / _STAGING_FOLDER
        self._api = HfApi()
        self._current: Future | None = None

    def push(self, checkpoint: str | Path, commit_message: str) -> None:
        """Begin to push the model of a checkpoint."""
        if self._current is not None and not self._current.done() and not self.always:
            logger.warning(f"The last push is still under way, so the model of {checkpoint} is not pushed.")
            return
        self.wait()
        with _only_said(checkpoint):
            # Links, since the checkpoint may be deleted for newer ones before its upload ends.
            shutil.rmtree(self._staging, ignore_errors=True)
            for name in list_files(checkpoint).uploaded:
                (self._staging / name).parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(Path(checkpoint, name), self._staging / name)
            self._current = self._api.run_as_future(self._push, checkpoint, commit_message)

    def wait(self) -> None:
        """Return when no push is under way."""
        if self._current is not None:
            self._current.result()
            self._current = None

    def _push(self, checkpoint: str | Path, commit_message: str) -> None:
        with _only_said(checkpoint):
            _push_with_card(self._staging, self.target, commit_message)
        shutil.rmtree(self._staging, ignore_errors=True)


@contextmanager
def _only_said(checkpoint: str | Path) -> Iterator[None]:
    """Whatever it is that keeps a checkpoint from being pushed, it must not end the training."""
    try:
        yield
    except Exception as error:
        logger.warning(f"The model of {checkpoint} was not pushed, and the training goes on. {error}")


def _link_or_copy(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination)
    except OSError:  # a file system without links
        shutil.copyfile(source, destination)


def _prepare(api: HfApi, target: HubTarget, tag: str | None) -> tuple[HubTarget, bool]:
    validate_repo_id(target.repo_id)
    if not (get_token() if target.token is None else target.token):
        raise HubError(
            "There is no token to push with. Make one that may write at https://huggingface.co/settings/tokens, and "
            "log in with `hf auth login`, or give it as an argument."
        )
    if "/" not in target.repo_id:
        target = replace(target, repo_id=f"{api.whoami()['name']}/{target.repo_id}")
    is_new = False
    try:
        info = api.model_info(target.repo_id)
    except RepositoryNotFoundError:
        api.create_repo(target.repo_id, private=target.private)
        info, is_new = api.model_info(target.repo_id), True
    if target.private and not info.private:
        raise HubError(
            f"{target.repo_id} is there already and public, but a private repository was asked for. Make "
            "it private in its settings, or choose another name."
        )
    api.auth_check(target.repo_id, write=True)
    refs = api.list_repo_refs(target.repo_id)
    tags = {ref.name for ref in refs.tags}
    if target.branch in tags or re.fullmatch("[0-9a-f]{40}", target.branch):
        raise HubError(f"{target.branch} is a tag or a commit, and these stay as they are. Name a branch.")
    if tag in tags:
        raise HubError(f"{target.repo_id} has a tag {tag} already, and tags stay where they are. Choose another.")
    is_branch_new = target.branch not in {ref.name for ref in refs.branches}
    _require_no_other_model(api, target, "main" if is_branch_new else target.branch)
    if is_branch_new:
        api.create_branch(target.repo_id, branch=target.branch)
    return target, is_new


def _download(target: HubTarget, name: str) -> Path | None:
    """A file of the branch as it is now, `None` where it has none."""
    # By its commit: where the Hub cannot be reached, the client would take a branch's older file that it has.
    commit = client_of(target).model_info(target.repo_id, revision=target.branch).sha
    try:
        return Path(hf_hub_download(target.repo_id, name, revision=commit, token=target.token))
    except RemoteEntryNotFoundError:
        return None


def _fetch_card(folder: str | Path, target: HubTarget) -> None:
    """What the repository's card was rendered from, where it has one."""
    path = _download(target, CARD_JSON)
    # A file of that name that is none is no hindrance.
    with suppress(ValueError):
        if path is not None:
            BNVAEModelCard.from_json_file(path).to_json_file(Path(folder, CARD_JSON))


def _is_written_by_hand(contents: FolderContents, target: HubTarget) -> bool:
    """Whether the card on the Hub is somebody's own, and the folder's is none."""
    if not is_sealed((contents.folder / REPOCARD_NAME).read_text(encoding="utf-8")):
        return False
    path = _download(target, REPOCARD_NAME)
    if path is None:
        return False
    card = path.read_text(encoding="utf-8")
    return not is_sealed(card) and not is_blank(card)


def _require_no_other_model(api: HfApi, target: HubTarget, revision: str) -> None:
    info = api.model_info(target.repo_id, revision=revision)
    names = [sibling.rfilename for sibling in info.siblings]
    if CONFIG_NAME in names:
        path = hf_hub_download(target.repo_id, CONFIG_NAME, revision=info.sha, token=target.token)
        try:
            model_type = read_json(path).get("model_type")
        except ValueError:
            model_type = None
        held = f"a {model_type!r}" if model_type else f"a {CONFIG_NAME} of no model"
        is_other = model_type != BNVAEConfig.model_type
    else:
        held = next((name for name in names if matches(name.rpartition("/")[2], _WEIGHTS_OF_ANY_KIND)), None)
        is_other = held is not None
    if is_other:
        raise HubError(
            f"{target.repo_id} is there already and holds {held}, no BNVAE. Choose another name, "
            "or delete that repository first."
        )
