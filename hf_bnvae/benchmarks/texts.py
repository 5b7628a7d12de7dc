# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The benchmark's texts: those to train on, those to choose settings by, and those to report on."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from ..data.corpora import LABEL, TEXT, load_text_set, load_texts
from ..utils.json_files import read_json, write_json
from .commands import Options

# Names of the files of texts.
TEXT_FILES = ("train", "tuning", "held_out")


@dataclass(frozen=True)
class TextSources:
    """
    Where the benchmark's texts come from. Without files these are docstrings of Python packages.

    Args:
        train_file, validation_file, text_column (`str`, *optional*): As in [`~data.corpora.load_texts`].
        label_column (`str`, *optional*): The column of the validation texts that holds labels for a probe.
    """

    train_file: str | None = None
    validation_file: str | None = None
    text_column: str | None = None
    label_column: str | None = None


def prepare_texts(folder: Path, sources: TextSources) -> tuple[Options, Options]:
    """
    Write the texts to three files: to train on, and the two halves of the validation texts.

    Args:
        folder (`Path`): The folder of the files. Files that a call before wrote are left alone.
        sources ([`TextSources`]): Where the texts come from.

    Returns:
        `tuple`: The training script's options that name the first two files, and the evaluation script's options that
        name the third file.

    Raises:
        ValueError: for a folder with other texts, and for too few texts.
    """
    files = _files(folder)
    resolved = asdict(sources)
    for name in ("train_file", "validation_file"):
        resolved[name] = resolved[name] and str(Path(resolved[name]).resolve())
    record = folder / "sources.json"
    if record.is_file():
        found = read_json(record)
        if found != resolved:
            raise ValueError(
                f"{folder.parent} holds a benchmark on other texts: {found}, not {resolved}. Choose another "
                "--output_dir."
            )
    else:
        texts = load_texts(
            train_file=sources.train_file, validation_file=sources.validation_file, text_column=sources.text_column
        )
        held_out = texts["validation"]
        if sources.label_column is not None:
            held_out = load_text_set(
                sources.validation_file, text_column=sources.text_column, label_column=sources.label_column
            )
        # Shuffled, because a file may be sorted.
        halves = held_out.shuffle(seed=0)
        half = len(halves) // 2
        parts = {
            "train": texts["train"],
            "tuning": halves.select(range(half)),
            "held_out": halves.select(range(half, len(halves))),
        }
        if half < 2:
            raise ValueError(
                f"{len(halves)} validation texts are too few to tune on one half and report on the other."
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            part.to_json(files[name], force_ascii=False)
        write_json(record, resolved)  # last, because it says that the files are whole
    training = {"train_file": files["train"], "validation_file": files["tuning"], "text_column": TEXT}
    reported = {"file": files["held_out"], "text_column": TEXT}
    if sources.label_column is not None:
        reported |= {"label_column": LABEL, "probe_train_file": files["tuning"]}
    return training, reported


def hash_texts(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that [`prepare_texts`] wrote."""
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in _files(folder).items()}


def _files(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.jsonl" for name in TEXT_FILES}
