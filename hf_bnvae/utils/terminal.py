# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Texts and names on a terminal: nothing in them can steer the terminal, and nothing that it lacks ends a program."""

import logging
import re
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

# Control characters except line ends and tabs, which are layout; characters that turn the direction of writing; line
# and paragraph separators; halves of surrogate pairs, as in file names that are no UTF-8.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """A text with its control characters written as escapes: `\\x1b` for the one that starts a terminal's commands.
    Line ends and tabs stay."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def say(text: object, file: TextIO | None = None, flush: bool = False) -> None:
    """
    Print a text for people. Control characters, and characters that the terminal's encoding lacks, become escapes.

    Args:
        text (`object`): What to print.
        file (`TextIO`, *optional*): Where. The standard output if not given.
        flush (`bool`, *optional*, defaults to `False`): Whether to print at once.
    """
    file = sys.stdout if file is None else file
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(visible(text).encode(encoding, "backslashreplace").decode(encoding), file=file, flush=flush)


_formatwarning = warnings.formatwarning


class _VisibleRecord(logging.LogRecord):
    """A line of a log, as [`visible`] makes it."""

    def getMessage(self) -> str:  # noqa: N802
        return visible(super().getMessage())


def make_messages_visible() -> None:
    """Make every line that this process logs, every warning of Python, and the traceback that ends the process, safe
    for a terminal. Programs call this when they start; the library leaves the process' messages alone."""
    logging.setLogRecordFactory(_VisibleRecord)
    warnings.formatwarning = _format_warning
    sys.excepthook = _say_exception


def _format_warning(*args: Any, **kwargs: Any) -> str:
    return visible(_formatwarning(*args, **kwargs))


def _say_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    say("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), file=sys.stderr)
