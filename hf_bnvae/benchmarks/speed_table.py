# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The results of the speed benchmark as tables, and the page that keeps one of each machine."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..reporting.markdown import markdown_table, replace_between

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"

# Of size `mid` on two CPU cores: at most so much of the floor, and of the naive way.
TARGETS: dict[tuple[str, int], tuple[float, float | None]] = {
    ("training", 32): (1.20, 0.5),
    ("training", 256): (1.10, 0.5),
    ("encoding", 10_000): (1.10, 0.7),
    ("generation", 256): (1.05, 1 / 15),
    ("iw_nll", 32): (1.10, 0.7),
    ("mutual_information", 10_000): (2.0, None),
}


def render_speed(results: Mapping[str, Any]) -> str:
    """The results as tables in Markdown, readable as they are in a terminal."""
    machine, settings = results["machine"], results["settings"]
    peaks = ", ".join(f"{peak / 1e9:,.0f} in {dtype}" for dtype, peak in machine["matrix_product_peak"].items())
    per = "a second of CPU time" if settings["device"] == "cpu" else "a second"
    threads = f"{machine['threads']} of {machine['cores']} cores, " if settings["device"] == "cpu" else ""
    precision = "bfloat16" if settings["bf16"] else "float32"
    lines = [
        f"Size `{settings['size']}`, {precision}, seed {settings['seed']}; {machine['device']}, {threads}"
        f"torch {results['versions']['torch_version']}. Matrix products: {peaks} (10^9 operations {per}).",
        "",
    ]
    # The aims are for float32 on a processor.
    has_aims = settings["size"] == "mid" and settings["device"] == "cpu" and not settings["bf16"]
    compared = [_row(has_aims, *piece) for piece in _compared(results)]
    if compared:
        header = ["work", "sentences", "ours (s)", "floor (s)", "naive (s)", "ours / floor", "ours / naive"]
        header += ["chunks", "MiB", "share of peak", "floor again / floor"]
        lines += markdown_table(header, compared)
        lines += [
            "",
            "Medians; the range is that of the rounds' own ratios, in brackets stands what is aimed at. Chunks (of "
            "the longest sentences), MiB beside the weights and share of the peak are those of ours, floor, naive.",
            "",
        ]
    if "growth" in results:
        rows = [
            [
                count,
                f"{figures['ours']:.3g}",
                f"{figures['tokens_per_second']:,.0f}",
                _mebibytes(figures["peak_memory_bytes"].values()),
            ]
            for count, figures in results["growth"].items()
        ]
        lines += markdown_table(["training set", "seconds", "tokens a second", "MiB of the process"], rows)
    return "\n".join(lines).rstrip()


def file_name(results: Mapping[str, Any]) -> str:
    """What a file of results is called that is kept: by size, precision and machine, so that a machine's new ones
    replace its old ones."""
    settings = results["settings"]
    precision = "bf16" if settings["bf16"] else "fp32"
    words = re.findall("[a-z0-9]+", f"{settings['size']} {precision} {results['machine']['device']}".lower())
    return f"speed_{'_'.join(words)}.json"


def render_ratios(results: Mapping[str, Any]) -> str:
    """What of the results can be compared between machines: the ratios, as a table in Markdown."""
    rows = [
        (name, f"{int(count):,}", *(_ratio(figures[kind]) for kind in ("ratio_to_floor", "ratio_to_naive")))
        for name, count, figures in _compared(results)
    ]
    machine = results["machine"]
    header = ("work", "sentences", "ours / floor", "ours / naive")
    shared = f"Size `{results['settings']['size']}`, {machine['device']}, {machine['threads']} threads; medians."
    return "\n".join([*markdown_table(header, rows), "", shared])


def update_speed_page(page: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """A page with the tables of all machines between the markers, each with the command that made it.

    Args:
        page (`str`): Markdown that has the two markers.
        tables (sequence of mappings): What the files hold that `scripts/benchmark_speed.py` wrote.
    """
    parts = [f"{render_speed(results)}\n\n`{results['command']}`" for results in tables]
    return replace_between(page, BEGIN, END, "\n\n".join(parts))


def update_speed_readme(readme: str, results: Mapping[str, Any]) -> str:
    """A README with the ratios of one machine between the markers."""
    return replace_between(readme, BEGIN, END, render_ratios(results))


def _compared(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, number of sentences and figures of each piece of work that stands beside a floor."""
    works = {name: pieces for name, pieces in results.items() if name in {work for work, _ in TARGETS}}
    for name, pieces in works.items():
        for count, figures in pieces.items():
            yield name, count, figures


def _row(has_aims: bool, name: str, count: str, figures: Mapping[str, Any]) -> list[str]:
    aims = TARGETS.get((name, int(count)), (None, None)) if has_aims else (None, None)
    clock, rounds = figures["clock"], figures["rounds"]
    ratios = [a[clock] / b[clock] for a, b in zip(rounds["ours"], rounds["floor"], strict=True)]
    cells = []
    for ratio, aim in zip((figures["ratio_to_floor"], figures["ratio_to_naive"]), aims, strict=True):
        cells.append(_ratio(ratio) + (f" (at most {aim:.3g})" if aim else ""))
    cells[0] = f"{cells[0]}, {min(ratios):.2f} to {max(ratios):.2f}"
    return [
        name,
        f"{int(count):,}",
        *("-" if figures[way] is None else f"{figures[way]:.4g}" for way in ("ours", "floor", "naive")),
        *cells,
        ", ".join(str(figures["chunk_size"].get(way, "-")) for way in ("ours", "floor")),
        _mebibytes(figures["peak_memory_bytes"].values()),
        ", ".join(f"{share:.0%}" for share in figures["share_of_peak"].values()),
        "-" if figures["floor_again_to_floor"] is None else f"{figures['floor_again_to_floor']:.3f}",
    ]


def _mebibytes(sizes: Iterable[int | None]) -> str:
    return ", ".join("-" if size is None else f"{size / 2**20:,.0f}" for size in sizes)


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"
