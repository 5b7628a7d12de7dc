# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Can a folder be written to?"""

import os
from pathlib import Path


def require_writable(path: str | Path, name: str, advice: str = "Choose another one.") -> None:
    """
    Refuse a folder that cannot be written to, or made. Nothing is written.

    Args:
        path (`str` or `Path`): The folder.
        name (`str`): What the message calls the folder.
        advice (`str`, *optional*): What to do instead.

    Raises:
        ValueError: if the folder, or the nearest one above it, is a file, a link to nothing, or read-only.
    """
    path = Path(path)
    above = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not above.exists():
        what = f"a link to {os.readlink(above)}, which does not exist"
    elif not above.is_dir():
        what = "a file"
    elif not os.access(above, os.W_OK):
        what = "read-only"
    else:
        return
    raise ValueError(f"{name} {path} cannot be written to: {above} is {what}. {advice}")
