# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Posterior heads: from a batch of feature vectors to diagonal Gaussians whose KL has a floor.

The heads need no language model. A VAE of images or of tables can use one behind its encoder, too:

```python
>>> import torch
>>> from hf_bnvae import BatchNormRMSPosterior

>>> head = BatchNormRMSPosterior(input_size=64, latent_size=8, rate=6)
>>> posterior = head(torch.randn(128, 64))
>>> latents = posterior.sample()  # (128, 8)
>>> bool(posterior.kl().sum(-1).mean() >= head.kl_floor() - 1e-4)
True
```

A head computes in float32, also under autocast, and in float64 if the head or its features are in float64.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import logging

from .batch_statistics_bnvae import (
    BatchRootMeanSquare,
    BatchStandardization,
    BatchStatistics,
    num_processes,
)
from .gaussian_bnvae import DiagonalGaussian
from .scales_bnvae import (
    DEFAULT_GAMMA,
    SCALE_SETTINGS,
    build_scale,
    delta_of_settings,
    gamma_of_settings,
    whole_parameter,
)

logger = logging.get_logger(__name__)

SMALL_BATCH = 8


class PromisedMoments(NamedTuple):
    """The moments of the aggregated posterior that a head promises. A moment has the shape `(latent_size,)`, or is
    `None` if the head does not promise it.

    `shift` is E[mu], `mean_square` is E[(mu - shift)^2], `variance` is E[sigma^2], with expectations over the data.
    """

    shift: torch.Tensor | None = None
    mean_square: torch.Tensor | None = None
    variance: torch.Tensor | None = None


class PosteriorHead(nn.Module):
    """Base of all posterior heads: two linear maps, from features to the two pre-activations of each dimension.

    Class attributes:
        uses_batch (`bool`): Whether the result depends on the statistics of the batch. Such a head refuses a training
            batch of one sentence, and logs a warning below eight.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, d.
        mean_bias, scale_bias (`bool`): Whether the maps have a bias. A batch norm that centres would cancel it.
    """

    uses_batch = True

    def __init__(self, input_size: int, latent_size: int, mean_bias: bool, scale_bias: bool) -> None:
        super().__init__()
        if latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, got {latent_size}.")
        self.latent_size = latent_size
        self.mean_projection = nn.Linear(input_size, latent_size, bias=mean_bias)
        self.scale_projection = nn.Linear(input_size, latent_size, bias=scale_bias)

    def forward(self, features: torch.Tensor) -> DiagonalGaussian:
        """
        Args:
            features (`torch.Tensor` of shape `(batch, input_size)`): One vector for each sentence of the posterior
                batch. The sentences of a posterior batch share statistics.

        Returns:
            [`DiagonalGaussian`]: The posteriors, in float32, or in float64 if features or weights are.

        Raises:
            ValueError: if the head uses the batch, under `nn.DataParallel`, and in training for one sentence.
        """
        if self.uses_batch and not torch.compiler.is_exporting():
            self._check_batch(features.shape[0])
        dtype = torch.promote_types(self.dtype, features.dtype)
        dtype = torch.float64 if dtype == torch.float64 else torch.float32
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(dtype)
            mean = _linear(self.mean_projection, features)
            scale = _linear(self.scale_projection, features)
            return self.normalise(mean, scale)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the head's weights; float32 if they are quantised."""
        return _dtype_of(self.mean_projection)

    @property
    def device(self) -> torch.device:
        """Where the head computes."""
        return device_of(self.mean_projection)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        """From the two pre-activations, each `(batch, latent_size)`, to the posteriors."""
        raise NotImplementedError

    def kl_floor(self) -> torch.Tensor:
        """The least mean KL of a training batch at the current parameters, in nats per sentence (0-dimensional).

        Heads that use the batch hold it only if the sentences of the batch differ: in each dimension the
        pre-activations must vary by more than their rounding. Equal sentences have no variance to normalise."""
        return self.kl_floor_per_dimension().sum()

    def kl_floor_per_dimension(self) -> torch.Tensor:
        """What each dimension adds to the floor, in nats, `(latent_size,)`. In a training batch of different sentences
        each dimension stays above its part. The exception is `ln`, which normalises over the dimensions of a sentence:
        it promises only the sum of the parts."""
        raise NotImplementedError

    def promised_moments(self) -> PromisedMoments:
        """The moments of the aggregated posterior that this head promises at the current parameters."""
        raise NotImplementedError

    def fingerprint(self) -> torch.Tensor:
        """Numbers that tell one training state of the head from another: both maps, each applied to one constant
        vector. `(2, latent_size)`, in float32 on the CPU. If weights are sharded (FSDP), all processes must make this
        call."""
        size = self.mean_projection.in_features
        vector = torch.cos(torch.arange(size, dtype=torch.float32))
        return torch.stack([_apply_weight(m, vector) for m in (self.mean_projection, self.scale_projection)])

    def scale_and_shift_parameters(self) -> list[nn.Parameter]:
        """The parameters outside the two linear maps. They take no weight decay, which would pull them to an
        arbitrary value."""
        projections = {id(p) for m in (self.mean_projection, self.scale_projection) for p in m.parameters()}
        return [p for p in self.parameters() if id(p) not in projections]

    @property
    def is_estimated(self) -> bool:
        """Whether evaluation has statistics to use. Without batch statistics it needs none."""
        return all(m.is_estimated for m in self.modules() if isinstance(m, BatchStatistics))

    def require_estimated(self) -> None:
        """Refuse to evaluate with running statistics that were never estimated.

        Raises:
            ValueError: with the steps that estimate them.
        """
        if not self.is_estimated:
            raise ValueError(
                "The posterior's running statistics were never estimated, so its latents, and every figure of an "
                "evaluation, would be arbitrary. Train the model, or call hf_bnvae.recalibrate_posterior(model, "
                "batches) with training batches."
            )

    def _check_batch(self, batch_size: int) -> None:
        if getattr(self, "_is_replica", False):
            raise ValueError(
                "This model runs under nn.DataParallel, which splits the batch among the GPUs of one process, so that "
                "each would normalise by the statistics of its part. Start one process per GPU instead: "
                "torchrun --nproc_per_node=<GPUs> <script>, or let one GPU be seen (CUDA_VISIBLE_DEVICES=0)."
            )
        if self.training:
            accumulating = any(m._population is not None for m in self.modules() if isinstance(m, BatchStatistics))
            batch_size *= num_processes()
            if batch_size == 1 and not accumulating:
                raise ValueError(
                    "A batch-normalised posterior needs at least two sentences in a training batch, got one: its "
                    "variance would be 0. Use a larger batch (32 or more; chunk_size=1 with checkpoint_chunks=True "
                    "holds one sentence of it in memory at once), drop the last incomplete batch of an epoch, or take "
                    "posterior='ln' or 'gaussian', which need no batch."
                )
            if batch_size < SMALL_BATCH and not accumulating:
                logger.warning_once(
                    f"A training batch has only {batch_size} sentences. The posterior is normalised by the statistics "
                    f"of its batch, which say little below {SMALL_BATCH}; at two, every mean is +gamma or -gamma and "
                    "has no gradient. Use a batch of 32 or more."
                )
        elif not self.is_estimated:
            logger.warning_once(
                "The posterior's running statistics were never estimated (no training step was made with this head), "
                "so in evaluation its means and variances are arbitrary. Train the model, or call "
                "hf_bnvae.recalibrate_posterior(model, batches) first."
            )

    def extra_repr(self) -> str:
        return f"latent_size={self.latent_size}"


class _ScaledPosterior(PosteriorHead):
    """A head whose two second moments add up to 1 in each dimension: gamma_mu^2 + gamma_sigma^2 = 1."""

    scale: nn.Module

    def kl_floor_per_dimension(self) -> torch.Tensor:
        """-1/2 log gamma_sigma,j^2: by Jensen E[-log sigma^2] >= -log E[sigma^2], and the second moments add up to 1.
        Su's bound, 1/2 gamma_mu,j^2, is weaker."""
        return -0.5 * self._log_gamma_sigma_squared()

    def promised_moments(self) -> PromisedMoments:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared().detach()
        gamma_mu_squared = -torch.expm1(log_gamma_sigma_squared)
        return PromisedMoments(torch.zeros_like(gamma_mu_squared), gamma_mu_squared, log_gamma_sigma_squared.exp())

    def _log_gamma_sigma_squared(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        if dtype is None:
            dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        return self.scale(dtype).to(self.device).expand(self.latent_size)


def _gamma_mu(log_gamma_sigma_squared: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(-torch.expm1(log_gamma_sigma_squared))


class _BatchScaledPosterior(_ScaledPosterior):
    """The constructor of `bn` and `bn_rms`, which differ in how they scale the standard deviation.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau (`float`, *optional*): Instead of the rate, the least second moment of the means, in (0, 1).
        rate (`float`, *optional*, defaults to 4): The floor in nats per sentence.
        theta_init (`float`, *optional*, defaults to 0): With tau, where theta starts.
    """

    scale_bias: bool

    def __init__(
        self,
        input_size: int,
        latent_size: int,
        tau: float | None = None,
        rate: float | None = None,
        theta_init: float | None = None,
    ) -> None:
        super().__init__(input_size, latent_size, mean_bias=False, scale_bias=self.scale_bias)
        self.scale = build_scale(latent_size, tau, rate, theta_init)
        self.mean_norm = BatchStandardization(latent_size)
        self.scale_norm = self._build_scale_norm()

    def _build_scale_norm(self) -> BatchStatistics:
        raise NotImplementedError


class BatchNormPosterior(_BatchScaledPosterior):
    """`bn`: mean and *signed* standard deviation are batch-normalised, then scaled by gamma_mu and gamma_sigma.

    Su 2020 (kexue.fm/archives/7381; arXiv 2004.12585v2). Over a training batch E[mu] = 0 and E[mu^2 + sigma^2] = 1 in
    each dimension, to rounding.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau (`float`, *optional*): Instead of the rate, the least second moment of the means, in (0, 1).
        rate (`float`, *optional*, defaults to 4): The floor in nats per sentence.
        theta_init (`float`, *optional*, defaults to 0): With tau, where theta starts.
    """

    scale_bias = False

    def _build_scale_norm(self) -> BatchStatistics:
        # Where deviations did not vary in training, the promised variance is all that is known of them.
        return BatchStandardization(self.latent_size, constant=1.0)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared(mean.dtype)
        # The logarithm needs a guard where the standard deviation crosses 0. The least normal number leaves the second
        # moment, and with it the floor, as they are. A larger guard would not.
        tiny = torch.finfo(mean.dtype).tiny
        log_square = self.scale_norm(scale).square().clamp_min(tiny).log()
        return DiagonalGaussian(
            self.mean_norm(mean) * _gamma_mu(log_gamma_sigma_squared), log_gamma_sigma_squared + log_square
        )


class BatchNormRMSPosterior(_BatchScaledPosterior):
    """`bn_rms`: the mean as in `bn`; the standard deviation softplus(.) > 0 is scaled by its batch root mean square.

    This head is ours. Su's condition is on second moments, so the standard deviation need not be centred. Without
    centring it stays positive, meets E[mu^2 + sigma^2] = 1 exactly, and starts near the floor. The mean KL over a
    batch is -1/2 sum_j E[log sigma_j^2].

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau (`float`, *optional*): Instead of the rate, the least second moment of the means, in (0, 1).
        rate (`float`, *optional*, defaults to 4): The floor in nats per sentence.
        theta_init (`float`, *optional*, defaults to 0): With tau, where theta starts.
    """

    scale_bias = True

    def _build_scale_norm(self) -> BatchStatistics:
        return BatchRootMeanSquare(self.latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared(mean.dtype)
        logvar = log_gamma_sigma_squared + 2 * self.scale_norm(_log_softplus(scale))
        return DiagonalGaussian(self.mean_norm(mean) * _gamma_mu(log_gamma_sigma_squared), logvar)


def _log_softplus(values: torch.Tensor) -> torch.Tensor:
    """log(softplus(x)). Where softplus would underflow, the series log(log(1 + e^x)) = x - e^x / 2 + O(e^2x) replaces
    it."""
    is_small = values < -15
    series = values - 0.5 * values.clamp_max(-15).exp()
    return torch.where(is_small, series, F.softplus(values.clamp_min(-15)).log())


class BatchNormMeanPosterior(PosteriorHead):
    """`bn_mean`: the mean is batch-normalised with a fixed gamma and a trainable shift beta; the variance is free.

    Zhu et al., "A Batch Normalized Inference Network Keeps the KL Vanishing Away", ACL 2020. In each dimension
    E[mu] = beta and Var[mu] = gamma^2 over a training batch.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, d.
        gamma (`float`, *optional*, defaults to 0.6): Standard deviation of the means, in (0, 1).
        rate (`float`, *optional*): Instead of gamma, the floor in nats per sentence, below d/2: gamma = sqrt(2R/d).
    """

    def __init__(
        self, input_size: int, latent_size: int, gamma: float = DEFAULT_GAMMA["bn_mean"], rate: float | None = None
    ) -> None:
        super().__init__(input_size, latent_size, mean_bias=False, scale_bias=True)
        self.gamma = gamma_of_settings(latent_size, gamma, rate)
        self.shift = nn.Parameter(torch.zeros(latent_size))
        self.mean_norm = BatchStandardization(latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean_norm(mean) * self.gamma + self.shift.to(mean.dtype), scale)

    def kl_floor_per_dimension(self) -> torch.Tensor:
        """1/2 (gamma^2 + beta_j^2), since the variance's part of the KL is never negative (Zhu et al., eq. 7)."""
        shift = whole_parameter(self.shift)
        return 0.5 * (self.gamma**2 + shift.to(torch.promote_types(shift.dtype, torch.float32)).square())

    def promised_moments(self) -> PromisedMoments:
        shift = whole_parameter(self.shift).detach()
        return PromisedMoments(shift, torch.full_like(shift, self.gamma**2), None)


class DiversityUncertaintyPosterior(PosteriorHead):
    """`du`: a remedy to compare with. The mean is batch-normalised with a trainable scale and a trainable shift. The
    root mean square of the scale over the dimensions is always gamma. The variance has a floor, and training drops the
    part above the floor at random.

    DU-VAE: Shen et al., "Regularizing Variational Autoencoder with Diversity and Uncertainty Awareness", IJCAI 2021.
    sigma^2 = 1 / (2 pi e) + dropout(exp(.)), with p = 0.2 in training. 1 / (2 pi e) is the variance of a Gaussian with
    entropy 0.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, d.
        gamma (`float`, *optional*, defaults to 0.5): Root mean square of the means' standard deviations, in (0, 1).
        rate (`float`, *optional*): Instead of gamma, the floor in nats per sentence, below d/2: gamma = sqrt(2R/d).
    """

    least_variance = 1 / (2 * math.pi * math.e)
    variance_dropout = 0.2

    def __init__(
        self, input_size: int, latent_size: int, gamma: float = DEFAULT_GAMMA["du"], rate: float | None = None
    ) -> None:
        super().__init__(input_size, latent_size, mean_bias=False, scale_bias=True)
        self.gamma = gamma_of_settings(latent_size, gamma, rate)
        self.spread = nn.Parameter(torch.ones(latent_size))
        self.shift = nn.Parameter(torch.zeros(latent_size))
        self.mean_norm = BatchStandardization(latent_size)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        mean = self.mean_norm(mean) * self._gammas(mean.dtype) + self.shift.to(mean.dtype)
        # Nothing overflows in log space. Dropout sets a variance to 0, whose logarithm is -infinity.
        free = scale + F.dropout(torch.ones_like(scale), self.variance_dropout, self.training).log()
        return DiagonalGaussian(mean, torch.logaddexp(free, torch.full_like(free, math.log(self.least_variance))))

    def _gammas(self, dtype: torch.dtype) -> torch.Tensor:
        """The standard deviation of the means in each dimension, `(latent_size,)`."""
        spread = whole_parameter(self.spread).to(dtype)
        return self.gamma * spread * spread.square().mean().rsqrt()

    def kl_floor_per_dimension(self) -> torch.Tensor:
        """1/2 (gamma_j^2 + beta_j^2), where the gamma_j^2 add up to d gamma^2. The variance's part of the KL is never
        negative."""
        dtype = torch.promote_types(self.shift.dtype, torch.float32)
        return 0.5 * (self._gammas(dtype).square() + whole_parameter(self.shift).to(dtype).square())

    def promised_moments(self) -> PromisedMoments:
        shift = whole_parameter(self.shift).detach()
        return PromisedMoments(shift, self._gammas(shift.dtype).detach().square(), None)


class DeltaPosterior(PosteriorHead):
    """`delta`: a remedy to compare with. Mean and variance have only values with which the KL is at least delta nats,
    in every dimension of every sentence.

    delta-VAE: Razavi et al., "Preventing Posterior Collapse with delta-VAEs", ICLR 2019. Let l < u be the solutions of
    log x - x + 1 + 2 delta = 0. sigma lies between sqrt(l) and sqrt(u), and mu^2 = 2 delta + 1 + log sigma^2 -
    sigma^2 + max(0, .). So the KL is delta + max(0, .) / 2. No mean is negative.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, d.
        rate (`float`, *optional*): The floor in nats per sentence, d delta; `None` means delta = 0.1.
    """

    uses_batch = False
    # A guard for the gradient of the square root, at an end of the variance's range with nothing added.
    least_square = 1e-8

    def __init__(self, input_size: int, latent_size: int, rate: float | None = None) -> None:
        super().__init__(input_size, latent_size, mean_bias=True, scale_bias=True)
        self.delta = delta_of_settings(latent_size, rate)
        least, greatest = _variances_of_kl(self.delta)
        self.least_std, self.greatest_std = math.sqrt(least), math.sqrt(greatest)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        std = self.least_std + (self.greatest_std - self.least_std) * torch.sigmoid(scale)
        logvar = 2 * std.log()
        square = 2 * self.delta + 1 + logvar - std.square() + mean.clamp_min(0)
        return DiagonalGaussian(square.clamp_min(self.least_square).sqrt(), logvar)

    def kl_floor_per_dimension(self) -> torch.Tensor:
        return torch.full((self.latent_size,), self.delta, device=self.device)

    def promised_moments(self) -> PromisedMoments:
        return PromisedMoments()


def _variances_of_kl(delta: float) -> tuple[float, float]:
    """The two variances x with which a Gaussian of mean 0 has a KL of delta > 0 nats: log x - x + 1 + 2 delta = 0."""
    # The function is concave. So Newton's method, from a point beyond a root, approaches it from that side only.
    roots = []
    for x in (math.exp(-1 - 2 * delta), 1 + 2 * math.sqrt(delta) + 2 * delta):
        for _ in range(100):
            if x == 1:  # both roots are 1, to rounding
                break
            x -= (math.log(x) - x + 1 + 2 * delta) / (1 / x - 1)
        roots.append(x)
    return roots[0], roots[1]


class LayerNormPosterior(_ScaledPosterior):
    """`ln`: mean and signed standard deviation are standardised over the latent dimensions within each sentence.

    Su argues against this variant (kexue.fm/archives/7381). It needs no batch and holds the floor for each single
    sentence, but it leaves each dimension's aggregated posterior free. All dimensions have one theta.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions, at least 2.
        tau (`float`, *optional*): Instead of the rate, the least second moment of the means, in (0, 1).
        rate (`float`, *optional*, defaults to 4): The floor in nats per sentence.
        theta_init (`float`, *optional*, defaults to 0): With tau, where theta starts.
    """

    uses_batch = False

    def __init__(
        self,
        input_size: int,
        latent_size: int,
        tau: float | None = None,
        rate: float | None = None,
        theta_init: float | None = None,
    ) -> None:
        super().__init__(input_size, latent_size, mean_bias=True, scale_bias=True)
        if latent_size == 1:
            raise ValueError("LayerNormPosterior needs latent_size >= 2, got 1: it normalises over the dimensions.")
        self.scale = build_scale(latent_size, tau, rate, theta_init, is_shared=True)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        log_gamma_sigma_squared = self._log_gamma_sigma_squared(mean.dtype)
        log_square = _standardise(scale).square().clamp_min(torch.finfo(scale.dtype).tiny).log()
        return DiagonalGaussian(
            _standardise(mean) * _gamma_mu(log_gamma_sigma_squared), log_gamma_sigma_squared + log_square
        )


class GaussianPosterior(PosteriorHead):
    """`gaussian`: mean and log variance are free (Kingma & Welling, 2014). This baseline collapses.

    Args:
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
    """

    uses_batch = False

    def __init__(self, input_size: int, latent_size: int) -> None:
        super().__init__(input_size, latent_size, mean_bias=True, scale_bias=True)

    def normalise(self, mean: torch.Tensor, scale: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(mean, scale)

    def kl_floor_per_dimension(self) -> torch.Tensor:
        return torch.zeros(self.latent_size, device=self.device)

    def promised_moments(self) -> PromisedMoments:
        return PromisedMoments()


def _standardise(values: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 over the last dimension. The values are centred first: where their mean is far larger than
    their standard deviation, `layer_norm` alone rounds so much that the floor is lost."""
    centred = values - values.mean(-1, keepdim=True)
    return F.layer_norm(centred, centred.shape[-1:], eps=torch.finfo(values.dtype).tiny)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is what its weight and its bias say: no quantised layer, and none whose weights a hook loads."""
    return type(layer) is nn.Linear and layer.weight.is_floating_point() and not layer.weight.is_meta


def _linear(layer: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """The layer's result, computed in the features' dtype where the layer is plain. Others know how to compute."""
    if not _is_plain(layer):
        return layer(features.to(_dtype_of(layer))).to(features.dtype)
    bias = None if layer.bias is None else layer.bias.to(features.dtype)
    return F.linear(features, layer.weight.to(features.dtype), bias)


def _apply_weight(layer: nn.Module, vector: torch.Tensor) -> torch.Tensor:
    """The weight times a vector, in float32 on the CPU."""
    if _is_plain(layer):
        return whole_parameter(layer.weight).detach().float().cpu() @ vector
    with torch.no_grad():
        rows = torch.stack([vector, torch.zeros_like(vector)]).to(device_of(layer), _dtype_of(layer))
        weighted, bias = layer(rows).float().cpu()
    return weighted - bias


def _dtype_of(layer: nn.Module) -> torch.dtype:
    weight = _weight_of(layer)
    return weight.dtype if weight.is_floating_point() else torch.float32


def _weight_of(layer: nn.Module) -> torch.Tensor:
    # Dynamically quantised layers of torch have a method.
    return layer.weight() if callable(layer.weight) else layer.weight


def device_of(layer: nn.Module) -> torch.device:
    """The device on which a linear layer computes."""
    device = _weight_of(layer).device
    return execution_device(layer, device) if device.type == "meta" else device


def execution_device(module: nn.Module, otherwise: torch.device) -> torch.device:
    """Where a module computes whose weights Accelerate has put away, to main memory or to a disk. Its hook loads them.
    Without a hook it is `otherwise`."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for own in getattr(hook, "hooks", [hook]):
            device = getattr(own, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return otherwise


POSTERIOR_HEADS: dict[str, type[PosteriorHead]] = {
    "bn": BatchNormPosterior,
    "bn_rms": BatchNormRMSPosterior,
    "bn_mean": BatchNormMeanPosterior,
    "ln": LayerNormPosterior,
    "du": DiversityUncertaintyPosterior,
    "delta": DeltaPosterior,
    "gaussian": GaussianPosterior,
}


def build_posterior_head(
    posterior: str,
    input_size: int,
    latent_size: int,
    tau: float | None = None,
    gamma: float | None = None,
    rate: float | None = None,
    theta_init: float | None = None,
) -> PosteriorHead:
    """The head of that name.

    Args:
        posterior (`str`): A key of `POSTERIOR_HEADS`.
        input_size (`int`): Width of the features.
        latent_size (`int`): Number of latent dimensions.
        tau, gamma, rate, theta_init (`float`, *optional*): Scale settings. A setting that is `None` has the head's
            default. A setting that the head does not take has no effect.
    """
    head_class = POSTERIOR_HEADS[posterior]
    scales = {"tau": tau, "gamma": gamma, "rate": rate, "theta_init": theta_init}
    given = {name: scales[name] for name in SCALE_SETTINGS[posterior] if scales[name] is not None}
    return head_class(input_size, latent_size, **given)


__all__ = [
    "POSTERIOR_HEADS",
    "BatchNormMeanPosterior",
    "BatchNormPosterior",
    "BatchNormRMSPosterior",
    "DeltaPosterior",
    "DiversityUncertaintyPosterior",
    "GaussianPosterior",
    "LayerNormPosterior",
    "PosteriorHead",
    "PromisedMoments",
    "build_posterior_head",
]
