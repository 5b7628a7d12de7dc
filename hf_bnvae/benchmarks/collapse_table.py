# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The results of the collapse benchmark, in words and tables, rendered from what its runs left."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..reporting.evaluation_report import PROBED, label_columns
from ..reporting.markdown import markdown_table, replace_between

# Heading, figure, digits.
_COLUMNS = (
    ("IW-NLL", "iw_nll", 2),
    ("MI", "mutual_information", 2),
    ("marginal KL", "marginal_kl", 2),
    ("KL", "kl", 2),
    ("reconstruction", "reconstruction_nll", 2),
    ("active", "active_units", 0),
    ("BLEU", "reconstruction_bleu", 1),
)

Entry = Mapping[str, Any]

# By whether likelihood and information are better with every seed.
_VERDICTS = {
    (True, True): "better in likelihood and in information, with every seed, than",
    (True, False): "better in likelihood only than",
    (False, True): "better in information only than",
    (False, False): "better in neither than",
}


def mean_and_deviation(runs: Sequence[Entry], figure: str) -> tuple[float, float | None]:
    """The mean of a figure over runs of several seeds, and its standard deviation (divisor n - 1), `None` for one."""
    values = [run["figures"][figure] for run in runs]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def setting_of(entry: Entry) -> str:
    """What of a remedy's grid was chosen, as options of the training script."""
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
        results (mapping): What `results.json` of the benchmark holds.
    """
    entries = results["remedies"]
    first = next((run["figures"] for entry in entries for run in entry["runs"]), None)
    if first is None:
        return "No chosen point has been evaluated yet."
    shared = (
        "Nats per sentence; mean ± standard deviation over seeds. "
        f"{first['num_sentences']} held-out sentences (log N = {first['log_num_sentences']:.2f}), IW-NLL of the first "
        f"{first['iw_nll_num_sentences']} with {first['iw_nll_num_samples']} samples; BLEU (0 to 100) of greedy "
        f"reconstructions from the means. Setting `{results['setting_name']}`; torch {results['torch_version']}, "
        f"transformers {results['transformers_version']}; {results['hardware']}."
    )
    parts = [render_remedies(entries), shared, render_verdicts(entries)]
    for level in results["informed"]:
        if any(entry["runs"] for entry in level["remedies"]):
            least = f"{level['min_information']:g} nats of information"
            parts += [
                f"Chosen among settings with at least {least}; remedies that have none are left out:",
                render_remedies(level["remedies"]),
                render_verdicts(level["remedies"]),
            ]
    parts.append(render_frontier(entries))
    return "\n\n".join(part for part in parts if part)


def render_benchmark(results: Mapping[str, Any]) -> str:
    """All of a benchmark's tables, in Markdown; `results` as in [`render_summary`]."""
    entries = results["remedies"]
    parts = [render_summary(results)]
    if any(entry["dropout_runs"] for entry in entries):
        parts += [
            f"With dropout of {results['encoder_dropout']} in the encoder:",
            render_remedies(entries, "dropout_runs"),
        ]
    varied = [choice for choice in results["choices"] if sum(bool(point["runs"]) for point in choice["points"]) > 1]
    if varied:
        parts += [
            "What all of them share, varied one at a time, on the texts for tuning; the first value of each is what "
            "the others have:",
            render_choices(varied),
        ]
    if any("probe" in run for entry in entries for run in entry["runs"]):
        parts += ["What a linear classifier reads of them:", render_probes(entries)]
    parts += [
        "All settings, with the first seed, on the texts by which they were chosen: the lowest IW-NLL among those "
        f"with at least {results['min_information']:g} nats of mutual information, or among all where none has.",
        render_grids(entries),
    ]
    return "\n\n".join(parts)


def render_probes(entries: Sequence[Entry]) -> str:
    """A table in Markdown of the probe's accuracies, in percent: on the posteriors' means, on draws from them and on
    the encoder's features, with each number of labels; mean ± standard deviation over seeds."""
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
    table = "\n".join(markdown_table(("remedy", "on", *label_columns(first["means"]["rows"])), rows))
    return f"{table}\n\nAlways naming the most frequent class: {_percent([first['means']['majority_accuracy']])}."


def render_remedies(entries: Sequence[Entry], key: str = "runs") -> str:
    """
    A table in Markdown, a row for each remedy at its chosen setting: mean ± standard deviation over seeds.

    Args:
        entries (sequence of mappings): The remedies, as `results.json` of the benchmark has them.
        key (`str`, *optional*, defaults to `"runs"`): Which runs of theirs: `"runs"`, or `"dropout_runs"`, with
            dropout in the encoder.
    """
    rows = []
    for entry in entries:
        if entry.get(key):
            figures = (_spread(entry[key], figure, digits) for _, figure, digits in _COLUMNS)
            rows.append((entry["name"], setting_of(entry), str(len(entry[key])), *figures))
    header = ("remedy", "chosen setting", "seeds", *(heading for heading, _, _ in _COLUMNS))
    return "\n".join(markdown_table(header, rows))


def render_choices(choices: Sequence[Entry]) -> str:
    """A table in Markdown of what all remedies share, varied one option at a time: mean ± standard deviation over
    seeds."""
    rows = []
    for choice in choices:
        for point in choice["points"]:
            if point["runs"]:
                figures = (_spread(point["runs"], figure, digits) for _, figure, digits in _COLUMNS)
                value = "none" if point["value"] is None else f"{point['value']}"
                rows.append((choice["base"], choice["option"], value, str(len(point["runs"])), *figures))
    header = ("in", "option", "value", "seeds", *(heading for heading, _, _ in _COLUMNS))
    return "\n".join(markdown_table(header, rows))


def render_grids(entries: Sequence[Entry]) -> str:
    """A table in Markdown of every point of every grid, on the texts that the points were chosen by."""
    rows = []
    for entry in entries:
        for index, point in enumerate(entry["grid"]):
            mark = "chosen" if index == entry["chosen"] else ""
            name = setting_of({**entry, "chosen": index})
            figures = point["figures"]
            cells = ("failed" if point["has_failed"] else "not yet",) + ("",) * (len(_COLUMNS) - 1)
            if figures is not None:
                cells = tuple(f"{figures[figure]:.{digits}f}" for _, figure, digits in _COLUMNS)
            rows.append((entry["name"], name, *cells, mark))
    header = ("remedy", "setting", *(heading for heading, _, _ in _COLUMNS), "")
    return "\n".join(markdown_table(header, rows))


def render_verdicts(entries: Sequence[Entry]) -> str:
    """For each setting of batch normalisation, which of the other remedies it beats in likelihood and information
    both, seed by seed."""
    lines = []
    finished = [entry for entry in entries if entry.get("runs")]
    others = [entry for entry in finished if not entry["is_ours"]]
    for entry in finished:
        if not entry["is_ours"] or not others:
            continue
        parts = []
        for verdict, words in _VERDICTS.items():
            names = [other["name"] for other in others if wins(entry, other) == verdict]
            if names:
                parts.append(f"{words} {', '.join(f'*{name}*' for name in names)}")
        lines.append(f"- `{entry['name']}` ({setting_of(entry)}) is {'; '.join(parts)}.")
    return "\n".join(lines)


def render_frontier(entries: Sequence[Entry]) -> str:
    """How many settings of other remedies, chosen or not, have one of ours that is better in likelihood and in
    information."""
    figures = {
        is_ours: [
            (entry, i, p["figures"]) for entry in entries if entry["is_ours"] == is_ours for i, p in _points(entry)
        ]
        for is_ours in (True, False)
    }
    if not figures[True] or not figures[False]:
        return ""
    exceptions = [
        f"*{entry['name']}* ({setting_of({**entry, 'chosen': index})})"
        for entry, index, theirs in figures[False]
        if not any(
            mine["iw_nll"] < theirs["iw_nll"] and mine["mutual_information"] > theirs["mutual_information"]
            for _, _, mine in figures[True]
        )
    ]
    count = len(figures[False])
    return (
        f"Of the {count} settings of other remedies that were tried, chosen or not, {count - len(exceptions)} have "
        "one of batch normalisation that is better both in likelihood and in information (first seed, texts for "
        "tuning)" + (f"; not {', '.join(exceptions)}." if exceptions else ".")
    )


def _points(entry: Entry) -> list[tuple[int, Entry]]:
    return [(index, point) for index, point in enumerate(entry["grid"]) if point["figures"] is not None]


def wins(entry: Entry, other: Entry) -> tuple[bool, bool]:
    """Whether a remedy has, with every seed that both were run with, a lower IW-NLL, and more information, than
    another."""
    theirs = {run["seed"]: run["figures"] for run in other["runs"]}
    pairs = [(run["figures"], theirs[run["seed"]]) for run in entry["runs"] if run["seed"] in theirs]
    likelihood = bool(pairs) and all(mine["iw_nll"] < other["iw_nll"] for mine, other in pairs)
    information = bool(pairs) and all(
        mine["mutual_information"] > other["mutual_information"] for mine, other in pairs
    )
    return likelihood, information


def _spread(runs: Sequence[Entry], figure: str, digits: int) -> str:
    mean, deviation = mean_and_deviation(runs, figure)
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{max(digits, 1)}f}")


def _percent(shares: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.fmean(shares):.1f}{deviation}"


def update_page(page: str, results: Mapping[str, Any], is_whole: bool) -> str:
    """A page with a benchmark's tables between the markers of its setting.

    Args:
        page (`str`): Markdown that has the two markers, as `<!-- collapse small: begin -->`.
        results (mapping): As in [`render_summary`].
        is_whole (`bool`): All tables, or the summary.
    """
    begin = begin_marker(results)
    text = render_benchmark(results) if is_whole else render_summary(results)
    return replace_between(page, begin, begin.replace("begin", "end"), text)


def begin_marker(results: Mapping[str, Any]) -> str:
    """Where on a page the tables of a benchmark's setting begin."""
    return f"<!-- collapse {results['setting_name']}: begin -->"
