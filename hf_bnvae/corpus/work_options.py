# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Options that the commands of this room share: the model, and how the work is divided."""

from typing import Any

from ..jobs.text_generation import add_model_options

# Rows of a task, by default.
ROWS_OF_A_TASK = 50_000


def add_running_options(parser: Any, what: str) -> None:
    """
    Which model, and where it runs.

    Args:
        parser (`argparse.ArgumentParser`): The parser of a command.
        what (`str`): What the model does.
    """
    model = parser.add_argument_group("model", f"Which model {what}, and where it runs.")
    add_model_options(model)
    model.add_argument("--device", help="Where to run. Without it: on a GPU if there is one.")
    model.add_argument("--dtype", choices=["float32", "bfloat16"], help="Its precision (default: as saved).")
    model.add_argument("--batch_size", type=int, default=64, help="How many at once (default: 64).")


def add_work_options(parser: Any) -> None:
    """
    How the work is divided.

    Args:
        parser (`argparse.ArgumentParser`): The parser of a command.
    """
    work = parser.add_argument_group("work", "How the work is divided.")
    work.add_argument("--tasks", type=int, help=f"Number of files. Without it: one for {ROWS_OF_A_TASK:,} rows.")
    work.add_argument("--workers", type=int, default=1, help="Tasks at the same time (default: 1).")
    work.add_argument(
        "--executor",
        choices=["local", "slurm", "ray"],
        default="local",
        help="Where tasks run: in processes of this machine, as a job of Slurm, or on a cluster of Ray (default: "
        "local).",
    )
    work.add_argument(
        "--executor_options",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="Options of datatrove's executor: partition=gpu time=10:00:00 gpus_per_task=1.",
    )
    work.add_argument("--logging_dir", help="Folder for datatrove's logs. Without it: OUTPUT-logs.")
    work.add_argument("--disable_tqdm", action="store_true", help="Draw no progress bar.")
