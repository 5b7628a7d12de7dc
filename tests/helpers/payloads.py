"""Files that leave a mark when somebody runs them: what a hostile checkpoint may hold."""

import pickle
from pathlib import Path
from typing import Any

import torch


class Payload:
    """An object that makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")


def write_pickle(file: Path, mark: Path) -> None:
    """A bare pickle."""
    file.write_bytes(pickle.dumps(Payload(mark)))


def write_saved_by_torch(file: Path, mark: Path) -> None:
    """A file of `torch.save`, with the payload among numbers."""
    torch.save({"step": 1, "state": Payload(mark)}, file)


def write_python(file: Path, mark: Path) -> None:
    """A module."""
    file.write_text(f"open({str(mark)!r}, 'w')\n")


WRITERS = {"pickle": write_pickle, "torch": write_saved_by_torch, "python": write_python}
