# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which adapters of PEFT a training can keep. PEFT itself is imported for a model that has some, never otherwise."""

from torch import nn
from transformers.trainer_utils import unwrap_peft_model

from ..model.modeling_bnvae import has_adapters
from ..model.posterior_bnvae import PosteriorHead


def require_trainable_adapters(model: nn.Module) -> None:
    """
    Refuse adapters with which something of a training would be lost, when it is saved, resumed or merged.

    Args:
        model (`nn.Module`): A model that has adapters.

    Raises:
        ValueError: with what to write instead.
    """
    from peft import PeftModel
    from peft.utils import ModulesToSaveWrapper

    if not isinstance(model, PeftModel):
        raise ValueError(
            "The model has adapters of PEFT, but is no PeftModel: its checkpoints could not be resumed from. Give the "
            "whole model its adapters, model = peft.get_peft_model(model, config), not a part of it, and not by "
            "add_adapter(config)."
        )
    bare = unwrap_peft_model(model)
    if isinstance(bare.posterior, PosteriorHead):
        raise ValueError(
            "The adapter leaves out the posterior head, whose running statistics it would not save, and whose float32 "
            'arithmetic takes no adapters. Name it in the adapter\'s configuration: modules_to_save=["posterior", '
            '"injection"] trains both and saves both with the adapter.'
        )
    for name, module in bare.named_modules():
        num_copied = sum(isinstance(inner, ModulesToSaveWrapper) for inner in module.modules())
        if isinstance(module, ModulesToSaveWrapper) and num_copied > 1:
            children = module.original_module.named_children()
            parts = [f"{name}.{part}" for part, child in children if next(child.parameters(), None) is not None]
            raise ValueError(
                f"modules_to_save goes by the ends of names, and has chosen {name} and a module inside it too. Both "
                f"would be saved under the same names, which cannot be loaded. Name its parts instead: {parts}."
            )
    decoder = bare.get_decoder()
    embeddings = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    adapted = [name for name, module in decoder.named_modules() if module in embeddings and has_adapters(module)]
    if adapted and getattr(decoder.config, "tie_word_embeddings", False):
        raise ValueError(
            f"The decoder's input and output embeddings are one tensor, and an adapter of {', '.join(adapted)} would "
            "be merged into both. Leave them out, with exclude_modules if target_modules is 'all-linear': "
            f"exclude_modules={[name.rpartition('.')[2] for name in adapted]}."
        )
