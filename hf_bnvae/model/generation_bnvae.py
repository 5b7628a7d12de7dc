# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Text from latents: Transformers' generation on a decoder whose cache holds the latent's memory slot.

For `GenerationMixin` a BN-VAE is an encoder-decoder whose encoded sequence is the latent, of length one. So it repeats
the latent for beams and for several returned sequences.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch.nn import functional as F
from transformers import GenerationMixin, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer, EncoderDecoderCache, StaticLayer
from transformers.masking_utils import create_masks_for_generate
from transformers.modeling_outputs import BaseModelOutput

from .condition_bnvae import prompts_with_conditions, require_condition, require_condition_ids
from .finite_bnvae import FiniteLogits
from .input_checks_bnvae import (
    require_count,
    require_finite_number,
    require_ids,
    require_shape,
    vocabulary_size,
)

# Arguments of `generate` that have another meaning here, or no meaning, and what to do instead.
_REFUSED_ARGUMENTS = {
    "past_key_values": "generate makes the cache, which holds the latent's memory slot; to continue a text, pass the "
    "whole text as decoder_input_ids",
    "inputs": "sentences are passed as input_ids",
    "inputs_embeds": "sentences are passed as input_ids",
    "decoder_inputs_embeds": "a prompt is passed as decoder_input_ids",
    "assistant_model": "an assistant would know nothing of the latent",
}
# Settings that are not available here, each with the values that switch it off, and what to do instead. A generation
# configuration may hold them, too.
_REFUSED_SETTINGS = {
    "output_attentions": (
        (None, False),
        "call model(latents=..., decoder_input_ids=..., output_attentions=True) on the tokens generated",
    ),
    "output_hidden_states": (
        (None, False),
        "call model(latents=..., decoder_input_ids=..., output_hidden_states=True) on the tokens generated",
    ),
    "guidance_scale": ((None, 1), "there is no unconditional text to guide away from"),
    "prefill_chunk_size": ((None,), "prompts are read at once"),
}

# Generation arguments that are whole numbers, each with its least value, and those that are any numbers. Transformers
# checks only some of their ranges, and no types.
_COUNTS = {
    "max_new_tokens": 1,
    "max_length": 1,
    "min_new_tokens": 0,
    "min_length": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "top_k": 0,
    "no_repeat_ngram_size": 0,
}
_NUMBERS = ("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty")

# The length of texts for which no length is given, as in Transformers' pipelines, if the decoder has the positions.
DEFAULT_MAX_NEW_TOKENS = 256


class LatentGenerationMixin(GenerationMixin):
    """`generate` of a [`BNVAEModel`]."""

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        latents: torch.FloatTensor | None = None,
        sample_posterior: bool = False,
        seed: int | None = None,
        condition_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Text from latents, with the options of [`~transformers.GenerationMixin.generate`].

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Sentences for the encoder.
            attention_mask (`torch.Tensor` of shape `(batch, length)`, *optional*): 1 for tokens, 0 for padding.
            latents (`torch.FloatTensor` of shape `(batch, latent_size)`, *optional*): Latents to decode instead.
            sample_posterior (`bool`, *optional*, defaults to `False`): With `input_ids`, decode one sample of each
                sentence's posterior instead of its mode.
            seed (`int`, *optional*): Seed of all draws of this call, from the posterior and by `do_sample`. The global
                random state then stays as it was.
            condition_ids (`torch.LongTensor` of shape `(batch, condition_length)`, *optional*): With
                `config.conditional`, each text's condition in ids of the decoder, padded on the right with -100
                ([`~BNVAEProcessor.encode_conditions`]). The result does not repeat it.
            **kwargs: Generation arguments (`max_new_tokens`, `do_sample`, `num_beams`, `streamer`, ...). A prompt to
                continue is given as `decoder_input_ids`. If prompts are padded, on the left, they need
                `decoder_attention_mask`. Both have the shape `(batch, prompt_length)`, and
                [`~BNVAEProcessor.encode_prompts`] makes them. Each prompt that does not begin with
                `decoder_start_token_id` gets this token. The default length is 256 tokens, or less if the decoder has
                fewer positions behind the text's condition and prompt. A condition does not count in `max_length` and
                `min_length`, but `repetition_penalty` sees it, and a streamer gets it first.

        Returns:
            `torch.LongTensor` of shape `(batch * num_return_sequences, length)`: decoder token ids, from
            `decoder_start_token_id` on, or with `return_dict_in_generate=True` an output object.

        Raises:
            ValueError: in training mode; for latents that have the wrong shape or type or are not finite; for a prompt
                or a length beyond the decoder's positions; and for a prompt padded on the right.
            FloatingPointError: if the decoder's logits are not finite.
        """
        self.require_evaluation_mode()
        require_condition(self.config.conditional, condition_ids is not None, "condition_ids")
        for name, advice in _REFUSED_ARGUMENTS.items():
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} cannot be given: {advice}.")
        if (input_ids is None) == (latents is None):
            raise ValueError("Pass either input_ids or latents.")
        _check_numbers(kwargs)
        encoder_kwargs = {name: kwargs.pop(name) for name in ("token_type_ids",) if name in kwargs}
        if latents is not None and (sample_posterior or attention_mask is not None or encoder_kwargs):
            raise ValueError(
                "sample_posterior, attention_mask and token_type_ids belong to input_ids. Leave them out: latents are "
                "decoded as they are."
            )
        with seeded(seed):
            if latents is None:
                posterior = self.encode(input_ids, attention_mask, **encoder_kwargs)
                latents = posterior.sample() if sample_posterior else posterior.mode()
            latents = self.prepare_latents(latents)
            kwargs["encoder_outputs"] = BaseModelOutput(last_hidden_state=latents.unsqueeze(1))
            # A latent has no padding. Without a mask the base class would look for padding, and warn.
            kwargs["attention_mask"] = torch.ones(len(latents), 1, dtype=torch.long, device=latents.device)
            if condition_ids is None:
                return super().generate(**kwargs)
            require_condition_ids(condition_ids, self.decoder, len(latents))
            conditions = _Conditions(condition_ids, self.config.pad_token_id)
            criteria = StoppingCriteriaList([*(kwargs.pop("stopping_criteria", None) or ()), conditions])
            output = super().generate(condition_ids=conditions, stopping_criteria=criteria, **kwargs)
            return conditions.cut_from(output)

    def require_evaluation_mode(self) -> None:
        """Refuse to make texts or their latents in training mode, by a `ValueError`."""
        if self.training:
            raise ValueError(
                "The model is in training mode: dropout would disturb texts and latents, and a batch-normalised "
                "posterior would depend on the other sentences of the batch. Call model.eval() first."
            )

    def prepare_latents(self, latents: Any) -> torch.FloatTensor:
        """
        Latents in the form that the decoder takes: `(batch, latent_size)`, in the posterior's type, on the model's
        device.

        Args:
            latents (`torch.Tensor` of shape `(batch, latent_size)`): Of any floating-point type.

        Raises:
            ValueError: for anything else, and for latents that are not finite.
        """
        expected = f"latents must be a floating-point tensor of shape (batch, latent_size={self.config.latent_size})"
        if not isinstance(latents, torch.Tensor):
            raise ValueError(f"{expected}, got {type(latents).__name__}.")
        if not latents.is_floating_point():
            raise ValueError(f"{expected}, got {latents.dtype}. Token ids of sentences are passed as input_ids.")
        if latents.dim() != 2 or latents.shape[1] != self.config.latent_size or len(latents) == 0:
            is_embedding = latents.dim() == 2 and latents.shape[1] == self.config.encoder.hidden_size
            hint = " If these are sentence embeddings: reconstruct(embeddings=...)." if is_embedding else ""
            raise ValueError(f"{expected}, got shape {tuple(latents.shape)}.{hint}")
        latents = latents.to(self.device, self.posterior.dtype)
        is_finite = latents.isfinite().all(1)
        if not is_finite.all():
            rows = (~is_finite).nonzero().flatten().tolist()
            raise ValueError(
                f"{len(rows)} of {len(latents)} latents hold NaN or infinite values, the first of them row {rows[0]}."
            )
        return latents

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        return LogitsProcessorList([FiniteLogits(), *super()._get_logits_processor(*args, **kwargs)])

    def _prepare_generation_config(self, generation_config: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        generation_config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        if generation_config.decoder_start_token_id is None:
            generation_config.decoder_start_token_id = self.config.decoder_start_token_id
        for name, (idle, advice) in _REFUSED_SETTINGS.items():
            if getattr(generation_config, name) not in idle:
                raise ValueError(f"{name} is not available here: {advice}.")
        # The lengths of a call depend on its conditions. The configuration is this call's own.
        generation_config.conditions = model_kwargs.get("condition_ids")
        return generation_config, model_kwargs

    def _prepare_decoder_input_ids_for_generation(
        self,
        batch_size: int,
        model_input_name: str,
        model_kwargs: dict[str, Any],
        decoder_start_token_id: torch.Tensor,
        device: torch.device | None = None,
    ) -> tuple[torch.LongTensor, dict[str, Any]]:
        """Prompts with their start tokens and positions. Without prompts each text begins with its start token."""
        prompts = model_kwargs.pop("decoder_input_ids", None)
        mask = model_kwargs.pop("decoder_attention_mask", None)
        if prompts is None:
            if mask is not None:
                raise ValueError("decoder_attention_mask was given without decoder_input_ids.")
            prompts = torch.empty(batch_size, 0, dtype=torch.long, device=device)
        require_ids("decoder_input_ids", prompts, "decoder", vocabulary_size(self.decoder), may_be_empty=True)
        if len(prompts) != batch_size:
            raise ValueError(
                f"decoder_input_ids must hold one prompt for each of {batch_size} latents, got the shape "
                f"{tuple(prompts.shape)}."
            )
        prompts = prompts.to(device)
        if mask is None:
            mask = torch.ones_like(prompts)
        require_shape("decoder_attention_mask", mask, prompts.shape, "decoder_input_ids")
        mask = mask.to(prompts)
        if (mask[:, 1:] < mask[:, :-1]).any():
            raise ValueError(
                "Prompts must be padded on the left, so that generated tokens follow their last token, but "
                "decoder_attention_mask has a 0 behind a 1. processor.encode_prompts pads on the left."
            )
        prompts, mask = _with_start_tokens(prompts, mask, decoder_start_token_id.to(prompts))
        conditions = model_kwargs.pop("condition_ids", None)
        if conditions is not None:
            prompts, mask = conditions.put_ahead(prompts, mask)
        if not mask.all():
            model_kwargs["decoder_attention_mask"] = mask
        if self.takes_position_ids:
            model_kwargs["decoder_position_ids"] = positions_of(mask) + self.injection.num_slots
        return prompts, model_kwargs

    def _prepare_generated_length(
        self,
        generation_config: Any,
        has_default_max_length: bool,
        has_default_min_length: bool,
        input_ids_length: int,
        **kwargs: Any,
    ) -> Any:
        """As the base class, within the decoder's positions. The memory slot takes one position, and the last token
        takes none. Conditions do not count."""
        positions, conditions = self.injection.max_positions, generation_config.conditions
        if conditions is not None:
            if not has_default_max_length and generation_config.max_length is not None:
                generation_config.max_length += conditions.width
            if not has_default_min_length and generation_config.min_length is not None:
                generation_config.min_length += conditions.width
        room = None if positions is None else positions - self.injection.num_slots - input_ids_length + 1
        if room is not None and room < 1:
            raise ValueError(
                f"A prompt of {input_ids_length} tokens (start token, condition and padding included) does not fit "
                f"into the decoder's {positions} positions, of which the latent takes {self.injection.num_slots}. "
                "Shorten it."
            )
        if has_default_max_length and generation_config.max_new_tokens is None:
            if conditions is not None and room is not None and generation_config.use_cache and self._shifts_positions:
                room = conditions.give_each_its_room(room)
            generation_config.max_new_tokens = min(DEFAULT_MAX_NEW_TOKENS, room or DEFAULT_MAX_NEW_TOKENS)
        generation_config = super()._prepare_generated_length(
            generation_config=generation_config,
            has_default_max_length=has_default_max_length,
            has_default_min_length=has_default_min_length,
            input_ids_length=input_ids_length,
            **kwargs,
        )
        if room is not None and generation_config.max_length - input_ids_length > room:
            prompt = "a prompt" if conditions is None else "a condition with its prompt"
            raise ValueError(
                f"The decoder has {positions} positions: behind the latent's {self.injection.num_slots} and {prompt} "
                f"of {input_ids_length} (the start token included) there is room for max_new_tokens={room}, got "
                f"{generation_config.max_length - input_ids_length}."
            )
        return generation_config

    @property
    def _shifts_positions(self) -> bool:
        """Whether padding on the left takes none of the decoder's positions. GPT-Neo's masks have as many columns as
        there are positions, and windows that no mask can extend count padding, too."""
        config = self.decoder.config
        return (
            self.takes_position_ids
            and not hasattr(config, "attention_layers")
            and self.injection.max_positions == getattr(config, "max_position_embeddings", None)
        )

    def _update_model_kwargs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        model_kwargs = super()._update_model_kwargs_for_generation(*args, **kwargs)
        positions, limit = model_kwargs.get("decoder_position_ids"), self.injection.max_positions
        if positions is not None and limit is not None:
            # A text that has filled its positions waits for the others of its batch.
            model_kwargs["decoder_position_ids"] = positions.clamp(max=limit - 1)
        return model_kwargs

    def _prepare_cache_for_generation(
        self,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        """The decoder's cache, with the latents' memory slots already in it."""
        slots = self.injection.num_slots
        super()._prepare_cache_for_generation(
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length + slots
        )
        cache = model_kwargs.get("past_key_values")
        if isinstance(cache, EncoderDecoderCache):
            cache = model_kwargs["past_key_values"] = cache.self_attention_cache
        if slots == 0:
            return
        mask = model_kwargs.get("decoder_attention_mask")
        if mask is not None:
            model_kwargs["decoder_attention_mask"] = F.pad(mask, (slots, 0), value=1)
        if cache is None:
            return
        # A layer that keeps the last positions only would drop the slot. All static layers must have the same length.
        full_lengths = (layer.max_cache_len for layer in cache.layers if cache.is_compileable and not layer.is_sliding)
        length = max(full_lengths, default=max_cache_length + slots)
        cache.layers = [
            (StaticLayer(length) if cache.is_compileable else DynamicLayer()) if layer.is_sliding else layer
            for layer in cache.layers
        ]
        latents = model_kwargs["encoder_outputs"].last_hidden_state.squeeze(1)
        for layer, slot in enumerate(self.injection.memory_slots(latents)):
            slot = slot.to(self.decoder.dtype)
            cache.update(slot, slot, layer)

    def create_masks_for_generate(self, **kwargs: Any) -> Any:
        """The masks of a static cache. Generation makes them before each pass, so that the pass can be compiled."""
        return create_masks_for_generate(**kwargs, or_mask_function=self.injection.slots_stay_visible)


@dataclass(eq=False)
class _Conditions(StoppingCriteria):
    """The conditions of one call of `generate`. The base class knows no conditions: for it they are the beginnings of
    the prompts. As a criterion they end each text where its own condition leaves no room."""

    condition_ids: torch.LongTensor
    pad_token_id: int
    prompts: torch.LongTensor | None = None
    num_tokens: torch.LongTensor | None = None  # of each text's condition and prompt, (batch,)
    length: int = 0  # of condition and prompt, with padding
    rooms: torch.LongTensor | None = None  # the most new tokens of each text, (batch,)

    def put_ahead(
        self, prompts: torch.LongTensor, mask: torch.LongTensor
    ) -> tuple[torch.LongTensor, torch.LongTensor]:
        """Ids and mask, each `(batch, length)`, of conditions and prompts."""
        self.prompts = prompts
        ids = self.condition_ids.to(prompts)
        prompts, mask = prompts_with_conditions(ids, prompts, mask, self.pad_token_id)
        self.length, self.num_tokens = prompts.shape[1], mask.sum(1)
        return prompts, mask

    @property
    def width(self) -> int:
        """How many tokens longer than the prompts they are with conditions ahead."""
        return self.length - self.prompts.shape[1]

    def give_each_its_room(self, room: int) -> int:
        """
        End each text where its own condition, and not the batch's longest one, leaves no room.

        Args:
            room (`int`): The number of new tokens for which the longest condition leaves room.

        Returns:
            `int`: the number for which the shortest condition does.
        """
        self.rooms = room + self.length - self.num_tokens
        return int(self.rooms.max())

    def __call__(self, input_ids: torch.LongTensor, scores: Any = None, **kwargs: Any) -> torch.BoolTensor:
        """Which texts, `(rows,)`, have no room left."""
        if self.rooms is None:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        return input_ids.shape[1] - self.length >= self._for_rows(self.rooms, input_ids)

    def _for_rows(self, values: torch.Tensor, sequences: torch.LongTensor) -> torch.Tensor:
        """Values of the texts, for the rows of beams or of several returned sequences."""
        return values.repeat_interleave(len(sequences) // len(values), 0).to(sequences)

    def cut_from(self, output: Any) -> Any:
        """What `generate` returned, without the conditions."""
        sequences = getattr(output, "sequences", output)
        new = sequences[:, self.length :]
        if self.rooms is not None:  # without an EOS token a text would go on
            is_behind = torch.arange(new.shape[1], device=new.device) >= self._for_rows(self.rooms, new)[:, None]
            new = new.masked_fill(is_behind, self.pad_token_id)
        sequences = torch.cat([self._for_rows(self.prompts, sequences), new], 1)
        if not hasattr(output, "sequences"):
            return sequences
        output.sequences = sequences
        return output


def _check_numbers(arguments: Mapping[str, Any]) -> None:
    """Refuse generation arguments that are no numbers where numbers belong, by a `ValueError`."""
    for name, value in arguments.items():
        if value is None:
            continue
        if name in _COUNTS:
            require_count(name, value, _COUNTS[name])
        elif name in _NUMBERS:
            require_finite_number(name, value)


def _with_start_tokens(
    prompts: torch.LongTensor, mask: torch.LongTensor, start_token_id: torch.LongTensor
) -> tuple[torch.LongTensor, torch.LongTensor]:
    """Prompts padded on the left, `(batch, length)`, and their masks, with a start token at the beginning of each
    prompt."""
    length = prompts.shape[1]
    start = start_token_id.reshape(-1, 1).expand(len(prompts), 1)
    longer, longer_mask = torch.cat([start, prompts], 1), F.pad(mask, (1, 0))
    num_tokens = mask.sum(1, keepdim=True)
    ahead = length - num_tokens  # (batch, 1): the position in `longer` ahead of the first token
    lacks_start = longer.gather(1, (ahead + 1).clamp(max=length)).ne(start) | num_tokens.eq(0)
    if not lacks_start.any():
        return prompts, mask
    longer = longer.scatter(1, ahead, torch.where(lacks_start, start, longer.gather(1, ahead)))
    return longer, longer_mask.scatter(1, ahead, lacks_start.to(mask))


def positions_of(mask: torch.Tensor) -> torch.LongTensor:
    """The position of each token, `(batch, length)`, counted from the first real token, from a mask `(batch, length)`
    with 0 for padding on the left."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """A context in which torch draws from `seed`. Afterwards the global random state is as it was. `None` changes
    nothing."""
    if seed is None:
        yield
        return
    if not isinstance(seed, Integral) or not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be a whole number of 64 bits, got {seed!r}.")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    with torch.random.fork_rng(device_type="cuda" if accelerator is None else accelerator.type):
        torch.manual_seed(int(seed))
        yield


__all__ = ["DEFAULT_MAX_NEW_TOKENS", "LatentGenerationMixin", "positions_of", "seeded"]
