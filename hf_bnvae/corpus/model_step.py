# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What steps with a model share: which model it is, and that a process loads it once."""

import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import multiprocess
import torch
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from transformers import AutoConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.hub import extract_commit_hash

from .._version import __version__
from ..data.corpora import condition_of_value
from ..jobs.saved_model import load_saved_model, require_condition_column
from ..model.configuration_bnvae import BNVAEConfig
from ..model.modeling_bnvae import BNVAEModel
from ..model.saved_files_bnvae import sha256_of
from ..reporting.commands import without_folders
from ..utils.json_files import read_json

# What a file says about the coordinates of its latents, and the two things that it can say.
COORDINATES, WHITENED, OWN_COORDINATES = "coordinates", "whitened by the fitted prior", "the model's own"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ModelStep(PipelineStep):
    """
    A step of a pipeline with a model. A process loads the model when the first document of a task comes, and keeps it
    for further tasks. On a machine with several GPUs each process takes one of them in turn.

    A private repository needs a token in `HF_TOKEN` or a login, because datatrove writes the arguments of a step into
    its logs.

    Args:
        model_name_or_path (`str`): Hub name or folder of model and processor.
        revision (`str`): Branch, tag or commit on the Hub.
        trust_remote_code (`bool`): Allow code from the Hub.
        dtype (`str`, *optional*): Precision, `"float32"` or `"bfloat16"`; by default as the model was saved.
        device (`str`, *optional*): The device. By default a GPU if there is one.

    Raises:
        ValueError: for another precision. When the model is loaded: if that fails, if it is no BN-VAE, if its running
            statistics were never estimated, and if its files are others than when a writer described them.
    """

    # The part of the model whose precision is chosen; "" for all of it.
    part = ""

    def __init__(
        self,
        model_name_or_path: str,
        revision: str,
        trust_remote_code: bool,
        dtype: str | None,
        device: str | None,
    ) -> None:
        super().__init__()
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        self.loading = {
            "model_name_or_path": str(model_name_or_path),
            "revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        self.dtype, self.device = dtype, device
        # What `description` found, which the tasks must find, too.
        self._described: str | None = None
        # The entry of the metadata that holds a document's condition.
        self.condition_column: str | None = None

    @property
    def config(self) -> BNVAEConfig:
        """The model's configuration."""
        return load_config(**self.loading)

    @property
    def description(self) -> dict[str, str]:
        """What made the output, for the metadata of files: the model's name without its folder, revision, SHA-256 of
        the weights, the version of this package. A branch or tag of the Hub becomes the commit that it now names, here
        and for the tasks."""
        self.loading["revision"], self._described = _pinned(self.loading)
        return {
            "model": without_folders(self.loading["model_name_or_path"]),
            "revision": self.loading["revision"],
            "weights_sha256": self._described,
            "version": __version__,
        }

    def require_condition_column(self) -> None:
        """
        Refuse a conditional model without conditions, and conditions for another model.

        Raises:
            ValueError: for these.
        """
        require_condition_column(
            self.loading["model_name_or_path"],
            self.config.conditional,
            self.condition_column is not None,
            option="condition_column",
            where="column, or which entry of the metadata,",
        )

    def condition_of(self, document: Document) -> str | None:
        """
        The condition of a document; `None` if it is missing.

        Raises:
            ValueError: for one that is no text and cannot become one.
        """
        try:
            return condition_of_value(document.metadata.get(self.condition_column))
        except ValueError as error:
            raise ValueError(f"The condition of document {document.id!r} cannot be used. {error}") from error

    def load(self, rank: int = 0) -> BNVAEModel:
        """The model, as a task with this rank uses it."""
        if self._described is not None and _pinned(self.loading)[1] != self._described:
            raise ValueError(
                f"The weights of {self.loading['model_name_or_path']} have changed since the pipeline was built. "
                "Build it anew, with another folder for its files."
            )
        return _loaded(self.loading, self.part, self.dtype, self.device, rank)


# The model of this process, by what it was loaded from and how.
_LOADED: dict[tuple[Any, ...], BNVAEModel] = {}


def _loaded(loading: Mapping[str, Any], part: str, dtype: str | None, device: str | None, rank: int) -> BNVAEModel:
    """The model, loaded once a process: again only if the files of its folder have changed."""
    asked = (*loading.values(), part, dtype, device)
    key = (*asked, _state_of(loading["model_name_or_path"]))
    if key not in _LOADED:
        for old in [old for old in _LOADED if old[:-1] == asked]:
            del _LOADED[old]
        model = load_saved_model(**loading, device=device or _device_of(rank))
        model.posterior.require_estimated()
        if dtype is not None:
            model.get_submodule(part).to(DTYPES[dtype])
        _LOADED[key] = model
    return _LOADED[key]


def load_config(model_name_or_path: str, **loading: Any) -> BNVAEConfig:
    """
    The configuration of a saved model.

    Raises:
        ValueError: if there is none, or if it is of no BN-VAE.
    """
    try:
        config = AutoConfig.from_pretrained(model_name_or_path, **loading)
    except (OSError, ValueError) as error:
        raise ValueError(f"{model_name_or_path} could not be loaded as a folder or from the Hub: {error}") from error
    if config.model_type != BNVAEConfig.model_type:
        raise ValueError(f"{model_name_or_path} is a {config.model_type!r}, no BNVAE.")
    return config


def _pinned(loading: Mapping[str, Any]) -> tuple[str, str]:
    """The commit of a model on the Hub (of a folder: the revision as it is given), and the SHA-256 of its weights."""
    place, revision = loading["model_name_or_path"], loading["revision"]

    def find(name: str, is_needed: bool) -> str | None:
        return cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=is_needed)

    try:
        index = find(SAFE_WEIGHTS_INDEX_NAME, False)
        names = [SAFE_WEIGHTS_NAME]
        if index is not None:
            names = sorted(set(read_json(index)["weight_map"].values()))
        files = [find(name, True) for name in names]
    except OSError as error:
        raise ValueError(f"{place} could not be loaded as a folder or from the Hub: {error}") from error
    return extract_commit_hash(files[0], None) or revision, " ".join(map(sha256_of, files))


def _device_of(rank: int) -> str | None:
    """One of this machine's GPUs, `None` without any. Processes of a pool take the GPUs in turn. Outside of a pool the
    task's rank chooses."""
    # datatrove's pools are of the package `multiprocess`, which has its own count of processes.
    places = [package.current_process()._identity for package in (multiprocessing, multiprocess)]
    place, count = next(filter(None, places), (rank,)), torch.cuda.device_count()
    return f"cuda:{place[0] % count}" if count else None


def _state_of(place: str) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files of a model and its processor in a folder."""
    patterns = ("config.json", "processor_config.json", "*.safetensors*", "tokenizer*", "encoder_tokenizer/*")
    found = sorted(path for pattern in patterns for path in Path(place).glob(pattern))
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found)
