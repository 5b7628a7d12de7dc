# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Tables of what a rate buys: figures, judged texts, and what three texts become at each rate."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...reporting.markdown import inline
from .blocks import Block, cell, numbered, table, versions_of

RATES = Block("rates")

Model = Mapping[str, Any]

SHOWN_TEXTS = 3


def render_rates(results: Mapping[str, Any]) -> str:
    """
    The page of a rates benchmark, in Markdown.

    Args:
        results (mapping): The content of `rates.json`.
    """
    if not results["models"]:
        return f"No model is finished yet. {_failures(results)}".strip()
    parts = (_figures, _texts, _path, _judged, _settings)
    return "\n\n".join(render(results) for render in parts)


def nats_of_a_text(models: Sequence[Model]) -> float:
    """What a text has, in nats: the lowest estimate of -log p(x) that any of the models gives, under any prior."""
    bounds = (model["figures"].get(name) for model in models for name in ("iw_nll", "fitted_iw_nll"))
    return min(bound for bound in bounds if bound is not None)


def share_of_a_text(model: Model, nats: float) -> float:
    """How much of a text's nats its latent saves: 1 - (-log p(x|z)) / nats, of the sentences of the IW-NLL."""
    figures = model["figures"]
    return 1 - (figures["iw_negative_elbo"] - figures["iw_kl"]) / nats


def _figures(results: Mapping[str, Any]) -> str:
    models = results["models"]
    nats = nats_of_a_text(models)
    judged = [model["samples"].get("reconstructions") or {} for model in models]
    rows = []
    for model, found in zip(models, judged, strict=True):
        figures = model["figures"]
        likelihood = figures["iw_nll"] if figures.get("fitted_iw_nll") is None else figures["fitted_iw_nll"]
        rows.append(
            (
                _name(model["rate"]),
                f"{figures['kl']:.2f}",
                cell(figures.get("decoder_information"), ".2f"),
                # Adding 0 turns -0 into 0.
                f"{round(share_of_a_text(model, nats), 2) + 0:.0%}",
                f"{likelihood:.2f}",
                *(cell(figures.get(f"reconstruction_{name}"), ".1f") for name in ("bleu", "chrf", "exact")),
                *(cell(found.get(name), ".2f") for name in ("similarity", "token_f1")),
            )
        )
    header = ("rate", "KL", "decoder information", "share of a text", "IW-NLL", "BLEU", "chrF", "exact, %")
    first = models[0]["figures"]
    lines = [
        f"Nats per sentence, of {first['num_sentences']} held-out texts; share, decoder information and IW-NLL of "
        f"{first['iw_nll_num_sentences']} of them.",
        "IW-NLL is under the fitted prior, decoder information under N(0, I).",
        f"A text has {nats:.1f} nats: the lowest IW-NLL of any of these models, under either prior. The share is what "
        "the latent saves of them.",
    ]
    random = [found["random_similarity"] for found in judged if found.get("random_similarity") is not None]
    if random:
        lines += [
            f"Similarity is the mean cosine of a text and its reconstruction in the space of "
            f"{results['judges']['encoder']}, which has no part in the models.",
            f"Of a text and another one's reconstruction it is {min(random):.2f} to {max(random):.2f}.",
            "F1 is of their sets of words.",
        ]
    lines.append(_failures(results))
    return f"{table((*header, 'similarity', 'F1'), rows)}\n\n{' '.join(filter(None, lines))}"


def _failures(results: Mapping[str, Any]) -> str:
    return f"These failed: {', '.join(map(_name, results['failed']))}." if results["failed"] else ""


def _texts(results: Mapping[str, Any]) -> str:
    """What the first held-out texts become at each rate. The texts are in a random order, so nobody chose them."""
    models = results["models"]
    parts = []
    for place, (text, _) in enumerate(models[0]["examples"]["reconstructions"][:SHOWN_TEXTS]):
        rows = [(_name(model["rate"]), inline(model["examples"]["reconstructions"][place][1])) for model in models]
        parts.append(table(("rate", inline(text)), rows))
    return "\n\n".join([f"The first {SHOWN_TEXTS} held-out texts, and what each becomes:", *parts])


def _path(results: Mapping[str, Any]) -> str:
    """The way from the first held-out text to the second, at a rate in the middle and at the highest one."""
    models = results["models"]
    parts = []
    for model in dict.fromkeys((len(models) // 2, len(models) - 1)):
        found = models[model]
        title = f"From the first text to the second, at rate {_name(found['rate'])}:"
        parts.append(f"{title}\n\n{numbered(found['examples']['interpolation'])}")
    return "\n\n".join(parts)


def _judged(results: Mapping[str, Any]) -> str:
    models, judges = results["models"], results["judges"]
    real = models[0]["samples"]["kinds"]["held-out texts"]
    rows = [("held-out texts", *_quality(real), "", "")]
    for model in models:
        kinds, path = model["samples"]["kinds"], model["samples"].get("paths")
        cells = ("-", "-")
        if path is not None:
            cells = (cell(path["inner_perplexity"], ".1f"), f"{path['distinct']:.1f} of {path['num_steps']}")
        quality = kinds.get("fitted prior, greedy") or kinds["standard prior, greedy"]
        rows.append((_name(model["rate"]), *_quality(quality), *cells))
    header = ("rate", "perplexity of samples", "Frechet distance", "self-BLEU", "perplexity between two texts")
    lines = [
        f"{real['num_texts']} greedy samples of the fitted prior.",
        f"Perplexities are of {judges['language_model']}, which was trained on the same file of texts and has no "
        "latent.",
        f"Frechet distances are in the space of {judges['encoder']}. The nearer to the first row, the better.",
        "The last two columns are of straight lines between two held-out texts, in equal steps.",
    ]
    return f"{table((*header, 'distinct texts on the way'), rows)}\n\n{' '.join(lines)}"


def _settings(results: Mapping[str, Any]) -> str:
    options = " ".join(f"--{name} {value}" for name, value in results["training"].items() if name != "text_column")
    runs = [model["training"] for model in results["models"]]
    training, minutes = runs[-1], [run["train_runtime"] / 60 for run in runs]
    return (
        f"Trained on {training['train_samples']:,} texts with `{options}`: "
        f"{training['num_parameters'] / 1e6:.1f} million parameters, {min(minutes):.0f} to {max(minutes):.0f} minutes "
        f"a model. {training['hardware']}; {versions_of(training)}. Training texts: SHA-256 "
        f"`{results['texts']['train'][:12]}`, "
        f"held-out texts: `{results['texts']['held_out'][:12]}`."
    )


def _name(rate: float | None) -> str:
    return "none (`gaussian`)" if rate is None else f"{rate:g}"


def _quality(quality: Mapping[str, Any]) -> tuple[str, ...]:
    values = (quality["perplexity"], quality["frechet_distance"], quality["self_bleu"])
    return tuple(cell(v, f) for v, f in zip(values, (".1f", ".3f", ".1f"), strict=True))
