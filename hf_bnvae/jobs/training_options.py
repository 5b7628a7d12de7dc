# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""From a command line or a file to the options of a training, and from these to the command that repeats a run."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.configuration_bnvae import BNVAEConfig
from ..model.scales_bnvae import SCALE_SETTINGS
from ..reporting.commands import command_line, training_program, without_folders
from ..reporting.settings import Role, has_role
from ..utils.file_names import RUN_FILE
from ..utils.json_files import read_json
from ..utils.terminal import say
from .arguments import (
    DEFAULT_OUTPUT_DIR,
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
        say(training_help(program, loop, shows_all="--help_all" in argv))
        raise SystemExit(0)
    if argv and argv[0].endswith(CONFIG_ENDINGS):
        argv = ["--config", *argv]
    options = read_training_options(argv, program)
    return build_arguments({**_defaults_of_its_time(options), **options})


def read_training_options(argv: Sequence[str], program: str) -> dict[str, Any]:
    """
    The options of a training that stand on a command line, or in the file that `--config` names: values by name.

    Args:
        argv (`Sequence[str]`): The words of the command line.
        program (`str`): What starts it, for messages.

    Raises:
        ValueError: as [`parse_arguments`].
    """
    from .training_arguments import ScriptTrainingArguments

    kinds = (ModelArguments, DataArguments, ReportArguments, ScriptTrainingArguments)
    parser = CommandParser(kinds, prog=program, add_help=False)
    parser.add_argument("--config")
    typed = parser.typed_options(argv)
    file = typed.pop("config", None)
    names = [own.name for kind in kinds for own in fields(kind) if own.init]
    return typed if file is None else {**parser.options_of_file(file, names), **typed}


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
    scratch = dict(FROM_SCRATCH_DEFAULTS)
    if not takes_default_rate(options):
        del scratch["rate"]
    evaluations = options.get("eval_strategy", scratch["eval_strategy"])
    if options.get("load_best_model_at_end") and evaluations != "no":
        scratch["save_strategy"] = evaluations  # each model that is evaluated must be there to be loaded
    pretrained = [name for name in ("encoder", "decoder") if options.get(f"{name}_name_or_path")]
    if len(pretrained) == 2:
        return PRETRAINED_PAIR_DEFAULTS
    if not pretrained:
        return scratch
    if options.get("freeze") in (None, *pretrained, "both"):
        return {**scratch, "freeze": pretrained[0]}
    # The rate from scratch would undo what the pretrained network has learnt.
    return {**scratch, "learning_rate": PRETRAINED_PAIR_DEFAULTS["learning_rate"]}


# What a training from scratch had before it had the present defaults.
_EARLIER_DEFAULTS: dict[str, Any] = {"rate": None, "auxiliary": "none", "num_train_epochs": 2.0}


def _defaults_of_its_time(options: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of an unfinished run that an older version began: the same command goes on from it. Empty for any
    other folder."""
    file = Path(options.get("output_dir", DEFAULT_OUTPUT_DIR), RUN_FILE)
    record = read_json(file) if file.is_file() else {}
    if not record or record.get("finished"):
        return {}
    recorded, present = {**_EARLIER_DEFAULTS, **record.get("settings", {})}, _defaults(options)
    return {name: value for name, value in _EARLIER_DEFAULTS.items() if name in present and recorded[name] == value}


def takes_default_rate(options: Mapping[str, Any]) -> bool:
    """Whether a default rate is for these options: for the heads that share the scale between mean and standard
    deviation, if no other scale is given."""
    head = options.get("posterior") or BNVAEConfig.posterior
    others = ("bn_tau", "bn_theta_init", "bn_gamma")
    return "tau" in SCALE_SETTINGS.get(head, ()) and all(options.get(name) is None for name in others)


# Options on which defaults depend, or whether a run can start at all: a recorded command always has them.
_START_OPTIONS = ("model_name_or_path", "encoder_name_or_path", "decoder_name_or_path", "freeze", "use_cpu")
_START_OPTIONS += ("posterior", "bn_tau", "bn_theta_init", "bn_gamma")


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
