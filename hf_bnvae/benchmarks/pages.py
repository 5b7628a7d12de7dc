# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The pages that show results: which block of which page, and which picture, is rendered from which record."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..evaluation import plots
from .records import (
    read_answers,
    read_benchmarks,
    read_edits,
    read_embeddings,
    read_rates,
    read_recipes,
    read_runs,
    read_speed,
)
from .tables.answers import ANSWERS, render_answers
from .tables.blocks import Block
from .tables.collapse import block_of, render_benchmark, render_summary
from .tables.edits import EDITS, render_edits
from .tables.embeddings import EMBEDDINGS, render_embeddings
from .tables.rates import RATES, render_rates
from .tables.recipes import DEMONSTRATION, RECIPE, render_demonstration, render_recipe
from .tables.runs import Run, options_of, render_quickstart, render_run_examples, render_runs
from .tables.speed import render_machines, render_ratios
from .tables.verdict import render_verdict

RUNS, EXAMPLES, SPEED = Block("runs"), Block("examples"), Block("speed")
QUICKSTART, VERDICT = Block("quickstart"), Block("results")

# The recipe whose texts the README shows.
SHOWN_RECIPE = "recipe_decode_embeddings"

Blocks = Mapping[Block, str]

# The README's picture, and the runs of the default job in it: their options, and what they are called there.
KL_SPLIT_PICTURE = "kl_split.png"
_SHOWN_RUNS = {
    "--posterior gaussian": "ordinary VAE (gaussian)",
    "--rate 8.0": "rate 8",
    "": "rate 32, the default",
}


def blocks_of_pages(cards: Path) -> dict[Path, Blocks]:
    """
    What stands between the markers of each page, rendered from the records.

    Args:
        cards (`Path`): The folder of the records. The README lies in the folder above it.
    """
    runs, benchmarks, machines = read_runs(cards), read_benchmarks(cards), read_speed(cards)
    recipes, small = read_recipes(cards), benchmarks["small"]
    return {
        cards.parent / "README.md": {
            DEMONSTRATION: render_demonstration(recipes[SHOWN_RECIPE]),
            QUICKSTART: render_quickstart(runs[0]),
        },
        cards / "README.md": {
            VERDICT: render_verdict(runs, small, machines),
            RUNS: render_runs(runs),
            EXAMPLES: render_run_examples(runs[0]),
            block_of(small): render_summary(small),
            SPEED: "\n\n".join(render_ratios(results) for results in machines),
        },
        cards / "collapse_benchmark.md": {block_of(found): render_benchmark(found) for found in benchmarks.values()},
        cards / "speed.md": {SPEED: render_machines(machines)},
        cards / "which_rate.md": {RATES: render_rates(read_rates(cards))},
        cards / "answers.md": {ANSWERS: render_answers(read_answers(cards))},
        cards / "edits.md": {EDITS: render_edits(read_edits(cards))},
        cards / "embeddings.md": {EMBEDDINGS: render_embeddings(read_embeddings(cards))},
        **{cards / f"{name}.md": {RECIPE: render_recipe(recipe)} for name, recipe in recipes.items()},
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
    """Render all pages and the README's picture anew. The text around the blocks stays."""
    updated = {
        path: update_page(path.read_text(encoding="utf-8"), blocks) for path, blocks in blocks_of_pages(cards).items()
    }
    picture = draw_kl_split(read_runs(cards))
    # Only after all of them could be rendered.
    for path, page in updated.items():
        path.write_text(page, encoding="utf-8")
    picture.savefig(cards / KL_SPLIT_PICTURE)


def draw_kl_split(runs: Sequence[Run]) -> Figure:
    """The README's picture: what becomes of the KL of three runs of the default job.

    Args:
        runs (sequence of mappings): What [`~benchmarks.records.read_runs`] returns.
    """
    results = {options_of(run): run["results"] for run in runs}
    shown = [results[options] for options in _SHOWN_RUNS]
    used = [figures["eval_decoder_information"] for figures in shown]
    unused = [figures["eval_iw_kl"] - known for figures, known in zip(shown, used, strict=True)]
    return plots.plot_kl_split(list(_SHOWN_RUNS.values()), used, unused)
