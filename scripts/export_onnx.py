#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Write the encoder side of a saved BN-VAE as an ONNX graph with its tokenizer.

Does what `hf-bnvae export` does. `--help` lists the options.
"""

from hf_bnvae.cli import export

if __name__ == "__main__":
    export()
