# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a conditional model is given beside a text: the context that encoder and decoder both see.

The decoder reads the condition's tokens, then the start token, then the text. It sees the condition and is not scored
on it. The encoder reads text and condition as a pair of sentences. An empty condition adds no token on either side.
"""

import reprlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch

from .input_checks_bnvae import require_ids
from .loss_bnvae import IGNORE_INDEX

# A text, or the turns of a dialogue. Several texts have one condition for all, or one for each.
Condition = str | Sequence[str | Sequence[str]]

# What stands between the turns of a condition.
TURN_SEPARATOR = "\n"


def condition_text(condition: str | Sequence[str]) -> str:
    """
    A condition as one text: the text itself, or turns joined by `TURN_SEPARATOR`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(condition, str):
        return condition
    if hasattr(condition, "tolist"):  # an array, as pandas reads lists from parquet
        condition = condition.tolist()
    turns = list(condition) if isinstance(condition, (list, tuple)) else [None]
    if not all(isinstance(turn, str) for turn in turns):
        raise ValueError(
            f'A condition must be a text, or a list of turns that are texts, got {reprlib.repr(condition)}. "" is an '
            "empty condition."
        )
    return TURN_SEPARATOR.join(turns)


def conditions_of_texts(condition: Condition | None, count: int) -> list[str] | None:
    """
    The condition of each of `count` texts; `None` if no condition is given.

    Args:
        condition (`str` or sequence, *optional*): One text for all of them, or a list with one condition for each: a
            text or a list of turns.
        count (`int`): The number of texts.

    Raises:
        ValueError: for another number of conditions than of texts, and for a condition that is no text.
    """
    if condition is None:
        return None
    if isinstance(condition, str):
        return [condition] * count
    if not is_list_of_conditions(condition):
        raise ValueError(f"condition must be one text, or a list of conditions, got {reprlib.repr(condition)}.")
    conditions = list(condition)
    if len(conditions) != count:
        raise ValueError(
            f"condition must be one text, or a list with one condition for each of {count} texts, got "
            f"{len(conditions)}: {reprlib.repr(conditions)}. The turns of one condition are a list in that list: "
            '[["Hello.", "How are you?"]].'
        )
    return [condition_text(one) for one in conditions]


def is_list_of_conditions(condition: Any) -> bool:
    """Whether a condition is a list with one for each text. A scalar array has a length, too, but no elements."""
    is_list = hasattr(condition, "__len__") and getattr(condition, "ndim", 1) == 1
    return is_list and not isinstance(condition, (str, bytes, Mapping, Set))


def require_condition(is_conditional: bool, is_given: bool, what: str) -> None:
    """
    Refuse a condition for a model without one, and a missing one.

    Args:
        is_conditional (`bool`): Whether the model takes a condition.
        is_given (`bool`): Whether there is one.
        what (`str`): The argument's name.

    Raises:
        ValueError: if the two differ.
    """
    if is_conditional and not is_given:
        advice = 'Give the context of the texts, or for none an empty one: condition="" (in a shell --condition "").'
        if what != "condition":
            advice = "processor.encode_conditions makes them of texts, and the processor makes them with condition=..."
        raise ValueError(f"This model was trained with conditions, and {what} is missing. {advice}")
    if is_given and not is_conditional:
        raise ValueError(
            f"{what} was given, but this model was trained without conditions (config.conditional=False). Leave "
            f"{what} out, or train a model with --condition_column."
        )


def require_unconditional(model: Any, what: str) -> None:
    """
    Refuse a conditional model for a use that reads texts alone.

    Args:
        model ([`BNVAEModel`]): The model.
        what (`str`): What it is to be used for.

    Raises:
        ValueError: for such a model.
    """
    if model.config.conditional:
        raise ValueError(
            f"{what} reads texts alone, and this model encodes each text with its condition. Use "
            "model.encode_texts(texts, condition=...)."
        )


def require_condition_ids(condition_ids: Any, decoder: torch.nn.Module, batch_size: int) -> None:
    """
    Refuse tensors that are no conditions of a batch.

    Args:
        condition_ids (`torch.LongTensor` of shape `(batch, condition_length)`): The argument: ids of the decoder's
            vocabulary, padded on the right with -100.
        decoder (`nn.Module`): Whose ids they are.
        batch_size (`int`): The number of texts.

    Raises:
        ValueError: as [`~input_checks_bnvae.require_ids`], and for another number of conditions than of texts.
    """
    require_ids("condition_ids", condition_ids, "decoder", decoder, may_be_empty=True)
    if len(condition_ids) != batch_size:
        raise ValueError(
            f"condition_ids of shape {tuple(condition_ids.shape)} do not fit {batch_size} texts: both need a row for "
            "each text."
        )


@dataclass(frozen=True)
class DecoderRows:
    """
    What a decoder reads of a batch, and what it is scored on.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): The condition, the start token, and all labels but
            the last one. Padding holds the start token.
        labels (`torch.LongTensor` of shape `(batch, length)`): The label of each position; -100 for the condition, and
            for padding.
        is_real (`torch.BoolTensor` of shape `(batch, length)`): The positions that are no padding. They come first.
    """

    input_ids: torch.LongTensor
    labels: torch.LongTensor
    is_real: torch.BoolTensor


def rows_with_conditions(
    condition_ids: torch.LongTensor, input_ids: torch.LongTensor, labels: torch.LongTensor, start_token_id: int
) -> DecoderRows:
    """
    Put each condition ahead of its text.

    Args:
        condition_ids (`torch.LongTensor` of shape `(batch, condition_length)`): Padded on the right with -100.
        input_ids, labels (`torch.LongTensor` of shape `(batch, target_length)`): The decoder's input and labels
            without conditions, padded on the right.
        start_token_id (`int`): What stands at padding.
    """
    is_condition, is_text = condition_ids.ne(IGNORE_INDEX), labels.ne(IGNORE_INDEX)
    is_real = torch.cat([is_condition, is_text], 1)
    ids = torch.cat([condition_ids, input_ids], 1).masked_fill(~is_real, start_token_id)
    targets = torch.cat([torch.full_like(condition_ids, IGNORE_INDEX), labels], 1)
    # Padding behind a condition moves behind its text. A stable sort leaves all else in its order.
    order = (~is_real).int().sort(dim=1, stable=True).indices
    length = max(1, int(is_real.sum(1).max()))
    rows = (values.gather(1, order)[:, :length] for values in (ids, targets, is_real))
    return DecoderRows(*rows)


def prompts_with_conditions(
    condition_ids: torch.LongTensor, prompts: torch.LongTensor, mask: torch.LongTensor, pad_token_id: int
) -> tuple[torch.LongTensor, torch.LongTensor]:
    """
    Put each condition ahead of the prompt that is to be continued.

    Args:
        condition_ids (`torch.LongTensor` of shape `(batch, condition_length)`): Padded on the right with -100.
        prompts (`torch.LongTensor` of shape `(batch, prompt_length)`): Padded on the left, each with its start token.
        mask (`torch.LongTensor` of shape `(batch, prompt_length)`): 1 for tokens of prompts, 0 for padding.
        pad_token_id (`int`): What stands at padding.

    Returns:
        `tuple`: ids and mask of both, padded on the left, each `(batch, length)`. The prompts stand at the end, each
        of them where it stood before.
    """
    is_condition = condition_ids.ne(IGNORE_INDEX)
    is_real = torch.cat([is_condition, mask.bool()], 1)
    ids = torch.cat([condition_ids.masked_fill(~is_condition, pad_token_id), prompts], 1)
    order = is_real.int().sort(dim=1, stable=True).indices
    length = int(is_real.sum(1).max())
    return ids.gather(1, order)[:, -length:], is_real.gather(1, order)[:, -length:].to(mask)


__all__ = [
    "TURN_SEPARATOR",
    "Condition",
    "DecoderRows",
    "condition_text",
    "conditions_of_texts",
    "is_list_of_conditions",
    "prompts_with_conditions",
    "require_condition",
    "require_condition_ids",
    "require_unconditional",
    "rows_with_conditions",
]
