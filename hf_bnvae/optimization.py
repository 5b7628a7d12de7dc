# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The optimiser that both training scripts use: `Trainer`'s, with a learning rate of their own for the parameters that
start from nothing."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer

from .injection_bnvae import LatentInjection
from .posterior_bnvae import PosteriorHead
from .training_args import BNVAETrainingArguments


def decayed_parameter_names(model: nn.Module) -> list[str]:
    """The names of the parameters that take weight decay: `Trainer`'s choice but for scales and shifts of posterior
    heads, which it would pull to an arbitrary value."""
    free = {id(p) for m in model.modules() if isinstance(m, PosteriorHead) for p in m.set_parameters()}
    excluded = {name for name, parameter in model.named_parameters() if id(parameter) in free}
    return [name for name in Trainer.get_decay_parameter_names(None, model) if name not in excluded]


def parameter_groups(model: nn.Module, args: BNVAETrainingArguments) -> list[dict[str, Any]]:
    """
    The trainable parameters in groups with their weight decay and, for those of posterior head and injection, their
    `latent_learning_rate`.

    Args:
        model ([`BNVAEModel`]): The model.
        args ([`BNVAETrainingArguments`]): The settings.
    """
    decayed = set(decayed_parameter_names(model))
    modules = [m for m in model.modules() if isinstance(m, (PosteriorHead, LatentInjection))]
    latent = {id(p) for module in modules for p in module.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_latent = id(parameter) in latent and args.latent_learning_rate is not None
            groups.setdefault((is_latent, name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": args.weight_decay if is_decayed else 0.0,
            "lr": args.latent_learning_rate if is_latent else args.learning_rate,
        }
        for (is_latent, is_decayed), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]


def optimizer_class_and_kwargs(
    args: BNVAETrainingArguments, model: nn.Module | None = None
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """
    What `args.optim` names and its keyword arguments, `params` among them where a model is given and the optimiser
    does not choose its parameters itself (as GaLore does).
    """
    optimizer_class, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if model is not None and not {"params", "model", "optimizer_dict"} & kwargs.keys():
        kwargs["params"] = parameter_groups(model, args)
    return optimizer_class, kwargs
