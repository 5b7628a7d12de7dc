# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What all runs of a benchmark share: networks, budget and evaluation, and the shared options to vary."""

from dataclasses import dataclass, field
from typing import Any

from ..commands import Options
from ..tables.collapse import setting_of
from .remedies import REMEDIES, remedy_of

ENCODER_DROPOUT = 0.1
# The share of the steps that pretraining takes, for a remedy with pretraining. In both runs the learning rate warms up
# and falls to 0.
PRETRAINING_SHARE = 1 / 3
SETTINGS: dict[str, Options] = {
    # Two layers of width 128 from scratch, one epoch. A run takes minutes on one core.
    "small": {
        "auxiliary": "none",
        "max_train_samples": 76800,
        "num_train_epochs": 1,
        "hidden_size": 128,
        "num_layers": 2,
        "latent_size": 16,
        "pooling": "mean",
        "latent_injection": "memory",
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 256,
        "learning_rate": 2e-3,
        "latent_learning_rate": 2e-3,
        "warmup_steps": 100,
        "eval_strategy": "no",
        "save_strategy": "no",
        "num_importance_samples": 50,
        "disable_tqdm": True,
    },
    # For a GPU: networks of the sizes of BERT-base and GPT-2 from scratch, one epoch of all texts.
    "large": {
        "auxiliary": "none",
        "num_train_epochs": 1,
        "hidden_size": 768,
        "num_layers": 12,
        "latent_size": 32,
        "pooling": "mean",
        "latent_injection": "memory",
        "vocab_size": 30000,
        "per_device_train_batch_size": 128,
        "learning_rate": 2e-4,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 200,
        "bf16": True,
        "per_device_eval_batch_size": 250,
        "eval_strategy": "no",
        "save_strategy": "no",
        "num_importance_samples": 50,
        "disable_tqdm": True,
    },
    # For two cores: a pretrained pair with a strong decoder, some hundred steps.
    "pretrained": {
        "auxiliary": "none",
        "max_train_samples": 12800,
        "max_steps": 400,
        "latent_size": 32,
        "pooling": "mean",
        "latent_injection": "both",
        "per_device_train_batch_size": 32,
        "learning_rate": 5e-5,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 50,
        "bf16": True,
        "use_cpu": True,
        # On a CPU in bfloat16 a step takes two thirds of the time that it takes with sdpa.
        "attn_implementation": "eager",
        "eval_strategy": "no",
        "save_strategy": "no",
        "max_eval_samples": 1000,
        "num_importance_samples": 20,
        "max_importance_sentences": 200,
        "disable_tqdm": True,
    },
}
# The same pair for a GPU: four times the sentences in each step, and the attention that is fastest there.
SETTINGS["pretrained_large"] = {
    **{n: v for n, v in SETTINGS["pretrained"].items() if n not in ("use_cpu", "attn_implementation")},
    "max_train_samples": 51200,
    "per_device_train_batch_size": 128,
    "per_device_eval_batch_size": 250,
    "num_importance_samples": 50,
    "max_importance_sentences": 500,
}

# The same small networks, with the auxiliary that the training script has by default from scratch.
SETTINGS["small_auxiliary"] = {**SETTINGS["small"], "auxiliary": "bag_of_words"}
# Is it still of use when a training is longer?
SETTINGS["small_auxiliary_long"] = {**SETTINGS["small_auxiliary"], "num_train_epochs": 4}

# Options of the evaluation script, on the held-out texts.
EVALUATION: dict[str, Options] = {
    "small": {"num_importance_samples": 100, "max_importance_sentences": 1000, "num_judged_samples": 1000},
    "large": {"num_importance_samples": 100, "max_importance_sentences": 1000, "num_judged_samples": 1000},
    "pretrained": {"num_importance_samples": 20, "max_importance_sentences": 200, "max_eval_samples": 1000},
    "pretrained_large": {"num_importance_samples": 100, "max_importance_sentences": 500, "max_eval_samples": 1000},
}

EVALUATION["small_auxiliary"] = EVALUATION["small_auxiliary_long"] = EVALUATION["small"]


@dataclass(frozen=True)
class Choice:
    """
    An option that all remedies share, and its values to try.

    Args:
        option (`str`): An option of the training script.
        values (`tuple`): The values. All other runs have the first one. `None` leaves the option out.
        remedy (`str`, *optional*, defaults to `"bn_rms"`): The remedy whose option is varied.
        point (`int`, *optional*, defaults to 0): The point of the remedy's grid.
        together (`dict`, *optional*): Further options for all values except the first.
    """

    option: str
    values: tuple[Any, ...]
    remedy: str = "bn_rms"
    point: int = 0
    together: Options = field(default_factory=dict, hash=False)

    @property
    def base(self) -> str:
        """Name and setting of the remedy whose option is varied."""
        grid = [{"options": options} for options in remedy_of(self.remedy).grid]
        return f"{self.remedy}: {setting_of({'grid': grid, 'chosen': self.point})}"


CHOICES = {
    "small": (
        Choice("pooling", ("mean", "cls", "pooler")),
        Choice("latent_injection", ("memory", "both", "embedding")),
        # For the baseline too: a decoder that ignores the latent may need another way than one that reads it.
        Choice("latent_injection", ("memory", "both", "embedding"), "gaussian", 1),
        # With a fixed rate the KL does not depend on how fast theta moves.
        Choice("latent_learning_rate", (2e-3, 5e-4, 1e-3), "bn_rms, rate", 1),
        # Does a longer training give the same order of remedies?
        *(
            Choice("num_train_epochs", (1, 4), remedy, 1)
            for remedy in ("gaussian", "bn_rms, rate", "du", "ln", "free bits", "bn_mean")
        ),
        Choice("learning_rate", (2e-3, 1e-3)),
        Choice("latent_learning_rate", (2e-3, 5e-4, 4e-3)),
        Choice("bn_theta_init", (None, -2.0)),
        Choice("bn_tau", (0.1, 0.05)),
        Choice("latent_size", (16, 8, 32), "bn_rms, rate", 1),
    ),
    "pretrained": (
        Choice("learning_rate", (5e-5, 2e-5, 2e-4), "bn_rms, rate", 1),
        Choice("latent_learning_rate", (1e-3, 2e-4, 5e-3), "bn_rms, rate", 1),
        Choice("pooling", ("mean", "cls"), "bn_rms, rate", 1),
        Choice("latent_injection", ("both", "memory", "embedding"), "bn_rms, rate", 1),
        Choice("freeze", (None, "encoder", "decoder", "both"), "bn_rms, rate", 1),
        Choice("freeze_steps", (None, 100), "bn_rms, rate", 1, {"freeze": "both"}),
        Choice("bn_theta_init", (None, -2.0, -4.0)),
    ),
}
CHOICES["large"] = CHOICES["small"][:2]
CHOICES["pretrained_large"] = CHOICES["pretrained"]
# What the auxiliary gives to each remedy, at the middle point of its grid.
CHOICES["small_auxiliary"] = tuple(
    Choice("auxiliary", ("bag_of_words", "none"), remedy.name, 1) for remedy in REMEDIES
)
CHOICES["small_auxiliary_long"] = tuple(
    choice for choice in CHOICES["small_auxiliary"] if choice.remedy in ("gaussian", "bn_rms, rate")
)
