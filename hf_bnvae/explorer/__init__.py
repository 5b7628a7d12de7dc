# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A page in the browser that shows a latent space. Needs Gradio (extra `explore`)."""

import os
from importlib import import_module

# Gradio reads this when it is imported, and then sends no figures about its use.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def require_gradio() -> None:
    """Name the extra that is missing, by an `ImportError`."""
    try:
        import_module("gradio")
    except ImportError as error:
        raise ImportError("The page needs Gradio: pip install 'gradio>=6.20' (the extra `explore`)") from error
