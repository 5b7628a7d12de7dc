# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The training of one job with `Trainer`."""

from ..training.trainer import BNVAETrainer
from .training_job import TrainingJob


def train_with_trainer(job: TrainingJob) -> None:
    """
    Train, evaluate, report, and push if that was asked for.

    Args:
        job ([`TrainingJob`]): A job whose [`~TrainingJob.begin`] has returned `True`.
    """
    trainer = BNVAETrainer(
        model=job.model,
        args=job.training_args,
        train_dataset=job.train_dataset,
        eval_dataset=job.eval_dataset,
        processing_class=job.processor,
    )
    if job.training_args.do_train:
        output = trainer.train(resume_from_checkpoint=job.checkpoint)
        trainer.save_model(_internal_call=True)  # the job pushes later, together with the figures
        trainer.log_metrics("train", output.metrics)
        trainer.save_metrics("train", output.metrics)
        trainer.save_state()
    if not job.part():
        return
    if job.training_args.do_eval:
        trainer.save_metrics("eval", job.evaluate())
    job.finish()
