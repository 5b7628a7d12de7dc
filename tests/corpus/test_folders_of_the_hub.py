"""Latents of texts of the Hub, written to the Hub: whole files only, one commit a file."""

import pytest
import tiny
from datatrove.io import get_datafolder
from huggingface_hub import HfApi
from pyarrow import parquet

from hf_bnvae import BNVAEModel, cli

TEXTS = tiny.make_texts(20)


@pytest.fixture
def encode(hub, monkeypatch, tmp_path, trained_folder):
    """A function that encodes a file of the Hub to a folder of the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.add_user("ada"))
    api = HfApi()
    for name in ("ada/texts", "ada/latents"):
        api.create_repo(name, repo_type="dataset")
    lines = "\n".join(TEXTS).encode()
    api.upload_file(path_or_fileobj=lines, path_in_repo="a.txt", repo_id="ada/texts", repo_type="dataset")

    def run(*options: str) -> None:
        places = ["hf://datasets/ada/texts/a.txt", "hf://datasets/ada/latents/first"]
        cli.main(["encode", *places, "--model", trained_folder, "--tasks", "2", "--disable_tqdm", *options])

    return run


def test_files_appear_whole_and_a_relaunch_makes_what_is_missing(encode, hub, capsys, trained_folder):
    hub.refuse("POST", "/api/datasets/ada/latents/commit", status=403)  # the commit of the settings
    with pytest.raises(SystemExit):
        encode()
    assert "first/00000.parquet" not in hub.repositories["ada/latents"].files()
    hub.refuse("PUT", "/lfs/", status=403)  # an upload that breaks
    with pytest.raises(SystemExit):
        encode()
    assert sorted(hub.repositories["ada/latents"].files()) == [".gitattributes", "first/encoding.json"]
    capsys.readouterr()
    hub.refuse("POST", "/api/datasets/ada/latents/commit", status=412)  # somebody else was quicker: tried again
    encode()
    assert "20 latents of 20 texts in 2 files" in capsys.readouterr().out
    repository = hub.repositories["ada/latents"]
    assert sorted(repository.files())[1:] == ["first/00000.parquet", "first/00001.parquet", "first/encoding.json"]
    assert len(repository.history()) == 4  # the first one is of the repository itself
    with get_datafolder("hf://datasets/ada/latents/first").open("00001.parquet", "rb") as file:
        found = parquet.read_table(file)
    assert found["id"].to_pylist() == [str(n) for n in range(10, 20)]
    expected = BNVAEModel.from_pretrained(trained_folder).eval().encode_texts(TEXTS[10:]).tolist()
    for vector, other in zip(found["mean"].to_pylist(), expected, strict=True):
        assert vector == pytest.approx(other, abs=1e-5)
    encode()
    assert "2 of the files were there already" in capsys.readouterr().out
    assert len(repository.history()) == 4


def test_texts_come_back_from_the_hub(encode, hub, capsys, trained_folder):
    encode()
    where = ["hf://datasets/ada/latents/first", "hf://datasets/ada/latents/texts"]
    cli.main(["decode", *where, "--model", trained_folder, "--disable_tqdm", "--max_new_tokens", "5"])
    assert "20 texts of 20 latents in 1 files" in capsys.readouterr().out
    assert "texts/00000.parquet" in hub.repositories["ada/latents"].files()
