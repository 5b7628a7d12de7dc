# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Serves the page of a saved model until it is interrupted."""

import argparse
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers.utils import logging

from ..jobs.saved_model import load_saved_model
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.evaluation_report import PICTURES
from ..reporting.model_card import CARD_JSON, BNVAEModelCard
from ..utils.terminal import say
from .options import model_name
from .shown_corpus import ShownCorpus, load_corpus

if TYPE_CHECKING:
    from gradio import Blocks

logger = logging.get_logger(__name__)

# Gradio's own fonts come from other machines.
_FONTS = ("system-ui", "sans-serif")
_CODE_FONTS = ("ui-monospace", "monospace")


def serve(args: argparse.Namespace) -> None:
    """
    Load a model, and serve its page until the process is interrupted.

    Args:
        args (`argparse.Namespace`): What [`~explorer.options.exploring_parser`] parsed.

    Raises:
        ValueError: for a model or texts that cannot be loaded, and for an address that cannot be used.
    """
    name = model_name(args)
    model = load_saved_model(name, args.revision, args.token, args.trust_remote_code, args.device)
    corpus = load_corpus(
        model,
        args.texts,
        args.latents,
        args.text_column,
        args.label_column,
        args.max_points,
        args.projection,
        args.condition_column,
    )
    folder = card_folder(name, args.revision, args.token)
    page = build(model, name, corpus, folder)
    address = start(page, args.server_name, args.server_port, inbrowser=args.open_browser)
    say(f"The page is at {address} (interrupt with Ctrl-C).")
    if not _is_loopback(args.server_name):
        say(f"Everybody who can reach {args.server_name} can use this page. It has no password.")
    page.block_thread()


def show(name: str, revision: str = "main") -> None:
    """
    Serve the page of a model where Gradio's own environment variables say, until the process is interrupted. A Space
    on the Hub calls this.

    Args:
        name (`str`): The model's folder, or its name on the Hub.
        revision (`str`, *optional*, defaults to `"main"`): Branch, tag or commit on the Hub.

    Raises:
        ValueError: for a model that cannot be loaded.
    """
    page = build(load_saved_model(name, revision), name, folder=card_folder(name, revision))
    start(page, server_name=None)
    page.block_thread()


def build(model: BNVAEModel, name: str, corpus: ShownCorpus | None = None, folder: Path | None = None) -> "Blocks":
    """
    The page of a model.

    Args:
        model ([`BNVAEModel`]): The model.
        name (`str`): Its folder, or its name on the Hub.
        corpus ([`ShownCorpus`], *optional*): The texts of the map.
        folder (`Path`, *optional*): Where its card and pictures lie.
    """
    # Imported here, because Gradio is an extra.
    from .page import build_page

    card = None if folder is None else BNVAEModelCard.from_json_file(folder / CARD_JSON)
    return build_page(model, Path(name).name if Path(name).is_dir() else name, corpus, card, folder)


def card_folder(name: str, revision: str = "main", token: str | None = None) -> Path | None:
    """The folder with the card of a model and its pictures; `None` without a card. From the Hub they are fetched."""
    folder = Path(name)
    if not folder.is_dir():
        try:
            found = snapshot_download(name, revision=revision, token=token, allow_patterns=[CARD_JSON, *PICTURES])
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            logger.warning(f"The card of {name} could not be fetched, so the page shows no verdict: {error}")
            return None
        folder = Path(found)
    return folder if (folder / CARD_JSON).is_file() else None


def start(page: "Blocks", server_name: str | None = "127.0.0.1", server_port: int | None = None, **kwargs: Any) -> str:
    """
    Serve a page in the background.

    Args:
        page (`gradio.Blocks`): The page.
        server_name (`str`, *optional*, defaults to `"127.0.0.1"`): The address to listen at. `None` leaves it to the
            environment variable `GRADIO_SERVER_NAME`.
        server_port (`int`, *optional*): The port; by default the first free one from 7860 on.
        kwargs: Other arguments of `launch`.

    Returns:
        `str`: The address to open.

    Raises:
        ValueError: for a name or a port that this machine cannot listen at.
    """
    import gradio as gr

    if server_port is not None and not 0 < server_port < 2**16:
        raise ValueError(f"--server_port must be from 1 to {2**16 - 1}, got {server_port}.")
    if server_name is not None:
        _require_free(server_name, server_port)
    _, address, _ = page.launch(
        server_name=server_name,
        server_port=server_port,
        share=False,
        quiet=True,
        ssr_mode=False,
        prevent_thread_lock=True,
        footer_links=[],
        theme=gr.themes.Default(font=_FONTS, font_mono=_CODE_FONTS),
        **kwargs,
    )
    return address


def _require_free(server_name: str, server_port: int | None) -> None:
    """Refuse an address that cannot be listened at, by its options. Gradio would wait for it."""
    try:
        found = socket.getaddrinfo(server_name, server_port or 0, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError as error:
        what = f"--server_name {server_name}" + ("" if server_port is None else f" with --server_port {server_port}")
        raise ValueError(f"{what} cannot be used: {error}. Name another one, or leave the option out.") from error


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
