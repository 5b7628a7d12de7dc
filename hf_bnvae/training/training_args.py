# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The settings of a BN-VAE's training, in addition to `TrainingArguments`."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..model.batch_statistics_bnvae import num_processes
from ..model.configuration_bnvae import check_chunk_size
from ..model.modeling_bnvae import BNVAEOutput
from ..utils.numeric_fields import require_numbers
from ..utils.random_state import seeded_generator
from .objective import (
    DEFAULT_AUXILIARY_STEPS,
    DEFAULT_AUXILIARY_WEIGHT,
    DENSITY_GAP_SAMPLES,
    auxiliary_weight_at_step,
    beta_at_step,
    density_gap,
    training_loss,
)
from .objective_arguments import ObjectiveArguments


@dataclass
class BNVAETrainingArguments(ObjectiveArguments, TrainingArguments):
    r"""
    `TrainingArguments` with the objective of a VAE.

    The posterior is normalised over the posterior batch, which has `per_device_train_batch_size *
    gradient_accumulation_steps * processes` sentences. How it is cut changes neither loss nor gradients, except for
    rounding.

    Args:
        per_device_train_batch_size (`int`, *optional*, defaults to 32):
            As in `TrainingArguments`, whose default of 8 is too small to estimate a batch's moments. With gradient
            accumulation it is the number of sentences that are held in memory at once, at least 1.
        chunk_size (`int`, *optional*):
            How many of the longest sentences encoder and decoder take at once. A chunk of shorter sentences holds more
            of them, up to the same number of positions. `None` means `per_device_train_batch_size` with gradient
            accumulation, otherwise the model's `config.chunk_size`. Chunks are sorted by length, so they save padding.
        checkpoint_chunks (`bool`, *optional*, defaults to `False`):
            Keep no activations of a chunk, and compute the chunk a second time in the backward pass. Gradient
            accumulation always works like this.
        latent_learning_rate (`float`, *optional*, defaults to 1e-3):
            Learning rate of the posterior head and the injection maps. These are never pretrained, while the two
            networks may be. `None` means `learning_rate`. Scale and shift parameters take no weight decay.
        freeze (`str`, *optional*):
            `"encoder"`, `"decoder"` or `"both"`: the network keeps its weights ([`~BNVAEModel.freeze`]). Posterior
            head and injection are always trained. `"none"` is as `None`.
        freeze_steps (`int`, *optional*):
            Freeze in this number of first optimiser steps only; `None` means in all steps. The new parts can then
            settle before the networks begin to move. Until then the networks' learning rate is 0; afterwards the
            schedule continues as if it had run from the start. Gradients are computed all the time, and they count in
            `max_grad_norm`.
        beta (`float`, *optional*, defaults to 1.0): Weight of the KL, or the weight that its schedule reaches.
        beta_schedule (`str`, *optional*, defaults to `"constant"`): `"constant"`, `"linear"` or `"cyclical"`.
        beta_zero_ratio, beta_increase_ratio (`float`, *optional*, default to 0.25): Shares of a cycle at 0 and rising.
        beta_num_cycles (`int`, *optional*, defaults to 4): Number of cycles of the cyclical schedule.
        regularizer (`str`, *optional*, defaults to `"kl"`):
            The term that beta weighs: the KL, or `"density_gap"` for comparisons ([`~objective.density_gap`]; one
            process only).
        free_bits (`float`, *optional*, defaults to 0): KL in nats that each dimension has without cost.
        free_bits_mode (`str`, *optional*, defaults to `"batch"`):
            `"batch"`: max(batch mean of KL_j, lambda) in each dimension. `"optimus"`: a mask per sentence and
            dimension.
        auxiliary (`str`, *optional*, defaults to `"none"`):
            `"bag_of_words"`: in the first part of the training, a small network also has to predict from the latent
            alone which tokens stand in the sentence ([`~auxiliary.BagOfWordsAuxiliary`]). The decoder then learns
            sooner to use the latent. The network is not a part of the model. `"tied_bag_of_words"`: that network knows
            tokens by the decoder's input embeddings ([`~auxiliary.TiedNetwork`]).
        auxiliary_weight (`float`, *optional*):
            Weight of the auxiliary's loss at the first step. With an auxiliary, `None` means 1.
        auxiliary_steps (`float`, *optional*):
            The number of optimiser steps in which that weight falls linearly to 0. A number up to 1 is a share of the
            training. With an auxiliary, `None` means 0.5.
        num_statistics_batches (`int`, *optional*, defaults to 64):
            The number of training batches from which an evaluation during training refreshes the posterior's running
            statistics. At the end of the training they are recomputed from the whole training set.
        prior (`str`, *optional*, defaults to `"gaussian"`):
            The prior of the trained model. `"gaussian"`: at the end of the training a Gaussian is fitted to the
            posteriors of the training set ([`fit_prior`]). `"standard"`: N(0, I). The training itself is the same.
    """

    def __post_init__(self) -> None:
        check_chunk_size(self.chunk_size)
        require_numbers(self)
        super().__post_init__()
        chosen = ("freeze", "beta_schedule", "regularizer", "free_bits_mode", "auxiliary", "prior")
        for own in fields(ObjectiveArguments):
            choices, value = own.metadata.get("choices"), getattr(self, own.name)
            if own.name in chosen and value not in (own.default, *choices):
                raise ValueError(f"{own.name} must be one of {', '.join(choices)}, got {value!r}.")
        for name in ("beta", "free_bits"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        self._check_auxiliary()
        if self.push_to_hub:
            require_safe_strategy(self.hub_strategy)
        if self.regularizer == "density_gap":
            if self.free_bits > 0:
                raise ValueError("free_bits belong to the KL; the density gap has none. Leave free_bits at 0.")
            if self.world_size > 1:
                raise ValueError(
                    "regularizer='density_gap' compares all pairs of a posterior batch and needs one process; "
                    f"got {self.world_size}."
                )
        ratios = (self.beta_zero_ratio, self.beta_increase_ratio)
        if min(ratios) < 0 or sum(ratios) > 1:
            raise ValueError(
                "beta_zero_ratio and beta_increase_ratio are shares of a cycle: not negative, and at most 1 together, "
                f"got {ratios[0]} and {ratios[1]}."
            )
        sizes = ("per_device_train_batch_size", "gradient_accumulation_steps")
        for name in (*sizes, "beta_num_cycles", "num_statistics_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        is_count = isinstance(self.freeze_steps, int) and not isinstance(self.freeze_steps, bool)
        if self.freeze_steps is not None and not (self.frozen_part is not None and is_count and self.freeze_steps > 0):
            raise ValueError(
                "freeze_steps is the number of first steps in which the network that freeze names is frozen. Set "
                "freeze, and freeze_steps to 1 at least; got "
                f"freeze={self.freeze!r}, freeze_steps={self.freeze_steps!r}."
            )
        if num_processes() != self.world_size:
            raise ValueError(
                f"{num_processes()} processes were started together, but each of them counts only {self.world_size} "
                "and would train a separate model. Without an accelerator, processes share a training only with "
                "use_cpu=True (--use_cpu true)."
            )
        for name in ("learning_rate", "latent_learning_rate"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")

    @property
    def frozen_part(self) -> str | None:
        """What `freeze` names; `None` if nothing is frozen."""
        return None if self.freeze == "none" else self.freeze

    def _check_auxiliary(self) -> None:
        for name in ("auxiliary_weight", "auxiliary_steps"):
            value = getattr(self, name)
            if value is None:
                continue
            if self.auxiliary == "none":
                raise ValueError(f"{name}={value} needs an auxiliary, as auxiliary='bag_of_words'.")
            if value <= 0:
                raise ValueError(
                    f"{name} must be a positive number, got {value!r}. For a training without an auxiliary give "
                    "auxiliary='none'."
                )
        if self.auxiliary_steps is not None and self.auxiliary_steps > 1 and self.auxiliary_steps % 1:
            raise ValueError(
                "auxiliary_steps is a share of the training up to 1, or a whole number of steps above it; got "
                f"{self.auxiliary_steps}."
            )

    def chunking(self) -> dict[str, Any]:
        """The arguments about chunks for the model's `forward` in training."""
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

    def auxiliary_weight_at_step(self, step: int, max_steps: int) -> float:
        """The auxiliary's weight at an optimiser step of a training of `max_steps`; 0 without an auxiliary."""
        if self.auxiliary == "none":
            return 0.0
        weight = DEFAULT_AUXILIARY_WEIGHT if self.auxiliary_weight is None else self.auxiliary_weight
        steps = DEFAULT_AUXILIARY_STEPS if self.auxiliary_steps is None else self.auxiliary_steps
        return auxiliary_weight_at_step(step, max(max_steps, 1), weight, steps)

    def loss(self, outputs: BNVAEOutput, step: int, max_steps: int) -> torch.Tensor:
        """The loss of an optimiser step of a training of `max_steps`, in nats per sentence of the posterior batch.

        Args:
            outputs ([`BNVAEOutput`]): The model's outputs for this process' share of the posterior batch. In a
                distributed training all processes must make this call.
            step (`int`): The step, from 0.
            max_steps (`int`): Length of the whole training.
        """
        beta = self.beta_at_step(step, max_steps)
        if self.regularizer == "kl":
            return training_loss(outputs.reconstruction_nll, outputs.kl, beta, self.free_bits, self.free_bits_mode)
        # Noise from the seed and the step, as for the reparameterisation, but different noise.
        generator = seeded_generator(self.seed, step, DENSITY_GAP_SAMPLES)
        noise = torch.randn(DENSITY_GAP_SAMPLES, *outputs.mean.shape, generator=generator)
        return outputs.reconstruction_nll.mean() + beta * density_gap(outputs.posterior, noise)


def require_safe_strategy(strategy: HubStrategy | str) -> None:
    """
    Refuse strategies that would put optimiser states on the Hub.

    Raises:
        ValueError: if the strategy uploads whole checkpoints.
    """
    if HubStrategy(strategy) in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise ValueError(
            f"hub_strategy={HubStrategy(strategy).value!r} uploads the optimiser's and the random states of "
            "checkpoints, which are pickles. Use 'every_save' (the model of each checkpoint) or 'end'. To resume on "
            "another machine, copy the run's folder."
        )
