#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The posterior heads without any language model: a VAE of scikit-learn's 8x8 digits, in plain PyTorch.

Needs scikit-learn (`pip install -c constraints.txt -e '.[test]'`). Prints the verdict on the latent space, and the
held-out images' figures as a JSON line.
"""

import argparse
import json

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

from hf_bnvae import POSTERIOR_HEADS, DiagonalGaussian, build_posterior_head, population_statistics
from hf_bnvae.evaluation import corpus_figures, estimate_likelihood, judge, mutual_information
from hf_bnvae.utils.terminal import say

PIXELS, LEVELS = 64, 16


class DigitsVAE(nn.Module):
    """Two-layer encoder, posterior head, two-layer decoder; pixels are binomial with 16 trials."""

    def __init__(self, posterior: str, latent_size: int, rate: float | None, hidden_size: int = 128) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
        self.posterior = build_posterior_head(posterior, hidden_size, latent_size, rate=rate)
        self.decoder = nn.Sequential(nn.Linear(latent_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, PIXELS))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, DiagonalGaussian]:
        """-log p(x | z) in nats up to a constant, `(batch,)`, and the posteriors; `images` `(batch, 64)` in [0, 1]."""
        posterior = self.posterior(self.encoder(images))
        return self.nll(posterior.sample(), images), posterior

    def nll(self, latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """-log p(x | z) in nats up to a constant, `(batch,)`."""
        return binomial_nll(self.decoder(latents), images)


def binomial_nll(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return LEVELS * F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posterior", choices=list(POSTERIOR_HEADS), default="bn_rms")
    parser.add_argument("--latent_size", type=int, default=8)
    parser.add_argument("--rate", type=float, help="The KL floor in nats per image.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    images = torch.tensor(load_digits().data / LEVELS, dtype=torch.float32)
    train, held_out = (torch.as_tensor(part) for part in train_test_split(images, test_size=297, random_state=0))
    model = DigitsVAE(args.posterior, args.latent_size, args.rate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(args.epochs):
        for batch in train[torch.randperm(len(train))].split(100):
            reconstruction, posterior = model(batch)
            loss = (reconstruction + posterior.kl().sum(-1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():
        # The statistics that evaluation uses: those of the whole training set, with the final weights.
        with population_statistics(model.posterior):
            model.posterior(model.encoder(train))
        model.eval()
        posterior = model.posterior(model.encoder(held_out))
        latents = posterior.sample()
        reconstruction = model.nll(latents, held_out)
        likelihood = estimate_likelihood(lambda z, rows: model.nll(z, held_out[rows]), posterior)
        # Each pixel predicted by its mean over the training images.
        frequencies = binomial_nll(train.mean(0).clamp(1e-3, 1 - 1e-3).logit().expand_as(held_out), held_out)
        figures = corpus_figures(reconstruction, posterior.kl(), posterior.mean, posterior.logvar, model.posterior)
        figures |= {
            "mutual_information": mutual_information(posterior).mutual_information,
            "iw_nll": likelihood.iw_nll.mean().item(),
            "decoder_information": likelihood.decoder_information.mean().item(),
            "latent_gain": (model.nll(latents.roll(1, 0), held_out) - reconstruction).mean().item(),
            "frequency_nll": frequencies.mean().item(),
        }
    verdict = judge(figures, data="images")
    say(verdict)
    say(json.dumps(figures | {"verdict": verdict.name}))


if __name__ == "__main__":
    main()
