# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Reconstruct*: a text, what comes back, and what its latent holds."""

import gradio as gr

from ...model.modeling_bnvae import BNVAEModel
from ..sentence import sentence_figures
from .common import (
    ON_MODEL,
    as_lines,
    condition_box,
    decoding_controls,
    decoding_settings,
    given,
    require_text,
    result_box,
    text_box,
    with_messages,
)


def reconstruct_tab(model: BNVAEModel, condition: gr.Textbox, text: str, page: gr.Blocks) -> gr.Textbox:
    """Build the tab. Returns the box that the map fills. When the page is opened, it reconstructs the first text."""
    box = text_box("Text", text, elem_id="reconstruct-text")
    other = condition_box(model, "", "Decode under another condition (optional)", "reconstruct-other")
    back = result_box("What comes back", elem_id="reconstruct-result")
    figures = gr.Markdown(elem_id="reconstruct-figures")
    measure = gr.Button("How much does its latent hold?", elem_id="reconstruct-measure")
    from_posterior = gr.Checkbox(label="Decode a draw from the text's posterior instead of its mode")
    controls = decoding_controls()

    @with_messages
    def reconstruct(text: str, condition: str, other: str, draw: bool, *settings: object) -> tuple[str, str]:
        if not (text or "").strip():
            return "", ""  # somebody who types anew is told nothing
        chosen = {**given(model, condition), **decoding_settings(*settings)}
        if other:
            chosen |= {**given(model, other), "text_condition": chosen["condition"]}
        return as_lines(model.reconstruct(require_text(text), sample_posterior=draw, **chosen)), ""

    @with_messages
    def measured(text: str, condition: str) -> str:
        return str(sentence_figures(model, require_text(text), **given(model, condition)))

    inputs = [box, condition, other, from_posterior, *controls]
    # While somebody types, only the newest text counts.
    gr.on(
        # The map changes the box, too.
        [
            *(page.load, box.change, box.submit, condition.change, other.change, from_posterior.input),
            *(control.input for control in controls),
        ],
        reconstruct,
        inputs,
        [back, figures],
        trigger_mode="always_last",
        show_progress="hidden",
        **ON_MODEL,
    )
    measure.click(measured, [box, condition], figures, **ON_MODEL)
    return box
