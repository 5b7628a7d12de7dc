# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A training as a program: mistakes in one line, and what is left after an interruption."""

import errno
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ..utils.memory import is_out_of_memory
from ..utils.terminal import say
from .option_parser import TOO_LITTLE_MEMORY, user_errors
from .training_options import parse_arguments

if TYPE_CHECKING:
    from .training_arguments import ScriptTrainingArguments
    from .training_job import StartedRun

# With less space than this no file of a checkpoint can be written.
_FULL_BYTES = 1 << 20


def begin_training(
    argv: Sequence[str] | None, loop: str, check: "Callable[[ScriptTrainingArguments], None] | None" = None
) -> "StartedRun | None":
    """
    Read the options of a training and begin it. A mistake that a user can mend ends the process with one line.

    Args:
        argv (`Sequence[str]`, *optional*): As in [`parse_arguments`].
        loop (`str`): As in [`TrainingJob`].
        check (callable, *optional*): Refuses options that the loop does not have, by a `ValueError`.

    Returns:
        [`StartedRun`]: As [`~TrainingJob.begin`].
    """
    with user_errors((ValueError, OSError, ImportError)):
        arguments = parse_arguments(argv, loop)
        # Only now, so that help is quick.
        from .training_job import TrainingJob

        job = TrainingJob(*arguments, loop=loop)
        if check is not None:
            check(job.training_args)
        return job.begin()


@contextmanager
def interruptions_explained(run: "StartedRun") -> Iterator[None]:
    """
    Where a training is interrupted, by Ctrl-C, SIGTERM, a full disk or too little memory, say what is kept and how to
    go on, and end the process.

    Args:
        run ([`StartedRun`]): The run.

    Raises:
        SystemExit: after an interruption, with the shell's usual status: 130, 143, and 1 for a full disk or memory.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _terminate) if is_main_thread else None
    try:
        yield
    except (KeyboardInterrupt, _Terminated, Exception) as error:
        status = _status_of(error, run.job.path)
        if status is None:
            raise
        if run.job.is_main:
            what = {130: "Interrupted.", 143: "Terminated.", 1: f"The disk of {run.job.path} is full."}[status]
            if is_out_of_memory(error):
                what = (
                    f"{TOO_LITTLE_MEMORY} Half of --per_device_train_batch_size with twice the "
                    "--gradient_accumulation_steps is the same training."
                )
            say(f"\n{what} {_what_is_kept(run.job.path)}", file=sys.stderr)
        raise SystemExit(status) from error
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """The process got SIGTERM."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _status_of(error: BaseException, path: Path) -> int | None:
    """The exit status after an interruption; `None` for an error that is none."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, _Terminated):
        return 143
    if is_out_of_memory(error):
        return 1
    is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    # Torch does not say why it cannot write.
    return 1 if is_full or shutil.disk_usage(path).free < _FULL_BYTES else None


def _what_is_kept(path: Path) -> str:
    # Here, because help needs nothing of `Trainer`.
    from ..utils.checkpoints import describe_last_checkpoint, last_complete_checkpoint

    checkpoint = last_complete_checkpoint(path)
    if checkpoint is not None:
        return f"Kept: {checkpoint}. The same command goes on from it."
    return (
        f"The last checkpoint is {describe_last_checkpoint(path)}. The same command begins anew; `--save_strategy "
        "steps --save_steps 100` writes checkpoints sooner."
    )
