"""A checkpoint is read without running code in it. Each payload is also run once, to show that it would have left its
mark."""

import os
import pickle
import random

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as sharded
from payloads import Payload, write_pickle, write_saved_by_torch
from torch.optim.lr_scheduler import LambdaLR

from hf_bnvae.utils.safe_loading import require_no_code, safe_loading


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture
def checkpoint(tmp_path):
    """What the two training loops write: the states of an optimiser, of a schedule, and of random numbers."""
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    torch.save(optimizer.state_dict(), folder / "optimizer.bin")
    torch.save(LambdaLR(optimizer, lambda step: 1 / (step + 1)).state_dict(), folder / "custom_checkpoint_0.pkl")
    torch.save(states, folder / "random_states_0.pkl")
    return folder


def test_what_a_training_saves_is_loaded(checkpoint):
    with safe_loading(checkpoint):
        state = torch.load(checkpoint / "custom_checkpoint_0.pkl", weights_only=False)
    assert state["last_epoch"] == 0 and state["base_lrs"] == [0.001]


@pytest.mark.parametrize("write", [write_pickle, write_saved_by_torch])
@pytest.mark.parametrize("name", ["custom_checkpoint_0.pkl", "optimizer.bin", "scheduler.pt", "rng_state.pth"])
def test_a_file_that_could_run_code_is_named_and_not_loaded(checkpoint, mark, write, name):
    write(checkpoint / name, mark)
    with pytest.raises(ValueError, match=rf"{name} could run code when it is loaded.*Resume from a checkpoint"):
        require_no_code(checkpoint)
    assert not mark.exists()


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-20], lambda whole: b"no pickle" + whole])
def test_a_damaged_file_is_left_to_those_who_read_it(checkpoint, damage):
    file = checkpoint / "random_states_0.pkl"
    file.write_bytes(damage(file.read_bytes()))
    require_no_code(checkpoint)
    with safe_loading(checkpoint), pytest.raises((RuntimeError, EOFError, OSError, pickle.UnpicklingError)):
        torch.load(file, weights_only=False)


def test_a_pickle_that_is_damaged_behind_its_payload_is_refused(checkpoint, mark):
    file = checkpoint / "random_states_0.pkl"
    write_pickle(file, mark)
    file.write_bytes(file.read_bytes()[:-1] + b"\xff\xff")
    with pytest.raises(ValueError, match=r"random_states_0\.pkl could run code"):
        require_no_code(checkpoint)


def test_a_pickle_that_nothing_reads_does_not_matter(checkpoint, mark):
    write_pickle(checkpoint / "training_args.bin", mark)
    require_no_code(checkpoint)
    assert not mark.exists()


def test_no_pickle_is_loaded_in_full_inside_the_block(tmp_path, mark):
    """Also where a caller asks for that, as Accelerate does for registered objects."""
    file = tmp_path / "state.pt"
    write_saved_by_torch(file, mark)
    with safe_loading(None), pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=False)
    assert not mark.exists()
    torch.load(file, weights_only=False)  # the control
    assert mark.exists()


@pytest.mark.parametrize("before", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}])
def test_the_block_leaves_the_environment_as_it_was(tmp_path, monkeypatch, before):
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    torch.save({"step": 1}, tmp_path / "state.pt")
    found = dict(os.environ)
    with safe_loading(None):
        assert torch.load(tmp_path / "state.pt") == {"step": 1}
        assert dict(os.environ) != found
    assert dict(os.environ) == found


@pytest.fixture
def shards(checkpoint):
    """The folder of a sharded state in a checkpoint, and the state."""
    folder, state = checkpoint / "optimizer_0", {"lr": 0.5, "moment": torch.ones(3, dtype=torch.bfloat16)}
    sharded.save(state, storage_writer=sharded.FileSystemWriter(folder), no_dist=True)
    return folder, state


def load_shards(folder) -> dict:
    state = {"lr": 0.0, "moment": torch.zeros(3, dtype=torch.bfloat16)}
    sharded.load(state, storage_reader=sharded.FileSystemReader(folder), no_dist=True)
    return state


def test_a_sharded_state_is_loaded(checkpoint, shards):
    folder, saved = shards
    with safe_loading(checkpoint):
        state = load_shards(folder)
    assert state["lr"] == 0.5 and torch.equal(state["moment"], saved["moment"])


def test_the_description_of_a_sharded_state_runs_no_code(checkpoint, shards, mark):
    folder, _ = shards
    write_pickle(folder / ".metadata", mark)
    with pytest.raises(ValueError, match=r"\.metadata could run code when it is loaded.*it needs .*open"):
        require_no_code(checkpoint)
    assert not mark.exists()
    with pytest.raises(sharded.CheckpointException):  # the control: torch unpickles it, and then misses its fields
        load_shards(folder)
    assert mark.exists()


def test_a_value_in_a_sharded_state_runs_no_code(checkpoint, mark):
    folder = checkpoint / "optimizer_0"
    state = {"lr": Payload(mark), "moment": torch.ones(3, dtype=torch.bfloat16)}
    sharded.save(state, storage_writer=sharded.FileSystemWriter(folder), no_dist=True)
    with safe_loading(checkpoint), pytest.raises(sharded.CheckpointException):
        load_shards(folder)
    assert not mark.exists()
    load_shards(folder)  # the control
    assert mark.exists()
