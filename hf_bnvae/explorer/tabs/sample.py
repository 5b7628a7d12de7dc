# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Sample*: texts from the fitted prior beside texts from N(0, I)."""

from collections.abc import Iterator

import gradio as gr

from ...model.modeling_bnvae import BNVAEModel
from .common import ON_MODEL, as_lines, given, result_box, with_messages

_AT_ONCE = 8
_MOST = 100


def sample_tab(model: BNVAEModel, condition: gr.Textbox) -> None:
    """Build the tab."""
    is_fitted = model.fitted_prior is not None
    with gr.Row():
        count = gr.Slider(1, _MOST, value=8, step=1, label="Texts", elem_id="sample-count")
        temperature = gr.Slider(0, 2, value=0, step=0.1, label="Temperature (0: the likeliest token)")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", elem_id="sample-seed")
    with gr.Row():
        start = gr.Button("Sample", variant="primary", elem_id="sample-start")
        stop = gr.Button("Stop")
    with gr.Row():
        name = "From the fitted prior: from where texts lie" if is_fitted else "This model has no fitted prior"
        fitted = result_box(name, 8, elem_id="sample-fitted")
        standard = result_box("From N(0, I)", 8, elem_id="sample-standard")

    @with_messages
    def sample(count: float, temperature: float, seed: float | None, condition: str) -> Iterator[tuple[str, str]]:
        settings = {"do_sample": temperature > 0, "show_progress": False, **given(model, condition)}
        if temperature > 0:
            settings["temperature"] = float(temperature)
        texts: dict[str, list[str]] = {"fitted": [], "standard": []}
        priors = [*(["fitted"] if is_fitted else []), "standard"]
        count, number = int(count), int(seed or 0)
        for first in range(0, count, _AT_ONCE):
            for prior in priors:
                # Both priors get the same noise.
                texts[prior] += model.sample(
                    min(_AT_ONCE, count - first), prior=prior, seed=number + first, **settings
                )
            yield as_lines(texts["fitted"]), as_lines(texts["standard"])

    inputs = [count, temperature, seed, condition]
    running = gr.on([start.click, seed.submit], sample, inputs, [fitted, standard], **ON_MODEL)
    stop.click(None, cancels=[running], api_visibility="private")
