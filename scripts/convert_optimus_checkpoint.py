#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Convert a checkpoint of the original Optimus (2020) to the folder of a BN-VAE.

Does what `hf-bnvae convert` does. `--help` lists the options.
"""

from hf_bnvae.cli import convert

if __name__ == "__main__":
    convert()
