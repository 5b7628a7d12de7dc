# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tab *Is it alive?*: the verdict of the model's evaluation, its figures and pictures."""

from pathlib import Path

import gradio as gr

from ...reporting.commands import PROGRAM
from ...reporting.evaluation_report import PICTURES
from ...reporting.markdown import prose
from ...reporting.model_card import BNVAEModelCard


def verdict_tab(card: BNVAEModelCard | None, folder: Path | None) -> None:
    """
    Build the tab.

    Args:
        card ([`BNVAEModelCard`], *optional*): The model's card.
        folder (`Path`, *optional*): Where its pictures lie.
    """
    _, text = (None, None) if card is None else card.judged()
    if text is None:
        gr.Markdown(
            "Nobody has measured this model. "
            f"`{PROGRAM} evaluate --model FOLDER --update_card` does, and then the verdict stands here.",
            elem_id="verdict",
        )
        return
    first, _, rest = prose(text).partition(". ")
    gr.Markdown(f"## {first}.\n\n{rest}", elem_id="verdict")
    gr.Markdown(card.render_figures())
    for name in card.pictures:
        if folder is not None and (folder / name).is_file():
            title, caption = PICTURES[name]
            gr.Image(str(folder / name), label=title, show_label=True, interactive=False, buttons=[])
            gr.Markdown(caption)
