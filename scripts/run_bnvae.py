#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Train and evaluate a BN-VAE with `Trainer`, as `hf-bnvae train` does.

Without arguments it trains a small model from scratch, offline, on docstrings of Python and of the packages that this
one needs. `--help` lists the options.
"""

from hf_bnvae.jobs.trainer_loop import train_with_trainer
from hf_bnvae.jobs.training_job import TrainingJob
from hf_bnvae.jobs.training_options import parse_arguments


def main() -> None:
    job = TrainingJob(*parse_arguments(), loop="Trainer")
    run = job.begin()
    if run is not None:
        train_with_trainer(run)


if __name__ == "__main__":
    main()
