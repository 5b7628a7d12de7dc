# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Make one padded batch from tokenised texts, and select the entries that the encoder takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..model.processing_bnvae import BNVAEProcessor


@dataclass
class BNVAEDataCollator:
    """
    Pad the texts of a batch: `input_ids` with the encoder's padding token, `labels` and `condition_ids` with -100.

    Args:
        processor ([`BNVAEProcessor`]): The processor that tokenised the texts.
        pad_to_multiple_of (`int`, *optional*): Pad to a multiple of this length.
    """

    processor: BNVAEProcessor
    pad_to_multiple_of: int | None = None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Args:
            features (`list[dict]`): One entry per text, with `input_ids`, `labels` and optionally `attention_mask`; of
                texts with conditions also `condition_ids`, and for some encoders `token_type_ids`.

        Returns:
            `dict`: `input_ids` and `attention_mask` of shape `(batch, length)`, `labels` of `(batch, target_length)`,
            and the other entries if there are any.

        Raises:
            ValueError: if a text lacks an entry that another one has.
        """
        rows: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": []}
        others = ("token_type_ids", "labels", "condition_ids")
        rows |= {name: [] for name in others if any(name in feature for feature in features)}
        for number, feature in enumerate(features):
            for name in rows:
                if name not in feature and name != "attention_mask":
                    raise ValueError(
                        f"Text {number} of a batch has no {name}, and others have. Tokenise all texts in one way, "
                        "with conditions or without."
                    )
                rows[name].append(list(feature.get(name, [1] * len(feature["input_ids"]))))
        padded = self.processor.pad(rows, self.pad_to_multiple_of)
        return {name: torch.tensor(values) for name, values in padded.items()}


def scored_texts(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries of a batch that say what the decoder is scored on: `labels`, and of a conditional model also
    `condition_ids`."""
    return {name: batch[name] for name in ("labels", "condition_ids") if name in batch}


def encoder_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries of a batch that the encoder takes; the model's `forward` takes more."""
    others = ("labels", "condition_ids", "noise", "latents")
    return {
        name: values
        for name, values in batch.items()
        if isinstance(values, torch.Tensor) and name not in others and not name.startswith("decoder_")
    }
