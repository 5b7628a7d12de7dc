# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Latents of a whole corpus, as steps of datatrove's pipelines. Needs the extra `corpus`."""

try:
    import datatrove  # noqa: F401
except ImportError as error:
    raise ImportError(
        "Latents of a whole corpus need datatrove: pip install 'datatrove>=0.10' orjson (the extra `corpus`)"
    ) from error

from .latent_encoder import LatentEncoder
from .latent_writer import DoneByOutput, LatentWriter, LocalLatentExecutor
from .text_reader import TextReader

__all__ = ["DoneByOutput", "LatentEncoder", "LatentWriter", "LocalLatentExecutor", "TextReader"]
