"""A pipeline that writes the latents of a folder of texts. As a program: MODEL SOURCE FOLDER TASKS WORKERS."""

import sys
from pathlib import Path

from datatrove.pipeline.readers import JsonlReader

from hf_bnvae.corpus import LatentEncoder, LatentWriter, LocalLatentExecutor

# The latent dimensions of the tests' small model.
SIZE = 8


def executor(model: str, source: str, folder: Path, tasks: int, workers: int = 1) -> LocalLatentExecutor:
    """Latents go to `out` in the folder, logs to `logs`."""
    encoder = LatentEncoder(model, num_draws=1)
    pipeline = [JsonlReader(source), encoder, LatentWriter(str(folder / "out"), encoder)]
    return LocalLatentExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=str(folder / "logs"))


if __name__ == "__main__":
    model, source, folder, tasks, workers = sys.argv[1:]
    executor(model, source, Path(folder), int(tasks), int(workers)).run()
