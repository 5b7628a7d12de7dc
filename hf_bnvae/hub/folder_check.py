# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""`hf-bnvae check`: are the files of a model and of its checkpoints as they were saved?"""

from dataclasses import replace
from pathlib import Path

from transformers import CONFIG_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..model.saved_files_bnvae import CHECKSUMS_FILE
from ..utils.checkpoints import checkpoint_problem
from ..utils.file_names import CONTENTS_FILE
from .contents import list_files, require_whole_model


def check_folder(folder: str | Path) -> dict[str, str | None]:
    """
    Read the files of a saved model and of the checkpoints in a folder, and compare them with what was recorded when
    they were written.

    Args:
        folder (`str` or `Path`): The folder of a model, of a run, or of a checkpoint.

    Returns:
        `dict`: For the folder and for each checkpoint in it, what is wrong with it. `None` if nothing is.

    Raises:
        ValueError: if there is no such folder, or neither a model nor a checkpoint in it.
    """
    path = Path(folder)
    contents = list_files(path)
    # A push follows few links. Here any link is fine.
    contents = replace(contents, uploaded={**contents.uploaded, **dict.fromkeys(contents.refused, 0)}, refused={})
    checkpoints = sorted(path.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda entry: (len(entry.name), entry.name))
    found: dict[str, str | None] = {}
    if (path / CONTENTS_FILE).is_file():
        found[str(path)] = checkpoint_problem(path, verify=True)
    elif (path / CONFIG_NAME).is_file():
        try:
            require_whole_model(contents)
            found[str(path)] = None
        except ValueError as error:
            found[str(path)] = str(error)
    elif not checkpoints:
        require_whole_model(contents)  # says that there is no model
    return found | {str(entry): checkpoint_problem(entry, verify=True) for entry in checkpoints}


def render_check(found: dict[str, str | None]) -> str:
    """What [`check_folder`] found, as text."""
    lines = []
    for folder, problem in found.items():
        if problem is not None:
            lines.append(f"{folder}: damaged. {problem}")
        elif any((Path(folder) / name).is_file() for name in (CHECKSUMS_FILE, CONTENTS_FILE)):
            lines.append(f"{folder}: as saved.")
        else:
            lines.append(f"{folder}: whole. It has no {CHECKSUMS_FILE}, so changed bits would not be seen.")
    return "\n".join(lines)
