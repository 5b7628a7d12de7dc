# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A step of a datatrove pipeline that gives each document its latents."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import multiprocess
import torch
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from transformers import AutoConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.hub import extract_commit_hash

from .._version import __version__
from ..jobs.saved_model import load_saved_model
from ..model.configuration_bnvae import BNVAEConfig
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..model.saved_files_bnvae import sha256_of
from ..model.text_encoding_bnvae import TOKENIZED_BATCHES, encode_in_batches
from ..reporting.commands import without_folders
from ..utils.json_files import read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class LatentEncoder(PipelineStep):
    """
    Gives each document the latents of its text, as entries of its metadata: lists of numbers, which every writer of
    datatrove can write. Order, ids, texts and other metadata stay as they are.

    A process loads the model when the first document of a task comes, and keeps it for further tasks. On a machine
    with several GPUs each process takes one of them in turn.

    A document without a text, and a document whose text or id is no Unicode, pass without latents. A text that is
    longer than the model has positions for is cut. datatrove's statistics count these texts: `empty`, `unreadable`,
    `truncated`, and `encoded`.

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

    A private repository needs a token in `HF_TOKEN` or a login, because datatrove writes the arguments of a step into
    its logs.

    Raises:
        ValueError: for arguments that do not fit together. When the first document comes: if the model cannot be
            loaded, if it is no BN-VAE, if its running statistics were never estimated, if its files are others than
            when a writer described them, and without a prior to whiten by. For a document that has an entry of one of
            these names already.
    """

    type = "🧭 - ENCODER"
    name = "💠 BN-VAE latents"

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
    ) -> None:
        super().__init__()
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        counts = {"batch_size": (batch_size, 1), "buffer_size": (buffer_size, 1), "num_draws": (num_draws, 0)}
        for name, (value, least) in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}.")
        if whiten and with_logvar:
            raise ValueError(
                "In whitened coordinates a posterior has a full covariance and no logvar. Leave out whiten or "
                "with_logvar."
            )
        self.loading = {
            "model_name_or_path": str(model_name_or_path),
            "revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        self.with_logvar, self.num_draws, self.seed, self.whiten = with_logvar, num_draws, seed, whiten
        self.dtype, self.device, self.batch_size, self.buffer_size = dtype, device, batch_size, buffer_size
        # What `description` found, which the tasks must find, too.
        self._described: str | None = None

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of the entries that a document gets."""
        return ("mean", *(["logvar"] if self.with_logvar else []), *(["draws"] if self.num_draws else []))

    @property
    def config(self) -> BNVAEConfig:
        """The model's configuration."""
        return load_config(**self.loading)

    @property
    def description(self) -> dict[str, str]:
        """What the latents are, for the metadata of files: the model's name without its folder, revision, SHA-256 of
        the weights, the version of this package, precision, seed of the draws, coordinates. A branch or tag of the Hub
        becomes the commit that it now names, here and for the tasks."""
        self.loading["revision"], self._described = _pinned(self.loading)
        told = {
            "model": without_folders(self.loading["model_name_or_path"]),
            "revision": self.loading["revision"],
            "weights_sha256": self._described,
            "version": __version__,
            "encoder_dtype": self.dtype or "as saved",
            "coordinates": "whitened by the fitted prior" if self.whiten else "the model's own",
        }
        return told | ({"seed": str(self.seed)} if self.num_draws else {})

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents of `data` in their order, with their latents."""
        documents, model = iter(data or ()), None
        while buffer := list(islice(documents, self.buffer_size)):
            with self.track_time("buffer"):
                texts = [document for document in buffer if self._has_text(document)]
                if texts:
                    model = model or self.load(rank)  # one model for the whole task
                    self._encode(model, texts)
            yield from buffer

    def load(self, rank: int = 0) -> BNVAEModel:
        """The model, as a task with this rank uses it."""
        if self._described is not None and _pinned(self.loading)[1] != self._described:
            raise ValueError(
                f"The weights of {self.loading['model_name_or_path']} have changed since the pipeline was built. "
                "Build it anew, with another folder for the latents."
            )
        return _loaded(self.loading, self.dtype, self.device, rank)

    def _encode(self, model: BNVAEModel, documents: Sequence[Document]) -> None:
        processor = _CountingProcessor(model.processor)
        texts = [document.text for document in documents]
        with torch.no_grad():
            for places, features in encode_in_batches(model, processor, texts, self.batch_size, show_progress=False):
                self._write([documents[place] for place in places], model, features)
        self.stat_update("encoded", value=len(texts))
        self.stat_update("truncated", value=processor.num_truncated)

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
        try:
            f"{document.text}{document.id}".encode()
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
    """A processor that counts the texts that it cuts."""

    def __init__(self, processor: BNVAEProcessor) -> None:
        self.processor, self.num_truncated = processor, 0

    def __call__(self, texts: list[str], return_labels: bool) -> dict[str, list[list[int]]]:
        tokens = dict(self.processor(texts, return_labels=return_labels, return_truncated=True))
        self.num_truncated += sum(map(bool, tokens.pop("truncated")))
        return tokens

    def pad(self, features: Mapping[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        return self.processor.pad(features)


# The model of this process, by what it was loaded from and how.
_LOADED: dict[tuple[Any, ...], BNVAEModel] = {}


def _loaded(loading: Mapping[str, Any], dtype: str | None, device: str | None, rank: int) -> BNVAEModel:
    """The model, loaded once a process: again only if the files of its folder have changed."""
    asked = (*loading.values(), dtype, device)
    key = (*asked, _state_of(loading["model_name_or_path"]))
    if key not in _LOADED:
        for old in [old for old in _LOADED if old[:-1] == asked]:
            del _LOADED[old]
        model = load_saved_model(**loading, device=device or _device_of(rank))
        model.posterior.require_estimated()
        if dtype is not None:
            model.encoder.to(DTYPES[dtype])
        _LOADED[key] = model
    return _LOADED[key]


def load_config(model_name_or_path: str, **loading: Any) -> BNVAEConfig:
    """
    The configuration of a saved model.

    Raises:
        ValueError: if there is none, or if it is of no BN-VAE.
    """
    try:
        config = AutoConfig.from_pretrained(model_name_or_path, **loading)
    except (OSError, ValueError) as error:
        raise ValueError(f"{model_name_or_path} could not be loaded as a folder or from the Hub: {error}") from error
    if config.model_type != BNVAEConfig.model_type:
        raise ValueError(f"{model_name_or_path} is a {config.model_type!r}, no BNVAE.")
    return config


def _pinned(loading: Mapping[str, Any]) -> tuple[str, str]:
    """The commit of a model on the Hub (of a folder: the revision as it is given), and the SHA-256 of its weights."""
    place, revision = loading["model_name_or_path"], loading["revision"]

    def find(name: str, is_needed: bool) -> str | None:
        return cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=is_needed)

    try:
        index = find(SAFE_WEIGHTS_INDEX_NAME, False)
        names = [SAFE_WEIGHTS_NAME]
        if index is not None:
            names = sorted(set(read_json(index)["weight_map"].values()))
        files = [find(name, True) for name in names]
    except OSError as error:
        raise ValueError(f"{place} could not be loaded as a folder or from the Hub: {error}") from error
    return extract_commit_hash(files[0], None) or revision, " ".join(map(sha256_of, files))


def _device_of(rank: int) -> str | None:
    """One of this machine's GPUs, `None` without any. Processes of a pool take the GPUs in turn. Outside of a pool the
    task's rank chooses."""
    count, place = torch.cuda.device_count(), multiprocess.current_process()._identity
    return f"cuda:{(place[0] if place else rank) % count}" if count else None


def _state_of(place: str) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files of a model and its processor in a folder."""
    patterns = ("config.json", "processor_config.json", "*.safetensors*", "tokenizer*", "encoder_tokenizer/*")
    found = sorted(path for pattern in patterns for path in Path(place).glob(pattern))
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found)
