# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Map*: texts as points of a plane. A click takes a text to the other tabs."""

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from ..shown_corpus import ShownCorpus
from .common import AT_ONCE, as_lines, result_box, with_messages

WIDTH, HEIGHT, MARGIN = 760, 460, 12
_MOST_LABELS = 10
# Colours that people who see fewer colours can tell apart (Okabe and Ito, 2008), and four more.
_COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"),
    *("#8c6d31", "#6b6ecf", "#637939", "#7f7f7f"),
)
_OTHER = "#999999"
# What all points have in common where there are no labels.
_NO_LABELS = ""

_CLICK = """
element.addEventListener('click', (event) => {
  const point = event.target.closest('circle');
  if (point) { trigger('select', {index: Number(point.dataset.number)}); }
});
"""
_STYLE = """
svg { width: 100%; height: auto; }
circle { cursor: pointer; }
circle:hover { stroke: currentColor; stroke-width: 2; r: 6; }
"""


def map_tab(
    corpus: ShownCorpus | None,
    boxes: Sequence[gr.Textbox],
    ends: tuple[gr.Textbox, gr.Textbox],
    condition: gr.Textbox,
) -> None:
    """
    Build the tab.

    Args:
        corpus ([`ShownCorpus`], *optional*): The texts. Without them the tab says how to give some.
        boxes (sequence of `gr.Textbox`): Boxes of other tabs that get the chosen text.
        ends (`tuple`): The boxes of an interpolation: the first one gets the chosen text, the second one the text that
            was chosen before.
        condition (`gr.Textbox`): The box that gets the chosen text's condition, if it has one.
    """
    if corpus is None:
        gr.Markdown(
            "There are no texts to show. Start the page with some: `--texts FILE`, or `--latents FOLDER` with what "
            "`hf-bnvae encode ... --with_text` has written."
        )
        return
    gr.Markdown(corpus.description)
    points = gr.HTML(
        draw_points(corpus.plane, corpus.texts, corpus.labels),
        js_on_load=_CLICK,
        css_template=_STYLE,
        elem_id="map-points",
    )
    label = f"Or choose a text by its number, from 1 to {len(corpus.texts)}"
    number = gr.Number(1, precision=0, label=label, elem_id="map-number")
    chosen = result_box("The chosen text. It now stands in the other tabs, too", elem_id="map-chosen")

    def choose(index: int, before: str) -> tuple[Any, ...]:
        if not 0 <= index < len(corpus.texts):
            raise ValueError(f"The map has the texts 1 to {len(corpus.texts)}, got {index + 1}.")
        text = as_lines(corpus.texts[index])
        own = gr.skip() if corpus.conditions is None else corpus.conditions[index]
        return text, text, before or gr.skip(), own, *(text for _ in boxes)

    @with_messages
    def choose_clicked(before: str, event: gr.EventData) -> tuple[Any, ...]:
        return choose(int(event.index), before)

    @with_messages
    def choose_number(number: float | None, before: str) -> tuple[Any, ...]:
        return choose(int(number or 0) - 1, before)

    outputs = [chosen, *ends, condition, *boxes]
    points.select(choose_clicked, chosen, outputs, **AT_ONCE)
    number.submit(choose_number, [number, chosen], outputs, **AT_ONCE)


def draw_points(plane: np.ndarray, texts: Sequence[str], labels: Sequence[Any] | None = None) -> str:
    """
    Points as SVG. Each has its text as a tooltip.

    Args:
        plane (`np.ndarray` of shape `(n, 2)`): The places.
        texts (sequence of `str`): The texts.
        labels (sequence, *optional*): What the colours mean. The most frequent ones have a colour of their own.
    """
    low, high = plane.min(0), plane.max(0)
    extent = np.where(high > low, high - low, 1)
    places = MARGIN + (plane - low) / extent * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN)
    shown = None if labels is None else [_shown_label(label) for label in labels]
    colours = _colours(shown)
    names = [""] * len(texts) if shown is None else [f"{label}: " for label in shown]
    circles = [
        f'<circle cx="{x:.1f}" cy="{HEIGHT - y:.1f}" r="4" fill="{colours.get(label, _OTHER)}" '
        f'fill-opacity="0.7" data-number="{number}"><title>{escape(name + as_lines(text))}</title></circle>'
        for number, ((x, y), text, name, label) in enumerate(
            zip(places, texts, names, shown or [_NO_LABELS] * len(texts), strict=True)
        )
    ]
    legend = " ".join(
        f'<span style="color:{colour}">&#9679;</span> {escape(label)}' for label, colour in colours.items() if shown
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="A map of {len(texts)} texts">'
        f"{''.join(circles)}</svg><div>{legend}</div>"
    )


def _shown_label(label: Any) -> str:
    """A label in few characters."""
    if label is None or label != label or not str(label).strip():
        return "no label"
    return f"{label:g}" if isinstance(label, float) else str(label)


def _colours(labels: Sequence[str] | None) -> dict[str, str]:
    """The colour of each label that has one."""
    if labels is None:
        return {_NO_LABELS: _COLOURS[0]}
    names, counts = np.unique(labels, return_counts=True)
    frequent = sorted(names[np.argsort(-counts, kind="stable")][:_MOST_LABELS].tolist())
    return dict(zip(frequent, _COLOURS, strict=False))
