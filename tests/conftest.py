"""Tiny real models and tokenizers, built in memory once per session. Nothing here needs a network."""

import os

# Before anything imports the Hub's client: a test that reaches for the network fails at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from functools import partial

import datasets
import pytest
import tiny
import torch
from transformers import BertConfig, GPT2Config
from transformers.utils import logging

from hf_bnvae import BNVAEProcessor

# The models here are so small that a second thread only waits for the first.
torch.set_num_threads(1)
datasets.disable_progress_bars()
logging.disable_progress_bar()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return tiny.make_texts(400)


@pytest.fixture(scope="session")
def processor(texts) -> BNVAEProcessor:
    return tiny.make_processor(texts)


@pytest.fixture(scope="session")
def encoder_config(processor) -> BertConfig:
    return tiny.make_configs(processor)[0]


@pytest.fixture(scope="session")
def decoder_config(processor) -> GPT2Config:
    return tiny.make_configs(processor)[1]


@pytest.fixture
def make_model(encoder_config, decoder_config):
    """A function that builds a model from fields of its configuration, the same for the same seed."""
    return partial(tiny.build_model, encoder_config, decoder_config)


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
