"""What the tests of pushing look at: the files that a folder and a Hub hold, in each commit."""

from pathlib import Path

import pytest
import tiny
import torch
from paths import PACKAGE
from safetensors.torch import load_file, save_file

from hf_bnvae.hub.contents import list_files
from hf_bnvae.hub.push import push_folder
from hf_bnvae.hub.target import HubError
from hf_bnvae.model.saved_files_bnvae import write_checksums

RUNTIME = {path.name for path in (PACKAGE / "model").glob("*_bnvae.py")}
BOTH = pytest.mark.parametrize("script", ["run_bnvae", "run_bnvae_no_trainer"])
CARD = {"README.md", "model_card.json"}
QUICK = {"train_file": "mine.txt", **tiny.SCRIPT_OPTIONS}


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder that a push must bring to the Hub, and no others."""
    return {name: (folder / name).read_bytes() for name in list_files(folder).uploaded}


def on_hub(hub, repo: str = "ada/model", revision: str = "main") -> dict[str, bytes]:
    files = hub.repositories[repo].files(revision)
    del files[".gitattributes"]
    return files


def change(folder: Path, seed: int = 5) -> None:
    """Other weights."""
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(seed)
    weights["posterior.mean_projection.weight"] = torch.randn_like(weights["posterior.mean_projection.weight"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_checksums(folder)


def equal(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name])
        if isinstance(expected[name], torch.Tensor)
        else found[name] == expected[name]
        for name in expected
    )


def told(folder, target, **more) -> str:
    """The message of a push that fails."""
    with pytest.raises(HubError) as caught:
        push_folder(folder, target, **more)
    message = str(caught.value)
    assert f"{folder} is as it was." in message, message
    return message


def ancestors(repository) -> list[str]:
    oids = [repository.branches["main"]]
    while repository.commits[oids[-1]].parent is not None:
        oids.append(repository.commits[oids[-1]].parent)
    return oids
