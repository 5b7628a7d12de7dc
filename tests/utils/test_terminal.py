"""No text steers a terminal, and no encoding of a terminal ends a program."""

import ast
import io
import logging
import sys
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import PACKAGE, SCRIPTS

from hf_bnvae.utils.terminal import make_messages_visible, say, visible

TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def hidden(text: str) -> set[str]:
    """The characters that a terminal would obey, or that do not show as they are. Written apart from the code."""
    return {
        c for c in text if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t") or c in TURNING
    }


@given(st.text(st.characters(codec=None)))
def test_nothing_in_a_visible_text_steers_a_terminal(text):
    shown = visible(text)
    assert not hidden(shown) and visible(shown) == shown
    if not hidden(text):
        assert shown == text


def test_control_characters_are_shown_as_escapes():
    assert visible("a\x1b[31m\x9b\u202e\r\n\tb\udc80") == "a\\x1b[31m\\x9b\\u202e\\r\n\tb\\udc80"
    assert visible("Zoë 🙂 שלום ‎") == "Zoë 🙂 שלום ‎"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_text_that_the_terminal_cannot_encode_is_printed_all_the_same(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    say("E[mu²] 🙂 \x1b", file=stream, flush=True)
    shown = raw.getvalue().decode(encoding)
    assert (
        shown.endswith("\\x1b\n")
        and ("🙂" in shown) == (encoding == "utf-8")
        and ("²" in shown) == (encoding != "ascii")
    )
    if encoding == "ascii":  # the control: Python's own print fails
        with pytest.raises(UnicodeEncodeError):
            print("²", file=stream)


@pytest.fixture
def program(monkeypatch):
    """The process as it is while a program runs."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    make_messages_visible()
    yield
    logging.setLogRecordFactory(factory)


def test_messages_of_a_program_steer_no_terminal(program, caplog, capsys):
    logging.getLogger("any.library").warning("no file %s", "a\x1b[2Jb")
    assert caplog.messages == ["no file a\\x1b[2Jb"]
    assert "UserWarning: a\\x1b[2Jb" in warnings.formatwarning("a\x1b[2Jb", UserWarning, "file.py", 1)
    try:
        raise ValueError("a\x1b[2Jb")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    assert "ValueError: a\\x1b[2Jb" in capsys.readouterr().err


# Prints JSON for the process that started it, and names and times of this repository.
OWN = {PACKAGE / "benchmarks" / "chunks.py", *SCRIPTS.glob("report_*.py")}


def test_everything_is_printed_in_one_way():
    """By `say`. Elsewhere a text could reach the terminal raw."""
    for path in {*PACKAGE.rglob("*.py"), *SCRIPTS.glob("*.py")} - OWN - {PACKAGE / "utils" / "terminal.py"}:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls), path
