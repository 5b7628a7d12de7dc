# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Where figures come from: versions, hardware, and names that others may see."""

import os
import platform
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .._version import __version__


def without_folders(value: Any) -> Any:
    """A path of this machine as its last part alone, which is what others may see of it; any other value as it is."""
    is_local = isinstance(value, str) and os.sep in value and (os.path.isabs(value) or Path(value).exists())
    return Path(value).name if is_local else value


def hardware() -> str:
    """What figures were made on, in words."""
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
    """Whether a name can be one of the Hub, and is no folder here."""
    if not name or Path(name).exists():
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
