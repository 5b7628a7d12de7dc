# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of the training loop: `BNVAETrainingArguments` for a command."""

from dataclasses import dataclass, field

import torch

from ..reporting.commands import PROGRAM
from ..training.training_args import BNVAETrainingArguments
from .arguments import DEFAULT_OUTPUT_DIR


@dataclass
class ScriptTrainingArguments(BNVAETrainingArguments):
    """`BNVAETrainingArguments` with a default folder. Without `do_train` and `do_eval`, both steps happen."""

    output_dir: str = field(default=DEFAULT_OUTPUT_DIR, metadata={"help": "Folder for the model and its results."})
    log_level_replica: str = field(
        default="error", metadata={"help": "Log level of all processes except the main one."}
    )

    def __post_init__(self) -> None:
        if self.do_predict:
            raise ValueError("do_predict does nothing here. Use do_eval for figures and examples.")
        if self.resume_from_checkpoint is not None:
            raise ValueError(
                "resume_from_checkpoint is not needed: the same command again resumes an unfinished run from its last "
                "checkpoint. To train another model further, give model_name_or_path and a new output_dir."
            )
        if self.save_only_model:
            raise ValueError(
                "save_only_model saves checkpoints from which an unfinished run cannot be resumed. To keep fewer "
                "checkpoints, use save_total_limit."
            )
        if not (self.do_train or self.do_eval):
            self.do_train = self.do_eval = True
        if self.push_to_hub and not self.do_train:
            raise ValueError(
                "push_to_hub uploads the trained model, and without do_train there is none. Push a saved model with "
                f"`{PROGRAM} push`."
            )
        only_trains = self.do_train and not self.do_eval
        # Pinned memory speeds up copies to an accelerator. Without an accelerator torch warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        super().__post_init__()
        if only_trains:
            # A strategy for evaluations during the training would ask for one after it.
            self.do_eval = False
