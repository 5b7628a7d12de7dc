# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A SentenceTransformer made of a BN-VAE's encoder side. Its embeddings are the means of the posteriors.

Needs sentence-transformers (extra `embeddings`).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from ..model.condition_bnvae import require_unconditional
from ..model.configuration_bnvae import BNVAEConfig
from ..model.modeling_bnvae import BNVAEEncoderSide, BNVAEModel
from ..model.prior_bnvae import GaussianPrior, StandardPrior
from ..model.processing_bnvae import BNVAEProcessor

try:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, InputModule
except ImportError as error:
    raise ImportError(
        "Sentence embeddings need sentence-transformers: pip install 'sentence-transformers>=5.4'"
    ) from error


class BNVAEEncoderModel(BNVAEEncoderSide):
    """
    Encoder and posterior head of a [`BNVAEModel`], without its decoder.

    A cast (`half()`, `to(torch.bfloat16)`) changes the encoder only. The head stays in float32.

    Args:
        config ([`BNVAEConfig`]): The configuration of the whole model.
    """

    def __init__(self, config: BNVAEConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder)
        self._prepare_pooler()
        self.posterior = self._build_posterior()
        self.post_init()

    @classmethod
    def from_model(cls, model: BNVAEModel) -> "BNVAEEncoderModel":
        """The encoder side of `model`. The two share their weights."""
        config = copy.deepcopy(model.config)
        # A model that was saved or loaded names the code of whole models here. A folder of this model has no such
        # code.
        for name in ("auto_map", "custom_pipelines"):
            vars(config).pop(name, None)
        config.prior = StandardPrior.name  # the decoder's side
        with torch.device("meta"):
            encoder_model = cls(config)
        encoder_model.encoder, encoder_model.posterior = model.encoder, model.posterior
        return encoder_model

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "BNVAEEncoderModel":
        def without_cast(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        if recurse:
            self.encoder._apply(fn)
            self.posterior._apply(without_cast)
        return self


class LatentEmbedding(InputModule):
    """
    The single module of the SentenceTransformer that [`sentence_transformer`] makes: from texts to the means of their
    posteriors.

    `SentenceTransformer.encode` always uses evaluation mode. In training mode a batch-normalised head (`bn`, `bn_rms`,
    `bn_mean`) uses the statistics of the batch, and updates its running statistics. A trainer of sentence-transformers
    passes each column of a data set separately. It would normalise anchors and positives by different statistics, and
    an embedding would depend on its batch. Frozen weights do not prevent this, since the mode decides.

    Args:
        model ([`BNVAEEncoderModel`]): Encoder and posterior head.
        tokenizer (`PreTrainedTokenizerBase`): The encoder's tokenizer.
    """

    # With a config.json at the root of the folder, AutoModel would take it for a whole BNVAEModel with a random
    # decoder.
    save_in_root = False

    def __init__(self, model: BNVAEEncoderModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    @property
    def max_seq_length(self) -> int:
        """The largest number of tokens of a text, with special tokens. Longer texts are cut."""
        return self.tokenizer.model_max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.tokenizer.model_max_length = value

    def get_embedding_dimension(self) -> int:
        return self.model.config.latent_size

    def preprocess(
        self, inputs: Sequence[str], prompt: str | None = None, task: str | None = None
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            inputs (sequence of `str`): Texts.
            prompt (`str`, *optional*): What to put ahead of each text.
            task (`str`, *optional*): "query" or "document". It changes nothing.

        Returns:
            `dict`: `input_ids` and `attention_mask`, each `(batch, length)`.

        Raises:
            ValueError: for an input that is no text, such as a pair of texts.
        """
        for text in inputs:
            if not isinstance(text, str):
                raise ValueError(f"Only texts can be embedded, each as one string, got {text!r}.")
        encoded = self.tokenizer(
            [(prompt or "") + text for text in inputs],
            truncation=True,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`features` and `sentence_embedding`, `(batch, latent_size)`, in float32, or in float64 if the encoder is."""
        posterior = self.model.encode(features["input_ids"], features["attention_mask"])
        return {**features, "sentence_embedding": posterior.mode()}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write weights (safetensors), configuration and tokenizer to the folder `output_path`.

        Raises:
            ValueError: for `safe_serialization=False`, which would write a pickle.
        """
        if not safe_serialization:
            raise ValueError("Weights are written as safetensors only. Leave safe_serialization at True.")
        self.model.save_pretrained(output_path)
        self.tokenizer.save_pretrained(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "LatentEmbedding":
        """The module that `save` wrote to the folder `subfolder` of a folder or a Hub repository.

        Args:
            model_name_or_path, subfolder, token, cache_folder, revision, local_files_only: Where the module is.
            model_kwargs (`dict`, *optional*): Arguments for loading the model (`dtype`, `attn_implementation`, ...).
            processor_kwargs (`dict`, *optional*): Arguments for loading the tokenizer (`model_max_length`, ...).
            config_kwargs (`dict`, *optional*): Fields of the configuration to override (`chunk_size`, ...).
        """
        location = {
            "subfolder": subfolder,
            "token": token,
            "cache_dir": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        model = BNVAEEncoderModel.from_pretrained(
            model_name_or_path, **location, **(config_kwargs or {}), **(model_kwargs or {})
        )
        tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, **location, **(processor_kwargs or {}))
        return cls(model, tokenizer)


def sentence_transformer(model: BNVAEModel, processor: BNVAEProcessor, whitened: bool = False) -> SentenceTransformer:
    """
    A SentenceTransformer made of a model's encoder side. The embedding of a text is the mean of its posterior.

    Similarity is the negative Euclidean distance. A latent is a point under the standard normal prior, which has the
    same unit in every direction, and the decoder uses the whole point and not only its direction. Posteriors that say
    little about their text have means close to the origin. Their direction is noise, and the cosine would give it full
    weight. Set `similarity_fn_name = "cosine"` on the result to use the cosine.

    The result and `model` share encoder and head. So a move, a cast or a training of one changes the other. The result
    neither holds nor saves the decoder. The tokenizer is a copy.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode.
        processor ([`BNVAEProcessor`]): Its processor. The result uses the encoder's tokenizer.
        whitened (`bool`, *optional*, defaults to `False`): Map the means to where the model's fitted prior is N(0, I),
            by a `Dense` module. All directions then count alike, also one in which all texts differ much.

    Returns:
        `SentenceTransformer`: on the device of `model`, with embeddings of size `latent_size` in float32. Load what
        its `save_pretrained` writes with `SentenceTransformer(folder, trust_remote_code=True)`. The folder holds no
        code. The flag allows the import of the module's class from this installed package.

    Raises:
        ValueError: in training mode, if the running statistics of the posterior were never estimated, or with
            `whitened=True` for a model without a fitted prior. Also for a processor that is not the model's.

    Example:

    ```python
    >>> embedder = sentence_transformer(model, processor)
    >>> embeddings = embedder.encode(["The food was great .", "I will not come back ."])  # (2, latent_size)
    >>> similarities = embedder.similarity(embeddings, embeddings)  # (2, 2)
    >>> embedder.save_pretrained("embedder")
    ```
    """
    if model.encoder.training or model.posterior.training:
        raise ValueError(
            "The model is in training mode. It shares encoder and head with the SentenceTransformer, whose encode "
            "would put them into evaluation mode. Call model.eval() first."
        )
    model.posterior.require_estimated()
    tokenizer, vocab_size = getattr(processor, "encoder_tokenizer", None), model.get_input_embeddings().num_embeddings
    if tokenizer is None:
        raise ValueError(f"The processor must be a BNVAEProcessor, got {type(processor).__name__}.")
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"The processor does not belong to the model: its encoder tokenizer has {len(tokenizer)} tokens, the "
            f"encoder embeds {vocab_size}. Load both from the same folder."
        )
    model.require_own_processor(processor)
    require_unconditional(model, "A SentenceTransformer")
    modules = [LatentEmbedding(BNVAEEncoderModel.from_model(model), copy.deepcopy(tokenizer))]
    if whitened:
        modules.append(_whitening(model.require_fitted_prior()))
    return SentenceTransformer(modules=modules, device=str(model.device), similarity_fn_name="euclidean")


def _whitening(prior: GaussianPrior) -> Dense:
    """`prior.whiten` as a module of sentence-transformers."""
    dense = Dense(prior.latent_size, prior.latent_size, activation_function=nn.Identity())
    # In float64, since a difference of two points loses digits.
    origin = torch.zeros(1, prior.latent_size, dtype=torch.float64)
    axes = torch.eye(prior.latent_size).to(origin)
    with torch.no_grad():
        bias = prior.whiten(origin)
        dense.linear.weight.copy_((prior.whiten(axes) - bias).T)
        dense.linear.bias.copy_(bias[0])
    return dense


__all__ = ["BNVAEEncoderModel", "LatentEmbedding", "sentence_transformer"]
