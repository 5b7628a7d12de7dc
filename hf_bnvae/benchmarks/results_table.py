# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A table of several runs, and texts of one of them, rendered from what they left in their folders, and kept in step
with the README."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..reporting.commands import recorded_options
from ..reporting.markdown import markdown_table, replace_between
from ..reporting.report import Examples, render_examples
from ..utils.file_names import EXAMPLES_FILE, RESULTS_FILE, RUN_FILE
from ..utils.json_files import read_json

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
EXAMPLES_BEGIN, EXAMPLES_END = "<!-- examples: begin -->", "<!-- examples: end -->"


def collect_runs(folders: Iterable[str]) -> list[dict[str, Any]]:
    """
    What identifies each finished run and what came out of it.

    Args:
        folders (iterable of `str`): Output folders of a training script.

    Returns:
        `list[dict]`: For each run `command`, `seed`, `results` (its `eval_...` figures, versions, hardware) and
        `examples`, the texts that it printed.

    Raises:
        ValueError: for a folder without a finished run.
    """
    runs = []
    for folder in map(Path, folders):
        record = read_json(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else {}
        if not record.get("finished"):
            raise ValueError(f"{folder} holds no finished run.")
        results = read_json(folder / RESULTS_FILE)
        kept = {k: v for k, v in results.items() if k.startswith("eval_") or k.endswith("_version") or k == "hardware"}
        examples = read_json(folder / EXAMPLES_FILE)
        seed = record["settings"]["seed"]
        runs.append({"command": record["command"], "seed": seed, "results": kept, "examples": examples})
    return runs


def render_runs(runs: list[dict[str, Any]]) -> str:
    """A table in Markdown for each corpus, with what its rows share below it."""
    by_corpus: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_corpus.setdefault(run["results"]["eval_corpus_train_sha256"], []).append(run)
    return "\n\n".join(_render_table(group) for group in by_corpus.values())


def _render_table(runs: list[dict[str, Any]]) -> str:
    header = (
        "options",
        "-ELBO",
        "reconstruction",
        "KL",
        "floor",
        "IW-NLL",
        "MI",
        "marginal KL",
        "active",
        "E[mu²+sigma²]",
        "BLEU",
    )
    rows = []
    for run in runs:
        r = run["results"]
        rows.append(
            (
                f"`{recorded_options(run['command']) or '(none)'}`",
                f"{-r['eval_elbo']:.1f}",
                f"{r['eval_reconstruction_nll']:.1f}",
                f"{r['eval_kl']:.2f}",
                f"{r['eval_kl_floor']:.2f}",
                f"{r['eval_iw_nll']:.1f} ± {r['eval_iw_nll_error']:.1f}",
                f"{r['eval_mutual_information']:.2f}",
                f"{r['eval_marginal_kl']:.2f}",
                f"{r['eval_active_units']} of {r['eval_latent_size']}",
                f"{r['eval_aggregate_second_moment']:.3f}",
                f"{r['eval_reconstruction_bleu']:.1f}",
            )
        )
    first = runs[0]["results"]
    shared = (
        f"Nats per sentence; {first['eval_num_sentences']} held-out sentences (log N = "
        f"{first['eval_log_num_sentences']:.2f}), IW-NLL of the first {first['eval_iw_nll_num_sentences']} with "
        f"{first['eval_iw_nll_num_samples']} samples, ± one standard error over sentences; BLEU (0 to 100) of greedy "
        f"reconstructions from the means. Seed {runs[0]['seed']}. Corpus "
        f"`{first['eval_corpus_train_sha256'][:12]}` (training) and `{first['eval_corpus_validation_sha256'][:12]}` "
        f"(held out); torch {first['torch_version']}, transformers {first['transformers_version']}; "
        f"{first['hardware']}."
    )
    return "\n".join([*markdown_table(header, rows), "", shared])


def render_run_examples(run: dict[str, Any]) -> str:
    """Lines of what a run printed: its BLEU, and the interpolation between two texts, with both reconstructed."""
    results, examples = run["results"], Examples(**run["examples"])
    ends = replace(examples, reconstructions=examples.reconstructions[:2], samples=[])
    return "\n".join(
        [
            f"`{run['command']}`, reconstruction BLEU {results['eval_reconstruction_bleu']:.1f}:",
            "",
            "```",
            render_examples(ends),
            "```",
        ]
    )


def update_readme(readme: str, runs: list[dict[str, Any]]) -> str:
    """The text of a README with the table of `runs`, and the texts of the first of them, between their markers."""
    readme = replace_between(readme, BEGIN, END, render_runs(runs))
    return replace_between(readme, EXAMPLES_BEGIN, EXAMPLES_END, render_run_examples(runs[0]))
