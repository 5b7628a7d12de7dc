# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How far the posteriors of a batch stay from the prior: the scale settings of each posterior head, their ranges and
defaults, the floor that they guarantee, and the modules that split the prior's unit second moment.

Configuration and heads take these rules from here.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

# The scale settings that each posterior head takes.
SCALE_SETTINGS: dict[str, tuple[str, ...]] = {
    "bn": ("tau", "theta_init", "rate"),
    "bn_rms": ("tau", "theta_init", "rate"),
    "bn_mean": ("gamma", "rate"),
    "ln": ("tau", "theta_init", "rate"),
    "du": ("gamma", "rate"),
    "delta": ("rate",),
    "gaussian": (),
}

# Nats for each sentence, in heads that split the second moment between mean and standard deviation.
DEFAULT_RATE = 4.0
# Zhu et al. 2020; Shen et al. 2021.
DEFAULT_GAMMA = {"bn_mean": 0.6, "du": 0.5}
# Nats for each dimension.
DEFAULT_DELTA = 0.1
# Nats for each dimension, the range of a floor in single precision. Below it, rounding hides the floor: at 1e-7 the KL
# is off by a sixth. Above it, 1 / sigma^2 overflows; at 40 nats it is e^80.
LEAST_NATS, MOST_NATS = 1e-6, 40


# --------------------------------------------------------------------------------------------------------------------
# Ranges, defaults and the guaranteed floor
# --------------------------------------------------------------------------------------------------------------------


def default_scale(posterior: str, latent_size: int) -> dict[str, float]:
    """The scale of a head for which nothing is given, by the name of its setting; empty for `gaussian`."""
    if posterior in DEFAULT_GAMMA:
        return {"gamma": DEFAULT_GAMMA[posterior]}
    if posterior == "delta":
        return {"rate": DEFAULT_DELTA * latent_size}
    return {"rate": DEFAULT_RATE} if SCALE_SETTINGS[posterior] else {}


def guaranteed_kl_floor(
    latent_size: int, tau: float | None = None, gamma: float | None = None, rate: float | None = None
) -> float:
    """
    The mean KL of a training batch, in nats per sentence, below which no learning can bring it. The sentences of the
    batch must differ.

    With gamma_mu^2 + gamma_sigma^2 = 1, Jensen's inequality gives mean KL >= -1/2 sum_j log gamma_sigma,j^2, and tau
    means gamma_sigma^2 <= 1 - tau. With gamma, mean KL >= 1/2 sum_j (gamma^2 + beta_j^2).

    Args:
        latent_size (`int`): Number of latent dimensions, d.
        tau, gamma, rate (`float`, *optional*): The scale settings of a head, of which one is given, or none for a
            head without a floor.
    """
    if rate is not None:
        return float(rate)
    if gamma is not None:
        return 0.5 * latent_size * gamma**2
    return 0.0 if tau is None else -0.5 * latent_size * math.log1p(-tau)


def gamma_of_rate(rate: float, latent_size: int) -> float:
    """The standard deviation of the means in each dimension with which `rate` nats per sentence are the floor."""
    return (2 * rate / latent_size) ** 0.5


def _require_visible(nats: float, setting: str) -> None:
    """Refuse a floor of a dimension that rounding would hide."""
    if nats < LEAST_NATS * (1 - 1e-9):
        raise ValueError(
            f"{setting} means a floor of {nats:g} nats for each dimension. Single precision can hold {LEAST_NATS:g} "
            f"to {MOST_NATS} nats."
        )


def check_tau(tau: float, name: str = "tau") -> None:
    if not 0 < tau < 1:
        raise ValueError(
            f"{name} must lie strictly between 0 and 1, got {tau}: at 0 the KL has no floor, at 1 no variance is left "
            "for the posterior."
        )
    _require_visible(guaranteed_kl_floor(1, tau=tau), f"{name}={tau}")


def check_theta_init(theta_init: float, name: str = "theta_init") -> None:
    if not abs(theta_init) <= 2 * MOST_NATS:
        raise ValueError(
            f"{name} must be a finite number between -{2 * MOST_NATS} and {2 * MOST_NATS}, got {theta_init}."
        )


def check_gamma(gamma: float, name: str = "gamma", rate: float | None = None) -> None:
    if not 0 < gamma < 1:
        raise ValueError(
            f"{name} must lie strictly between 0 and 1, got {gamma}{'' if rate is None else f' from rate={rate}'}: at "
            "0 the KL has no floor, and from 1 on gamma^2 + E[sigma^2] > 1. Such an aggregated posterior is wider "
            "than the prior, so that a sample of the prior decodes from a posterior hole."
        )
    _require_visible(guaranteed_kl_floor(1, gamma=gamma), f"{name}={gamma}")


def check_rate(rate: float, latent_size: int) -> None:
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"rate must be a positive number of nats per sentence, got {rate}.")
    # Another check refuses a latent of no dimensions.
    if latent_size > 0 and not LEAST_NATS <= rate / latent_size <= MOST_NATS:
        raise ValueError(
            f"rate={rate} is {rate / latent_size:g} nats for each of {latent_size} dimensions. Single precision can "
            f"hold {LEAST_NATS:g} to {MOST_NATS} nats, so rate must lie between {LEAST_NATS * latent_size:g} and "
            f"{MOST_NATS * latent_size}."
        )


def check_only_one(rate: float, others: Mapping[str, float | None]) -> None:
    """Refuse a rate beside another setting of the scale, by the names in `others`."""
    for name, value in others.items():
        if value is not None:
            raise ValueError(
                f"rate={rate} and {name}={value} both set the posterior's scale: give only one, and None for the "
                "other."
            )


def gamma_of_settings(latent_size: int, gamma: float, rate: float | None) -> float:
    """The gamma of a head that takes either of the two; a rate replaces gamma."""
    if rate is not None:
        check_rate(rate, latent_size)
        gamma = gamma_of_rate(rate, latent_size)
    check_gamma(gamma, rate=rate)
    return gamma


def delta_of_settings(latent_size: int, rate: float | None) -> float:
    """The KL of the delta head in each dimension, in nats."""
    if rate is None:
        return DEFAULT_DELTA
    check_rate(rate, latent_size)
    return rate / latent_size


# --------------------------------------------------------------------------------------------------------------------
# Modules: how the prior's unit second moment is split between the means and the variances
# --------------------------------------------------------------------------------------------------------------------


class TauScale(nn.Module):
    """Su's shared scale: gamma_sigma^2 = (1 - tau) sigmoid(-theta), gamma_mu^2 = 1 - gamma_sigma^2.

    (kexue.fm/archives/7381.) theta is trainable, one number for each dimension. Each dimension lies at least
    1/2 log(1 + e^theta) nats above the floor that tau sets.

    Args:
        size (`int`): Number of thetas.
        tau (`float`): In (0, 1).
        theta_init (`float`, *optional*, defaults to 0): Where theta starts.
    """

    def __init__(self, size: int, tau: float, theta_init: float = 0.0) -> None:
        super().__init__()
        check_tau(tau)
        check_theta_init(theta_init)
        self.log_remainder = math.log1p(-tau)
        self.theta_init = float(theta_init)
        self.theta = nn.Parameter(torch.full((size,), self.theta_init))

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """log gamma_sigma^2, `(size,)`."""
        return self.log_remainder + F.logsigmoid(-whole_parameter(self.theta).to(dtype))


class RateScale(nn.Module):
    """A rate of R nats per sentence, shared by the dimensions: R_j = R softmax(a)_j, gamma_sigma,j^2 = exp(-2 R_j),
    gamma_mu,j^2 = 1 - exp(-2 R_j).

    Su's constraint gamma_mu^2 + gamma_sigma^2 = 1 holds, and the floor is R whatever the model learns. The allocation
    a is trainable. It starts at 0, which gives each dimension an equal share.

    Args:
        size (`int`): Number of dimensions.
        rate (`float`): R > 0, in nats per sentence.
    """

    def __init__(self, size: int, rate: float) -> None:
        super().__init__()
        check_rate(rate, size)
        self.rate = float(rate)
        self.allocation = nn.Parameter(torch.zeros(size))

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """log gamma_sigma^2, `(size,)`."""
        # A share that underflows would give gamma_mu = sqrt(0), whose gradient is infinite.
        shares = torch.softmax(whole_parameter(self.allocation).to(dtype), 0).clamp_min(torch.finfo(dtype).tiny)
        return -2 * self.rate * shares


class ConstantScale(nn.Module):
    """A fixed gamma_sigma^2 = exp(-2 r), r nats for each dimension.

    Args:
        rate_per_dimension (`float`): r > 0, in nats.
    """

    def __init__(self, rate_per_dimension: float) -> None:
        super().__init__()
        check_rate(rate_per_dimension, 1)
        self.rate_per_dimension = float(rate_per_dimension)

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """log gamma_sigma^2, `(1,)`."""
        return torch.tensor([-2 * self.rate_per_dimension], dtype=dtype)


def build_scale(
    latent_size: int, tau: float | None, rate: float | None, theta_init: float | None, is_shared: bool = False
) -> nn.Module:
    """
    The scale of a head that splits the second moment.

    Args:
        latent_size (`int`): Number of latent dimensions.
        tau, rate (`float`, *optional*): One of the two; without either of them the default rate.
        theta_init (`float`, *optional*): With tau, where theta starts.
        is_shared (`bool`, *optional*, defaults to `False`): Whether all dimensions have one scale.
    """
    if tau is not None:
        if rate is not None:
            check_only_one(rate, {"tau": tau})
        return TauScale(1 if is_shared else latent_size, tau, theta_init or 0.0)
    if theta_init is not None:
        raise ValueError(f"theta_init={theta_init} says where the theta of tau starts: give tau.")
    rate = DEFAULT_RATE if rate is None else rate
    return ConstantScale(rate / latent_size) if is_shared else RateScale(latent_size, rate)


def whole_parameter(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter as a whole. FSDP leaves each process a part of it outside of the forward pass; this function gathers
    the parts of all processes."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter


__all__ = [
    "DEFAULT_GAMMA",
    "SCALE_SETTINGS",
    "ConstantScale",
    "RateScale",
    "TauScale",
    "build_scale",
    "check_gamma",
    "check_only_one",
    "check_rate",
    "check_tau",
    "check_theta_init",
    "default_scale",
    "delta_of_settings",
    "gamma_of_rate",
    "gamma_of_settings",
    "guaranteed_kl_floor",
    "whole_parameter",
]
