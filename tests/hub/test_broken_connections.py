"""A push whose connection breaks, or that is killed, leaves the old model or the whole new one on the Hub."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from paths import ROOT
from pushing import change, contents, on_hub, told

from hf_bnvae import BNVAEModel
from hf_bnvae.hub.push import push_folder
from hf_bnvae.reporting.model_card import write_card


def watch(hub, *wholes: dict[str, bytes]) -> list[int]:
    """Look at `main` at every request, as a reader would. It must hold one of `wholes`; returns which, each time."""
    seen = []

    def look(method, path):
        if "ada/model" in hub.repositories:
            seen.append(wholes.index(on_hub(hub)))

    hub.on_request = look
    return seen


def test_a_connection_that_drops_once_is_picked_up_again(hub, folder, target):
    push_folder(folder, target)
    old = contents(folder)
    change(folder)
    seen = watch(hub, old, contents(folder))
    hub.drop_connection("PUT", "^/lfs/")
    push_folder(folder, target)
    assert sum(request.startswith("PUT") for request in hub.requests) == 3  # one before, two now
    assert set(seen) == {0} and on_hub(hub) == contents(folder)


def test_an_answer_that_is_lost_leaves_the_whole_new_model_and_pushing_again_is_safe(hub, folder, target):
    push_folder(folder, target, "One")
    change(folder)
    hub.drop_connection("POST", "/commit/", before_answer=True)
    message = told(folder, target, commit_message="Two")
    assert (
        "main of ada/model holds what it held before, or all of the new model if only the answer was lost" in message
    )
    assert on_hub(hub) == contents(folder)
    push_folder(folder, target, "Three")
    assert hub.repositories["ada/model"].history() == ["initial commit", "One", "Two"]


def test_a_tag_that_is_not_given_is_told_from_a_model_that_is_not_pushed(hub, folder, target):
    hub.drop_connection("POST", "/tag/")
    message = told(folder, target, tag="v1")
    assert "The model is on main, and only the tag v1 is missing" in message and "held before" not in message
    assert on_hub(hub) == contents(folder) and hub.repositories["ada/model"].tags == {}
    again = push_folder(folder, target, tag="v1")
    assert again.commit == again.previous == hub.repositories["ada/model"].tags["v1"]


def test_a_commit_that_is_cut_off_leaves_the_old_model(hub, folder, target):
    push_folder(folder, target)
    old = contents(folder)
    change(folder)
    hub.drop_connection("POST", "/commit/")
    told(folder, target)
    assert on_hub(hub) == old != contents(folder)
    push_folder(folder, target)
    assert on_hub(hub) == contents(folder)


@pytest.mark.slow
def test_a_push_that_is_killed_leaves_the_old_model_and_can_be_repeated(hub, saved_model, folder, target, tmp_path):
    push_folder(folder, target)
    old, sent = contents(folder), set(hub.large_files)
    change(folder)
    BNVAEModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="100KB")
    write_card(folder, "ada/model")  # as the push will
    new = contents(folder)
    script = [sys.executable, str(ROOT / "scripts" / "push_to_hub.py"), str(folder), "--repo_id", "ada/model"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    seen = watch(hub, old, new)
    look = hub.on_request
    process = subprocess.Popen([*script, "--token", target.token], env=environment, stdout=subprocess.DEVNULL)

    def kill(method, path):
        look(method, path)
        if method == "PUT" and len(hub.large_files) > len(sent):  # the second shard
            os.kill(process.pid, signal.SIGKILL)

    hub.on_request = kill
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert len(hub.large_files) > len(sent) and on_hub(hub) == old
    hub.on_request = look
    push_folder(folder, target)
    assert set(seen) == {0} and on_hub(hub) == new
    loaded = BNVAEModel.from_pretrained("ada/model").state_dict()
    assert all(torch.equal(tensor, loaded[n]) for n, tensor in BNVAEModel.from_pretrained(folder).state_dict().items())
