# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Loads a saved BN-VAE with its processor, from a folder or from the Hub, and checks what it needs beside texts."""

from pathlib import Path

import torch
from transformers import CONFIG_NAME, AutoModel, AutoProcessor

from ..model.damage_bnvae import damage_named, find_model_damage, find_processor_damage
from ..model.modeling_bnvae import BNVAEModel
from ..model.saved_files_bnvae import require_checksums
from ..utils.checkpoints import describe_last_checkpoint
from ..utils.file_names import RUN_FILE


def require_condition_column(
    name: str, is_conditional: bool, is_given: bool, option: str = "--condition_column", where: str = "column"
) -> None:
    """
    Refuse texts without conditions for a conditional model, and conditions for another model.

    Args:
        name (`str`): The model's name, for messages.
        is_conditional (`bool`): Whether the model takes conditions.
        is_given (`bool`): Whether somebody has said where the conditions are.
        option (`str`, *optional*): How to say it.
        where (`str`, *optional*, defaults to `"column"`): What holds the conditions.

    Raises:
        ValueError: if the two differ.
    """
    if is_conditional and not is_given:
        raise ValueError(f"{name} was trained with conditions. Say which {where} holds them: {option}.")
    if is_given and not is_conditional:
        raise ValueError(f"{name} was trained without conditions. Leave {option} out.")


def load_saved_model(
    model_name_or_path: str,
    revision: str = "main",
    token: str | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
) -> BNVAEModel:
    """
    The model, with its processor attached, in evaluation mode.

    Args:
        model_name_or_path (`str`): Hub name or folder of model and processor.
        revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit on the Hub.
        token (`str`, *optional*): Token for private repositories of the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Allow code from the Hub.
        device (`str`, *optional*): The device of the model. By default an accelerator if there is one.

    Raises:
        ValueError: if there is no such model, if it is no BN-VAE, if files of a folder are not as they were saved, or
            if the device cannot be used.
    """
    folder = Path(model_name_or_path)
    if (folder / RUN_FILE).is_file() and not (folder / CONFIG_NAME).is_file():
        raise ValueError(
            f"The training in {folder} has not ended, so it has saved no model. Repeat its command to resume it. Its "
            f"last checkpoint: {describe_last_checkpoint(folder)}."
        )
    require_checksums(folder)
    loading = {"revision": revision, "token": token, "trust_remote_code": trust_remote_code}
    try:
        # Before the auto classes know that it is a BN-VAE, they read files themselves.
        with damage_named(find_model_damage, model_name_or_path, loading):
            model = AutoModel.from_pretrained(model_name_or_path, **loading)
        if model.config.model_type != "bnvae":
            raise ValueError(f"it is a {model.config.model_type!r}, no BNVAE")
    except (ValueError, OSError) as error:
        raise ValueError(f"{model_name_or_path} could not be loaded as a folder or from the Hub: {error}") from error
    try:
        with damage_named(find_processor_damage, model_name_or_path, loading):
            processor = AutoProcessor.from_pretrained(model_name_or_path, **loading)
        model.attach_processor(processor)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{model_name_or_path} holds a model, but its processor could not be loaded: {error} A processor is saved "
            "and pushed by itself, to the same place; a converted Optimus has one if it was given tokenizers."
        ) from error
    device = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used: {error}") from error
