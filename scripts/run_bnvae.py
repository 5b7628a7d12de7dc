#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Train and evaluate a BN-VAE with `Trainer`, as `hf-bnvae train` does.

Without arguments it trains a small model from scratch, offline, on docstrings of Python and of the packages that this
one needs. `--help` lists the options.
"""

from hf_bnvae.cli import train

if __name__ == "__main__":
    train()
