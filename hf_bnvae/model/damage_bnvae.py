# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which file of a saved model keeps it from loading, and what is wrong with the file.

The files are examined when loading has failed. So the loading of a whole model takes no longer.
"""

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RemoteEntryNotFoundError
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_utils import load_state_dict
from transformers.utils import (
    CONFIG_NAME,
    GENERATION_CONFIG_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
)

from .configuration_bnvae import BNVAEConfig

_TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER = "tokenizer.json"
# The special token that each tokenizer of a processor must have, by the tokenizer's folder.
_NEEDED_TOKENS = {"": "eos_token", "encoder_tokenizer": "pad_token"}
# What settings of generation must be, by their names.
_KINDS_OF_SETTINGS = {"*_token_id": int | list, "output_*": bool}


class DamagedFileError(OSError):
    """
    A file of a saved model is missing or damaged.

    Args:
        name (`str`): The file.
        damage (`str`): What is wrong with it: the end of a sentence that begins with the name.
    """

    def __init__(self, name: str, damage: str) -> None:
        super().__init__(
            f"{name} {damage}. Copy or download it again (force_download=True), or use an earlier checkpoint."
        )


@dataclass(frozen=True)
class SavedFiles:
    """
    The files of a saved model: in a folder, or in the cache of what was downloaded from the Hub.

    Args:
        place (`str`): The folder, or the name on the Hub.
        subfolder (`str`, *optional*): A folder inside.
        cache_dir, revision, token, local_files_only, trust_remote_code (*optional*): As in `from_pretrained`.
    """

    place: str
    subfolder: str = ""
    cache_dir: str | os.PathLike | None = None
    revision: str | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    trust_remote_code: bool | None = None

    @classmethod
    def of_loading(cls, place: Any, loading: dict[str, Any]) -> "SavedFiles":
        """The files that `from_pretrained(place, **loading)` reads."""
        known = {field.name: loading[field.name] for field in fields(cls) if loading.get(field.name) is not None}
        return cls(**known, place=os.fspath(place))

    @property
    def loading(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` that load these files without the Hub."""
        given = {"subfolder": self.subfolder, "cache_dir": self.cache_dir, "revision": self.revision}
        return {name: value for name, value in given.items() if value} | {"local_files_only": True}

    def inside(self, folder: str) -> "SavedFiles":
        """The files of a folder inside."""
        return replace(self, subfolder="/".join(filter(None, (self.subfolder, folder))))

    def name_of(self, name: str) -> str:
        """For messages: where a file lies."""
        return "/".join(filter(None, (self.place.rstrip("/"), self.subfolder, name)))

    def find(self, name: str, is_needed: bool = False) -> str | None:
        """
        The path of a file, or `None` without one.

        Raises:
            DamagedFileError: if the file is missing and `is_needed`. Where the Hub cannot be asked, nobody knows.
        """
        if os.path.isdir(self.place):
            path = os.path.join(self.place, self.subfolder, name)
            path = path if os.path.isfile(path) else None
            is_missing = path is None
        else:
            inside = "/".join(filter(None, (self.subfolder, name)))
            path = self._find_in_cache(inside)
            is_missing = is_needed and path is None and self._is_missing_on_hub(inside)
        if is_needed and is_missing:
            raise DamagedFileError(self.name_of(name), "is missing")
        return path

    def _find_in_cache(self, inside: str) -> str | None:
        try:
            path = try_to_load_from_cache(self.place, inside, self.cache_dir, self.revision)
        except HFValidationError:  # no name of a repository
            return None
        return path if isinstance(path, str) else None

    def _is_missing_on_hub(self, inside: str) -> bool:
        """Whether the repository exists, and the file in it does not."""
        if self.local_files_only:
            return False
        try:
            get_hf_file_metadata(hf_hub_url(self.place, inside, revision=self.revision), token=self.token)
        except RemoteEntryNotFoundError:
            return True
        except Exception:  # no such repository, no connection, ...: the error of loading says so
            return False
        return False

    def read_json(self, name: str, is_needed: bool = False) -> dict[str, Any] | None:
        """
        The JSON object in a file, or `None` without a file.

        Raises:
            DamagedFileError: if the file holds anything else, and as in `find`.
        """
        path = self.find(name, is_needed)
        if path is None:
            return None
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
        except RecursionError as error:
            raise DamagedFileError(self.name_of(name), "is damaged: its brackets are nested too deeply") from error
        except ValueError as error:  # of JSON, or of UTF-8
            raise DamagedFileError(
                self.name_of(name), f"is damaged or was cut off: it is no JSON ({error})"
            ) from error
        if not isinstance(record, dict):
            raise DamagedFileError(
                self.name_of(name), f"is damaged: it must hold a JSON object, got {type(record).__name__}"
            )
        return record

    def weights_files(self) -> list[str]:
        """
        The names of the files of the weights, as far as they are known.

        Raises:
            DamagedFileError: if the index of several files is damaged or missing.
        """
        if self.find(SAFE_WEIGHTS_NAME) is not None:
            return [SAFE_WEIGHTS_NAME]
        index = self.read_json(SAFE_WEIGHTS_INDEX_NAME)
        if index is None:
            folder = os.path.join(self.place, self.subfolder)
            names = os.listdir(folder) if os.path.isdir(folder) else []
            if any(name.startswith("model-") and name.endswith(".safetensors") for name in names):
                raise DamagedFileError(self.name_of(SAFE_WEIGHTS_INDEX_NAME), "is missing")
            return []
        shards, metadata = index.get("weight_map"), index.get("metadata")
        if not (isinstance(metadata, dict) and isinstance(shards, dict) and shards):
            raise DamagedFileError(
                self.name_of(SAFE_WEIGHTS_INDEX_NAME), "is damaged: it needs a metadata and a weight_map"
            )
        if not all(isinstance(name, str) for name in shards.values()):
            raise DamagedFileError(
                self.name_of(SAFE_WEIGHTS_INDEX_NAME), "is damaged: its weight_map must name a file for each tensor"
            )
        return sorted(set(shards.values()))

    def read_headers(self) -> dict[str, dict[str, torch.Tensor]]:
        """
        The tensors of each file of the weights, without their numbers.

        Raises:
            DamagedFileError: if a file is damaged or missing.
        """
        headers = {}
        for name in self.weights_files():
            path = self.find(name, is_needed=True)
            if path is not None:
                try:
                    headers[name] = load_state_dict(path, map_location="meta")
                except Exception as error:  # the error of safetensors is a plain `Exception`
                    raise DamagedFileError(
                        self.name_of(name), f"is damaged or was cut off ({_one_line(error)})"
                    ) from error
        return headers


@contextmanager
def damage_named(find_damage: Callable[[SavedFiles], None], place: Any, loading: dict[str, Any]) -> Iterator[None]:
    """
    For a `with` block that loads. If loading fails because of a file, the error names the file, what is wrong with it
    and what to do. All other errors stay as they are.

    Args:
        find_damage (callable): Which files to look at: [`find_processor_damage`], or [`find_model_damage`].
        place (`str`), loading (`dict`): The arguments of `from_pretrained`.

    Raises:
        DamagedFileError: for a missing or damaged file.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception:
        if place is not None:
            find_damage(SavedFiles.of_loading(place, loading))
        raise


def find_processor_damage(files: SavedFiles) -> None:
    """
    Look for a file that no processor can be loaded from.

    Args:
        files ([`SavedFiles`]): Where the processor was saved.

    Raises:
        DamagedFileError: for the first such file.
    """
    files.read_json(CONFIG_NAME)
    record = files.read_json(PROCESSOR_NAME) or {}
    for name, kind in (("processor_class", str), ("auto_map", dict)):
        if not isinstance(record.get(name, kind()), kind):
            raise DamagedFileError(files.name_of(PROCESSOR_NAME), f"is damaged: its {name} is {record[name]!r}")
    for folder, needed_token in _NEEDED_TOKENS.items():
        half = files.inside(folder)
        half.read_json(_TOKENIZER_CONFIG, is_needed=True)
        for name in (_TOKENIZER, "special_tokens_map.json", "added_tokens.json", "vocab.json"):
            half.read_json(name)
        _try_tokenizer(half, needed_token, has_config=not folder)


def _try_tokenizer(files: SavedFiles, needed_token: str, has_config: bool) -> None:
    options = {**files.loading, "trust_remote_code": files.trust_remote_code}
    if not has_config:
        options["config"] = PreTrainedConfig()
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.place, **options)
    except ImportError:
        return
    except Exception as error:
        name, reason = _TOKENIZER_CONFIG, error
        path = files.find(_TOKENIZER, is_needed=True)
        if path is not None:
            try:
                PreTrainedTokenizerFast(tokenizer_file=path)
            except Exception as own_error:
                name, reason = _TOKENIZER, own_error
        raise DamagedFileError(
            files.name_of(name), f"is damaged: no tokenizer can be made of it ({_one_line(reason)})"
        ) from error
    if getattr(tokenizer, needed_token) is None:
        raise DamagedFileError(files.name_of(_TOKENIZER_CONFIG), f"is damaged: it names no {needed_token}")


def find_model_damage(files: SavedFiles, model_class: type[PreTrainedModel] | None = None) -> None:
    """
    Look for a file that no model can be loaded from: configuration, generation settings, weights.

    Args:
        files ([`SavedFiles`]): Where the model was saved.
        model_class (`type`, *optional*): The class of the model, to compare its configuration with the weights.

    Raises:
        DamagedFileError: for the first such file.
    """
    record = files.read_json(CONFIG_NAME, is_needed=True)
    if record is None:
        return
    if not isinstance(record.get("model_type"), str):
        raise DamagedFileError(files.name_of(CONFIG_NAME), "is damaged: it names no model_type")
    require_generation_config(files)
    headers = files.read_headers()
    if record["model_type"] != BNVAEConfig.model_type:
        return
    try:
        config = BNVAEConfig.from_pretrained(files.place, **files.loading)
    except ImportError:
        return
    except Exception as error:
        raise DamagedFileError(
            files.name_of(CONFIG_NAME), f"is damaged: it holds what cannot be used ({_one_line(error)})"
        ) from error
    if model_class is not None and getattr(config, "quantization_config", None) is None:
        weights = _weights_of(model_class, config)
        for name, header in headers.items():
            for tensor, value in header.items():
                if tensor in weights and weights[tensor].shape != value.shape:
                    raise DamagedFileError(
                        files.name_of(name),
                        f"does not belong to the {CONFIG_NAME} beside it: {tensor} has the shape "
                        f"{tuple(value.shape)}, and by the configuration {tuple(weights[tensor].shape)}",
                    )


def require_generation_config(files: SavedFiles) -> None:
    """
    Refuse damaged generation settings. Transformers would generate without them, and say nothing.

    Raises:
        DamagedFileError: if the file of the settings is there and cannot be used.
    """
    record = files.read_json(GENERATION_CONFIG_NAME) or {}
    for name, value in record.items():
        # Transformers takes any value, and `generate` fails later.
        kind = next((kind for pattern, kind in _KINDS_OF_SETTINGS.items() if fnmatchcase(name, pattern)), object)
        if value is not None and not isinstance(value, kind):
            raise DamagedFileError(files.name_of(GENERATION_CONFIG_NAME), f"is damaged: its {name} is {value!r}")
    if record:
        try:
            GenerationConfig.from_dict(record)
        except Exception as error:
            raise DamagedFileError(
                files.name_of(GENERATION_CONFIG_NAME), f"is damaged: it holds what cannot be used ({_one_line(error)})"
            ) from error


def require_known_names(files: SavedFiles, model_class: type[PreTrainedModel], missing: Collection[str]) -> None:
    """
    Refuse weights in which a tensor of the saved model stands under a name that the model does not have. The model's
    own tensor would be initialised at random, with a warning alone.

    Args:
        files ([`SavedFiles`]): Where the model was saved.
        model_class (`type`): The class of the model.
        missing (collection of `str`): The tensors that loading did not find.

    Raises:
        DamagedFileError: for the file of such a tensor.
    """
    headers = files.read_headers()
    if not headers or files.find(CONFIG_NAME) is None:
        return
    config = BNVAEConfig.from_pretrained(files.place, **files.loading)
    if getattr(config, "quantization_config", None) is not None:
        return
    # By the saved configuration: a user may load the weights into another model on purpose.
    weights = _weights_of(model_class, config)
    saved = {tensor for header in headers.values() for tensor in header}
    lost = sorted((missing & weights.keys()) - saved)
    for name, header in headers.items():
        for strange in sorted(header.keys() - weights.keys()):
            meant = next((tensor for tensor in lost if weights[tensor].shape == header[strange].shape), None)
            if meant is not None:
                raise DamagedFileError(
                    files.name_of(name), f"is damaged: it holds {strange!r}, which the model lacks, and not {meant!r}"
                )


def _weights_of(model_class: type[PreTrainedModel], config: BNVAEConfig) -> dict[str, torch.Tensor]:
    """The tensors of a model by its configuration, without their numbers."""
    with torch.device("meta"):
        return model_class(config).state_dict()


def _one_line(error: Exception) -> str:
    """The beginning of an error of another library."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
