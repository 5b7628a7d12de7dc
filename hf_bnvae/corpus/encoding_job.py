# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""`hf-bnvae encode` from its options to its folder of latents."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from datatrove.pipeline.base import PipelineStep

from ..data.corpora import require_conditions
from ..data.text_format import TextFormat
from .corpus_job import CorpusJob
from .latent_encoder import LatentEncoder
from .latent_writer import LatentWriter
from .text_reader import TextReader
from .work_options import ROWS_OF_A_TASK


class EncodingJob(CorpusJob):
    """
    The encoding of a corpus.

    Args:
        args (`argparse.Namespace`): The options of [`encoding_parser`].

    Raises:
        ValueError: for options that do not fit together, for texts or a model that cannot be read, and for a folder
            that holds other files or the latents of another command.
    """

    settings_file = "encoding.json"
    source, product = "texts", "latents"

    def _plan(self) -> tuple[Sequence[PipelineStep], int, int]:
        args = self.args
        if bool(args.inputs) == (args.dataset_name is not None):
            raise ValueError("Give either files to encode, ahead of the folder to write, or --dataset_name.")
        inputs = args.inputs
        if args.executor != "local":  # tasks may start in another folder
            inputs = [name if "://" in name else os.path.abspath(name) for name in inputs]
            if args.dataset_name is not None and os.path.isdir(args.dataset_name):
                args.dataset_name = os.path.abspath(args.dataset_name)
        reader = TextReader(
            inputs or None,
            dataset_name=args.dataset_name,
            dataset_config_name=args.dataset_config_name,
            dataset_split=args.dataset_split,
            text_column=args.text_column,
            id_column=args.id_column,
            columns=list(dict.fromkeys([*args.columns, *([args.condition_column] if args.condition_column else [])])),
            text_format=TextFormat(args.encoding, args.delimiter, args.quotechar, has_header=not args.no_header),
            max_samples=args.max_samples,
        )
        encoder = LatentEncoder(
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
            condition_column=args.condition_column,
        )
        model = encoder.load()  # a model that cannot be used ends the command here, before the tasks begin
        encoder.require_condition_column()
        if args.whiten:
            model.require_fitted_prior()
        rows, text_column = reader.load()
        if args.condition_column == text_column:
            raise ValueError(f"The column {text_column!r} of {reader.source} cannot hold both texts and conditions.")
        if args.condition_column is not None:
            require_conditions(rows, args.condition_column, reader.source)
        tasks = args.tasks or max(1, math.ceil(len(rows) / ROWS_OF_A_TASK))
        self._hash = reader.remember(rows, tasks)
        columns = dict(zip(rows.data.schema.names, rows.data.schema.types, strict=True))
        writer = LatentWriter(
            args.output,
            encoder,
            dtype=args.latent_dtype,
            with_text=args.with_text,
            columns={name: columns[name] for name in args.columns},
            description={"texts": reader.title, "text_column": text_column, **self._told_of_conditions()},
        )
        return [reader, encoder, writer], len(rows), tasks

    def _own_settings(self) -> dict[str, Any]:
        return {"num_texts": self.num_rows, "texts_sha256": self._hash, "id_column": self.args.id_column}

    def _count_in_words(self, counts: Mapping[str, int]) -> str:
        found = {name: f"{counts.get(name, 0):,}" for name in ("encoded", "truncated", "empty", "unreadable")}
        cut = counts.get("conditions_truncated", 0)
        conditions = f"; {cut:,} conditions lost their beginning" if cut else ""
        return (
            f"{found['encoded']} encoded, of which {found['truncated']} were cut; {found['empty']} empty and "
            f"{found['unreadable']} unreadable{self._missing_conditions(counts)}, which have no latent{conditions}"
        )
