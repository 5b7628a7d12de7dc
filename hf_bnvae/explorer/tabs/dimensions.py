# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Dimensions*: where the KL of a text lies, and what each number of its latent does."""

from collections.abc import Sequence

import gradio as gr
import numpy as np

from ...model.modeling_bnvae import BNVAEModel
from ..shown_corpus import ShownCorpus
from .common import ON_MODEL, as_lines, given, require_text, result_box, text_box, with_messages

_VALUES = np.arange(-3.0, 3.5, 1.0)

_WIDTH, _HEIGHT, _BELOW = 760, 160, 18


def dimensions_tab(model: BNVAEModel, condition: gr.Textbox, corpus: ShownCorpus | None, text: str) -> gr.Textbox:
    """Build the tab. Returns the box that the map fills."""
    size = model.config.latent_size
    box = text_box("Text", text, elem_id="dimensions-text")
    look = gr.Button("Look", variant="primary", elem_id="dimensions-start")
    bars = gr.HTML(elem_id="dimensions-bars", js_on_load=None)
    with gr.Row():
        # A slider needs two values.
        dimension = gr.Slider(0, max(size - 1, 1), value=0, step=1, label="Dimension", elem_id="dimensions-number")
        value = gr.Slider(-3, 3, value=0, step=0.1, label="Its number", elem_id="dimensions-value")
    own = gr.Markdown(elem_id="dimensions-own")
    here = result_box("The text with this number", elem_id="dimensions-here")
    along = result_box("The text with the numbers from -3 to 3", len(_VALUES), elem_id="dimensions-along")
    outputs = [bars, own, here, along]
    if corpus is not None:
        with gr.Row():
            low = result_box("Texts of the map with the smallest numbers", 5, elem_id="dimensions-low")
            high = result_box("Texts of the map with the largest numbers", 5, elem_id="dimensions-high")
        outputs += [low, high]

    @with_messages
    def look_at(text: str, condition: str, dimension: float, value: float) -> tuple[object, ...]:
        number, chosen = int(dimension), {**given(model, condition), "show_progress": False}
        _, posterior = next(iter(model.text_posteriors([require_text(text)], **chosen)))
        kl, latent = posterior.kl()[0].tolist(), posterior.mode()[0].cpu()
        told = f"The text itself has {latent[number]:.2f} there, with a KL of {kl[number]:.2f} of {sum(kl):.1f} nats."
        texts = model.traverse(latent, number, [float(value), *_VALUES.tolist()], **chosen)
        ends = [] if corpus is None else [as_lines(side) for side in corpus.ends(number)]
        return draw_bars(kl, number), told, as_lines(texts[0]), as_lines(texts[1:]), *ends

    gr.on(
        [look.click, box.submit, dimension.release, value.release],
        look_at,
        [box, condition, dimension, value],
        outputs,
        trigger_mode="always_last",
        **ON_MODEL,
    )
    return box


def draw_bars(kl: Sequence[float], chosen: int) -> str:
    """
    The KL of each dimension as bars, in SVG.

    Args:
        kl (sequence of `float`): The KL in nats.
        chosen (`int`): The dimension whose bar stands out.
    """
    most, step = max(*kl, 1e-9), _WIDTH / len(kl)
    labelled = -(-len(kl) // 40)  # as many numbers as there is room for
    bars = []
    for number, value in enumerate(kl):
        height = value / most * (_HEIGHT - 12)
        bars.append(
            f'<rect x="{number * step + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{max(step - 2, 0.5):.1f}" '
            f'height="{height:.1f}" fill="{"#d55e00" if number == chosen else "#0072b2"}">'
            f"<title>dimension {number}: {value:.2f} nats</title></rect>"
        )
        if number % labelled == 0:
            bars.append(
                f'<text x="{(number + 0.5) * step:.1f}" y="{_HEIGHT + 13}" text-anchor="middle" font-size="10" '
                f'fill="currentColor">{number}</text>'
            )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _BELOW}" width="100%" role="img" '
        f'aria-label="KL of each dimension">{"".join(bars)}</svg>'
        f"<div>KL of the text in each dimension; the highest bar has {max(kl):.2f} nats.</div>"
    )
