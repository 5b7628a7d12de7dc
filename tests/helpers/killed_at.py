"""Runs a script that is killed at a chosen moment, as by `kill -9`: python killed_at.py EVENT ENDING COUNT SCRIPT ...

EVENT is one of Python's audit events (`open`, `os.remove`, ...), or `call`. It counts when the name of its file, or of
the function that is called, ends in ENDING. The script is killed at the COUNT-th time. A file that was about to be
written is left empty. Of several processes the last one dies."""

import os
import runpy
import signal
import sys

# Imported before the watching begins, which makes every call slow.
import hf_bnvae.jobs.training_job
import hf_bnvae.training.trainer  # noqa: F401

EVENT, ENDING, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])
times = 0


def watch(event: str, args: tuple) -> None:
    global times
    if event != EVENT or not str(args[0]).endswith(ENDING):
        return
    times += 1
    if times == COUNT:
        if event == "open" and args[2] & os.O_TRUNC:
            os.close(os.open(args[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        os.kill(os.getpid(), signal.SIGKILL)


if int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1:
    sys.addaudithook(watch)
    if EVENT == "call":
        sys.setprofile(lambda frame, event, _: watch(event, (frame.f_code.co_name,)))
sys.argv = sys.argv[4:]
runpy.run_path(sys.argv[0], run_name="__main__")
