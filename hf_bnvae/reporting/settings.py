# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What each option of a training does to the run: one table for resuming, commands, model cards and help."""

from enum import Flag, auto
from fnmatch import fnmatchcase


class Role(Flag):
    """What is special about an option."""

    #: Changes what a run prints, keeps or needs, but not the trained model. A run resumes with any value of it.
    FREE = auto()
    #: Stands in no recorded command: a place, a secret, or how a run is reported.
    UNRECORDED = auto()
    #: A model card shows it.
    SHOWN = auto()
    #: Always an error here, so no help offers it.
    REFUSED = auto()
    #: `Trainer` has it, and the loop of `scripts/run_bnvae_no_trainer.py` does not.
    TRAINER_ONLY = auto()


# Names, or patterns of names. All patterns that match a name count. A card shows settings in this order.
ROLES: dict[str, Role] = {
    "num_train_epochs": Role.SHOWN,
    "max_steps": Role.SHOWN,
    "per_device_train_batch_size": Role.SHOWN,
    "gradient_accumulation_steps": Role.SHOWN,
    "processes": Role.SHOWN,
    "learning_rate": Role.SHOWN,
    "latent_learning_rate": Role.SHOWN,
    "lr_scheduler_type": Role.SHOWN,
    "warmup_steps": Role.SHOWN,
    "weight_decay": Role.SHOWN,
    "max_grad_norm": Role.SHOWN,
    "optim": Role.SHOWN,
    "freeze": Role.SHOWN,
    "freeze_steps": Role.SHOWN,
    "regularizer": Role.SHOWN,
    "beta": Role.SHOWN,
    "beta_schedule": Role.SHOWN,
    "free_bits": Role.SHOWN,
    "free_bits_mode": Role.SHOWN,
    "auxiliary": Role.SHOWN,
    "auxiliary_weight": Role.SHOWN,
    "auxiliary_steps": Role.SHOWN,
    "prior": Role.SHOWN,
    "mixed_precision": Role.SHOWN,
    "seed": Role.SHOWN,
    "auto_find_batch_size": Role.TRAINER_ONLY,
    "checkpoint_chunks": Role.FREE,
    "chunk_size": Role.FREE,
    "dataloader_num*": Role.FREE,
    "dataloader_p*": Role.FREE,
    "dataloader_persistent_workers": Role.TRAINER_ONLY,
    "ddp_backend": Role.FREE,
    "ddp_timeout": Role.FREE,
    "deepspeed": Role.TRAINER_ONLY,
    "disable_tqdm": Role.FREE | Role.UNRECORDED,
    "do_eval": Role.FREE,
    "do_predict": Role.REFUSED,
    "do_train": Role.FREE,
    "eval_*": Role.FREE,
    "fsdp": Role.TRAINER_ONLY,
    "full_determinism": Role.TRAINER_ONLY,
    "hub_*": Role.FREE | Role.UNRECORDED,
    "ignore_data_skip": Role.TRAINER_ONLY,
    "include_num_input_tokens_seen": Role.FREE | Role.TRAINER_ONLY,
    "label_smoothing_factor": Role.TRAINER_ONLY,
    "language": Role.UNRECORDED,
    "license": Role.UNRECORDED,
    "load_best_model_at_end": Role.TRAINER_ONLY,
    "local_rank": Role.FREE,
    "log_*": Role.FREE | Role.UNRECORDED,
    "logging_*": Role.FREE | Role.UNRECORDED,
    "neftune_noise_alpha": Role.TRAINER_ONLY,
    "num_statistics_batches": Role.FREE,
    "output_dir": Role.FREE | Role.UNRECORDED,
    "per_device_eval_batch_size": Role.FREE,
    "preprocessing_*": Role.FREE | Role.UNRECORDED,
    "project": Role.FREE,
    "push_to_hub": Role.FREE | Role.UNRECORDED,
    "report_to": Role.FREE | Role.UNRECORDED,
    "resume_from_checkpoint": Role.REFUSED,
    "run_name": Role.FREE | Role.UNRECORDED,
    "save_*": Role.FREE,
    "save_only_model": Role.REFUSED | Role.TRAINER_ONLY,
    "skip_memory_metrics": Role.FREE,
    "token": Role.FREE | Role.UNRECORDED,
    "torch_compile": Role.TRAINER_ONLY,
    "torch_empty*": Role.FREE,
    "torch_empty_cache_steps": Role.TRAINER_ONLY,
    "trackio_*": Role.FREE,
    "use_liger_kernel": Role.FREE | Role.TRAINER_ONLY,
}


def has_role(name: str, role: Role) -> bool:
    """Whether the option `name` has a role."""
    return any(role in roles and fnmatchcase(name, pattern) for pattern, roles in ROLES.items())


def names_with_role(role: Role) -> list[str]:
    """The names and patterns that have a role, in the order of the table."""
    return [name for name, roles in ROLES.items() if role in roles]
