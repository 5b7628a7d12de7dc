# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How the latent enters a decoder that was not made for latents: as a memory slot and as an embedding (Optimus)."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin, get_layer_types_and_kwargs

from .packing_bnvae import Packing

MEMORY_SLOTS = 1

# The size of a new slot: the standard deviation of its numbers, over latents and places. About that of the keys and
# values of a new decoder of width 128 (0.23). The decisions in this room's page have the figures.
SLOT_STD = 0.25
# The same ahead of a pretrained decoder, which a larger slot disturbs.
PRETRAINED_SLOT_STD = 0.11


class PrefixCacheLayer(CacheLayerMixin):
    """The read-only cache of one layer: a fixed prefix stands ahead of the keys and values that the layer computes.

    The cache stores nothing. So a layer may run twice on it (activation checkpointing), and gradients reach the
    prefix.

    Args:
        keys, values (`torch.Tensor` of shape `(batch, heads, slots, head_dim)`): The prefix.
    """

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the prefix is there from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys = torch.cat([self.keys.to(key_states.dtype), key_states], dim=-2)
        values = torch.cat([self.values.to(value_states.dtype), value_states], dim=-2)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.keys.shape[-2]

    def get_max_length(self) -> int:
        return -1


class LatentMap(nn.Linear):
    """
    A linear map from latents, without a bias, whose output has a chosen standard deviation in a new model.

    Args:
        latent_size (`int`): Number of latent dimensions. In each, the latent has about the prior's second moment, 1.
        size (`int`): Number of outputs.
        start_std (`float`): The standard deviation of the outputs in a new model.
    """

    def __init__(self, latent_size: int, size: int, start_std: float) -> None:
        self.weight_std = start_std / latent_size**0.5
        super().__init__(latent_size, size, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.weight_std)

    @torch.no_grad()
    def scale_start(self, factor: float) -> None:
        """Make the outputs of a new map smaller or larger."""
        self.weight.mul_(factor)


class LatentInjection(nn.Module):
    """The linear maps that bring a latent into a decoder (Li et al., "Optimus", EMNLP 2020, section 3).

    *Memory*: each layer has one extra slot that every token attends to. One vector is both its key and its value.
    *Embedding*: one vector is added to the input embedding at every position. Neither map has a bias.

    In a new model the numbers of a slot have the standard deviation `SLOT_STD`, or ahead of a pretrained decoder
    `PRETRAINED_SLOT_STD`. The vector's numbers have the decoder's `initializer_range`. With a smaller start the
    decoder takes longer to notice the latent. A much larger one disturbs it before the latent is of use.

    Args:
        decoder_config (`PreTrainedConfig`): The decoder's configuration, with `num_hidden_layers`,
            `num_attention_heads` and `hidden_size`. `num_key_value_heads` and `head_dim` are used if they exist.
        embedding_size (`int`): Width of the decoder's input embeddings.
        latent_size (`int`): Number of latent dimensions.
        latent_injection (`str`): `"memory"`, `"embedding"` or `"both"`.

    Attributes:
        num_slots (`int`): The number of positions of the decoder that the latent takes.
        max_positions (`int`, *optional*): The number of positions that a text and the slots may take together. The
            limit is the decoder's number of positions, or the shortest attention window that no mask can extend to
            the slots.
    """

    def __init__(
        self, decoder_config: PreTrainedConfig, embedding_size: int, latent_size: int, latent_injection: str
    ) -> None:
        super().__init__()
        self.memory = self.embedding = self.window = None
        self.num_slots = 0 if latent_injection == "embedding" else MEMORY_SLOTS
        self.max_positions = getattr(decoder_config, "max_position_embeddings", None)
        if latent_injection != "embedding":
            attention_heads = getattr(decoder_config, "num_attention_heads", None)
            if attention_heads is None:
                raise ValueError(
                    f"latent_injection={latent_injection!r} puts a slot into the keys and values of the decoder's "
                    f"layers, but {decoder_config.model_type!r} has no attention heads. Use "
                    "latent_injection='embedding'."
                )
            self.num_layers = decoder_config.num_hidden_layers
            self.num_heads = getattr(decoder_config, "num_key_value_heads", None) or attention_heads
            self.head_dim = getattr(decoder_config, "head_dim", None) or decoder_config.hidden_size // attention_heads
            size = self.num_layers * self.num_heads * self.head_dim
            self.memory = LatentMap(latent_size, size, SLOT_STD)
            windows = [kwargs.get("sliding_window") for kwargs in get_layer_types_and_kwargs(decoder_config)[1]]
            self.window = min((window for window in windows if window is not None), default=None)
            limits = [self.max_positions, *_fixed_windows(decoder_config)]
            self.max_positions = min((limit for limit in limits if limit is not None), default=None)
        if latent_injection != "memory":
            # Transformers' default where the configuration has none.
            start_std = getattr(decoder_config, "initializer_range", None) or 0.02
            self.embedding = LatentMap(latent_size, embedding_size, start_std)

    @property
    def slots_stay_visible(self) -> Callable[..., torch.Tensor] | None:
        """A function that keeps the slots in the masks of layers that see the last positions only; `None` for a
        decoder without such layers."""
        return None if self.window is None else lambda batch, head, query, key: key < self.num_slots

    def prepare_inputs(
        self, inputs_embeds: torch.Tensor, latents: torch.Tensor, packing: Packing | None = None
    ) -> tuple[torch.Tensor, Cache | None]:
        """
        What a decoder is given to read whole texts under their latents.

        Args:
            inputs_embeds (`torch.Tensor` of shape `(rows, length, embedding_size)`): The embeddings of the tokens.
            latents (`torch.Tensor` of shape `(batch, latent_size)`): The latents.
            packing ([`Packing`], *optional*): How sentences share rows.

        Returns:
            `tuple`: the embeddings, with the latent added if it enters there, and a read-only cache that holds the
            memory slots, or `None` without slots.

        Raises:
            ValueError: for a text that is too long to see the slots.
        """
        self._check_length((inputs_embeds.shape[1] if packing is None else packing.length) + self.num_slots)
        inputs_embeds = self.add_embedding(inputs_embeds, latents, packing)
        if self.memory is None:
            return inputs_embeds, None
        slots = self.memory_slots(latents, packing)
        return inputs_embeds, Cache(layers=[PrefixCacheLayer(slot, slot) for slot in slots])

    def memory_slots(self, latents: torch.Tensor, packing: Packing | None = None) -> list[torch.Tensor]:
        """The slots of each layer, `(rows, heads, slots, head_dim)`, which are both keys and values. A row has one
        slot, or with `packing` one for each of its sentences.

        Args:
            latents (`torch.Tensor` of shape `(batch, latent_size)`): The latents.
            packing ([`Packing`], *optional*): How sentences share rows.
        """
        projected = self.memory(_for_layer(self.memory, latents))
        slots = projected.unsqueeze(1) if packing is None else packing.arrange_by_row(projected)
        slots = slots.unflatten(2, (self.num_layers, self.num_heads, self.head_dim))
        return list(slots.permute(2, 0, 3, 1, 4).unbind())

    def add_embedding(
        self, inputs_embeds: torch.Tensor, latents: torch.Tensor, packing: Packing | None = None
    ) -> torch.Tensor:
        """Input embeddings with the latent's vector added at every position: `(rows, length, embedding_size)`."""
        if self.embedding is None:
            return inputs_embeds
        vectors = self.embedding(_for_layer(self.embedding, latents))
        vectors = vectors.unsqueeze(1) if packing is None else packing.repeat_for_places(vectors)
        return inputs_embeds + vectors.to(inputs_embeds.dtype)

    def _check_length(self, length: int) -> None:
        if self.max_positions is not None and length > self.max_positions:
            raise ValueError(
                f"A text takes {length} positions of the decoder, and behind {self.max_positions} positions some of "
                "the decoder's layers lose sight of the latent's memory slot. Cut texts to fit: "
                f"processor.tokenizer.model_max_length = {self.max_positions}; or build the model with "
                "latent_injection='embedding'."
            )


def _for_layer(layer: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """The latents in the dtype of a layer's weight. Quantised layers take any floating-point numbers."""
    weight = layer.weight
    return latents.to(weight.dtype) if isinstance(weight, torch.Tensor) and weight.is_floating_point() else latents


def _fixed_windows(decoder_config: PreTrainedConfig) -> list[int]:
    """Attention windows that no mask can extend: GPT-Neo cuts them inside its attention, and layers that attend within
    chunks (Llama 4) make their own masks."""
    windows = [decoder_config.window_size] if "local" in getattr(decoder_config, "attention_layers", ()) else []
    layer_types, layer_kwargs = get_layer_types_and_kwargs(decoder_config)
    chunked = zip(layer_types, layer_kwargs, strict=True)
    return windows + [kwargs["sliding_window"] for layer_type, kwargs in chunked if layer_type == "chunked_attention"]


__all__ = ["LatentInjection", "LatentMap", "PrefixCacheLayer"]
