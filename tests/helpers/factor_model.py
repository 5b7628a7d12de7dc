"""A model whose likelihoods are known exactly."""

import torch
from torch.distributions import MultivariateNormal, Normal

from hf_bnvae import DiagonalGaussian


class FactorModel:
    """x = W z + b + noise in five dimensions, z in two; the columns of W are orthogonal, so that the true posterior
    has no covariances. log p(x), the posterior and the ELBO of any other are known exactly."""

    def __init__(self, count: int = 150) -> None:
        self.weights = torch.linalg.qr(torch.randn(5, 2).double()).Q * torch.tensor([2.0, 0.7])
        self.bias, self.noise = torch.randn(5).double(), 0.6
        covariance = self.weights @ self.weights.T + self.noise**2 * torch.eye(5).double()
        self.marginal = MultivariateNormal(self.bias, covariance)
        self.data = self.marginal.sample((count,))
        self.precision = 1 + self.weights.square().sum(0) / self.noise**2

    def marginal_under(self, prior: MultivariateNormal) -> MultivariateNormal:
        """p(x) with another prior of z."""
        covariance = self.weights @ prior.covariance_matrix @ self.weights.T + self.noise**2 * torch.eye(5).double()
        return MultivariateNormal(self.bias + self.weights @ prior.mean, covariance)

    def nll(self, latents: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return -Normal(latents @ self.weights.T + self.bias, self.noise).log_prob(self.data[rows]).sum(-1)

    def posterior(self, shift: float = 0.0, log_scale: float = 0.0) -> DiagonalGaussian:
        mean = (self.data - self.bias) @ self.weights / self.noise**2 / self.precision
        return DiagonalGaussian(mean + shift, (log_scale - self.precision.log()).expand_as(mean))

    def negative_elbo(self, posterior: DiagonalGaussian) -> torch.Tensor:
        spread = (self.weights.square() * posterior.logvar.exp()[:, None]).sum((1, 2)) / (2 * self.noise**2)
        return self.nll(posterior.mean, torch.arange(len(self.data))) + spread + posterior.kl().sum(-1)
