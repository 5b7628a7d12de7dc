# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Files of JSON lines of which some cannot be read: a copy without these lines, for the loader of `datasets`."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from datasets import config

from ..model.saved_files_bnvae import PARTIAL
from ..utils.json_files import read_json, write_json

# How many lines that cannot be read are described.
SHOWN_LINES = 3


@dataclass(frozen=True)
class GoodLines:
    """
    A copy of a file without the lines that cannot be read, in the cache of `datasets`.

    Args:
        file (`str`): The copy.
        num_lines (`int`): How many lines the file has, blank ones aside.
        num_bad (`int`): How many of them cannot be read.
        shown (`list[str]`): The first of these, each with its number and the reason.
    """

    file: str
    num_lines: int
    num_bad: int
    shown: list[str]


def good_lines(path: str, opened: Callable[[], TextIO], is_made: bool) -> GoodLines | None:
    """
    The copy of a file, from an earlier call if there was one.

    Args:
        path (`str`): The file.
        opened (`Callable`): Opens the file to read text.
        is_made (`bool`): Whether to make the copy. If not, and if no earlier call has made it, there is none.

    Returns:
        [`GoodLines`], or `None`.
    """
    state = Path(path).stat()
    name = hashlib.sha256(f"{Path(path).resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()
    copy = Path(config.HF_DATASETS_CACHE, "hf_bnvae_lines", f"{name}.jsonl")
    record = copy.with_suffix(".json")
    if not (is_made or record.is_file()):
        return None
    if not record.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_name(f"{copy.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")  # several processes may be here
        num_lines, faults = 0, []
        try:
            with opened() as file, open(partial, "w", encoding="utf-8") as good:
                for number, line in enumerate(file, 1):
                    fault = fault_of(line)
                    if fault is None:
                        good.write(line.rstrip("\n") + "\n")
                    elif line.strip():
                        faults.append(f"line {number} of {Path(path).name}: {fault}")
                    num_lines += bool(line.strip())
            os.replace(partial, copy)
        finally:
            partial.unlink(missing_ok=True)
        # Last, because it says that the copy is whole.
        write_json(record, {"num_lines": num_lines, "num_bad": len(faults), "shown": faults[:SHOWN_LINES]})
    return GoodLines(str(copy), **read_json(record))


def fault_of(line: str) -> str | None:
    """Why a line is no row; `None` if it is one."""
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            return f"no JSON object, but {line.strip()[:60]}"
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    except (ValueError, RecursionError) as error:
        return str(error)
    return None
