"""A page of the tiny model with a map of its texts, served in this process."""

import shutil
from pathlib import Path

import pytest

from hf_bnvae import BNVAEModel


@pytest.fixture(scope="package")
def labelled_texts(texts) -> list[tuple[str, str]]:
    return [(text, "long" if len(text) > 35 else "short") for text in texts[:60]]


@pytest.fixture(scope="package")
def explored(trained_folder, texts, tmp_path_factory) -> Path:
    """A saved model with a direction."""
    folder = tmp_path_factory.mktemp("explored") / "model"
    shutil.copytree(trained_folder, folder)
    model = BNVAEModel.from_pretrained(folder).eval()
    model.direction(texts[:40], texts[40:80], "made up").save(folder)
    return folder
