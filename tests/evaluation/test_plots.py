"""Pictures draw what was given, nothing overlaps, and an empty latent space looks empty and not broken.

Checked against the data themselves, quantiles of numpy, and the mass of the normal distribution.
"""

import ast
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from hf_bnvae.evaluation import plots
from hf_bnvae.evaluation.plots import (
    RateDistortionPoint,
    plot_aggregated_posterior,
    plot_kl_per_dimension,
    plot_rate_distortion,
    plot_training_curves,
)

SIZES = [1, 2, 32, 33, 128]


def faults(figure) -> list[str]:
    """What nobody can read in a picture: labels of the horizontal axes that touch their neighbours, and "cut off"
    where something reaches beyond the edge."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, found = canvas.get_renderer(), []
    for axes in figure.axes:
        labels = [(label.get_text(), label.get_window_extent(renderer)) for label in axes.get_xticklabels()]
        found += [b[0] for a, b in pairwise([label for label in labels if label[0]]) if a[1].x1 > b[1].x0]
    box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    if box.x0 < -0.01 or box.y0 < -0.01 or box.x1 > width + 0.01 or box.y1 > height + 0.01:
        found.append("cut off")
    return found


def latents(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def curves(axes) -> dict[str, np.ndarray]:
    """The lines of a picture that have a name, each `(points, 2)`."""
    return {line.get_label(): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_number_of_dimensions_can_be_read(size):
    z = latents(300, size)
    kl = z[0].abs()
    for figure in (plot_kl_per_dimension(kl, kl / 2), plot_aggregated_posterior(z, kl)):
        assert faults(figure) == []
        for axes in figure.axes:
            assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()


def test_ticks_that_overlap_and_texts_that_are_cut_off_are_found(monkeypatch):
    monkeypatch.setattr(plots, "MAX_NAMED_DIMENSIONS", 1000)
    assert "17" in faults(plot_kl_per_dimension(np.ones(128)))
    figure = plot_kl_per_dimension(np.ones(4))
    assert faults(figure) == []
    figure.text(0.99, 0.5, "far too long to fit")
    assert faults(figure) == ["cut off"]


def test_bars_are_the_kl_sorted_with_each_dimensions_own_floor():
    kl, floor = torch.tensor([0.2, 1.5, 0.7, 0.1]), torch.tensor([0.11, 0.22, 0.33, 0.44])
    (axes,) = plot_kl_per_dimension(kl, floor, "share").axes
    order = [1, 2, 0, 3]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(kl[order].tolist())
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(index) for index in order]
    (lines,) = axes.collections
    heights = [segment[0][1] for segment in lines.get_segments()]
    assert heights == pytest.approx(floor[order].tolist()) and heights != pytest.approx(floor.tolist())
    (legend,) = axes.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["KL, 2.50 nats in all", "share, 1.10 nats in all"]
    assert not plot_kl_per_dimension(kl).axes[0].collections


def test_a_collapsed_posterior_looks_empty_and_says_so():
    (axes,) = plot_kl_per_dimension(np.full(32, 2e-4), np.zeros(32)).axes
    assert axes.get_ylim() == (0, 0.1)
    assert [text.get_text() for text in axes.texts] == [
        "Every dimension is below 0.01 nats:\nthe greatest has 0.0002."
    ]
    (alive,) = plot_kl_per_dimension(np.full(32, 0.25), np.full(32, 0.25)).axes
    assert not alive.texts and alive.get_ylim()[1] == pytest.approx(0.3)


def test_the_plane_holds_the_two_widest_directions_from_the_origin():
    size = 6
    scales = torch.tensor([0.5, 3.0, 1.0, 2.0, 0.5, 0.5])
    shift = torch.tensor([0.0, 4.0, 0.0, 0.0, 0.0, 0.0])
    z = latents(2000, size) * scales + shift
    rotation = torch.linalg.qr(latents(size, size, seed=1))[0]
    for values in (z, z @ rotation):
        plane = plot_aggregated_posterior(values).axes[0]
        dots = plane.lines[0].get_xydata()
        assert dots.std(0) == pytest.approx([3.0, 2.0], rel=0.05)
        # Not centred: a shift of the aggregated posterior is seen.
        assert abs(dots.mean(0)) == pytest.approx([4.0, 0.0], abs=0.4)
        assert "(std 3." in plane.get_legend().get_texts()[0].get_text()


def test_circles_hold_their_share_of_the_prior():
    plane = plot_aggregated_posterior(latents(500, 4)).axes[0]
    circles = [points for label, points in curves(plane).items() if "of the prior" in label]
    radii = [np.hypot(*points.T) for points in circles]
    assert all(np.ptp(radius) < 1e-9 for radius in radii)
    distances = latents(100_000, 2).norm(dim=1)
    assert [float((distances < radius[0]).double().mean()) for radius in radii] == pytest.approx(
        [0.5, 0.9, 0.99], abs=0.006
    )


@pytest.mark.parametrize(("count", "size"), [(1000, 32), (2000, 128), (500, 2)])
def test_the_legend_says_how_wide_the_prior_itself_would_look(count, size):
    plane = plot_aggregated_posterior(latents(count, size)).axes[0]
    expected = 1 + math.sqrt(size / count)
    assert plane.lines[0].get_xydata().std(0)[0] == pytest.approx(expected, rel=0.06)
    texts = [text.get_text() for text in plane.get_legend().get_texts()]
    assert any(f"as many draws of it: std {expected:.2f}" in text for text in texts)


def test_quantiles_are_each_dimensions_in_the_order_of_the_kl():
    z = latents(400, 5) * torch.tensor([1.0, 2.0, 0.5, 1.5, 0.1])
    kl = torch.tensor([0.3, 0.1, 0.5, 0.2, 0.4])
    order = [2, 4, 0, 3, 1]
    axes = plot_aggregated_posterior(z, kl).axes[1]
    outer, inner = ([segment[:, 1] for segment in bars.get_segments()] for bars in axes.collections)
    expected = np.quantile(z.double().numpy(), [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    assert np.array(outer) == pytest.approx(expected[[0, 4]].T[order])
    assert np.array(inner) == pytest.approx(expected[[1, 3]].T[order])
    assert curves(axes)["median"][:, 1] == pytest.approx(expected[2][order])
    assert curves(axes)["median"][:, 1] != pytest.approx(expected[2])
    across = sorted(line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1)
    assert across == pytest.approx([-1.6449, -0.6745, 0, 0.6745, 1.6449], abs=1e-4)
    assert [tick.get_text() for tick in plot_aggregated_posterior(z).axes[1].get_xticklabels()] == list("01234")


def test_points_stand_at_rate_and_distortion_over_lines_of_their_sum():
    points = [RateDistortionPoint("one", 8.0, 36.0, 6.5), RateDistortionPoint("two", 0.004, 43.9)]
    (axes,) = plot_rate_distortion(points).axes
    named = {label.split(":")[0]: data for label, data in curves(axes).items()}
    assert named["one"].tolist() == [[8.0, 36.0]] and named["two"].tolist() == [[0.004, 43.9]]
    single = [line.get_xydata()[0].tolist() for line in axes.lines if len(line.get_xydata()) == 1]
    assert [6.5, 36.0] in single and len(single) == 3
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2 and line.get_alpha() == 0.5]
    sums = [data.sum(1) for data in lines]
    assert len(lines) >= 3 and all(values[0] == pytest.approx(values[1]) for values in sums)
    labels = {float(text.get_text()) for text in axes.texts if text.get_text() != "-ELBO"}
    assert labels and labels <= {round(float(values[0]), 6) for values in sums}
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "one: KL 8.00, -ELBO 44.00, MI 6.50",
        "two: KL 0.004, -ELBO 43.90",
        "hollow: at the mutual information (MI) instead of the KL",
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 3, 9])
def test_any_number_of_models_is_told_apart(count):
    points = [RateDistortionPoint(f"{'folder/' * 9}run-{i}", 4.0 * i, 60.0 - 3 * i, 3.0 * i) for i in range(count)]
    figure = plot_rate_distortion(points)
    assert faults(figure) == []
    marks = [line for line in figure.axes[0].lines if "run-" in str(line.get_label())]
    assert len({(line.get_marker(), line.get_color()) for line in marks}) == count


LOG = [
    {"step": 10, "loss": 50.0, "reconstruction_nll": 44.0, "kl": 7.0, "kl_floor": 6.0, "beta": 1.0},
    {"step": 20, "loss": 45.0, "reconstruction_nll": 38.0, "kl": 7.5, "kl_floor": 6.5, "beta": 1.0},
    {"step": 20, "eval_loss": 46.0, "eval_kl": 7.2, "eval_reconstruction_nll": 38.8},
    {"step": 20, "train_runtime": 3.0},
]


@pytest.mark.filterwarnings("error")
def test_training_curves_are_what_was_logged():
    figure = plot_training_curves(LOG)
    drawn = {axes.get_title(): axes for axes in figure.axes if axes.lines}
    assert list(drawn) == ["Loss", "Reconstruction, -log p(x | z)", "KL from the prior (beta = 1 throughout)"]
    kl = curves(drawn["KL from the prior (beta = 1 throughout)"])
    assert kl["training"].tolist() == [[10, 7.0], [20, 7.5]]
    assert kl["floor of a training batch"].tolist() == [[10, 6.0], [20, 6.5]] and kl["evaluation"].tolist() == [
        [20, 7.2]
    ]
    assert faults(figure) == []
    varying = plot_training_curves([{**entry, "beta": entry["step"] / 20} for entry in LOG])
    titles = [axes.get_title() for axes in varying.axes if axes.lines]
    assert titles[2:] == ["KL from the prior", "Weight of the KL"]
    assert curves(varying.axes[3])["beta"][-1].tolist() == [20, 1.0]


def test_the_loss_of_an_auxiliary_is_not_taken_for_the_models():
    log = [{**entry, "auxiliary_nll": 9.0} if "kl" in entry else entry for entry in LOG]
    found = curves(plot_training_curves(log).axes[0])
    logged = [entry for entry in LOG if "kl" in entry]
    assert found["training, -ELBO"].tolist() == [[e["step"], e["reconstruction_nll"] + e["kl"]] for e in logged]
    assert found["training objective, with the auxiliary"].tolist() == [[e["step"], e["loss"]] for e in logged]
    assert "training, -ELBO" not in curves(plot_training_curves(LOG).axes[0])


def test_what_hardly_moves_looks_so():
    flat = plot_training_curves([{"step": i, "loss": 8 + 1e-4 * (i % 2)} for i in range(10)]).axes[0]
    steep = plot_training_curves([{"step": i, "loss": 8.0 + i} for i in range(10)]).axes[0]
    assert np.ptp(flat.get_ylim()) == pytest.approx(0.4, rel=0.01)
    assert np.ptp(steep.get_ylim()) == pytest.approx(9, rel=0.15)
    assert np.ptp(plot_training_curves([{"step": 1, "loss": 0.0}]).axes[0].get_ylim()) > 0


def test_a_kl_at_its_floor_does_not_seem_to_cross_it():
    axes = plot_training_curves([{"step": i, "kl": 8 - 1e-3 * (i % 2), "kl_floor": 8.0} for i in range(10)]).axes[0]
    bottom, top = axes.get_ylim()
    assert bottom == 0 and 8 < top < 9
    assert plot_training_curves([{"step": 1, "kl": 0.0}]).axes[0].get_ylim()[1] > 0
    assert plot_training_curves([{"step": 1, "kl": math.nan}, {"step": 2, "kl": 4.0}]).axes[0].lines


def test_few_points_are_told():
    titles = [
        plot_training_curves([{"step": i, "loss": 8.0} for i in range(count)]).get_suptitle() for count in (1, 4, 5)
    ]
    assert titles == ["Training, logged 1 time only", "Training, logged 4 times only", "Training"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot_kl_per_dimension(np.ones((2, 2))), "kl must be an array of 1 dimensions"),
        (lambda: plot_kl_per_dimension(np.ones(3), np.ones(2)), r"same shape, got \(3,\) and \(2,\)"),
        (lambda: plot_kl_per_dimension([1.0, math.nan]), "kl holds numbers that are not finite"),
        (lambda: plot_aggregated_posterior(np.ones((1, 4))), "two sentences or more, got 1"),
        (lambda: plot_aggregated_posterior(np.ones((3, 4)), np.ones(3)), r"order must have shape \(4,\)"),
        (lambda: plot_rate_distortion([]), "no point to draw"),
        (lambda: plot_training_curves([{"step": 1, "train_runtime": 2.0}]), "no loss, reconstruction"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.filterwarnings("error")
def test_points_in_one_place_are_drawn():
    for values in (np.zeros((5, 3)), np.ones((2, 3)), np.ones((5, 1))):
        FigureCanvasAgg(plot_aggregated_posterior(values)).draw()


def test_no_global_state_of_matplotlib_is_touched():
    tree = ast.parse(Path(plots.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "matplotlib.figure" in modules and "matplotlib.pyplot" not in modules


def test_colours_differ_for_those_who_do_not_see_red_or_green():
    """Simulated by the matrices of Viénot, Brettel and Mollon (1999) for linear RGB, compared in it."""

    def linear(color: str) -> np.ndarray:
        return np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)])

    matrices = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }

    def least_distance(colors, matrix) -> float:
        seen = [np.array(matrix) @ linear(color) for color in colors]
        return min(float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i])

    ours = [plots.BLUE, plots.VERMILION]
    for matrix in matrices.values():
        assert least_distance(ours, matrix) > 0.3
        assert least_distance(plots.COLORS, matrix) > 0.05
    # A pair of the same brightness that is a well-known trap.
    assert least_distance(["#b04000", "#607000"], matrices["deutan"]) < 0.05
