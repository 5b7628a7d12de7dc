"""Edits and traversals against `reconstruct` of latents that were moved by hand, and directions of saved models."""

import copy
import shutil

import pytest
import torch

from hf_bnvae import BNVAEModel, StandardPrior

GREEDY = {"max_new_tokens": 12, "do_sample": False}


@pytest.fixture
def model(trained_model):
    yield trained_model
    trained_model._directions = None


@pytest.fixture
def direction(model, texts):
    return model.direction(texts[:60], texts[60:120], name="made up")


def test_the_mean_latent_is_the_mean(model, texts):
    torch.testing.assert_close(model.mean_latent(texts[:9], batch_size=2), model.encode_texts(texts[:9]).mean(0))
    latents = model.encode_texts(texts[:9])
    assert torch.equal(model.mean_latent(latents), latents.mean(0))
    with pytest.raises(ValueError, match="at least one text"):
        model.mean_latent([])


def test_edits_add_the_step(model, texts, direction):
    latents = model.encode_texts(texts[:6])
    expected = {s: model.reconstruct(latents + s * direction.step.to(latents), **GREEDY) for s in (0, 0.5, 1, -3)}
    for strength, moved in expected.items():
        assert model.edit(texts[:6], direction, strength, **GREEDY) == moved
        assert model.edit(latents, direction, strength, **GREEDY) == moved
        assert model.edit(texts[0], direction, strength, **GREEDY) == moved[0]
    assert expected[0] == model.reconstruct(texts[:6], **GREEDY) != expected[-3]
    assert model.edit(texts[:6], direction, **GREEDY) == expected[1]


def test_a_direction_goes_from_the_negative_to_the_positive_side(model, texts, direction):
    means = model.mean_latent(texts[60:120]), model.mean_latent(texts[:60])
    torch.testing.assert_close(means[0] + direction.step, means[1], rtol=0, atol=1e-5)
    assert direction.score(means[0]) < 0 < direction.score(means[1])
    back = model.direction(texts[60:120], texts[:60])
    torch.testing.assert_close(back.step, -direction.step)


def test_a_fitted_prior_says_in_which_coordinates_the_sides_are_told_apart(model, texts, direction):
    other = copy.deepcopy(model)
    other.set_prior(StandardPrior(model.config.latent_size))
    plain = other.direction(texts[:60], texts[60:120])
    torch.testing.assert_close(plain.step, direction.step)
    torch.testing.assert_close(plain.normal, plain.step)
    assert not torch.allclose(direction.normal, direction.step, rtol=0.01)


def test_a_traversal_replaces_one_number(model, texts):
    latents, values = model.encode_texts(texts[:3]), [-4.0, 0.0, 4.0]
    rows = []
    for value in values:
        moved = latents.clone()
        moved[:, 2] = value
        rows.append(model.reconstruct(moved, **GREEDY))
    expected = [list(column) for column in zip(*rows, strict=True)]
    assert model.traverse(texts[:3], 2, values, **GREEDY) == expected
    assert model.traverse(texts[0], 2, torch.tensor(values), **GREEDY) == expected[0]
    assert model.traverse(texts[:3], 3, values, **GREEDY) != expected
    assert len(model.traverse(texts[0], 0, **GREEDY)) == 5


@pytest.mark.parametrize("dimension", [-1, 8, 1.5, "a", True])
def test_a_dimension_that_is_none_is_refused(model, texts, dimension):
    with pytest.raises(ValueError, match="dimension must be"):
        model.traverse(texts[0], dimension)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", None])
def test_a_number_that_is_none_is_refused(model, texts, direction, value):
    with pytest.raises(ValueError, match="strength must be a finite number"):
        model.edit(texts[0], direction, strength=value)
    with pytest.raises(ValueError, match="each of values must be a finite number"):
        model.traverse(texts[0], 0, [1, value])
    with pytest.raises(ValueError, match="at least one value"):
        model.traverse(texts[0], 0, [])


def test_a_seed_draws_the_same_edits(model, texts, direction):
    sampled = {"do_sample": True, "max_new_tokens": 12, "top_k": 0}
    first, again, other = (model.edit(texts[:5], direction, seed=seed, **sampled) for seed in (1, 1, 2))
    assert first == again != other


# --- directions that travel with a model -----------------------------------------------------------------------------


def test_a_saved_model_keeps_its_directions_and_finds_them_by_name(model, texts, direction, tmp_path):
    model.directions[direction.name] = direction
    model.save_pretrained(tmp_path / "first")
    loaded = BNVAEModel.from_pretrained(tmp_path / "first")
    assert loaded.edit(texts[:4], "made up", **GREEDY) == model.edit(texts[:4], direction, **GREEDY)
    # Also from folder to folder.
    loaded.save_pretrained(tmp_path / "second")
    assert list(BNVAEModel.from_pretrained(tmp_path / "second").directions) == ["made up"]
    with pytest.raises(ValueError, match=r"has no direction 'else'\. It has: 'made up'"):
        loaded.edit(texts[0], "else")
    with pytest.raises(ValueError, match="must be a Direction or the name of one"):
        loaded.edit(texts[0], direction.step)


def test_saving_keeps_directions_that_were_put_into_the_folder_meanwhile(model, texts, direction, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path)
    assert loaded.directions == {}
    direction.save(tmp_path)
    loaded.directions["mine"] = loaded.direction(texts[:9], texts[9:18], name="mine")
    loaded.save_pretrained(tmp_path)
    assert set(BNVAEModel.from_pretrained(tmp_path).directions) == {"made up", "mine"}


def test_directions_of_other_weights_are_neither_followed_nor_saved(model, texts, direction, tmp_path, caplog):
    trained = copy.deepcopy(model)
    trained.directions[direction.name] = direction
    with torch.no_grad():
        trained.posterior.mean_projection.weight.mul_(1.5)
    with pytest.raises(ValueError, match="'made up' belongs to other weights"):
        trained.edit(texts[0], direction)
    trained.save_pretrained(tmp_path)
    assert not (tmp_path / "directions.safetensors").exists()
    # Saved over a model that had some.
    model.directions[direction.name] = direction
    model.save_pretrained(tmp_path)
    trained.directions["its own"] = trained.direction(texts[:9], texts[9:18], name="its own")
    trained.save_pretrained(tmp_path)
    assert list(BNVAEModel.from_pretrained(tmp_path).directions) == ["its own"]
    half = copy.deepcopy(model).to(torch.bfloat16).float()
    assert direction.fits(half.posterior.fingerprint())


def test_a_model_whose_processor_is_missing_keeps_its_directions(model, direction, tmp_path):
    model.directions[direction.name] = direction
    model.save_pretrained(tmp_path / "whole")
    for file in (tmp_path / "whole").glob("*tok*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    (tmp_path / "whole" / "processor_config.json").unlink()
    loaded = BNVAEModel.from_pretrained(tmp_path / "whole")
    assert loaded.processor is None and list(loaded.directions) == ["made up"]
    loaded.save_pretrained(tmp_path / "copy")
    assert list(BNVAEModel.from_pretrained(tmp_path / "copy").directions) == ["made up"]


def test_a_direction_that_was_saved_meanwhile_is_not_replaced_by_the_older_one(model, texts, direction, tmp_path):
    model.directions[direction.name] = direction
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path)
    assert loaded.directions[direction.name].num_positive == 60
    model.direction(texts[:9], texts[9:18], direction.name).save(tmp_path, overwrite=True)
    loaded.save_pretrained(tmp_path)
    assert BNVAEModel.from_pretrained(tmp_path).directions[direction.name].num_positive == 9
    # One that was set on purpose is.
    loaded.directions[direction.name] = direction
    copy.deepcopy(loaded).save_pretrained(tmp_path)
    assert BNVAEModel.from_pretrained(tmp_path).directions[direction.name].num_positive == 60


def test_only_directions_under_their_names_can_be_set(model, direction):
    for name, value in (("other", direction), (direction.name, direction.step)):
        with pytest.raises(ValueError, match="takes the Direction of this name"):
            model.directions[name] = value
    assert model.directions == {}


def test_damaged_directions_do_not_keep_a_model_from_loading(model, direction, texts, tmp_path):
    model.directions[direction.name] = direction
    model.save_pretrained(tmp_path)
    file = tmp_path / "directions.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    loaded = BNVAEModel.from_pretrained(tmp_path)
    assert loaded.reconstruct(texts[:2], **GREEDY) == model.reconstruct(texts[:2], **GREEDY)
    with pytest.raises(ValueError, match=r"directions\.safetensors is damaged"):
        loaded.edit(texts[0], "made up")
    loaded.save_pretrained(tmp_path / "copy")
    copied = BNVAEModel.from_pretrained(tmp_path / "copy")
    assert copied.directions == {} and copied.processor is not None
