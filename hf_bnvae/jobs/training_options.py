# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""From a command line or a file to the options of a training, and from these to the command that repeats a run."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ..reporting.commands import command_line, training_program, without_folders
from ..reporting.settings import Role, has_role
from .arguments import (
    FROM_SCRATCH_DEFAULTS,
    PRETRAINED_PAIR_DEFAULTS,
    DataArguments,
    ModelArguments,
    ReportArguments,
)
from .option_parser import CONFIG_ENDINGS, HELP_WORDS, CommandParser
from .training_help import training_help

if TYPE_CHECKING:
    from .training_arguments import ScriptTrainingArguments

Arguments = tuple[ModelArguments, DataArguments, ReportArguments, "ScriptTrainingArguments"]


def parse_arguments(argv: Sequence[str] | None = None, loop: str = "Trainer") -> Arguments:
    """
    The options of a training: from the command line, from a file (`--config FILE`, or the file as first argument), or
    from both. The command line wins.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments. The arguments of the process if not given.
        loop (`str`, *optional*, defaults to `"Trainer"`): The loop whose help is shown, as in [`training_program`].

    Raises:
        ValueError: for an unknown option, a value that an option cannot take, or a file that is no mapping of options.
        SystemExit: after the help was printed.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    program = " ".join(training_program(loop))
    if {*HELP_WORDS, "--help_all"} & set(argv):
        print(training_help(program, loop, shows_all="--help_all" in argv))
        raise SystemExit(0)
    from .training_arguments import ScriptTrainingArguments

    if argv and argv[0].endswith(CONFIG_ENDINGS):
        argv = ["--config", *argv]
    kinds = (ModelArguments, DataArguments, ReportArguments, ScriptTrainingArguments)
    parser = CommandParser(kinds, prog=program, add_help=False)
    parser.add_argument("--config")
    typed = parser.typed_options(argv)
    file = typed.pop("config", None)
    names = [own.name for kind in kinds for own in fields(kind) if own.init]
    return build_arguments(typed if file is None else {**parser.options_of_file(file, names), **typed})


def build_arguments(options: Mapping[str, Any]) -> Arguments:
    """
    The four objects of options from values by name, with the defaults that fit the model.

    Args:
        options (mapping): The options that differ from their defaults.

    Raises:
        ValueError: for values that contradict each other.
    """
    from .training_arguments import ScriptTrainingArguments

    values = {**_defaults(options), **options}
    kinds = (ModelArguments, DataArguments, ReportArguments, ScriptTrainingArguments)
    return tuple(kind(**{own.name: values[own.name] for own in fields(kind) if own.name in values}) for kind in kinds)


def _defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that differ from `Trainer`'s. A trained BNVAE gets the gentle ones of `Trainer`."""
    if options.get("model_name_or_path"):
        return {}
    pretrained = [name for name in ("encoder", "decoder") if options.get(f"{name}_name_or_path")]
    if len(pretrained) == 2:
        return PRETRAINED_PAIR_DEFAULTS
    if not pretrained:
        return FROM_SCRATCH_DEFAULTS
    if options.get("freeze") in (None, *pretrained, "both"):
        return {**FROM_SCRATCH_DEFAULTS, "freeze": pretrained[0]}
    # The rate from scratch would undo what the pretrained network has learnt.
    return {**FROM_SCRATCH_DEFAULTS, "learning_rate": PRETRAINED_PAIR_DEFAULTS["learning_rate"]}


# Options on which defaults depend, or whether a run can start at all: a recorded command always has them.
_START_OPTIONS = ("model_name_or_path", "encoder_name_or_path", "decoder_name_or_path", "freeze", "use_cpu")


def training_command(arguments: Arguments, loop: str) -> str:
    """
    The command that repeats a run: the options that differ from their defaults, with local files by their names alone.

    Args:
        arguments (`tuple`): As [`parse_arguments`] gives them.
        loop (`str`): As in [`~commands.training_program`].
    """
    given = _option_values(arguments)
    start = {name: given[name] for name in _START_OPTIONS if given[name]}
    defaults = _option_values(build_arguments(start))
    options = {
        name: str(value).lower() if isinstance(value, bool) else without_folders(value)
        for name, value in given.items()
        if not has_role(name, Role.UNRECORDED) and (value != defaults[name] or name in start)
    }
    # With one of the two steps, the command names the step that happens. With both, it names none.
    steps = [name for name in ("do_train", "do_eval") if given[name]]
    options = {name: value for name, value in options.items() if name not in ("do_train", "do_eval")}
    if len(steps) == 1:
        options[steps[0]] = "true"
    return command_line(training_program(loop, arguments[-1].world_size), options)


def _option_values(arguments: Arguments) -> dict[str, Any]:
    *others, training = arguments
    # Mappings and lists are left out: a command line has no simple form for them.
    own = {name: value for name, value in training.to_dict().items() if not isinstance(value, (dict, list))}
    return {name: value for values in (*map(asdict, others), own) for name, value in values.items()}
