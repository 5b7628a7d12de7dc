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
from datasets import Dataset
from torch import nn
from transformers import BertConfig, GPT2Config
from transformers.utils import logging

from hf_bnvae import BNVAEDataCollator, BNVAEProcessor, BNVAETrainer, BNVAETrainingArguments

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


@pytest.fixture(scope="session")
def trained_model(processor, texts):
    """A model that has learnt a little, with its processor, in evaluation mode and float64, where a latent does not
    depend on the other sentences of its batch in any digit that counts. Tests leave it as it is."""
    return tiny.train_model(processor, texts).double().attach_processor(processor)


@pytest.fixture(scope="session")
def trained_folder(trained_model, processor, tmp_path_factory) -> str:
    """That model as it is saved."""
    path = tmp_path_factory.mktemp("trained")
    trained_model.save_pretrained(path)
    processor.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def dataset(processor, texts) -> Dataset:
    return Dataset.from_dict(dict(processor(texts)))


@pytest.fixture
def make_trainer(make_model, dataset, processor, tmp_path):
    """A function that builds a trainer on the tiny model; under `model=` its keywords, or another model."""

    def build(model=None, train=dataset, evaluation=None, trainer_class=BNVAETrainer, **arguments):
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 16,
            "max_steps": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
        }
        return trainer_class(
            model=model if isinstance(model, nn.Module) else make_model(**(model or {})),
            args=BNVAETrainingArguments(**{**defaults, **arguments}),
            train_dataset=train,
            eval_dataset=dataset.select(range(50)) if evaluation is None else evaluation,
            processing_class=processor,
            data_collator=BNVAEDataCollator(processor),
        )

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
