# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The help of a training: its options in groups, with their defaults in words. `Trainer` is loaded only to show all
of its own options."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..model.configuration_bnvae import BNVAEConfig
from ..model.scales_bnvae import DEFAULT_DELTA, DEFAULT_GAMMA, DEFAULT_RATE
from ..reporting.settings import Role, has_role
from ..training.objective_arguments import ObjectiveArguments
from .arguments import (
    DEFAULT_OUTPUT_DIR,
    FROM_SCRATCH_DEFAULTS,
    PRETRAINED_PAIR_DEFAULTS,
    DataArguments,
    ModelArguments,
    ReportArguments,
)
from .option_parser import COMMON_HELP, OptionGroup, OptionHelp, options_of, render_help, show_value

# The options of `Trainer` that `--help` shows, each with `Trainer`'s own default.
COMMON_TRAINER_OPTIONS: dict[str, tuple[Any, str]] = {
    "output_dir": (DEFAULT_OUTPUT_DIR, "Folder for the model and its results."),
    "num_train_epochs": (3.0, "Passes over the training texts."),
    "max_steps": (-1, "Steps of the optimizer. A positive number replaces --num_train_epochs."),
    "learning_rate": (5e-5, "Learning rate of the two networks."),
    "warmup_steps": (0, "Steps in which the learning rates rise. Below 1: a share of all steps."),
    "gradient_accumulation_steps": (1, "Parts of a batch that are held in memory one by one."),
    "weight_decay": (0.0, "Weight decay. Scales and shifts of the posterior head take none."),
    "bf16": (False, "Train in bfloat16."),
    "use_cpu": (False, "Train on the CPU. Several processes without an accelerator need it."),
    "seed": (42, "Seed of the training and of its evaluation."),
    "do_train": (False, "Only train. Without --do_train and --do_eval, both happen."),
    "do_eval": (False, "Only evaluate."),
    "per_device_eval_batch_size": (8, "Sentences per device in an evaluation batch."),
    "logging_steps": (500, "Steps between two log lines."),
    "eval_strategy": ("no", "When to evaluate during the training: no, steps or epoch."),
    "save_strategy": ("steps", "When to save a checkpoint: no, steps, epoch or best."),
    "save_steps": (500, "Steps between two checkpoints. Below 1: a share of all steps."),
    "save_total_limit": (None, "Checkpoints to keep."),
    "report_to": ("none", "Services that get the log: tensorboard, wandb, ..."),
    "push_to_hub": (False, "Push the model to the Hub."),
    "hub_model_id": (None, "Repository on the Hub. Without it: the name of --output_dir."),
    "hub_private_repo": (None, "Create a private repository: true or false."),
}

_LATENT_SPACE = ("posterior", "latent_size", "rate", "bn_tau", "bn_theta_init", "bn_gamma")
_LATENT_SPACE += ("pooling", "normalize_features", "latent_injection", "encoder_dropout")
_OBJECTIVE = ("beta", "beta_schedule", "beta_zero_ratio", "beta_increase_ratio", "beta_num_cycles")
_OBJECTIVE += ("free_bits", "free_bits_mode", "regularizer", "auxiliary", "auxiliary_weight", "auxiliary_steps")
_TRAINING = ("output_dir", "num_train_epochs", "max_steps", "learning_rate", "latent_learning_rate", "warmup_steps")
_TRAINING += ("per_device_train_batch_size", "gradient_accumulation_steps", "chunk_size", "checkpoint_chunks")
_TRAINING += ("freeze", "freeze_steps", "prior", "weight_decay", "bf16", "use_cpu", "seed")
_REPORT = ("do_train", "do_eval", "per_device_eval_batch_size", "num_statistics_batches", "logging_steps")
_REPORT += ("eval_strategy", "save_strategy", "save_steps", "save_total_limit", "report_to")
_HUB = ("push_to_hub", "hub_model_id", "hub_private_repo", "license", "language")


def _names(kind: type, *others: Sequence[str]) -> list[str]:
    """The fields of a dataclass that stand in no other group."""
    return [own.name for own in fields(kind) if not any(own.name in names for names in others)]


TRAINING_GROUPS = (
    OptionGroup(
        "networks",
        "Without an encoder, a decoder or a model, the command trains a small model from scratch.",
        _names(ModelArguments, _LATENT_SPACE),
    ),
    OptionGroup(
        "latent space",
        "The shape of the latent space, and the lower bound of its KL. A trained BNVAE keeps its own.",
        _LATENT_SPACE,
    ),
    OptionGroup(
        "texts",
        "Without texts, the command trains on docstrings of Python and of installed packages.",
        _names(DataArguments),
    ),
    OptionGroup(
        "objective",
        "The weight of the KL, and a second task for the latent. Usually nothing here needs a change.",
        _OBJECTIVE,
    ),
    OptionGroup("training", "How long, how fast, and in which batches to train.", _TRAINING),
    OptionGroup(
        "evaluation and report",
        "What the command evaluates, logs and saves. The report stands in --output_dir.",
        (*_REPORT, *_names(ReportArguments, _HUB)),
    ),
    OptionGroup("hub", "Where to push the model, and two fields of its model card.", _HUB),
)

_CONFIG = OptionHelp("config", "A JSON or YAML file of options. Options on the command line win.", value="FILE")
_OTHER_HELP = {**COMMON_HELP, "help_all": OptionHelp("help_all", "Show all options of Trainer, too.", value="")}


def training_help(program: str, loop: str = "Trainer", shows_all: bool = False) -> str:
    """
    The help of a training.

    Args:
        program (`str`): What starts it.
        loop (`str`, *optional*, defaults to `"Trainer"`): The loop, which decides which options there are.
        shows_all (`bool`, *optional*, defaults to `False`): Whether to show all options of `Trainer`. This loads it.
    """
    options = {**_own_options(), **_OTHER_HELP, "config": _CONFIG}
    groups = [*TRAINING_GROUPS, OptionGroup("other", "Files of options, and help.", ("config", *_OTHER_HELP))]
    if shows_all:
        from .training_arguments import ScriptTrainingArguments

        trainer = options_of(ScriptTrainingArguments)
        hidden = Role.REFUSED if loop == "Trainer" else Role.REFUSED | Role.TRAINER_ONLY
        names = [name for name in trainer if name not in options and not _has_any(name, hidden)]
        groups.append(OptionGroup("Trainer", "All other options of Trainer, in its own words.", names))
        options = {**trainer, **options}
    return render_help(
        f"{program} [--config FILE] [--OPTION VALUE ...]",
        "Train a BN-VAE and evaluate it. The same command resumes an unfinished run. Defaults depend on the start: "
        'from scratch, from a pretrained pair of networks ("pair"), or from a trained BNVAE ("--model").',
        groups,
        options,
        f"{program} --train_file reviews.csv --text_column review --rate 8 --output_dir runs/reviews",
        "" if shows_all else f"`{program} --help_all` shows all options of Trainer, too.",
    )


def _has_any(name: str, roles: Role) -> bool:
    return any(has_role(name, role) for role in roles)


def _own_options() -> dict[str, OptionHelp]:
    trained = {own.name: own.default for own in fields(ObjectiveArguments)}
    trained |= {name: default for name, (default, _) in COMMON_TRAINER_OPTIONS.items()}
    defaults = {name: default_in_words(name, default) for name, default in trained.items()}
    options = {
        **options_of(ModelArguments, config_defaults()),
        **options_of(DataArguments),
        **options_of(ReportArguments),
        **options_of(ObjectiveArguments, defaults),
    }
    for name, (default, text) in COMMON_TRAINER_OPTIONS.items():
        options[name] = OptionHelp(name, text, defaults[name], "" if default is False else "VALUE")
    return options


def default_in_words(name: str, default: Any) -> str:
    """
    The default of a training option: one value, or a value for each start where they differ.

    Args:
        name (`str`): The option.
        default (`Any`): `Trainer`'s default, which a trained BNVAE gets.
    """
    scratch, pair = (defaults.get(name, default) for defaults in (FROM_SCRATCH_DEFAULTS, PRETRAINED_PAIR_DEFAULTS))
    if name == "latent_learning_rate" and default is None:
        return "learning_rate"
    if scratch == pair == default:
        return show_value(default)
    shown = [show_value(value) or "all" for value in (scratch, pair, default)]
    if pair == default:
        return f"from scratch {shown[0]}, otherwise {shown[1]}"
    return f"from scratch {shown[0]}, pair {shown[1]}, --model {shown[2]}"


def config_defaults() -> dict[str, str]:
    """The defaults of a new latent space, by the names of the options: those of [`BNVAEConfig`]."""
    names = ("latent_size", "posterior", "pooling", "latent_injection", "encoder_dropout")
    defaults = {name: str(getattr(BNVAEConfig, name)) for name in names}
    gammas = ", ".join(f"{head} {gamma:g}" for head, gamma in DEFAULT_GAMMA.items())
    scratch = FROM_SCRATCH_DEFAULTS["rate"]
    rate = f"bn, bn_rms and ln {DEFAULT_RATE:g}, from scratch {scratch:g}; delta {DEFAULT_DELTA:g} a dimension"
    return {**defaults, "rate": rate, "bn_gamma": gammas, "bn_theta_init": "0"}
