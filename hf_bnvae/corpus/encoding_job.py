# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""`hf-bnvae encode` from its options to its folder: texts, tasks, files of latents, and a summary."""

import argparse
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow import parquet
from tqdm.auto import tqdm

from ..data.corpora import texts_hash
from ..data.text_format import TextFormat
from .encoding_options import ROWS_OF_A_TASK
from .latent_encoder import LatentEncoder
from .latent_writer import PREFIX, LatentWriter, LocalLatentExecutor
from .text_reader import TextReader, rows_of_task

# What the folder is, as JSON. A relaunch must agree with it.
SETTINGS_FILE = "encoding.json"
_COUNTS = ("encoded", "truncated", "empty", "unreadable")


class EncodingJob:
    """
    The encoding of a corpus.

    Args:
        args (`argparse.Namespace`): The options of [`encoding_parser`].

    Raises:
        ValueError: for options that do not fit together, for texts or a model that cannot be read, and for a folder
            that holds other files or the latents of another command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        for name, least in (("tasks", 1), ("workers", 1), ("seed", 0)):
            value = getattr(args, name)
            if value is not None and value < least:
                raise ValueError(f"--{name} must be at least {least}, got {value}.")
        if bool(args.inputs) == (args.dataset_name is not None):
            raise ValueError("Give either files to encode, ahead of the folder to write, or --dataset_name.")
        if args.token is not None:
            os.environ["HF_TOKEN"] = args.token  # also of the processes that the executor starts
        self.reader = TextReader(
            args.inputs or None,
            dataset_name=args.dataset_name,
            dataset_config_name=args.dataset_config_name,
            dataset_split=args.dataset_split,
            text_column=args.text_column,
            id_column=args.id_column,
            columns=args.columns,
            text_format=TextFormat(args.encoding, args.delimiter, args.quotechar, has_header=not args.no_header),
            max_samples=args.max_samples,
        )
        self.encoder = LatentEncoder(
            args.model_name_or_path,
            revision=args.revision,
            trust_remote_code=args.trust_remote_code,
            with_logvar=args.with_logvar,
            num_draws=args.num_draws,
            seed=args.seed,
            whiten=args.whiten,
            dtype=args.dtype,
            device=args.device,
            batch_size=args.batch_size,
        )
        self.encoder.load()  # a model that cannot be used ends the command here, before the tasks begin
        rows, text_column = self.reader.load()
        self.num_rows, self._hash = len(rows), texts_hash(map(str, rows[text_column]))
        self.tasks = args.tasks or max(1, math.ceil(self.num_rows / ROWS_OF_A_TASK))
        columns = dict(zip(rows.data.schema.names, rows.data.schema.types, strict=True))
        self.writer = LatentWriter(
            args.output,
            self.encoder,
            dtype=args.latent_dtype,
            with_text=args.with_text,
            columns={name: columns[name] for name in args.columns},
            description={"texts": self.reader.title, "text_column": text_column},
        )
        self.settings = self._settings()

    def run(self) -> str:
        """
        Make the files that are not there.

        Returns:
            `str`: A summary: documents, counts, seconds, bytes.
        """
        self._claim_folder()
        executor = LocalLatentExecutor(
            [self.reader, self.encoder, self.writer],
            tasks=self.tasks,
            workers=min(self.args.workers, self.tasks),
            logging_dir=self._logging_dir(),
            is_quiet=True,
        )
        missing = executor.get_incomplete_ranks()
        began = time.monotonic()
        if self.args.workers > 1:
            share = max(1, (os.cpu_count() or 1) // self.args.workers)
            os.environ.setdefault("OMP_NUM_THREADS", str(share))  # of the processes that the executor starts
        with self._progress(missing):
            statistics = executor.run()
        return self._summary(len(missing), time.monotonic() - began, statistics)

    def _settings(self) -> dict[str, Any]:
        """What makes two commands write the same files."""
        told = {name.decode(): value.decode() for name, value in self.writer.metadata_of(self.tasks).items()}
        settings = {name.removeprefix(PREFIX): value for name, value in told.items()}
        columns = [f"{field.name}: {field.type}" for field in self.writer.schema]
        texts = {"num_texts": self.num_rows, "texts_sha256": self._hash, "id_column": self.args.id_column}
        return settings | {"columns": columns, **texts}

    def _claim_folder(self) -> None:
        """Write down what the folder holds. Refuse a folder of something else."""
        folder = self.writer.output_folder
        if folder.isfile(SETTINGS_FILE):
            with folder.open(SETTINGS_FILE, "r") as file:
                found = json.load(file)
            differences = [
                f"{name} differs" if name.endswith("_sha256") else f"{name}: {found.get(name)!r}, not {value!r}"
                for name, value in sorted((dict.fromkeys(found) | self.settings).items())
                if found.get(name) != value
            ]
            if differences:
                raise ValueError(
                    f"{self.args.output} holds latents of another command ({'; '.join(differences)}). Choose another "
                    "folder."
                )
            return
        others = folder.ls("", detail=False) if folder.isdir("") else []
        if others:
            raise ValueError(f"{self.args.output} is not empty, and holds no latents. Choose another folder.")
        with folder.open(SETTINGS_FILE, "w") as file:
            json.dump(self.settings, file, indent=2, ensure_ascii=False)

    def _logging_dir(self) -> str:
        if self.args.logging_dir is not None:
            return self.args.logging_dir
        is_local = self.writer.output_folder.is_local()
        return os.path.abspath(f"{self.args.output.rstrip('/')}-logs" if is_local else "encode-logs")

    def _rows_of(self, rank: int) -> int:
        return len(rows_of_task(self.num_rows, rank, self.tasks))

    @contextmanager
    def _progress(self, missing: list[int]) -> Iterator[None]:
        """A bar that moves when a file appears."""
        left, ended = set(missing), threading.Event()
        total = sum(map(self._rows_of, missing))

        def watch() -> None:
            with tqdm(total=total, unit=" texts", desc="Encoding", disable=self.args.disable_tqdm, leave=False) as bar:
                while left and not ended.wait(1.0):
                    done = {rank for rank in left if self.writer.is_done(rank)}
                    left.difference_update(done)
                    bar.update(sum(map(self._rows_of, done)))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _summary(self, num_made: int, seconds: float, statistics: Any) -> str:
        folder = self.writer.output_folder
        names = [self.writer.file_of(rank) for rank in range(self.tasks)]
        size, num_latents = sum(folder.size(name) for name in names), 0
        for name in names:
            with folder.open(name, "rb") as file:
                num_latents += parquet.read_metadata(file).num_rows
        lines = [f"{num_latents:,} latents of {self.num_rows:,} texts in {self.tasks} files, {size:,} bytes."]
        if num_made < self.tasks:
            lines.append(f"{self.tasks - num_made} of the files were there already.")
        if num_made:
            found = statistics.stats[1].stats  # of the encoder
            counts = {name: found[name].total if name in found else 0 for name in _COUNTS}
            lines.append(
                f"In this call: {counts['encoded']:,} encoded, of which {counts['truncated']:,} were cut; "
                f"{counts['empty']:,} empty and {counts['unreadable']:,} unreadable, which have no latent; "
                f"{seconds:,.0f} seconds, {counts['encoded'] / max(seconds, 1e-9):,.0f} texts a second."
            )
        return "\n".join(lines)
