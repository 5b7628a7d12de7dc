# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Is the latent space alive? The answer in words, from the figures of a corpus."""

from collections.abc import Mapping

LEAST_RATIO, GREATEST_RATIO = 0.5, 2.0


def diagnose(figures: Mapping[str, float]) -> str | None:
    """
    What is wrong with a latent space, with the likely cause and the way out; `None` if it is alive.

    A latent space is dead if the KL is at its floor (KL <= 1.05 floor + 0.5 nats) and no unit is active. It is dying
    if the moments of the posterior in evaluation differ by more than a factor of 2 from the moments that training
    normalised by. Then noise in the encoder made most of the batch variance.

    Args:
        figures (`Mapping[str, float]`): As [`corpus_figures`] gives them.
    """
    broken = []
    for name, symbol in (("mean_moment_ratio", "means"), ("variance_moment_ratio", "variances")):
        ratio = figures.get(name)
        if ratio is not None and not LEAST_RATIO <= ratio <= GREATEST_RATIO:
            broken.append(f"the posterior {symbol}' second moment is {ratio:.3g} times what training saw")
    if broken:
        return (
            f"The latent space is dying: in evaluation {' and '.join(broken)}. Batch normalisation holds the variance "
            "of a training batch, wherever it comes from, and here most of it comes from noise that evaluation does "
            "not have, so the latents carry little of the text though the training loss looks healthy. The likely "
            "cause is dropout in the encoder: set encoder_dropout=0. If it is 0, the encoder's features may hardly "
            "vary yet (train longer), batches may be tiny or sorted by length, or the statistics be of other data."
        )
    if figures.get("active_units", 1) == 0 and figures["kl"] <= 1.05 * figures["kl_floor"] + 0.5:
        cause = (
            "The posterior has no floor and has collapsed onto the prior: the decoder predicts the text without the "
            "latent. Use posterior='bn_rms', whose KL cannot vanish."
            if figures["kl_floor"] == 0
            else "The KL is only what the posterior head enforces, and no mean varies with the text. Train "
            "longer, set encoder_dropout=0, and see whether the encoder learns at all (learning rate, frozen layers)."
        )
        return (
            f"The latent space is dead: KL {figures['kl']:.2f} nats (floor {figures['kl_floor']:.2f}) and no active "
            f"unit. {cause}"
        )
    return None


def diagnose_training(figures: Mapping[str, float]) -> str | None:
    """As [`diagnose`], from the figures of training batches. Their moments are not looked at: training normalises by
    them, and only an evaluation shows how much of them is noise."""
    known = {name: figures[name] for name in ("kl", "kl_floor", "active_units") if name in figures}
    return diagnose(known) if "kl" in known else None
