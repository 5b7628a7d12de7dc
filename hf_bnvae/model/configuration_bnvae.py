# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The configuration of a BN-VAE: encoder, decoder, posterior head, and how the latent enters the decoder."""

import copy
import os
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import CONFIG_NAME, TRANSFORMERS_DYNAMIC_MODULE_NAME, logging

from .saved_files_bnvae import renew_checksum
from .scales_bnvae import (
    SCALE_SETTINGS,
    check_gamma,
    check_only_one,
    check_rate,
    check_tau,
    check_theta_init,
    default_scale,
    gamma_of_rate,
    guaranteed_kl_floor,
)

logger = logging.get_logger(__name__)

PosteriorName = Literal["bn", "bn_rms", "bn_mean", "ln", "du", "delta", "gaussian"]
PriorName = Literal["standard", "gaussian"]

# The fields that hold the scale settings of the heads.
_FIELDS_OF_SETTINGS = {"tau": "bn_tau", "theta_init": "bn_theta_init", "gamma": "bn_gamma", "rate": "rate"}


@strict
class BNVAEConfig(PreTrainedConfig):
    r"""
    Configuration of a [`BNVAEModel`], a variational autoencoder for text. Its posterior is batch-normalised: the KL
    divergence from the prior has a positive floor, so that the decoder cannot ignore the latent.

    Args:
        encoder (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of the encoder, any bidirectional `AutoModel`. Defaults to BERT's.
        decoder (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of the decoder, any `AutoModelForCausalLM`. Defaults to GPT-2's.
        latent_size (`int`, *optional*, defaults to 32):
            Number of latent dimensions, d.
        posterior (`str`, *optional*, defaults to `"bn_rms"`):
            The posterior head. `"bn"`: mean and signed standard deviation are batch-normalised (Su 2020). `"bn_rms"`:
            the standard deviation is scaled by its batch root mean square instead. `"bn_mean"`: only the mean is
            normalised, with a fixed scale and a trainable shift (Zhu et al. 2020). `"ln"`: both are normalised over
            the latent dimensions of one sentence. `"gaussian"`: no normalisation, the baseline that collapses.
            To compare with: `"du"` (Shen et al. 2021) and `"delta"` (Razavi et al. 2019).
        bn_tau (`float`, *optional*):
            tau in (0, 1) of `bn`, `bn_rms` and `ln`, instead of `rate`: the least share of the prior's unit second
            moment that the means carry. The guaranteed floor is `-d/2 log(1 - tau)` nats.
        bn_theta_init (`float`, *optional*):
            With `bn_tau`, where its trainable theta starts, in each dimension, between -80 and 80. `None` means 0. A
            training begins at least `d/2 log(1 + e^theta)` nats above the guaranteed floor. A short training stays
            above it.
        bn_gamma (`float`, *optional*):
            gamma in (0, 1) of `bn_mean` and `du`, instead of `rate`. In `bn_mean` it is the standard deviation of the
            means over a batch, by default 0.6. In `du` it is the root mean square of these deviations over the
            dimensions, by default 0.5. The guaranteed floor is `d/2 gamma^2` nats.
        rate (`float`, *optional*):
            The floor itself, in nats per sentence: the mean KL of a training batch of different sentences is never
            below it, whatever `latent_size` is. It lies between 1e-6 and 40 nats for each dimension. The default is 4
            in `bn`, `bn_rms` and `ln` without `bn_tau`, and 0.1 nats for each dimension in `delta`. In `bn_mean` and
            `du` a rate replaces `bn_gamma`. The configuration writes down the default that it uses, so that a saved
            model keeps its scale.
        pooling (`str`, *optional*, defaults to `"mean"`):
            How a sentence's hidden states become one vector: `"cls"` (the first token's), `"mean"` (over the real
            tokens) or `"pooler"` (the encoder's own pooler).
        normalize_features (`bool`, *optional*, defaults to `False`):
            Whether that vector is scaled to length 1, as many sentence-embedding models do. With such a model's
            encoder and pooling, the vectors are its sentence embeddings, and
            [`~LatentSpaceMixin.encode_embeddings`] takes embeddings that were made elsewhere.
        latent_injection (`str`, *optional*, defaults to `"memory"`):
            How the latent enters the decoder: `"memory"` (one extra key/value slot per layer), `"embedding"` (added
            to every input embedding) or `"both"`, as in Optimus (Li et al., EMNLP 2020).
        prior (`str`, *optional*, defaults to `"standard"`):
            The prior from which [`~BNVAEModel.sample`] draws: `"standard"` for N(0, I), or `"gaussian"` for a Gaussian
            that [`fit_prior`] has fitted to the trained model's posteriors. `fit_prior` sets this field. The loss and
            its KL are always with N(0, I).
        encoder_dropout (`float`, *optional*, defaults to 0):
            Dropout probability of the encoder in training, for all of its dropouts. It is 0 since noise in the encoder
            could fill the batch variance that BN enforces, instead of information.
        chunk_size (`int`, *optional*):
            How many of a batch's longest sentences encoder and decoder take at once. A chunk of shorter sentences
            holds more of them, but not more positions. `None` means no limit. A chunk needs the memory of a
            micro-batch of this size. The results do not depend on it, to rounding. A call of the model may give
            another value.
        checkpoint_chunks (`bool`, *optional*, defaults to `False`):
            In training, keep no activations of a chunk and compute the chunk again in the backward pass. The batch
            then needs the memory of one chunk. A call of the model may give another value.
        pack_sentences (`bool`, *optional*, defaults to `True`):
            Let several sentences share a row of a network's input, instead of padding each to the longest. The results
            do not depend on it, to rounding, apart from dropout. The model packs sentences for BERT, ELECTRA, RoBERTa,
            GPT-2, GPT-NeoX, Llama, Qwen 2 and 3 and Gemma, with sdpa attention and without sliding windows. Otherwise
            the model pads. It also pads with `pooling="pooler"`, if padding stands ahead of a token, and in traced
            graphs. A call that asks for logits, hidden states or attentions is padded, too, and so is a call with
            further arguments of a network.
        conditional (`bool`, *optional*, defaults to `False`):
            Whether each text has a condition that encoder and decoder both see: p(x | z, c) and q(z | x, c). Every
            call then needs one. An empty condition adds no token.
        pad_token_id, bos_token_id, eos_token_id, decoder_start_token_id (`int`, *optional*):
            Special tokens of the decoder, by default those in its configuration. The model prepends
            `decoder_start_token_id`, by default BOS, or EOS without BOS. `pad_token_id` is EOS if the decoder has no
            padding token in its vocabulary.
        processor_sha256 (`str`, *optional*):
            What the processor of the training does to text ([`~BNVAEProcessor.fingerprint`]). The model refuses other
            processors by it. Training and saving write it down. `None`, as in older models, accepts all processors.

    Raises:
        ValueError: for a scale outside its range, a scale that the head cannot hold, a decoder that is not causal, an
            encoder without hidden states, and special tokens outside a network's vocabulary.

    Example:

    ```python
    >>> from hf_bnvae import BNVAEConfig

    >>> config = BNVAEConfig(latent_size=16, posterior="bn_rms", rate=8)
    >>> config.kl_floor
    8.0
    ```
    """

    model_type = "bnvae"
    sub_configs_defaults = {
        "encoder": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="gpt2"),
    }
    keys_to_ignore_at_inference = [
        "latents",
        "logits",
        "past_key_values",
        "decoder_hidden_states",
        "decoder_attentions",
        "encoder_hidden_states",
        "encoder_attentions",
    ]

    encoder: PreTrainedConfig | dict | None = None
    decoder: PreTrainedConfig | dict | None = None
    latent_size: int = 32
    posterior: PosteriorName = "bn_rms"
    bn_tau: float | int | None = None
    bn_theta_init: float | int | None = None
    bn_gamma: float | int | None = None
    rate: float | int | None = None
    pooling: Literal["cls", "mean", "pooler"] = "mean"
    normalize_features: bool = False
    latent_injection: Literal["both", "memory", "embedding"] = "memory"
    prior: PriorName = "standard"
    encoder_dropout: float | int = 0
    chunk_size: int | None = None
    checkpoint_chunks: bool = False
    pack_sentences: bool = True
    conditional: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    processor_sha256: str | None = None
    is_encoder_decoder: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        # The dropouts below are set on copies, so that the caller's configurations stay as they are.
        for name in self.sub_configs_defaults:
            if isinstance(getattr(self, name), PreTrainedConfig):
                setattr(self, name, copy.deepcopy(getattr(self, name)))
        if not __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            # The installed package has registered its pipelines. So Transformers need not ask whether to trust the
            # copy in the checkpoint.
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if getattr(self, name) is None:
                setattr(self, name, _first_id(getattr(self.decoder, name, None)))
        if self.pad_token_id is None or not self._is_known(self.pad_token_id):
            self.pad_token_id = self.eos_token_id
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.bos_token_id if self.bos_token_id is not None else self.eos_token_id
        self._set_scale()
        # `strict` runs the validators, too, but wraps their errors. Called here, they raise plain ValueErrors.
        self.validate_sizes()
        self.validate_posterior_scale()
        self.validate_encoder()
        self.validate_decoder()
        self.validate_special_tokens()
        self.apply_encoder_dropout()

    @classmethod
    def from_encoder_decoder_configs(
        cls, encoder: PreTrainedConfig, decoder: PreTrainedConfig, **fields: Any
    ) -> "BNVAEConfig":
        """A configuration from copies of an encoder's and a decoder's configuration, and fields of this class."""
        return cls(encoder=encoder, decoder=decoder, **fields)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As [`~PreTrainedConfig.from_dict`].

        Raises:
            ValueError: for values that cannot be used. The error names the file, where it is known.
        """
        try:
            return super().from_dict(config_dict, **kwargs)
        except Exception as error:
            place = kwargs.get("name_or_path")  # of `AutoConfig`
            if not place or isinstance(error, ImportError):
                raise
            raise ValueError(f"The {CONFIG_NAME} of {place} holds what cannot be used: {error}") from error

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """As [`~PreTrainedConfig.save_pretrained`], but without the paths of networks that came from folders of this
        machine. Other people, who get the file, do not have these folders."""
        for network in (self.encoder, self.decoder):
            if os.path.isabs(network.name_or_path) or os.path.isdir(network.name_or_path):
                network.name_or_path = ""
        super().save_pretrained(save_directory, **kwargs)
        renew_checksum(save_directory, CONFIG_NAME)

    def scale_settings(self) -> dict[str, float | None]:
        """The scale settings that the posterior head takes, by their names there: of `tau`, `theta_init`, `gamma` and
        `rate`."""
        return {name: getattr(self, _FIELDS_OF_SETTINGS[name]) for name in SCALE_SETTINGS[self.posterior]}

    def _set_scale(self) -> None:
        """Write down the scale that was not given."""
        if all(value is None for value in self.scale_settings().values()):
            for name, value in default_scale(self.posterior, self.latent_size).items():
                setattr(self, _FIELDS_OF_SETTINGS[name], value)

    @property
    def kl_floor(self) -> float:
        """The mean KL of a training batch, in nats per sentence, below which no learning can bring it.

        A batch of equal sentences has no variance to normalise, and no floor. In evaluation the data have other
        moments, so that a measured KL may lie somewhat below the floor. The derivation stands in
        `guaranteed_kl_floor`.
        """
        settings = self.scale_settings()
        settings.pop("theta_init", None)
        return guaranteed_kl_floor(self.latent_size, **settings)

    def apply_encoder_dropout(self) -> None:
        """Write `encoder_dropout` over every dropout of the encoder's configuration.

        Architectures have different names for them (`hidden_dropout_prob`, `attention_dropout`, `resid_pdrop`, ...),
        so every numeric field with "drop" in its name counts. Layer drop and stochastic depth are noise, but no
        dropout: a dropout of 0 switches them off, and any other dropout leaves them alone.
        """
        for name, value in self.encoder.to_dict().items():
            if "drop" not in name or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            is_dropout = "dropout" in name or "pdrop" in name
            if is_dropout or self.encoder_dropout == 0:
                setattr(self.encoder, name, float(self.encoder_dropout))

    def validate_sizes(self) -> None:
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, got {self.latent_size}.")
        if not 0 <= self.encoder_dropout < 1:
            raise ValueError(f"encoder_dropout must lie in [0, 1), got {self.encoder_dropout}.")
        check_chunk_size(self.chunk_size)

    def validate_posterior_scale(self) -> None:
        """tau, gamma and rate lie in their ranges, and the head can hold them."""
        if self.bn_tau is not None:
            check_tau(self.bn_tau, "bn_tau")
        if self.bn_gamma is not None:
            check_gamma(self.bn_gamma, "bn_gamma")
        if self.rate is not None:
            self._validate_rate()
        if self.bn_theta_init is not None:
            check_theta_init(self.bn_theta_init, "bn_theta_init")
        settings = SCALE_SETTINGS[self.posterior]
        if "tau" in settings and self.rate is None and self.bn_tau is None:
            raise ValueError(
                f"posterior={self.posterior!r} needs rate, in nats, or bn_tau to set its scale"
                f"{'' if self.bn_theta_init is None else '; bn_theta_init says where the theta of bn_tau starts'}."
            )
        for setting, field in _FIELDS_OF_SETTINGS.items():
            if setting not in settings and getattr(self, field) is not None:
                logger.warning_once(f"{field}={getattr(self, field)} has no effect with posterior={self.posterior!r}.")
        if self.posterior == "ln" and self.latent_size == 1:
            raise ValueError(
                "posterior='ln' normalises over the latent dimensions of a sentence, so latent_size=1 leaves nothing: "
                "every mean would be 0. Choose latent_size >= 2 or posterior='bn_rms'."
            )

    def _validate_rate(self) -> None:
        check_rate(self.rate, self.latent_size)
        check_only_one(self.rate, {name: getattr(self, name) for name in ("bn_tau", "bn_theta_init", "bn_gamma")})
        settings = SCALE_SETTINGS[self.posterior]
        if "rate" not in settings:
            holding = ", ".join(repr(name) for name, taken in SCALE_SETTINGS.items() if "rate" in taken)
            raise ValueError(
                f"posterior={self.posterior!r} has no floor, so it cannot hold rate={self.rate}. Choose one of "
                f"{holding}, or leave rate out."
            )
        if "gamma" in settings and gamma_of_rate(self.rate, self.latent_size) >= 1:
            raise ValueError(
                f"posterior={self.posterior!r} holds a rate below latent_size / 2 = {self.latent_size / 2} nats "
                f"(gamma = sqrt(2 rate / latent_size) must stay below 1), got rate={self.rate}. Lower the rate, raise "
                "latent_size, or choose posterior='bn_rms'."
            )

    def validate_encoder(self) -> None:
        """The encoder gives one hidden state for each token, and with `pooling="cls"` the first one sees the whole
        sentence. It has an embedding for its padding token."""
        config = self.encoder
        if config.is_encoder_decoder or not isinstance(getattr(config, "hidden_size", None), int):
            raise ValueError(
                f"The encoder must be a model with one hidden state per token (BERT, RoBERTa, DistilBERT, ModernBERT, "
                f"...), got model type {config.model_type!r}, which is not."
            )
        is_causal = getattr(config, "is_decoder", False) or (
            config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
            and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        )
        if is_causal and self.pooling == "cls":
            raise ValueError(
                f"pooling='cls' takes the first token's hidden state, which in the causal encoder "
                f"{config.model_type!r} sees nothing of the sentence. Use pooling='mean' or a bidirectional encoder."
            )
        size, padding = getattr(config, "vocab_size", None), getattr(config, "pad_token_id", None)
        if size is not None and padding is not None and padding >= size:
            raise ValueError(
                f"The encoder's pad_token_id={padding} lies outside its vocabulary of {size} tokens. Correct it in "
                "the encoder's configuration."
            )

    def validate_decoder(self) -> None:
        """The decoder predicts each token from the tokens before it only."""
        config = self.decoder
        allowed = "Use a causal language model (GPT-2, OPT, Llama, Qwen, ...)."
        if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ValueError(f"The decoder {config.model_type!r} is not a causal language model. {allowed}")
        if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
            raise ValueError(
                f"The decoder {config.model_type!r} attends in both directions, so it would see the token that it "
                f"predicts. {allowed} Some encoders can be made causal: decoder={{'is_decoder': True}}."
            )

    def _is_known(self, token_id: int) -> bool:
        """Whether the decoder has an embedding for a token."""
        size = getattr(self.decoder.get_text_config(), "vocab_size", None)
        return size is None or 0 <= token_id < size

    def validate_special_tokens(self) -> None:
        """The decoder has an embedding for the tokens between which each text stands. A GPT-2 with another tokenizer
        often keeps the ids of the original."""
        for name in ("decoder_start_token_id", "eos_token_id"):
            token_id = getattr(self, name)
            if token_id is not None and not self._is_known(token_id):
                raise ValueError(
                    f"{name}={token_id} lies outside the decoder's vocabulary of "
                    f"{self.decoder.get_text_config().vocab_size} tokens. Give the ids of its tokenizer as fields "
                    "(decoder_start_token_id=..., eos_token_id=..., pad_token_id=...) when you build the model, or "
                    "correct them in its config.json (bos_token_id, eos_token_id, ...)."
                )


def _first_id(token_id: int | list[int] | None) -> int | None:
    """The id itself, or the first of several. Some decoders (Llama 3) list several EOS ids, and the first one ends a
    text."""
    return token_id[0] if isinstance(token_id, (list, tuple)) else token_id


def check_chunk_size(chunk_size: Any) -> None:
    """Refuse a chunk size that is neither `None` nor a positive number of sentences, by a `ValueError`."""
    if chunk_size is not None and (isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(
            f"chunk_size must be a positive number of sentences, or None for the whole batch at once, got "
            f"{chunk_size!r}."
        )


__all__ = ["BNVAEConfig"]
