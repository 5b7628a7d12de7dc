# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The pages that show results: which block of which page is rendered from which record."""

from collections.abc import Mapping
from pathlib import Path

from .records import read_benchmarks, read_runs, read_speed
from .tables.blocks import Block
from .tables.collapse import block_of, render_benchmark, render_summary
from .tables.runs import render_run_examples, render_runs
from .tables.speed import render_machines, render_ratios
from .tables.verdict import render_verdict

RUNS, EXAMPLES, SPEED, VERDICT = Block("runs"), Block("examples"), Block("speed"), Block("results")

Blocks = Mapping[Block, str]


def blocks_of_pages(cards: Path) -> dict[Path, Blocks]:
    """
    What stands between the markers of each page, rendered from the records.

    Args:
        cards (`Path`): The folder of the records. The README lies in the folder above it.
    """
    runs, benchmarks, machines = read_runs(cards), read_benchmarks(cards), read_speed(cards)
    small = benchmarks["small"]
    return {
        cards.parent / "README.md": {VERDICT: render_verdict(runs, small, machines)},
        cards / "README.md": {
            RUNS: render_runs(runs),
            EXAMPLES: render_run_examples(runs[0]),
            block_of(small): render_summary(small),
            SPEED: "\n\n".join(render_ratios(results) for results in machines),
        },
        cards / "collapse_benchmark.md": {block_of(found): render_benchmark(found) for found in benchmarks.values()},
        cards / "speed.md": {SPEED: render_machines(machines)},
    }


def update_page(page: str, blocks: Blocks) -> str:
    """
    A page with new text in its blocks.

    Raises:
        ValueError: for a page that lacks a block.
    """
    for block, text in blocks.items():
        page = block.update(page, text)
    return page


def render_pages(cards: Path) -> None:
    """Render all pages anew. The text around the blocks stays."""
    updated = {
        path: update_page(path.read_text(encoding="utf-8"), blocks) for path, blocks in blocks_of_pages(cards).items()
    }
    # Only after all of them could be rendered.
    for path, page in updated.items():
        path.write_text(page, encoding="utf-8")
