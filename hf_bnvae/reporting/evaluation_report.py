# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The report of an evaluation in Markdown, made from the content of its `report.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from .markdown import code, fenced, inline, markdown_table, prose
from .report import Examples, figures_and_verdict, render_examples

# Pictures by the names of their files: a title, and what the picture shows.
PICTURES = {
    "kl_per_dimension.png": (
        "KL per dimension",
        "Mean KL of each dimension over the texts, and what the head promises of it in a training batch. On other "
        "texts, whose moments are their own, it may lie somewhat below.",
    ),
    "aggregated_posterior.png": (
        "Aggregated posterior and prior",
        "One draw from each text's posterior, and draws of N(0, I). Where the two differ, N(0, I) lies where no text "
        "was encoded to; a fitted prior helps. A collapsed posterior fits N(0, I) best of all: look at the KL, too.",
    ),
    "rate_distortion.png": (
        "Rate and distortion",
        "The nearer to the lower left corner, the higher the ELBO. A collapsed model stands at a rate of 0.",
    ),
    "training_curves.png": ("Training", f"From the model's {TRAINER_STATE_NAME}."),
}

PROBED = {
    "means": "means of the posteriors",
    "draws": "draws from the posteriors",
    "features": "encoder features, ahead of the head",
}


def render_report(report: Mapping[str, Any]) -> str:
    """
    The report in Markdown.

    Args:
        report (mapping): What `report.json` holds.
    """
    lines = [f"# Evaluation of {inline(report['model']['name_or_path'])}", ""]
    lines += [f"> {prose(note)}\n" for note in report["notes"]]
    lines += ["## Figures", "", figures_and_verdict(report["figures"], report["verdict_text"]), ""]
    pictures = [name for name in report["files"] if name in PICTURES]
    if pictures:
        lines += ["## Pictures", ""]
        for name in pictures:
            title, explanation = PICTURES[name]
            lines += [f"### {title}", "", f"![{title}]({name})", "", explanation, ""]
    if "probe" in report:
        lines += ["## What a linear classifier reads", "", *_probe_lines(report["probe"]), ""]
    if "samples" in report:
        lines += ["## How good samples are", "", *_samples_lines(report["samples"]), ""]
    lines += ["## Texts", "", render_examples(Examples(**report["examples"])), ""]
    lines += ["## Settings", "", *_settings_lines(report), ""]
    lines += ["## To repeat it", "", fenced(report["command"], "bash")]
    return "\n".join(lines) + "\n"


def label_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Headings of a probe's results: the numbers of labels."""
    counts = [row["labels_per_class"] for row in rows]
    return ["all labels" if count is None else f"{count} labels per class" for count in counts]


def probe_table(
    results: Mapping[str, Any],
    measure: str = "Accuracy, %",
    key: str = "accuracy",
    baseline: tuple[str, str] = ("always the most frequent class", "majority_accuracy"),
) -> list[str]:
    """
    The lines of a table in Markdown: a row for an answer that ignores the text, and a row for each kind of features
    that the probe read.

    Args:
        results (mapping): `results` of a report's probe.
        measure, key (`str`, *optional*): The heading, and the name of the figure in the results.
        baseline (`tuple[str, str]`, *optional*): The title of the first row, and the name of its figure.
    """
    first = results["means"]
    columns = label_columns(first["rows"])
    rows = [(baseline[0], *([f"{100 * first[baseline[1]]:.1f}"] * len(columns)))]
    rows += [(title, *(_percentage(row, key) for row in results[name]["rows"])) for name, title in PROBED.items()]
    return markdown_table((measure, *columns), rows)


def _probe_lines(probe: Mapping[str, Any]) -> list[str]:
    results = probe["results"]
    first = results["means"]
    lines = [
        f"Labels: {code(probe['labels'])}, {first['num_classes']} classes; {prose(probe['description'])}: "
        f"{first['num_train']} labelled texts, {first['num_test']} test texts. Logistic regression on standardised "
        "features, its L2 penalty chosen by cross-validation on the labelled texts.",
        "",
        *probe_table(results),
        "",
        *probe_table(results, "Balanced accuracy, %", "balanced_accuracy", ("any guess", "chance_balanced_accuracy")),
        "",
    ]
    draws = max(row["num_draws"] for row in first["rows"])
    if draws > 1:
        lines += [f"± one standard deviation over {draws} random draws of the labelled texts, the same in each row."]
    lines += [
        "Standardised means also show differences far below the noise of a posterior; in a collapsed model all "
        "differences are like that. A draw is what the decoder gets.",
        *(f"No row of {number} labels per class: {prose(reason)}." for number, reason in first["omitted"].items()),
    ]
    return lines


def _samples_lines(samples: Mapping[str, Any]) -> list[str]:
    judges, kinds = samples["judges"], samples["kinds"]
    number = next(iter(kinds.values()))["num_texts"]
    header = ("texts", "perplexity", "Frechet distance", "self-BLEU", "distinct")
    rows = []
    for name, quality in kinds.items():
        cells = (name, quality["perplexity"], quality["frechet_distance"], quality["self_bleu"], quality["distinct"])
        digits = ("", ".1f", ".3f", ".1f", ".0%")
        rows.append(tuple("-" if c is None else format(c, d) for c, d in zip(cells, digits, strict=True)))
    lines = [*markdown_table(header, rows), ""]
    lines.append(
        f"{number} texts of each kind, compared with {number} held-out texts. Other held-out texts, in the first row, "
        "show what real texts get. The nearer a row is to the first row, the better."
    )
    if judges["language_model"]:
        lines.append(f"Perplexity for each token of {code(judges['language_model'])}.")
    if judges["encoder"]:
        lines.append(f"Frechet distance between the texts' vectors of {code(judges['encoder'])}.")
    if "reconstructions" in samples:
        found = samples["reconstructions"]
        spaces = [("the model's own encoder", "own_similarity", "own_random_similarity")]
        if found["similarity"] is not None:
            spaces.insert(0, (code(judges["encoder"]), "similarity", "random_similarity"))
        shown = []
        for space, own, other in spaces:
            baseline = "" if found[other] is None else f" (of another text: {found[other]:.3f})"
            shown.append(f"{found[own]:.3f}{baseline} in the space of {space}")
        lines += ["", f"{found['num_texts']} held-out texts and their reconstructions: mean cosine "]
        lines[-1] += f"{' and '.join(shown)}. F1 of their sets of tokens: {found['token_f1']:.2f}."
    if "paths" in samples:
        found = samples["paths"]
        lines += ["", f"On the way from one text to another: {found['distinct']:.1f} distinct texts in "]
        lines[-1] += f"{found['num_steps']} steps, mean of {found['num_paths']} pairs of held-out texts."
        if found["inner_perplexity"] is not None:
            lines[-1] += (
                f" Perplexity {found['inner_perplexity']:.1f} between the ends, {found['end_perplexity']:.1f} at the "
                "ends."
            )
    return lines


def _percentage(row: Mapping[str, Any], key: str) -> str:
    deviation = f" ± {100 * row[f'{key}_std']:.1f}" if row["num_draws"] > 1 else ""
    return f"{100 * row[key]:.1f}{deviation}"


def _settings_lines(report: Mapping[str, Any]) -> list[str]:
    model, data, settings = report["model"], report["data"], report["settings"]
    train_hash = report.get("probe", {}).get("train_sha256")
    commit = f" at commit {code(model['commit'])}" if model["commit"] else ""
    versions = (f"{name.removesuffix('_version')} {value}" for name, value in report["versions"].items())
    lines = [
        f"- Model: {code(model['name_or_path'])}{commit}, posterior {code(model['posterior'])}, "
        f"{model['latent_size']} latent dimensions, {model['num_parameters'] / 1e6:.1f} million parameters",
        f"- Texts: {code(data['source'])}, {data['num_texts']} of them, SHA-256 {code(data['sha256'])}",
        *([f"- The classifier's training texts: SHA-256 {code(train_hash)}"] if train_hash else []),
        f"- Seed: {settings['seed']}",
        f"- Versions: {prose(', '.join(versions))}",
    ]
    for other in report["compared_with"]:
        same = "the same texts" if other["same_texts"] else "other texts, so that its figures are not comparable"
        lines.append(f"- Compared with: {code(other['name'])}, on {same}")
    return lines
