# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The table of several training runs, and texts that one of them printed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...evaluation.information import is_near_log_n
from ...evaluation.result import EvaluationResult
from ...evaluation.verdict import used_share
from ...reporting.commands import recorded_options
from ...reporting.report import Examples, render_examples
from .blocks import table

# Heading, and how a run's figures are written.
_COLUMNS = {
    "-ELBO": "{negative_elbo:.1f}",
    "reconstruction": "{eval_reconstruction_nll:.1f}",
    "KL": "{eval_kl:.2f}",
    "floor": "{eval_kl_floor:.2f}",
    "IW-NLL": "{eval_iw_nll:.1f} ± {eval_iw_nll_error:.1f}",
    "MI": "{at_least}{eval_mutual_information:.2f}",
    "decoder information": "{eval_decoder_information:.2f} ± {eval_decoder_information_error:.2f}",
    "of the KL": "{used_share:.0%}",
    "latent gain": "{eval_latent_gain:.2f}",
    "marginal KL": "{at_most}{eval_marginal_kl:.2f}",
    "active": "{eval_active_units} of {eval_latent_size}",
    "E[mu²+sigma²]": "{eval_aggregate_second_moment:.3f}",
    "BLEU": "{eval_reconstruction_bleu:.1f}",
}

# Heading, figure, digits: under N(0, I) and under the fitted prior.
_PRIOR_COLUMNS = (
    ("-ELBO", "iw_negative_elbo", 1),
    ("IW-NLL", "iw_nll", 2),
    ("KL", "iw_kl", 2),
    ("decoder information", "decoder_information", 2),
    ("marginal KL", "marginal_kl", 2),
    ("self-BLEU", "self_bleu", 1),
)

# Figures that the README shows of what a run prints.
_QUICKSTART_ROWS = ("KL", "decoder information", "reconstruction BLEU")

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
        results = run["results"]
        share = used_share_of(results)
        at_least, at_most = _bounds(results)
        figures = {**results, "negative_elbo": -results["eval_elbo"], "at_least": at_least, "at_most": at_most}
        if share is not None:
            figures["used_share"] = share
        cells = (_cell(cell, figures) for cell in _COLUMNS.values())
        verdict = EvaluationResult.from_metrics(results).verdict.name
        rows.append((f"`{options_of(run) or '(none)'}`", *cells, verdict))
    first = runs[0]["results"]
    shared = (
        f"Nats per sentence; {first['eval_num_sentences']} held-out sentences (log N = "
        f"{first['eval_log_num_sentences']:.2f}), IW-NLL of {likelihood_sentences(first, 'eval_')}, "
        "± one standard error over sentences; BLEU (0 to 100) of greedy "
        "reconstructions from the means. A mutual information near log N is a lower bound (≥). "
        f"Seed {runs[0]['seed']}. Corpus "
        f"`{first['eval_corpus_train_sha256'][:12]}` (training) and `{first['eval_corpus_validation_sha256'][:12]}` "
        f"(held out); torch {first['torch_version']}, transformers {first['transformers_version']}; "
        f"{first['hardware']}."
    )
    tables = [table(("options", *_COLUMNS, "verdict"), rows), shared, _render_priors(runs)]
    return "\n\n".join(part for part in tables if part)


def _render_priors(runs: Sequence[Run]) -> str:
    """The runs that have a fitted prior, under N(0, I) and under that prior; empty if none has."""
    rows = []
    for run in runs:
        results = run["results"]
        if results.get("eval_fitted_iw_nll") is None:
            continue
        shares = (used_share_of(results, prefix) for prefix in ("eval_", "eval_fitted_"))
        # Adding 0 turns -0 into 0.
        of_kl = " / ".join("-" if share is None else f"{round(share, 2) + 0:.0%}" for share in shares)
        marks = {"marginal_kl": _bounds(results)[1]}
        cells = (
            " / ".join(f"{marks.get(name, '')}{results[f'eval_{kind}{name}']:.{digits}f}" for kind in ("", "fitted_"))
            for _, name, digits in _PRIOR_COLUMNS
        )
        rows.append((f"`{options_of(run) or '(none)'}`", *cells, of_kl))
    if not rows:
        return ""
    explanation = (
        "The same runs under N(0, I) and, after the slash, under the prior that the training fitted at its end. "
        "-ELBO, KL and decoder information are of the sentences of the IW-NLL:"
    )
    header = ("options", *(heading for heading, _, _ in _PRIOR_COLUMNS), "of the KL")
    return f"{explanation}\n\n{table(header, rows)}"


def _bounds(results: Mapping[str, Any]) -> tuple[str, str]:
    """What stands before mutual information and marginal KL where they are bounds, because log N bounds the first."""
    is_bound = is_near_log_n(results["eval_mutual_information"], results["eval_log_num_sentences"])
    return ("≥ ", "≤ ") if is_bound else ("", "")


def used_share_of(results: Mapping[str, Any], prefix: str = "eval_") -> float | None:
    """The share of the KL that the decoder uses, from a run's figures; `None` if it was not measured."""
    return used_share({name: results.get(prefix + name) for name in ("decoder_information", "iw_kl", "kl")})


def _cell(cell: str, figures: Mapping[str, Any]) -> str:
    """A cell of the table; `-` if a run of an older version has no such figure."""
    try:
        return cell.format_map(figures)
    except KeyError:
        return "-"


def likelihood_sentences(figures: Mapping[str, Any], prefix: str = "") -> str:
    """Which sentences an IW-NLL is of, and which draws."""
    first = "" if figures.get(f"{prefix}are_sentences_spread") else "the first "
    draws = figures.get(f"{prefix}iw_nll_draws") or "the posterior"
    number, samples = (figures[f"{prefix}iw_nll_num_{what}"] for what in ("sentences", "samples"))
    return f"{first}{number} with {samples} draws of {draws}"


def render_run_examples(run: Run) -> str:
    """Lines of what a run printed: its BLEU, two texts with their reconstructions, and the interpolation between
    them."""
    examples = Examples(**run["examples"])
    ends = replace(examples, reconstructions=examples.reconstructions[:2], samples=[])
    return "\n".join(
        [
            f"`{run['command']}`, reconstruction BLEU {run['results']['eval_reconstruction_bleu']:.1f}:",
            "",
            render_examples(ends),
        ]
    )


def render_quickstart(run: Run) -> str:
    """Lines of what a run printed: some figures, and the verdict."""
    result = EvaluationResult.from_metrics(run["results"])
    rows = [row[:3] for row in result.rows() if row[0] in _QUICKSTART_ROWS]
    figures = table(("figure", "value", "unit"), rows)
    return "\n".join(["```text", figures, "...", str(result.verdict), "```"])
