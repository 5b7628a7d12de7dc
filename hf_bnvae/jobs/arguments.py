# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of a training: networks, texts, report, and their defaults. Nothing here loads `Trainer`."""

from dataclasses import dataclass, field
from typing import Any, get_args

from ..model.configuration_bnvae import PosteriorName
from ..reporting.card_fields import check_card_fields
from ..utils.numeric_fields import require_numbers
from .text_format_arguments import TextFormatArguments, one_or_several

# Defaults for a small model from scratch. The room's page of decisions has the figures of rate, epochs and auxiliary.
FROM_SCRATCH_DEFAULTS: dict[str, Any] = {
    "rate": 32.0,
    "auxiliary": "bag_of_words",
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 2e-3,
    "latent_learning_rate": 2e-3,
    "num_train_epochs": 4.0,
    "warmup_steps": 100,
    "eval_strategy": "epoch",
    "save_total_limit": 2,
    "logging_steps": 100,
}

# Defaults for a pretrained pair. At batches of 128, 2e-4 was the best of 2e-5, 5e-5 and 2e-4 (collapse benchmark,
# `pretrained_large`). For batches of 32 it is halved.
PRETRAINED_PAIR_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-4, "warmup_steps": 0.1}

DEFAULT_OUTPUT_DIR = "runs/bnvae"

# Room for the special tokens of both halves and a word.
MIN_LENGTH = 4
# Every byte, and the special tokens of the new encoder's tokenizer.
MIN_VOCAB_SIZE = 260


@dataclass
class ModelArguments:
    """Which networks, and which latent space between them."""

    encoder_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Pretrained encoder: a Hub name or a folder. Alone, it gets a small new decoder."},
    )
    decoder_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Pretrained decoder: a Hub name or a folder. Alone, it gets a small new encoder."},
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
    normalize_features: bool = field(
        default=False, metadata={"help": "Scale that vector to length 1, as sentence-embedding models do."}
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
    vocab_size: int = field(default=4096, metadata={"help": "Size of the vocabulary of each new network."})
    max_seq_length: int | None = field(
        default=None,
        metadata={
            "help": "Longest text in tokens; from scratch 64, with conditions 128 for both. "
            "Longer texts are cut. Pretrained networks have limits."
        },
    )
    hidden_size: int = field(default=128, metadata={"help": "Width of each new network."})
    num_layers: int = field(default=2, metadata={"help": "Layers of each new network."})
    revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of --model_name_or_path. Without it: main."}
    )
    token: str | None = field(default=None, metadata={"help": "Token for private repositories of the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code from the Hub for both networks."})

    def __post_init__(self) -> None:
        require_numbers(self)
        for name, least in (("vocab_size", MIN_VOCAB_SIZE), ("hidden_size", 1), ("num_layers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.max_seq_length is not None and self.max_seq_length < MIN_LENGTH:
            raise ValueError(f"max_seq_length must be at least {MIN_LENGTH} tokens, got {self.max_seq_length}.")
        if self.decoder_gguf_file is not None and self.decoder_name_or_path is None:
            raise ValueError("decoder_gguf_file names a file in decoder_name_or_path, which was not given.")
        if self.model_name_or_path is not None and (self.encoder_name_or_path or self.decoder_name_or_path):
            raise ValueError("Give either model_name_or_path or an encoder and a decoder, not both.")
        if self.encoder_side_name_or_path is not None and self.decoder_name_or_path and not self.encoder_name_or_path:
            raise ValueError("encoder_side_name_or_path needs encoder_name_or_path beside decoder_name_or_path.")
        if self.model_name_or_path is not None and self.encoder_side_name_or_path is not None:
            raise ValueError("model_name_or_path has its own encoder. Leave encoder_side_name_or_path out.")

    def config_fields(self) -> dict[str, Any]:
        """The fields of [`BNVAEConfig`] that were set."""
        names = ("latent_size", "posterior", "bn_tau", "bn_theta_init", "bn_gamma", "rate")
        names += ("pooling", "latent_injection", "encoder_dropout")
        fields = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return fields | ({"normalize_features": True} if self.normalize_features else {})


@dataclass
class DataArguments(TextFormatArguments):
    """Which texts. Without any: docstrings of Python and of the packages that this one needs."""

    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "The configuration of that data set."})
    train_file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Training texts: files, a folder or a pattern. .txt, .csv, .tsv, .json, .jsonl, .parquet; .gz too."
        },
    )
    validation_file: list[str] | None = field(
        default=None, metadata={"help": "Texts to evaluate the model on, in the same formats."}
    )
    text_column: str | None = field(
        default=None, metadata={"help": "The column that holds the texts, or a field in it: data.body."}
    )
    condition_column: str | None = field(
        default=None,
        metadata={"help": "The column with the condition of each text: a text, a label or a list of turns."},
    )
    validation_split_percentage: float = field(
        default=10,
        metadata={"help": "Percentage of the training texts that is held out if there is no validation set."},
    )
    drop_duplicates: bool = field(default=False, metadata={"help": "Keep only the first of equal texts."})
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

    def __post_init__(self) -> None:
        require_numbers(self)
        self.train_file, self.validation_file = map(one_or_several, (self.train_file, self.validation_file))
        _ = self.text_format  # checks it before any text is read
        if not 0 < self.validation_split_percentage < 100:
            raise ValueError(
                f"validation_split_percentage must lie between 0 and 100, got {self.validation_split_percentage}."
            )
        for name in ("max_train_samples", "max_eval_samples", "preprocessing_num_workers"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("text_column", "condition_column"):
            column = getattr(self, name)
            if column is not None and not (self.dataset_name or self.train_file or self.validation_file):
                raise ValueError(
                    f"{name}={column!r} names a column of your texts, but no texts are given. Add train_file or "
                    "dataset_name."
                )


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
        require_numbers(self)
        check_card_fields(self.license, self.language)
        for name in ("num_importance_samples", "max_importance_sentences", "num_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
