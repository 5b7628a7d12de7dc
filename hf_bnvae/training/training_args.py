# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a BN-VAE's training can be told beyond `TrainingArguments`."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..model.batch_statistics_bnvae import num_processes
from ..model.configuration_bnvae import check_chunk_size
from ..model.modeling_bnvae import BNVAEOutput
from ..utils.random_state import seeded_generator
from .objective import DENSITY_GAP_SAMPLES, beta_at_step, density_gap, training_loss
from .objective_arguments import ObjectiveArguments


@dataclass
class BNVAETrainingArguments(ObjectiveArguments, TrainingArguments):
    r"""
    `TrainingArguments` with the objective of a VAE.

    The posterior is normalised over `per_device_train_batch_size * gradient_accumulation_steps * processes`
    sentences, the posterior batch. How it is cut changes neither loss nor gradients, to rounding.

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 32):
            As in `TrainingArguments`, whose 8 says too little about a batch's moments. With gradient accumulation it
            is the number of sentences that are held in memory at once, 1 at least.
        chunk_size (`int`, *optional*):
            How many of the longest sentences encoder and decoder take at once, and of shorter ones as many as have no
            more positions; `None` means `per_device_train_batch_size` with gradient accumulation, and otherwise what
            the model's configuration says. Chunks are sorted by length, so they save padding.
        checkpoint_chunks (`bool`, *optional*, defaults to `False`):
            Keep no activations of a chunk and compute it a second time in the backward pass. Gradient accumulation
            always does.
        latent_learning_rate (`float`, *optional*, defaults to 1e-3):
            Learning rate of the posterior head and the injection maps, which start from nothing while the two networks
            may be pretrained. `None` means `learning_rate`. Scale and shift parameters take no weight decay.
        freeze (`str`, *optional*):
            `"encoder"`, `"decoder"` or `"both"`: that network keeps its weights ([`~BNVAEModel.freeze`]), while
            posterior head and injection are always trained.
        freeze_steps (`int`, *optional*):
            In how many first optimiser steps; `None` means in all of them. The new parts then find their place before
            the networks begin to move, at what the schedule has come to by then. Its learning rate is 0 until then: it
            still costs its gradients, and they count in `max_grad_norm`.
        beta (`float`, *optional*, defaults to 1.0): Weight of the KL, or the one that its schedule reaches.
        beta_schedule (`str`, *optional*, defaults to `"constant"`): `"constant"`, `"linear"` or `"cyclical"`.
        beta_zero_ratio, beta_increase_ratio (`float`, *optional*, default to 0.25): Shares of a cycle at 0 and rising.
        beta_num_cycles (`int`, *optional*, defaults to 4): Number of cycles of the cyclical schedule.
        regularizer (`str`, *optional*, defaults to `"kl"`):
            What beta weighs: the KL, or `"density_gap"`, to compare with ([`~objective.density_gap`]; one process).
        free_bits (`float`, *optional*, defaults to 0): KL in nats that each dimension has for free.
        free_bits_mode (`str`, *optional*, defaults to `"batch"`):
            `"batch"`: max(batch mean of KL_j, lambda) in each dimension; `"optimus"`: a mask per sentence and
            dimension.
        num_statistics_batches (`int`, *optional*, defaults to 64):
            How many training batches an evaluation during training refreshes the posterior's running statistics from.
            At the end of the training they are recomputed from the whole training set.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = ("freeze", "beta_schedule", "regularizer", "free_bits_mode")
        for own in fields(ObjectiveArguments):
            choices, value = own.metadata.get("choices"), getattr(self, own.name)
            if own.name in chosen and value not in (own.default, *choices):
                raise ValueError(f"{own.name} must be one of {', '.join(choices)}, got {value!r}.")
        for name in ("beta", "free_bits"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.push_to_hub:
            require_safe_strategy(self.hub_strategy)
        if self.regularizer == "density_gap":
            if self.free_bits > 0:
                raise ValueError("free_bits are of the KL; the density gap has none. Leave them at 0.")
            if self.world_size > 1:
                raise ValueError(
                    "regularizer='density_gap' compares all pairs of a posterior batch, and is made for one process; "
                    f"got {self.world_size}."
                )
        ratios = (self.beta_zero_ratio, self.beta_increase_ratio)
        if min(ratios) < 0 or sum(ratios) > 1:
            raise ValueError(
                "beta_zero_ratio and beta_increase_ratio are shares of a cycle: not negative and at most 1 together, "
                f"got {ratios[0]} and {ratios[1]}."
            )
        sizes = ("per_device_train_batch_size", "gradient_accumulation_steps")
        for name in (*sizes, "beta_num_cycles", "num_statistics_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        check_chunk_size(self.chunk_size)
        is_count = isinstance(self.freeze_steps, int) and not isinstance(self.freeze_steps, bool)
        if self.freeze_steps is not None and not (self.freeze is not None and is_count and self.freeze_steps > 0):
            raise ValueError(
                f"freeze_steps is the number of first steps in which the network that freeze names is frozen, 1 at "
                f"least; got freeze={self.freeze!r}, freeze_steps={self.freeze_steps!r}."
            )
        if num_processes() != self.world_size:
            raise ValueError(
                f"{num_processes()} processes were started together, but each of them knows of {self.world_size} only "
                "and would train a model of its own. Without an accelerator processes share a training only with "
                "use_cpu=True (--use_cpu true)."
            )
        if self.latent_learning_rate is not None and self.latent_learning_rate < 0:
            raise ValueError(f"latent_learning_rate must not be negative, got {self.latent_learning_rate}.")

    def chunking(self) -> dict[str, Any]:
        """What the model's `forward` is told about chunks in training."""
        if self.gradient_accumulation_steps > 1:
            return {"chunk_size": self.chunk_size or self.per_device_train_batch_size, "checkpoint_chunks": True}
        return {"chunk_size": self.chunk_size, "checkpoint_chunks": self.checkpoint_chunks or None}

    def beta_at_step(self, step: int, max_steps: int) -> float:
        """The KL's weight at an optimiser step of a training of `max_steps`."""
        return beta_at_step(
            step,
            max(max_steps, 1),
            schedule=self.beta_schedule,
            beta=self.beta,
            zero_ratio=self.beta_zero_ratio,
            increase_ratio=self.beta_increase_ratio,
            num_cycles=self.beta_num_cycles,
        )

    def loss(self, outputs: BNVAEOutput, step: int, max_steps: int) -> torch.Tensor:
        """What an optimiser step of a training of `max_steps` minimises, in nats per sentence of the posterior batch.

        Args:
            outputs ([`BNVAEOutput`]): The model's, of this process' share of the posterior batch. In a distributed
                training all processes make this call.
            step (`int`): The step, from 0.
            max_steps (`int`): Length of the whole training.
        """
        beta = self.beta_at_step(step, max_steps)
        if self.regularizer == "kl":
            return training_loss(outputs.reconstruction_nll, outputs.kl, beta, self.free_bits, self.free_bits_mode)
        # Of the step alone, as the noise of the reparameterisation, and another one.
        generator = seeded_generator(self.seed, step, DENSITY_GAP_SAMPLES)
        noise = torch.randn(DENSITY_GAP_SAMPLES, *outputs.mean.shape, generator=generator)
        return outputs.reconstruction_nll.mean() + beta * density_gap(outputs.posterior, noise)


def require_safe_strategy(strategy: HubStrategy | str) -> None:
    """
    Refuse what would put optimiser states on the Hub.

    Raises:
        ValueError: for the strategies of `TrainingArguments` that upload whole checkpoints.
    """
    if HubStrategy(strategy) in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise ValueError(
            f"hub_strategy={HubStrategy(strategy).value!r} uploads the optimiser's and the random states of "
            "checkpoints, which are pickles. Use 'every_save' (the model of each checkpoint) or 'end'. To resume "
            "elsewhere, copy the run's folder."
        )
