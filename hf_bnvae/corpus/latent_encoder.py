# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A step of a datatrove pipeline that gives each document its latents."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from datatrove.data import Document, DocumentsPipeline

from ..model.input_checks_bnvae import require_count
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..model.text_encoding_bnvae import TOKENIZED_BATCHES, encode_in_batches
from .model_step import COORDINATES, OWN_COORDINATES, WHITENED, ModelStep


class LatentEncoder(ModelStep):
    """
    Gives each document the latents of its text, as entries of its metadata: lists of numbers, which every writer of
    datatrove can write. Order, ids, texts and other metadata stay as they are.

    A document without a text or without its condition, and a document whose text or id is no Unicode, pass without
    latents. A text that is longer than the model has positions for is cut. datatrove's statistics count these texts:
    `empty`, `unreadable`, `truncated`, `conditions_truncated`, and `encoded`.

    Args:
        model_name_or_path (`str`): Hub name or folder of model and processor.
        revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Allow code from the Hub.
        with_logvar (`bool`, *optional*, defaults to `False`): Add the entry `logvar`, the logarithms of the
            posterior's variances.
        num_draws (`int`, *optional*, defaults to 0): Add the entry `draws`, this number of draws from the posterior. A
            number takes 32 bytes of memory while it is in the buffer, so take a smaller buffer for many draws.
        seed (`int`, *optional*, defaults to 42): Seed of the draws. A document's draws depend on this seed, on
            `num_draws` and on the document's id: not on its task, and not on other documents.
        whiten (`bool`, *optional*, defaults to `False`): Give `mean` and `draws` in the coordinates in which the
            model's prior is N(0, I).
        dtype (`str`, *optional*): Precision of the encoder, `"float32"` or `"bfloat16"`; by default as the model was
            saved. The head computes in float32 at least.
        device (`str`, *optional*): The device. By default a GPU if there is one.
        batch_size (`int`, *optional*, defaults to 64): The number of texts that are encoded at once.
        buffer_size (`int`, *optional*, defaults to 4096): The number of documents that are read before they are
            encoded together, the texts of similar length in one batch.
        condition_column (`str`, *optional*): For a conditional model: the entry of the metadata that holds a
            document's condition.

    Which model a process loads, and when, is written at [`ModelStep`].

    Raises:
        ValueError: for arguments that do not fit together. When the first document comes: if the model cannot be
            used, and without a prior to whiten by. For a document that has an entry of one of these names already.
    """

    type = "🧭 - ENCODER"
    name = "💠 BN-VAE latents"
    part = "encoder"

    def __init__(
        self,
        model_name_or_path: str,
        *,
        revision: str = "main",
        trust_remote_code: bool = False,
        with_logvar: bool = False,
        num_draws: int = 0,
        seed: int = 42,
        whiten: bool = False,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int = 64,
        buffer_size: int = 64 * TOKENIZED_BATCHES,
        condition_column: str | None = None,
    ) -> None:
        super().__init__(model_name_or_path, revision, trust_remote_code, dtype, device)
        self.batch_size = require_count("batch_size", batch_size)
        self.buffer_size = require_count("buffer_size", buffer_size)
        self.num_draws = require_count("num_draws", num_draws, 0)
        if whiten and with_logvar:
            raise ValueError(
                "In whitened coordinates a posterior has a full covariance and no logvar. Leave out whiten or "
                "with_logvar."
            )
        self.with_logvar, self.seed, self.whiten = with_logvar, seed, whiten
        self.condition_column = condition_column

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of the entries that a document gets."""
        return ("mean", *(["logvar"] if self.with_logvar else []), *(["draws"] if self.num_draws else []))

    @property
    def description(self) -> dict[str, str]:
        """What the latents are: model and version, precision, coordinates, seed of the draws."""
        told = {
            "encoder_dtype": self.dtype or "as saved",
            COORDINATES: WHITENED if self.whiten else OWN_COORDINATES,
        }
        return super().description | told | ({"seed": str(self.seed)} if self.num_draws else {})

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents of `data` in their order, with their latents."""
        documents, model = iter(data or ()), None
        while buffer := list(islice(documents, self.buffer_size)):
            with self.track_time("buffer"):
                texts = [document for document in buffer if self._has_text(document)]
                if texts:
                    if model is None:
                        self.require_condition_column()
                        model = self.load(rank)  # one model for the whole task
                    self._encode(model, texts)
            yield from buffer

    def _encode(self, model: BNVAEModel, documents: Sequence[Document]) -> None:
        processor = _CountingProcessor(model.processor)
        texts, conditions = [document.text for document in documents], None
        if self.condition_column is not None:
            conditions = [self.condition_of(document) for document in documents]
        with torch.no_grad():
            for places, features in encode_in_batches(
                model, processor, texts, self.batch_size, show_progress=False, conditions=conditions
            ):
                self._write([documents[place] for place in places], model, features)
        self.stat_update("encoded", value=len(texts))
        self.stat_update("truncated", value=processor.num_truncated)
        if self.condition_column is not None:
            self.stat_update("conditions_truncated", value=processor.num_cut_conditions)

    def _has_text(self, document: Document) -> bool:
        taken = [name for name in self.entries if name in document.metadata]
        if taken:
            raise ValueError(f"Document {document.id!r} has an entry {taken[0]!r} in its metadata already.")
        if not isinstance(document.text, str):
            self.stat_update("empty" if document.text is None else "unreadable")
            return False
        if not document.text.strip():
            self.stat_update("empty")
            return False
        condition: str | None = ""
        if self.condition_column is not None:
            condition = self.condition_of(document)
        if condition is None:
            self.stat_update("without_condition")
            return False
        try:
            f"{document.text}{document.id}{condition}".encode()
        except UnicodeEncodeError:  # a half of a surrogate pair, which no tokenizer takes
            self.stat_update("unreadable")
            return False
        return True

    def _write(self, documents: Sequence[Document], model: BNVAEModel, features: torch.Tensor) -> None:
        posterior = model.posterior(features)
        mean, logvar = posterior.mean.float().cpu(), posterior.logvar.float().cpu()
        values: dict[str, Any] = {"mean": self._coordinates(model, mean).tolist()}
        if self.with_logvar:
            values["logvar"] = logvar.tolist()
        if self.num_draws:
            noise = torch.stack([self._noise(document.id, mean.shape[1]) for document in documents])
            draws = mean.unsqueeze(1) + logvar.mul(0.5).exp().unsqueeze(1) * noise
            values["draws"] = self._coordinates(model, draws).tolist()
        for row, document in enumerate(documents):
            document.metadata |= {name: found[row] for name, found in values.items()}

    def _coordinates(self, model: BNVAEModel, latents: torch.Tensor) -> torch.Tensor:
        if not self.whiten:
            return latents
        return model.require_fitted_prior().whiten(latents.to(model.device)).float().cpu()

    def _noise(self, name: str, latent_size: int) -> torch.Tensor:
        """Draws of N(0, I) for a document, `(num_draws, latent_size)`."""
        digest = hashlib.sha256(f"{self.seed}\n{name}".encode("utf-8", "surrogatepass")).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(self.num_draws, latent_size, generator=generator)


class _CountingProcessor:
    """A processor that counts the texts and conditions that it cuts."""

    def __init__(self, processor: BNVAEProcessor) -> None:
        self.processor, self.num_truncated, self.num_cut_conditions = processor, 0, 0

    def __call__(self, texts: list[str], **settings: Any) -> dict[str, list[list[int]]]:
        tokens = dict(self.processor(texts, return_truncated=True, **settings))
        self.num_truncated += sum(map(bool, tokens.pop("truncated")))
        self.num_cut_conditions += sum(map(bool, tokens.pop("condition_truncated", ())))
        return tokens

    def pad(self, features: Mapping[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        return self.processor.pad(features)
