# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Pictures of a latent space: functions from figures to a matplotlib `Figure`, without global state.

The colours come from Okabe and Ito (2008): people with any colour vision can tell them apart. Two things in one
picture also differ in shape or stroke.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError("Pictures need matplotlib 3.9 or later: pip install 'matplotlib>=3.9'") from error

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#6E6E6E"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# One colour for each remedy of the collapse benchmark.
REMEDY_COLORS = (*COLORS, GREY, "#882255", "#999933")

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PRIOR_SHARES = (0.5, 0.9, 0.99)
# The least span of both axes in a picture of remedies, in nats.
LEAST_SPAN = 1.0
# The largest span of the likelihoods in the picture of all settings, in nats.
MOST_SPAN = 6.0
# A curve of fewer points shows no course.
FEW_POINTS = 5
# More dots only hide one another.
MAX_DOTS = 3000
# With more dimensions their numbers would overlap.
MAX_NAMED_DIMENSIONS = 32


@dataclass(frozen=True)
class RateDistortionPoint:
    """
    Rate and distortion of a model, in nats per sentence: how much its latents say about a text, and what is lost.

    Args:
        name (`str`): The name of the model in the legend.
        rate (`float`): KL from the prior.
        distortion (`float`): -log p(x | z).
        mutual_information (`float`, *optional*): The part of the rate that is information about the sentence.
    """

    name: str
    rate: float
    distortion: float
    mutual_information: float | None = None


def plot_kl_per_dimension(kl: Any, floor: Any = None, floor_label: str = "floor of a training batch") -> Figure:
    """
    The KL of each latent dimension as a bar, the largest first. A line across each bar shows the floor.

    Args:
        kl (array or tensor of shape `(latent_size,)`): Mean KL of each dimension, nats.
        floor (array or tensor of shape `(latent_size,)`, *optional*): Floor of each dimension, nats.
        floor_label (`str`, *optional*): The name of the floor in the legend.

    Raises:
        ValueError: for wrong shapes.
    """
    kl = _array("kl", kl, 1)
    floor = None if floor is None else _array("floor", floor, 1)
    if floor is not None and floor.shape != kl.shape:
        raise ValueError(f"kl and floor must have the same shape, got {kl.shape} and {floor.shape}.")
    order, count = np.argsort(-kl, kind="stable"), len(kl)
    figure = _figure(8, 4)
    axes = figure.add_subplot()
    places = np.arange(1, count + 1)
    bars = axes.bar(places, kl[order], width=0.8, color=BLUE, label=f"KL, {_nats(kl.sum())} nats in all")
    handles: list[Any] = [bars]
    top = kl.max()
    if floor is not None:
        label = f"{floor_label}, {_nats(floor.sum())} nats in all"
        handles.append(
            axes.hlines(floor[order], places - 0.42, places + 0.42, color=VERMILION, linewidth=2, label=label)
        )
        top = max(top, floor.max())
    # The axis reaches 0.1 at least, so that a collapsed latent space looks empty.
    axes.set_ylim(0, max(1.2 * top, 0.1))
    if top < 0.01:
        axes.text(
            0.5,
            0.5,
            f"Every dimension is below 0.01 nats:\nthe greatest has {_nats(top)}.",
            **_centred(axes),
            color=GREY,
        )
    _number_dimensions(axes, order, "the greatest KL first")
    axes.set_ylabel("KL from the prior (nats per sentence)")
    _set_title(axes, f"KL of each of {count} latent dimensions")
    _legend_below(figure, handles)
    return figure


def plot_aggregated_posterior(latents: Any, order: Any = None) -> Figure:
    """
    The aggregated posterior against the prior N(0, I): the plane in which it is widest, and quantiles in each
    dimension.

    On the left the samples are projected onto their first two principal directions. The projection starts at the
    origin, not at their mean, so that a shift can be seen. In every plane the prior is a standard normal, and the
    circles hold 50, 90 and 99 % of it. The samples choose the plane, so even draws of the prior would look too wide in
    their own plane. The legend gives the expected width for the same number of draws of the prior: about
    1 + sqrt(latent_size / sentences) (Marchenko and Pastur). A latent space of one dimension gets a histogram and the
    density of the prior instead.

    On the right stand the 5, 25, 50, 75 and 95 % quantiles of each dimension. Lines across show these quantiles of
    N(0, 1).

    Args:
        latents (array or tensor of shape `(sentences, latent_size)`): One draw from each sentence's posterior.
        order (array or tensor of shape `(latent_size,)`, *optional*): The mean KL of each dimension, by which the
            dimensions are ordered as in [`plot_kl_per_dimension`]. Without it they keep their own order.

    Raises:
        ValueError: for fewer than two sentences, and for wrong shapes.
    """
    latents = _array("latents", latents, 2)
    count, size = latents.shape
    if count < 2:
        raise ValueError(f"A picture of the aggregated posterior needs two sentences or more, got {count}.")
    key = np.zeros(size) if order is None else _array("order", order, 1)
    if key.shape != (size,):
        raise ValueError(f"order must have shape ({size},), got {key.shape}.")
    figure = _figure(11, 5)
    plane, dimensions = figure.subplots(1, 2, width_ratios=(1, 1.25))
    if size == 1:
        _draw_histogram(plane, latents[:, 0])
    else:
        _draw_plane(plane, latents)
    _draw_quantiles(dimensions, latents, np.argsort(-key, kind="stable"), order is not None)
    for axes in (plane, dimensions):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False, fontsize=9)
    figure.suptitle(f"Aggregated posterior of {count} sentences against the prior N(0, I)")
    return figure


def plot_kl_split(names: Sequence[str], used: Any, unused: Any) -> Figure:
    """
    What becomes of the KL of several models, one bar for each model: first what the decoder uses, then the rest.

    Args:
        names (sequence of `str`): The models, from top to bottom.
        used, unused (array or tensor of shape `(models,)`): The two parts of each KL, nats per sentence.

    Raises:
        ValueError: for shapes that do not fit.
    """
    parts = [_array("used", used, 1), _array("unused", unused, 1)]
    if any(len(part) != len(names) for part in parts):
        raise ValueError(f"Each of {len(names)} names needs both parts, got {len(parts[0])} and {len(parts[1])}.")
    # An estimate of nothing may fall below 0.
    known, other = (np.maximum(part, 0) for part in parts)
    places = np.arange(len(names), 0, -1)
    figure = _figure(8, 0.9 + 0.5 * len(names))
    axes = figure.add_subplot()
    bars = [
        axes.barh(places, known, 0.6, color=BLUE, label="what the decoder uses"),
        axes.barh(places, other, 0.6, left=known, color=ORANGE, hatch="//", label="what it does not use"),
    ]
    widest = max(1.0, float((known + other).max()))
    for place, total, inner in zip(places, known + other, known, strict=True):
        text = f"{total:.1f} nats, {inner:.1f} of them used" if total >= 0.05 else "collapsed: the KL is 0"
        axes.text(total + 0.01 * widest, place, text, va="center", fontsize=9)
    axes.set_yticks(places, [_shortened(name) for name in names])
    axes.set_xlim(0, 1.6 * widest)
    axes.set_xlabel("KL from the prior (nats per sentence)")
    _legend_below(figure, bars)
    return figure


def plot_rate_distortion(points: Sequence[RateDistortionPoint]) -> Figure:
    """
    Rate (KL) against distortion (-log p(x | z)) of one model or several (Alemi et al., "Fixing a broken ELBO", ICML
    2018).

    Lines connect places of equal -ELBO = rate + distortion: two models on one line are equally good by their ELBO. A
    hollow mark to the left of a point stands at its mutual information. The distance between the two is rate that says
    nothing about the sentence.

    Args:
        points (sequence of [`RateDistortionPoint`]): The points; the evaluated model first.

    Raises:
        ValueError: for no points.
    """
    if not points:
        raise ValueError("There is no point to draw.")
    figure = _figure(8, 5 + 0.25 * len(points))
    axes = figure.add_subplot()
    for index, point in enumerate(points):
        color, marker = COLORS[index % len(COLORS)], MARKERS[(index + index // len(COLORS)) % len(MARKERS)]
        label = f"{_shortened(point.name)}: KL {_nats(point.rate)}, -ELBO {point.rate + point.distortion:.2f}"
        if point.mutual_information is not None:
            information = max(point.mutual_information, 0.0)
            axes.plot([information, point.rate], [point.distortion] * 2, color=color, linewidth=1.2, zorder=2)
            axes.plot(
                information, point.distortion, marker, color=color, markerfacecolor="white", markersize=9, zorder=3
            )
            label += f", MI {_nats(information)}"
        axes.plot(point.rate, point.distortion, marker, color=color, markersize=9, linestyle="", label=label, zorder=4)
    if any(point.mutual_information is not None for point in points):
        hollow = {"color": GREY, "markerfacecolor": "white", "markersize": 9, "linestyle": ""}
        axes.plot([], [], "o", **hollow, label="hollow: at the mutual information (MI) instead of the KL")
    rates = [v for p in points for v in (p.rate, p.mutual_information) if v is not None]
    distortions = [point.distortion for point in points]
    width = max(max(rates) * 1.15, 1.0)
    height = max(max(distortions) - min(distortions), 0.6 * width, 2.0)
    middle = (max(distortions) + min(distortions)) / 2
    axes.set_xlim(-0.04 * width, width)
    axes.set_ylim(middle - 0.75 * height, middle + 0.75 * height)
    _draw_elbo_lines(axes)
    axes.set_xlabel("rate: KL from the prior (nats per sentence)")
    axes.set_ylabel("distortion: -log p(x | z) (nats per sentence)")
    _set_title(axes, "Rate and distortion, with lines of constant -ELBO")
    _legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def plot_remedies(entries: Sequence[Mapping[str, Any]]) -> Figure:
    """
    Remedies against posterior collapse, in three pictures, all over mutual information:

    - IW-NLL of the chosen settings, on texts held out. A mark is the mean over seeds; bars are standard deviations.
    - Marginal KL of the chosen settings, on the same texts.
    - IW-NLL of all settings that were tried, with one seed, on the texts by which the settings were chosen.

    Args:
        entries (sequence of mappings): The remedies, as in `results.json` of the collapse benchmark.

    Raises:
        ValueError: for no remedies.
    """
    if not entries:
        raise ValueError("There is no remedy to draw.")
    # Without chosen settings there are the grids only.
    count = 3 if any(entry["runs"] for entry in entries) else 1
    figure = _figure(6 * count, 5.5 + 0.08 * len(entries))
    *chosen, grids = figure.subplots(1, count, squeeze=False)[0]
    styles = _remedy_styles(entries)
    for entry, style in zip(entries, styles, strict=True):
        for axes, name in zip(chosen, ("iw_nll", "marginal_kl"), strict=False):
            _draw_chosen(axes, entry, name, style)
        _draw_grid(grids, entry, style)
    for axes in (*chosen, grids):
        axes.set_xlabel("mutual information of sentence and latent (nats)")
        # Small differences must look small.
        for get_limits, set_limits in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
            least, most = get_limits()
            missing = max(0.0, LEAST_SPAN - (most - least)) / 2
            set_limits(least - missing, most + missing)
    for axes in (*chosen[:1], grids):
        axes.set_ylabel("IW-NLL, -log p(x) (nats per sentence)")
    if chosen:
        _set_title(chosen[0], "Chosen settings, texts held out", fontsize=11)
        chosen[1].set_ylabel("marginal KL: aggregated posterior to prior (nats)")
        _set_title(chosen[1], "Chosen settings: what of the KL is no information", fontsize=11)
    title = "All settings tried, texts for tuning, one seed"
    # A setting that is far off would press all others together.
    least, most = grids.get_ylim()
    if most - least > MOST_SPAN:
        grids.set_ylim(least, least + MOST_SPAN)
        title += f"\n(some lie above {least + MOST_SPAN:.0f})"
    _set_title(grids, title, fontsize=11)
    figure.suptitle("The better, the lower and the more to the right\nfilled: this library's heads", fontsize=11)
    figure.legend(handles=grids.lines, loc="outside lower center", frameon=False, fontsize=9, ncols=2 * count + 1)
    return figure


def plot_rates(models: Sequence[Mapping[str, Any]], shares: Sequence[float]) -> Figure:
    """
    What a rate buys, in three pictures over the rate: how much of a text comes back, how likely the model's own texts
    are, and how different from each other.

    Args:
        models (sequence of mappings): The models, as in `rates.json` of the rates benchmark. Models without a rate are
            left out. Figures that were not measured are not drawn.
        shares (sequence of `float`): For each model, the share of a text's nats that its latent saves.

    Raises:
        ValueError: for no model with a rate.
    """
    shown = [(model, share) for model, share in zip(models, shares, strict=True) if model["rate"] is not None]
    if not shown:
        raise ValueError("There is no model with a rate to draw.")
    models = [model for model, _ in shown]
    rates = [model["rate"] for model in models]
    samples = [model["samples"] for model in models]
    figures = [model["figures"] for model in models]
    found = [sample.get("reconstructions") or {} for sample in samples]
    paths = [sample.get("paths") or {} for sample in samples]
    kinds = [sample["kinds"] for sample in samples]
    drawn = [kind.get("fitted prior, greedy", kind["standard prior, greedy"]) for kind in kinds]
    real = kinds[0]["held-out texts"]

    figure = _figure(14, 4.6)
    kept, fluent, diverse = figure.subplots(1, 3)
    curves = {
        "nats that the latent saves": [100 * share for _, share in shown],
        "similarity": _scaled(found, "similarity", 100),
        "BLEU": _scaled(figures, "reconstruction_bleu"),
        "exact": _scaled(figures, "reconstruction_exact"),
    }
    _draw_over_rates(kept, rates, curves, "% of the text, or of the texts")
    _draw_line(kept, _mean_of(_scaled(found, "random_similarity", 100)), "similarity to another text")
    kept.set_ylim(0, 100)
    _set_title(kept, "How much of a text comes back", fontsize=11)
    curves = {"samples": _scaled(drawn, "perplexity"), "between two texts": _scaled(paths, "inner_perplexity")}
    _draw_over_rates(fluent, rates, curves, "perplexity of an independent language model")
    _draw_line(fluent, real["perplexity"], "real texts")
    fluent.set_ylim(bottom=0)
    _set_title(fluent, "How likely its own texts are", fontsize=11)
    _draw_over_rates(diverse, rates, {"samples": _scaled(drawn, "self_bleu")}, "self-BLEU (lower: more different)")
    _draw_line(diverse, real["self_bleu"], "real texts")
    diverse.set_ylim(0, 100)
    _set_title(diverse, "How alike its samples are", fontsize=11)
    return figure


def _draw_over_rates(
    axes: Axes, rates: Sequence[float], curves: Mapping[str, Sequence[float | None]], unit: str
) -> None:
    for (label, values), color, marker in zip(curves.items(), COLORS, MARKERS, strict=False):
        if None not in values:
            axes.plot(rates, values, color=color, marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_xlabel("rate (nats per sentence)")
    axes.set_ylabel(unit)
    axes.legend(frameon=False, fontsize=9)


def _draw_line(axes: Axes, value: float | None, label: str) -> None:
    """A dashed line across, and its place in the legend."""
    if value is not None:
        axes.axhline(value, color=GREY, linestyle="--", linewidth=1, label=label)
        axes.legend(frameon=False, fontsize=9)


def _scaled(found: Sequence[Mapping[str, Any]], name: str, factor: float = 1) -> list[float | None]:
    """The figure `name` of each model, times a factor; `None` where it was not measured."""
    return [None if one.get(name) is None else factor * one[name] for one in found]


def _mean_of(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(values) / len(values)


def _remedy_styles(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Colour and marker of each remedy. The markers of this library's heads are filled."""
    styles, counts = [], {True: 0, False: 0}
    for entry in entries:
        is_ours = bool(entry["is_ours"])
        index = counts[is_ours]
        counts[is_ours] += 1
        color = REMEDY_COLORS[index % len(REMEDY_COLORS)]
        styles.append(
            {
                "color": color,
                "marker": MARKERS[(index + index // len(MARKERS)) % len(MARKERS)],
                "markerfacecolor": color if is_ours else "white",
                "label": entry["name"],
            }
        )
    return styles


def _draw_chosen(axes: Axes, entry: Mapping[str, Any], name: str, style: Mapping[str, Any]) -> None:
    """Draw the figure `name` over mutual information at the chosen setting of a remedy, if it was evaluated."""
    if not entry["runs"]:
        return
    values = np.array([[run["figures"][n] for n in ("mutual_information", name)] for run in entry["runs"]])
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(2)
    axes.errorbar(
        *values.mean(0), yerr=spread[1], xerr=spread[0], linestyle="", capsize=2, markersize=9, zorder=3, **style
    )


def _draw_grid(axes: Axes, entry: Mapping[str, Any], style: Mapping[str, Any]) -> None:
    """Draw the settings of a remedy that were run, in the order of its grid."""
    points = [(p["figures"]["mutual_information"], p["figures"]["iw_nll"]) for p in entry["grid"] if p["figures"]]
    axes.plot(*zip(*points, strict=True), linewidth=0.8, markersize=6, **style)


# Of a training with an auxiliary: what its evaluation also shows.
_OWN_LOSS = "negative_elbo"


def plot_training_curves(log_history: Sequence[Mapping[str, float]]) -> Figure:
    """
    What a training logged, over its steps: objective, reconstruction, KL with its floor, E[mu^2 + sigma^2], and beta
    if it varies. Figures that were not logged are not drawn.

    Args:
        log_history (sequence of mappings): The log in `trainer_state.json`: each entry has a `step` and the figures of
            the training or of an evaluation at that step.

    Raises:
        ValueError: if none of these figures was logged.
    """
    betas = [entry["beta"] for entry in log_history if "beta" in entry]
    constant = len(set(betas)) == 1
    kl_title = f"KL from the prior (beta = {betas[0]:g} throughout)" if constant else "KL from the prior"
    nats = "nats per sentence"
    losses = [("loss", "training objective", BLUE, "-"), ("eval_loss", "evaluation, -ELBO", ORANGE, "o--")]
    if any("auxiliary_nll" in entry for entry in log_history):
        # The objective then holds the auxiliary's loss, which an evaluation does not have.
        log_history = [
            {**entry, _OWN_LOSS: entry["reconstruction_nll"] + entry["kl"]} if "kl" in entry else entry
            for entry in log_history
        ]
        objective = ("loss", "training objective, with the auxiliary", GREY, "--")
        losses = [(_OWN_LOSS, "training, -ELBO", BLUE, "-"), losses[1], objective]
    # Title, unit, and the curves: name in the log, label, colour and stroke.
    panels = [
        ("Loss", nats, losses),
        (
            "Reconstruction, -log p(x | z)",
            nats,
            [("reconstruction_nll", "training", BLUE, "-"), ("eval_reconstruction_nll", "evaluation", ORANGE, "o--")],
        ),
        (
            kl_title,
            nats,
            [
                ("kl", "training", BLUE, "-"),
                ("eval_kl", "evaluation", ORANGE, "o--"),
                ("kl_floor", "floor of a training batch", VERMILION, ":"),
            ],
        ),
        (
            "Second moment of the aggregated posterior",
            "E[mu² + sigma²], 1 for the prior",
            [
                ("aggregate_second_moment", "training", BLUE, "-"),
                ("eval_aggregate_second_moment", "evaluation", ORANGE, "o--"),
            ],
        ),
        ("Weight of the KL", "beta", [] if constant else [("beta", "beta", PURPLE, "-")]),
    ]
    drawn = []
    for title, unit, curves in panels:
        series = [(_series(log_history, name), label, color, stroke) for name, label, color, stroke in curves]
        series = [entry for entry in series if len(entry[0][0])]
        if series:
            drawn.append((title, unit, series))
    if not drawn:
        raise ValueError("The log has no loss, reconstruction, KL, moment or beta to draw.")
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = _figure(5.5 * columns, 3.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (title, unit, series) in zip(grid, drawn, strict=False):
        for (steps, values), label, color, stroke in series:
            axes.plot(steps, values, stroke, color=color, label=label, markersize=5, linewidth=1.6)
            if len(steps) == 1:
                axes.plot(steps, values, "o", color=color, markersize=5)
        least, greatest = (f(f(values) for (_, values), *_ in series) for f in (min, max))
        # Small changes must look small.
        lacking = max(0.05 * max(abs(least), abs(greatest)), 1e-3) - (greatest - least)
        if lacking > 0:
            axes.set_ylim(least - lacking / 2, greatest + lacking / 2)
        if title == kl_title and math.isfinite(greatest):
            # From 0 on, since near its floor a KL would seem to cross it by rounding.
            axes.set_ylim(0, 1.1 * max(greatest, 0.05))
        _set_title(axes, title, fontsize=11)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    for axes in list(figure.axes)[len(drawn) :]:
        axes.set_axis_off()
    points = max(len(steps) for *_, series in drawn for (steps, _), *_ in series)
    few = "" if points >= FEW_POINTS else f", logged {points} time{'' if points == 1 else 's'} only"
    figure.suptitle(f"Training{few}")
    return figure


def _draw_plane(axes: Axes, latents: np.ndarray) -> None:
    count, size = latents.shape
    centred = latents - latents.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    if len(directions) < 2:  # two sentences that differ in one direction only
        directions = np.vstack([directions, np.eye(size)[:1]])
    points = latents @ directions.T
    shares = (centred @ directions.T).var(0) / max(centred.var(0).sum(), np.finfo(float).tiny)
    shown = points if count <= MAX_DOTS else points[np.random.default_rng(0).permutation(count)[:MAX_DOTS]]
    deviations = points.std(0)
    # The largest eigenvalue of the sample covariance of independent entries.
    expected = 1 + math.sqrt(size / count)
    label = f"sentences, one draw each (std {deviations[0]:.2f}, {deviations[1]:.2f})"
    axes.plot(*shown.T, ".", color=BLUE, markersize=3, alpha=0.35, markeredgewidth=0)
    axes.plot([], [], ".", color=BLUE, markersize=8, label=label)
    angles = np.linspace(0, 2 * math.pi, 200)
    for share, stroke in zip(PRIOR_SHARES, ("-", "--", ":"), strict=True):
        radius = math.sqrt(-2 * math.log(1 - share))
        axes.plot(
            radius * np.cos(angles),
            radius * np.sin(angles),
            stroke,
            color=VERMILION,
            linewidth=1.6,
            label=f"{share:.0%} of the prior (as many draws of it: std {expected:.2f})"
            if share == PRIOR_SHARES[0]
            else f"{share:.0%} of the prior",
        )
    reach = 1.08 * max(radius, np.abs(shown).max())
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xlabel(f"first principal direction ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second principal direction ({shares[1]:.0%})")
    _set_title(axes, "The widest plane", fontsize=11)


def _draw_histogram(axes: Axes, values: np.ndarray) -> None:
    axes.hist(
        values,
        bins=max(5, round(2 * len(values) ** (1 / 3))),
        density=True,
        color=BLUE,
        label="sentences, one draw each",
    )
    grid = np.linspace(min(-4, values.min()), max(4, values.max()), 300)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    axes.plot(grid, density, color=VERMILION, linewidth=2, label="prior N(0, 1)")
    axes.set_xlabel("latent")
    axes.set_ylabel("density")
    _set_title(axes, "The only dimension", fontsize=11)


def _draw_quantiles(axes: Axes, latents: np.ndarray, order: np.ndarray, is_sorted: bool) -> None:
    size = latents.shape[1]
    low, lower, median, upper, high = np.quantile(latents[:, order], QUANTILES, axis=0)
    places = np.arange(1, size + 1)
    # In points: the axes are about 400 points wide.
    width = min(12.0, max(1.0, 0.5 * 400 / size))
    axes.vlines(places, low, high, color=BLUE, linewidth=max(0.6, 0.25 * width), label="5 to 95 %")
    axes.vlines(places, lower, upper, color=BLUE, linewidth=width, label="25 to 75 %", alpha=0.75)
    axes.plot(places, median, "_", color="black", markersize=max(2.0, 1.4 * width), label="median")
    for index, (quantile, stroke) in enumerate(zip(QUANTILES, (":", "--", "-", "--", ":"), strict=True)):
        label = "5, 25, 50, 75, 95 % of N(0, 1)" if index == 1 else None
        value = NormalDist().inv_cdf(quantile)
        axes.axhline(value, linestyle=stroke, color=VERMILION, linewidth=1.2, label=label, zorder=0)
    reach = 1.15 * max(2.0, np.abs(low).max(), np.abs(high).max())
    axes.set_ylim(-reach, reach)
    _number_dimensions(axes, order, "the greatest KL first" if is_sorted else "in their order")
    axes.set_ylabel("latent")
    _set_title(axes, "Quantiles of each dimension", fontsize=11)


def _draw_elbo_lines(axes: Axes) -> None:
    """Draw lines rate + distortion = c through the whole picture, each with its c at its end."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for value in MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(left + bottom, right + top):
        axes.plot([left, right], [value - left, value - right], color=GREY, linewidth=0.8, alpha=0.5, zorder=1)
        style = {"color": GREY, "fontsize": 8, "textcoords": "offset points", "annotation_clip": False}
        if bottom < value - right < top:
            axes.annotate(f"{value:g}", (right, value - right), (4, -3), **style)
        elif left < value - bottom < right - 0.05 * (right - left):
            axes.annotate(f"{value:g}", (value - bottom, bottom), (2, 3), **style)
    axes.annotate("-ELBO", (1.0, 1.02), xycoords="axes fraction", color=GREY, fontsize=8, ha="left")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _number_dimensions(axes: Axes, order: np.ndarray, what: str) -> None:
    """Write the numbers of the dimensions, from 0, below their places in `order`. If there are too many to read, the
    axis shows the places only."""
    count = len(order)
    axes.set_xlim(0.4 - 0.04 * count, count + 0.6 + 0.04 * count)
    if count <= MAX_NAMED_DIMENSIONS:
        axes.set_xticks(np.arange(1, count + 1), [str(index) for index in order], fontsize=9 if count <= 16 else 7)
        axes.set_xlabel(f"latent dimension ({what})")
    else:
        axes.set_xlabel(f"place of the latent dimension ({what})")


def _series(log_history: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    found = [(entry["step"], entry[name]) for entry in log_history if name in entry and "step" in entry]
    return np.array([step for step, _ in found]), np.array([float(value) for _, value in found])


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _set_title(axes: Axes, title: str, fontsize: float | None = None) -> None:
    """Set the title. Its height is given, because otherwise matplotlib searches for labels above the axes in each of
    its passes, which takes time."""
    axes.set_title(title, fontsize=fontsize, y=1.0)


def _legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=9)


def _centred(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.transAxes, "ha": "center", "va": "center"}


def _nats(value: float) -> str:
    """The value with two decimals, or with two significant digits if it is small."""
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _shortened(name: str, length: int = 48) -> str:
    return name if len(name) <= length else f"...{name[3 - length :]}"


def _array(name: str, values: Any, dimensions: int) -> np.ndarray:
    array = values.detach().cpu().double().numpy() if hasattr(values, "detach") else np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{name} must be an array of {dimensions} dimensions and not empty, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite.")
    return array
