# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The old place of `model.modeling_bnvae`, which saved adapters of PEFT name."""

from .model.modeling_bnvae import BNVAEModel

__all__ = ["BNVAEModel"]
