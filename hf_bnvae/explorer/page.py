# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The page: all tabs around one model."""

from pathlib import Path

import gradio as gr

from ..model.modeling_bnvae import BNVAEModel
from ..reporting.markdown import inline
from ..reporting.model_card import BNVAEModelCard
from .shown_corpus import ShownCorpus
from .tabs.common import condition_box, example_texts
from .tabs.dimensions import dimensions_tab
from .tabs.edit import edit_tab
from .tabs.interpolate import interpolate_tab
from .tabs.map import map_tab
from .tabs.reconstruct import reconstruct_tab
from .tabs.sample import sample_tab
from .tabs.verdict import verdict_tab

# Strangers who wait for the model. Who comes later is told to come again.
QUEUE = 20


def build_page(
    model: BNVAEModel,
    name: str,
    corpus: ShownCorpus | None = None,
    card: BNVAEModelCard | None = None,
    folder: Path | None = None,
) -> gr.Blocks:
    """
    The page of a model. `launch` serves it.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor.
        name (`str`): Its name.
        corpus ([`ShownCorpus`], *optional*): The texts of the map.
        card ([`BNVAEModelCard`], *optional*): Its card, for the verdict.
        folder (`Path`, *optional*): The folder of its pictures.

    Returns:
        `gradio.Blocks`
    """
    first, second = (corpus.texts[0], corpus.texts[1]) if corpus is not None else example_texts(model)
    with gr.Blocks(title=f"{name}: latent space", analytics_enabled=False) as page:
        gr.Markdown(f"# {inline(name)}")
        has_conditions = corpus is not None and corpus.conditions is not None
        about = "Condition: the context that encoder and decoder see; it may be empty"
        condition = condition_box(model, corpus.conditions[0] if has_conditions else "", about, "condition")
        with gr.Tabs():
            with gr.Tab("Reconstruct"):
                text = reconstruct_tab(model, condition, first, page)
            with gr.Tab("Sample"):
                sample_tab(model, condition)
            with gr.Tab("Interpolate"):
                ends = interpolate_tab(model, condition, first, second)
            with gr.Tab("Edit"):
                edited = edit_tab(model, condition, first)
            with gr.Tab("Dimensions"):
                looked_at = dimensions_tab(model, condition, corpus, first)
            with gr.Tab("Map"):
                map_tab(corpus, [text, edited, looked_at], ends, condition)
            with gr.Tab("Is it alive?"):
                verdict_tab(card, folder)
    return page.queue(max_size=QUEUE)
