# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options that a BN-VAE adds to `TrainingArguments`. Help reads them here without loading `Trainer`."""

from dataclasses import dataclass, field
from typing import get_args

from ..model.configuration_bnvae import PriorName
from ..model.modeling_bnvae import FreezablePart
from .objective import AuxiliaryName, Regularizer


@dataclass
class ObjectiveArguments:
    """Objective, batch and speed of learning. [`BNVAETrainingArguments`] explains and checks each field."""

    per_device_train_batch_size: int = field(
        default=32,
        metadata={"help": "Sentences per device in a batch. The posterior is normalised over the whole batch."},
    )
    chunk_size: int | None = field(
        default=None,
        metadata={"help": "How many of the longest sentences the networks take at once; chunks save padding."},
    )
    checkpoint_chunks: bool = field(
        default=False, metadata={"help": "Compute each chunk twice instead of keeping its activations."}
    )
    latent_learning_rate: float | None = field(
        default=1e-3,
        metadata={"help": "Learning rate of the posterior head and the injection maps."},
    )
    freeze: str | None = field(
        default=None,
        metadata={
            "help": "The network whose weights do not change. One pretrained network alone is frozen by default.",
            "choices": [*get_args(FreezablePart), "none"],
        },
    )
    freeze_steps: int | None = field(
        default=None, metadata={"help": "Freeze that network only in this number of first steps."}
    )
    beta: float = field(default=1.0, metadata={"help": "Weight of the KL: the highest weight of its schedule."})
    beta_schedule: str = field(
        default="constant",
        metadata={"help": "Schedule of the KL's weight.", "choices": ["constant", "linear", "cyclical"]},
    )
    beta_zero_ratio: float = field(default=0.25, metadata={"help": "Share of a cycle in which the weight is 0."})
    beta_increase_ratio: float = field(default=0.25, metadata={"help": "Share of a cycle in which the weight rises."})
    beta_num_cycles: int = field(default=4, metadata={"help": "Number of cycles of the cyclical schedule."})
    regularizer: str = field(
        default="kl",
        metadata={"help": "The term that beta weighs.", "choices": list(get_args(Regularizer))},
    )
    free_bits: float = field(default=0.0, metadata={"help": "KL in nats per dimension that costs nothing."})
    free_bits_mode: str = field(
        default="batch",
        metadata={
            "help": "batch: free bits of a dimension's batch mean. optimus: a mask per sentence and dimension.",
            "choices": ["batch", "optimus"],
        },
    )
    auxiliary: str = field(
        default="none",
        metadata={
            "help": "bag_of_words: the latent alone also predicts the sentence's tokens, at first. tied_bag_of_words: "
            "through the decoder's own embeddings.",
            "choices": list(get_args(AuxiliaryName)),
        },
    )
    auxiliary_weight: float | None = field(
        default=None, metadata={"help": "Weight of the auxiliary at the first step; 1 if not given."}
    )
    auxiliary_steps: float | None = field(
        default=None,
        metadata={"help": "Steps in which that weight falls to 0; 0.5 if not given. Up to 1: a share of all steps."},
    )
    num_statistics_batches: int = field(
        default=64,
        metadata={"help": "Training batches that refresh the running statistics before each evaluation."},
    )
    prior: str = field(
        default="gaussian",
        metadata={
            "help": "The prior of the trained model: gaussian is fitted to it at the end, standard is N(0, I).",
            "choices": list(get_args(PriorName)),
        },
    )
