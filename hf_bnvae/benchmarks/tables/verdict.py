# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Three lines that sum up all results: whether the latent is used, how it compares with other remedies, and speed."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .collapse import measures_of, wins
from .runs import Run, options_of, used_share_of
from .speed import aims_of, compared_pieces, has_aims

# The head that the library uses by default, and the one without a floor, by their names in the records.
OURS, COLLAPSING = "bn_rms, rate", "gaussian"

# A run of the default job with a low rate, by its options.
LOW_RATE = "--rate 4.0"

Record = Mapping[str, Any]


def render_verdict(runs: Sequence[Run], benchmark: Record, machines: Sequence[Record]) -> str:
    """
    Three items of a list in Markdown. Every figure and every judgement is computed from the records.

    Args:
        runs (sequence of mappings): The runs of the default job.
        benchmark (mapping): The results of the collapse benchmark, setting `small`.
        machines (sequence of mappings): The results of the speed benchmark. The one with aims is shown.
    """
    measured = next(results for results in machines if has_aims(results))
    lines = (_default_job(runs), _remedies(benchmark), _speed(measured))
    return "\n".join(f"- {line}" for line in lines)


def _default_job(runs: Sequence[Run]) -> str:
    by_options = {options_of(run): run["results"] for run in runs}
    ours, low, free = (by_options[options] for options in ("", LOW_RATE, "--posterior gaussian"))
    return (
        f"**Is the latent used?** In the default job the decoder uses {used_share_of(ours) or 0:.0%} of a KL of "
        f"{ours['eval_kl']:.0f} nats, and {ours['eval_active_units']} of {ours['eval_latent_size']} dimensions are "
        f"active. Without a floor {free['eval_active_units']} are active. The likelihood of held-out texts (IW-NLL) "
        f"is {_price(ours, free)} than without a floor, and at a rate of 4 nats {_price(low, free)}. "
        f"BLEU of reconstructions is {ours['eval_reconstruction_bleu']:.1f} of 100 (rate 4: "
        f"{low['eval_reconstruction_bleu']:.1f})."
    )


def _price(results: Mapping[str, Any], free: Mapping[str, Any]) -> str:
    """How much worse held-out texts are predicted than by the model without a floor, under N(0, I)."""
    price = results["eval_iw_nll"] - free["eval_iw_nll"]
    return f"{abs(price):.1f} nats {'worse' if price > 0 else 'better'}"


def _remedies(benchmark: Record) -> str:
    entries = {entry["name"]: entry for entry in benchmark["remedies"]}
    ours, others = entries[OURS], [entry for entry in entries.values() if not entry["is_ours"] and entry["runs"]]
    measures = measures_of([ours, *others])
    beaten = [f"*{other['name']}*" for other in others if all(wins(ours, other, measures))]
    better = [f"*{other['name']}*" for other in others if all(wins(other, ours, measures))]
    price = _mean(ours, "iw_nll") - _mean(entries[COLLAPSING], "iw_nll")
    aim = "reached" if len(beaten) == len(others) else "missed"
    return (
        f"**Is it better than other remedies?** It is compared with {len(others)}, each tuned with the same budget "
        f"and run with {len(ours['runs'])} seeds. It has more information at a better likelihood than {len(beaten)} "
        "of them"
        + (f" ({' and '.join(beaten)})" if beaten else "")
        + f"; {len(better) or 'none'} of them beats it in both. So the aim, to beat all of them in both, is {aim}. A "
        f"collapsed model has the {'better' if price > 0 else 'worse'} likelihood, by {abs(price):.2f} nats."
    )


def _speed(results: Record) -> str:
    pieces = list(compared_pieces(results))
    shown = []
    for work in dict.fromkeys(name for name, _, _ in pieces):
        ratios = [figures["ratio_to_floor"] for name, _, figures in pieces if name == work]
        shown.append(f"{work.replace('_', ' ')} {statistics.fmean(ratios):.2f}")
    kinds = {"ratio_to_floor": "the floor", "ratio_to_naive": "the naive way"}
    missed = [
        f"{name.replace('_', ' ')} of {int(count):,} takes {figures[kind]:.2f} of {kinds[kind]} (aim: {aim:.2f})"
        for name, count, figures in pieces
        for kind, aim in zip(kinds, aims_of(results, name, count), strict=True)
        if aim is not None and figures[kind] > aim
    ]
    return (
        f"**Is it fast?** Time relative to the floor, the two bare networks without a latent, on "
        f"{results['machine']['threads']} threads of a CPU: {', '.join(shown)}. "
        + (f"Missed aims: {'; '.join(missed)}." if missed else "All aims are met.")
    )


def _mean(entry: Record, figure: str) -> float:
    return statistics.fmean(run["figures"][figure] for run in entry["runs"])
