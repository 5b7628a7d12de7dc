# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Is the latent space alive? One verdict from the figures of an evaluation, for reports, cards and trainings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

VerdictName = Literal[
    "broken", "not trained", "collapsed", "deaf", "noisy", "unlike its training texts", "wasteful", "alive"
]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)

# Nats of information in a latent, below which it says nothing about its sentence.
COLLAPSED_INFORMATION = 0.2
# Nats of likelihood that a sentence loses with another sentence's latent. Below this the decoder ignores the latent.
DEAF_GAIN = 0.05
# The share of the KL that the decoder of a healthy model uses at least.
LEAST_USED_SHARE = 0.25
# Moments of an evaluation over those that training normalised by.
LEAST_RATIO, GREATEST_RATIO = 0.5, 2.0
# The share of the floor that the KL reaches where the floor holds. It changes a little between two log lines.
FLOOR_HELD = 0.9
# The share of the promised moment below which means are constant, to rounding.
_NO_VARIATION = 1e-6

# Figures that are numbers in every evaluation.
_NUMBERS = {
    "reconstruction_nll": "reconstruction",
    "kl": "KL",
    "elbo": "ELBO",
    "iw_nll": "IW-NLL",
    "mutual_information": "mutual information",
}
# The same, where they were measured.
_MEASURED_NUMBERS = {"decoder_information": "decoder information", "latent_gain": "latent gain"}
_MOMENTS = {"mean_moment_ratio": "means", "variance_moment_ratio": "variances"}


class _Words(NamedTuple):
    """How the data are called."""

    one: str
    a: str
    many: str
    units: str


_WORDS = {
    "texts": _Words("text", "a text", "texts", "its tokens"),
    "images": _Words("image", "an image", "images", "its pixels' values"),
}


@dataclass(frozen=True)
class Verdict:
    """
    What an evaluation shows of a latent space.

    Args:
        name (`str`): One of `VERDICTS`.
        explanation (`str`): What was seen, the likely cause, and what to do.
        data (`str`): How the data are called: `texts` or `images`.
    """

    name: VerdictName
    explanation: str
    data: str = "texts"

    @property
    def is_alive(self) -> bool:
        """Whether the latent space is healthy."""
        return self.name == "alive"

    def __str__(self) -> str:
        name = self.name.replace("texts", self.data)
        return f"The latent space is {name}. {self.explanation}"


def judge(figures: Mapping[str, Any], data: Literal["texts", "images"] = "texts") -> Verdict:
    """
    The verdict on a latent space. The first of these that applies:

    - *broken*: a figure is no number.
    - *not trained*: even with its latent, a sentence is predicted no better than by how frequent each token is.
    - *collapsed*: the latent says nothing, because the posterior is the prior, or the same for all sentences.
    - *deaf*: the posterior says something, and the decoder ignores it, though the moments are those of training.
    - *noisy*: the moments differ from those that training normalised by, and the decoder uses little of the KL.
    - *unlike its training texts*: the moments differ, and the decoder uses the latent all the same.
    - *wasteful*: the decoder uses less than `LEAST_USED_SHARE` of the KL.
    - *alive*.

    An evaluation during training has no token frequencies, so it cannot find *not trained*.

    Args:
        figures (mapping): Figures by the names of [`~evaluation.result.EvaluationResult`]'s fields. What is missing is
            not judged. `None` stands for a figure that was not measured, and, where every evaluation has the figure,
            for one that is no number.
        data (`str`, *optional*, defaults to `"texts"`): How to call the data: `texts` or `images`.

    Returns:
        [`Verdict`]
    """
    words = _WORDS[data]
    for reason in (_broken, _not_trained, _without_variation, _collapsed, _deaf, _moments_differ, _wasteful):
        found = reason(figures, words)
        if found is not None:
            return Verdict(*found, data)
    return Verdict("alive", _facts(figures, words), data)


def judge_training(figures: Mapping[str, Any]) -> Verdict:
    """As [`judge`], from the figures of training batches, of which only KL and active units are looked at. Moments of
    training batches are what training normalises by; only an evaluation shows how much of them is noise."""
    return judge({name: figures[name] for name in ("kl", "kl_floor", "active_units") if name in figures})


def used_share(figures: Mapping[str, Any]) -> float | None:
    """The share of the KL that the decoder uses, decoder information / KL; `None` if it was not measured, or if the KL
    is below `COLLAPSED_INFORMATION`, since a share of almost nothing means nothing."""
    information, kl = figures.get("decoder_information"), kl_of_used_share(figures)
    if information is None or kl is None or kl < COLLAPSED_INFORMATION:
        return None
    return information / kl


def kl_of_used_share(figures: Mapping[str, Any]) -> float | None:
    """The KL of the sentences whose decoder information was measured, where it is known."""
    kl = figures.get("iw_kl")
    return figures.get("kl") if kl is None else kl


def _broken(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    wrong = [label for name, label in _NUMBERS.items() if name in figures and not _is_number(figures[name])]
    wrong += [
        label
        for name, label in _MEASURED_NUMBERS.items()
        if figures.get(name) is not None and not _is_number(figures[name])
    ]
    if not wrong:
        return None
    return "broken", (
        f"No number: {', '.join(wrong)}. A weight of the model is probably NaN or infinite. Go back to an earlier "
        "checkpoint, and train with a smaller learning rate."
    )


def _not_trained(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    nll, frequency = figures.get("reconstruction_nll"), figures.get("frequency_nll")
    if nll is None or frequency is None or nll < frequency:
        return None
    return "not trained", (
        f"Even with its latent, {words.a} costs {nll:.2f} nats. The frequencies of {words.units} alone predict it "
        f"with {frequency:.2f} nats. Train longer, and see whether reconstruction_nll falls in the log. If it did, "
        f"these {words.many} are of another kind than those of the training."
    )


def _without_variation(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    kl, floor = figures.get("kl"), figures.get("kl_floor", 0.0)
    # Noise in the encoder leaves the means of an evaluation something, however little.
    is_constant = figures.get("active_units") == 0 and (figures.get("mean_moment_ratio") or 0.0) < _NO_VARIATION
    if kl is None or not is_constant or kl >= FLOOR_HELD * floor:
        return None
    return "collapsed", (
        f"KL {kl:.2f} nats, below the floor of {floor:.2f}, and no posterior mean varies with the {words.one}. The "
        f"floor holds only if the {words.many} of a training batch differ. Here they were equal, or the encoder gave "
        f"all of them the same features. Train on {words.many} that differ. If they do, see whether the encoder "
        "learns at all (learning rate, frozen layers)."
    )


def _collapsed(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    kl, floor, information = figures.get("kl"), figures.get("kl_floor", 0.0), _information(figures)
    if kl is None or information is None or information >= COLLAPSED_INFORMATION:
        return None
    if kl >= COLLAPSED_INFORMATION and _odd_moments(figures):
        return None  # the posterior is not the prior: in training there was something in the place of the texts
    is_measured = figures.get("mutual_information") is not None
    if not is_measured and (figures.get("latent_gain") or 0.0) >= DEAF_GAIN:
        return None  # means that vary little can say something, and the decoder hears it
    seen = f"KL {kl:.2f} nats (floor {floor:.2f})" + (
        f", of which {max(information, 0.0):.2f} tell one {words.one} from another."
        if is_measured
        else f", and no posterior mean varies with the {words.one}."
        if figures.get("active_units") == 0
        else "."
    )
    if kl < COLLAPSED_INFORMATION:
        return "collapsed", (
            f"{seen} The posterior is the prior, so the decoder gets nothing but noise. Use posterior='bn_rms', whose "
            "KL cannot vanish, or a higher rate."
        )
    return "collapsed", (
        f"{seen} All {words.many} have nearly the same posterior. Train longer, set encoder_dropout=0, and see "
        "whether the encoder learns at all (learning rate, frozen layers)."
    )


def _deaf(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    gain, information = figures.get("latent_gain"), _information(figures)
    says_something = information is None or information >= COLLAPSED_INFORMATION
    # Where the moments are odd, noise in the encoder is why the decoder does not listen.
    if gain is None or abs(gain) >= DEAF_GAIN or not says_something or _odd_moments(figures):
        return None
    return "deaf", (
        f"The posterior has a KL of {figures.get('kl', math.nan):.2f} nats, and the decoder does not use it: "
        f"{words.a} loses only {abs(gain):.2f} nats of likelihood with another one's latent. Train longer or with a "
        "larger learning rate, and see whether the latent reaches the decoder (latent_injection, frozen or zeroed "
        "weights)."
    )


def _moments_differ(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    odd = _odd_moments(figures)
    if not odd:
        return None
    share, gain = used_share(figures), figures.get("latent_gain")
    # Without the decoder information, the latent gain tells whether the decoder uses the latent.
    is_used = (gain or 0.0) >= DEAF_GAIN if share is None else share >= LEAST_USED_SHARE
    if not is_used:
        return "noisy", (
            f"In evaluation {odd}. Batch normalisation holds the variance of a training batch, wherever that comes "
            "from. Here most of it comes from noise that evaluation does not have, so the latents carry little of the "
            f"{words.one}, though the training loss looks healthy. The likely cause is dropout in the encoder: set "
            "encoder_dropout=0. If it is 0, train longer, and not with tiny batches or batches sorted by length."
        )
    used = "the latent" if share is None else f"{share:.0%} of the KL"
    return "unlike its training texts", (
        f"In evaluation {odd}. The decoder uses {used} all the same. These {words.many} are of another kind than "
        "those of the training, or those were so few that the model knows them by heart. Evaluate with "
        f"{words.many} of the same kind, or train on more."
    )


def _wasteful(figures: Mapping[str, Any], words: _Words) -> tuple[VerdictName, str] | None:
    share = used_share(figures)
    if share is None or share >= LEAST_USED_SHARE:
        return None
    information = max(figures["decoder_information"], 0.0)
    return "wasteful", (
        f"The posterior spends a KL of {_kl_in_words(figures, words)}, and the decoder uses {information:.2f} of "
        "them. The rate is out of reach of this training, or the head wastes it, as 'bn' often does. Lower the rate, "
        "train longer, or use posterior='bn_rms'."
    )


def _information(figures: Mapping[str, Any]) -> float | None:
    """What the posterior says about a sentence, in nats. Without the mutual information this is nothing if no mean
    varies, and otherwise the KL, an upper bound; `None` if neither is known."""
    if figures.get("mutual_information") is not None:
        return figures["mutual_information"]
    return 0.0 if figures.get("active_units") == 0 else figures.get("kl")


def _odd_moments(figures: Mapping[str, Any]) -> str:
    """Which moments are not those that training normalised by, in words."""
    ratios = {symbol: figures.get(name) for name, symbol in _MOMENTS.items()}
    return " and ".join(
        f"the second moment of the posterior {symbol} is {ratio:.3g} times what training saw"
        for symbol, ratio in ratios.items()
        if ratio is not None and not LEAST_RATIO <= ratio <= GREATEST_RATIO
    )


def _facts(figures: Mapping[str, Any], words: _Words) -> str:
    """What a healthy latent space shows."""
    facts = []
    share, gain = used_share(figures), figures.get("latent_gain")
    if share is not None:
        facts.append(
            f"Of a KL of {_kl_in_words(figures, words)} the decoder uses {figures['decoder_information']:.2f} "
            f"({share:.0%})."
        )
    if gain is not None:
        facts.append(f"With another one's latent, {words.a} loses {gain:.2f} nats of likelihood.")
    return " ".join(facts) or "Nobody asked the decoder: a new evaluation tells whether it uses the latent."


def _kl_in_words(figures: Mapping[str, Any], words: _Words) -> str:
    """The KL of which the decoder uses a share. Where it is of some of the texts, their number says so."""
    count = figures.get("iw_nll_num_sentences")
    of_some = figures.get("iw_kl") is not None and count is not None and count != figures.get("num_sentences")
    return f"{kl_of_used_share(figures):.2f} nats" + (f" ({count} {words.many})" if of_some else "")


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
