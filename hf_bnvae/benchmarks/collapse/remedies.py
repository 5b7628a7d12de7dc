# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The remedies against posterior collapse that are compared, each with the grid of settings to choose from."""

from dataclasses import dataclass
from typing import Any

from ..commands import Options

# A name in grids that is no option of the training script: the factor of both learning rates.
LEARNING_RATE_FACTOR = "learning_rate_factor"


@dataclass(frozen=True)
class Remedy:
    """
    One way to keep the latent alive.

    Args:
        name (`str`): The name in tables.
        source (`str`): Who proposed it.
        grid (`tuple[dict, ...]`): The settings to choose from, as options of the training script.
        is_main (`bool`, *optional*, defaults to `False`): Whether it is also run with dropout in the encoder.
        pretraining (`dict`, *optional*): Options of a pretraining run, whose encoder the main run starts with.
    """

    name: str
    source: str
    grid: tuple[Options, ...]
    is_main: bool = False
    pretraining: Options | None = None


def _grid(option: str, *values: Any, **common: Any) -> tuple[Options, ...]:
    return tuple({**common, option: value} for value in values)


# As in Optimus: half of the training without the KL, then a quarter in which the KL's weight rises to 1.
_ANNEALING = {"posterior": "gaussian", "beta_schedule": "linear", "beta_zero_ratio": 0.5, "beta_increase_ratio": 0.25}
REMEDIES = (
    Remedy(
        "gaussian", "Kingma & Welling, ICLR 2014", _grid(LEARNING_RATE_FACTOR, 0.5, 1, 2, posterior="gaussian"), True
    ),
    Remedy(
        "linear annealing",
        "Bowman et al., CoNLL 2016",
        _grid(
            "beta_increase_ratio", 0.25, 0.5, 0.9, posterior="gaussian", beta_schedule="linear", beta_zero_ratio=0.0
        ),
    ),
    Remedy(
        "cyclical annealing",
        "Fu et al., NAACL 2019",
        _grid(
            "beta_num_cycles",
            2,
            4,
            8,
            posterior="gaussian",
            beta_schedule="cyclical",
            beta_zero_ratio=0.0,
            beta_increase_ratio=0.5,
        ),
    ),
    Remedy(
        "free bits",
        "Kingma et al., NeurIPS 2016",
        _grid("free_bits", 0.125, 0.25, 0.5, posterior="gaussian"),
        True,
    ),
    Remedy(
        "annealing, free bits",
        "Optimus: Li et al., EMNLP 2020",
        _grid("free_bits", 0.1, 0.25, 0.5, **_ANNEALING, free_bits_mode="optimus"),
        True,
    ),
    Remedy(
        "autoencoder first",
        "Li et al., EMNLP 2019",
        _grid("free_bits", 0.125, 0.25, 0.5, posterior="gaussian", beta_schedule="linear", beta_zero_ratio=0.0),
        pretraining={"posterior": "gaussian", "beta": 0.0},
    ),
    Remedy("delta", "Razavi et al., ICLR 2019", _grid("rate", 2, 4, 8, posterior="delta")),
    Remedy("du", "Shen et al., IJCAI 2021", _grid("bn_gamma", 0.5, 0.7, 0.9, posterior="du")),
    Remedy(
        "density gap",
        "Zhang et al., NeurIPS 2022",
        _grid("beta", 0.5, 1.0, 2.0, posterior="gaussian", regularizer="density_gap"),
    ),
    Remedy("ln", "the variant Su 2020 argues against", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="ln")),
    Remedy("bn_mean", "Zhu et al., ACL 2020", _grid("bn_gamma", 0.5, 0.7, 0.9, posterior="bn_mean"), True),
    Remedy("bn", "Su 2020", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="bn"), True),
    Remedy("bn_rms", "this library", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="bn_rms"), True),
    Remedy("bn_rms, rate", "this library", _grid("rate", 2, 4, 8, posterior="bn_rms"), True),
)
# The remedies of batch normalisation, which are compared with all others.
OURS = ("bn_mean", "bn", "bn_rms", "bn_rms, rate")


def remedy_of(name: str) -> Remedy:
    """The remedy with this name."""
    return next(remedy for remedy in REMEDIES if remedy.name == name)
