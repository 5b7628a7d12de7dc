# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which files of a folder go to the Hub, and whether they are a whole model."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.constants import REPOCARD_NAME
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..model.configuration_bnvae import BNVAEConfig
from ..model.damage_bnvae import SavedFiles, require_generation_config
from ..model.directions_bnvae import read_directions
from ..model.processing_bnvae import BNVAEProcessor
from ..model.saved_files_bnvae import CHECKSUMS_FILE, DIRECTIONS_FILE, require_checksums
from ..reporting.evaluation_report import PICTURES
from ..reporting.model_card import CARD_JSON
from ..utils.checkpoints import last_complete_checkpoint
from ..utils.file_names import (
    AUXILIARY_FILE,
    CONTENTS_FILE,
    EXAMPLES_FILE,
    LOCK_FILE,
    PARTIAL_RUN_FILE,
    REPORT_JSON,
    REPORT_MARKDOWN,
    RESULTS_FILE,
    RUN_FILE,
)
from ..utils.json_files import read_json

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
)


# The files of a folder that are uploaded, by their exact names. No other file ever is, except those that these files
# name: shards, code and pictures.
_NAMED_MODEL_FILES = (
    CONFIG_NAME,
    "generation_config.json",
    SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    CHECKSUMS_FILE,
    DIRECTIONS_FILE,
    "training_args.json",
    RESULTS_FILE,
)
PROCESSOR_FILES = (PROCESSOR_NAME, *_TOKENIZER, *(f"{_ENCODER_TOKENIZER}/{name}" for name in _TOKENIZER))
_CARD_FILES = (REPOCARD_NAME, CARD_JSON, *PICTURES)

_SHARDS, _CODE = "model-*-of-*.safetensors", "*_bnvae.py"
# All that the files of a model can be called. A `*` matches no slash.
MODEL_FILES = (*_NAMED_MODEL_FILES, _SHARDS, _CODE)

# The pictures that a card shows: in Markdown and in HTML.
_SHOWN = re.compile(r"""\]\(<?([^()<>\s]+)|<img[^>]*\ssrc=["']?([^"'>\s]+)""")


# Why other files are not uploaded.
_CHECKPOINT = "the state of a training, to resume it from"


_PICKLE = "can run code when it is loaded (a pickle)"


_RECORD = "the training's own record, with paths of this machine"


_TEXTS = "holds texts of the corpus"


_CHAT = "a text VAE has no chat, and nothing here reads it"


_STRANGER = "no file of a saved model"


_LEFT_OUT = (
    (f"{PREFIX_CHECKPOINT_DIR}-*", _CHECKPOINT),
    (AUXILIARY_FILE, _CHECKPOINT),
    *((f"*.{ending}", _PICKLE) for ending in ("bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib")),
    *((name, _RECORD) for name in (RUN_FILE, PARTIAL_RUN_FILE, LOCK_FILE, CONTENTS_FILE, TRAINER_STATE_NAME)),
    *((name, _TEXTS) for name in (EXAMPLES_FILE, REPORT_JSON, REPORT_MARKDOWN)),
    *((name, _CHAT) for name in ("chat_template.jinja", "chat_template.json")),
    *((name, f"{RESULTS_FILE} holds its figures") for name in ("train_results.json", "eval_results.json")),
)


_MAIN_PROCESSOR_FILES = (PROCESSOR_NAME, "tokenizer_config.json", f"{_ENCODER_TOKENIZER}/tokenizer_config.json")


@dataclass(frozen=True)
class FolderContents:
    """
    The files of a folder, sorted by whether they are uploaded.

    Args:
        folder (`Path`): The folder.
        uploaded (`dict[str, int]`): Paths of the uploaded files, with slashes, and their sizes in bytes.
        left_out (`dict[str, str]`): All other paths and the reason why they are not uploaded. A folder ends with a
            slash.
        links (`dict[str, str]`): Symbolic links among all these paths, and where they lead.
        refused (`dict[str, str]`): The links among them that would be uploaded, and may not be. A push fails.
    """

    folder: Path
    uploaded: dict[str, int]
    left_out: dict[str, str]
    links: dict[str, str]
    refused: dict[str, str]


def list_files(folder: str | Path) -> FolderContents:
    """
    Sort the files of a folder by whether they are uploaded.

    A symbolic link is uploaded as the file that it leads to, if that file is one of the uploaded files. In a snapshot
    of the Hub's cache it may also be a blob of the same repository.

    Args:
        folder (`str`): A folder that `save_pretrained` wrote, a run's folder, or a checkpoint. The function reads its
            configuration, its index of shards, its card and its code, because these name other files.

    Raises:
        ValueError: if there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    known = {*_NAMED_MODEL_FILES, *PROCESSOR_FILES, *_CARD_FILES, *_shards(root), *_code(root), *_pictures(root)}
    uploaded, left_out, links, refused = {}, {}, {}, {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            target = path.resolve()
            links[name] = str(target)
            # The files behind a link to a folder are not looked at.
            if path.is_dir() or not _may_lead_to(target, root, known):
                left_out[name] = "a link to a folder" if path.is_dir() else "a link to what is not uploaded"
                if name in known or any(own.startswith(f"{name}/") for own in known):
                    refused[name] = links[name]
                continue
        if path.is_dir():
            continue
        if path.is_file() and name in known and not name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            uploaded[name] = path.stat().st_size
        else:
            left_out[name] = _reason(name)
    for name in list(left_out):
        # A folder without uploaded files and links becomes one line.
        top, inside, _ = name.partition("/")
        if inside and not any(other.startswith(f"{top}/") for other in (*uploaded, *links)):
            del left_out[name]
            left_out[f"{top}/"] = _reason(top)
    return FolderContents(root, uploaded, dict(sorted(left_out.items())), links, refused)


def _may_lead_to(target: Path, root: Path, known: set[str]) -> bool:
    """Whether a link of a folder may lead to a file: to one that is uploaded itself, or, in a snapshot of the Hub's
    cache, to a blob of its repository."""
    root = root.resolve()
    if target.is_relative_to(root):
        return target.relative_to(root).as_posix() in known
    repository = root.parent.parent
    is_snapshot = root.parent.name == "snapshots" and repository.name.startswith("models--")
    return is_snapshot and target.parent == repository / "blobs"


def _read_mapping(file: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty without one. A push names a damaged file later."""
    with suppress(OSError, ValueError):
        return read_json(file)
    return {}


def _shards(root: Path) -> set[str]:
    """The shards that the index of the weights names."""
    named = _read_mapping(root / SAFE_WEIGHTS_INDEX_NAME).get("weight_map")
    return {name for name in named.values() if matches(str(name), (_SHARDS,))} if isinstance(named, dict) else set()


def _modules(root: Path) -> set[str]:
    """The modules that the configurations of model and processor refer to, and those that these modules import."""
    auto_maps = (_read_mapping(root / name).get("auto_map") for name in (CONFIG_NAME, PROCESSOR_NAME))
    references = {reference for auto_map in auto_maps if isinstance(auto_map, dict) for reference in auto_map.values()}
    waiting = {str(reference).partition(".")[0] for reference in references}
    found: set[str] = set()
    while waiting:
        found.add(module := waiting.pop())
        file = root / f"{module}.py"
        waiting |= {*(get_relative_imports(file) if file.is_file() else ())} - found
    return found


def _code(root: Path) -> set[str]:
    return {name for module in _modules(root) if matches(name := f"{module}.py", (_CODE,))}


def _pictures(root: Path) -> set[str]:
    """The pictures that the card shows, in the folder or in one below it."""
    card = root / REPOCARD_NAME
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    named = {first or second for first, second in _SHOWN.findall(text)}
    return {str(PurePosixPath(name)) for name in named if matches(str(PurePosixPath(name)), ("*.png", "*/*.png"))}


def render_contents(contents: FolderContents) -> str:
    """As text: which files of a folder are uploaded, and why the others are not."""
    sizes = {name: f"{size:,}" for name, size in contents.uploaded.items()}
    width = max(map(len, sizes.values()), default=0)
    lines = [f"Of {contents.folder}, {sum(contents.uploaded.values()):,} bytes go to the Hub:", ""]
    targets = {name: f" -> {target}" for name, target in contents.links.items()}
    lines += [f"  {size:>{width}}  {name}{targets.get(name, '')}" for name, size in sizes.items()]
    if contents.left_out:
        longest = max(map(len, contents.left_out))
        lines += ["", "These stay:", ""]
        lines += [f"  {name:<{longest}}  {why}{targets.get(name, '')}" for name, why in contents.left_out.items()]
    missing = []
    if PROCESSOR_NAME not in contents.uploaded:
        missing.append("no processor: without it nobody can use texts; save it into the folder, or push it separately")
    if not any(name.endswith(".py") for name in contents.uploaded):
        missing.append(
            "no code, so loading the model needs this package; to add code, load and save model and processor again"
        )
    return "\n".join([*lines, *(f"\nThere is {what}." for what in missing)])


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in patterns)


def _reason(name: str) -> str:
    last = name.rpartition("/")[2]
    return next((reason for pattern, reason in _LEFT_OUT if fnmatchcase(last, pattern)), _STRANGER)


def require_whole_model(contents: FolderContents) -> None:
    """
    Refuse a folder that holds no BN-VAE, or an incomplete one.

    Args:
        contents ([`FolderContents`]): The folder. The function reads its JSON files and its weights.

    Raises:
        ValueError: if something is missing or damaged, or a link that may not be followed. The message names it.
    """
    folder, names = contents.folder, contents.uploaded
    if contents.refused:
        name, target = next(iter(contents.refused.items()))
        raise ValueError(
            f"{folder / name} is a link to {target}, and a push follows only links to files that it uploads "
            "anyway. Put a copy in its place, or delete the link."
        )
    if CONFIG_NAME not in names:
        hint = ""
        if (folder / "adapter_config.json").is_file():
            hint = (
                " It holds adapters of PEFT, which are of no use without the model under them. Merge the adapters "
                "into that model and push it: model.merge_and_unload().save_pretrained(...)."
            )
        elif (checkpoint := last_complete_checkpoint(folder)) is not None:
            hint = f" Its training has not ended. The last checkpoint is {checkpoint}."
        raise ValueError(f"{folder} holds no saved BNVAE: there is no {CONFIG_NAME}.{hint}")
    documents = {name: read_json(folder / name, "Save the model again.") for name in names if name.endswith(".json")}
    config = documents[CONFIG_NAME]
    if config.get("model_type") != BNVAEConfig.model_type:
        raise ValueError(
            f"{folder / CONFIG_NAME} is of a {config.get('model_type')!r}, no BNVAE. Push other models with their own "
            "push_to_hub."
        )
    _require_weights(folder, documents.get(SAFE_WEIGHTS_INDEX_NAME))
    require_checksums(folder)
    read_directions(folder / DIRECTIONS_FILE)
    with _as_value_error():
        require_generation_config(SavedFiles(str(folder)))
    _require(folder, [folder / f"{module}.py" for module in _modules(folder)])
    if any(name in names for name in _MAIN_PROCESSOR_FILES):
        _require(folder, [folder / name for name in _MAIN_PROCESSOR_FILES])
        if "processor_class" not in documents[PROCESSOR_NAME]:
            raise ValueError(f"{folder / PROCESSOR_NAME} is damaged: it names no processor_class. Save it again.")
        auto_maps = {name: documents[name].get("auto_map") or {} for name in _MAIN_PROCESSOR_FILES}
        for name, auto_map in auto_maps.items():
            if not isinstance(auto_map, dict):
                raise ValueError(f"{folder / name} is damaged: its auto_map is no object. Save the processor again.")
        # A tokenizer with code of its own would run it.
        if not any("AutoTokenizer" in auto_map for auto_map in auto_maps.values()):
            _require_own_processor(folder, config.get("processor_sha256"))


def _require_own_processor(folder: Path, digest: str | None) -> None:
    with _as_value_error():
        processor = BNVAEProcessor.from_pretrained(folder)
    if digest not in (None, processor.fingerprint()):
        raise ValueError(
            f"The processor in {folder} is not the model's: since the model was saved, a tokenizer.json or "
            "tokenizer_config.json has changed. Save model and processor again."
        )


@contextmanager
def _as_value_error() -> Iterator[None]:
    """What is wrong with a file is wrong with the folder that was given."""
    try:
        yield
    except OSError as error:
        raise ValueError(str(error)) from error


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
