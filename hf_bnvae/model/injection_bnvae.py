# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How the latent enters a decoder that knows nothing of latents: as a memory slot and as an embedding (Optimus)."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin, get_layer_types_and_kwargs

from .packing_bnvae import Packing

MEMORY_SLOTS = 1


class PrefixCacheLayer(CacheLayerMixin):
    """One layer's read-only cache: a fixed prefix stands ahead of whatever keys and values the layer computes.

    It stores nothing, so that a layer may run twice on it (activation checkpointing) and gradients reach the prefix.

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


class LatentInjection(nn.Module):
    """The linear maps that bring a latent into a decoder (Li et al., "Optimus", EMNLP 2020, section 3).

    *Memory*: for each layer one extra slot that every token attends to, the same vector being its key and its value.
    *Embedding*: one vector that is added to the input embedding at every position. Neither map has a bias.

    Args:
        decoder_config (`PreTrainedConfig`): The decoder's configuration, with `num_hidden_layers`,
            `num_attention_heads` and `hidden_size`; `num_key_value_heads` and `head_dim` are used where they exist.
        embedding_size (`int`): Width of the decoder's input embeddings.
        latent_size (`int`): Number of latent dimensions.
        latent_injection (`str`): `"memory"`, `"embedding"` or `"both"`.

    Attributes:
        max_positions (`int`, *optional*): How many positions a text and the slots may take: as many as the decoder
            has, or as the first of its layers to lose sight of the slots can see, where no mask keeps them in sight.
    """

    def __init__(
        self, decoder_config: PreTrainedConfig, embedding_size: int, latent_size: int, latent_injection: str
    ) -> None:
        super().__init__()
        self.memory = self.embedding = self.window = None
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
            self.memory = nn.Linear(latent_size, self.num_layers * self.num_heads * self.head_dim, bias=False)
            windows = [kwargs.get("sliding_window") for kwargs in get_layer_types_and_kwargs(decoder_config)[1]]
            self.window = min((window for window in windows if window is not None), default=None)
            limits = [self.max_positions, *_closed_windows(decoder_config)]
            self.max_positions = min((limit for limit in limits if limit is not None), default=None)
        if latent_injection != "memory":
            self.embedding = nn.Linear(latent_size, embedding_size, bias=False)

    @property
    def num_slots(self) -> int:
        """How many positions of the decoder the latent takes."""
        return 0 if self.memory is None else MEMORY_SLOTS

    @property
    def slots_stay_visible(self) -> Callable[..., torch.Tensor] | None:
        """What is added to the masks of a decoder some of whose layers see the last positions only, and would lose
        sight of the slots; `None` for all others."""
        return None if self.window is None else lambda batch, head, query, key: key < self.num_slots

    def memory_slots(self, latents: torch.Tensor, packing: Packing | None = None) -> list[torch.Tensor]:
        """For each layer its slots, key and value alike: `(rows, heads, slots, head_dim)`; a row has one, or with
        `packing` one for each of its sentences.

        Args:
            latents (`torch.Tensor` of shape `(batch, latent_size)`).
            packing ([`Packing`], *optional*): How sentences share rows.
        """
        projected = self.memory(latents.to(self.memory.weight.dtype))
        slots = projected.unsqueeze(1) if packing is None else packing.of_members(projected)
        slots = slots.unflatten(2, (self.num_layers, self.num_heads, self.head_dim))
        return list(slots.permute(2, 0, 3, 1, 4).unbind())

    def check_length(self, length: int) -> None:
        """Refuse a text that takes, with the slots, more positions than can see the slots.

        Raises:
            ValueError: with the way out.
        """
        if self.max_positions is not None and length > self.max_positions:
            raise ValueError(
                f"A text takes {length} positions of the decoder, and behind {self.max_positions} some of its layers "
                "lose sight of the latent's memory slot. Cut texts to fit: processor.tokenizer.model_max_length = "
                f"{self.max_positions}; or build the model with latent_injection='embedding'."
            )

    def prefix_cache(self, latents: torch.Tensor, packing: Packing | None = None) -> Cache | None:
        """A read-only cache that holds the memory slots, for a pass over whole sentences; `None` without memory."""
        if self.memory is None:
            return None
        return Cache(layers=[PrefixCacheLayer(slot, slot) for slot in self.memory_slots(latents, packing)])

    def add_embedding(
        self, inputs_embeds: torch.Tensor, latents: torch.Tensor, packing: Packing | None = None
    ) -> torch.Tensor:
        """Input embeddings with the latent's vector added at every position: `(rows, length, embedding_size)`."""
        if self.embedding is None:
            return inputs_embeds
        vectors = self.embedding(latents.to(self.embedding.weight.dtype))
        vectors = vectors.unsqueeze(1) if packing is None else packing.of_places(vectors)
        return inputs_embeds + vectors.to(inputs_embeds.dtype)


def _closed_windows(decoder_config: PreTrainedConfig) -> list[int]:
    """Windows that no mask opens: GPT-Neo cuts them in its attention, and chunks (Llama 4) have masks of their own."""
    windows = [decoder_config.window_size] if "local" in getattr(decoder_config, "attention_layers", ()) else []
    layer_types, layer_kwargs = get_layer_types_and_kwargs(decoder_config)
    chunked = zip(layer_types, layer_kwargs, strict=True)
    return windows + [kwargs["sliding_window"] for layer_type, kwargs in chunked if layer_type == "chunked_attention"]


__all__ = ["LatentInjection", "PrefixCacheLayer"]
