"""Where texts come from: what their owner reads of it, what everybody reads, and whether the texts may be shown."""

from pathlib import Path

import pytest

from hf_bnvae.reporting.provenance import DOCSTRINGS, TextSource, is_hub_name, training_texts


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2", True), ("a/b", True), ("", False), (None, False), ("/a/b", False), ("a b", False), ("a/b/c", False)],
)
def test_names_of_the_hub_are_told_from_folders(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) is expected
    if expected:
        Path(name).mkdir(parents=True)
        assert not is_hub_name(name)


def test_a_file_is_named_to_others_without_its_folder():
    assert TextSource.of_file("/home/me/test.csv") == TextSource("/home/me/test.csv", "test.csv", is_public=False)


def test_a_data_set_of_the_hub_is_public_and_a_folder_is_not(tmp_path):
    public = TextSource.of_dataset("community/yelp", None, "test")
    assert public == TextSource(*["community/yelp, default, test"] * 2, is_public=True)
    own = TextSource.of_dataset(str(tmp_path), "small", "test")
    assert own == TextSource(f"{tmp_path}, small, test", tmp_path.name, is_public=False)


@pytest.mark.parametrize(
    ("settings", "trained_on", "held_out", "is_public"),
    [
        ({}, DOCSTRINGS, f"held-out texts of {DOCSTRINGS}", True),
        ({"dataset_name": "community/yelp"}, "community/yelp", "held-out texts of community/yelp", True),
        ({"train_file": "/me/mine.txt"}, "mine.txt", "held-out texts of mine.txt", False),
        ({"train_file": "/me/mine.txt", "validation_file": "/me/test.txt"}, "mine.txt", "test.txt", False),
    ],
)
def test_texts_of_a_run_are_named_by_its_settings(settings, trained_on, held_out, is_public):
    source = TextSource.held_out_by_run(settings)
    assert (training_texts(settings), source.public_name, source.is_public) == (trained_on, held_out, is_public)


def test_a_run_on_a_folder_of_ones_own_is_not_public(tmp_path):
    settings = {"dataset_name": str(tmp_path)}
    source = TextSource.held_out_by_run(settings)
    assert not source.is_public and str(tmp_path) not in source.public_name and str(tmp_path) in source.name
