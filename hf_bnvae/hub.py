# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Saved models on the Hub: which files of a folder go there, and how they do, all in one commit."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download
from huggingface_hub.constants import REPOCARD_NAME
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import TrainingArguments
from transformers.dynamic_module_utils import get_relative_imports
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, logging

from ._version import __version__
from .configuration_bnvae import BNVAEConfig
from .model_card import CARD_JSON, BNVAEModelCard, is_blank, is_sealed, write_card
from .modeling_bnvae import BNVAEModel
from .run_directory import (
    CONTENTS_FILE,
    EXAMPLES_FILE,
    LOCK_FILE,
    PARTIAL_RUN_FILE,
    RESULTS_FILE,
    RUN_FILE,
    last_complete_checkpoint,
)

logger = logging.get_logger(__name__)

_ENCODER_TOKENIZER = "encoder_tokenizer"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
# What of a folder is uploaded. Nothing else ever is. A `*` stands for no slash.
_MODEL = (
    CONFIG_NAME,
    "generation_config.json",
    SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    "model-*-of-*.safetensors",
    "*_bnvae.py",
    "training_args.json",
    RESULTS_FILE,
)
_PROCESSOR = (PROCESSOR_NAME, *_TOKENIZER, *(f"{_ENCODER_TOKENIZER}/{name}" for name in _TOKENIZER))
_CARD = (REPOCARD_NAME, CARD_JSON, "*.png", "*/*.png")
UPLOADED = (*_MODEL, *_PROCESSOR, *_CARD)

# Why other files stay where they are.
_CHECKPOINT = "the state of a training, to resume it from"
_PICKLE = "can run code when it is loaded (a pickle)"
_RECORD = "the training's own record, with paths of this machine"
_TEXTS = "holds texts of the corpus"
_STRANGER = "no file of a saved model"
_LEFT_OUT = (
    (f"{PREFIX_CHECKPOINT_DIR}-*", _CHECKPOINT),
    *((f"*.{ending}", _PICKLE) for ending in ("bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib")),
    *((name, _RECORD) for name in (RUN_FILE, PARTIAL_RUN_FILE, LOCK_FILE, CONTENTS_FILE, TRAINER_STATE_NAME)),
    *((name, _TEXTS) for name in (EXAMPLES_FILE, "report.md")),
    *((name, f"{RESULTS_FILE} holds its figures") for name in ("train_results.json", "eval_results.json")),
)

# Files by which a repository of some other model is known.
_WEIGHTS_OF_ANY_KIND = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack")

_PROCESSOR_FILES = (PROCESSOR_NAME, "tokenizer_config.json", f"{_ENCODER_TOKENIZER}/tokenizer_config.json")

# Beside the checkpoints: hard links to the files that are being uploaded in the background.
_STAGING_FOLDER = ".push"


class HubError(OSError):
    """The Hub refused something or could not be reached: what happened, what was kept and what to do."""


@dataclass(frozen=True)
class FolderContents:
    """
    The files of a folder, sorted by whether they are uploaded.

    Args:
        folder (`Path`): The folder.
        uploaded (`dict[str, int]`): Paths in it, with slashes, and sizes in bytes.
        left_out (`dict[str, str]`): The other paths, folders with a slash at the end, and why they stay.
    """

    folder: Path
    uploaded: dict[str, int]
    left_out: dict[str, str]


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


@dataclass(frozen=True)
class HubTarget:
    """
    A branch of a repository to push to.

    Args:
        repo_id (`str`): `user/name`, or the name alone for one of the token's user.
        branch (`str`, *optional*, defaults to `"main"`): A branch; one that is not there is begun where main stands.
        private (`bool`, *optional*): Create a private repository. An existing one must then be private.
        token (`str`, *optional*): A token that may write there; that of `hf auth login` if not given.
    """

    repo_id: str
    branch: str = "main"
    private: bool | None = None
    token: str | None = None

    def require_name(self) -> None:
        """Refuse what is no name of a repository.

        Raises:
            HubError: with what a name is.
        """
        with _explained(self):
            validate_repo_id(self.repo_id)

    @classmethod
    def of_training(cls, args: TrainingArguments) -> "HubTarget":
        """Where the arguments of a training say."""
        repo_id = args.hub_model_id or Path(args.output_dir).absolute().name
        return cls(repo_id, args.hub_revision or "main", args.hub_private_repo, args.hub_token)


def require_safe_strategy(strategy: HubStrategy | str) -> None:
    """
    Refuse what would put optimiser states on the Hub.

    Raises:
        ValueError: for the strategies of `TrainingArguments` that upload whole checkpoints.
    """
    if HubStrategy(strategy) in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise ValueError(
            f"hub_strategy={HubStrategy(strategy).value!r} uploads the optimiser's and the random states of "
            "checkpoints, which are pickles. Use 'every_save' (the model of each checkpoint) or 'end'. To resume "
            "elsewhere, copy the run's folder."
        )


# -- what is in a folder ---------------------------------------------------------------------------------------------


def list_files(folder: str | Path) -> FolderContents:
    """
    Sort the files of a folder by whether they are uploaded, without reading them.

    Args:
        folder (`str`): A folder that `save_pretrained` wrote, a run's folder, or a checkpoint.

    Raises:
        ValueError: if there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    uploaded, left_out = {}, {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            continue
        if path.is_file() and _matches(name, UPLOADED) and not name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            uploaded[name] = path.stat().st_size
        else:
            left_out[name] = _reason(name)
    for name in list(left_out):
        # A folder of which nothing is uploaded is one line.
        top, inside, _ = name.partition("/")
        if inside and not any(other.startswith(f"{top}/") for other in uploaded):
            del left_out[name]
            left_out[f"{top}/"] = _reason(top)
    return FolderContents(root, uploaded, dict(sorted(left_out.items())))


def render_contents(contents: FolderContents) -> str:
    """Which files of a folder are uploaded, and why the others are not, for people."""
    sizes = {name: f"{size:,}" for name, size in contents.uploaded.items()}
    width = max(map(len, sizes.values()), default=0)
    lines = [f"Of {contents.folder}, {sum(contents.uploaded.values()):,} bytes are for the Hub:", ""]
    lines += [f"  {size:>{width}}  {name}" for name, size in sizes.items()]
    if contents.left_out:
        longest = max(map(len, contents.left_out))
        lines += ["", "These stay:", ""]
        lines += [f"  {name:<{longest}}  {reason}" for name, reason in contents.left_out.items()]
    missing = []
    if PROCESSOR_NAME not in contents.uploaded:
        missing.append("no processor: save it into the folder, or push it by itself, or nobody can use texts")
    if not any(name.endswith(".py") for name in contents.uploaded):
        missing.append(
            "no code, so loading it takes this package; to add it, load model and processor and save them again"
        )
    return "\n".join([*lines, *(f"\nThere is {what}." for what in missing)])


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in patterns)


def _reason(name: str) -> str:
    last = name.rpartition("/")[2]
    return next((reason for pattern, reason in _LEFT_OUT if fnmatchcase(last, pattern)), _STRANGER)


def require_whole_model(contents: FolderContents) -> None:
    """
    Refuse a folder that holds no BN-VAE, or one that was not saved to its end.

    Args:
        contents ([`FolderContents`]): The folder. Its JSON files and the headers of its weights are read.

    Raises:
        ValueError: with what is missing or damaged.
    """
    folder, names = contents.folder, contents.uploaded
    if CONFIG_NAME not in names:
        hint = ""
        if (folder / "adapter_config.json").is_file():
            hint = (
                " It holds adapters of PEFT, which are of no use without the model under them. Push that model with "
                "the adapters merged into it: model.merge_and_unload().save_pretrained(...)."
            )
        elif (checkpoint := last_complete_checkpoint(folder)) is not None:
            hint = f" Its training has not ended; what it saved last is {checkpoint}."
        raise ValueError(f"{folder} holds no saved BNVAE: there is no {CONFIG_NAME}.{hint}")
    documents = {name: _read_json(folder / name) for name in names if name.endswith(".json")}
    config = documents[CONFIG_NAME]
    if config.get("model_type") != BNVAEConfig.model_type:
        raise ValueError(
            f"{folder} holds a {config.get('model_type')!r}, no BNVAE. Models of other kinds are pushed with their "
            "own push_to_hub."
        )
    _require_weights(folder, documents.get(SAFE_WEIGHTS_INDEX_NAME))
    auto_maps = (config.get("auto_map", {}), documents.get(PROCESSOR_NAME, {}).get("auto_map", {}))
    modules = {reference.partition(".")[0] for auto_map in auto_maps for reference in auto_map.values()}
    for name in names:
        modules.update(get_relative_imports(folder / name) if name.endswith(".py") else ())
    _require(folder, [folder / f"{module}.py" for module in modules])
    if any(name in names for name in _PROCESSOR_FILES):
        _require(folder, [folder / name for name in _PROCESSOR_FILES])


def _require_weights(folder: Path, index: dict[str, Any] | None) -> None:
    if (folder / SAFE_WEIGHTS_NAME).is_file() or index is None:
        shards = {SAFE_WEIGHTS_NAME: set()}
    else:
        shards = {name: set() for name in index["weight_map"].values()}
        for tensor, name in index["weight_map"].items():
            shards[name].add(tensor)
    _require(folder, [folder / name for name in shards])
    for name, tensors in shards.items():
        try:
            with safe_open(folder / name, framework="pt") as weights:
                missing = tensors - set(weights.keys())
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged or was cut off ({error}). Save the model again.") from error
        if missing:
            raise ValueError(f"{folder / name} lacks {min(missing)}, which its index names. Save the model again.")


def _require(folder: Path, paths: list[str | Path]) -> None:
    missing = sorted(Path(path).relative_to(folder).as_posix() for path in paths if not Path(path).is_file())
    if missing:
        raise ValueError(
            f"The model in {folder} was not saved to its end, or not all of it was copied: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Save it again."
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or was cut off ({error}). Save the model again.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(document).__name__}. Save the model again.")
    return document


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
    with _explained(target):
        return _prepare(_api(target), target, tag)


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
    with _explained(target, unchanged):
        target, is_new = _prepare(_api(target), target, tag)
        if not Path(folder, CARD_JSON).is_file():
            _fetch_card(folder, target)
    # Only now is the whole name known.
    write_card(folder, target.repo_id)
    contents = list_files(folder)
    with _explained(target, unchanged):
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
            with _explained(target, "Nothing was uploaded."):
                _fetch_card(folder, target)
            card = BNVAEModelCard.of_weights(folder)
            replace(card, tags=list(dict.fromkeys([*card.tags, *added]))).to_json_file(Path(folder, CARD_JSON))
        return push_folder(folder, target, commit_message or "Upload model")


def _push(
    contents: FolderContents, target: HubTarget, commit_message: str, tag: str | None = None, kept: str = ""
) -> Pushed:
    """Upload files to a repository that was prepared."""
    api = _api(target)
    with _explained(target, f"Nothing was uploaded. {kept}"):
        info = api.model_info(target.repo_id, revision=target.branch)
    # A processor may have been pushed by itself.
    replaced = (*_MODEL, *(_PROCESSOR if PROCESSOR_NAME in contents.uploaded else ()))
    held = {sibling.rfilename for sibling in info.siblings}
    stale = sorted(name for name in held - set(contents.uploaded) if _matches(name, replaced))
    operations = [
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=contents.folder / name) for name in contents.uploaded),
    ]
    outcome = (
        f"{target.branch} of {target.repo_id} holds what it held before, or all of the new model if only the answer "
        f"was lost; pushing again is safe. {kept}"
    )
    with _explained(target, outcome):
        commit = api.create_commit(
            target.repo_id,
            operations,
            commit_message=commit_message,
            revision=target.branch,
            # What was looked at above is what is written over.
            parent_commit=info.sha,
        )
    if tag is not None:
        with _explained(target, f"The model is on {target.branch}, and only the tag {tag} is missing. {kept}"):
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


def _api(target: HubTarget) -> HfApi:
    return HfApi(token=target.token, library_name="hf_bnvae", library_version=__version__)


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
    commit = _api(target).model_info(target.repo_id, revision=target.branch).sha
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
            model_type = _read_json(Path(path)).get("model_type")
        except ValueError:
            model_type = None
        held = f"a {model_type!r}" if model_type else f"a {CONFIG_NAME} of no model"
        is_other = model_type != BNVAEConfig.model_type
    else:
        held = next((name for name in names if _matches(name.rpartition("/")[2], _WEIGHTS_OF_ANY_KIND)), None)
        is_other = held is not None
    if is_other:
        raise HubError(
            f"{target.repo_id} is there already and holds {held}, no BNVAE. Choose another name, "
            "or delete that repository first."
        )


@contextmanager
def _explained(target: HubTarget, outcome: str = "") -> Iterator[None]:
    """What the Hub refuses and a connection that fails become a [`HubError`] that says what to do, and what came of
    it."""
    try:
        yield
        return
    except HubError as error:
        message, cause = str(error), error
    except (HTTPError, OSError, RuntimeError, HFValidationError) as error:
        # An upload that fails in a thread comes wrapped.
        cause = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(cause, (HTTPError, OSError, HFValidationError)):
            raise
        message = _explanation(cause, target)
    raise HubError(f"{message} {outcome}".strip()) from cause


def _explanation(error: BaseException, target: HubTarget) -> str:
    name = target.repo_id
    where = (
        f" {name} is also a folder here; what is wanted is a name on the Hub." if name and Path(name).exists() else ""
    )
    if isinstance(error, HFValidationError):
        return f"{name!r} is no name of a repository: user/name, of letters, digits, '-', '_' and '.'.{where}"
    if isinstance(error, OfflineModeIsEnabled):
        return "The Hub was not asked, since HF_HUB_OFFLINE is set. Unset it to push."
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status == 401:
        return f"The Hub does not accept the token (401: {_reason_given(error)}). Log in again: `hf auth login`."
    if status == 403:
        return (
            f"The token may not write to {name} (403: {_reason_given(error)}). Use one with write permission, of a "
            f"user who may write there, or another name.{where}"
        )
    if status == 412:
        return f"Somebody else changed {target.branch} of {name} meanwhile."
    if status is not None:
        return f"The Hub refused to take {name} ({status}: {_reason_given(error)})."
    what = "The connection to the Hub" if isinstance(error, HTTPError) else "The upload"
    return f"{what} failed ({type(error).__name__}: {_reason_given(error)})."


def _reason_given(error: BaseException) -> str:
    said = getattr(error, "server_message", None) or str(error)
    return next((line.strip(" .") for line in said.splitlines() if line.strip()), "no reason given")
