# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Push saved models to the Hub, each in one commit."""

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

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.constants import REPOCARD_NAME
from huggingface_hub.errors import (
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, logging

from ..model.configuration_bnvae import BNVAEConfig
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.model_card import CARD_JSON, BNVAEModelCard, is_blank, is_sealed, write_card
from ..utils.json_files import read_json
from .contents import MODEL_FILES, PROCESSOR_FILES, FolderContents, list_files, matches, require_whole_model
from .target import HubError, HubTarget, client_of, explained, with_whole_name

logger = logging.get_logger(__name__)


# A repository with such files, and without a BN-VAE's configuration, holds another model.
_WEIGHTS_OF_ANY_KIND = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack")


# A folder next to the checkpoints, with hard links to the files that are uploaded in the background.
_STAGING_FOLDER = ".push"


@dataclass(frozen=True)
class Pushed:
    """
    The outcome of a push.

    Args:
        repo_id (`str`): The repository, with its namespace.
        branch (`str`): The branch.
        commit (`str`): The branch's present commit.
        previous (`str`): The branch's commit before the push. It equals `commit` if nothing changed.
        url (`str`): The repository's page.
        is_new (`bool`, *optional*, defaults to `False`): Whether the repository was created.
    """

    repo_id: str
    branch: str
    commit: str
    previous: str
    url: str
    is_new: bool = False


def prepare_repository(target: HubTarget, tag: str | None = None) -> tuple[HubTarget, bool]:
    """
    Create the repository and the branch if they do not exist, and make sure that a push is allowed.

    The token must be allowed to write there, and the repository must hold no other model.

    Args:
        target ([`HubTarget`]): Where to push.
        tag (`str`, *optional*): A tag that the push will create later.

    Returns:
        The target with the repository's whole name, and whether it was created.

    Raises:
        HubError: if the name is not valid; if there is no token, no permission or no network; if the tag exists
            already, or the branch is a tag; if the repository is public but must be private; if it holds another
            model.
    """
    with explained(target):
        return _prepare(client_of(target), target, tag)


def push_folder(
    folder: str | Path, target: HubTarget, commit_message: str = "Upload model", tag: str | None = None
) -> Pushed:
    """
    Upload a saved model with its card in one commit, so that a reader sees the old model or the new model.

    The function first writes the card to the folder. If the folder has no card yet, the card takes over what the
    repository's card says, but its figures only if the weights are the same.

    The commit deletes files of the earlier model that this model does not have, such as shards. Other files stay, also
    README.md and pictures if the folder has none.

    Args:
        folder (`str`): The folder of a saved model.
        target ([`HubTarget`]): Where to push.
        commit_message (`str`, *optional*): The message of the commit.
        tag (`str`, *optional*): A tag for the commit.

    Returns:
        [`Pushed`]: The outcome. There is no new commit if the branch already holds exactly these files.

    Raises:
        ValueError: if the folder holds no whole model.
        HubError: as in [`prepare_repository`], and if the upload fails. The branch is then unchanged.
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
    # The whole name is known only now.
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
    Push a model with its code, its attached processor and a card in one commit, by [`push_folder`].

    If this package is installed, `model.push_to_hub` calls this function.

    Args:
        model ([`BNVAEModel`]): The model.
        repo_id (`str`): The repository, `user/name` or the name alone.
        commit_message, private, token, max_shard_size (*optional*): As in [`~PreTrainedModel.push_to_hub`].
        revision (`str`, *optional*): A branch; `main` if not given.
        tags (`str` or `list[str]`, *optional*): Tags for the card, in addition to those of the card and the model.
        unsupported: Other arguments of Transformers' method. None of them may be set.

    Raises:
        ValueError: if an unsupported argument is set, such as a description of the commit or a pull request.
        HubError: as in [`push_folder`].
    """
    asked = [name for name, value in unsupported.items() if value]
    if asked:
        raise ValueError(
            f"The push of a BNVAE has no {', '.join(asked)}. Push to a new branch (revision=...), and open a pull "
            "request from there."
        )
    target = HubTarget(repo_id, revision or "main", private, token if isinstance(token, str) else None)
    target, _ = prepare_repository(target)
    if model.processor is None:
        logger.warning(
            "The model has no processor attached, so it is pushed without one. Nobody can use it with texts, "
            "unless the repository has a processor. Call model.attach_processor(processor) before, or "
            "processor.push_to_hub(...)."
        )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)  # with the processor
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
    """Upload files to a prepared repository."""
    api = client_of(target)
    with explained(target, f"Nothing was uploaded. {kept}"):
        info = api.model_info(target.repo_id, revision=target.branch)
    # A processor may have been pushed separately.
    replaced = (*MODEL_FILES, *(PROCESSOR_FILES if PROCESSOR_NAME in contents.uploaded else ()))
    held = {sibling.rfilename for sibling in info.siblings}
    stale = sorted(name for name in held - set(contents.uploaded) if matches(name, replaced))
    operations = [
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=contents.folder / name) for name in contents.uploaded),
    ]
    outcome = (
        f"{target.branch} of {target.repo_id} holds what it held before, or all of the new model if only the answer "
        f"was lost. It is safe to push again. {kept}"
    )
    with explained(target, outcome):
        commit = api.create_commit(
            target.repo_id,
            operations,
            commit_message=commit_message,
            revision=target.branch,
            # The commit replaces exactly the state that was read above.
            parent_commit=info.sha,
        )
    if tag is not None:
        with explained(target, f"The model is on {target.branch}, and only the tag {tag} is missing. {kept}"):
            api.create_tag(target.repo_id, tag=tag, revision=commit.oid)
    return Pushed(target.repo_id, target.branch, commit.oid, info.sha, f"{api.endpoint}/{target.repo_id}")


def render_pushed(pushed: Pushed) -> str:
    """The outcome of a push, as text."""
    where = f"{pushed.url} ({pushed.branch})"
    if pushed.is_new:
        return f"Pushed to {where}, a new repository."
    if pushed.commit == pushed.previous:
        return f"{where} holds these very files already. Nothing was uploaded."
    return f"Pushed to {where}. The repository existed before; its earlier files are in commit {pushed.previous}."


class BackgroundPushes:
    """
    Push the models of a training's checkpoints during the training, one after the other.

    If a push fails, a warning is logged and the training goes on.

    Args:
        target ([`HubTarget`]): Where to push.
        run_folder (`str`): The folder that holds the checkpoints.
        always (`bool`): What to do if a push is still under way when the next checkpoint is there: wait (`True`), or
            do not push that checkpoint (`False`).
    """

    def __init__(self, target: HubTarget, run_folder: str | Path, always: bool = False) -> None:
        self.target, self.always = target, always
        self._staging = Path(run_folder) / _STAGING_FOLDER
        self._api = HfApi()
        self._current: Future | None = None

    def push(self, checkpoint: str | Path, commit_message: str) -> None:
        """Start to push the model of a checkpoint."""
        if self._current is not None and not self._current.done() and not self.always:
            logger.warning(f"The last push is still under way, so the model of {checkpoint} is not pushed.")
            return
        self.wait()
        with _only_said(checkpoint):
            # Links, because the training may delete the checkpoint before its upload ends.
            shutil.rmtree(self._staging, ignore_errors=True)
            contents = list_files(checkpoint)
            require_whole_model(contents)
            for name in contents.uploaded:
                (self._staging / name).parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(Path(checkpoint, name).resolve(), self._staging / name)
            self._current = self._api.run_as_future(self._push, checkpoint, commit_message)

    def wait(self) -> None:
        """Wait until no push is under way."""
        if self._current is not None:
            self._current.result()
            self._current = None

    def _push(self, checkpoint: str | Path, commit_message: str) -> None:
        with _only_said(checkpoint):
            _push_with_card(self._staging, self.target, commit_message)
        shutil.rmtree(self._staging, ignore_errors=True)


@contextmanager
def _only_said(checkpoint: str | Path) -> Iterator[None]:
    """Turn any error of a push into a warning: it must not end the training."""
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
    target = with_whole_name(target)
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
        raise HubError(f"{target.branch} is a tag or a commit, and these cannot change. Name a branch.")
    if tag in tags:
        raise HubError(f"{target.repo_id} has a tag {tag} already, and a push does not move tags. Choose another tag.")
    is_branch_new = target.branch not in {ref.name for ref in refs.branches}
    _require_no_other_model(api, target, "main" if is_branch_new else target.branch)
    if is_branch_new:
        api.create_branch(target.repo_id, branch=target.branch)
    return target, is_new


def _download(target: HubTarget, name: str) -> Path | None:
    """A file of the branch's present commit, or `None` if it has no such file."""
    # By commit: for a branch name the client would use an older cached file if it cannot reach the Hub.
    commit = client_of(target).model_info(target.repo_id, revision=target.branch).sha
    try:
        return Path(hf_hub_download(target.repo_id, name, revision=commit, token=target.token))
    except RemoteEntryNotFoundError:
        return None


def _fetch_card(folder: str | Path, target: HubTarget) -> None:
    """Copy the JSON of the repository's card into the folder, if there is one."""
    path = _download(target, CARD_JSON)
    # An unrelated file with that name is ignored.
    with suppress(ValueError):
        if path is not None:
            BNVAEModelCard.from_json_file(path).to_json_file(Path(folder, CARD_JSON))


def _is_written_by_hand(contents: FolderContents, target: HubTarget) -> bool:
    """Whether somebody wrote the card on the Hub by hand, while the folder's card is rendered."""
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
