# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The judges of a benchmark's models: a language model that is trained on the same texts, and a packaged encoder."""

import shutil
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    CONFIG_NAME,
    DataCollatorForLanguageModeling,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
)

from ..training.from_scratch import small_configs, train_processor
from .commands import Options
from .packaged import PACKAGED_ENCODER, packaged_encoder

# Two passes over all training texts.
TRAINING: dict[str, Any] = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 64,
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "lr_scheduler_type": "cosine",
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "seed": 1,
}


def judge_options(folder: Path, is_pair_judged: bool = False) -> Options:
    """
    The options of an evaluation that name the judges.

    Args:
        folder (`Path`): The folder of the benchmark. The language model lies in it, or will.
        is_pair_judged (`bool`, *optional*, defaults to `False`): Whether the judged models contain the packaged
            encoder. It is then no judge, and the language model's hidden states are used instead.
    """
    language_model = folder / "judge"
    encoder = None if is_pair_judged else packaged_encoder()
    return {"judge_language_model": language_model, "judge_encoder": encoder or language_model}


def judge_names(options: Options) -> dict[str, str]:
    """What pages call the judges in the options that [`judge_options`] returned."""
    language_model = "a language model of two layers of width 128"
    is_packaged = options["judge_encoder"] == packaged_encoder()
    return {
        "language_model": language_model,
        "encoder": PACKAGED_ENCODER if is_packaged else "that language model",
    }


def train_judge(texts: list[str], folder: Path, **training: Any) -> Path:
    """
    A causal language model without a latent, two layers of width 128, trained on the benchmark's training texts alone.
    It shares neither weights nor seed with any judged model. A judge that lies in the folder is not trained again.

    Args:
        texts (`list[str]`): The training texts.
        folder (`Path`): The folder of the judge.
        **training: Arguments of `TrainingArguments` that replace those in `TRAINING`.

    Returns:
        `Path`: The folder, with model and tokenizer.
    """
    if (folder / CONFIG_NAME).is_file():
        return folder
    processor = train_processor(texts)
    tokenizer = processor.tokenizer
    _, config = small_configs(processor)
    torch.manual_seed(TRAINING["seed"])
    # Each text between BOS and EOS; longer ones are cut.
    most = tokenizer.model_max_length - 2
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    dataset = Dataset.from_dict({"input_ids": [[start, *ids[:most], end] for ids in rows]})
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=TrainingArguments(output_dir=str(partial), **{**TRAINING, **training}),
        train_dataset=dataset,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    trainer.model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder
