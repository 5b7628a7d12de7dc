# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The old place of `interop.sentence_embeddings`, which saved SentenceTransformers name."""

from .interop.sentence_embeddings import BNVAEEncoderModel, LatentEmbedding, sentence_transformer

__all__ = ["BNVAEEncoderModel", "LatentEmbedding", "sentence_transformer"]
