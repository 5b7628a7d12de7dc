"""Random configurations, right and wrong ones: each is refused by a field's name, or its model can be trained.

The tests try a few, and the program `campaign.py` as many as one likes."""

import math

import torch
from hypothesis import strategies as st
from transformers import BertConfig, GPT2Config

from hf_bnvae import POSTERIOR_HEADS, BNVAEConfig, BNVAEModel

ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DECODER = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 2}

# Right values are more frequent than wrong ones, or hardly any configuration would be right in all of its fields.
_WRONG_SCALES = st.sampled_from([0, -1, math.nan, math.inf, 1e308, 1e-45, 1e-7, 1e39])
_SCALE_NUMBERS = st.floats(0.01, 0.99) | st.floats(0.01, 0.99) | st.floats(1e-6, 100) | _WRONG_SCALES
_TOKEN_IDS = st.none() | st.integers(0, 59) | st.integers(0, 59) | st.integers(-2, 70)

# What `use_configuration` takes.
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "posterior": st.sampled_from(sorted(POSTERIOR_HEADS)),
        "latent_size": st.integers(0, 9),
        "scales": st.dictionaries(
            st.sampled_from(["rate", "bn_tau", "bn_gamma", "bn_theta_init"]), _SCALE_NUMBERS, max_size=2
        ),
        "encoder_dropout": st.sampled_from([0] * 6 + [0.3, 0.5, 1, -0.1, math.nan]),
        "pooling": st.sampled_from(["cls", "mean", "pooler"]),
        "tokens": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("pad_token_id", "eos_token_id", "decoder_start_token_id"), _TOKEN_IDS)
        ),
        "padding": st.sampled_from([0] * 8 + [59, 60, 1000]),
        "chunk_size": st.none() | st.integers(-1, 4),
        "seed": st.integers(0, 1000),
    }
)


def use_configuration(scales: dict, tokens: dict, padding: int, seed: int, **fields: object) -> str:
    """What a configuration comes to: "refused", "works", or what is wrong with the outcome."""
    encoder = BertConfig(vocab_size=60, pad_token_id=padding, max_position_embeddings=16, **ENCODER)
    fields |= scales | tokens
    try:
        config = BNVAEConfig(encoder=encoder, decoder=GPT2Config(vocab_size=60, **DECODER), **fields)
    except ValueError as error:
        is_named = any(name in str(error) for name in [*fields, "pad_token_id"])
        return "refused" if is_named else f"refused without a field's name: {error}"
    torch.manual_seed(seed)
    model = BNVAEModel(config).train()
    ids = torch.randint(5, 60, (12, 7))
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    outputs.loss.backward()
    numbers = [outputs.loss, outputs.posterior.log_prob(outputs.latents)]
    numbers += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return "works" if all(number.isfinite().all() for number in numbers) else f"not finite: {config}"
