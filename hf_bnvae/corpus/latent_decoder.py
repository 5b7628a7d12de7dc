# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A step of a datatrove pipeline that decodes latents to texts."""

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from datatrove.data import Document, DocumentsPipeline

from ..model.input_checks_bnvae import require_count
from ..model.modeling_bnvae import BNVAEModel
from .model_step import COORDINATES, OWN_COORDINATES, WHITENED, ModelStep

# The entry of the metadata that holds what is to be decoded.
LATENT = "latent_to_decode"


class LatentDecoder(ModelStep):
    """
    Gives each document the text that the model decodes from its entry `latent_to_decode`, a list of `latent_size`
    numbers. Order, ids and metadata stay as they are.

    A document without latents (`empty`), or with numbers that are not finite (`unreadable`), passes with `None` as its
    text. datatrove's statistics count both, and `decoded`.

    Args:
        model_name_or_path (`str`): Hub name or folder of model and processor.
        revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Allow code from the Hub.
        whitened (`bool`, *optional*, defaults to `False`): The latents are in the coordinates in which the model's
            prior is N(0, I).
        seed (`int`, *optional*, defaults to 42): Seed of drawn tokens. With `do_sample` a text depends on the texts of
            its batch, too, and so on the number of tasks.
        dtype (`str`, *optional*): Precision of the decoder, `"float32"` or `"bfloat16"`; by default as the model was
            saved.
        device (`str`, *optional*): The device. By default a GPU if there is one.
        batch_size (`int`, *optional*, defaults to 64): The number of texts that are decoded at once.
        condition_column (`str`, *optional*): For a conditional model: the entry of the metadata that holds a
            document's condition. A document without one counts as `unreadable`.
        **generation_kwargs: As for `generate`: `num_beams`, `do_sample`, `max_new_tokens`.

    Which model a process loads, and when, is written at [`ModelStep`].

    Raises:
        ValueError: for arguments that do not fit together. When the first document comes: if the model cannot be used,
            for latents of another size, and without a prior for whitened latents.
    """

    type = "🧭 - DECODER"
    name = "💠 BN-VAE texts"
    part = "decoder"

    def __init__(
        self,
        model_name_or_path: str,
        *,
        revision: str = "main",
        trust_remote_code: bool = False,
        whitened: bool = False,
        seed: int = 42,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int = 64,
        condition_column: str | None = None,
        **generation_kwargs: Any,
    ) -> None:
        super().__init__(model_name_or_path, revision, trust_remote_code, dtype, device)
        self.batch_size = require_count("batch_size", batch_size)
        if generation_kwargs.get("num_return_sequences", 1) != 1:
            raise ValueError("A document has one text: leave out num_return_sequences.")
        self.whitened, self.seed, self.generation_kwargs = whitened, seed, generation_kwargs
        self.condition_column = condition_column

    @property
    def description(self) -> dict[str, str]:
        """What the texts are: model and version, precision, how tokens are chosen."""
        chosen = {name: str(value) for name, value in sorted(self.generation_kwargs.items())}
        seed = {"seed": str(self.seed)} if self.generation_kwargs.get("do_sample") else {}
        told = {
            "decoder_dtype": self.dtype or "as saved",
            COORDINATES: WHITENED if self.whitened else OWN_COORDINATES,
        }
        return super().description | told | chosen | seed

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents of `data` in their order, with their texts."""
        documents, model, draw = iter(data or ()), None, random.Random(f"{self.seed} {rank}")
        while batch := list(islice(documents, self.batch_size)):
            with self.track_time("batch"):
                usable = [document for document in batch if self._has_latent(document)]
                if usable:
                    if model is None:
                        self.require_condition_column()
                        model = self.load(rank)  # one model for the whole task
                    self._decode(model, usable, draw.getrandbits(32))
            yield from batch

    def _has_latent(self, document: Document) -> bool:
        document.text, latent = None, document.metadata.get(LATENT)
        fault = "empty" if latent is None else None if np.isfinite(_as_array(latent)).all() else "unreadable"
        if fault is None and self.condition_column is not None and self.condition_of(document) is None:
            fault = "without_condition"
        if fault is not None:
            self.stat_update(fault)
        return fault is None

    def _decode(self, model: BNVAEModel, documents: Sequence[Document], seed: int) -> None:
        size = model.config.latent_size
        for document in documents:
            if len(document.metadata[LATENT]) != size:
                found = len(document.metadata[LATENT])
                raise ValueError(f"The latent of document {document.id!r} has {found} numbers, and the model {size}.")
        latents = torch.tensor(np.stack([_as_array(document.metadata[LATENT]) for document in documents]))
        if self.whitened:
            latents = model.require_fitted_prior().unwhiten(latents.to(model.device))
        settings: dict[str, Any] = {"batch_size": self.batch_size, "show_progress": False, "seed": seed}
        if self.condition_column is not None:
            settings["condition"] = [self.condition_of(document) for document in documents]
        texts = model.reconstruct(latents, **settings, **self.generation_kwargs)
        for document, text in zip(documents, texts, strict=True):
            document.text = text
        self.stat_update("decoded", value=len(documents))


def _as_array(latent: Any) -> np.ndarray:
    """A list of numbers, of which nulls are not finite."""
    return np.asarray(latent, dtype=np.float32)
