"""Directions against closed forms of Gaussians, and the file that keeps them against every flipped byte."""

import dataclasses
import shutil

import pytest
import torch

from hf_bnvae import BNVAEModel, Direction, GaussianPrior, StandardPrior
from hf_bnvae.model.directions_bnvae import held_out_accuracy, read_directions, write_directions

KNOWN = {"name": "size", "negative": "small", "positive": "large", "head_fingerprint": torch.ones(2, 3)}


@pytest.fixture
def sides():
    """Latents of two sides, and a prior that is far from N(0, I)."""
    draw = torch.Generator().manual_seed(0)
    negative, positive = (torch.randn(40, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    covariance = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.2]])
    return negative, positive + torch.tensor([1.0, 0.5, -0.2]), GaussianPrior.from_moments(torch.ones(3), covariance)


def test_strength_one_leads_from_one_mean_to_the_other(sides):
    negative, positive, prior = sides
    for source in (prior, StandardPrior(3)):
        direction = Direction.between(negative, positive, source, **KNOWN)
        torch.testing.assert_close(negative.mean(0) + direction.step, positive.mean(0), rtol=0, atol=1e-5)
    assert (direction.num_negative, direction.num_positive, direction.method) == (40, 40, "means")


def test_the_normal_is_the_inverse_covariance_times_the_difference_and_vanishes_halfway(sides):
    negative, positive, prior = sides
    apart, middle = positive.mean(0) - negative.mean(0), (positive.mean(0) + negative.mean(0)) / 2
    covariance = prior.scale_tril.double() @ prior.scale_tril.double().T
    direction = Direction.between(negative, positive, prior, **KNOWN)
    torch.testing.assert_close(direction.normal.double(), torch.linalg.solve(covariance, apart), rtol=1e-4, atol=1e-5)
    # The distance of Mahalanobis.
    assert direction.scale == pytest.approx((apart @ torch.linalg.solve(covariance, apart)).sqrt().item(), rel=1e-5)
    assert direction.score(middle) == pytest.approx(0, abs=1e-5)
    assert direction.score(positive.mean(0)) == pytest.approx(direction.scale**2 / 2, rel=1e-4)
    without = Direction.between(negative, positive, StandardPrior(3), **KNOWN)
    torch.testing.assert_close(without.normal.double(), apart, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(without.normal, direction.normal, rtol=0.1)


def test_a_probe_s_step_reaches_the_other_mean_s_level_by_the_likeliest_way(sides):
    negative, positive, prior = sides
    white = torch.cat([prior.whiten(negative), prior.whiten(positive)])
    normal = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    direction = Direction.between(negative, positive, prior, lambda *_: (normal, 0.25), **KNOWN)
    assert direction.method == "probe" and direction.held_out_accuracy is None
    for latents in (negative, positive):
        expected = prior.whiten(latents) @ normal + 0.25
        torch.testing.assert_close(direction.score(latents), expected, rtol=1e-4, atol=1e-4)
    moved = direction.score(negative.mean(0) + direction.step)
    assert moved == pytest.approx(direction.score(positive.mean(0)).item(), abs=1e-4)
    # No other way to that level costs less, by the texts' covariance.
    covariance = torch.cov(white.T)
    step = prior.whiten(direction.step.double()) - prior.whiten(torch.zeros(3).double())
    cost = step @ torch.linalg.solve(covariance, step)
    for other in torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64):
        way = step + other - normal * (normal @ other) / (normal @ normal)
        assert way @ normal == pytest.approx((step @ normal).item())
        assert way @ torch.linalg.solve(covariance, way) >= cost


def test_held_out_accuracy_is_that_of_texts_the_direction_has_not_seen():
    apart = torch.tensor([[10.0, 0.0]])
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 30, 2, generator=draw)
    assert held_out_accuracy(a, b + apart) == 1.0
    assert held_out_accuracy(b + apart, a) == 1.0
    # In many dimensions a few texts can be told apart from memory, and held-out texts cannot.
    a, b = torch.randn(2, 20, 400, generator=draw)
    direction = Direction.between(a, b, StandardPrior(400), **{**KNOWN, "head_fingerprint": torch.ones(2, 400)})
    assert (direction.score(a) < 0).all() and (direction.score(b) > 0).all()
    assert 0.25 < direction.held_out_accuracy < 0.75
    # Both sides count alike, however many texts they have.
    few, many = torch.tensor([[0.0], [5.0]]), torch.full((98, 1), 5.0) + torch.randn(98, 1, generator=draw) / 100
    assert held_out_accuracy(few, many) < 0.8
    assert held_out_accuracy(a[:1], b) is None


def test_two_sides_that_are_one_have_no_direction():
    latents = torch.randn(5, 3)
    with pytest.raises(ValueError, match="the same mean"):
        Direction.between(latents, latents.flip(0), StandardPrior(3), **KNOWN)
    with pytest.raises(ValueError, match="positive side of a direction needs at least one text"):
        Direction.between(latents, latents[:0], StandardPrior(3), **KNOWN)


@pytest.mark.parametrize("name", ["", " ", "two\nlines", 3, None, "\x1b[31m"])
def test_a_name_is_a_line_of_text(sides, name):
    with pytest.raises(ValueError, match="must be a line of text"):
        Direction.between(*sides, **{**KNOWN, "name": name})


@pytest.mark.parametrize(
    ("part", "value"),
    [("step", torch.ones(2)), ("normal", torch.full((3,), float("nan"))), ("scale", "far"), ("method", "magic")],
)
def test_parts_that_are_none_are_refused(sides, part, value):
    direction = Direction.between(*sides, **KNOWN)
    with pytest.raises(ValueError, match=part if part != "step" else "normal"):
        dataclasses.replace(direction, **{part: value})


# --- the file --------------------------------------------------------------------------------------------------------


def same(a: Direction, b: Direction) -> bool:
    parts = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Direction)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in parts)


def test_directions_come_back_from_their_file_to_the_bit(sides, tmp_path):
    directions = {
        name: Direction.between(*sides, **{**KNOWN, "name": name}) for name in ("size", "größe | <b>", "2.step")
    }
    write_directions(tmp_path, directions)
    found = read_directions(tmp_path / "directions.safetensors")
    assert list(found) == list(directions) and all(same(found[name], directions[name]) for name in directions)
    assert not same(found["size"], found["2.step"])
    write_directions(tmp_path, {})
    assert list(tmp_path.iterdir()) == [] and read_directions(tmp_path / "directions.safetensors") == {}


def test_a_file_with_any_other_byte_is_refused_by_name(sides, tmp_path):
    write_directions(tmp_path, {"size": Direction.between(*sides, **KNOWN)})
    file = tmp_path / "directions.safetensors"
    whole = file.read_bytes()
    assert list(read_directions(file)) == ["size"]
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_directions(file)
        except ValueError as error:
            assert "directions.safetensors is damaged or was cut off" in str(error)
        else:
            # A header may be spelt in several ways.
            assert same(found["size"], Direction.between(*sides, **KNOWN))
    for length in (0, 7, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged or was cut off"):
            read_directions(file)


def test_a_direction_is_added_to_a_model_s_folder_and_never_replaces_one_silently(
    trained_folder, trained_model, texts, tmp_path
):
    folder = tmp_path / "model"
    shutil.copytree(trained_folder, folder)
    first = trained_model.direction(texts[:20], texts[20:40], name="first")
    first.save(folder)
    trained_model.direction(texts[40:60], texts[20:40], name="second").save(folder)
    with pytest.raises(ValueError, match="has a direction 'first' already"):
        trained_model.direction(texts[:9], texts[20:40], name="first").save(folder)
    found = BNVAEModel.from_pretrained(folder, verify_checksums=True).directions
    assert list(found) == ["first", "second"] and same(found["first"], first)
    changed = trained_model.direction(texts[:9], texts[20:40], name="first")
    changed.save(folder, overwrite=True)
    assert same(read_directions(folder / "directions.safetensors")["first"], changed) and not same(first, changed)
    with pytest.raises(ValueError, match="holds no saved model"):
        first.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="holds another model"):
        first.save(tmp_path)


@pytest.mark.parametrize("side", [5, None, "two\nlines", "\x1b[31m", "\ud800"])
def test_sides_are_lines_of_text(sides, side):
    with pytest.raises(ValueError, match="must be a line of text"):
        Direction.between(*sides, **{**KNOWN, "positive": side})
