# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Where figures come from: versions, hardware, texts, and the names that others may see."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .._version import __version__
from ..data.text_format import name_files

# The default corpus.
DOCSTRINGS = "first sentences of the docstrings of Python and of the packages that hf_bnvae needs"


def hardware() -> str:
    """The hardware of this process, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} {'thread' if threads == 1 else 'threads'} a process"


def library_versions() -> dict[str, str]:
    """The versions that results depend on, as `..._version`."""
    return {
        "hf_bnvae_version": __version__,
        "transformers_version": transformers.__version__,
        "torch_version": torch.__version__,
        "accelerate_version": accelerate.__version__,
        "datasets_version": datasets.__version__,
        "python_version": platform.python_version(),
    }


def is_hub_name(name: str | None) -> bool:
    """Whether a name is a valid name on the Hub, and no folder of this machine."""
    if not name or Path(name).exists():
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@dataclass(frozen=True)
class TextSource:
    """
    Where texts come from.

    Args:
        name (`str`): The source in words, for its owner: the name may hold folders of this machine.
        public_name (`str`): The source in words, for everybody: without folders.
        is_public (`bool`): Whether everybody can read the texts already, so that a model card may show some of them.
            A file or a folder of one's own is not public.
    """

    name: str
    public_name: str
    is_public: bool

    @classmethod
    def of_file(cls, file: str | Sequence[str]) -> "TextSource":
        """A file of texts, or several."""
        return cls(name_files(file), name_files(file, folders=False), is_public=False)

    @classmethod
    def of_dataset(cls, dataset: str, config: str | None, split: str) -> "TextSource":
        """A split of a data set: of the Hub, or in a folder."""
        name = f"{dataset}, {config or 'default'}, {split}"
        is_public = is_hub_name(dataset)
        return cls(name, name if is_public else Path(dataset).name, is_public)

    @classmethod
    def held_out_by_run(cls, settings: Mapping[str, Any]) -> "TextSource":
        """
        The texts that a training run evaluates with.

        Args:
            settings (mapping): The settings in the run's `run.json`.
        """
        corpus = settings.get("dataset_name") or settings.get("train_file") or "docstrings of Python packages"
        file = settings.get("validation_file")
        return cls(
            name_files(file) if file else f"held out by the training run, of {name_files(corpus)}",
            name_files(file, folders=False) if file else f"held-out texts of {training_texts(settings)}",
            not has_own_texts(settings),
        )


def training_texts(settings: Mapping[str, Any]) -> str:
    """The texts that a run trained on, in words without folders, from the settings in its `run.json`."""
    file, dataset = settings.get("train_file"), settings.get("dataset_name")
    return name_files(file or dataset, folders=False) if has_own_texts(settings) else dataset or DOCSTRINGS


def has_own_texts(settings: Mapping[str, Any]) -> bool:
    """Whether a run's texts are somebody's own: files, or a data set in a folder."""
    dataset = settings.get("dataset_name")
    return any(settings.get(name) for name in ("train_file", "validation_file")) or not (
        dataset is None or is_hub_name(dataset)
    )
