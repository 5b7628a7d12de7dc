# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Latents of a whole corpus, as steps of datatrove's pipelines. Needs the extra `corpus`."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .executors import DoneByOutput, LocalLatentExecutor, RayLatentExecutor, SlurmLatentExecutor
    from .latent_decoder import LatentDecoder
    from .latent_encoder import LatentEncoder
    from .latent_reader import LatentReader
    from .latent_writer import LatentWriter
    from .text_reader import TextReader
    from .text_writer import TextWriter

# A task that fails writes its error to a log. Without this the log would show the values of variables, a token among
# them. loguru, which writes datatrove's logs, reads it when it is imported, also in the processes that are started.
os.environ.setdefault("LOGURU_DIAGNOSE", "NO")

# Imported on first use, so that the command's help needs no datatrove.
_PLACES = {
    "DoneByOutput": "executors",
    "LatentDecoder": "latent_decoder",
    "LatentEncoder": "latent_encoder",
    "LatentReader": "latent_reader",
    "LatentWriter": "latent_writer",
    "LocalLatentExecutor": "executors",
    "RayLatentExecutor": "executors",
    "SlurmLatentExecutor": "executors",
    "TextReader": "text_reader",
    "TextWriter": "text_writer",
}

__all__ = [
    "DoneByOutput",
    "LatentDecoder",
    "LatentEncoder",
    "LatentReader",
    "LatentWriter",
    "LocalLatentExecutor",
    "RayLatentExecutor",
    "SlurmLatentExecutor",
    "TextReader",
    "TextWriter",
]


def require_datatrove() -> None:
    """Name the extra that is missing, by an `ImportError`."""
    try:
        import_module("datatrove")
    except ImportError as error:
        raise ImportError(
            "Latents of a whole corpus need datatrove: pip install 'datatrove>=0.10' orjson (the extra `corpus`)"
        ) from error


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_datatrove()
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
