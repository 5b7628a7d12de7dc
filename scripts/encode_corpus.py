#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Write the latents of a corpus to parquet files, one a task.

Does what `hf-bnvae encode` does. `--help` lists the options.
"""

from hf_bnvae.cli import encode

if __name__ == "__main__":
    encode()
