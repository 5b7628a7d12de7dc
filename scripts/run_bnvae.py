#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Train and evaluate a BN-VAE with `Trainer`.

With no arguments it trains a small model from scratch on docstrings of Python and of the packages that this one needs,
offline.
`--help` lists the options; a JSON or YAML file of them can be given in their place.
"""

from hf_bnvae.jobs.arguments import parse_arguments
from hf_bnvae.jobs.training_job import TrainingJob, leave_process_group
from hf_bnvae.training.trainer import BNVAETrainer


def main() -> None:
    job = TrainingJob(*parse_arguments(), loop="Trainer")
    run = job.begin()
    if run is None:
        return
    trainer = BNVAETrainer(
        model=run.model,
        args=job.training_args,
        train_dataset=run.train_dataset,
        eval_dataset=run.eval_dataset,
        processing_class=run.processor,
    )
    if job.training_args.do_train:
        output = trainer.train(resume_from_checkpoint=run.checkpoint)
        trainer.save_model(_internal_call=True)  # the run pushes when there are figures, too
        trainer.log_metrics("train", output.metrics)
        trainer.save_metrics("train", output.metrics)
        trainer.save_state()
    leave_process_group()
    if not job.is_main:
        return
    if job.training_args.do_eval:
        trainer.save_metrics("eval", run.evaluate())
    run.finish()


if __name__ == "__main__":
    main()
