# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The training of one job with `Trainer`."""

from ..training.trainer import BNVAETrainer
from .training_job import StartedRun, leave_process_group


def train_with_trainer(run: StartedRun) -> None:
    """
    Train, evaluate, report, and push if that was asked for.

    Args:
        run ([`StartedRun`]): What [`~TrainingJob.begin`] has returned.
    """
    args = run.job.training_args
    trainer = BNVAETrainer(
        model=run.model,
        args=args,
        train_dataset=run.train_dataset,
        eval_dataset=run.eval_dataset,
        processing_class=run.processor,
    )
    if args.do_train:
        output = trainer.train(resume_from_checkpoint=run.checkpoint)
        trainer.save_model(_internal_call=True)  # the run pushes later, together with the figures
        trainer.log_metrics("train", output.metrics)
        trainer.save_metrics("train", output.metrics)
        trainer.save_state()
    leave_process_group()
    if not run.job.is_main:
        return
    if args.do_eval:
        trainer.save_metrics("eval", run.evaluate())
    run.finish()
