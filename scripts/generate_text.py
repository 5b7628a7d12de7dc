#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Make texts with a trained BN-VAE: sample, reconstruct, interpolate, draw analogies, or edit.

Does what `hf-bnvae generate` does. `--help` lists the options.
"""

from hf_bnvae.cli import generate

if __name__ == "__main__":
    generate()
