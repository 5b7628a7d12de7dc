"""Tiny real models and tokenizers, which each test process builds in memory once. Nothing here needs a network.

`pytest` runs the whole suite in two processes, and named files or folders in one. `-n` sets another number."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from loopback_hub import ADDRESS, LoopbackHub
from paths import PACKAGE, ROOT

# Before anything imports the Hub's client, so that a test that reaches for the network fails at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Nobody listens at this address until a test starts its own Hub.
os.environ["HF_ENDPOINT"] = ADDRESS
os.environ["HF_HUB_DISABLE_XET"] = "1"
# The models here are so small that a second thread only waits for the first, here and in processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from functools import partial
from importlib.metadata import distributions

import datasets
import huggingface_hub.constants
import pytest
import tiny
import torch
from datasets import Dataset
from filelock import FileLock
from huggingface_hub import HfFileSystem
from hypothesis import settings
from packaging.version import Version
from torch import nn
from transformers import BertConfig, GPT2Config
from transformers.utils import logging

from hf_bnvae import BNVAEDataCollator, BNVAEModel, BNVAEProcessor, BNVAETrainer, BNVAETrainingArguments

torch.set_num_threads(1)
datasets.disable_progress_bars()
logging.disable_progress_bar()

# How many examples each property is checked on; `pytest -m hypothesis --hypothesis-profile thorough` takes many.
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=150, deadline=None)
settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share the whole suite out between two processes, each file to one, unless the command line says otherwise."""
    is_whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_worker = hasattr(config, "workerinput")
    if is_worker or not is_whole_suite or not config.pluginmanager.hasplugin("xdist"):
        return
    if config.option.numprocesses is None and not config.option.usepdb:
        config.option.numprocesses = 2
    if config.option.numprocesses and config.option.dist == "no":
        config.option.dist = "loadfile"
        # By default files with few tests come last. Those of the benchmarks take minutes, and one process would wait.
        config.option.loadscopereorder = False


def pytest_collection_finish() -> None:
    """Leave libraries and tests out of all later searches for garbage. Every training starts one."""
    gc.collect()
    gc.freeze()


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


def _saved_once(tmp_path_factory, name: str, train: Callable[[], BNVAEModel]) -> str:
    """The folder of a model that the first of all test processes trains, in float64, and that the others find."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all processes
    folder = root / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            train().double().save_pretrained(f"{folder}.part")
            Path(f"{folder}.part").rename(folder)
    return str(folder)


@pytest.fixture(scope="session")
def trained_folder(processor, texts, tmp_path_factory) -> str:
    """The folder of a model that has learnt a little, and of its processor."""
    return _saved_once(
        tmp_path_factory, "trained", lambda: tiny.train_model(processor, texts).attach_processor(processor)
    )


@pytest.fixture(scope="session")
def trained_model(trained_folder) -> BNVAEModel:
    """That model, with its processor, in evaluation mode. In float64 a latent does not depend on the other sentences
    of its batch in any digit that counts. Tests do not change the model."""
    return BNVAEModel.from_pretrained(trained_folder)


@pytest.fixture(scope="session")
def answering_folder(texts, tmp_path_factory) -> str:
    """The folder of a conditional model that has learnt a little: a text begins as its condition says."""

    def train() -> BNVAEModel:
        conditions = [tiny.question(text) for text in texts]
        processor = tiny.make_processor(texts, [*conditions, *tiny.make_conditions(20)])
        return tiny.train_model(processor, texts, conditions=conditions).attach_processor(processor)

    return _saved_once(tmp_path_factory, "answering", train)


@pytest.fixture(scope="session")
def answering_model(answering_folder) -> BNVAEModel:
    """That model, with its processor, in evaluation mode and float64. Tests do not change it."""
    return BNVAEModel.from_pretrained(answering_folder)


@pytest.fixture(scope="session")
def dataset(processor, texts) -> Dataset:
    return Dataset.from_dict(dict(processor(texts)))


@pytest.fixture
def make_trainer(make_model, dataset, processor, tmp_path):
    """A function that builds a trainer for the tiny model. `model=` takes the keywords of `make_model`, or a model."""
    few = dataset.select(range(128))  # every training ends with two passes over all of its texts

    def build(model=None, train=few, evaluation=None, trainer_class=BNVAETrainer, **arguments):
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


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A folder `hf_bnvae` with the files of a clone that an installation needs."""
    # Look at the metadata only: an import of setuptools would replace distutils.
    if not any(Version(found.version) >= Version("77") for found in distributions(name="setuptools")):
        pytest.skip("needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("clone") / "hf_bnvae"
    folder.mkdir()
    shutil.copytree(PACKAGE, folder / "hf_bnvae", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def wheel_site(clone, tmp_path_factory) -> Path:
    """A folder in which the package is installed from a wheel. Put it on the path of a process."""
    folder = tmp_path_factory.mktemp("wheel")
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quietly = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", "wheels", str(clone)], **quietly)
    (wheel,) = (folder / "wheels").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], **quietly)
    return site


@pytest.fixture(scope="session")
def hub_server():
    server = LoopbackHub()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server, monkeypatch, tmp_path):
    """A Hub without users and repositories. Its client is online, is logged in nowhere, and has cached nothing."""
    hub_server.reset()
    HfFileSystem.clear_instance_cache()  # it remembers what folders held
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    # The client waits between its tries: nobody is overloaded here.
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    return hub_server


@pytest.fixture
def batch(processor, texts):
    """A padded batch of 16 sentences of different lengths."""
    return dict(processor(texts[:16], return_tensors="pt"))


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _warnings_are_new():
    """`warning_once` remembers its messages for the whole process. Each test starts without that memory."""
    logging.warning_once.cache_clear()
