# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The work whose speed is measured, each piece done in up to three ways.

- `ours`: what a user calls.
- `floor`: the bare encoder and decoder, a plain `AutoModel` and `AutoModelForCausalLM` without a latent. They process
  the same number of real tokens in rows of equal length, so without padding. They compute logits only where something
  is scored, with the same loss of a token and the same optimiser.
- `naive`: the same result as `ours`, with padding left in, logits everywhere and no cache. Training takes a batch in
  one piece. Encoding takes batches in the order of the texts. Generation and IW-NLL take one sentence at a time.

Weights, tokens, lengths and noise are drawn from a seed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..evaluation.importance import decoder_nll, importance_weighted_nll, rows_of_a_pass
from ..evaluation.information import InformationEstimate, mutual_information
from ..model.gaussian_bnvae import DiagonalGaussian, prior_log_prob
from ..model.loss_bnvae import IGNORE_INDEX, sentence_nll
from ..model.modeling_bnvae import BNVAEModel
from ..training.calibration import recalibrate_posterior
from ..training.objective import training_loss
from .synthetic import (
    MEAN_LENGTH,
    SIZES,
    Size,
    build_model,
    build_networks,
    draw_lengths,
    make_batch,
    make_processor,
    make_texts,
)

# Texts that the naive way encodes at once: the default of the methods on texts.
NAIVE_BATCH_SIZE = 64
# In GiB, the default of `evaluate_model`.
MEMORY_BUDGET = 1.0
# In the naive way of IW-NLL, as in Optimus.
NAIVE_SAMPLES_AT_ONCE = 5


@dataclass(frozen=True)
class Setting:
    """
    The networks, device and precision that work is measured with.

    Args:
        size_name (`str`): A name in `SIZES`.
        device (`torch.device`): Where the work runs.
        bf16 (`bool`): Train under autocast to bfloat16; do everything else with both networks' weights in bfloat16.
        seed (`int`): Seed of weights, tokens, lengths and noise.
    """

    size_name: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bf16: bool = False
    seed: int = 1

    @property
    def size(self) -> Size:
        """The sizes."""
        return SIZES[self.size_name]

    def autocast(self) -> AbstractContextManager:
        """The context that a training runs in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the networks compute."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def generator(self) -> torch.Generator:
        """A new generator on the CPU, seeded with `seed`."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Work:
    """
    A piece of work in three ways.

    Args:
        ours, floor (`Callable`): Do the work. The argument is the chunk size, the number of sentences at once.
        naive (`Callable`, *optional*): Does the first `naive_share` of the work. Its result equals the result of
            `ours`, to rounding.
        tokens (`int`): Real tokens; 0 for work without tokens.
        dtype (`torch.dtype`): Precision of the matrix products.
        rows (`int`): The number of rows that chunks are cut from: sentences, or samples of sentences.
        naive_share (`float`, *optional*, defaults to 1): The share of the work that `naive` does.
        ours_in_chunks (`bool`, *optional*, defaults to `True`): Whether `ours` depends on the chunk size.
    """

    ours: Callable[[int], Any]
    floor: Callable[[int], Any]
    naive: Callable[[], Any] | None
    tokens: int
    dtype: torch.dtype
    rows: int
    naive_share: float = 1.0
    ours_in_chunks: bool = True


def training(setting: Setting, sentences: int) -> Work:
    """A training step on one posterior batch: forward, backward, fused AdamW. It returns the loss before the step."""
    size, device = setting.size, setting.device
    model = build_model(size, setting.seed).to(device)
    encoder, decoder = (network.to(device) for network in build_networks(size, setting.seed))
    lengths = draw_lengths(sentences, setting.seed)
    batch = {name: values.to(device) for name, values in make_batch(lengths, size, setting.seed).items()}
    noise = torch.randn(sentences, size.latent_size, generator=setting.generator()).to(device)
    rows = _equal_rows(sentences, min(size.encoder_vocabulary, size.decoder_vocabulary), setting)
    optimizers = {
        "model": torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True),
        "networks": torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=1e-4, fused=True),
    }

    def step(parameters: str, *losses: Callable[[], torch.Tensor]) -> float:
        optimizer, total = optimizers[parameters], torch.zeros((), device=device)
        # One context for all parts, because autocast keeps the weights that it has cast.
        with setting.autocast():
            for part in losses:
                loss = part()
                loss.backward()
                total += loss.detach()
        optimizer.step()
        # Freed at the end, so that the memory of a step includes its gradients, whatever ran before.
        optimizer.zero_grad()
        return total.item()

    def ours(chunk_size: int) -> float:
        def loss() -> torch.Tensor:
            outputs = model(**batch, noise=noise, chunk_size=chunk_size)
            return training_loss(outputs.reconstruction_nll, outputs.kl)

        return step("model", loss)

    def floor(chunk_size: int) -> float:
        def loss(part: torch.Tensor) -> torch.Tensor:
            # Without a latent, nothing connects the two networks. So each network has a loss.
            features = encoder(input_ids=part).last_hidden_state[:, 0].float()
            logits = decoder(input_ids=part, use_cache=False).logits.flatten(0, 1)
            # The library's own token loss, which takes less time than torch's cross-entropy.
            nll = sentence_nll(logits, part, torch.ones_like(part, dtype=torch.bool))
            return (nll.sum() + features.mean(-1).sum()) / len(rows)

        return step("networks", *(lambda part=part: loss(part) for part in rows.split(chunk_size)))

    def naive() -> float:
        with padded(model):
            return step("model", lambda: naive_loss(model, batch, noise))

    return Work(ours, floor, naive, int(lengths.sum()), setting.dtype, sentences)


def encoding(setting: Setting, sentences: int) -> Work:
    """Texts to latents. `ours` and `naive` tokenise the texts; `floor` starts with token ids. The naive way encodes
    padded batches in the order of the texts."""
    size = setting.size
    model, processor = _inference_model(setting), make_processor(size)
    model.attach_processor(processor)
    encoder, _ = _inference_networks(setting)
    lengths = draw_lengths(sentences, setting.seed)
    texts = make_texts(lengths, size, setting.seed)
    rows = _equal_rows(sentences, size.encoder_vocabulary, setting)

    def ours(batch_size: int) -> torch.Tensor:
        return model.encode_texts(texts, batch_size=batch_size, show_progress=False)

    @torch.no_grad()
    def floor(batch_size: int) -> torch.Tensor:
        parts = rows.split(batch_size)
        return torch.cat([encoder(input_ids=part).last_hidden_state[:, 0] for part in parts]).cpu()

    @torch.no_grad()
    def naive() -> torch.Tensor:
        latents = []
        for start in range(0, sentences, NAIVE_BATCH_SIZE):
            part = texts[start : start + NAIVE_BATCH_SIZE]
            batch = processor(part, return_tensors="pt", return_labels=False).to(setting.device)
            with padded(model):
                latents.append(model.encode(batch["input_ids"], batch["attention_mask"]).mode())
        return torch.cat(latents).cpu()

    return Work(ours, floor, naive, int(lengths.sum()), setting.dtype, sentences)


def generation(setting: Setting, sentences: int) -> Work:
    """Greedy texts of exactly `new_tokens` tokens from latents. The naive way generates one text at a time. For every
    token it runs the whole text through the decoder, with logits at all positions."""
    size, device = setting.size, setting.device
    model = _inference_model(setting)
    _, decoder = _inference_networks(setting)
    latents = torch.randn(sentences, size.latent_size, generator=setting.generator()).to(device)
    start = torch.full((sentences, 1), model.config.decoder_start_token_id, device=device)
    end = model.config.eos_token_id
    exactly = {
        "max_new_tokens": size.new_tokens,
        "min_new_tokens": size.new_tokens,
        "do_sample": False,
        "pad_token_id": end,
    }
    one_by_one = min(size.naive_texts, sentences)

    def ours(batch_size: int) -> torch.Tensor:
        return torch.cat([model.generate(latents=part, **exactly) for part in latents.split(batch_size)])

    def floor(batch_size: int) -> torch.Tensor:
        parts = start.split(batch_size)
        return torch.cat([decoder.generate(part, attention_mask=torch.ones_like(part), **exactly) for part in parts])

    @torch.no_grad()
    def naive() -> torch.Tensor:
        texts = []
        for latent in latents[:one_by_one].split(1):
            ids = start[:1]
            for _ in range(size.new_tokens):
                logits = model.decode(latent, ids, use_cache=False)[0][:, -1]
                logits[:, end] = float("-inf")
                ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
            texts.append(ids)
        return torch.cat(texts)

    return Work(ours, floor, naive, sentences * size.new_tokens, setting.dtype, sentences, one_by_one / sentences)


def iw_nll(setting: Setting, sentences: int) -> Work:
    """-log p(x) of each sentence from `num_samples` importance samples. The floor is the same number of passes of the
    decoder. The naive way follows Optimus' evaluation: one sentence at a time, 5 samples at once, with logits at
    the last position too."""
    size, device = setting.size, setting.device
    model = _inference_model(setting)
    _, decoder = _inference_networks(setting)
    lengths = draw_lengths(sentences, setting.seed).sort(descending=True).values
    batch = {name: values.to(device) for name, values in make_batch(lengths, size, setting.seed).items()}
    noise = torch.randn(sentences, size.num_samples, size.latent_size, generator=setting.generator())
    rows = _equal_rows(sentences, size.decoder_vocabulary, setting).repeat(size.num_samples, 1)

    @torch.no_grad()
    def ours(chunk_size: int) -> torch.Tensor:
        posterior = model.encode(batch["input_ids"], batch["attention_mask"])
        nll = decoder_nll(model, batch["labels"])

        def rows_per_pass(place: int) -> int:
            return rows_of_a_pass(MEMORY_BUDGET, model, int(lengths[place]))

        return importance_weighted_nll(nll, posterior, size.num_samples, rows_per_pass, noise.__getitem__)

    @torch.no_grad()
    def floor(chunk_size: int) -> torch.Tensor:
        nll = []
        for part in rows.split(chunk_size):
            logits = decoder(input_ids=part, use_cache=False).logits.flatten(0, 1).float()
            nll.append(F.cross_entropy(logits, part.flatten(), reduction="none").view(part.shape).sum(-1))
        return torch.cat(nll)

    @torch.no_grad()
    def naive() -> torch.Tensor:
        estimates = []
        for row, length in enumerate(lengths.tolist()):
            own = {name: values[row : row + 1, :length] for name, values in batch.items()}
            posterior = model.encode(own["input_ids"], own["attention_mask"])
            log_weights = []
            for draws in noise[row].to(device).split(NAIVE_SAMPLES_AT_ONCE):
                latents = posterior.mean + posterior.std * draws
                texts = F.pad(own["labels"], (1, 0), value=model.config.decoder_start_token_id).expand(len(draws), -1)
                logits, _ = model.decode(latents, texts, attention_mask=torch.ones_like(texts))
                # The logits of the last position predict the token after the end, which is not scored.
                scored = logits[:, :-1].float().flatten(0, 1)
                nll = F.cross_entropy(scored, texts[:, 1:].flatten(), reduction="none").view(len(draws), -1).sum(-1)
                log_weights.append(prior_log_prob(latents) - posterior.log_prob(latents) - nll)
            estimates.append(math.log(size.num_samples) - torch.cat(log_weights).double().logsumexp(0))
        return torch.stack(estimates)

    tokens = int(lengths.sum()) * size.num_samples
    return Work(ours, floor, naive, tokens, setting.dtype, len(rows), ours_in_chunks=False)


def information(setting: Setting, sentences: int) -> Work:
    """Mutual information of N posteriors of d dimensions. The floor is one N x N x 2d matrix product in the same
    precision, and the exponentials of its entries, in blocks of rows."""
    latent_size, device = setting.size.latent_size, setting.device
    generator = setting.generator()
    mean, logvar, noise = (
        torch.randn(sentences, latent_size, generator=generator, dtype=torch.float64).to(device) for _ in range(3)
    )
    posterior = DiagonalGaussian(0.7 * mean, 0.3 * logvar - 0.7)
    left, right = torch.cat([mean, logvar], 1), torch.cat([noise, mean], 1).T.contiguous() / (2 * latent_size)

    def ours(chunk_size: int) -> InformationEstimate:
        return mutual_information(posterior, noise=noise)

    def floor(chunk_size: int) -> None:
        block = left.new_empty(chunk_size, sentences)
        for rows in left.split(chunk_size):
            part = block[: len(rows)]
            torch.mm(rows, right, out=part).exp_()

    return Work(ours, floor, None, 0, torch.float64, sentences, ours_in_chunks=False)


# From a setting and a number of sentences to the work.
COMPARED = {
    "training": training,
    "encoding": encoding,
    "generation": generation,
    "iw_nll": iw_nll,
    "mutual_information": information,
}


@contextmanager
def padded(model: BNVAEModel) -> Iterator[None]:
    """A context in which every sentence has a row to itself, as in the naive way."""
    packs, model.config.pack_sentences = model.config.pack_sentences, False
    try:
        yield
    finally:
        model.config.pack_sentences = packs


def naive_loss(model: BNVAEModel, batch: Mapping[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
    """The negative ELBO from one padded piece, with logits and their softmax at every position."""
    posterior = model.encode(batch["input_ids"], batch["attention_mask"])
    labels = batch["labels"]
    logits, _ = model.decode(
        posterior.sample(noise),
        model.prepare_decoder_input_ids_from_labels(labels),
        attention_mask=labels.ne(IGNORE_INDEX).long(),
    )
    token_nll = F.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    return (token_nll.view(labels.shape).sum(-1) + posterior.kl().sum(-1)).mean()


def _inference_model(setting: Setting) -> BNVAEModel:
    """A model in evaluation mode. Its posterior's statistics are computed from 64 sentences."""
    model = build_model(setting.size, setting.seed).to(setting.device)
    batch = make_batch(draw_lengths(64, setting.seed), setting.size, setting.seed)
    recalibrate_posterior(model, [batch])
    # As in `from_pretrained`, the posterior stays in float32.
    for part in (model.encoder, model.decoder, model.injection):
        part.to(setting.dtype)
    return model.eval()


def _inference_networks(setting: Setting) -> list[PreTrainedModel]:
    """The bare encoder and decoder in evaluation mode."""
    networks = build_networks(setting.size, setting.seed)
    return [network.to(setting.device, setting.dtype).eval() for network in networks]


def _equal_rows(count: int, vocabulary: int, setting: Setting) -> torch.Tensor:
    """Random tokens in rows of equal length. `count` rows hold the number of tokens of `count` drawn sentences."""
    ids = torch.randint(vocabulary, (count, MEAN_LENGTH), generator=setting.generator())
    return ids.to(setting.device)
