# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of the training itself, and the command that repeats a run."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..reporting.commands import PROGRAM, command_line, training_program
from ..reporting.provenance import without_folders
from ..reporting.settings import Role, has_role
from ..training.training_args import BNVAETrainingArguments
from .arguments import DEFAULT_OUTPUT_DIR, Arguments, build_arguments


@dataclass
class ScriptTrainingArguments(BNVAETrainingArguments):
    """`BNVAETrainingArguments` with a default folder. Without `do_train` and `do_eval`, both steps happen."""

    output_dir: str = field(default=DEFAULT_OUTPUT_DIR, metadata={"help": "Folder for the model and its results."})
    log_level_replica: str = field(
        default="error", metadata={"help": "Log level of all processes except the main one."}
    )

    def __post_init__(self) -> None:
        if self.do_predict:
            raise ValueError("do_predict does nothing here. Use do_eval for figures and examples.")
        if self.resume_from_checkpoint is not None:
            raise ValueError(
                "resume_from_checkpoint is not needed: the same command again resumes an unfinished run from its last "
                "checkpoint. To train another model further, give model_name_or_path and a new output_dir."
            )
        if self.save_only_model:
            raise ValueError(
                "save_only_model saves checkpoints from which an unfinished run cannot be resumed. To keep fewer "
                "checkpoints, use save_total_limit."
            )
        if not (self.do_train or self.do_eval):
            self.do_train = self.do_eval = True
        if self.push_to_hub and not self.do_train:
            raise ValueError(
                "push_to_hub uploads the trained model, and without do_train there is none. Push a saved model with "
                f"`{PROGRAM} push`."
            )
        # Pinned memory speeds up copies to an accelerator. Without an accelerator torch warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        super().__post_init__()


# Options on which defaults depend, or whether a run can start at all: a recorded command always has them.
_START_OPTIONS = ("model_name_or_path", "encoder_name_or_path", "decoder_name_or_path", "use_cpu")


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
