"""The model card on the Hub: it belongs to the weights beside it, and a card that somebody wrote by hand is kept."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from loopback_hub import File
from pushing import change, on_hub, told

from hf_bnvae import BNVAEModel
from hf_bnvae.hub.push import push_folder
from hf_bnvae.hub.target import HubError
from hf_bnvae.reporting.model_card import BNVAEModelCard


@pytest.fixture
def with_figures(hub, folder, target) -> None:
    """On the Hub the model has a card with a figure and a license."""
    push_folder(folder, target)
    card = BNVAEModelCard.from_json_file(folder / "model_card.json")
    replace(card, figures={"kl": 3.0, "kl_floor": 2.0}, license="mit", language="en", model_name="A title").save(
        folder
    )
    push_folder(folder, target, "With figures")


@pytest.fixture
def other(folder) -> BNVAEModel:
    """A model with other weights."""
    model = BNVAEModel.from_pretrained(folder)
    with torch.no_grad():
        model.posterior.mean_projection.weight.add_(1.0)
    return model


def test_the_same_weights_keep_their_card_whoever_pushes_them(hub, folder, target, with_figures, caplog):
    caplog.clear()
    model = BNVAEModel.from_pretrained(folder)
    model.push_to_hub("ada/model", tags="mine", commit_message="Tagged", token=target.token)
    text = on_hub(hub)["README.md"].decode()
    assert "KL 3.00" in text and "- mine" in text and "has no figures" not in caplog.text
    # Its processor lay beside its weights.
    assert "has no processor attached" not in caplog.text


def test_a_model_without_a_processor_is_pushed_with_a_warning(hub, make_model, target, caplog):
    make_model().push_to_hub("ada/alone", token=target.token)
    assert "has no processor attached" in caplog.text


def test_other_weights_have_no_figures_and_no_old_file_beside_their_shards(
    hub, saved_model, processor, folder, target, with_figures, other, caplog
):
    """A loader would take the old file before the shards. One call pushes model, processor and card in one commit."""
    BNVAEModel.from_pretrained(folder).push_to_hub("ada/model", tags="mine", token=target.token)
    caplog.clear()
    other.add_model_tags("yours")
    pushed = other.attach_processor(processor).push_to_hub("model", max_shard_size="100KB", token=target.token)
    assert hub.repositories["ada/model"].history()[2:] == ["With figures", "Upload model", "Upload model"]
    assert pushed.repo_id == "ada/model" and "has no processor attached" not in caplog.text
    there = on_hub(hub)
    assert "KL 3.00" not in there["README.md"].decode() and "has no figures" in caplog.text
    assert b"license: mit" in there["README.md"] and b"- mine\n- yours\n" in there["README.md"]
    assert "model.safetensors" not in there and "processor_config.json" in there
    loaded = BNVAEModel.from_pretrained("ada/model")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in other.state_dict().items())
    assert not torch.equal(loaded.posterior.mean_projection.weight, saved_model.posterior.mean_projection.weight)


@pytest.mark.parametrize("asked", [{"create_pr": True}, {"commit_description": "x"}])
def test_a_model_s_push_refuses_what_it_does_not_have(hub, target, other, asked):
    with pytest.raises(ValueError, match=f"has no {next(iter(asked))}"):
        other.push_to_hub("ada/model", **asked, token=target.token)


def test_a_model_is_not_pushed_to_somebody_else(hub, folder, target, other):
    push_folder(folder, target)
    with pytest.raises(HubError, match="may not write to ada/model"):
        other.push_to_hub("ada/model", token=hub.add_user("eve"))


def test_the_form_that_is_no_card_makes_way_for_one(hub, processor, folder, target):
    """Transformers' push leaves that form behind, for example when it pushes a processor."""
    processor.push_to_hub("ada/model", token=target.token)
    assert b"[More Information Needed]" in on_hub(hub)["README.md"]
    filled = on_hub(hub)["README.md"].replace(b"[More Information Needed]", b"Ada", 1)
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == (folder / "README.md").read_bytes()
    # A file of the same name that holds something else is not used for the card.
    (folder / "model_card.json").unlink()
    files = {**hub.repositories["ada/model"].find("main").files, "model_card.json": File(b'{"x": 1}', False)}
    hub.repositories["ada/model"].commit("main", "Another's", files)
    push_folder(folder, target)
    # The control: a card that somebody has filled in, or whose metadata cannot be read, stays.
    repository = hub.repositories["ada/model"]
    for mine in (filled, b"---\n[: no YAML\n---\n# Mine"):
        files = {**repository.find("main").files, "README.md": File(mine, False)}
        repository.commit("main", "Mine", files)
        push_folder(folder, target)
        assert on_hub(hub)["README.md"] == mine


def test_every_push_has_a_card_that_is_of_its_weights(hub, folder, saved_model, target, caplog):
    push_folder(folder, target)
    card = BNVAEModelCard.from_json_file(folder / "model_card.json")
    assert (card.model_name, card.repo_id) == ("model", "ada/model")
    text = on_hub(hub)["README.md"].decode()
    assert text == card.render() == (folder / "README.md").read_text() and "from_pretrained('ada/model')" in text
    # Figures stay as long as the weights do.
    replace(card, figures={"kl": 3.0, "kl_floor": 2.0}, model_name="A title").save(folder)
    push_folder(folder, target)
    assert "# A title" in on_hub(hub)["README.md"].decode() and "KL 3.00" in on_hub(hub)["README.md"].decode()
    assert "has no figures" not in caplog.text
    change(folder)
    push_folder(folder, target)
    assert "KL 3.00" not in on_hub(hub)["README.md"].decode() and "has no figures" in caplog.text


def test_a_card_by_hand_is_kept_wherever_it_is(hub, folder, target, caplog):
    push_folder(folder, target)
    (folder / "README.md").write_text("# By my hand")
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By my hand" and "so it is kept" in caplog.text
    (folder / "README.md").write_text("# By my other hand")
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By my other hand"
    (folder / "README.md").write_text("# By my hand")
    push_folder(folder, target)
    caplog.clear()
    # The folder has no card any more. The Hub still has it.
    (folder / "README.md").unlink()
    change(folder)
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By my hand"
    assert "The README.md of ada/model was written or changed by hand" in caplog.text
    assert on_hub(hub)["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_a_card_by_hand_is_kept_also_where_it_cannot_be_read(hub, folder, target):
    """A file that cannot be read may still be there, and it may have changed."""
    push_folder(folder, target)
    push_folder(folder, target)  # now the client has cached the card
    repository = hub.repositories["ada/model"]
    files = {**repository.find("main").files, "README.md": File(b"# By hand", False)}
    repository.commit("main", "Words", files)
    change(folder)
    for break_off in (hub.drop_connection, partial(hub.refuse, status=408)):
        break_off("HEAD", "README.md$", times=100)
        assert "failed" in told(folder, target)
        assert on_hub(hub)["README.md"] == b"# By hand" and repository.history()[-1] == "Words"
        hub.faults.clear()
    push_folder(folder, target)
    assert on_hub(hub)["README.md"] == b"# By hand" and repository.history()[-1] == "Upload model"
