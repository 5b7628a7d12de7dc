#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a saved BN-VAE: figures, pictures of its latent space, and a probe, in one folder.

Does what `hf-bnvae evaluate` does. `--help` lists the options.
"""

from hf_bnvae.cli import evaluate

if __name__ == "__main__":
    evaluate()
