#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a saved BN-VAE: figures, pictures of its latent space, and what a classifier reads off it, in one folder.

    run_evaluation.py --model_name_or_path runs/bnvae
    run_evaluation.py --model_name_or_path runs/reviews --file test.csv --text_column review --label_column stars

Without --file or --dataset_name the script takes the texts that the training script held out. It writes report.md,
report.json and, with the extra `plots`, PNG pictures to evaluations/<model>-<texts>, or to --output_dir.
--label_column needs the extra `probe`.
"""

import argparse

from transformers import HfArgumentParser

from hf_bnvae.jobs.evaluation_arguments import EvaluationArguments
from hf_bnvae.jobs.evaluation_job import EvaluationJob


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is, and the options with their defaults."""


def main() -> None:
    parser = HfArgumentParser(EvaluationArguments, description=__doc__, formatter_class=HelpFormatter)
    try:
        (args,) = parser.parse_args_into_dataclasses()
        print(EvaluationJob(args).run())
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"Written to {args.path}.")


if __name__ == "__main__":
    main()
