# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A log line for runs that end before the first one."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy


class ShortRunCallback(TrainerCallback):
    """Logs at the last step of a run that has logged no loss yet, because it has fewer steps than `logging_steps`."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        is_last = state.global_step >= state.max_steps
        if is_last and args.logging_strategy != IntervalStrategy.NO:
            control.should_log |= not any("loss" in entry for entry in state.log_history)
        return control
