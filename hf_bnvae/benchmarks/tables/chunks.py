# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The table of the benchmark of chunks, for a terminal."""

import statistics
from collections.abc import Mapping
from typing import Any

from ..chunks import WAYS

_MIB = 2**20


def render_chunks(results: Mapping[str, Any]) -> str:
    """The results of [`~benchmarks.chunks.run_benchmark`] as a table of plain text."""
    batch, memory, positions = results["batch"], results["memory_bytes"], results["positions"]
    lines = [
        f"{batch['sentences']} sentences, {batch['tokens']} tokens, {batch['share_of_padding']:.0%} padding, "
        f"chunks of {batch['chunk_size']}; {results['made_with']['threads']} threads",
        "",
        f"{'a step adds (MiB)':28}" + "".join(f"{way:>14}" for way in WAYS),
    ]
    for gradients, tools in memory.items():
        for tool, added in tools.items():
            cells = (f"{added[way] / _MIB:.1f}" if way in added else "" for way in WAYS)
            lines.append(f"{tool + ', gradients ' + gradients:28}" + "".join(f"{cell:>14}" for cell in cells))
    lines += ["", f"{'positions / tokens':28}{'encoder':>14}{'decoder':>14}"]
    for way, counts in positions.items():
        shares = (counts[network] / counts["tokens"] for network in ("encoder", "decoder"))
        lines.append(f"{way:28}" + "".join(f"{share:14.3f}" for share in shares))
    for heap, ways in results["time_ratios"].items():
        columns = ("CPU", "wall", "predicted", "CPU seconds")
        lines += ["", f"{'time / plain, heap ' + heap:28}" + "".join(f"{column:>14}" for column in columns)]
        for way, ratios in ways.items():
            seconds = statistics.median(results["seconds"][heap][way]["cpu"])
            cells = (ratios["cpu"], ratios["wall"], results["predicted_time_ratios"][way], seconds)
            lines.append(f"{way:28}" + "".join(f"{cell:14.3f}" for cell in cells))
    lines.append("")
    for name, target in results["targets"].items():
        verdict = "met" if target["met"] else "MISSED"
        lines.append(f"{verdict:7}{target['value']:.3f}, at most {target['at_most']}: {name}")
    return "\n".join(lines)
