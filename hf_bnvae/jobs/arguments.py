# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options that the training scripts share, and how a command line or a file sets them."""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from transformers import HfArgumentParser

from ..model.configuration_bnvae import PosteriorName
from ..reporting.model_card import check_card_fields
from ..reporting.provenance import without_folders
from ..training.training_args import BNVAETrainingArguments

# The scripts' defaults where a small model is trained from scratch.
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

# Those of a pretrained pair. Measured at batches of 128 (collapse benchmark, `pretrained_large`): of 2e-5, 5e-5 and
# 2e-4 the greatest was the best by far; for batches of 32 that is halved.
PRETRAINED_PAIR_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-4, "warmup_steps": 0.1}

DEFAULT_OUTPUT_DIR = "runs/bnvae"


@dataclass
class ModelArguments:
    """Which networks, and which latent space between them."""

    encoder_name_or_path: str | None = field(
        default=None, metadata={"help": "Pretrained encoder, a Hub name or a folder; with --decoder_name_or_path."}
    )
    decoder_name_or_path: str | None = field(
        default=None, metadata={"help": "Pretrained decoder, a Hub name or a folder; with --encoder_name_or_path."}
    )
    decoder_gguf_file: str | None = field(
        default=None, metadata={"help": "The file in --decoder_name_or_path, where that holds GGUF (needs gguf)."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A BNVAE to go on with, a Hub name or a folder, in place of those two."}
    )
    encoder_side_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A BNVAE, a Hub name or a folder, whose encoder and posterior head the new model takes over, from "
            "scratch its tokenizers too (autoencoder pretraining: train that one with --beta 0)."
        },
    )
    latent_size: int | None = field(default=None, metadata={"help": "Number of latent dimensions (32)."})
    posterior: str | None = field(
        default=None,
        metadata={
            "help": "Posterior head (bn_rms).",
            "choices": list(get_args(PosteriorName)),
        },
    )
    bn_tau: float | None = field(
        default=None, metadata={"help": "tau of bn, bn_rms and ln, in (0, 1), instead of rate."}
    )
    bn_theta_init: float | None = field(
        default=None, metadata={"help": "With bn_tau, where theta starts, by which its scale is learnt (0)."}
    )
    bn_gamma: float | None = field(default=None, metadata={"help": "gamma of bn_mean (0.6) and du (0.5), in (0, 1)."})
    rate: float | None = field(default=None, metadata={"help": "The KL floor in nats per sentence (4)."})
    pooling: str | None = field(
        default=None, metadata={"help": "Sentence vector of the encoder (mean).", "choices": ["cls", "mean", "pooler"]}
    )
    latent_injection: str | None = field(
        default=None,
        metadata={"help": "The latent's way into the decoder (memory).", "choices": ["both", "memory", "embedding"]},
    )
    encoder_dropout: float | None = field(
        default=None, metadata={"help": "Dropout of the encoder (0: noise there kills the latent space)."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "Attention of both networks (sdpa where they have it): eager, flash_attention_2."},
    )
    vocab_size: int = field(default=4096, metadata={"help": "From scratch: size of both vocabularies."})
    hidden_size: int = field(default=128, metadata={"help": "From scratch: width of both networks."})
    num_layers: int = field(default=2, metadata={"help": "From scratch: layers of both networks."})
    revision: str | None = field(default=None, metadata={"help": "Revision of --model_name_or_path."})
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
            raise ValueError("A model to go on with has its own encoder. Leave encoder_side_name_or_path out.")

    def config_fields(self) -> dict[str, Any]:
        """The fields of [`BNVAEConfig`] that were set."""
        names = ("latent_size", "posterior", "bn_tau", "bn_theta_init", "bn_gamma", "rate")
        names += ("pooling", "latent_injection")
        fields = {name: getattr(self, name) for name in (*names, "encoder_dropout")}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass
class DataArguments:
    """Which texts. With none named: docstrings of Python and of the packages that this one needs."""

    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    train_file: str | None = field(default=None, metadata={"help": "Training texts: .txt, .csv, .tsv, .json, .jsonl."})
    validation_file: str | None = field(default=None, metadata={"help": "Texts to evaluate with."})
    text_column: str | None = field(default=None, metadata={"help": "The column that holds the texts."})
    validation_split_percentage: float = field(
        default=10, metadata={"help": "Share of the training texts held out where there is no validation set."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many texts only."})
    max_eval_samples: int | None = field(
        default=10000,
        metadata={"help": "Evaluate on the first so many texts only: mutual information takes time of their square."},
    )
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes for tokenizing."})


@dataclass
class ReportArguments:
    """The final evaluation and what is shown of it."""

    num_importance_samples: int = field(default=100, metadata={"help": "Samples for each text's log p(x)."})
    max_importance_sentences: int = field(default=500, metadata={"help": "Of how many texts."})
    num_examples: int = field(default=5, metadata={"help": "Reconstructions and prior samples to show."})
    license: str | None = field(default=None, metadata={"help": "For the model card, as the Hub spells it: mit."})
    language: str | None = field(default=None, metadata={"help": "For the model card, an ISO 639 code: en."})

    def __post_init__(self) -> None:
        check_card_fields(self.license, self.language)
        for name in ("num_importance_samples", "max_importance_sentences", "num_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


@dataclass
class ScriptTrainingArguments(BNVAETrainingArguments):
    """`BNVAETrainingArguments` with a default folder, and with both steps on where neither is asked for."""

    output_dir: str = field(default=DEFAULT_OUTPUT_DIR, metadata={"help": "Folder for the model and its results."})
    log_level_replica: str = field(
        default="error", metadata={"help": "Log level of all processes but the main one, which says it already."}
    )

    def __post_init__(self) -> None:
        if self.do_predict:
            raise ValueError("do_predict does nothing here. Use do_eval for figures and examples.")
        if self.resume_from_checkpoint is not None:
            raise ValueError(
                "resume_from_checkpoint is not needed: the same command again resumes an unfinished run from its last "
                "checkpoint. To train on from another model, give model_name_or_path and a new output_dir."
            )
        if self.save_only_model:
            raise ValueError(
                "save_only_model leaves out of a checkpoint what an unfinished run is resumed with, which the same "
                "command again does. To keep fewer checkpoints, use save_total_limit."
            )
        if not (self.do_train or self.do_eval):
            self.do_train = self.do_eval = True
        if self.push_to_hub and not self.do_train:
            raise ValueError(
                "push_to_hub uploads the model that is trained, and without do_train there is none. A saved one is "
                "pushed by scripts/push_to_hub.py."
            )
        # Pinned memory is for copies to an accelerator; without one torch only warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        super().__post_init__()


Arguments = tuple[ModelArguments, DataArguments, ReportArguments, ScriptTrainingArguments]


def parse_arguments(argv: Sequence[str] | None = None) -> Arguments:
    """
    The options of a training script, from the command line or, where its only argument is a `.json`, `.yaml` or
    `.yml` file, from that file.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments; those of the process if not given.

    Raises:
        ValueError: for a file that is not one mapping, or holds unknown options.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser([ModelArguments, DataArguments, ReportArguments, ScriptTrainingArguments])
    if len(argv) == 1 and argv[0].endswith((".json", ".yaml", ".yml")):
        options = _read_options(Path(argv[0]))
        return parser.parse_dict({**_defaults(options), **options})
    named = vars(parser.parse_known_args(argv)[0]) if not {"-h", "--help"} & set(argv) else {}
    parser.set_defaults(**_defaults(named))
    return parser.parse_args_into_dataclasses(argv)


# Options that say where and how a run is told, kept or shared, and secrets: no part of the command that repeats it.
_LEFT_OUT = ("output_dir", "token", "report_to", "run_name", "disable_tqdm", "push_to_hub", "license", "language")
_LEFT_OUT_PREFIXES = ("hub_", "log", "preprocessing_")


def command_line(arguments: Arguments, script: str) -> str:
    """
    The command that repeats a run: its options that are not the script's defaults, local files by their names alone.

    Args:
        arguments (`tuple`): As [`parse_arguments`] gives them.
        script (`str`): The file name of the script.
    """
    given = _option_values(arguments)
    # On which the others' defaults depend, or whether they can be taken at all.
    names = ("model_name_or_path", "encoder_name_or_path", "decoder_name_or_path", "use_cpu")
    reference = [part for name in names if given[name] for part in (f"--{name}", str(given[name]))]
    defaults = _option_values(parse_arguments(reference))
    words = ["python", f"scripts/{script}"]
    processes = arguments[-1].world_size
    if processes > 1:
        words = ["accelerate", "launch", "--num_processes", str(processes), f"scripts/{script}"]
    for name, value in given.items():
        if name in _LEFT_OUT or name.startswith(_LEFT_OUT_PREFIXES) or value is None:
            continue
        if value != defaults[name] or (name in names and value):
            words += [f"--{name}", str(without_folders(value))]
    return shlex.join(words)


def _option_values(arguments: Arguments) -> dict[str, Any]:
    *others, training = arguments
    values = [asdict(one) for one in others]
    # As a command line can give them: mappings have no simple form.
    own = {name: value for name, value in training.to_dict().items() if not isinstance(value, (dict, list))}
    return {name: value for one in (*values, own) for name, value in one.items()}


def _defaults(options: dict[str, Any]) -> dict[str, Any]:
    """The scripts' own for what the options name; a BNVAE that is gone on with wants Trainer's gentler ones."""
    if options.get("model_name_or_path"):
        return {}
    is_pair = options.get("encoder_name_or_path") or options.get("decoder_name_or_path")
    return PRETRAINED_PAIR_DEFAULTS if is_pair else FROM_SCRATCH_DEFAULTS


def _read_options(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        options = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} could not be read as a file of options: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold one mapping of options to values, got {type(options).__name__}.")
    # YAML takes 1e-3 for a string; its way of writing that number is 1.0e-3.
    return {name: _as_number(value) for name, value in options.items()}


def _as_number(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value
