# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What the tabs share: the controls of decoding, limits for strangers, errors as messages of the page."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from ...model.modeling_bnvae import BNVAEModel

# One computation at a time. The methods of a model seed the random state that all threads share.
ON_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
# What takes no time waits for nobody. (Without a queue Gradio would show no messages.)
AT_ONCE: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}

# The longest text, in characters, and the most texts of a list. A public page is used by strangers.
LONGEST_TEXT = 1000
LONGEST_CONDITION = 10_000
MOST_TEXTS = 200

GREEDY, BEAMS, DRAWS = "the likeliest token", "beam search", "drawn tokens"
_WAYS = [GREEDY, BEAMS, DRAWS]


def with_messages(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an event. What is wrong with the user's input becomes a message of the page; other errors stay
    in the terminal."""

    @wraps(function)
    def call(*inputs: Any) -> Any:
        with _as_message():
            return function(*inputs)

    @wraps(function)
    def generate(*inputs: Any) -> Iterator[Any]:
        with _as_message():
            yield from function(*inputs)

    return generate if inspect.isgeneratorfunction(function) else call


@contextmanager
def _as_message() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def text_box(label: str, value: str = "", lines: int = 1, **kwargs: Any) -> gr.Textbox:
    """A box for one text to type."""
    return gr.Textbox(value, label=label, lines=lines, max_length=LONGEST_TEXT, **kwargs)


def result_box(label: str, lines: int = 1, **kwargs: Any) -> gr.Textbox:
    """A box that shows texts, one a line."""
    return gr.Textbox(label=label, lines=lines, interactive=False, buttons=["copy"], **kwargs)


def require_text(text: str | None, what: str = "a text") -> str:
    """
    A typed text.

    Raises:
        ValueError: for none, or for one that is too long.
    """
    if not text or not text.strip():
        raise ValueError(f"Type {what} first.")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"A text may have {LONGEST_TEXT} characters here, got {len(text)}.")
    return text


def typed_lines(text: str | None, what: str) -> list[str]:
    """
    The lines of a box that are not blank.

    Raises:
        ValueError: for none, for too many, or for one that is too long.
    """
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"Type {what}, one text a line.")
    if len(lines) > MOST_TEXTS:
        raise ValueError(f"A list may have {MOST_TEXTS} texts here, got {len(lines)}.")
    return [require_text(line) for line in lines]


def decoding_controls(most: int = 8) -> list[gr.components.Component]:
    """The controls that say how tokens are chosen. Their values go to [`decoding_settings`]."""
    with gr.Accordion("How the decoder chooses tokens", open=False):
        way = gr.Radio(_WAYS, value=GREEDY, label="Way")
        count = gr.Slider(1, most, value=4, step=1, label="Beams, or texts that are drawn")
        temperature = gr.Slider(0.1, 2, value=1, step=0.1, label="Temperature of drawn tokens")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed")
    return [way, count, temperature, seed]


def decoding_settings(way: str, count: int, temperature: float, seed: int | None) -> dict[str, Any]:
    """The arguments of `generate` that the controls mean."""
    settings: dict[str, Any] = {"seed": int(seed or 0), "do_sample": way == DRAWS, "show_progress": False}
    if way == BEAMS:
        settings["num_beams"] = int(count)
    if way == DRAWS:
        settings |= {"num_return_sequences": int(count), "temperature": float(temperature)}
    return settings


def as_lines(found: Any) -> str:
    """Texts one a line, lists of texts with a blank line between them."""
    if isinstance(found, str):
        return " ".join(found.split())
    separator = "\n\n" if found and isinstance(found[0], list) else "\n"
    return separator.join(as_lines(one) for one in found)


def condition_box(model: BNVAEModel, value: str, label: str, elem_id: str) -> gr.Textbox:
    """A box for a condition. Models without conditions do not show it."""
    return gr.Textbox(
        value,
        label=label,
        lines=2,  # of turns
        max_length=LONGEST_CONDITION,
        visible=model.config.conditional,
        elem_id=elem_id,
    )


def given(model: BNVAEModel, condition: str | None) -> dict[str, str]:
    """
    What the methods of a model take of that box.

    Raises:
        ValueError: for a condition that is too long.
    """
    if not model.config.conditional:
        return {}
    if len(condition or "") > LONGEST_CONDITION:
        raise ValueError(f"A condition may have {LONGEST_CONDITION} characters here, got {len(condition)}.")
    return {"condition": condition or ""}


def example_texts(model: BNVAEModel) -> tuple[str, str]:
    """Two texts to begin with, from the model itself."""
    found = model.sample(8, seed=0, do_sample=False, show_progress=False, **given(model, ""))
    texts = [text for text in found if text.strip()]
    first, *others = [*dict.fromkeys(texts), "A first text.", "A second text."]
    return first, others[0]
