# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Edit*: a text that is moved along a saved direction, or along one from two lists of texts."""

from typing import Any

import gradio as gr
from transformers.utils import logging

from ...model.modeling_bnvae import BNVAEModel
from .common import (
    ON_MODEL,
    as_lines,
    decoding_controls,
    decoding_settings,
    given,
    require_text,
    result_box,
    text_box,
    typed_lines,
    with_messages,
)

logger = logging.get_logger(__name__)

# No name of a direction, since names are lines of text.
_TYPED = "\n"


def edit_tab(model: BNVAEModel, condition: gr.Textbox, text: str) -> gr.Textbox:
    """Build the tab. Returns the box that the map fills."""
    box = text_box("Text", text, elem_id="edit-text")
    try:
        saved = model.directions
    except ValueError as error:  # a damaged file
        logger.warning(f"The page shows no saved directions. {error}")
        saved = {}
    names = [*((name, name) for name in saved), ("from the two lists below", _TYPED)]
    with gr.Row():
        direction = gr.Dropdown(names, value=names[0][1], label="Direction", elem_id="edit-direction")
        strength = gr.Slider(
            -4, 4, value=1, step=0.1, label="Strength: 1 leads from one side to the other", elem_id="edit-strength"
        )
    go = gr.Button("Edit", variant="primary", elem_id="edit-start")
    with gr.Row():
        before = result_box("With strength 0", elem_id="edit-before")
        after = result_box("Edited", elem_id="edit-after")
    about = gr.Markdown(elem_id="edit-about")
    with gr.Accordion("Two lists of texts, one a line", open=not saved), gr.Row():
        lists = {"show_label": True, "lines": 4, "max_lines": 12}
        negative = gr.Textbox(label="From texts like these", elem_id="edit-negative", **lists)
        positive = gr.Textbox(label="To texts like these", elem_id="edit-positive", **lists)
    controls = decoding_controls()

    @with_messages
    def edit(
        text: str, condition: str, name: str, strength: float, negative: str, positive: str, *settings: Any
    ) -> tuple[str, ...]:
        under = given(model, condition)
        if name == _TYPED:
            sides = typed_lines(positive, "texts to go to"), typed_lines(negative, "texts to come from")
            names = ("typed in", "the second list", "the first list")
            found = model.direction(*sides, *names, show_progress=False, **under)
        else:
            found = saved[name]
        chosen = {**under, **decoding_settings(*settings)}
        latent = model.encode_texts(require_text(text), **under)
        texts = [as_lines(model.edit(latent, found, factor, **chosen)) for factor in (0.0, float(strength))]
        return *texts, _described(found)

    gr.on(
        [go.click, box.submit, direction.input, strength.release],
        edit,
        [box, condition, direction, strength, negative, positive, *controls],
        [before, after, about],
        **ON_MODEL,
    )
    return box


def _described(direction: Any) -> str:
    accuracy = direction.held_out_accuracy
    told = (
        "With one text on a side nobody knows how well the direction tells them apart."
        if accuracy is None
        else "Texts that the direction was not made from are told apart with an accuracy of "
        f"{accuracy:.0%} (chance is 50%)."
    )
    return (
        f"The two sides are {direction.scale:.2f} standard deviations of the prior apart ({direction.num_negative} "
        f"and {direction.num_positive} texts). {told} A single text may need a larger strength than 1."
    )
