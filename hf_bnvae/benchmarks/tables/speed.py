# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The tables of the speed benchmark."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .blocks import ratio, table

# The aims for size `mid` on two CPU cores: the largest ratio to the floor, and to the naive way.
TARGETS: dict[tuple[str, int], tuple[float, float | None]] = {
    ("training", 32): (1.20, 0.5),
    ("training", 256): (1.10, 0.5),
    ("encoding", 10_000): (1.10, 0.7),
    ("generation", 256): (1.05, 1 / 15),
    ("iw_nll", 32): (1.10, 0.7),
    ("mutual_information", 10_000): (2.0, None),
}


def render_speed(results: Mapping[str, Any]) -> str:
    """
    The results as tables in Markdown, which can be read in a terminal too.

    Args:
        results (mapping): What [`~benchmarks.speed.run_benchmark`] returns.
    """
    machine, settings = results["machine"], results["settings"]
    peaks = ", ".join(f"{peak / 1e9:,.0f} in {dtype}" for dtype, peak in machine["matrix_product_peak"].items())
    per = "a second of CPU time" if settings["device"] == "cpu" else "a second"
    threads = f"{machine['threads']} of {machine['cores']} cores, " if settings["device"] == "cpu" else ""
    lines = [
        f"Size `{settings['size']}`, {precision_of(results)}, seed {settings['seed']}; {machine['device']}, {threads}"
        f"torch {results['versions']['torch_version']}. Matrix products: {peaks} (10^9 operations {per}).",
        "",
    ]
    compared = [_row(results, *piece) for piece in compared_pieces(results)]
    if compared:
        header = ["work", "sentences", "ours (s)", "floor (s)", "naive (s)", "ours / floor", "ours / naive"]
        header += ["chunks", "MiB", "share of peak", "floor again / floor"]
        lines += [
            table(header, compared),
            "",
            "Medians of rounds. Behind ours / floor stands the range of the rounds' ratios, in brackets the aim. "
            "Three columns list the ways in the order ours, floor, naive: chunks (how many of the longest sentences "
            "are processed at once), MiB (memory in addition to the weights) and share of peak.",
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
        lines.append(table(["training set", "seconds", "tokens a second", "MiB of the process"], rows))
    return "\n".join(lines).rstrip()


def file_name(results: Mapping[str, Any]) -> str:
    """The name of the file that keeps results. It has size, precision and machine in it, so that new results of a
    machine replace the old ones."""
    settings = results["settings"]
    precision = "bf16" if settings["bf16"] else "fp32"
    words = re.findall("[a-z0-9]+", f"{settings['size']} {precision} {results['machine']['device']}".lower())
    return f"speed_{'_'.join(words)}.json"


def render_ratios(results: Mapping[str, Any]) -> str:
    """A table in Markdown of the ratios, which can be compared between machines."""
    rows = [
        (name, f"{int(count):,}", *(ratio(figures[kind]) for kind in ("ratio_to_floor", "ratio_to_naive")))
        for name, count, figures in compared_pieces(results)
    ]
    machine, settings = results["machine"], results["settings"]
    threads = f", {machine['threads']} threads" if settings["device"] == "cpu" else ""
    shared = f"Size `{settings['size']}`, {precision_of(results)}, {machine['device']}{threads}; medians."
    return f"{table(('work', 'sentences', 'ours / floor', 'ours / naive'), rows)}\n\n{shared}"


def render_machines(tables: Iterable[Mapping[str, Any]]) -> str:
    """The tables of several machines, each with the command that made it."""
    return "\n\n".join(f"{render_speed(results)}\n\n`{results['command']}`" for results in tables)


def precision_of(results: Mapping[str, Any]) -> str:
    """The precision in which the networks computed."""
    return "bfloat16" if results["settings"]["bf16"] else "float32"


def has_aims(results: Mapping[str, Any]) -> bool:
    """Whether `TARGETS` are aims for these results: they are for size `mid` in float32 on a processor."""
    settings = results["settings"]
    return settings["size"] == "mid" and settings["device"] == "cpu" and not settings["bf16"]


def aims_of(results: Mapping[str, Any], name: str, count: str) -> tuple[float | None, float | None]:
    """The largest ratio to the floor, and to the naive way, that is aimed at for a piece of work."""
    return TARGETS.get((name, int(count)), (None, None)) if has_aims(results) else (None, None)


def compared_pieces(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, number of sentences and figures of each piece of work that is compared with a floor."""
    works = {name: pieces for name, pieces in results.items() if name in {work for work, _ in TARGETS}}
    for name, pieces in works.items():
        for count, figures in pieces.items():
            yield name, count, figures


def _row(results: Mapping[str, Any], name: str, count: str, figures: Mapping[str, Any]) -> list[str]:
    clock, rounds = figures["clock"], figures["rounds"]
    ratios = [a[clock] / b[clock] for a, b in zip(rounds["ours"], rounds["floor"], strict=True)]
    cells = []
    for kind, aim in zip(("ratio_to_floor", "ratio_to_naive"), aims_of(results, name, count), strict=True):
        cells.append(ratio(figures[kind]) + (f" (at most {aim:.3g})" if aim else ""))
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
