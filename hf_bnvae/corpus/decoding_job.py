# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""`hf-bnvae decode` from its options to its folder of texts."""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import Stats

from ..jobs.text_generation import decoding_settings
from .corpus_job import CorpusJob
from .latent_decoder import LatentDecoder
from .latent_reader import LatentReader
from .model_step import COORDINATES, WHITENED
from .text_writer import TextWriter
from .work_options import ROWS_OF_A_TASK

# What files must say alike to be of one encoding.
_ORIGIN = ("model", "weights_sha256", "texts", COORDINATES, "encoder_dtype", "latent_dtype", "seed")

# The entry of the metadata for conditions that are not copied.
_CONDITION = "condition_to_decode"


class DecodingJob(CorpusJob):
    """
    The decoding of files of latents.

    Args:
        args (`argparse.Namespace`): The options of [`decoding_parser`].

    Raises:
        ValueError: for options that do not fit together, for latents or a model that cannot be read, for latents of
            another model, and for a folder that holds other files or the texts of another command.
    """

    settings_file = "decoding.json"
    source, product = "latents", "texts"

    def _plan(self) -> tuple[Sequence[PipelineStep], int, int]:
        args, settings = self.args, decoding_settings(self.args)
        place = args.latents
        if args.executor != "local" and "://" not in place:  # tasks may start in another folder
            place = os.path.abspath(place)
        columns = dict(_renamed(column) for column in args.columns)
        conditions = {} if args.condition_column is None else {args.condition_column: _CONDITION}
        read = {**conditions, **columns}
        reader = LatentReader(place, column=args.latent_column, id_column=args.id_column, columns=read)
        self._told = reader.description
        whitened = args.whitened or self._told.get(COORDINATES) == WHITENED
        decoder = LatentDecoder(
            args.model_name_or_path,
            revision=args.revision,
            trust_remote_code=args.trust_remote_code,
            whitened=whitened,
            seed=args.seed,
            dtype=args.dtype,
            device=args.device,
            batch_size=args.batch_size,
            condition_column=read.get(args.condition_column),
            **settings,
        )
        decoder.require_condition_column()
        self._require_own_latents(reader, decoder)
        # A model or options that cannot be used end the command here, before the tasks begin.
        list(decoder.run(islice(reader.run(), 1)))
        decoder.stats = Stats(str(decoder))
        writer = TextWriter(
            args.output,
            decoder,
            columns={entry: reader.types[column] for column, entry in columns.items()},
            description={
                "latents": _name_of(args.latents),
                "latent_column": args.latent_column,
                **self._told_of_conditions(),
            },
        )
        tasks = args.tasks or max(1, math.ceil(reader.num_rows / ROWS_OF_A_TASK))
        return [reader, decoder, writer], reader.num_rows, tasks

    def _own_settings(self) -> dict[str, Any]:
        told = {f"latents_{name}": self._told[name] for name in _ORIGIN if name in self._told}
        content = {"num_latents": self.num_rows, "latents_sha256": self.steps[0].content}
        return {**content, "id_column": self.args.id_column, "copied_columns": self.args.columns, **told}

    def _require_own_latents(self, reader: LatentReader, decoder: LatentDecoder) -> None:
        """Refuse latents that cannot be the model's."""
        name, size = self.args.model_name_or_path, decoder.config.latent_size
        kind = reader.types[reader.column]
        if pyarrow.types.is_fixed_size_list(kind) and kind.list_size != size:
            raise ValueError(f"{reader.place} holds latents of {kind.list_size} numbers, and {name} has {size}.")
        weights = self._told.get("weights_sha256")
        if weights not in (None, decoder.description["weights_sha256"]) and not self.args.any_latents:
            raise ValueError(
                f"{reader.place} holds latents of {self._told.get('model')}, whose weights are not those of {name}. "
                "Take the model that encoded them, or give --any_latents if this one can read them, too."
            )

    def _count_in_words(self, counts: Mapping[str, int]) -> str:
        found = {name: f"{counts.get(name, 0):,}" for name in ("decoded", "empty", "unreadable")}
        return (
            f"{found['decoded']} decoded; {found['empty']} empty latents and {found['unreadable']} that are not "
            f"finite{self._missing_conditions(counts)}, which have no text"
        )


def _renamed(word: str) -> tuple[str, str]:
    """A column and its name beside the texts: `text=original`, or a name alone."""
    column, _, name = word.partition("=")
    return column, name or column


def _name_of(place: str) -> str:
    """The last part of a path of this machine, also of a pattern; an address as it is."""
    return place if "://" in place else Path(place).name
