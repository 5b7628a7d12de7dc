# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Networks with random weights and sentences of random tokens, in the sizes that the benchmarks use.

Weights, tokens and lengths are drawn from a seed, so that two calls with the same seed return the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ..model.configuration_bnvae import BNVAEConfig
from ..model.loss_bnvae import IGNORE_INDEX
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor

SHORTEST, MEAN_LENGTH, LONGEST = 5, 12, 30


@dataclass(frozen=True)
class Size:
    """
    Sizes of the networks and of the work.

    Args:
        layers, width, heads (`int`): Of each of the two networks.
        encoder_vocabulary, decoder_vocabulary (`int`): Tokens.
        latent_size (`int`): Latent dimensions.
        sentences (mapping): For each workload, the numbers of sentences to measure: of a batch or of a set.
        chunk_sizes (mapping): For each workload, the numbers of sentences at once to try.
        new_tokens (`int`): Tokens to generate for each sentence.
        num_samples (`int`): K of the importance-weighted estimate.
        naive_texts (`int`): How many texts the naive way generates. Its seconds are scaled up to all texts.
        product_width (`int`, *optional*): Width of the matrices whose product gives the machine's peak. The default
            of [`~benchmarks.timing.matrix_product_peak`] applies if it is not given.
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
    product_width: int | None = None


SIZES = {
    "mid": Size(layers=4, width=256, heads=4),
    "base": Size(layers=12, width=768, heads=12),
    # For tests of the benchmark. Figures of this size say nothing.
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
        product_width=128,
    ),
}


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
    """The bare encoder and decoder, with the configurations that [`build_model`] uses, in training mode."""
    torch.manual_seed(seed)
    config = build_config(size)
    encoder = AutoModel.from_config(config.encoder, add_pooling_layer=False)
    return encoder.train(), AutoModelForCausalLM.from_config(config.decoder).train()


def draw_lengths(count: int, seed: int) -> torch.Tensor:
    """Numbers of tokens of `count` sentences, `(count,)`: log-normal, from 5 to 30, 12 on average. The first and the
    last token of a sentence are included."""
    draws = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    lengths = (11.5 * (0.3 * draws).exp()).round().clamp(SHORTEST, LONGEST).long()
    # The average is exactly 12, so that the same number of tokens fills rows of equal length.
    while missing := MEAN_LENGTH * count - int(lengths.sum()):
        step = 1 if missing > 0 else -1
        movable = (lengths + step).clamp(SHORTEST, LONGEST).ne(lengths).nonzero().flatten()
        lengths[movable[: abs(missing)]] += step
    return lengths


def make_batch(lengths: torch.Tensor, size: Size, seed: int) -> dict[str, torch.Tensor]:
    """A padded batch of random tokens. Encoder and decoder get the same number of tokens."""
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
    """Tokenizers of made-up words. Each word is one token, and the words fill both vocabularies."""

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
    """Texts of made-up words that have `lengths` tokens for the encoder, start and end token included."""
    generator = torch.Generator().manual_seed(seed)
    words = min(size.encoder_vocabulary, size.decoder_vocabulary) - 3
    drawn = torch.randint(words, (int(lengths.sum()),), generator=generator)
    return [" ".join(f"w{word}" for word in part[2:].tolist()) for part in drawn.split(lengths.tolist())]
