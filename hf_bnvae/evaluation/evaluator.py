# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""One call on a model and a data set gives every figure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from tqdm.auto import tqdm

from ..calibration import encoder_inputs, preserved_modes
from ..modeling_bnvae import BNVAEModel
from ..posterior_bnvae import DiagonalGaussian
from ..processing_bnvae import BNVAEProcessor
from .aggregate import corpus_figures
from .diagnosis import diagnose
from .importance import importance_weighted_nll
from .information import mutual_information
from .text import reconstruction_bleu

GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "return_dict_in_generate": False}


@dataclass(frozen=True)
class EvaluationResult:
    """
    The figures of a corpus under a model; those in nats are per sentence.

    Args:
        num_sentences (`int`): N.
        reconstruction_nll (`float`): -log p(x | z), nats, one sample of z for each sentence.
        kl (`float`): Mean KL of the posteriors from the prior, nats.
        kl_floor (`float`): The least mean KL of a training batch at the model's parameters, nats.
        elbo (`float`): -(reconstruction_nll + kl), nats.
        iw_nll (`float`): Importance-weighted -log p(x), nats, over the first `iw_nll_num_sentences` sentences.
        iw_nll_error (`float`): Its standard error over those sentences, nats.
        iw_nll_num_sentences (`int`): How many sentences those are.
        iw_nll_num_samples (`int`): Importance samples for each.
        mutual_information (`float`): Of sentence and latent under the aggregated posterior, nats.
        mutual_information_error (`float`): Its Monte-Carlo standard error, nats.
        log_num_sentences (`float`): log N, which that estimate cannot exceed, nats.
        marginal_kl (`float`): KL of the aggregated posterior from the prior, nats.
        active_units (`int`): Dimensions with Var[mu] >= 0.01.
        latent_size (`int`): Number of dimensions.
        aggregate_mean (`float`): Root mean square over dimensions of E[mu].
        aggregate_second_moment (`float`): Mean over dimensions of E[mu^2 + sigma^2].
        mean_moment_ratio, variance_moment_ratio (`float`, *optional*): E[(mu - shift)^2] and E[sigma^2] over what
            the head promises; `None` where it promises nothing.
        reconstruction_bleu (`float`, *optional*): BLEU of what is decoded greedily from the posteriors' modes, from 0
            to 100; see [`~evaluation.reconstruction_bleu`]. `None` if no processor was given.
    """

    num_sentences: int
    reconstruction_nll: float
    kl: float
    kl_floor: float
    elbo: float
    iw_nll: float
    iw_nll_error: float
    iw_nll_num_sentences: int
    iw_nll_num_samples: int
    mutual_information: float
    mutual_information_error: float
    log_num_sentences: float
    marginal_kl: float
    active_units: int
    latent_size: int
    aggregate_mean: float
    aggregate_second_moment: float
    mean_moment_ratio: float | None = None
    variance_moment_ratio: float | None = None
    reconstruction_bleu: float | None = None

    @property
    def diagnosis(self) -> str | None:
        """What is wrong with the latent space, `None` where it is alive."""
        return diagnose({k: v for k, v in asdict(self).items() if v is not None})

    def to_metrics(self, prefix: str = "eval") -> dict[str, float]:
        """The figures under the names that `Trainer` would give them, `eval_kl` and so on; those that are `None` are
        left out."""
        return {f"{prefix}_{name}": value for name, value in asdict(self).items() if value is not None}


@torch.no_grad()
def evaluate_model(
    model: BNVAEModel,
    batches: Iterable[Mapping[str, torch.Tensor]],
    processor: BNVAEProcessor | None = None,
    num_importance_samples: int = 100,
    max_importance_sentences: int = 500,
    seed: int = 0,
    show_progress: bool = True,
) -> EvaluationResult:
    """
    Every figure of a corpus.

    Args:
        model ([`BNVAEModel`]): The model. It is put into evaluation mode, and left as it was.
        batches (iterable of mappings): `input_ids`, `attention_mask` and `labels` of the corpus' sentences. How
            they are divided changes no figure but for the noise of the samples.
        processor ([`BNVAEProcessor`], *optional*): The model's processor. With it the sentences are reconstructed as
            texts, too, and their BLEU is measured.
        num_importance_samples (`int`, *optional*, defaults to 100): Samples for each sentence's log p(x).
        max_importance_sentences (`int`, *optional*, defaults to 500): Of how many sentences, from the first on. This
            is by far the most expensive figure: one pass of the decoder for each sample.
        seed (`int`, *optional*, defaults to 0): Seed of all noise; the global random state is left alone.
        show_progress (`bool`, *optional*, defaults to `True`): Whether to draw a progress bar.

    Returns:
        [`EvaluationResult`]

    Raises:
        ValueError: if the corpus has fewer than two sentences, or the posterior's running statistics were never
            estimated.
    """
    if num_importance_samples < 1 or max_importance_sentences < 1:
        raise ValueError(
            "num_importance_samples and max_importance_sentences must be at least 1, got "
            f"{num_importance_samples} and {max_importance_sentences}."
        )
    require_estimated_statistics(model)
    generator = torch.Generator().manual_seed(seed)
    device = model.posterior.mean_projection.weight.device
    collected: dict[str, list[torch.Tensor]] = {}
    iw_nll: list[torch.Tensor] = []
    texts: list[str] = []
    reconstructions: list[str] = []
    with preserved_modes(model):
        model.eval()
        for batch in tqdm(batches, desc="Evaluating", disable=not show_progress, leave=False):
            batch = {name: values.to(device) for name, values in batch.items()}
            posterior = model.encode(**encoder_inputs(batch))
            # Drawn on the CPU, so that the figures are the same on every device.
            noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
            nll = model(latents=posterior.sample(noise), labels=batch["labels"]).reconstruction_nll
            values = {
                "reconstruction_nll": nll,
                "kl": posterior.kl(),
                "mean": posterior.mean,
                "logvar": posterior.logvar,
            }
            for name, value in values.items():
                collected.setdefault(name, []).append(value)
            if processor is not None:
                texts += processor.decode_texts(batch["labels"])
                # Whatever the model's generation configuration says.
                ids = model.generate(latents=posterior.mode(), **GREEDY)
                reconstructions += processor.decode_texts(ids)
            wanted = max_importance_sentences - sum(map(len, iw_nll))
            if wanted > 0:
                chosen = DiagonalGaussian(posterior.mean[:wanted], posterior.logvar[:wanted])
                iw_nll.append(
                    importance_weighted_nll(
                        model, chosen, batch["labels"][:wanted], num_importance_samples, generator=generator
                    )
                )
    count = sum(map(len, collected.get("mean", [])))
    if count < 2:
        raise ValueError(f"An evaluation needs at least two sentences: moments are over the data. Got {count}.")
    tensors = {name: torch.cat(values) for name, values in collected.items()}
    figures = corpus_figures(**tensors, head=model.posterior)
    del figures["loss"]
    information = mutual_information(DiagonalGaussian(tensors["mean"], tensors["logvar"]), generator)
    log_likelihoods = torch.cat(iw_nll)
    return EvaluationResult(
        num_sentences=count,
        iw_nll=log_likelihoods.mean().item(),
        iw_nll_error=log_likelihoods.std().item() / len(log_likelihoods) ** 0.5,
        iw_nll_num_sentences=len(log_likelihoods),
        iw_nll_num_samples=num_importance_samples,
        latent_size=model.config.latent_size,
        reconstruction_bleu=None if processor is None else reconstruction_bleu(reconstructions, texts),
        **asdict(information),
        **figures,
    )


def require_estimated_statistics(model: BNVAEModel) -> None:
    """Refuse to use a batch-normalised posterior in evaluation whose running statistics were never estimated.

    Raises:
        ValueError: with the way out.
    """
    if not model.posterior.is_estimated:
        raise ValueError(
            "The posterior's running statistics were never estimated, so its latents, and every figure of an "
            "evaluation, would be arbitrary. Train the model, or call hf_bnvae.recalibrate_posterior(model, batches) "
            "with training batches."
        )
