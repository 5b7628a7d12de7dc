# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What all commands do with options: short errors that name the nearest option, help in groups, files of options."""

import argparse
import difflib
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers.hf_argparser import HfArgumentParser

from ..utils.memory import is_out_of_memory
from ..utils.terminal import make_messages_visible, say, visible

CONFIG_ENDINGS = (".json", ".yaml", ".yml")
HELP_WORDS = ("-h", "--help")
# A word that every command takes. (`Trainer` has an option `--debug` of another meaning.)
TRACEBACK, _TRACEBACK_HELP = "--traceback", "Show where in the code an error arose."
_HELP_COLUMN = 30
TOO_LITTLE_MEMORY = "There is too little memory; smaller batches need less."


@contextmanager
def user_errors(kinds: tuple[type[Exception], ...] = (ValueError, OSError)) -> Iterator[None]:
    """
    End the process with one line on stderr and exit status 2 where a user made a mistake. With `--traceback` on the
    command line the error keeps its traceback. Every program passes here when it starts, so its messages become
    [`~utils.terminal.visible`], too.

    Args:
        kinds (`tuple[type[Exception], ...]`, *optional*): The errors that a user can cause.

    Raises:
        SystemExit: with the line as its text.
    """
    make_messages_visible()
    try:
        yield
    except Exception as error:
        if TRACEBACK in sys.argv or not (isinstance(error, kinds) or is_out_of_memory(error)):
            raise
        what = f"{TOO_LITTLE_MEMORY} {error}" if is_out_of_memory(error) else error
        line = visible(" ".join(f"error: {what}".split()))
        say(line, file=sys.stderr)
        end = SystemExit(line)
        end.code = 2
        raise end from error


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, `None` if none is near."""
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return found[0] if found else None


def unknown_option(name: str, known: Iterable[str], program: str) -> ValueError:
    """The error for an option that does not exist."""
    meant = nearest(name.replace("-", "_"), known)
    advice = f"`{program} --help` lists the options." if meant is None else f"Did you mean --{meant}?"
    return ValueError(f"There is no option --{name}. {advice}")


class CommandParser(HfArgumentParser):
    """A parser that raises `ValueError` for every mistake, and reports which options were typed. It takes no shortened
    names: a training that starts with `--rat` for `--rate` may not be what was meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, allow_abbrev=False)
        if self.add_help:
            # For the help alone: `parse_args` takes the word out before.
            self.add_argument(TRACEBACK, action="store_true", default=argparse.SUPPRESS, help=_TRACEBACK_HELP)

    def error(self, message: str) -> NoReturn:
        start = "the following arguments are required: "
        if message.startswith(start):
            # argparse lists all spellings of each.
            names = [spellings.split("/")[0] for spellings in message.removeprefix(start).split(", ")]
            message = f"Missing: {', '.join(names)}. `{self.prog} --help` shows an example."
        raise ValueError(message)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        args = [word for word in (sys.argv[1:] if args is None else args) if word != TRACEBACK]
        self._require_known(args)
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise ValueError(f"Unexpected argument {unknown[0]!r}. `{self.prog} --help` shows what can stand where.")
        return parsed

    def _require_known(self, args: Sequence[str]) -> None:
        """Refuse a misspelt option first: it may be the reason why another one seems to be missing."""
        names = [word[2:] for action in self._actions for word in action.option_strings if word.startswith("--")]
        for word in args:
            if word == "--":
                return
            name = word[2:].partition("=")[0]
            if word.startswith("--") and name not in names:
                raise unknown_option(name, names, self.prog)

    def typed_options(self, argv: Sequence[str]) -> dict[str, Any]:
        """Values by the names of the options that stand in `argv`. Defaults are left out."""
        absent = object()
        self.set_defaults(**{action.dest: absent for action in self._actions})
        return {name: value for name, value in vars(self.parse_args(argv)).items() if value is not absent}

    def options_of_file(self, path: str, known: Iterable[str]) -> dict[str, Any]:
        """
        Values by name from a file, checked and converted as if they were typed.

        Args:
            path (`str`): The file, as [`read_options`] takes it.
            known (iterable of `str`): The names that may stand in it.

        Raises:
            ValueError: as [`read_options`], and for a value that an option cannot take.
        """
        try:
            return self.typed_options(_as_words(read_options(path, known)))
        except ValueError as error:
            message = str(error)
            raise ValueError(message if path in message else f"{path}: {message}") from error


def _as_words(options: Mapping[str, Any]) -> list[str]:
    """Options of a file as words of a command line. An option whose value is null is left out."""
    words = []
    for name, value in options.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        typed = [json.dumps(one) if isinstance(one, (bool, dict)) else str(one) for one in values]
        words += [f"--{name}={typed[0]}"] if len(typed) == 1 else [f"--{name}", *typed]
    return words


def new_file(text: str) -> Path:
    """
    The `type` of an option for a file to write: a file that does not exist yet, in a folder that exists.

    Raises:
        argparse.ArgumentTypeError: for another one.
    """
    path = Path(text)
    if path.exists():
        raise argparse.ArgumentTypeError(f"{path} exists already, and is not overwritten. Name another file.")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist. Make it first.")
    return path


def read_options(path: str, known: Iterable[str]) -> dict[str, Any]:
    """
    Options from a file: one mapping in JSON or YAML.

    Args:
        path (`str`): The file, ending in `.json`, `.yaml` or `.yml`.
        known (iterable of `str`): The names that may stand in it.

    Raises:
        ValueError: for a file that cannot be read, holds no mapping, or holds an unknown name.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        options = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} could not be read as a file of options: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold one mapping of options to values, got {type(options).__name__}.")
    known = set(known)
    for name in options:
        if name not in known:
            meant = nearest(str(name), known)
            advice = "" if meant is None else f" Did you mean {meant}?"
            raise ValueError(f"{path}: there is no option {name!r}.{advice}")
    return options


# -- help ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptionHelp:
    """
    What help says of one option.

    Args:
        name (`str`): Its name, without dashes.
        text (`str`): What it is.
        default (`str`): Its default in words; empty where the text says what happens without it.
        value (`str`): What stands for its value; empty for an option that stands alone.
        aliases (`Sequence[str]`): Other spellings, with dashes.
    """

    name: str
    text: str
    default: str = ""
    value: str = "VALUE"
    aliases: Sequence[str] = ()


# What every command has.
COMMON_HELP = {
    "help": OptionHelp("help", "Show this help.", value="", aliases=("-h",)),
    "traceback": OptionHelp("traceback", _TRACEBACK_HELP, value=""),
}


@dataclass(frozen=True)
class OptionGroup:
    """A part of help: a title, a sentence, and names of options."""

    title: str
    sentence: str
    names: Sequence[str]


def options_of(dataclass_type: type, defaults: Mapping[str, str] | None = None) -> dict[str, OptionHelp]:
    """
    What help says of the fields of a dataclass of options.

    Args:
        dataclass_type (`type`): The dataclass, as `HfArgumentParser` takes it.
        defaults (mapping, *optional*): Defaults in words, for fields whose own default does not say enough.
    """
    return {own.name: _option_of(own, defaults or {}) for own in fields(dataclass_type) if own.init}


def _option_of(own: Field, defaults: Mapping[str, str]) -> OptionHelp:
    default = own.default if own.default_factory is MISSING else own.default_factory()
    choices = own.metadata.get("choices")
    value = f"{{{','.join(choices)}}}" if choices else own.metadata.get("metavar", "VALUE")
    if isinstance(default, bool):
        value = "" if default is False else "{true,false}"
    text = " ".join(own.metadata.get("help", "").replace("%%", "%").split())
    aliases = own.metadata.get("aliases", [])
    return OptionHelp(own.name, text, defaults.get(own.name, show_value(default)), value, aliases)


def show_value(value: Any) -> str:
    """A default as help shows it: nothing for one that means "not given"."""
    if value is None or value is MISSING or value is False or value in ("", [], ()):
        return ""
    if value is True:
        return "true"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))


def render_help(
    usage: str,
    description: str,
    groups: Iterable[OptionGroup],
    options: Mapping[str, OptionHelp],
    example: str,
    ending: str = "",
) -> str:
    """
    The help of a command: what it does, an example, and the options in groups.

    Args:
        usage (`str`): How to type it.
        description (`str`): What it does.
        groups (iterable of [`OptionGroup`]): The options that are shown, in order.
        options (mapping): What help says of each option.
        example (`str`): Lines that a reader can type.
        ending (`str`, *optional*): The last paragraph.
    """
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    parts = [f"usage: {usage}", textwrap.fill(description, width), f"example:\n{textwrap.indent(example, '  ')}"]
    for group in groups:
        lines = [f"{group.title}:", textwrap.fill(group.sentence, width, initial_indent="  ", subsequent_indent="  ")]
        for name in group.names:
            lines += _option_lines(options[name], width)
        parts.append("\n".join(lines))
    if ending:
        parts.append(textwrap.fill(ending, width))
    return "\n\n".join(parts)


def _option_lines(option: OptionHelp, width: int) -> list[str]:
    head = "  " + ", ".join([f"--{option.name}", *option.aliases]) + f" {option.value}".rstrip()
    text = option.text + (f" (default: {option.default})" if option.default else "")
    margin = " " * _HELP_COLUMN
    body = textwrap.wrap(text, width - _HELP_COLUMN, break_on_hyphens=False)
    if len(head) > _HELP_COLUMN - 2 or not body:
        return [head, *(margin + line for line in body)]
    return [head.ljust(_HELP_COLUMN) + body[0], *(margin + line for line in body[1:])]
