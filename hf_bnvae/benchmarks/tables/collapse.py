# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tables of the collapse benchmark, and sentences that say which remedy is better."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...reporting.evaluation_report import PROBED, label_columns
from .blocks import Block, spread, table
from .runs import likelihood_sentences

# Heading, name of the figure, digits.
_COLUMNS = (
    ("IW-NLL", "iw_nll", 2),
    ("MI", "mutual_information", 2),
    ("decoder information", "decoder_information", 2),
    ("latent gain", "latent_gain", 2),
    ("marginal KL", "marginal_kl", 2),
    ("KL", "kl", 2),
    ("reconstruction", "reconstruction_nll", 2),
    ("active", "active_units", 0),
    ("BLEU", "reconstruction_bleu", 1),
)

# Of the chosen settings, under N(0, I) and under each one's own fitted prior.
_PRIOR_COLUMNS = (
    ("-ELBO", "iw_negative_elbo", 2),
    ("IW-NLL", "iw_nll", 2),
    ("decoder information", "decoder_information", 2),
    ("KL", "kl", 2),
    ("marginal KL", "marginal_kl", 2),
)
_SAMPLE_COLUMNS = (
    ("perplexity", "perplexity", 1),
    ("Frechet distance", "frechet_distance", 3),
    ("self-BLEU", "self_bleu", 1),
    ("distinct", "distinct", 2),
)

Column = tuple[str, str, int]

Entry = Mapping[str, Any]

# Keys: whether the likelihood, and whether the information, is better with every seed.
_VERDICTS = {
    (True, True): "better in both than",
    (True, False): "better in likelihood only than",
    (False, True): "better in information only than",
    (False, False): "better in neither than",
}

# By the likelihood of `measures_of`.
_COMPARED = {
    "iw_nll": "under N(0, I), by IW-NLL and mutual information",
    "fitted_iw_nll": "under the fitted priors, by IW-NLL and decoder information",
}


def block_of(results: Mapping[str, Any]) -> Block:
    """The block of a page that shows a benchmark's setting."""
    return Block(f"collapse {results['setting_name']}")


def setting_of(entry: Entry) -> str:
    """The chosen setting of a remedy: the options in which the settings of its grid differ."""
    if entry["chosen"] is None:
        return "none yet"
    options = entry["grid"][entry["chosen"]]["options"]
    varied = {n: v for n, v in options.items() if any(point["options"].get(n) != v for point in entry["grid"])}
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in varied.items()
    )


def render_summary(results: Mapping[str, Any]) -> str:
    """
    The chosen settings of a benchmark's remedies and what they show, in Markdown.

    Args:
        results (mapping): The content of the benchmark's `results.json`.
    """
    entries = results["remedies"]
    first = next((run["figures"] for entry in entries for run in entry["runs"]), None)
    if first is None:
        return "No chosen point has been evaluated yet."
    shared = (
        "Nats per sentence; mean ± standard deviation over seeds. "
        f"{first['num_sentences']} held-out sentences (log N = {first['log_num_sentences']:.2f}), IW-NLL of "
        f"{likelihood_sentences(first)}; BLEU (0 to 100) of greedy "
        f"reconstructions from the means. Setting `{results['setting_name']}`; torch {results['torch_version']}, "
        f"transformers {results['transformers_version']}; {results['hardware']}."
    )
    parts = [render_remedies(entries), shared, render_priors(entries), render_verdicts(entries)]
    for level in results["informed"]:
        if any(entry["runs"] for entry in level["remedies"]):
            least = f"{level['min_information']:g} nats of information"
            parts += [
                f"Chosen among settings with at least {least}. Remedies without such a setting are left out:",
                render_remedies(level["remedies"]),
                render_priors(level["remedies"]),
                render_verdicts(level["remedies"]),
            ]
    parts.append(render_frontier(entries))
    return "\n\n".join(part for part in parts if part)


def render_benchmark(results: Mapping[str, Any]) -> str:
    """All tables of a benchmark, in Markdown. `results` is as in [`render_summary`]."""
    entries = results["remedies"]
    varied = [choice for choice in results["choices"] if sum(bool(point["runs"]) for point in choice["points"]) > 1]
    if varied and all(entry["chosen"] is None for entry in entries):
        return render_only_choices(results, varied)
    parts = [render_summary(results)]
    if any(entry["dropout_runs"] for entry in entries):
        parts += [
            f"With dropout of {results['encoder_dropout']} in the encoder:",
            render_remedies(entries, "dropout_runs"),
        ]
    if varied:
        parts += [
            "Options that all remedies share, varied one at a time, on the texts for tuning. The first value of each "
            "option is the one in all other runs:",
            render_choices(varied),
        ]
    if any("probe" in run for entry in entries for run in entry["runs"]):
        parts += ["What a linear classifier reads off the latents (accuracy in percent):", render_probes(entries)]
    parts.append(render_samples(entries))
    parts += [
        "All settings, with the first seed, on the texts for tuning. The chosen setting has the lowest IW-NLL among "
        f"those with at least {results['min_information']:g} nats of mutual information, or among all if none has.",
        render_grids(entries),
    ]
    return "\n\n".join(part for part in parts if part)


def render_only_choices(results: Mapping[str, Any], varied: Sequence[Entry]) -> str:
    """The table of a benchmark that has varied shared options and has chosen nothing, in Markdown. Its figures are
    under N(0, I) and, after the slash, under each model's fitted prior."""
    runs = [run for choice in varied for point in choice["points"] for run in point["runs"]]
    first = runs[0]["figures"]
    explanation = (
        f"Nats per sentence, on {first['num_sentences']} texts for tuning; IW-NLL of {likelihood_sentences(first)}. "
        "Under N(0, I), and after the slash under the prior that was fitted to each model. Setting "
        f"`{results['setting_name']}`; torch {results['torch_version']}, transformers "
        f"{results['transformers_version']}; {results['hardware']}."
    )
    columns = (
        *_PRIOR_COLUMNS,
        *(column for column in _COLUMNS if column[1] in ("reconstruction_nll", "active_units")),
    )
    rows = []
    for choice in varied:
        for point in (point for point in choice["points"] if point["runs"]):
            cells = _cells_under_both(point["runs"], columns)
            number = str(len(point["runs"]))
            rows.append((choice["base"], choice["option"], str(point["value"]), number, *cells))
    return f"{explanation}\n\n{table(('in', 'option', 'value', 'seeds', *_headings(columns)), rows)}"


def render_probes(entries: Sequence[Entry]) -> str:
    """A table in Markdown of the probe's accuracies in percent, mean ± standard deviation over seeds. The probe reads
    the posteriors' means, draws from the posteriors, and the encoder's features, with several numbers of labels."""
    probed = {entry["name"]: [run["probe"]["results"] for run in entry["runs"] if "probe" in run] for entry in entries}
    rows = []
    for name, results in probed.items():
        for kind in results[0] if results else ():
            found = [result[kind]["rows"] for result in results]
            rows.append(
                (
                    name,
                    PROBED[kind],
                    *(_percent([row["accuracy"] for row in point]) for point in zip(*found, strict=True)),
                )
            )
    first = next(results[0] for results in probed.values() if results)
    accuracies = table(("remedy", "on", *label_columns(first["means"]["rows"])), rows)
    return f"{accuracies}\n\nAlways naming the most frequent class: {_percent([first['means']['majority_accuracy']])}."


def render_remedies(entries: Sequence[Entry], key: str = "runs") -> str:
    """
    A table in Markdown with a row for each remedy at its chosen setting: mean ± standard deviation over seeds.

    Args:
        entries (sequence of mappings): The remedies, as in the benchmark's `results.json`.
        key (`str`, *optional*, defaults to `"runs"`): Which runs to show: `"runs"`, or `"dropout_runs"` for those with
            dropout in the encoder.
    """
    shown = [entry for entry in entries if entry.get(key)]
    columns = _columns([run for entry in shown for run in entry[key]])
    rows = [(entry["name"], setting_of(entry), str(len(entry[key])), *_cells(entry[key], columns)) for entry in shown]
    return table(("remedy", "chosen setting", "seeds", *_headings(columns)), rows)


def render_priors(entries: Sequence[Entry]) -> str:
    """A table in Markdown of the chosen settings under N(0, I) and, after the slash, under the prior that was fitted
    to each one: mean ± standard deviation over seeds. Empty if no model has a fitted prior."""
    shown = [entry for entry in entries if _has_fitted_prior(entry)]
    if not shown:
        return ""
    rows = [(entry["name"], *_cells_under_both(entry["runs"], _PRIOR_COLUMNS)) for entry in shown]
    explanation = (
        "Under N(0, I), and after the slash under the prior that was fitted to each model. -ELBO, IW-NLL and decoder "
        "information are of the same sentences:"
    )
    return f"{explanation}\n\n{table(('remedy', *_headings(_PRIOR_COLUMNS)), rows)}"


def _has_fitted_prior(entry: Entry) -> bool:
    return bool(entry["runs"]) and all(run["figures"].get("fitted_iw_nll") is not None for run in entry["runs"])


def render_samples(entries: Sequence[Entry]) -> str:
    """A table in Markdown of how good the samples of the chosen settings are: a row for each remedy, prior and way of
    decoding, mean ± standard deviation over seeds. The first row has held-out texts. Empty if no samples were
    judged."""
    judged = [entry for entry in entries if entry["runs"] and all("samples" in run for run in entry["runs"])]
    if not judged:
        return ""
    judges = judged[0]["runs"][0]["samples"]["judges"]
    shown = [entry for entry in judged if all(run["samples"]["judges"] == judges for run in entry["runs"])]
    rows = []
    for entry in shown:
        kinds_of_runs = [run["samples"]["kinds"] for run in entry["runs"]]
        for kind, quality in kinds_of_runs[0].items():
            is_real = "prior" not in kind
            if is_real and rows:
                continue  # the same texts for all remedies
            cells = _cells([{"figures": kinds[kind]} for kinds in kinds_of_runs], _SAMPLE_COLUMNS)
            number = quality["num_texts"]
            rows.append(("" if is_real else entry["name"], kind, *cells))
    explanation = (
        f"Samples of the chosen settings, {number} of each kind. The language model `{judges['language_model']}` "
        f"gives the perplexity, and the encoder `{judges['encoder']}` the Frechet distance. No remedy has seen "
        "either. The first row has held-out texts: the nearer to it, the better."
    )
    return f"{explanation}\n\n{table(('remedy', 'texts', *_headings(_SAMPLE_COLUMNS)), rows)}"


def render_choices(choices: Sequence[Entry]) -> str:
    """A table in Markdown of the options that all remedies share, varied one at a time: mean ± standard deviation over
    seeds."""
    shown = [(choice, point) for choice in choices for point in choice["points"] if point["runs"]]
    columns = _columns([run for _, point in shown for run in point["runs"]])
    rows = []
    for choice, point in shown:
        value = "none" if point["value"] is None else f"{point['value']}"
        cells = _cells(point["runs"], columns)
        rows.append((choice["base"], choice["option"], value, str(len(point["runs"])), *cells))
    return table(("in", "option", "value", "seeds", *_headings(columns)), rows)


def render_grids(entries: Sequence[Entry]) -> str:
    """A table in Markdown of every point of every grid, on the texts for tuning."""
    columns = _columns([point for entry in entries for _, point in _points(entry)])
    rows = []
    for entry in entries:
        for index, point in enumerate(entry["grid"]):
            mark = "chosen" if index == entry["chosen"] else ""
            name = setting_of({**entry, "chosen": index})
            figures = point["figures"]
            cells = ("failed" if point["has_failed"] else "not yet",) + ("",) * (len(columns) - 1)
            if figures is not None:
                cells = tuple(_cells([point], columns))
            rows.append((entry["name"], name, *cells, mark))
    return table(("remedy", "setting", *_headings(columns), ""), rows)


def render_verdicts(entries: Sequence[Entry]) -> str:
    """A table in Markdown: for each head of batch normalisation, which other remedies it beats in likelihood, in
    information, in both or in neither. To beat means with every seed."""
    finished = [entry for entry in entries if entry.get("runs")]
    others = [entry for entry in finished if not entry["is_ours"]]
    ours = [entry for entry in finished if entry["is_ours"]]
    if not (ours and others):
        return ""
    measures = measures_of(finished)
    rows = []
    for entry in ours:
        verdicts = [(other["name"], wins(entry, other, measures)) for other in others]
        beaten = (", ".join(name for name, found in verdicts if found == verdict) for verdict in _VERDICTS)
        rows.append((f"{entry['name']} ({setting_of(entry)})", *beaten))
    explanation = f"Compared {_COMPARED[measures[0]]}, with every seed:"
    return f"{explanation}\n\n{table(('', *_VERDICTS.values()), rows)}"


def render_frontier(entries: Sequence[Entry]) -> str:
    """How many of the other remedies' settings, chosen or not, are beaten in likelihood and in information by a
    setting of batch normalisation, and which are not."""
    figures = {
        is_ours: [
            (entry, i, p["figures"]) for entry in entries if entry["is_ours"] == is_ours for i, p in _points(entry)
        ]
        for is_ours in (True, False)
    }
    if not figures[True] or not figures[False]:
        return ""
    unbeaten: dict[str, list[str]] = {}
    for entry, index, theirs in figures[False]:
        if not any(
            mine["iw_nll"] < theirs["iw_nll"] and mine["mutual_information"] > theirs["mutual_information"]
            for _, _, mine in figures[True]
        ):
            unbeaten.setdefault(entry["name"], []).append(setting_of({**entry, "chosen": index}))
    count = len(figures[False])
    lines = [
        f"The other remedies had {count} settings, chosen or not. For {count - sum(map(len, unbeaten.values()))} of "
        "them a setting of batch normalisation is better both in likelihood and in information (first seed, texts for "
        "tuning)."
    ]
    if unbeaten:
        lines += ["For these there is none:", ""]
        lines += [f"- *{name}*: {'; '.join(settings)}" for name, settings in unbeaten.items()]
    return "\n".join(lines)


def _points(entry: Entry) -> list[tuple[int, Entry]]:
    return [(index, point) for index, point in enumerate(entry["grid"]) if point["figures"] is not None]


def measures_of(entries: Sequence[Entry]) -> tuple[str, str]:
    """The figures by which remedies are compared: a likelihood and an information. Under the fitted priors if all
    remedies have one, otherwise under N(0, I)."""
    if all(_has_fitted_prior(entry) for entry in entries if entry["runs"]):
        return "fitted_iw_nll", "fitted_decoder_information"
    return "iw_nll", "mutual_information"


def wins(entry: Entry, other: Entry, measures: tuple[str, str]) -> tuple[bool, bool]:
    """Whether a remedy has a lower IW-NLL than another, and whether it has more information: with every seed that both
    were run with. `measures` is the result of [`measures_of`]."""
    theirs = {run["seed"]: run["figures"] for run in other["runs"]}
    pairs = [(run["figures"], theirs[run["seed"]]) for run in entry["runs"] if run["seed"] in theirs]
    likelihood, information = measures
    return (
        bool(pairs) and all(mine[likelihood] < other[likelihood] for mine, other in pairs),
        bool(pairs) and all(mine[information] > other[information] for mine, other in pairs),
    )


def _columns(runs: Sequence[Entry]) -> list[Column]:
    """The columns of `_COLUMNS` whose figure at least one run has. Runs of an older version lack some figures."""
    return [column for column in _COLUMNS if any(column[1] in run["figures"] for run in runs) or not runs]


def _headings(columns: Sequence[Column]) -> list[str]:
    return [heading for heading, _, _ in columns]


def _cells(runs: Sequence[Entry], columns: Sequence[Column]) -> Iterator[str]:
    """Mean ± standard deviation over runs of each figure; `-` for a figure that a run lacks."""
    for _, figure, digits in columns:
        values = [run["figures"].get(figure) for run in runs]
        yield "-" if None in values else spread(values, digits)


def _cells_under_both(runs: Sequence[Entry], columns: Sequence[Column]) -> Iterator[str]:
    """Cells as of [`_cells`], each followed by a slash and the figure under the fitted prior, where there is one."""
    fitted = [(heading, f"fitted_{name}", digits) for heading, name, digits in columns]
    for own, other in zip(_cells(runs, columns), _cells(runs, fitted), strict=True):
        yield own if other == "-" else f"{own} / {other}"


def _percent(shares: Sequence[float]) -> str:
    return spread([100 * share for share in shares], 1)
