#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Write the latents of a corpus to parquet files, one a task.

Does what `hf-bnvae encode` does. `--help` lists the options. `uv` runs the script without an installation. Say where
this package lies, because no index has it yet:

    uv run --with "hf_bnvae[corpus] @ ADDRESS" scripts/encode_corpus.py INPUT OUTPUT --model MODEL
"""

from hf_bnvae.cli import encode

if __name__ == "__main__":
    encode()
