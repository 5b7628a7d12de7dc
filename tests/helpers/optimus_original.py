"""A checkpoint in the layout of the original Optimus, with random weights, and what the original computes with it in
plain steps: sentence by sentence, layer by layer, head by head."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from hf_bnvae import BNVAEModel
from hf_bnvae.interop.optimus.convert import convert_optimus_checkpoint

# The three injections, with the flags of the original.
WAYS = {"both": (1, 1), "memory": (1, 0), "embedding": (0, 1)}
LATENT_SIZE, WIDTH, LAYERS, POSITIONS = 6, 24, 2, 20
ENCODER_HEADS, DECODER_HEADS = 2, 3
STEP = 7


def random_state(sizes: dict[str, int], seed: int = 0) -> dict[str, torch.Tensor]:
    """All tensors of an original Optimus by their names there, large enough for everything to count."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def add(name: str, *shape: int, around: float = 0.0) -> None:
        state[name] = around + 0.3 * torch.randn(*shape, generator=generator)

    def add_linear(name: str, rows: int, columns: int, bias: int | None = None) -> None:
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows if bias is None else bias)

    def add_norm(name: str) -> None:
        add(f"{name}.weight", WIDTH, around=1.0)
        add(f"{name}.bias", WIDTH)

    rows = {"word": sizes["encoder"], "position": POSITIONS, "token_type": 2}
    for name, count in rows.items():
        add(f"encoder.embeddings.{name}_embeddings.weight", count, WIDTH)
    add_norm("encoder.embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            add_linear(f"{layer}.attention.{name}", WIDTH, WIDTH)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_linear(f"{layer}.intermediate.dense", 2 * WIDTH, WIDTH)
        add_linear(f"{layer}.output.dense", WIDTH, 2 * WIDTH)
        add_norm(f"{layer}.output.LayerNorm")
    add_linear("encoder.pooler.dense", WIDTH, WIDTH)
    add("encoder.linear.weight", 2 * LATENT_SIZE, WIDTH)

    add("decoder.transformer.wte.weight", sizes["decoder"], WIDTH)
    add("decoder.transformer.wpe.weight", POSITIONS, WIDTH)
    for i in range(LAYERS):
        layer = f"decoder.transformer.h.{i}"
        add_norm(f"{layer}.ln_1")
        state[f"{layer}.attn.bias"] = torch.ones(POSITIONS, POSITIONS).tril()[None, None]
        for name, inputs, outputs in (("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4)):
            add_linear(f"{layer}.{name}", inputs * WIDTH, outputs * WIDTH, bias=outputs * WIDTH)
        add_linear(f"{layer}.mlp.c_proj", 4 * WIDTH, WIDTH, bias=WIDTH)
        add_norm(f"{layer}.ln_2")
    add_norm("decoder.transformer.ln_f")
    add("decoder.transformer.linear.weight", LAYERS * WIDTH, LATENT_SIZE)
    add("decoder.transformer.linear_emb.weight", WIDTH, LATENT_SIZE)
    state["decoder.lm_head.weight"] = state["decoder.transformer.wte.weight"]
    return state


def original_configs(sizes: dict[str, int]) -> dict[str, dict]:
    """The two configurations with the keys of their time."""
    common = {"finetuning_task": None, "initializer_range": 0.02, "pruned_heads": {}, "torchscript": False}
    encoder = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": ENCODER_HEADS,
        "num_hidden_layers": LAYERS,
        "type_vocab_size": 2,
        "vocab_size": sizes["encoder"],
    }
    decoder = {
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "latent_size": LATENT_SIZE,
        "layer_norm_epsilon": 1e-5,
        "n_ctx": POSITIONS,
        "n_embd": WIDTH,
        "n_head": DECODER_HEADS,
        "n_layer": LAYERS,
        "n_positions": POSITIONS,
        "resid_pdrop": 0.1,
        "summary_first_dropout": 0.1,
        "vocab_size": sizes["decoder"],
    }
    return {"encoder": {**common, **encoder}, "decoder": {**common, **decoder}}


def original_settings(**changes) -> argparse.Namespace:
    """A training's settings as they are pickled; beta comes from an array of NumPy."""
    settings = {
        "device": torch.device("cuda", 0),
        "beta": np.linspace(0, 1, 3)[1],
        "encoder_model_name_or_path": "bert-base-cased",
        "decoder_model_name_or_path": "gpt2",
        "do_lower_case": False,
        "latent_as_gpt_memory": 1,
        "latent_as_gpt_emb": 1,
    }
    return argparse.Namespace(**{name: value for name, value in {**settings, **changes}.items() if value is not None})


def save_legacy(value, file: Path) -> None:
    """As torch did before its version 1.6."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, file, _use_new_zipfile_serialization=False)


def write_checkpoint(
    root: Path,
    sizes: dict[str, int],
    parts: tuple[str, ...] = ("encoder", "decoder", "full"),
    step: int = STEP,
    seed: int = 0,
    prefix: str = "",
    settings: argparse.Namespace | None = None,
) -> Path:
    """The folders of a checkpoint in `root`, as the original writes them."""
    state = random_state(sizes, seed)
    settings = original_settings() if settings is None else settings
    for half, config in original_configs(sizes).items():
        folder = root / f"checkpoint-{half}-{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        if half in parts:
            own = {k.removeprefix(f"{half}."): v for k, v in state.items() if k.startswith(f"{half}.")}
            save_legacy({prefix + name: value for name, value in own.items()}, folder / "pytorch_model.bin")
            save_legacy(settings, folder / "training_encoder_args.bin")
    if "full" in parts:
        content = {
            "iter": step,
            "model_state_dict": {prefix + name: value for name, value in state.items()},
            "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 5e-5}]},
            "beta": settings.beta,
            "args": settings,
        }
        save_legacy(content, root / f"checkpoint-full-{step}" / "training.bin")
    return root


def convert(path: Path, out: Path, **options) -> BNVAEModel:
    """What is loaded from the folder that the conversion wrote."""
    convert_optimus_checkpoint(path, out, **options)
    model, report = BNVAEModel.from_pretrained(out, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


def plain_attention(query, key, value, heads: int, visible) -> torch.Tensor:
    """`(queries, width)`; `visible` says which keys each query sees."""
    size = query.shape[1] // heads
    parts = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        scores = query[:, own] @ key[:, own].T / size**0.5
        parts.append(scores.masked_fill(~visible, -1e4).softmax(-1) @ value[:, own])
    return torch.cat(parts, 1)


class PlainOptimus:
    """The weights of an original, which compute in float64. The keywords of the methods are the controls."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def conv(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def norm(self, name: str, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], epsilon)

    def posterior(self, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings = "encoder.embeddings"
        x = self.state[f"{embeddings}.word_embeddings.weight"][ids]
        x = x + self.state[f"{embeddings}.position_embeddings.weight"][: len(ids)]
        x = self.norm(
            f"{embeddings}.LayerNorm", x + self.state[f"{embeddings}.token_type_embeddings.weight"][0], 1e-12
        )
        for i in range(LAYERS):
            layer = f"encoder.encoder.layer.{i}"
            projected = [self.linear(f"{layer}.attention.self.{name}", x) for name in ("query", "key", "value")]
            seen = plain_attention(*projected, ENCODER_HEADS, torch.ones(len(ids), len(ids), dtype=torch.bool))
            seen = self.linear(f"{layer}.attention.output.dense", seen)
            x = self.norm(f"{layer}.attention.output.LayerNorm", x + seen, 1e-12)
            wide = F.gelu(self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.linear(f"{layer}.output.dense", wide), 1e-12)
        pooled = torch.tanh(self.linear("encoder.pooler.dense", x[0]))
        moments = self.state["encoder.linear.weight"] @ pooled
        return moments[:LATENT_SIZE], moments[LATENT_SIZE:]

    def logits(
        self, z: torch.Tensor, ids: list[int], memory: int, embedding: int, shift: bool = True, value: bool = True
    ) -> torch.Tensor:
        """`(length, vocabulary)`; without `shift` positions count as if there were no slot, and without `value` the
        slot is only a key."""
        length, decoder = len(ids), "decoder.transformer"
        first = memory if shift else 0
        x = self.state[f"{decoder}.wte.weight"][ids]
        x = x + self.state[f"{decoder}.wpe.weight"][first : first + length]
        if embedding:
            x = x + self.state[f"{decoder}.linear_emb.weight"] @ z
        slots = (self.state[f"{decoder}.linear.weight"] @ z).split(WIDTH)
        for i in range(LAYERS):
            layer = f"{decoder}.h.{i}"
            query, keys, values = self.conv(f"{layer}.attn.c_attn", self.norm(f"{layer}.ln_1", x, 1e-5)).chunk(3, 1)
            visible = torch.ones(length, length, dtype=torch.bool).tril()
            if memory:
                keys = torch.cat([slots[i][None], keys])
                values = torch.cat([slots[i][None] * value, values])
                visible = torch.cat([torch.ones(length, 1, dtype=torch.bool), visible], 1)
            x = x + self.conv(f"{layer}.attn.c_proj", plain_attention(query, keys, values, DECODER_HEADS, visible))
            wide = self.conv(f"{layer}.mlp.c_fc", self.norm(f"{layer}.ln_2", x, 1e-5))
            x = x + self.conv(f"{layer}.mlp.c_proj", F.gelu(wide, approximate="tanh"))
        return self.norm(f"{decoder}.ln_f", x, 1e-5) @ self.state["decoder.lm_head.weight"].T


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()
