# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Is it alive?*: the verdict of the model's evaluation, its figures and pictures."""

from pathlib import Path

import gradio as gr

from ...reporting.commands import PROGRAM
from ...reporting.evaluation_report import PICTURES
from ...reporting.markdown import prose
from ...reporting.model_card import BNVAEModelCard
from ...reporting.report import figure_lines, prior_lines


def verdict_tab(card: BNVAEModelCard | None, folder: Path | None) -> None:
    """
    Build the tab.

    Args:
        card ([`BNVAEModelCard`], *optional*): The model's card.
        folder (`Path`, *optional*): Where its pictures lie.
    """
    if card is None or card.verdict_text is None:
        gr.Markdown(
            "Nobody has measured this model. "
            f"`{PROGRAM} evaluate --model FOLDER --update_card` does, and then the verdict stands here.",
            elem_id="verdict",
        )
        return
    figures = {"latent_size": card.config["latent_size"], **card.figures}
    first, _, rest = prose(card.verdict_text).partition(". ")
    gr.Markdown(f"## {first}.\n\n{rest}", elem_id="verdict")
    gr.Markdown("\n".join([*figure_lines(figures), "", *prior_lines(figures)]))
    for name in card.pictures:
        if folder is not None and (folder / name).is_file():
            title, caption = PICTURES[name]
            gr.Image(str(folder / name), label=title, show_label=True, interactive=False, buttons=[])
            gr.Markdown(caption)
