"""Tiny real models and tokenizers, built in memory once per session. Nothing here needs a network."""

import os

# Before anything imports the Hub's client: a test that reaches for the network fails at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import itertools
import random

import datasets
import pytest
import torch
from transformers import BertConfig, GPT2Config
from transformers.utils import logging

from hf_bnvae import BNVAEConfig, BNVAEModel, BNVAEProcessor
from hf_bnvae.from_scratch import train_processor

# The models here are so small that a second thread only waits for the first.
torch.set_num_threads(1)
datasets.disable_progress_bars()
logging.disable_progress_bar()


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Distinct short sentences whose words depend on one another, so that there is something to learn."""
    subjects = ["The food", "My sister", "A small dog", "The old waiter", "This place", "Our teacher"]
    verbs = ["likes", "found", "painted", "will never forget", "sold", "talks about"]
    objects = ["the red car", "a quiet garden", "fresh bread", "her own house", "the long winter", "two green birds"]
    endings = [".", "again .", "in the morning .", "with great care .", "for no reason at all ."]
    texts = [" ".join(parts) for parts in itertools.product(subjects, verbs, objects, endings)]
    random.Random(seed).shuffle(texts)
    return texts[:count]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return make_texts(400)


@pytest.fixture(scope="session")
def processor(texts) -> BNVAEProcessor:
    return train_processor(texts, vocab_size=400, max_length=32)


@pytest.fixture(scope="session")
def encoder_config(processor) -> BertConfig:
    tokenizer = processor.encoder_tokenizer
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        pad_token_id=tokenizer.pad_token_id,
    )


@pytest.fixture(scope="session")
def decoder_config(processor) -> GPT2Config:
    tokenizer = processor.tokenizer
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@pytest.fixture
def make_model(encoder_config, decoder_config):
    """A function that builds a model from fields of its configuration, the same for the same seed."""

    def build(seed: int = 0, decoder_dropout: float | None = None, **fields) -> BNVAEModel:
        fields = {"latent_size": 8, **fields}
        decoder = GPT2Config(**decoder_config.to_dict())
        if decoder_dropout is not None:
            decoder.resid_pdrop = decoder.embd_pdrop = decoder.attn_pdrop = decoder_dropout
        torch.manual_seed(seed)
        return BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(encoder_config, decoder, **fields))

    return build


@pytest.fixture
def batch(processor, texts):
    """A padded batch of 16 sentences of different lengths."""
    return dict(processor(texts[:16], return_tensors="pt"))


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _warnings_are_new():
    """`warning_once` remembers what it said for the whole process; each test starts afresh."""
    logging.warning_once.cache_clear()
