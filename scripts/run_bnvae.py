#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Train and evaluate a BN-VAE with `Trainer`.

With no arguments it trains a small model from scratch on docstrings of Python and of the packages that this one needs,
offline.
`--help` lists the options; a JSON or YAML file of them can be given in their place.
"""

from hf_bnvae.jobs.arguments import parse_arguments
from hf_bnvae.jobs.training_job import TrainingJob
from hf_bnvae.training.trainer import BNVAETrainer


def main() -> None:
    job = TrainingJob(*parse_arguments(), loop="Trainer")
    if not job.begin():
        return
    trainer = BNVAETrainer(
        model=job.model,
        args=job.training_args,
        train_dataset=job.train_dataset,
        eval_dataset=job.eval_dataset,
        processing_class=job.processor,
    )
    if job.training_args.do_train:
        output = trainer.train(resume_from_checkpoint=job.checkpoint)
        trainer.save_model(_internal_call=True)  # the job pushes when there are figures, too
        trainer.log_metrics("train", output.metrics)
        trainer.save_metrics("train", output.metrics)
        trainer.save_state()
    if not job.part():
        return
    if job.training_args.do_eval:
        trainer.save_metrics("eval", job.evaluate())
    job.finish()


if __name__ == "__main__":
    main()
