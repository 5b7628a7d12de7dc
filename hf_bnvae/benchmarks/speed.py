# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What the library's work costs beside its two bare networks and beside the naive way: the workloads.

Each is a piece of work that is done in up to three ways:

- `ours`: what a user calls.
- `floor`: the bare encoder and decoder, plain `AutoModel` and `AutoModelForCausalLM` without a latent, on as many real
  tokens, laid out in rows of equal length, so without padding, with logits only where something is scored, and with
  the same loss of a token and the same optimiser.
- `naive`: padding left in, logits everywhere, no cache; the same result. Training takes a batch in one piece, texts
  are encoded in batches as they come, and generated and importance-weighted one by one.

`ours` and `floor` each run at the chunk size that is fastest for them. Weights, tokens and lengths are drawn from a
seed.
"""

import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
)

from ..evaluation.importance import decoder_nll, importance_weighted_nll, rows_of_a_pass
from ..evaluation.information import InformationEstimate, mutual_information
from ..model.configuration_bnvae import BNVAEConfig
from ..model.gaussian_bnvae import DiagonalGaussian, prior_log_prob
from ..model.loss_bnvae import IGNORE_INDEX, sentence_nll
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..reporting.provenance import library_versions
from ..training.calibration import recalibrate_posterior
from ..training.objective import training_loss
from ..training.trainer import BNVAETrainer
from ..training.training_args import BNVAETrainingArguments
from ..utils.memory import freed_memory_is_kept
from .timing import (
    Clock,
    Seconds,
    clock_of,
    fastest,
    has_resident_peak,
    matrix_product_peak,
    median,
    peak_memory,
    resident_peak,
    take_turns,
)

SHORTEST, MEAN_LENGTH, LONGEST = 5, 12, 30

# Texts that are encoded at once in the naive way: as many as the methods on texts take unless they are told otherwise.
NAIVE_BATCH_SIZE = 64
# In GiB, as `evaluate_model` has it.
MEMORY_BUDGET = 1.0
# Of the naive way of IW-NLL, which is Optimus'.
NAIVE_SAMPLES_AT_ONCE = 5


@dataclass(frozen=True)
class Size:
    """
    Sizes of the networks and of the work.

    Args:
        layers, width, heads (`int`): Of both networks.
        encoder_vocabulary, decoder_vocabulary (`int`): Tokens.
        latent_size (`int`): Latent dimensions.
        sentences (mapping): For each work its numbers of sentences, of a batch or of a set.
        chunk_sizes (mapping): For each work the sentences at once that are tried.
        new_tokens (`int`): Generated for each sentence.
        num_samples (`int`): K of the importance-weighted estimate.
        naive_texts (`int`): How many texts the naive way generates, one by one; its seconds are scaled up.
    """

    layers: int
    width: int
    heads: int
    encoder_vocabulary: int = 30522
    decoder_vocabulary: int = 50257
    latent_size: int = 32
    sentences: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "training": (32, 256),
            "encoding": (10_000,),
            "generation": (256,),
            "iw_nll": (32,),
            "mutual_information": (10_000,),
            "growth": (1000, 10_000, 100_000),
        }
    )
    chunk_sizes: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "training": (16, 32, 64, 128, 256),
            "encoding": (32, 64, 256),
            "generation": (64, 256),
            "iw_nll": (8, 16, 32, 128),
            "mutual_information": (32, 128, 512),
            "growth": (32,),
        }
    )
    new_tokens: int = 32
    num_samples: int = 100
    naive_texts: int = 4


SIZES = {
    "mid": Size(layers=4, width=256, heads=4),
    "base": Size(layers=12, width=768, heads=12),
    # For tests of the benchmark: its figures say nothing.
    "tiny": Size(
        layers=1,
        width=32,
        heads=2,
        encoder_vocabulary=300,
        decoder_vocabulary=400,
        latent_size=4,
        sentences={
            "training": (16, 48),
            "encoding": (100,),
            "generation": (12,),
            "iw_nll": (6,),
            "mutual_information": (200,),
            "growth": (64, 128),
        },
        chunk_sizes={
            "training": (8, 48),
            "encoding": (32,),
            "generation": (12,),
            "iw_nll": (16,),
            "mutual_information": (50,),
            "growth": (16,),
        },
        new_tokens=6,
        num_samples=10,
        naive_texts=2,
    ),
}


@dataclass(frozen=True)
class Setting:
    """
    On what work is measured.

    Args:
        size_name (`str`): Of `SIZES`.
        device (`torch.device`): Where it runs.
        bf16 (`bool`): Training under autocast to bfloat16, and all else with both networks' weights in it.
        seed (`int`): Of weights, tokens, lengths and noise.
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
        """What a training runs under."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def dtype(self) -> torch.dtype:
        """In which the networks compute."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def generator(self) -> torch.Generator:
        """A generator on the CPU, from the seed."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Work:
    """
    A piece of work in three ways.

    Args:
        ours, floor (`Callable`): From a chunk size, the sentences at once, to a result.
        naive (`Callable`, *optional*): To the same result as `ours`, to rounding, of the first `naive_share`.
        tokens (`int`): Real tokens, 0 for what has none.
        dtype (`torch.dtype`): Of the matrix products.
        rows (`int`): What chunks are cut from: sentences, or samples of them.
        naive_share (`float`, *optional*, defaults to 1): What share of the work `naive` does.
        ours_in_chunks (`bool`, *optional*, defaults to `True`): Whether the chunk size makes a difference to `ours`.
    """

    ours: Callable[[int], Any]
    floor: Callable[[int], Any]
    naive: Callable[[], Any] | None
    tokens: int
    dtype: torch.dtype
    rows: int
    naive_share: float = 1.0
    ours_in_chunks: bool = True


# -- models and sentences --------------------------------------------------------------------------------------------


def build_config(size: Size) -> BNVAEConfig:
    """A BERT-style encoder and a GPT-2-style decoder, without dropout."""
    encoder = BertConfig(
        vocab_size=size.encoder_vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
    )
    end = size.decoder_vocabulary - 1
    decoder = GPT2Config(
        vocab_size=size.decoder_vocabulary,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return BNVAEConfig.from_encoder_decoder_configs(encoder, decoder, latent_size=size.latent_size)


def build_model(size: Size, seed: int) -> BNVAEModel:
    """A model with random weights, in training mode."""
    torch.manual_seed(seed)
    return BNVAEModel(build_config(size)).train()


def build_networks(size: Size, seed: int) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Encoder and decoder of the same configurations as a model's, and nothing else, in training mode."""
    torch.manual_seed(seed)
    config = build_config(size)
    encoder = AutoModel.from_config(config.encoder, add_pooling_layer=False)
    return encoder.train(), AutoModelForCausalLM.from_config(config.decoder).train()


def draw_lengths(count: int, seed: int) -> torch.Tensor:
    """Tokens of each of `count` sentences, first and last one included: log-normal, from 5 to 30, 12 on average."""
    draws = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    lengths = (11.5 * (0.3 * draws).exp()).round().clamp(SHORTEST, LONGEST).long()
    # Exactly 12, so that as many tokens fill rows of equal length.
    while missing := MEAN_LENGTH * count - int(lengths.sum()):
        step = 1 if missing > 0 else -1
        movable = (lengths + step).clamp(SHORTEST, LONGEST).ne(lengths).nonzero().flatten()
        lengths[movable[: abs(missing)]] += step
    return lengths


def make_batch(lengths: torch.Tensor, size: Size, seed: int) -> dict[str, torch.Tensor]:
    """A padded batch of random tokens, as many for the encoder as for the decoder."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), int(lengths.max()))
    padding = torch.arange(shape[1]) >= lengths.unsqueeze(1)
    return {
        "input_ids": torch.randint(size.encoder_vocabulary, shape, generator=generator).masked_fill(padding, 0),
        "attention_mask": (~padding).long(),
        "labels": torch.randint(size.decoder_vocabulary, shape, generator=generator).masked_fill(
            padding, IGNORE_INDEX
        ),
    }


def make_processor(size: Size) -> BNVAEProcessor:
    """Tokenizers of made-up words, each of them one token, that fill both vocabularies."""

    def tokenizer(vocabulary: int, first: list[str], last: list[str], **special: str) -> Tokenizer:
        words = [f"w{number}" for number in range(vocabulary - len(first) - len(last))]
        ids = {token: index for index, token in enumerate([*first, *words, *last])}
        words_only = Tokenizer(models.WordLevel(ids, unk_token=words[0]))
        words_only.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if first:
            words_only.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
        return PreTrainedTokenizerFast(tokenizer_object=words_only, model_max_length=LONGEST + 2, **special)

    frame = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    ends = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "</s>"}
    return BNVAEProcessor(
        tokenizer=tokenizer(size.decoder_vocabulary, [], ["</s>"], **ends),
        encoder_tokenizer=tokenizer(size.encoder_vocabulary, list(frame.values()), [], **frame),
    )


def make_texts(lengths: torch.Tensor, size: Size, seed: int) -> list[str]:
    """Texts of made-up words that have `lengths` tokens for the encoder, two of them its frame."""
    generator = torch.Generator().manual_seed(seed)
    words = min(size.encoder_vocabulary, size.decoder_vocabulary) - 3
    drawn = torch.randint(words, (int(lengths.sum()),), generator=generator)
    return [" ".join(f"w{word}" for word in part[2:].tolist()) for part in drawn.split(lengths.tolist())]


def _inference_model(setting: Setting) -> BNVAEModel:
    """A model in evaluation mode, whose posterior's statistics are those of some sentences."""
    model = build_model(setting.size, setting.seed).to(setting.device)
    batch = make_batch(draw_lengths(64, setting.seed), setting.size, setting.seed)
    recalibrate_posterior(model, [batch])
    # As `from_pretrained` does: the posterior stays in float32.
    for part in (model.encoder, model.decoder, model.injection):
        part.to(setting.dtype)
    return model.eval()


def _inference_networks(setting: Setting) -> list[PreTrainedModel]:
    networks = build_networks(setting.size, setting.seed)
    return [network.to(setting.device, setting.dtype).eval() for network in networks]


def _equal_rows(count: int, vocabulary: int, setting: Setting) -> torch.Tensor:
    """As many random tokens as `count` sentences have, in rows of equal length."""
    ids = torch.randint(vocabulary, (count, MEAN_LENGTH), generator=setting.generator())
    return ids.to(setting.device)


# -- the work --------------------------------------------------------------------------------------------------------


def training(setting: Setting, sentences: int) -> Work:
    """A training step on one posterior batch: forward, backward, fused AdamW. Its result is the loss ahead of it."""
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
        # One for all parts: it keeps the weights that it has cast.
        with setting.autocast():
            for part in losses:
                loss = part()
                loss.backward()
                total += loss.detach()
        optimizer.step()
        # At the end: the memory of a step then has its gradients in it, whatever ran ahead of it.
        optimizer.zero_grad()
        return total.item()

    def ours(chunk_size: int) -> float:
        def loss() -> torch.Tensor:
            outputs = model(**batch, noise=noise, chunk_size=chunk_size)
            return training_loss(outputs.reconstruction_nll, outputs.kl)

        return step("model", loss)

    def floor(chunk_size: int) -> float:
        def loss(part: torch.Tensor) -> torch.Tensor:
            # Without a latent nothing ties the two: each has a loss of its own.
            features = encoder(input_ids=part).last_hidden_state[:, 0].float()
            logits = decoder(input_ids=part, use_cache=False).logits.flatten(0, 1)
            # Ours, which takes less time than torch's.
            nll = sentence_nll(logits, part, torch.ones_like(part, dtype=torch.bool))
            return (nll.sum() + features.mean(-1).sum()) / len(rows)

        return step("networks", *(lambda part=part: loss(part) for part in rows.split(chunk_size)))

    def naive() -> float:
        with padded(model):
            return step("model", lambda: naive_loss(model, batch, noise))

    return Work(ours, floor, naive, int(lengths.sum()), setting.dtype, sentences)


@contextmanager
def padded(model: BNVAEModel) -> Iterator[None]:
    """Each sentence in a row of its own, as it is in the naive way."""
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


def encoding(setting: Setting, sentences: int) -> Work:
    """Texts to their latents; `ours` and `naive` tokenise them, `floor` has token ids. Naively they are encoded in
    padded batches, as they come."""
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
    """Greedy texts of exactly `new_tokens` tokens from latents. Naively: one by one, the whole text through the
    decoder for each token, with logits for all of its positions."""
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
    """-log p(x) of each sentence from `num_samples` importance samples. The floor is as many passes of the decoder;
    naively they are made as in Optimus' evaluation: sentence by sentence, 5 samples at a time, with logits at the last
    position too."""
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
                # The last position's tell the token after the end.
                scored = logits[:, :-1].float().flatten(0, 1)
                nll = F.cross_entropy(scored, texts[:, 1:].flatten(), reduction="none").view(len(draws), -1).sum(-1)
                log_weights.append(prior_log_prob(latents) - posterior.log_prob(latents) - nll)
            estimates.append(math.log(size.num_samples) - torch.cat(log_weights).double().logsumexp(0))
        return torch.stack(estimates)

    tokens = int(lengths.sum()) * size.num_samples
    return Work(ours, floor, naive, tokens, setting.dtype, len(rows), ours_in_chunks=False)


def information(setting: Setting, sentences: int) -> Work:
    """Mutual information of N posteriors of d dimensions. The floor is one N x N x 2d matrix product in the same
    precision and its exponentials, in blocks of rows."""
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


# -- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    """
    How work is measured.

    Args:
        rounds (`int`, *optional*, defaults to 11): Interleaved rounds, whose median is taken.
        control (`bool`, *optional*, defaults to `False`): Whether the floor has a second turn in each round: the ratio
            of the two shows the noise.
        chunk_sizes (`tuple[int, ...]`, *optional*): The sentences at once that are tried, in place of the size's.
    """

    rounds: int = 11
    control: bool = False
    chunk_sizes: tuple[int, ...] | None = None


def compare(
    build: Callable[[Setting, int], Work], name: str, sentences: int, setting: Setting, protocol: Protocol
) -> dict[str, Any]:
    """The figures of a piece of work in its ways: seconds, ratios, memory, share of the peak of matrix products."""
    work, device, clock = build(setting, sentences), setting.device, clock_of(setting.device)
    tried = protocol.chunk_sizes or setting.size.chunk_sizes[name]
    choices = sorted({min(chunk_size, work.rows) for chunk_size in tried})
    chosen = {
        "ours": fastest(work.ours, choices if work.ours_in_chunks else choices[:1], device),
        "floor": fastest(work.floor, choices, device),
    }
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: work.ours(chosen["ours"]),
        "floor": lambda: work.floor(chosen["floor"]),
    }
    if work.naive is not None:
        ways["naive"] = work.naive
    # What a first call makes and keeps, as the state of an optimiser, is no part of the work.
    for function in ways.values():
        function()
    memory = {way: peak_memory(function, device) for way, function in ways.items()}
    with FlopCounterMode(display=False) as counter:
        ways["floor"]()
    if protocol.control:
        ways["floor_again"] = ways["floor"]
    rounds = take_turns(ways, protocol.rounds, device)
    shares = {"naive": work.naive_share}
    medians = {
        each: {way: median(taken, each) / shares.get(way, 1.0) for way, taken in rounds.items()}
        for each in get_args(Clock)
    }
    # Beside the work, as a machine that has other work too may have become slower.
    seconds, peak = medians[clock], matrix_product_peak(device, work.dtype)
    return {
        "ours": seconds["ours"],
        "floor": seconds["floor"],
        "naive": seconds.get("naive"),
        "ratio_to_floor": seconds["ours"] / seconds["floor"],
        "ratio_to_naive": seconds["ours"] / seconds["naive"] if "naive" in seconds else None,
        "floor_again_to_floor": seconds["floor_again"] / seconds["floor"] if protocol.control else None,
        "clock": clock,
        "medians": medians,
        "rounds": {way: [asdict(taken) for taken in calls] for way, calls in rounds.items()},
        "naive_share": work.naive_share if "naive" in ways else None,
        "chunk_size": chosen if work.ours_in_chunks else {"floor": chosen["floor"]},
        "tokens": work.tokens or None,
        "tokens_per_second": work.tokens / seconds["ours"] if work.tokens else None,
        "peak_memory_bytes": memory,
        "matrix_product_peak": peak,
        "share_of_peak": {way: counter.get_total_flops() / seconds[way] / peak for way in ("ours", "floor")},
    }


def grow(sentences: int, setting: Setting, protocol: Protocol) -> dict[str, Any]:
    """One epoch of `BNVAETrainer` on `sentences` sentences that lie on the disk, in the largest batches of the size:
    seconds, tokens a second, and the memory of the whole process at its highest. The first training of a process has
    to prepare more than later ones, so a short one goes ahead of it."""
    size, device, clock = setting.size, setting.device, clock_of(setting.device)
    batch_size, processor = max(size.sentences["training"]), make_processor(size)
    chunk_size = (protocol.chunk_sizes or size.chunk_sizes["growth"])[0]
    lengths = draw_lengths(sentences, setting.seed)

    def train(count: int) -> Seconds:
        with tempfile.TemporaryDirectory() as folder:
            rows = Dataset.from_generator(
                _tokenised,
                cache_dir=folder,
                gen_kwargs={"lengths": lengths[:count], "size": size, "seed": setting.seed},
            )
            args = BNVAETrainingArguments(
                folder,
                per_device_train_batch_size=batch_size,
                chunk_size=chunk_size,
                num_train_epochs=1,
                use_cpu=device.type == "cpu",
                bf16=setting.bf16,
                seed=setting.seed,
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            model = build_model(size, setting.seed)
            trainer = BNVAETrainer(model=model, args=args, train_dataset=rows, processing_class=processor)
            trainer.remove_callback(PrinterCallback)
            return take_turns({"train": trainer.train}, 1, device)["train"][0]

    train(min(sentences, 2 * batch_size))
    taken: list[Seconds] = []
    if device.type != "cpu":
        peak = peak_memory(lambda: taken.append(train(sentences)), device)
    elif has_resident_peak():
        _, peak = resident_peak(lambda: taken.append(train(sentences)))
    else:
        peak = None
        taken.append(train(sentences))
    seconds = getattr(taken[0], clock)
    return {
        "ours": seconds,
        "floor": None,
        "naive": None,
        "ratio_to_floor": None,
        "ratio_to_naive": None,
        "clock": clock,
        "medians": {each: {"ours": getattr(taken[0], each)} for each in get_args(Clock)},
        "chunk_size": {"ours": chunk_size},
        "tokens": int(lengths.sum()),
        "tokens_per_second": int(lengths.sum()) / seconds,
        "peak_memory_bytes": {"ours": peak},
    }


def _tokenised(lengths: torch.Tensor, size: Size, seed: int) -> Iterator[dict[str, list[int]]]:
    """Sentences of random tokens, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    for length in lengths.tolist():
        yield {
            "input_ids": torch.randint(size.encoder_vocabulary, (length,), generator=generator).tolist(),
            "labels": torch.randint(size.decoder_vocabulary, (length,), generator=generator).tolist(),
        }


# What has a floor and a naive way, and what has not.
COMPARED = {
    "training": training,
    "encoding": encoding,
    "generation": generation,
    "iw_nll": iw_nll,
    "mutual_information": information,
}
WORKS = (*COMPARED, "growth")


def run_benchmark(
    works: Sequence[str],
    setting: Setting,
    protocol: Protocol | None = None,
    sentences: Sequence[int] | None = None,
    on_figures: Callable[[str, int, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """
    Measure work.

    Args:
        works (sequence of `str`): Which, of `WORKS`.
        setting ([`Setting`]): On what.
        protocol ([`Protocol`], *optional*): How.
        sentences (sequence of `int`, *optional*): The numbers of sentences of each, in place of the size's.
        on_figures (`Callable`, *optional*): Is called after each piece, with the work's name, the number of sentences
            and the results so far.

    Returns:
        `dict`: for each work and each number of sentences, as a string, its figures: seconds of `ours`, `floor` and
        `naive`, `ratio_to_floor` and `ratio_to_naive`, `None` where there is none, and what they were made from; and
        beside the works `machine`, `versions` and `settings`.
    """
    protocol = protocol or Protocol()
    results: dict[str, Any] = {
        "machine": _machine(setting.device),
        "versions": library_versions(),
        "settings": {
            "size": setting.size_name,
            "device": str(setting.device),
            "bf16": setting.bf16,
            "seed": setting.seed,
            **asdict(protocol),
        },
    }
    for name in works:
        figures = results[name] = {}
        for count in sentences or setting.size.sentences[name]:
            if name in COMPARED:
                figures[str(count)] = compare(COMPARED[name], name, count, setting, protocol)
            else:
                figures[str(count)] = grow(count, setting, protocol)
            if on_figures is not None:
                on_figures(name, count, results)
    return results


def _machine(device: torch.device) -> dict[str, Any]:
    """What the figures are made on, and the operations a second of its matrix products."""
    is_cpu = device.type == "cpu"
    return {
        "device": _processor_name() if is_cpu else torch.get_device_module(device).get_device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "freed_memory_is_kept": freed_memory_is_kept(),
        "system": platform.platform(),
        "matrix_product_peak": {
            str(dtype).removeprefix("torch."): matrix_product_peak(device, dtype)
            for dtype in (torch.float32, torch.bfloat16, torch.float64)
        },
    }


def _processor_name() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
