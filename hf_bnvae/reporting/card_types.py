# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Checks that the values of a model card are of the kinds that the card shows."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_type_hints

from huggingface_hub.dataclasses import type_validator

from ..evaluation.result import EvaluationResult
from ..model.configuration_bnvae import BNVAEConfig

Number = int | float

# The parts of fields that are mappings, as a card shows them. Other parts are not shown.
_CONFIG = {f.name: f.type for f in fields(BNVAEConfig) if f.name in ("posterior", "pooling", "latent_injection")}
_CONFIG |= {"latent_size": int, "kl_floor": Number}
_CONFIG |= {"scale": dict[Literal["bn_tau", "bn_theta_init", "bn_gamma", "rate"], Number]}
_FIGURES = {name: kind | int | None for name, kind in get_type_hints(EvaluationResult).items()}
_PROBED = {"num_classes": int, "num_test": int, "majority_accuracy": Number, "rows": list[dict[str, Number | None]]}
_DIRECTION = {"name": str, "negative": str, "positive": str, "num_negative": int, "num_positive": int}
_DIRECTION |= {"scale": Number, "held_out_accuracy": Number | None}
_EXAMPLES = {"reconstructions": list[list[str] | tuple[str, ...]], "samples": list[str], "interpolation": list[str]}


def check_card_types(card: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """
    Check that the values of a model card are of the kinds that it shows. A card may come from somebody else.

    Args:
        card (mapping): The fields of a [`~model_card.BNVAEModelCard`].
        kinds (mapping): Their types.

    Raises:
        ValueError: for a value of another kind. The message names its field.
    """
    for name, value in card.items():
        _require(name, value, kinds[name])
    _require_parts("config", card["config"], _CONFIG, are_needed=True)
    _require_parts("figures", card["figures"], _FIGURES)
    _require_parts("examples", card["examples"] or {}, _EXAMPLES)
    for direction in card["directions"]:
        _require_parts("directions", direction, _DIRECTION, are_needed=True)
    if card["probe"] is not None:
        results = card["probe"].get("results")
        _require("probe: results", results, dict[str, dict[str, Any]])
        for name, result in results.items():
            _require_parts(f"probe: results: {name}", result, _PROBED, are_needed=True)


def _require_parts(field: str, parts: Mapping[str, Any], kinds: Mapping[str, Any], are_needed: bool = False) -> None:
    for name, kind in kinds.items():
        if name in parts or are_needed:
            _require(f"{field}: {name}", parts.get(name), kind)


def _require(name: str, value: Any, kind: Any) -> None:
    try:
        type_validator(name, value, kind)
    except TypeError as error:
        shown = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind).replace("typing.", "")
        raise ValueError(f"The field {name} of a model card must be {shown}, got {value!r}.") from error
