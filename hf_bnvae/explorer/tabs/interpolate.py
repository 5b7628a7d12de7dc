# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Interpolate*: the texts on the way from one text to another."""

from typing import Any

import gradio as gr

from ...model.modeling_bnvae import BNVAEModel
from .common import (
    AT_ONCE,
    ON_MODEL,
    as_lines,
    decoding_controls,
    decoding_settings,
    given,
    require_text,
    result_box,
    text_box,
    with_messages,
)

_STEPS = 9


def interpolate_tab(model: BNVAEModel, condition: gr.Textbox, start: str, end: str) -> tuple[gr.Textbox, gr.Textbox]:
    """Build the tab. Returns the boxes of both ends, which the map fills."""
    with gr.Row():
        first = text_box("From", start, elem_id="interpolate-from")
        last = text_box("To", end, elem_id="interpolate-to")
    with gr.Row():
        steps = gr.Slider(2, 25, value=_STEPS, step=1, label="Texts along the way")
        method = gr.Radio(["linear", "spherical"], value="linear", label="Way", elem_id="interpolate-method")
    go = gr.Button("Go", variant="primary", elem_id="interpolate-start")
    place = gr.Slider(1, _STEPS, value=1, step=1, label="Place on the way", elem_id="interpolate-place")
    here = result_box("The text there", elem_id="interpolate-here")
    path = result_box("All texts", _STEPS, elem_id="interpolate-path")
    found = gr.State([])
    controls = decoding_controls()

    @with_messages
    def walk(start: str, end: str, condition: str, steps: float, method: str, *settings: Any) -> tuple[Any, ...]:
        chosen = {**given(model, condition), **decoding_settings(*settings)}
        # One text a step.
        chosen.pop("num_return_sequences", None)
        ends = require_text(start, "the first text"), require_text(end, "the second text")
        texts = model.interpolate(*ends, steps=int(steps), method=method, **chosen)
        return texts, as_lines(texts), gr.Slider(1, len(texts), value=1, step=1), as_lines(texts[0])

    def show(texts: list[str], place: float) -> str:
        return as_lines(texts[min(int(place), len(texts)) - 1]) if texts else ""

    gr.on(
        [go.click, first.submit, last.submit],
        walk,
        [first, last, condition, steps, method, *controls],
        [found, path, place, here],
        **ON_MODEL,
    )
    place.change(show, [found, place], here, **AT_ONCE)
    return first, last
