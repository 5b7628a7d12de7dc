# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The BN-VAE: encoder, posterior head, latent injection, decoder."""

import copy
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.dynamic_module_utils import custom_object_save
from transformers.masking_utils import create_masks_for_generate
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import PROCESSOR_NAME, ModelOutput, cached_file, logging
from transformers.utils.generic import can_return_tuple, is_flash_attention_requested

from .batch_statistics_bnvae import BatchRootMeanSquare, BatchStandardization, posterior_batch_mean
from .chunking_bnvae import BatchPlan, plan_chunks
from .condition_bnvae import DecoderRows, require_condition, require_condition_ids, rows_with_conditions
from .configuration_bnvae import BNVAEConfig
from .damage_bnvae import (
    SavedFiles,
    damage_named,
    find_model_damage,
    require_generation_config,
    require_known_names,
)
from .editing_bnvae import LatentEditingMixin
from .finite_bnvae import require_finite_weights
from .gaussian_bnvae import DiagonalGaussian
from .generation_bnvae import LatentGenerationMixin, positions_of
from .injection_bnvae import PRETRAINED_SLOT_STD, SLOT_STD, LatentInjection, LatentMap
from .input_checks_bnvae import require_batch, require_ids, require_mask, require_shape
from .loss_bnvae import IGNORE_INDEX, sentence_nll, token_nll
from .packing_bnvae import Packing, pack_for_decoder, pack_for_encoder
from .posterior_bnvae import (
    BatchNormMeanPosterior,
    DiversityUncertaintyPosterior,
    PosteriorHead,
    build_posterior_head,
    execution_device,
)
from .prior_bnvae import PRIORS, GaussianPrior, Prior, StandardPrior
from .saved_files_bnvae import CHECKSUMS_FILE, require_checksums, share_weights, write_checksums
from .scales_bnvae import RateScale, TauScale

logger = logging.get_logger(__name__)


FreezablePart = Literal["encoder", "decoder", "both"]
# Hidden states or attentions of a network, one tensor for each layer. A layer that was not asked for is `None`.
States = tuple[torch.FloatTensor | None, ...] | None

# Arguments of `from_encoder_decoder_pretrained` that go to the loading of both networks.
_LOADING_KWARGS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "token",
    "revision",
    "trust_remote_code",
    "attn_implementation",
)


@dataclass
class BNVAEOutput(ModelOutput):
    """
    Output of [`BNVAEModel`].

    A call that returns hidden states or attentions does not pack sentences, so that each sentence has a row. If the
    batch went through a network in chunks, the positions behind a chunk's longest sentence hold zeros.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is given):
            The negative ELBO in nats per sentence: the mean of `reconstruction_nll + kl.sum(-1)` over the sentences.
            In a distributed training this is the mean over the sentences of all processes.
        reconstruction_nll (`torch.FloatTensor` of shape `(batch,)`, *optional*, returned when `labels` is given):
            -log p(x | z) in nats, summed over the labels of each sentence, EOS included.
        kl (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*):
            KL divergence of each posterior from the prior in nats, per dimension.
        mean (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*): Means of the posteriors.
        logvar (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*): Their log variances.
        latents (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*): The latents that were decoded.
        logits (`torch.FloatTensor` of shape `(batch, target_length, vocab_size)`, *optional*, returned when
            `output_logits=True` or `decoder_input_ids` are given): Of the decoder.
        past_key_values (`Cache`, *optional*, returned when one was passed in): The decoder's cache.
        decoder_hidden_states (`tuple` of `torch.FloatTensor` of shape `(batch, target_length, hidden_size)`,
            *optional*, returned with `output_hidden_states=True`):
            The decoder's input, and the output of each layer. The last one at position t gives the logits of label t.
            With `condition_ids`, a row holds the positions of the condition and then those of the text.
        decoder_attentions (`tuple` of `torch.FloatTensor` of shape `(batch, heads, target_length, slots +
            target_length)`, *optional*, returned with `output_attentions=True`):
            The attention weights of each layer of the decoder. The first key is the latent's memory slot. With
            `latent_injection="embedding"` there is no slot.
        encoder_hidden_states (`tuple` of `torch.FloatTensor` of shape `(batch, length, hidden_size)`, *optional*,
            returned with `output_hidden_states=True`): The encoder's input, and the output of each layer.
        encoder_attentions (`tuple` of `torch.FloatTensor` of shape `(batch, heads, length, length)`, *optional*,
            returned with `output_attentions=True`): The attention weights of each layer of the encoder.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_nll: torch.FloatTensor | None = None
    kl: torch.FloatTensor | None = None
    mean: torch.FloatTensor | None = None
    logvar: torch.FloatTensor | None = None
    latents: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    decoder_hidden_states: States = None
    decoder_attentions: States = None
    encoder_hidden_states: States = None
    encoder_attentions: States = None

    @property
    def posterior(self) -> DiagonalGaussian:
        """The posteriors as distributions."""
        return DiagonalGaussian(self.mean, self.logvar)


class BNVAEPreTrainedModel(PreTrainedModel):
    """Base class: initialisation, loading and saving."""

    config: BNVAEConfig
    config_class = BNVAEConfig
    base_model_prefix = "bnvae"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The loss is a mean over sentences, so the trainer must not scale it by the number of label tokens.
    accepts_loss_kwargs = False

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, verify_checksums: bool = False, **kwargs: Any
    ) -> "BNVAEPreTrainedModel":
        """As [`~transformers.PreTrainedModel.from_pretrained`]. The processor beside the weights is loaded when a
        method on texts first needs it.

        Args:
            verify_checksums (`bool`, *optional*, defaults to `False`): Check that weights and configuration are as
                they were saved, by their SHA-256. This takes about as long as loading, or a few times as long.

        Raises:
            OSError: also for a file that is missing or damaged. The error names the file.
            ValueError: for files that are not as they were saved.
        """
        _refuse_encoder_dropouts(kwargs.get("encoder"))
        # A token is not kept: whoever pickles the model would pickle it.
        names = ("cache_dir", "local_files_only", "revision", "subfolder")
        place, loading = pretrained_model_name_or_path, {name: kwargs[name] for name in names if name in kwargs}
        wants_info = kwargs.pop("output_loading_info", False)
        with damage_named(partial(find_model_damage, model_class=cls), place, kwargs):
            model, info = super().from_pretrained(place, *args, output_loading_info=True, **kwargs)
        if place is not None:
            files = SavedFiles.of_loading(place, kwargs)
            require_generation_config(files)
            if info["missing_keys"]:
                require_known_names(files, cls, info["missing_keys"])
            if os.path.isdir(place):
                place = os.path.abspath(os.path.join(place, loading.pop("subfolder", "")))
            if verify_checksums:
                file = cached_file(place, CHECKSUMS_FILE, _raise_exceptions_for_missing_entries=False, **loading)
                if file is not None:
                    require_checksums(os.path.dirname(file), only_present=not os.path.isdir(place))
            model._origin = place, loading
        return (model, info) if wants_info else model

    @property
    def device(self) -> torch.device:
        """Where the model computes: the device of its parameters, also if Accelerate has put them away."""
        device = super().device
        return execution_device(self, device) if device.type == "meta" else device

    def save_pretrained(
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """As [`~transformers.PreTrainedModel.save_pretrained`]. The folder also gets the SHA-256 of weights and
        configuration.

        Raises:
            ValueError: if a part of the model has adapters of PEFT, since loading would not find their weights.
            FloatingPointError: if a weight or a running statistic is not finite.
        """
        if not self._hf_peft_config_loaded and has_adapters(self):
            raise ValueError(
                "A part of this model has adapters of PEFT, and a saved copy could not be loaded. Either give "
                "adapters to the whole model, model = peft.get_peft_model(model, config), and save the result; or "
                "call merge_and_unload() of the part with adapters, and save the model without them."
            )
        require_finite_weights(self.state_dict() if state_dict is None else state_dict)
        super().save_pretrained(save_directory, is_main_process=is_main_process, state_dict=state_dict, **kwargs)
        if is_main_process and not self._hf_peft_config_loaded:
            share_weights(save_directory)
            write_checksums(save_directory)

    def initialize_weights(self) -> None:
        """As [`~transformers.PreTrainedModel.initialize_weights`]: give values to the weights that have none yet."""
        # Each network does so itself. From here, Transformers would take it for code from outside, and would leave out
        # modules without weights of their own. Some of these scale the weights within (GPT-2's blocks).
        for network in self.children():
            if isinstance(network, PreTrainedModel):
                network.initialize_weights()
        super().initialize_weights()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Transformers calls this for every module of this package that holds a tensor. It does not call it for this
        # container, or inside the two networks, which have their own initialisation.
        super()._init_weights(module)
        if isinstance(module, LatentMap):
            init.normal_(module.weight, std=module.weight_std)
        elif isinstance(module, TauScale):
            init.constant_(module.theta, module.theta_init)
        elif isinstance(module, RateScale):
            init.zeros_(module.allocation)
        elif isinstance(module, BatchNormMeanPosterior):
            init.zeros_(module.shift)
        elif isinstance(module, DiversityUncertaintyPosterior):
            init.ones_(module.spread)
            init.zeros_(module.shift)
        elif isinstance(module, BatchStandardization):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, BatchRootMeanSquare):
            init.ones_(module.running_mean_square)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, GaussianPrior):
            init.zeros_(module.mean)
            init.eye_(module.scale_tril)
            init.zeros_(module.head_fingerprint)


class BNVAEEncoderSide(BNVAEPreTrainedModel):
    """Encoder and posterior head, `self.encoder` and `self.posterior`: the base of the whole model, and of a model
    without a decoder."""

    encoder: PreTrainedModel
    posterior: PosteriorHead

    def post_init(self) -> None:
        """As [`~transformers.PreTrainedModel.post_init`]. Posterior head and prior stay in float32, whatever type the
        model is loaded in."""
        # The names of tensors, not of modules: loading would also turn the counters of batches, which are integers,
        # into floats.
        self._keep_in_fp32_modules_strict = [
            f"{part}.{name}"
            for part in ("posterior", "prior")
            for name, tensor in getattr(self, part, nn.Module()).state_dict().items()
            if tensor.is_floating_point()
        ]
        # Quantisation leaves out what stands here. A head of whole numbers would be off by far.
        self._keep_in_fp32_modules = [
            f"posterior.{name}" for name, module in self.posterior.named_modules() if isinstance(module, nn.Linear)
        ]
        super().post_init()

    def _build_posterior(self) -> PosteriorHead:
        config = self.config
        return build_posterior_head(
            config.posterior,
            config.encoder.hidden_size,
            config.latent_size,
            **config.scale_settings(),
        )

    def _prepare_pooler(self) -> None:
        """Demand the pooler if the model uses it, and drop it otherwise: DDP does not synchronise with a parameter
        that gets no gradient."""
        pooler = getattr(self.encoder, "pooler", None)
        if self.config.pooling == "pooler":
            if pooler is None:
                raise ValueError(
                    f"pooling='pooler' needs an encoder with a pooler, which {type(self.encoder).__name__} does not "
                    "have. Use pooling='cls' or pooling='mean'."
                )
        elif pooler is not None and "add_pooling_layer" in inspect.signature(type(self.encoder)).parameters:
            self.encoder.pooler = None

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def encode(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        chunk_size: int | None = None,
        checkpoint_chunks: bool | None = None,
        **kwargs: Any,
    ) -> DiagonalGaussian:
        """
        The posteriors of sentences.

        Args:
            input_ids, attention_mask, chunk_size, checkpoint_chunks, **kwargs: As in [`~BNVAEEncoderSide.features`].

        Returns:
            [`DiagonalGaussian`]: with `mean` and `logvar`, each `(batch, latent_size)`, `sample()`, `mode()`, `kl()`.
        """
        return self.posterior(self.features(input_ids, attention_mask, chunk_size, checkpoint_chunks, **kwargs))

    def features(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        chunk_size: int | None = None,
        checkpoint_chunks: bool | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """
        The encoder's pooled hidden states of sentences, from which the posterior head makes the posteriors. With
        `config.normalize_features` each has length 1.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids of the encoder's vocabulary.
            attention_mask (`torch.Tensor` of shape `(batch, length)`, *optional*): 1 for tokens, 0 for padding.
            chunk_size, checkpoint_chunks (*optional*): As in [`~BNVAEModel.forward`].
            **kwargs: Further arguments of the encoder (`token_type_ids`, ...).

        Returns:
            `torch.Tensor` of shape `(batch, hidden_size)`

        Raises:
            ValueError: for ids or a mask of another kind, shape or range ([`~input_checks_bnvae.require_ids`],
                [`~input_checks_bnvae.require_mask`]), and for a text that is longer than the encoder's positions.
        """
        return self._run_encoder(input_ids, attention_mask, chunk_size, checkpoint_chunks, **kwargs)[0]

    def _run_encoder(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None,
        chunk_size: int | None,
        checkpoint_chunks: bool | None,
        labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, States, States]:
        """The features as `features` returns them, and the encoder's hidden states and attentions, if `kwargs` ask for
        them. `labels` are checked with the sentences."""
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        require_batch(input_ids, attention_mask, self.encoder, labels, getattr(self, "decoder", None))
        if "token_type_ids" in kwargs:
            # DeBERTa has no kinds, and ignores these ids.
            kinds = getattr(self.config.encoder, "type_vocab_size", None) or None
            require_ids("token_type_ids", kwargs["token_type_ids"], "encoder", kinds)
            require_shape("token_type_ids", kwargs["token_type_ids"], input_ids.shape, "input_ids")
        elif self.config.conditional:
            self._require_kinds()
        _check_length(input_ids.shape[1], self.config.encoder, "encoder")
        plan = self._plan_batch(
            {"input_ids": input_ids, "attention_mask": attention_mask, **kwargs},
            torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            chunk_size,
        )
        can_pack = attention_mask is not None and kwargs.keys() <= {"token_type_ids"}
        if self._may_pack and can_pack and self.config.pooling != "pooler":
            packings = pack_for_encoder(self.encoder, [part["attention_mask"] for part in plan.parts])
            for part, packing in zip(plan.parts, packings, strict=True):
                part["packing"] = packing
        function = partial(self._pooled_hidden_states, padded_length=input_ids.shape[1])
        features, hidden_states, attentions = self._run_batch(function, plan, checkpoint_chunks)
        features = F.normalize(features, dim=-1) if self.config.normalize_features else features
        return features, hidden_states, attentions

    def _require_kinds(self) -> None:
        """Refuse a text and its condition without `token_type_ids`, if the processor makes them. A tokenizer that
        makes none leaves the two to the separator between them."""
        if (getattr(self.config.encoder, "type_vocab_size", None) or 1) < 2:
            return
        advice = (
            "token_type_ids are missing, which tell a text from its condition. Give the encoder all that the "
            'processor made for it: token_type_ids=batch["token_type_ids"].'
        )
        processor = getattr(self, "processor", None)
        if processor is None:
            logger.warning_once(advice)
        elif "token_type_ids" in processor.encoder_tokenizer.model_input_names:
            raise ValueError(advice)

    def _plan_batch(
        self, inputs: dict[str, Any], mask: torch.Tensor, chunk_size: int | None, **vectors: torch.Tensor
    ) -> BatchPlan:
        """The passes in which a batch goes through a network, by the call's chunk size or the configuration's."""
        chunk_size = self.config.chunk_size if chunk_size is None else chunk_size
        if chunk_size is None:
            return BatchPlan([{**inputs, **vectors}])
        return plan_chunks(inputs, mask, chunk_size, self, **vectors)

    def _run_batch(
        self, function: Callable[..., tuple[Any, ...]], plan: BatchPlan, checkpoint_chunks: bool | None
    ) -> tuple[Any, ...]:
        """`function` over the parts of a plan; a batch in one part goes straight to it."""
        checkpoint_chunks = self.config.checkpoint_chunks if checkpoint_chunks is None else checkpoint_chunks
        if plan.order is None and not checkpoint_chunks:
            return function(**plan.parts[0])
        return plan.run(function, checkpoint_chunks)

    @property
    def _may_pack(self) -> bool:
        # The rows depend on the lengths, and a traced graph must serve all lengths.
        return self.config.pack_sentences and not (torch.compiler.is_compiling() or torch.jit.is_tracing())

    def _pooled_hidden_states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        padded_length: int,
        packing: Packing | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, States, States]:
        """One vector for each sentence, `(batch, hidden_size)`, and hidden states and attentions, padded to
        `padded_length`, if `kwargs` ask for them."""
        if packing is None:
            outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
            states = _padded_states(outputs, kwargs, padded_length - input_ids.shape[1])
            return self._pool(outputs, attention_mask), *states
        outputs = self.encoder(**packing.encoder_inputs(self.encoder, input_ids, **kwargs), return_dict=True)
        outputs.last_hidden_state = packing.unpack(outputs.last_hidden_state)
        return self._pool(outputs, attention_mask[:, : packing.length]), None, None

    def _pool(self, outputs: ModelOutput, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """One vector for each sentence, `(batch, hidden_size)`, from the encoder's outputs."""
        if self.config.pooling == "pooler":
            return outputs.pooler_output
        hidden_states = getattr(outputs, "last_hidden_state", None)
        if hidden_states is None:
            raise ValueError(f"The encoder {type(self.encoder).__name__} returns no hidden states to pool.")
        if attention_mask is None:
            return hidden_states[:, 0] if self.config.pooling == "cls" else hidden_states.mean(1)
        if self.config.pooling == "cls":
            # The first real token, wherever the padding is.
            first = attention_mask.long().argmax(1)
            return hidden_states[torch.arange(first.shape[0], device=first.device), first]
        weights = attention_mask.to(hidden_states.dtype).unsqueeze(-1)
        return (hidden_states * weights).sum(1) / weights.sum(1)


class BNVAEModel(BNVAEEncoderSide, LatentGenerationMixin, LatentEditingMixin):
    """
    A variational autoencoder for text: a BERT-style encoder, a posterior head, and a causal decoder. The latent enters
    the decoder as a memory slot, as an embedding, or both.

    Args:
        config ([`BNVAEConfig`]): The configuration.
        encoder, decoder (`PreTrainedModel`, *optional*): Networks to use as they are. By default the model builds them
            from `config.encoder` and `config.decoder`. [`~BNVAEModel.from_encoder_decoder_pretrained`] passes
            pretrained networks.

    Example:

    ```python
    >>> from hf_bnvae import BNVAEModel, BNVAEProcessor

    >>> model = BNVAEModel.from_encoder_decoder_pretrained("google-bert/bert-base-cased", "openai-community/gpt2")
    >>> processor = BNVAEProcessor.from_encoder_decoder_pretrained(
    ...     "google-bert/bert-base-cased", "openai-community/gpt2", config=model.config
    ... )
    >>> batch = processor(["The food was great .", "I will not come back ."], return_tensors="pt")
    >>> loss = model(**batch).loss  # negative ELBO, nats per sentence
    ```
    """

    # Networks inside the decoder, not single layers, whose flag says that they are checkpointed.
    _checkpointing_networks: Sequence[nn.Module] = ()

    def __init__(
        self,
        config: BNVAEConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
    ) -> None:
        # `from_pretrained(path, posterior=...)` assigns fields one by one, without the configuration's checks.
        config.validate()
        config.apply_encoder_dropout()
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder) if encoder is None else encoder
        self.decoder = AutoModelForCausalLM.from_config(config.decoder) if decoder is None else decoder
        drops = {k: v for k, v in config.encoder.to_dict().items() if "drop" in k}
        if {k: v for k, v in self.encoder.config.to_dict().items() if "drop" in k} != drops:
            raise ValueError(
                f"The encoder that was passed was built with other dropouts than encoder_dropout="
                f"{config.encoder_dropout} means ({drops}). Build it from config.encoder, or use "
                "from_encoder_decoder_pretrained."
            )
        # The configurations that the networks' layers read. `from_pretrained` has copied the ones that it was given.
        config.encoder, config.decoder = self.encoder.config, self.decoder.config
        self._prepare_pooler()
        self.posterior = self._build_posterior()
        self.prior = PRIORS[config.prior](config.latent_size)
        embedding_size = self.decoder.get_input_embeddings().embedding_dim
        self.injection = LatentInjection(config.decoder, embedding_size, config.latent_size, config.latent_injection)
        self.post_init()
        # FSDP shards these modules, and separately the input embeddings. So such a module must not contain the input
        # embeddings, as BERT's embedding module does.
        embeddings = self.get_input_embeddings()
        around = {type(m).__name__ for m in self.modules() if m is not embeddings and embeddings in m.modules()}
        self._no_split_modules = [name for name in self._no_split_modules or () if name not in around]

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder_name_or_path: str | PreTrainedConfig,
        decoder_name_or_path: str | PreTrainedConfig,
        *,
        encoder: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        dtype: torch.dtype | str = torch.float32,
        **fields: Any,
    ) -> "BNVAEModel":
        r"""
        A BN-VAE from a pretrained encoder and a pretrained decoder, or from one of them and a new partner. The
        posterior head and the injection are new.

        Args:
            encoder_name_or_path (`str` or `PreTrainedConfig`): Hub name or folder of a bidirectional `AutoModel`
                (BERT, RoBERTa, ...). A configuration instead of a name makes a new network.
            decoder_name_or_path (`str` or `PreTrainedConfig`): The same of an `AutoModelForCausalLM` (GPT-2, ...).
            encoder, decoder (`dict`, *optional*): Overrides for the configuration or the loading of one network, for
                example `decoder={"resid_pdrop": 0.0}` or `encoder={"revision": "v1.0"}`. Weights in llama.cpp's format
                need `gguf` and `decoder={"gguf_file": "model.Q4_1.gguf"}`. They are dequantised, and saved so.
            dtype (`torch.dtype` or `str`, *optional*, defaults to `torch.float32`): The type of all weights except the
                posterior head's, which stay in float32. Training wants float32 weights, with autocast for speed.
            **fields: Fields of [`BNVAEConfig`] (`latent_size=32`, `posterior="bn_rms"`, `rate=8`, ...), and arguments
                for the loading of both networks (`token`, `cache_dir`, `attn_implementation`, ...).

        Returns:
            [`BNVAEModel`]: in evaluation mode, as `from_pretrained` leaves a model.

        Raises:
            ValueError: for an unknown field, a prefixed keyword (`encoder_hidden_size=...`), or a configuration that
                [`BNVAEConfig`] refuses.
        """
        config_class = cls.config_class
        loading = {name: fields.pop(name) for name in _LOADING_KWARGS if name in fields}
        if isinstance(dtype, str):
            if not isinstance(getattr(torch, dtype, None), torch.dtype):
                raise ValueError(f"dtype must name a floating-point type of torch, like 'bfloat16', got {dtype!r}.")
            dtype = getattr(torch, dtype)
        # A prior is fitted to a trained model ([`fit_prior`]), so a new one has none. Nor has it been trained with a
        # processor.
        own_fields = set(config_class.__dataclass_fields__) - {"encoder", "decoder", "prior", "processor_sha256"}
        for name in fields:
            if name not in own_fields:
                half, _, rest = name.partition("_")
                hint = f" Write {half}={{{rest!r}: ...}}." if half in ("encoder", "decoder") and rest else ""
                raise ValueError(
                    f"{name!r} is no field of {config_class.__name__}.{hint} Its fields: "
                    f"{', '.join(sorted(own_fields))}."
                )
        encoder, decoder = dict(encoder or {}), dict(decoder or {})
        _refuse_encoder_dropouts(encoder)
        encoder_config, encoder_kwargs = _load_config(encoder_name_or_path, loading, encoder)
        decoder_config, decoder_kwargs = _load_config(decoder_name_or_path, loading, decoder)
        config = config_class.from_encoder_decoder_configs(encoder_config, decoder_config, **fields)
        networks: dict[str, PreTrainedModel] = {}
        for name, auto_class, source, kwargs in (
            ("encoder", AutoModel, encoder_name_or_path, encoder_kwargs),
            ("decoder", AutoModelForCausalLM, decoder_name_or_path, decoder_kwargs),
        ):
            if not isinstance(source, PreTrainedConfig):
                own_config = getattr(config, name)
                networks[name] = auto_class.from_pretrained(source, config=own_config, dtype=dtype, **kwargs)
        model = cls(config, **networks)
        if "decoder" in networks and model.injection.memory is not None:
            model.injection.memory.scale_start(PRETRAINED_SLOT_STD / SLOT_STD)
        for name in ("encoder", "decoder", "injection"):
            if name not in networks:
                getattr(model, name).to(dtype)
        if loading.get("attn_implementation") is not None:
            model.set_attn_implementation(loading["attn_implementation"])
        if dtype == torch.float64:
            model.posterior.to(dtype)
            model.prior.to(dtype)
        return model.eval()

    def save_pretrained(
        self, save_directory: Any, is_main_process: bool = True, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As [`~BNVAEPreTrainedModel.save_pretrained`]. The folder also gets the model's processor and its
        directions, if it has any, and the code that loads model and pipelines without this package
        (`trust_remote_code=True`)."""
        self.require_separate_networks()
        self.refer_to_code()
        # The other processes need not look for a processor beside the weights.
        processor = self.processor if is_main_process else None
        # One that was saved in the folder before may be newer than the one beside the old weights.
        keeps_processor = self._is_processor_found and os.path.isfile(os.path.join(save_directory, PROCESSOR_NAME))
        if processor is not None and keeps_processor:
            self.config.processor_sha256 = None
        elif processor is not None:
            self.record_processor()
        names = ("repo_id", "private", "revision", "commit_message", "commit_description", "create_pr", "tags")
        pushing = {name: kwargs.pop(name) for name in names if name in kwargs}
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if processor is not None and not keeps_processor:
            processor.save_pretrained(save_directory)
        # Adapters are saved without the configuration that would refer to the code.
        if is_main_process and not self._hf_peft_config_loaded:
            self.save_code(save_directory)
            self.save_directions(save_directory)
        if is_main_process and push_to_hub:
            # The base class would upload before the code is in the folder.
            pushing |= {name: kwargs[name] for name in ("token", "max_shard_size") if name in kwargs}
            self.push_to_hub(**{"repo_id": os.path.basename(os.path.normpath(save_directory)), **pushing})

    def require_separate_networks(self) -> None:
        """Refuse encoder and decoder that share a weight.

        Raises:
            ValueError: if they do, since a saved model would not share it, or could not be saved.
        """
        own = {id(parameter) for parameter in self.encoder.parameters()}
        shared = [name for name, parameter in self.decoder.named_parameters() if id(parameter) in own]
        if shared:
            raise ValueError(
                f"Encoder and decoder share weights: the decoder's {', '.join(shared)}. Such a model could not be "
                "saved and loaded. Give the decoder a copy: copy.deepcopy(...)."
            )

    def refer_to_code(self) -> None:
        """Name the classes in the files of [`~BNVAEModel.save_code`] in the configuration."""
        # Imported here, since few callers need it and the import is slow. Transformers' copier reads this line, too.
        from .pipeline_bnvae import PIPELINES

        self.config.auto_map = {
            auto_class: f"{own_class.__module__.rpartition('.')[2]}.{own_class.__name__}"
            for auto_class, own_class in (("AutoConfig", BNVAEConfig), ("AutoModel", BNVAEModel))
        }
        self.config.custom_pipelines = {
            task: {"impl": f"{own_class.__module__.rpartition('.')[2]}.{own_class.__name__}", "pt": ["AutoModel"]}
            for task, own_class in PIPELINES.items()
        }

    def save_code(self, folder: Any) -> None:
        """Write the files of this package that a checkpoint needs on a machine without the package.

        Args:
            folder (`str`): The folder of the configuration that refers to the files.
        """
        # Not `type(self)`: without the package, an instance of a user's subclass is loaded as a BNVAEModel.
        custom_object_save(BNVAEModel, folder)

    def get_output_embeddings(self) -> nn.Module | None:
        """The decoder's output embeddings, or `None` if they share their weights with its input embeddings. FSDP
        shards input and output embeddings separately. It would take the encoder's embeddings for the partner of the
        decoder's, and cut the shared tensor twice."""
        output_embeddings = self.decoder.get_output_embeddings()
        is_tied = getattr(output_embeddings, "weight", None) is self.decoder.get_input_embeddings().weight
        return None if is_tied else output_embeddings

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.decoder.set_output_embeddings(new_embeddings)

    def get_encoder(self, modality: str | None = None) -> PreTrainedModel:
        return self.encoder

    def get_decoder(self) -> PreTrainedModel:
        return self.decoder

    def freeze(self, part: FreezablePart) -> None:
        """
        Leave a network out of training: from now on its parameters take no gradients. Gradients still go through the
        network to posterior head and injection, and in training its dropout acts as before.

        Loading makes all parameters trainable. So freeze a model after `from_pretrained`, and before an optimiser or
        `DistributedDataParallel` takes it.

        Args:
            part (`str`): `"encoder"`, `"decoder"` or `"both"`.
        """
        if part not in get_args(FreezablePart):
            raise ValueError(f"part must be one of {', '.join(get_args(FreezablePart))}, got {part!r}.")
        for name in ("encoder", "decoder"):
            if part in (name, "both"):
                getattr(self, name).requires_grad_(False)

    def load_encoder_side(self, source: "BNVAEModel") -> "BNVAEModel":
        """
        Take encoder and posterior head from another model, with their running statistics. Decoder and injection stay
        as they are.

        Li et al., "A Surprisingly Effective Fix for Deep Latent Variable Modeling of Text", EMNLP 2019: a first
        training as an autoencoder (beta = 0) gives an encoder whose latents say something about a text. A second
        training, with the KL, begins with this encoder and a new decoder.

        Args:
            source ([`BNVAEModel`]): A model with the same encoder, pooling and posterior head.

        Returns:
            The model itself.

        Raises:
            ValueError: if encoder or head does not fit.
        """
        if not isinstance(source, BNVAEModel):
            raise ValueError(f"source must be a BNVAEModel, got {type(source).__name__}.")
        fields = ("posterior", "pooling", "normalize_features", "latent_size", "bn_tau", "bn_gamma", "rate")
        for name in (*fields, "conditional"):
            own, other = getattr(self.config, name), getattr(source.config, name)
            if own != other:
                raise ValueError(
                    f"The other model's encoder side is of another kind: its {name} is {other!r}, this one's {own!r}."
                )
        shapes = [
            {name: tuple(value.shape) for name, value in model.encoder.state_dict().items()}
            for model in (self, source)
        ]
        if self.config.encoder.model_type != source.config.encoder.model_type or shapes[0] != shapes[1]:
            raise ValueError(
                f"The other model's encoder ({source.config.encoder.model_type!r}) differs from this model's "
                f"({self.config.encoder.model_type!r}) in its type or its sizes."
            )
        for name in ("encoder", "posterior"):
            getattr(self, name).load_state_dict(getattr(source, name).state_dict())
        self.set_prior(StandardPrior(self.config.latent_size))
        return self

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "A BNVAEModel has two vocabularies. Resize the one that changed: "
            "model.encoder.resize_token_embeddings(...) or model.decoder.resize_token_embeddings(...)."
        )

    def _set_gradient_checkpointing(self, enable: bool = True, **kwargs: Any) -> None:
        function = kwargs.get("gradient_checkpointing_func")
        if enable and getattr(function, "keywords", {}).get("use_reentrant"):
            raise ValueError(
                "Reentrant activation checkpointing (use_reentrant=True) would lose the gradient of the latent's "
                "memory slot, which reaches the decoder's layers through their cache. Use the default, "
                "use_reentrant=False."
            )
        layers = [m for m in self.decoder.modules() if isinstance(m, GradientCheckpointingLayer)]
        if enable and not layers:
            raise ValueError(
                f"The layers of {type(self.decoder).__name__} cannot be checkpointed one by one with the latent's "
                "memory slot in their cache. Use checkpoint_chunks=True, which checkpoints whole chunks of the batch."
            )
        super()._set_gradient_checkpointing(enable, **kwargs)
        self._checkpointing_networks = [
            module
            for module in self.decoder.modules()
            if enable
            and not isinstance(module, GradientCheckpointingLayer)
            and hasattr(module, "gradient_checkpointing")
        ]
        for layer in layers:
            # A layer only reads its prefix cache, so a second pass finds the same cache as the first one.
            layer._can_checkpoint_with_cache = True

    def set_prior(self, prior: Prior) -> None:
        """
        Replace the prior by a copy of another one, which is then saved with the model. The prior counts as fitted to
        the model's present weights. Loss and KL do not change: they are with N(0, I).

        Args:
            prior ([`Prior`]): The prior, `StandardPrior(latent_size)` or a [`GaussianPrior`].

        Raises:
            ValueError: for a prior of another number of dimensions.
        """
        if not isinstance(prior, Prior) or prior.latent_size != self.config.latent_size:
            raise ValueError(
                f"The prior must have {self.config.latent_size} dimensions, as the latents do, got "
                f"{getattr(prior, 'latent_size', prior)!r}."
            )
        dtype = torch.promote_types(self.posterior.dtype, torch.float32)
        self.prior = copy.deepcopy(prior).to(self.posterior.device, dtype).train(self.training)
        if isinstance(self.prior, GaussianPrior):
            self.prior.head_fingerprint.copy_(self.posterior.fingerprint())
        self.config.prior = prior.name

    def kl_floor(self) -> torch.Tensor:
        """The least mean KL of a training batch at the current parameters, in nats per sentence (0-dimensional). It
        holds if the sentences of the batch differ ([`~PosteriorHead.kl_floor`])."""
        return self.posterior.kl_floor()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        noise: torch.FloatTensor | None = None,
        latents: torch.FloatTensor | None = None,
        output_logits: bool = False,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        chunk_size: int | None = None,
        checkpoint_chunks: bool | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        token_type_ids: torch.LongTensor | None = None,
        condition_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> BNVAEOutput | tuple[Any, ...]:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                Token ids of the encoder's vocabulary. Not needed with `latents`.
            attention_mask (`torch.Tensor` of shape `(batch, length)`, *optional*): 1 for tokens, 0 for padding.
            labels (`torch.LongTensor` of shape `(batch, target_length)`, *optional*):
                Token ids of the decoder's vocabulary, ending in EOS, without BOS, padded on the right with -100. The
                model prepends `decoder_start_token_id` for the decoder's input, and scores every label.
            noise (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*):
                Standard normal noise of the reparameterisation. By default the model draws it, in training and in
                evaluation.
            latents (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*):
                Latents to decode instead of a sample of the posterior.
            output_logits (`bool`, *optional*, defaults to `False`): Return logits although `labels` are given.
            decoder_input_ids, decoder_attention_mask, encoder_outputs, past_key_values, use_cache, logits_to_keep:
                The arguments that [`~transformers.GenerationMixin.generate`] passes.
                `encoder_outputs.last_hidden_state` holds the latents as a sequence of length one.
            chunk_size (`int`, *optional*, defaults to `config.chunk_size`):
                How many of the longest sentences encoder and decoder take at once. A chunk of shorter sentences holds
                more of them, but not more positions. The batch remains one posterior batch: it goes through the
                encoder in chunks sorted by length, once through the head, and through the decoder in chunks. All
                outputs have the order of the inputs. Chunks need less padding, which helps most if lengths differ
                much. Small chunks keep a device less busy.
            checkpoint_chunks (`bool`, *optional*, defaults to `config.checkpoint_chunks`):
                Keep no activations of a chunk for the backward pass, and compute the chunk twice. Training then needs
                the memory of one chunk only.
            output_hidden_states (`bool` or `list[int]`, *optional*, defaults to `config.output_hidden_states`):
                Return the hidden states of both networks, or those with these numbers.
            output_attentions (`bool`, *optional*, defaults to `config.output_attentions`):
                Return the attention weights of both networks. Only eager attention has them.
            token_type_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                With `input_ids`: which tokens belong to the text (0) and which to its condition (1).
            condition_ids (`torch.LongTensor` of shape `(batch, condition_length)`, *optional*):
                With `config.conditional`: token ids of the decoder's vocabulary for each sentence's condition, padded
                on the right with -100. The decoder reads them ahead of the start token, and is not scored on them.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                `False` for a tuple of the outputs that are not `None`.
            **kwargs: Further arguments of the encoder, or of the decoder with the prefix `decoder_`.

        Returns:
            [`BNVAEOutput`]

        Raises:
            ValueError: for ids, masks, labels, noise or latents of another kind, shape or range.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        states = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        states = {name: value for name, value in states.items() if value}
        # PEFT also passes arguments that it was not given: `decoder_inputs_embeds=None`.
        kwargs = {k: v for k, v in kwargs.items() if v is not None}
        decoder_kwargs = {k.removeprefix("decoder_"): v for k, v in kwargs.items() if k.startswith("decoder_")}
        encoder_kwargs = {k: v for k, v in kwargs.items() if not k.startswith("decoder_")}
        encoder_kwargs["token_type_ids"] = token_type_ids
        for network_kwargs in (decoder_kwargs, encoder_kwargs):
            network_kwargs.update(states)
        posterior = encoder_hidden_states = encoder_attentions = None
        if encoder_outputs is not None:
            latents = encoder_outputs[0].squeeze(1)
        if input_ids is not None:
            self._warn_about_accumulation()
            features, encoder_hidden_states, encoder_attentions = self._run_encoder(
                input_ids, attention_mask, chunk_size, checkpoint_chunks, labels=labels, **encoder_kwargs
            )
            posterior = self.posterior(features)
            if latents is None:
                latents = posterior.sample(noise)
        elif labels is not None:
            require_ids("labels", labels, "decoder", self.decoder)
        if latents is None:
            raise ValueError("Pass the sentences as input_ids, or the latents to decode as latents.")

        if condition_ids is not None and labels is None:
            raise ValueError(
                "condition_ids were given without labels. Ids that the decoder is to read stand in decoder_input_ids, "
                "conditions ahead of start tokens; generate(condition_ids=...) puts them there."
            )
        kl = None if posterior is None else posterior.kl()
        loss = reconstruction_nll = logits = cache = decoder_hidden_states = decoder_attentions = None
        if labels is not None:
            reconstruction_nll, logits, decoder_hidden_states, decoder_attentions = self._reconstruct(
                latents, labels, condition_ids, output_logits, chunk_size, checkpoint_chunks, decoder_kwargs
            )
            if kl is not None:
                # Only in training do the processes of a distributed training make the same calls.
                loss, _ = posterior_batch_mean(reconstruction_nll + kl.sum(-1), across_processes=self.training)
        elif decoder_input_ids is not None:
            outputs, cache = self._decode_ids(
                latents,
                decoder_input_ids,
                attention_mask=decoder_attention_mask,
                past_key_values=past_key_values,
                use_cache=use_cache,
                logits_to_keep=logits_to_keep,
                **decoder_kwargs,
            )
            logits = outputs.logits
            decoder_hidden_states, decoder_attentions = _padded_states(outputs, decoder_kwargs)
        return BNVAEOutput(
            loss=loss,
            reconstruction_nll=reconstruction_nll,
            kl=kl,
            mean=None if posterior is None else posterior.mean,
            logvar=None if posterior is None else posterior.logvar,
            latents=latents,
            logits=logits,
            past_key_values=cache,
            decoder_hidden_states=decoder_hidden_states,
            decoder_attentions=decoder_attentions,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attentions=encoder_attentions,
        )

    def _reconstruct(
        self,
        latents: torch.FloatTensor,
        labels: torch.LongTensor,
        condition_ids: torch.LongTensor | None,
        output_logits: bool,
        chunk_size: int | None,
        checkpoint_chunks: bool | None,
        decoder_kwargs: dict[str, Any],
    ) -> tuple[torch.Tensor, torch.Tensor | None, States, States]:
        """What `_score_labels` returns, for the whole batch."""
        self._check_latents(latents, labels.shape[0])
        rows = self._decoder_rows(labels, condition_ids)
        inputs = {"labels": rows.labels, "input_ids": rows.input_ids, "is_real": rows.is_real}
        plan = self._plan_batch({**inputs, **decoder_kwargs}, rows.is_real, chunk_size, latents=latents)
        self._add_decoder_inputs(plan.parts, self._may_pack and not (output_logits or decoder_kwargs))
        function = partial(self._score_labels, padded_length=rows.labels.shape[1], output_logits=output_logits)
        nll, logits, *states = self._run_batch(function, plan, checkpoint_chunks)
        if logits is not None and condition_ids is not None:
            # Each label has its logits where it stands in `labels`, which knows no conditions.
            scored = labels.ne(IGNORE_INDEX).unsqueeze(-1)
            own = logits.new_zeros(*labels.shape, logits.shape[-1])
            logits = own.masked_scatter(scored, logits[rows.labels.ne(IGNORE_INDEX)])
        return nll, logits, *states

    def _decoder_rows(self, labels: torch.LongTensor, condition_ids: torch.LongTensor | None) -> DecoderRows:
        """What the decoder reads, and what it is scored on."""
        input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if condition_ids is None and not self.config.conditional:
            return DecoderRows(input_ids, labels, labels.ne(IGNORE_INDEX))
        require_condition(self.config.conditional, condition_ids is not None, "condition_ids")
        require_condition_ids(condition_ids, self.decoder, len(labels))
        return rows_with_conditions(condition_ids, input_ids, labels, self.config.decoder_start_token_id)

    def _add_decoder_inputs(self, parts: list[dict[str, Any]], may_pack: bool) -> None:
        """Replace the decoder's token ids in each part by their embeddings, and add its packing if its sentences share
        rows. All embeddings come from one lookup, since the gradient of a lookup is as large as the vocabulary."""
        packings: list[Packing | None] = [None] * len(parts)
        masks = [part.pop("is_real") for part in parts]
        if may_pack:
            packings = pack_for_decoder(self.decoder, masks)
        all_ids = []
        for part, packing in zip(parts, packings, strict=True):
            ids = part.pop("input_ids")
            if packing is not None:
                start_token_id = self.config.decoder_start_token_id
                ids, part["labels"] = packing.decoder_inputs(ids, part["labels"], start_token_id)
                part["packing"] = packing
            all_ids.append(ids)
        flat = torch.cat([ids.flatten() for ids in all_ids]).unsqueeze(0)
        embeddings = self.decoder.get_input_embeddings()(flat)
        own_embeddings = embeddings[0].split([ids.numel() for ids in all_ids])
        for part, ids, own in zip(parts, all_ids, own_embeddings, strict=True):
            part["inputs_embeds"] = own.view(*ids.shape, -1)

    def _score_labels(
        self,
        latents: torch.FloatTensor,
        labels: torch.LongTensor,
        inputs_embeds: torch.FloatTensor,
        padded_length: int,
        output_logits: bool,
        packing: Packing | None = None,
        **decoder_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, States, States]:
        """-log p(x | z) of each sentence, `(batch,)`. With `output_logits` also the logits, `(batch, padded_length,
        vocab_size)`, which are 0 at positions without a label. At last the decoder's hidden states and attentions, if
        `decoder_kwargs` ask for them."""
        scored = labels.ne(IGNORE_INDEX)
        outputs, _ = self._decode(latents, inputs_embeds, logits_to_keep=scored, packing=packing, **decoder_kwargs)
        scored_logits = outputs.logits
        if packing is not None:
            return packing.sum_by_sentence(token_nll(scored_logits, labels, scored)), None, None, None
        nll = sentence_nll(scored_logits, labels, scored)
        missing = padded_length - scored.shape[1]
        states = _padded_states(outputs, decoder_kwargs, missing)
        if not output_logits:
            return nll, None, *states
        scored = F.pad(scored, (0, missing))
        logits = scored_logits.new_zeros(*scored.shape, scored_logits.shape[-1])
        return nll, logits.masked_scatter(scored.unsqueeze(-1), scored_logits), *states

    def _warn_about_accumulation(self) -> None:
        """Warn if a loop accumulates gradients over micro-batches that are normalised by different statistics.

        Accelerate, which the plain `Trainer` uses, knows whether a loop accumulates. If no one has imported it, the
        model cannot know.
        """
        accelerate = sys.modules.get("accelerate.state")
        if accelerate is None or not (self.training and self.posterior.uses_batch and torch.is_grad_enabled()):
            return
        if not accelerate.GradientState().sync_gradients:
            logger.warning_once(
                "Gradients are being accumulated, and every micro-batch is normalised by its own statistics. The "
                "result differs from a training with one large batch. BNVAETrainer accumulates exactly. In your own "
                "loop, give the model the whole batch at once, with chunk_size=<micro-batch size> and "
                "checkpoint_chunks=True: this needs the memory of one micro-batch."
            )

    def decode(
        self,
        latents: torch.FloatTensor,
        decoder_input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> tuple[torch.FloatTensor, Cache | None]:
        """
        Logits of the decoder under given latents.

        Args:
            latents (`torch.FloatTensor` of shape `(batch, latent_size)`): The latents.
            decoder_input_ids (`torch.LongTensor` of shape `(batch, target_length)`):
                Token ids of the decoder's vocabulary, from `decoder_start_token_id` on.
            attention_mask (`torch.Tensor` of shape `(batch, target_length)`, *optional*): 1 for tokens, 0 for padding.
                A first column for the memory slot is needed with a cache, and allowed without one. Padding on the
                right needs no mask, since a causal decoder does not see it.
            past_key_values (`Cache`, *optional*): A cache that already holds the memory slot.
            use_cache (`bool`, *optional*): Whether the decoder returns the cache.
            logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0): The positions whose logits to compute.
                0 means all positions, and a boolean mask `(batch, target_length)` means the positions that it marks.

        Returns:
            `tuple`: logits, `(batch, target_length, vocab_size)` or `(marked, vocab_size)`, and the cache or `None`.
        """
        outputs, cache = self._decode_ids(
            latents, decoder_input_ids, attention_mask, past_key_values, use_cache, logits_to_keep, **kwargs
        )
        return outputs.logits, cache

    def _decode_ids(
        self, latents: torch.FloatTensor, decoder_input_ids: torch.LongTensor, *args: Any, **kwargs: Any
    ) -> tuple[ModelOutput, Cache | None]:
        """The decoder's outputs and the cache, for the arguments of `decode`."""
        require_ids("decoder_input_ids", decoder_input_ids, "decoder", self.decoder)
        self._check_latents(latents, decoder_input_ids.shape[0])
        return self._decode(latents, self.decoder.get_input_embeddings()(decoder_input_ids), *args, **kwargs)

    def _decode(
        self,
        latents: torch.FloatTensor,
        inputs_embeds: torch.FloatTensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        packing: Packing | None = None,
        **kwargs: Any,
    ) -> tuple[ModelOutput, Cache | None]:
        """The decoder's outputs and the cache, for the tokens' embeddings, `(batch, target_length, embedding_size)`,
        or with a packing `(rows, width, embedding_size)`. Other arguments are as in `decode`."""
        slots = self.injection.num_slots
        if past_key_values is None:
            length = inputs_embeds.shape[1] if packing is None else packing.length
            _check_length(length + slots, self.config.decoder, "decoder")
            if attention_mask is not None:
                attention_mask = self._with_slots(attention_mask, inputs_embeds.shape[:2])
            inputs_embeds, past_key_values = self.injection.prepare_inputs(inputs_embeds, latents, packing)
            use_cache = False
        else:
            inputs_embeds = self.injection.add_embedding(inputs_embeds, latents)
        if packing is not None:
            # The slot of a sentence has the position ahead of the sentence's first token, wherever this token lies.
            kwargs["position_ids"] = packing.positions + slots
            attention_mask = packing.attention_mask(is_causal=True, has_slots=slots > 0)
        elif attention_mask is None or (isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2):
            if attention_mask is not None and self.takes_position_ids:
                kwargs.setdefault("position_ids", positions_of(attention_mask)[:, -inputs_embeds.shape[1] :])
            attention_mask = self._keep_slots_visible(attention_mask, inputs_embeds, past_key_values)
        # With its own flag, GPT-2 would drop the cache, and the memory slot with it. The layers' flags are enough.
        for network in self._checkpointing_networks:
            network.gradient_checkpointing = False
        try:
            outputs = self.decoder(
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                use_cache=use_cache,
                logits_to_keep=logits_to_keep,
                **kwargs,
            )
        finally:
            for network in self._checkpointing_networks:
                network.gradient_checkpointing = True
        return outputs, outputs.past_key_values if use_cache else None

    def _with_slots(self, attention_mask: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The mask of tokens with the shape `(batch, target_length)`, with columns for the memory slots ahead of them.
        A mask may have these columns already."""
        slots = self.injection.num_slots
        if isinstance(attention_mask, torch.Tensor) and attention_mask.shape[1:] == (shape[1] + slots,):
            shape = torch.Size((shape[0], shape[1] + slots))
            slots = 0
        require_mask("The decoder's attention mask", attention_mask, shape, "decoder_input_ids")
        return F.pad(attention_mask, (slots, 0), value=1)

    @property
    def takes_position_ids(self) -> bool:
        """Whether the decoder takes position numbers. Padding on the left shifts them."""
        return "position_ids" in inspect.signature(self.decoder.forward).parameters

    def _keep_slots_visible(
        self, attention_mask: torch.Tensor | None, inputs_embeds: torch.Tensor, past_key_values: Cache | None
    ) -> Any:
        """The decoder's masks. If its attention windows are shorter than the texts, these masks let every token see
        the memory slot. Otherwise they are `attention_mask` as it is."""
        window = self.injection.window
        if window is None or past_key_values.get_seq_length() + inputs_embeds.shape[1] <= window:
            return attention_mask
        if is_flash_attention_requested(self.decoder.config):
            raise ValueError(
                f"Texts are longer than the decoder's window of {window} positions, and flash attention cannot keep "
                "the latent's memory slot in sight there. Load the model with attn_implementation={'decoder': "
                "'sdpa'}, or build it with latent_injection='embedding'."
            )
        return create_masks_for_generate(
            self.decoder.config,
            inputs_embeds,
            attention_mask,
            past_key_values,
            or_mask_function=self.injection.slots_stay_visible,
        )

    def _check_latents(self, latents: torch.Tensor, batch_size: int) -> None:
        expected = (batch_size, self.config.latent_size)
        if not (isinstance(latents, torch.Tensor) and latents.is_floating_point()):
            found = latents.dtype if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"latents must be a floating-point tensor of shape (batch, latent_size), got {found}.")
        if tuple(latents.shape) != expected:
            raise ValueError(
                f"latents must have the shape (batch, latent_size) = {expected}, got {tuple(latents.shape)}. The "
                "batch is that of labels or decoder_input_ids; without latents, they come from input_ids."
            )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.LongTensor) -> torch.LongTensor:
        """The decoder's input for `labels`, both `(batch, target_length)`: `decoder_start_token_id`, then all labels
        but the last one.

        Raises:
            ValueError: for labels with -100 ahead of a token, or if no `decoder_start_token_id` is known.
        """
        if self.config.decoder_start_token_id is None:
            raise ValueError(
                "decoder_start_token_id is not set and the decoder's configuration has neither BOS nor EOS. Set "
                "config.decoder_start_token_id to the token that starts every text."
            )
        scored = labels.ne(IGNORE_INDEX)
        # An exported graph cannot look at its numbers.
        if not torch.compiler.is_exporting() and bool((scored[:, 1:] & ~scored[:, :-1]).any()):
            raise ValueError("labels must be padded with -100 on the right only; a -100 stands ahead of a token.")
        # No scored position sees the tokens that replace padding.
        inputs = labels.masked_fill(~scored, self.config.decoder_start_token_id).roll(1, dims=1)
        inputs[:, 0] = self.config.decoder_start_token_id
        return inputs


def _load_config(
    source: str | PreTrainedConfig, loading: dict[str, Any], own: dict[str, Any]
) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The configuration of a network, and the arguments for the loading of its weights."""
    if isinstance(source, PreTrainedConfig):
        if own:
            raise ValueError(
                f"A new network takes no arguments for loading, got {', '.join(own)}. Set them in its configuration."
            )
        return source, {}
    config, kwargs = AutoConfig.from_pretrained(source, **loading, **own, return_unused_kwargs=True)
    # The loading of a configuration removes the loading arguments. The weights need them, too.
    return config, kwargs | {k: v for k, v in {**loading, **own}.items() if not hasattr(config, k)}


def _padded_states(outputs: ModelOutput, asked: Mapping[str, Any], missing: int = 0) -> tuple[States, States]:
    """Hidden states and attentions of a network, each `None` unless it is `asked` for. Zeros stand for `missing`
    positions, which the network has not read, behind the last one."""

    def padded(name: str, padding: tuple[int, ...]) -> States:
        states = outputs.get(name) if asked.get(f"output_{name}") else None
        if states is None or missing == 0:
            return states
        return tuple(None if state is None else F.pad(state, padding) for state in states)

    return padded("hidden_states", (0, 0, 0, missing)), padded("attentions", (0, missing, 0, missing))


def has_adapters(model: nn.Module) -> bool:
    """Whether PEFT has put its modules into `model` or around it."""
    return any(type(module).__module__.partition(".")[0] == "peft" for module in model.modules())


def _refuse_encoder_dropouts(overrides: Any) -> None:
    """Refuse an override of one of the encoder's dropouts. `encoder_dropout` sets all of them, and would overwrite it
    without a word."""
    for name in overrides if isinstance(overrides, dict) else ():
        if "drop" in name:
            raise ValueError(
                f"encoder={{{name!r}: {overrides[name]}}} would be overwritten: all dropouts of the encoder follow "
                f"encoder_dropout. Write encoder_dropout={overrides[name]}."
            )


def _check_length(length: int, config: Any, name: str) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise ValueError(
            f"A text takes {length} positions of the {name}, which has {positions}. Cut texts to fit: the processor "
            "cuts them after processor.limit_lengths(config.encoder, config.decoder)."
        )


__all__ = ["BNVAEModel", "BNVAEOutput", "BNVAEPreTrainedModel"]
