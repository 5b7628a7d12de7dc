# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Pipelines: `"text-latent"`, from texts to the means of their posteriors, and `"latent-text"`, from texts or latents
to texts."""

import reprlib
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Pipeline

from .condition_bnvae import condition_text


class _LatentSpacePipeline(Pipeline):
    """The base of both pipelines: the processor, attached to the model, and inputs that are texts or latents."""

    # Load the processor from a folder or the Hub. A model that is passed as an object may have its processor attached.
    _load_processor = None
    _load_tokenizer = _load_feature_extractor = _load_image_processor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        processor = self.processor or self.model.processor
        if processor is None:
            raise ValueError(
                "The pipeline needs the model's processor: pass processor=BNVAEProcessor.from_pretrained(...), or the "
                "model as the folder or Hub name that holds both."
            )
        self.model.attach_processor(processor).eval()
        # Without a tokenizer the base class makes no batches. The model's methods tokenize the texts.
        self.processor, self.tokenizer = processor, processor.tokenizer

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], (int, float)):
            inputs = torch.tensor(inputs)  # one latent, in the form in which the other pipeline returns it
        elif isinstance(inputs, tuple) or getattr(inputs, "ndim", 0) == 2:
            # Each row of a tensor or an array is one input, as is each element of a list.
            inputs = list(inputs)
        return [] if isinstance(inputs, list) and not inputs else super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save the model and the processor."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class LatentTextPipeline(_LatentSpacePipeline):
    """
    Texts from latents, or from texts through their latents.

    Inputs are texts (`str`), latents (tensors or arrays of shape `(latent_size,)`), lists, generators or data sets of
    them, or one tensor `(n, latent_size)`. For a conditional model an input may also be a dict with a condition:
    `{"text": ..., "condition": ...}` or `{"latents": ..., "condition": ...}`.

    Args of a call, or of `pipeline("latent-text", ...)` for all calls:
        sample_posterior (`bool`, *optional*, defaults to `False`): Decode a draw from each text's posterior.
        whitened (`bool`, *optional*, defaults to `False`): Take latents as the pipeline `"text-latent"` returns them
            with `whitened=True`.
        prompt (`str`, *optional*): The beginning of every text.
        condition (`str`, *optional*): The condition of all inputs, for a conditional model.
        seed (`int`, *optional*): Seed of all draws. Each batch begins with it.
        batch_size (`int`, *optional*, defaults to 1): The number of inputs that are decoded at once.
        **generation_kwargs: Arguments of [`~BNVAEModel.generate`] (`max_new_tokens`, `do_sample`, ...).

    Returns for each input:
        `list[dict]`: `{"generated_text": str}`, `num_return_sequences` of them.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> reconstruct = pipeline("latent-text", model="runs/bnvae")
    >>> reconstruct("The food was great .")
    [{'generated_text': 'the food was great .'}]
    ```
    """

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        _require_one_condition(kwargs.get("condition"))
        return {}, kwargs, {}

    def preprocess(self, input_: Any) -> dict[str, Any]:
        if isinstance(input_, Mapping):
            input_, condition = _with_condition(input_, ("text", "latents"))
            return {**self.preprocess(input_), "condition": condition}
        if isinstance(input_, str):
            return {"text": input_}
        latents, is_single = self.model.as_latents(input_, batch_size=1)
        if not is_single:
            raise ValueError(f"An input must be a text or a latent of shape (latent_size,), got {input_!r}.")
        return {"latents": latents}

    def _forward(self, model_inputs: dict[str, Any], whitened: bool = False, **kwargs: Any) -> dict[str, Any]:
        if "condition" in model_inputs:
            # Of a batch a list, of a single input a text.
            condition = model_inputs.pop("condition")
            kwargs["condition"] = condition if isinstance(condition, list) else [condition]
        (items,) = model_inputs.values()
        if whitened and isinstance(items, torch.Tensor):
            items = self.model.require_fitted_prior().unwhiten(items)
        items = [items] if isinstance(items, str) else items
        decoded = self.model.reconstruct(items, batch_size=len(items), show_progress=False, **kwargs)
        return {"texts": [texts if isinstance(texts, list) else [texts] for texts in decoded]}

    def postprocess(self, model_outputs: dict[str, Any]) -> list[dict[str, str]]:
        (texts,) = model_outputs.values()
        # A single input comes as a batch of one.
        texts = texts[0] if isinstance(texts[0], list) else texts
        return [{"generated_text": text} for text in texts]


class TextLatentPipeline(_LatentSpacePipeline):
    """
    The means of texts' posteriors, as features of the texts. For a conditional model an input may also be a dict with
    a condition: `{"text": ..., "condition": ...}`.

    Args of a call, or of `pipeline("text-latent", ...)` for all calls:
        return_tensors (`bool`, *optional*, defaults to `False`): Return tensors instead of lists.
        condition (`str`, *optional*): The condition of all texts, for a conditional model.
        whitened (`bool`, *optional*, defaults to `False`): Return the means where the model's fitted prior is N(0, I).
        batch_size (`int`, *optional*, defaults to 1): The number of texts that are encoded at once.

    Returns for each text:
        `list[float]`, or with `return_tensors=True` a `torch.FloatTensor`, of length `latent_size`.
    """

    def _sanitize_parameters(
        self,
        return_tensors: bool | None = None,
        whitened: bool | None = None,
        condition: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise ValueError(f"Unknown arguments of {type(self).__name__}: {', '.join(sorted(kwargs))}.")
        forward: dict[str, Any] = {} if whitened is None else {"whitened": whitened}
        _require_one_condition(condition)
        if condition is not None:
            forward["condition"] = condition
        return {}, forward, {} if return_tensors is None else {"return_tensors": return_tensors}

    def preprocess(self, input_: Any) -> dict[str, Any]:
        if isinstance(input_, Mapping):
            return dict(zip(("text", "condition"), _with_condition(input_, ("text",)), strict=True))
        return {"text": input_}

    def _forward(
        self, model_inputs: dict[str, Any], whitened: bool = False, condition: Any = None
    ) -> dict[str, torch.Tensor]:
        texts, condition = model_inputs["text"], model_inputs.get("condition", condition)
        if not isinstance(texts, list):
            texts, condition = [texts], None if condition is None else [condition]
        latents = self.model.encode_texts(texts, batch_size=len(texts), show_progress=False, condition=condition)
        return {"latents": self.model.require_fitted_prior().whiten(latents) if whitened else latents}

    def postprocess(self, model_outputs: dict[str, torch.Tensor], return_tensors: bool = False) -> Any:
        latent = model_outputs["latents"][0]
        return latent if return_tensors else latent.tolist()


def _require_one_condition(condition: Any) -> None:
    if not isinstance(condition, str | None):
        raise ValueError(
            f"condition must be one text for all inputs, got {reprlib.repr(condition)}. Give each input its own: "
            '{"text": ..., "condition": ...}.'
        )


def _with_condition(input_: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, Any]:
    """The text or the latents of an input, and its condition."""
    found = [name for name in names if name in input_]
    if len(found) != 1 or set(input_) != {*found, "condition"}:
        raise ValueError(
            f"An input that is a dict must have the keys {' or '.join(names)}, and condition, got "
            f"{', '.join(map(str, input_))}."
        )
    return input_[found[0]], condition_text(input_["condition"])


# By the names of their tasks.
PIPELINES = {"latent-text": LatentTextPipeline, "text-latent": TextLatentPipeline}

__all__ = ["PIPELINES", "LatentTextPipeline", "TextLatentPipeline"]
