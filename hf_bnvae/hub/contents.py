# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which files of a folder go to the Hub, and whether they are a whole model."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub.constants import REPOCARD_NAME
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_imports
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..model.configuration_bnvae import BNVAEConfig
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
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)


# The files of a folder that are uploaded. No other file ever is. A `*` matches no slash.
MODEL_FILES = (
    CONFIG_NAME,
    "generation_config.json",
    SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    "model-*-of-*.safetensors",
    "*_bnvae.py",
    "training_args.json",
    RESULTS_FILE,
)


PROCESSOR_FILES = (PROCESSOR_NAME, *_TOKENIZER, *(f"{_ENCODER_TOKENIZER}/{name}" for name in _TOKENIZER))


CARD_FILES = (REPOCARD_NAME, CARD_JSON, "*.png", "*/*.png")


UPLOADED = (*MODEL_FILES, *PROCESSOR_FILES, *CARD_FILES)


# Why other files are not uploaded.
_CHECKPOINT = "the state of a training, to resume it from"


_PICKLE = "can run code when it is loaded (a pickle)"


_RECORD = "the training's own record, with paths of this machine"


_TEXTS = "holds texts of the corpus"


_STRANGER = "no file of a saved model"


_LEFT_OUT = (
    (f"{PREFIX_CHECKPOINT_DIR}-*", _CHECKPOINT),
    (AUXILIARY_FILE, _CHECKPOINT),
    *((f"*.{ending}", _PICKLE) for ending in ("bin", "pt", "pth", "pkl", "pickle", "ckpt", "joblib")),
    *((name, _RECORD) for name in (RUN_FILE, PARTIAL_RUN_FILE, LOCK_FILE, CONTENTS_FILE, TRAINER_STATE_NAME)),
    *((name, _TEXTS) for name in (EXAMPLES_FILE, REPORT_JSON, REPORT_MARKDOWN)),
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
    """

    folder: Path
    uploaded: dict[str, int]
    left_out: dict[str, str]


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
        if path.is_file() and matches(name, UPLOADED) and not name.startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            uploaded[name] = path.stat().st_size
        else:
            left_out[name] = _reason(name)
    for name in list(left_out):
        # A folder without uploaded files becomes one line.
        top, inside, _ = name.partition("/")
        if inside and not any(other.startswith(f"{top}/") for other in uploaded):
            del left_out[name]
            left_out[f"{top}/"] = _reason(top)
    return FolderContents(root, uploaded, dict(sorted(left_out.items())))


def render_contents(contents: FolderContents) -> str:
    """As text: which files of a folder are uploaded, and why the others are not."""
    sizes = {name: f"{size:,}" for name, size in contents.uploaded.items()}
    width = max(map(len, sizes.values()), default=0)
    lines = [f"Of {contents.folder}, {sum(contents.uploaded.values()):,} bytes go to the Hub:", ""]
    lines += [f"  {size:>{width}}  {name}" for name, size in sizes.items()]
    if contents.left_out:
        longest = max(map(len, contents.left_out))
        lines += ["", "These stay:", ""]
        lines += [f"  {name:<{longest}}  {reason}" for name, reason in contents.left_out.items()]
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
        contents ([`FolderContents`]): The folder. The function reads its JSON files and the headers of its weights.

    Raises:
        ValueError: if something is missing or damaged. The message names it.
    """
    folder, names = contents.folder, contents.uploaded
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
            f"{folder} holds a {config.get('model_type')!r}, no BNVAE. Push other models with their own push_to_hub."
        )
    _require_weights(folder, documents.get(SAFE_WEIGHTS_INDEX_NAME))
    auto_maps = (config.get("auto_map", {}), documents.get(PROCESSOR_NAME, {}).get("auto_map", {}))
    modules = {reference.partition(".")[0] for auto_map in auto_maps for reference in auto_map.values()}
    for name in names:
        modules.update(get_relative_imports(folder / name) if name.endswith(".py") else ())
    _require(folder, [folder / f"{module}.py" for module in modules])
    if any(name in names for name in _MAIN_PROCESSOR_FILES):
        _require(folder, [folder / name for name in _MAIN_PROCESSOR_FILES])


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
