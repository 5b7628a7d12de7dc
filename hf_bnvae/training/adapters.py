# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Which adapters of PEFT a training can keep. PEFT is imported only for a model that has adapters."""

from torch import nn
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging

from ..model.modeling_bnvae import has_adapters
from ..model.posterior_bnvae import PosteriorHead

logger = logging.get_logger(__name__)


def require_trainable_adapters(model: nn.Module) -> None:
    """
    Refuse adapters with which saving, resuming or merging would lose a part of the training.

    Args:
        model (`nn.Module`): A model that has adapters.

    Raises:
        ValueError: if something would be lost. The message says what to write instead.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTuner
    from peft.utils import ModulesToSaveWrapper

    if not isinstance(model, PeftModel):
        raise ValueError(
            "The model has adapters of PEFT, but is not a PeftModel: its checkpoints could not be resumed from. Give "
            "the whole model its adapters, model = peft.get_peft_model(model, config). Do not give them to a part of "
            "it, and do not use add_adapter(config)."
        )
    bare = unwrap_peft_model(model)
    if isinstance(bare.posterior, PosteriorHead):
        raise ValueError(
            "The adapter leaves out the posterior head, whose running statistics it would not save. The head computes "
            "in float32 and cannot have adapters. Name it in the adapter's configuration: "
            'modules_to_save=["posterior", "injection"] trains both and saves both with the adapter.'
        )
    tuner, replace_module = type(model.base_model), getattr(BaseTuner, "_replace_module", None)
    if replace_module is not None and getattr(tuner, "_replace_module", None) is replace_module:
        logger.warning(
            f"Adapters of the kind {tuner.__name__.removesuffix('Model')} can be trained and saved, but not merged "
            "into the model: merge_and_unload looks for a `weight` in each module of modules_to_save, and a posterior "
            "head has none. Adapters of LoRA can be merged."
        )
    for name, module in bare.named_modules():
        num_copied = sum(isinstance(inner, ModulesToSaveWrapper) for inner in module.modules())
        if isinstance(module, ModulesToSaveWrapper) and num_copied > 1:
            children = module.original_module.named_children()
            parts = [f"{name}.{part}" for part, child in children if next(child.parameters(), None) is not None]
            raise ValueError(
                f"modules_to_save matches the ends of names. It has chosen {name} and also a module inside it. Both "
                f"would be saved under the same names and could not be loaded. Name its parts instead: {parts}."
            )
    decoder = bare.get_decoder()
    embeddings = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    adapted = [name for name, module in decoder.named_modules() if module in embeddings and has_adapters(module)]
    if adapted and getattr(decoder.config, "tie_word_embeddings", False):
        raise ValueError(
            f"The decoder's input and output embeddings are one tensor, and an adapter of {', '.join(adapted)} would "
            "be merged into both. Leave them out. If target_modules is 'all-linear', use exclude_modules: "
            f"exclude_modules={[name.rpartition('.')[2] for name in adapted]}."
        )
