"""Files whose names begin with `hf://` are read as files of this machine are."""

import gzip

import pytest
from huggingface_hub import HfApi

from hf_bnvae.data.text_files import find_files, read_files


@pytest.fixture
def repository(hub, monkeypatch):
    """A private data set of the Hub with texts in tables, and a file of something else."""
    monkeypatch.setenv("HF_TOKEN", hub.add_user("ada"))
    api = HfApi()
    api.create_repo("ada/texts", repo_type="dataset", private=True)
    files = {
        "reviews/a.csv": b"id,review\n1,Good .\n2,Bad .\n",
        "reviews/b.csv.gz": gzip.compress(b"id,review\n3,Fine .\n"),
        "reviews/notes.pdf": b"%PDF",
    }
    for name, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="ada/texts", repo_type="dataset")
    return "hf://datasets/ada/texts"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reviews/a.csv", ["Good .", "Bad ."]),
        ("reviews/b.csv.gz", ["Fine ."]),
        ("reviews", ["Good .", "Bad .", "Fine ."]),
        ("reviews/*.csv*", ["Good .", "Bad .", "Fine ."]),
    ],
)
def test_a_file_a_folder_or_a_pattern_gives_its_rows(repository, name, expected):
    assert read_files(f"{repository}/{name}")["review"][:] == expected


def test_what_is_not_there_is_named(repository):
    with pytest.raises(ValueError, match="reviews/nothing: could not be read from the Hub"):
        find_files(f"{repository}/reviews/nothing")
    with pytest.raises(ValueError, match=r"\*.txt holds no file that ends in"):
        find_files(f"{repository}/reviews/*.txt")
    with pytest.raises(ValueError, match="not from buckets"):
        find_files("hf://buckets/ada/things/a.csv")
