# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The optimiser of both training scripts: `Trainer`'s optimiser, with a separate learning rate for the parameters that
are not pretrained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Trainer

from ..model.injection_bnvae import LatentInjection
from ..model.posterior_bnvae import PosteriorHead
from ..utils.checkpoints import describe_last_checkpoint
from .training_args import BNVAETrainingArguments


def decayed_parameter_names(model: nn.Module) -> list[str]:
    """The names of the parameters that take weight decay: `Trainer`'s choice without scales and shifts of posterior
    heads. Weight decay would pull these to an arbitrary value."""
    free = {id(p) for m in model.modules() if isinstance(m, PosteriorHead) for p in m.scale_and_shift_parameters()}
    excluded = {name for name, parameter in model.named_parameters() if id(parameter) in free}
    return [name for name in Trainer.get_decay_parameter_names(None, model) if name not in excluded]


def parameter_groups(model: nn.Module, args: BNVAETrainingArguments) -> list[dict[str, Any]]:
    """
    The trainable parameters in groups, each with its weight decay and learning rate.

    Parameters of posterior head and injection have `latent_learning_rate`. Parameters of a network that is frozen in
    the first steps only are marked `is_held`.

    Args:
        model ([`BNVAEModel`]): The model.
        args ([`BNVAETrainingArguments`]): The settings.
    """
    decayed = set(decayed_parameter_names(model))
    modules = [m for m in model.modules() if isinstance(m, (PosteriorHead, LatentInjection))]
    latent = {id(p) for module in modules for p in module.parameters()}
    held = {
        id(p)
        for part in ("encoder", "decoder")
        if args.freeze_steps is not None and args.freeze in (part, "both")
        for p in getattr(model, part).parameters()
    }
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_latent = id(parameter) in latent and args.latent_learning_rate is not None
            groups.setdefault((id(parameter) in held, is_latent, name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": args.weight_decay if is_decayed else 0.0,
            "lr": args.latent_learning_rate if is_latent else args.learning_rate,
            "is_held": is_held,
        }
        for (is_held, is_latent, is_decayed), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def optimizer_class_and_kwargs(
    args: BNVAETrainingArguments, model: nn.Module | None = None
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """
    The optimiser class that `args.optim` names, and its keyword arguments.

    They include `params` if a model is given, unless the optimiser chooses its parameters itself (as GaLore does).
    """
    optimizer_class, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if model is not None and not {"params", "model", "optimizer_dict"} & kwargs.keys():
        kwargs["params"] = parameter_groups(model, args)
    return optimizer_class, kwargs


def hold_first_steps(scheduler: LRScheduler, args: BNVAETrainingArguments) -> LRScheduler:
    """
    The given schedule, but 0 in the first `freeze_steps` steps for the parameters marked `is_held`.

    These parameters take gradients all the time. So the optimiser's averages of the gradients are ready when the
    parameters begin to move, and processes share the gradients as for all parameters.

    Args:
        scheduler (`LRScheduler`): The schedule that `Trainer` made.
        args ([`BNVAETrainingArguments`]): The settings.

    Raises:
        ValueError: if the schedule is not a function of the step, or if no group of the optimiser is marked `is_held`.
    """
    if args.freeze_steps is None:
        return scheduler
    if not isinstance(scheduler, LambdaLR):
        raise ValueError(
            f"freeze_steps needs a schedule that is a function of the step (linear, cosine, ...), got "
            f"lr_scheduler_type={args.lr_scheduler_type!r}."
        )

    def held(factor: Callable[[int], float]) -> Callable[[int], float]:
        return lambda step: 0.0 if step < args.freeze_steps else factor(step)

    groups = scheduler.optimizer.param_groups
    if not any(group.get("is_held") for group in groups):
        raise ValueError(
            f"freeze_steps={args.freeze_steps} found nothing of freeze={args.freeze!r} in the optimiser. Let the "
            "trainer make the optimiser, and use one that takes parameters in groups."
        )
    factors = zip(groups, scheduler.lr_lambdas, strict=True)
    return LambdaLR(scheduler.optimizer, [held(f) if group.get("is_held") else f for group, f in factors])


def require_finite_loss(loss: torch.Tensor, step: int, folder: str | Path) -> None:
    """
    Stop a training whose loss is not finite.

    Args:
        loss (`torch.Tensor`): The loss, 0-dimensional.
        step (`int`): The step of this loss, from 1.
        folder (`str`): The run's folder.

    Raises:
        FloatingPointError: if the loss is not finite. The message names the last good checkpoint and remedies.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"The loss became {loss.item()} at step {step}, so the training stops; the parameters were not updated "
            f"with it. The last good checkpoint is {describe_last_checkpoint(folder)}. Lower learning_rate or "
            "latent_learning_rate, clip gradients (max_grad_norm), or use bf16 instead of fp16."
        )
