# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The table of several training runs, and texts that one of them printed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...evaluation.result import EvaluationResult
from ...reporting.commands import recorded_options
from ...reporting.report import ALIVE, Examples, render_examples
from .blocks import table

# Heading, and how a run's figures are written.
_COLUMNS = {
    "-ELBO": "{negative_elbo:.1f}",
    "reconstruction": "{eval_reconstruction_nll:.1f}",
    "KL": "{eval_kl:.2f}",
    "floor": "{eval_kl_floor:.2f}",
    "IW-NLL": "{eval_iw_nll:.1f} ± {eval_iw_nll_error:.1f}",
    "MI": "{eval_mutual_information:.2f}",
    "marginal KL": "{eval_marginal_kl:.2f}",
    "active": "{eval_active_units} of {eval_latent_size}",
    "E[mu²+sigma²]": "{eval_aggregate_second_moment:.3f}",
    "BLEU": "{eval_reconstruction_bleu:.1f}",
}

# Figures that the README shows of what a run prints.
_QUICKSTART_ROWS = ("KL", "mutual information", "active units")

Run = Mapping[str, Any]


def options_of(run: Run) -> str:
    """The options in a run's command, empty for the default job."""
    return recorded_options(run["command"])


def render_runs(runs: Sequence[Run]) -> str:
    """
    A table in Markdown for each corpus, and below it what its rows share.

    Args:
        runs (sequence of mappings): What [`~benchmarks.records.collect_runs`] returns.
    """
    by_corpus: dict[str, list[Run]] = {}
    for run in runs:
        by_corpus.setdefault(run["results"]["eval_corpus_train_sha256"], []).append(run)
    return "\n\n".join(_render_table(group) for group in by_corpus.values())


def _render_table(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        figures = {**run["results"], "negative_elbo": -run["results"]["eval_elbo"]}
        rows.append((f"`{options_of(run) or '(none)'}`", *(cell.format_map(figures) for cell in _COLUMNS.values())))
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
    return f"{table(('options', *_COLUMNS), rows)}\n\n{shared}"


def render_run_examples(run: Run) -> str:
    """Lines of what a run printed: its BLEU, two texts with their reconstructions, and the interpolation between
    them."""
    examples = Examples(**run["examples"])
    ends = replace(examples, reconstructions=examples.reconstructions[:2], samples=[])
    return "\n".join(
        [
            f"`{run['command']}`, reconstruction BLEU {run['results']['eval_reconstruction_bleu']:.1f}:",
            "",
            "```",
            render_examples(ends),
            "```",
        ]
    )


def render_quickstart(run: Run) -> str:
    """Lines of what a run printed: some of its figures, the verdict, and a text with its reconstruction."""
    result = EvaluationResult.from_metrics(run["results"])
    rows = [row[:3] for row in result.rows() if row[0] in _QUICKSTART_ROWS]
    figures = table(("figure", "value", "unit"), rows)
    text, decoded = run["examples"]["reconstructions"][0]
    verdict = result.diagnosis or ALIVE
    return "\n".join(["```text", figures, "...", verdict, f"- {text}", f"  {decoded}", "```"])
