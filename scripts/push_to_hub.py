#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Push a saved BN-VAE with its model card to the Hub, in one commit.

Does what `hf-bnvae push` does. `--help` lists the options.
"""

from hf_bnvae.cli import push

if __name__ == "__main__":
    push()
