"""Tiny real models and tokenizers, the same in every process that builds them."""

import itertools
import random

import torch
from transformers import BertConfig, GPT2Config

from hf_bnvae import BNVAEConfig, BNVAEModel, BNVAEProcessor, fit_prior, recalibrate_posterior
from hf_bnvae.training.from_scratch import train_processor

# Options of a training script with which a file of some twenty lines takes seconds.
SCRIPT_OPTIONS = {
    "hidden_size": 32,
    "num_layers": 1,
    "latent_size": 4,
    "vocab_size": 300,
    "num_train_epochs": 3,
    "num_importance_samples": 10,
    "warmup_steps": 0,
    "disable_tqdm": "true",
    "use_cpu": "true",
}


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Distinct short sentences whose words depend on one another, so that there is something to learn."""
    subjects = ["The food", "My sister", "A small dog", "The old waiter", "This place", "Our teacher"]
    verbs = ["likes", "found", "painted", "will never forget", "sold", "talks about"]
    objects = ["the red car", "a quiet garden", "fresh bread", "her own house", "the long winter", "two green birds"]
    endings = [".", "again .", "in the morning .", "with great care .", "for no reason at all ."]
    texts = [" ".join(parts) for parts in itertools.product(subjects, verbs, objects, endings)]
    random.Random(seed).shuffle(texts)
    return texts[:count]


def make_conditions(count: int) -> list[str]:
    """Conditions of different lengths. Every fourth one is empty."""
    return ["" if place % 4 == 3 else "and so on " * (place % 3) + f"where ? {place} ." for place in range(count)]


def make_processor(texts: list[str], conditions: list[str] | None = None) -> BNVAEProcessor:
    return train_processor(texts, vocab_size=400, max_length=32, conditions=conditions)


def make_configs(processor: BNVAEProcessor) -> tuple[BertConfig, GPT2Config]:
    encoder, decoder = processor.encoder_tokenizer, processor.tokenizer
    return (
        BertConfig(
            vocab_size=len(encoder),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            pad_token_id=encoder.pad_token_id,
        ),
        GPT2Config(
            vocab_size=len(decoder),
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=32,
            bos_token_id=decoder.bos_token_id,
            eos_token_id=decoder.eos_token_id,
            pad_token_id=decoder.pad_token_id,
        ),
    )


def build_model(
    encoder_config: BertConfig,
    decoder_config: GPT2Config,
    seed: int = 0,
    decoder_dropout: float | None = None,
    **fields,
) -> BNVAEModel:
    """A model from fields of its configuration, the same for the same seed."""
    decoder = GPT2Config(**decoder_config.to_dict())
    if decoder_dropout is not None:
        decoder.resid_pdrop = decoder.embd_pdrop = decoder.attn_pdrop = decoder_dropout
    torch.manual_seed(seed)
    fields = {"latent_size": 8, **fields}
    return BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(encoder_config, decoder, **fields))


def question(text: str) -> str:
    """A condition that says how a text begins."""
    return f"{text.split()[0]} ?"


def train_model(
    processor: BNVAEProcessor, texts: list[str], steps: int = 200, conditions: list[str] | None = None
) -> BNVAEModel:
    """A model that has learnt a little: its latents tell texts apart, and other latents give other texts. With
    conditions a text depends on its condition, too."""
    fields = {"posterior": "bn_rms", "rate": 8, "conditional": conditions is not None}
    model = build_model(*make_configs(processor), decoder_dropout=0.0, **fields).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randperm(len(texts), generator=generator)[:32].tolist()
        given = {} if conditions is None else {"condition": [conditions[row] for row in rows]}
        batch = processor([texts[row] for row in rows], return_tensors="pt", **given)
        model(**batch, noise=torch.randn(32, 8, generator=generator)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    everything = dict(processor(texts, return_tensors="pt", condition=conditions))
    recalibrate_posterior(model, [everything])
    fit_prior(model, [everything])
    return model.eval()
