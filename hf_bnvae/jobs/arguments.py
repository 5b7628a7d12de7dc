# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of a training: networks, texts, report, their defaults, and their help. Nothing here loads `Trainer`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_args

from ..model.configuration_bnvae import BNVAEConfig, PosteriorName
from ..model.scales_bnvae import DEFAULT_DELTA, DEFAULT_GAMMA, DEFAULT_RATE
from ..reporting.card_fields import check_card_fields
from ..reporting.commands import training_program
from ..reporting.settings import Role, has_role
from ..training.objective_arguments import ObjectiveArguments
from .option_parser import (
    CONFIG_ENDINGS,
    HELP_WORDS,
    CommandParser,
    OptionGroup,
    OptionHelp,
    options_of,
    read_options,
    render_help,
    show_value,
)

if TYPE_CHECKING:
    from .training_arguments import ScriptTrainingArguments

# Defaults for a small model from scratch.
FROM_SCRATCH_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 2e-3,
    "latent_learning_rate": 2e-3,
    "num_train_epochs": 2.0,
    "warmup_steps": 100,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "logging_steps": 100,
}

# Defaults for a pretrained pair. At batches of 128, 2e-4 was the best of 2e-5, 5e-5 and 2e-4 (collapse benchmark,
# `pretrained_large`). For batches of 32 it is halved.
PRETRAINED_PAIR_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-4, "warmup_steps": 0.1}

DEFAULT_OUTPUT_DIR = "runs/bnvae"

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
    "save_total_limit": (None, "Checkpoints to keep."),
    "report_to": ("none", "Services that get the log: tensorboard, wandb, ..."),
    "push_to_hub": (False, "Push the model to the Hub."),
    "hub_model_id": (None, "Repository on the Hub. Without it: the name of --output_dir."),
    "hub_private_repo": (None, "Create a private repository: true or false."),
}


@dataclass
class ModelArguments:
    """Which networks, and which latent space between them."""

    encoder_name_or_path: str | None = field(
        default=None, metadata={"help": "Pretrained encoder: a Hub name or a folder. Needs --decoder_name_or_path."}
    )
    decoder_name_or_path: str | None = field(
        default=None, metadata={"help": "Pretrained decoder: a Hub name or a folder. Needs --encoder_name_or_path."}
    )
    decoder_gguf_file: str | None = field(
        default=None, metadata={"help": "The GGUF file in --decoder_name_or_path (needs the extra gguf)."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A trained BNVAE to train further: a Hub name or a folder.", "aliases": ["--model"]},
    )
    encoder_side_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A BNVAE that gives the new model its encoder and posterior head, and from scratch its tokenizers "
            "too. For autoencoder pretraining, train that BNVAE with --beta 0."
        },
    )
    latent_size: int | None = field(default=None, metadata={"help": "Number of latent dimensions."})
    posterior: str | None = field(
        default=None,
        metadata={
            "help": "Posterior head.",
            "choices": list(get_args(PosteriorName)),
        },
    )
    bn_tau: float | None = field(
        default=None, metadata={"help": "tau of bn, bn_rms and ln, in (0, 1). Use it instead of --rate."}
    )
    bn_theta_init: float | None = field(
        default=None, metadata={"help": "Start of theta, which learns the scale. Needs --bn_tau."}
    )
    bn_gamma: float | None = field(default=None, metadata={"help": "gamma of bn_mean and du, in (0, 1)."})
    rate: float | None = field(default=None, metadata={"help": "Lower bound of the KL, in nats per sentence."})
    pooling: str | None = field(
        default=None,
        metadata={"help": "How the encoder's hidden states become one vector.", "choices": ["cls", "mean", "pooler"]},
    )
    latent_injection: str | None = field(
        default=None,
        metadata={"help": "How the latent enters the decoder.", "choices": ["both", "memory", "embedding"]},
    )
    encoder_dropout: float | None = field(
        default=None, metadata={"help": "Dropout of the encoder. Noise there can kill the latent space."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention of both networks: sdpa, eager or flash_attention_2. Without it the networks choose."
        },
    )
    vocab_size: int = field(default=4096, metadata={"help": "Size of both vocabularies, from scratch."})
    hidden_size: int = field(default=128, metadata={"help": "Width of both networks, from scratch."})
    num_layers: int = field(default=2, metadata={"help": "Layers of both networks, from scratch."})
    revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of --model_name_or_path. Without it: main."}
    )
    token: str | None = field(default=None, metadata={"help": "Token for private repositories of the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code from the Hub for both networks."})

    def __post_init__(self) -> None:
        if (self.encoder_name_or_path is None) != (self.decoder_name_or_path is None):
            raise ValueError("Give both encoder_name_or_path and decoder_name_or_path, or neither.")
        if self.decoder_gguf_file is not None and self.decoder_name_or_path is None:
            raise ValueError("decoder_gguf_file names a file in decoder_name_or_path, which was not given.")
        if self.model_name_or_path is not None and self.encoder_name_or_path is not None:
            raise ValueError("Give either model_name_or_path or an encoder and a decoder, not both.")
        if self.model_name_or_path is not None and self.encoder_side_name_or_path is not None:
            raise ValueError("model_name_or_path has its own encoder. Leave encoder_side_name_or_path out.")

    def config_fields(self) -> dict[str, Any]:
        """The fields of [`BNVAEConfig`] that were set."""
        names = ("latent_size", "posterior", "bn_tau", "bn_theta_init", "bn_gamma", "rate")
        names += ("pooling", "latent_injection")
        fields = {name: getattr(self, name) for name in (*names, "encoder_dropout")}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass
class DataArguments:
    """Which texts. Without any: docstrings of Python and of the packages that this one needs."""

    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "The configuration of that data set."})
    train_file: str | None = field(default=None, metadata={"help": "Training texts: .txt, .csv, .tsv, .json, .jsonl."})
    validation_file: str | None = field(
        default=None, metadata={"help": "Texts to evaluate the model on, in the same formats."}
    )
    text_column: str | None = field(default=None, metadata={"help": "The column that holds the texts."})
    validation_split_percentage: float = field(
        default=10,
        metadata={"help": "Percentage of the training texts that is held out if there is no validation set."},
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on this number of texts, the first ones."}
    )
    max_eval_samples: int | None = field(
        default=10000,
        metadata={
            "help": "Evaluate on this number of texts, the first ones. Mutual information takes time of their square."
        },
    )
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenize."})


@dataclass
class ReportArguments:
    """The final evaluation and its model card."""

    num_importance_samples: int = field(default=100, metadata={"help": "Samples for the log p(x) of each text."})
    max_importance_sentences: int = field(
        default=500, metadata={"help": "Number of texts whose log p(x) is estimated."}
    )
    num_examples: int = field(
        default=5, metadata={"help": "Reconstructions, and samples of the prior, in the report."}
    )
    license: str | None = field(
        default=None, metadata={"help": "License in the model card, spelt as on the Hub: mit."}
    )
    language: str | None = field(default=None, metadata={"help": "Language in the model card, an ISO 639 code: en."})

    def __post_init__(self) -> None:
        check_card_fields(self.license, self.language)
        for name in ("num_importance_samples", "max_importance_sentences", "num_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


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
    return build_arguments(typed if file is None else {**read_options(file, names), **typed})


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
    is_pair = options.get("encoder_name_or_path") or options.get("decoder_name_or_path")
    return PRETRAINED_PAIR_DEFAULTS if is_pair else FROM_SCRATCH_DEFAULTS


# -- help ------------------------------------------------------------------------------------------------------------

_LATENT_SPACE = ("posterior", "latent_size", "rate", "bn_tau", "bn_theta_init", "bn_gamma")
_LATENT_SPACE += ("pooling", "latent_injection", "encoder_dropout")
_OBJECTIVE = ("beta", "beta_schedule", "beta_zero_ratio", "beta_increase_ratio", "beta_num_cycles")
_OBJECTIVE += ("free_bits", "free_bits_mode", "regularizer")
_TRAINING = ("output_dir", "num_train_epochs", "max_steps", "learning_rate", "latent_learning_rate", "warmup_steps")
_TRAINING += ("per_device_train_batch_size", "gradient_accumulation_steps", "chunk_size", "checkpoint_chunks")
_TRAINING += ("freeze", "freeze_steps", "weight_decay", "bf16", "use_cpu", "seed")
_REPORT = ("do_train", "do_eval", "per_device_eval_batch_size", "num_statistics_batches", "logging_steps")
_REPORT += ("eval_strategy", "save_strategy", "save_total_limit", "report_to")
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
        "objective", "The weight of the KL over the training. Usually nothing here needs a change.", _OBJECTIVE
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
_OTHER_HELP = {"help": OptionHelp("help", "Show this help.", value="", aliases=("-h",))}
_OTHER_HELP["help_all"] = OptionHelp("help_all", "Show all options of Trainer, too.", value="")


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
    rate = f"bn, bn_rms and ln {DEFAULT_RATE:g}, delta {DEFAULT_DELTA:g} a dimension"
    return {**defaults, "rate": rate, "bn_gamma": gammas, "bn_theta_init": "0"}
