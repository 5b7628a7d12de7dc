# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Read and write JSON objects. Errors name a damaged file, and no reader ever sees half of a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model.saved_files_bnvae import write_whole


def read_json(path: str | Path, advice: str = "") -> dict[str, Any]:
    """
    The JSON object in a file.

    Args:
        path (`str` or `Path`): The file.
        advice (`str`, *optional*): A sentence for the end of the error: what to do about a damaged file.

    Raises:
        ValueError: if the file holds no JSON object. The message gives the reason.
        OSError: if the file cannot be read.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        message = f"{path} is damaged or was cut off: it is no JSON ({error}). {advice}"
        raise ValueError(message.rstrip()) from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(record).__name__}. {advice}".rstrip())
    return record


def write_json(path: str | Path, record: Mapping[str, Any], sort_keys: bool = False, indent: int = 2) -> None:
    """
    Write a JSON object in one step ([`~saved_files_bnvae.write_whole`]).

    Args:
        path (`str` or `Path`): The file.
        record (mapping): The object to write.
        sort_keys (`bool`, *optional*, defaults to `False`): Sort the names.
        indent (`int`, *optional*, defaults to 2): Spaces per level.
    """
    write_whole(path, json.dumps(record, indent=indent, sort_keys=sort_keys, ensure_ascii=False) + "\n")
