"""Files are written whole or not at all, never through a link, and changed files of a model are found."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from hf_bnvae import BNVAEConfig, BNVAEModel
from hf_bnvae.model.saved_files_bnvae import CHECKSUMS_FILE, require_checksums, sha256_of, write_checksums, write_whole


def flip_bit(file, place=-100):
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


def test_a_full_disk_leaves_the_old_file_and_no_half_of_a_new_one(tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    write_whole(file, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["run.json"]
    monkeypatch.undo()
    write_whole(file, b"new")
    assert file.read_text() == "new" and os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("link", ["run.json", "run.json.partial"])
def test_nothing_is_written_through_a_link(link, tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / link).symlink_to("precious")
    write_whole(tmp_path / "run.json", "new")
    assert (tmp_path / "precious").read_text() == "precious" and (tmp_path / "run.json").read_text() == "new"
    assert not (tmp_path / "run.json").is_symlink() and not (tmp_path / "run.json.partial").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_changed_file_is_found_and_named(name, damage, trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    require_checksums(tmp_path)
    file = tmp_path / name
    if damage == "flipped":
        flip_bit(file)
    else:
        file.unlink()
    with pytest.raises(ValueError, match=rf"{name} is not as saved.*delete checksums\.json"):
        require_checksums(tmp_path)
    write_checksums(tmp_path)
    require_checksums(tmp_path)
    (tmp_path / CHECKSUMS_FILE).unlink()
    require_checksums(tmp_path)


def test_loading_checks_the_files_where_that_is_asked_for(trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    BNVAEModel.from_pretrained(tmp_path, verify_checksums=True)
    flip_bit(tmp_path / "model.safetensors")
    BNVAEModel.from_pretrained(tmp_path)  # hashing takes longer than loading
    with pytest.raises(ValueError, match=r"model\.safetensors is not as saved"):
        BNVAEModel.from_pretrained(tmp_path, verify_checksums=True)


def test_saving_again_renews_the_checksums_of_all_shards(trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    first = (tmp_path / CHECKSUMS_FILE).read_text()
    trained_model.save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    second = (tmp_path / CHECKSUMS_FILE).read_text()
    assert len(shards) > 1 and all(sha256_of(file) in second for file in shards) and first != second
    require_checksums(tmp_path)
    flip_bit(shards[-1])
    with pytest.raises(ValueError, match=shards[-1].name):
        require_checksums(tmp_path)


def test_a_configuration_that_is_saved_alone_renews_its_checksum(trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    BNVAEConfig.from_pretrained(tmp_path, encoder_dropout=0.1).save_pretrained(tmp_path)
    trained_model.generation_config.save_pretrained(tmp_path)
    require_checksums(tmp_path)


def test_a_part_of_a_snapshot_is_checked_where_it_is_there(trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    require_checksums(tmp_path, only_present=True)
    flip_bit(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is not as saved"):
        require_checksums(tmp_path, only_present=True)


def test_processes_that_save_at_once_do_not_disturb_each_other(trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write_checksums(tmp_path), range(40)))
    require_checksums(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"config.json": 3}', "null", "[" * 100_000])
def test_damaged_checksums_are_an_error_with_a_way_out(content, trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    (tmp_path / CHECKSUMS_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"delete checksums\.json"):
        require_checksums(tmp_path)


def test_who_may_read_the_configuration_may_read_the_weights(trained_model, tmp_path):
    trained_model.save_pretrained(tmp_path)
    modes = {(tmp_path / name).stat().st_mode & 0o777 for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1
