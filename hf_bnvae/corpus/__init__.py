# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Latents of a whole corpus, as steps of datatrove's pipelines. Needs the extra `corpus`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .latent_encoder import LatentEncoder
    from .latent_writer import DoneByOutput, LatentWriter, LocalLatentExecutor
    from .text_reader import TextReader

# Imported on first use, so that the command's help needs no datatrove.
_PLACES = {
    "DoneByOutput": "latent_writer",
    "LatentEncoder": "latent_encoder",
    "LatentWriter": "latent_writer",
    "LocalLatentExecutor": "latent_writer",
    "TextReader": "text_reader",
}

__all__ = ["DoneByOutput", "LatentEncoder", "LatentWriter", "LocalLatentExecutor", "TextReader"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import_module("datatrove")
    except ImportError as error:
        raise ImportError(
            "Latents of a whole corpus need datatrove: pip install 'datatrove>=0.10' orjson (the extra `corpus`)"
        ) from error
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
