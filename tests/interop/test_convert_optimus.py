"""Checkpoints of the original Optimus, converted: against a plain computation of what the original does, on
checkpoints in its layout that are written here, and against the numbers that the original itself computed, where
they are at hand (../shared/optimus). And what users have in place of a checkpoint."""

import argparse
import json
import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import HELPERS, ROOT
from tokenizers import ByteLevelBPETokenizer
from torch.nn import functional as F
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_bnvae import BNVAEConfig, BNVAEModel, BNVAEProcessor
from hf_bnvae.evaluation.importance import decoder_nll, importance_weighted_nll
from hf_bnvae.interop.optimus.checkpoint import find_optimus_checkpoint, load_safely
from hf_bnvae.interop.optimus.convert import Injection, convert_optimus_checkpoint, convert_state_dict, saved_injection
from hf_bnvae.training.objective import free_bits_kl, training_loss

SCRIPT = ROOT / "scripts" / "convert_optimus_checkpoint.py"
FIXTURE = ROOT.parent / "shared" / "optimus" / "fixture"

# The three injections, with the flags of the original.
WAYS = {"both": (1, 1), "memory": (1, 0), "embedding": (0, 1)}
LATENT_SIZE, WIDTH, LAYERS, POSITIONS = 6, 24, 2, 20
ENCODER_HEADS, DECODER_HEADS = 2, 3
STEP = 7

# ---------------------------------------------------------------------------------------------------------------------
# A checkpoint in the original's layout, with random weights
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tokenizer_folders(texts, tmp_path_factory) -> dict[str, str]:
    """BERT's and GPT-2's tokenizers as they were published in 2019: vocabulary files without a configuration."""
    path = tmp_path_factory.mktemp("tokenizers")
    words = sorted({word for text in texts for word in text.split()} - {"the"})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "the"]
    for name in ("bert", "gpt2"):
        (path / name).mkdir()
        (path / name / "config.json").write_text(json.dumps({"model_type": name}))
    (path / "bert" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=330, special_tokens=["<|endoftext|>"], show_progress=False)
    bpe.save_model(str(path / "gpt2"))
    return {name: str(path / name) for name in ("bert", "gpt2")}


@pytest.fixture(scope="session")
def sizes(tokenizer_folders) -> dict[str, int]:
    """Both vocabularies' sizes; the decoder's has the three special tokens that the original adds."""
    size = {name: len(AutoTokenizer.from_pretrained(path)) for name, path in tokenizer_folders.items()}
    return {"encoder": size["bert"], "decoder": size["gpt2"] + 3}


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


@pytest.fixture
def checkpoint(tmp_path, sizes) -> Path:
    return write_checkpoint(tmp_path / f"checkpoint-{STEP}", sizes)


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def warned(caplog):
    """A function that tells what the package warned of so far."""
    return lambda: "\n".join(record.message for record in caplog.records if record.name.startswith("hf_bnvae"))


def convert(path: Path, out: Path, **options) -> BNVAEModel:
    """What is loaded from the folder that the conversion wrote."""
    convert_optimus_checkpoint(path, out, **options)
    model, report = BNVAEModel.from_pretrained(out, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


# ---------------------------------------------------------------------------------------------------------------------
# What the original computes, in plain steps: sentence by sentence, layer by layer, head by head
# ---------------------------------------------------------------------------------------------------------------------


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
    """An original's state, computed with in float64; the keywords of its methods are the controls."""

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
        """`(length, vocabulary)`; without `shift` positions are counted as if there were no slot, without `value` the
        slot is a key alone."""
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


@pytest.fixture(scope="session")
def sentences(sizes) -> dict[str, list[list[int]]]:
    """Token ids of either side, of different lengths."""
    generator = torch.Generator().manual_seed(1)
    lengths = (3, 11, 7)

    def draw(low: int, high: int, length: int) -> list[int]:
        return torch.randint(low, high, (length,), generator=generator).tolist()

    bos, eos = sizes["decoder"] - 2, sizes["decoder"] - 1
    return {
        "encoder": [[2, *draw(4, sizes["encoder"], length), 3] for length in lengths],
        "decoder": [[bos, *draw(0, sizes["decoder"] - 3, length), eos] for length in lengths],
    }


# ---------------------------------------------------------------------------------------------------------------------
# The same numbers
# ---------------------------------------------------------------------------------------------------------------------


def test_posteriors_are_those_of_a_plain_computation(checkpoint, out, sizes, sentences):
    model = convert(checkpoint, out).double()
    plain = PlainOptimus(random_state(sizes))
    longest = max(map(len, sentences["encoder"]))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in sentences["encoder"]])
    posterior = model.encode(ids, ids.gt(0).long())
    for row, mean, logvar in zip(sentences["encoder"], posterior.mean, posterior.logvar, strict=True):
        expected = plain.posterior(row)
        assert difference(mean, expected[0]) < 1e-10 and difference(logvar, expected[1]) < 1e-10
        assert difference(mean, expected[1]) > 0.1
    # Without a mask, as the original evaluates, padding would count.
    assert difference(model.encode(ids).mean[0], posterior.mean[0]) > 0.01
    assert not any(getattr(model.posterior, f"{name}_projection").bias.any() for name in ("mean", "scale"))


@pytest.mark.parametrize("way", WAYS)
def test_logits_are_those_of_a_plain_computation(way, checkpoint, out, sizes, sentences):
    model = convert(checkpoint, out, latent_injection=way).double()
    plain = PlainOptimus(random_state(sizes))
    z = torch.randn(3, LATENT_SIZE, dtype=torch.float64)
    for row, ids in enumerate(sentences["decoder"]):
        logits = model.decode(z[row : row + 1], torch.tensor([ids]))[0][0]
        assert difference(logits, plain.logits(z[row], ids, *WAYS[way])) < 1e-10
        controls = [plain.logits(z[row], ids, *flags) for name, flags in WAYS.items() if name != way]
        controls.append(plain.logits(z[row - 1], ids, *WAYS[way]))
        if way != "embedding":
            controls += [plain.logits(z[row], ids, *WAYS[way], **{name: False}) for name in ("shift", "value")]
        assert min(difference(logits, control) for control in controls) > 0.05
        # The loss scores all but BOS.
        labels = torch.tensor([ids[1:]])
        nll = F.cross_entropy(plain.logits(z[row], ids, *WAYS[way])[:-1], labels[0], reduction="sum")
        assert difference(model(latents=z[row : row + 1], labels=labels).reconstruction_nll[0], nll) < 1e-9


@pytest.mark.parametrize("way", WAYS)
def test_greedy_texts_are_those_of_a_plain_computation(way, checkpoint, out, sizes):
    model = convert(checkpoint, out, latent_injection=way).double()
    plain = PlainOptimus(random_state(sizes))
    z = torch.randn(2, LATENT_SIZE, dtype=torch.float64)
    generated = model.generate(latents=z, max_new_tokens=12, eos_token_id=None)
    texts = []
    for row in range(2):
        ids = [sizes["decoder"] - 2]
        for _ in range(12):
            ids.append(plain.logits(z[row], ids, *WAYS[way])[-1].argmax().item())
        texts.append(ids)
    assert generated.tolist() == texts
    assert texts[0] != texts[1]


@pytest.mark.parametrize("way", WAYS)
def test_the_slot_takes_one_of_the_decoders_positions(way, checkpoint, out):
    model = convert(checkpoint, out, latent_injection=way)
    z, longest = torch.zeros(1, LATENT_SIZE), POSITIONS - WAYS[way][0]
    model.decode(z, torch.zeros(1, longest, dtype=torch.long))
    with pytest.raises(ValueError, match=f"takes {POSITIONS + 1} positions of the decoder, which has {POSITIONS}"):
        model.decode(z, torch.zeros(1, longest + 1, dtype=torch.long))


def test_the_configuration_is_the_originals(checkpoint, out, sizes):
    convert_optimus_checkpoint(checkpoint, out)
    config = BNVAEConfig.from_pretrained(out)
    vocab_size = sizes["decoder"]
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    ids = dict(zip(names, (vocab_size - 3, vocab_size - 2, vocab_size - 1, vocab_size - 2), strict=True))
    generation = json.loads((out / "generation_config.json").read_text())
    assert all(getattr(config, name) == generation[name] == value for name, value in ids.items())
    assert all(getattr(config.decoder, name) == ids[name] for name in names[:3])
    assert (config.posterior, config.pooling, config.latent_size) == ("gaussian", "pooler", LATENT_SIZE)
    assert (config.encoder.num_attention_heads, config.decoder.n_head) == (ENCODER_HEADS, DECODER_HEADS)
    assert (config.decoder.attn_pdrop, config.encoder.hidden_dropout_prob) == (0.1, 0)
    names = {file.name for file in out.iterdir() if file.suffix != ".py"}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}


# ---------------------------------------------------------------------------------------------------------------------
# Layouts
# ---------------------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "whole": {},
    "halves": {"parts": ("encoder", "decoder")},
    "full, and the halves' configurations": {"parts": ("full",)},
    "data-parallel": {"prefix": "module."},
    "data-parallel halves": {"prefix": "module.", "parts": ("encoder", "decoder")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model(layout, tmp_path, out, sizes, warned):
    path = write_checkpoint(tmp_path / "checkpoint", sizes, **LAYOUTS[layout])
    weights = convert(path, out).state_dict()
    state = random_state(sizes)
    assert torch.equal(weights["posterior.scale_projection.weight"], state["encoder.linear.weight"][LATENT_SIZE:])
    assert torch.equal(weights["injection.memory.weight"], state["decoder.transformer.linear.weight"])
    same = [name for name in weights if name in state]
    assert len(same) == len(state) - LAYERS - 3  # all but the causal masks and the three maps of the latent
    assert all(torch.equal(weights[name], state[name]) for name in same)
    assert warned() == ""


def test_a_training_of_several_steps_wants_a_choice(tmp_path, sizes, out):
    run = tmp_path / "run"
    for step in (500, 1000):
        write_checkpoint(run, sizes, ("encoder", "decoder"), step=step, seed=step)
    write_checkpoint(run / "checkpoint-1500", sizes, ("full",), step=1500, seed=1500)
    (run / "eval_vae_results.txt").write_text("elbo = 1")
    with pytest.raises(ValueError, match=rf"several steps in {run}: 500 in .*, 1000 in .*1500 in .*with --step"):
        convert_optimus_checkpoint(run, out)
    with pytest.raises(ValueError, match=r"There is no step 700 in .*There are: 500 in .*, 1000 in"):
        convert_optimus_checkpoint(run, out, step=700)
    assert not out.exists()
    for step in (1000, 1500):
        weights = convert(run, tmp_path / str(step), step=step).decoder.state_dict()["transformer.wpe.weight"]
        assert torch.equal(weights, random_state(sizes, step)["decoder.transformer.wpe.weight"])
    # One step is no choice, wherever it is.
    assert find_optimus_checkpoint(run / "checkpoint-1500").step == 1500
    shutil.copytree(run / "checkpoint-1500", run, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="Step 1500 is there more than once"):
        convert_optimus_checkpoint(run, out, step=1500)


def test_the_full_checkpoint_overrides_the_halves_and_that_is_said(tmp_path, sizes, out, warned):
    path = write_checkpoint(tmp_path / "checkpoint", sizes)
    other = write_checkpoint(tmp_path / "other", sizes, seed=1)
    decoder = f"checkpoint-decoder-{STEP}/pytorch_model.bin"
    shutil.copy(other / decoder, path / decoder)
    weights = convert(path, out).state_dict()
    assert torch.equal(
        weights["decoder.transformer.wpe.weight"], random_state(sizes)["decoder.transformer.wpe.weight"]
    )
    assert re.search(r"tensors of .*decoder-7/pytorch_model.bin are not those of .*training.bin", warned())
    assert "--weights halves" in warned() and "encoder-7/pytorch" not in warned()
    weights = convert(path, tmp_path / "halves", weights="halves").state_dict()
    assert torch.equal(
        weights["decoder.transformer.wpe.weight"], random_state(sizes, 1)["decoder.transformer.wpe.weight"]
    )
    assert torch.equal(weights["encoder.pooler.dense.bias"], random_state(sizes)["encoder.pooler.dense.bias"])


# ---------------------------------------------------------------------------------------------------------------------
# Injections
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", [("full",), ("encoder", "decoder")])
def test_the_injection_is_the_one_that_was_trained(way, parts, tmp_path, sizes, out, warned):
    memory, embedding = WAYS[way]
    settings = original_settings(latent_as_gpt_memory=memory, latent_as_gpt_emb=embedding)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, parts, settings=settings)
    model = convert(path, out)
    assert model.config.latent_injection == way and warned() == ""
    assert [model.injection.memory is not None, model.injection.embedding is not None] == [memory, embedding]


def test_an_injection_that_is_asked_for_wins_and_that_is_said(tmp_path, sizes, out, warned):
    settings = original_settings(latent_as_gpt_emb=0)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, settings=settings)
    assert convert(path, out, latent_injection="both").config.latent_injection == "both"
    assert "was trained with the injection 'memory', and is converted with 'both'" in warned()


def test_an_injection_that_nothing_tells_is_both_with_a_warning(tmp_path, sizes, out, warned):
    settings = original_settings(latent_as_gpt_memory=None, latent_as_gpt_emb=None)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, settings=settings)
    assert convert(path, out, latent_injection="memory").config.latent_injection == "memory"
    assert warned() == ""
    assert convert(path, tmp_path / "other").config.latent_injection == "both"
    assert "does not say how the latent enters the decoder" in warned()


def test_a_decoder_from_a_checkpoint_had_both_injections_whatever_the_settings_say():
    flags = {"latent_as_gpt_memory": 1, "latent_as_gpt_emb": 0}
    assert saved_injection(argparse.Namespace(**flags)) == "memory"
    assert saved_injection(argparse.Namespace(**flags, use_pretrained_model=True)) == "both"
    assert saved_injection(None) is None
    with pytest.raises(ValueError, match="leave the latent no way into the decoder"):
        saved_injection(argparse.Namespace(latent_as_gpt_memory=0, latent_as_gpt_emb=0))


def test_injections_are_the_configurations():
    for way in Injection.__args__:
        assert BNVAEConfig(latent_injection=way).latent_injection == way
    assert set(Injection.__args__) == set(WAYS)


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizers
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokenizers(tokenizer_folders) -> dict[str, str]:
    return {"encoder_tokenizer": tokenizer_folders["bert"], "decoder_tokenizer": tokenizer_folders["gpt2"]}


def test_the_processor_makes_the_originals_ids(checkpoint, out, sizes, tokenizers, tokenizer_folders, texts):
    converted = convert_optimus_checkpoint(checkpoint, out, **tokenizers)
    processor = BNVAEProcessor.from_pretrained(out)
    plain = AutoTokenizer.from_pretrained(tokenizer_folders["gpt2"])
    vocabulary = Path(tokenizer_folders["bert"], "vocab.txt").read_text().splitlines()
    text = "The old waiter likes the red car ."
    batch = processor(text)
    assert batch["input_ids"] == [2, *(vocabulary.index(word) for word in text.split()), 3]
    # The space ahead, which a tokenizer of today does not put there by itself.
    assert batch["labels"] == [*plain(" " + text)["input_ids"], sizes["decoder"] - 1]
    assert batch["labels"][:-1] != plain(text)["input_ids"]
    tokenizer = processor.tokenizer
    specials = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}
    for i, (name, token) in enumerate(specials.items()):
        assert (getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")) == (token, sizes["decoder"] - 3 + i)
    assert processor.encoder_tokenizer.pad_token_id == 0
    assert (tokenizer.model_max_length, processor.encoder_tokenizer.model_max_length) == (POSITIONS, POSITIONS)
    # Texts to texts, with what was returned and with what was saved.
    model = BNVAEModel.from_pretrained(out).attach_processor(processor)
    assert model.reconstruct(texts[:2], do_sample=False) == converted.reconstruct(texts[:2], do_sample=False)
    outputs = model(**processor(texts[:4], return_tensors="pt"))
    assert torch.isfinite(outputs.loss)


@pytest.mark.parametrize("lower", [False, True])
def test_the_encoders_case_is_the_trainings(lower, tmp_path, sizes, out, tokenizers):
    """A vocabulary alone does not say it, and Transformers would lower every text."""
    settings = original_settings(do_lower_case=lower)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, settings=settings)
    convert_optimus_checkpoint(path, out, **tokenizers)
    pieces = BNVAEProcessor.from_pretrained(out).encoder_tokenizer.tokenize("The car")
    assert pieces == (["the", "car"] if lower else ["The", "car"])


def test_tokenizers_of_another_model_are_refused(checkpoint, out, sizes, tokenizers, tokenizer_folders, tmp_path):
    bert, gpt2 = tokenizer_folders["bert"], tokenizer_folders["gpt2"]
    larger = AutoTokenizer.from_pretrained(gpt2)
    larger.add_tokens(["another"])
    larger.save_pretrained(tmp_path / "larger")
    # The right size, and the special tokens in another order.
    reordered = AutoTokenizer.from_pretrained(gpt2)
    reordered.add_tokens(["<EOS>", "<BOS>", "<PAD>"])
    reordered.save_pretrained(tmp_path / "reordered")
    fast = AutoTokenizer.from_pretrained(gpt2)
    PreTrainedTokenizerFast(tokenizer_object=fast.backend_tokenizer, eos_token="<|endoftext|>").save_pretrained(
        tmp_path / "fast"
    )
    uncased = tmp_path / "uncased"
    shutil.copytree(bert, uncased)
    with open(uncased / "vocab.txt", "a") as file:
        file.write("another\n")
    unpadded = tmp_path / "unpadded"
    shutil.copytree(bert, unpadded)
    pieces = (unpadded / "vocab.txt").read_text().splitlines()
    (unpadded / "vocab.txt").write_text("\n".join([*pieces[1:], "[PAD]"]) + "\n")
    plain = sizes["decoder"] - 3
    cases = [
        (
            {"decoder_tokenizer": tmp_path / "larger"},
            f"has {plain + 1} tokens, and the decoder {plain + 3}.*{plain} to",
        ),
        ({"decoder_tokenizer": tmp_path / "reordered"}, f"has {plain + 3} tokens.*{plain}, {plain + 1}, {plain + 2}"),
        ({"decoder_tokenizer": tmp_path / "fast"}, "cannot put a space ahead of texts.*vocab.json and merges.txt"),
        ({"decoder_tokenizer": bert}, f"has {sizes['encoder']} tokens, and the decoder {plain + 3}"),
        ({"encoder_tokenizer": uncased}, f"has {sizes['encoder'] + 1} tokens, and the encoder {sizes['encoder']}"),
        ({"encoder_tokenizer": unpadded}, "none of BERT's: .*pad with the id 0"),
        ({"encoder_tokenizer": tmp_path / "nowhere"}, "nowhere could not be loaded as a folder or from the Hub"),
        ({"encoder_tokenizer": None}, "both --encoder_tokenizer and --decoder_tokenizer, or neither"),
    ]
    for change, message in cases:
        options = {**tokenizers, **{name: path and str(path) for name, path in change.items()}}
        with pytest.raises(ValueError, match=f"(?s){message}"):
            convert_optimus_checkpoint(checkpoint, out, **options)
        assert not out.exists()


def test_a_tokenizer_that_has_the_special_tokens_already_is_taken(checkpoint, out, tokenizers, tmp_path, sizes):
    tokenizer = AutoTokenizer.from_pretrained(tokenizers["decoder_tokenizer"])
    tokenizer.add_special_tokens({"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"})
    tokenizer.save_pretrained(tmp_path / "ready")
    convert_optimus_checkpoint(checkpoint, out, **{**tokenizers, "decoder_tokenizer": str(tmp_path / "ready")})
    processor = BNVAEProcessor.from_pretrained(out)
    assert processor.tokenizer.bos_token_id == sizes["decoder"] - 2
    assert processor.tokenizer.tokenize("a") == processor.tokenizer.tokenize(" a")


# ---------------------------------------------------------------------------------------------------------------------
# Weights and configurations that do not belong together
# ---------------------------------------------------------------------------------------------------------------------


def test_weights_that_are_missing_unexpected_or_of_another_shape_are_listed(checkpoint, out, sizes):
    file = checkpoint / f"checkpoint-full-{STEP}" / "training.bin"
    state = random_state(sizes)
    lost = {"decoder.transformer.h.1.ln_2.bias", "decoder.transformer.h.0.attn.c_attn.bias"}
    shape = state["encoder.pooler.dense.weight"].shape
    changed = {name: tensor for name, tensor in state.items() if name not in lost}
    changed |= {
        "encoder.pooler.dense.weight": torch.zeros(3, 4),
        "encoder.crossattention.weight": torch.zeros(2),
        "decoder.transformer.h.0.attn.masked_bias": torch.zeros(1),
        "decoder.transformer.h.2.attn.c_attn.bias": torch.zeros(3 * WIDTH),  # no causal mask
    }
    save_legacy({"model_state_dict": changed}, file)
    with pytest.raises(ValueError) as caught:
        convert_optimus_checkpoint(checkpoint, out)
    lists = dict(part.split(": ") for part in str(caught.value).partition("describe. ")[2].rstrip(".").split("; "))
    assert set(lists["missing"].split(", ")) == lost
    assert set(lists["unexpected"].split(", ")) == set(changed) - set(state)
    assert lists["of another shape"] == f"encoder.pooler.dense.weight (3, 4), expected {tuple(shape)}"
    assert not out.exists()


def test_both_maps_of_the_posterior_come_from_one_and_a_missing_one_is_named_once():
    template = {f"posterior.{name}_projection.weight": torch.zeros(2, 3) for name in ("mean", "scale")}
    with pytest.raises(ValueError, match=r"missing: encoder.linear.weight\.$"):
        convert_state_dict({}, template)
    with pytest.raises(ValueError, match=r"encoder.linear.weight \(3, 3\), expected \(4, 3\)\.$"):
        convert_state_dict({"encoder.linear.weight": torch.zeros(3, 3)}, template)


def test_output_embeddings_of_their_own_are_refused(checkpoint, out, sizes):
    state = random_state(sizes)
    state["decoder.lm_head.weight"] = state["decoder.lm_head.weight"] + 1e-3
    save_legacy({"model_state_dict": state}, checkpoint / f"checkpoint-full-{STEP}" / "training.bin")
    with pytest.raises(ValueError, match=r"lm_head.weight and decoder.transformer.wte.weight differ"):
        convert_optimus_checkpoint(checkpoint, out)


@pytest.mark.parametrize(
    ("half", "change", "message"),
    [
        ("decoder", {"latent_size": 8}, "gives means and log variances of 6 dimensions.*latent_size=8"),
        ("decoder", {"latent_size": None}, "latent_size=32"),
        ("decoder", {"n_head": None}, "The decoder's config.json lacks n_head"),
        ("encoder", {"layer_norm_eps": None, "hidden_act": None}, "The encoder's config.json lacks hidden_act, layer"),
        ("decoder", {"n_ctx": 10}, "n_ctx=10 and n_positions=20"),
        ("decoder", {"vocab_size": 5}, r"decoder.transformer.wte.weight \(\d+, 24\), expected \(5, 24\)"),
        ("encoder", {"num_hidden_layers": 1}, r"unexpected: encoder.encoder.layer.1.attention.self.query.weight, "),
        ("encoder", {"hidden_size": "wide"}, "config.json holds what cannot be.*hidden_size"),
        ("decoder", {"vocab_size": "many"}, "config.json holds what cannot be"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(half, change, message, checkpoint, out, sizes):
    config = {**original_configs(sizes)[half], **change}
    config = {name: value for name, value in config.items() if value is not None}
    (checkpoint / f"checkpoint-{half}-{STEP}" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        convert_optimus_checkpoint(checkpoint, out)
    assert not out.exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is no checkpoint
# ---------------------------------------------------------------------------------------------------------------------


def test_missing_parts_are_named(tmp_path, sizes, out):
    path = write_checkpoint(tmp_path / "checkpoint", sizes, ("encoder", "decoder"))
    shutil.rmtree(path / f"checkpoint-decoder-{STEP}")
    with pytest.raises(ValueError, match=r"no .*decoder-7/config.json and no .*decoder-7/pytorch_model.bin\. A conv"):
        convert_optimus_checkpoint(path, out)
    path = write_checkpoint(tmp_path / "full", sizes, ("full",))
    with pytest.raises(ValueError, match=r"no .*encoder-7/pytorch_model.bin and no .*decoder-7/pytorch_model.bin\."):
        convert_optimus_checkpoint(path, out, weights="halves")
    shutil.rmtree(path / f"checkpoint-encoder-{STEP}")
    with pytest.raises(ValueError, match=r"there is no .*encoder-7/config.json\. A conversion needs the config.json"):
        convert_optimus_checkpoint(path, out)
    assert not out.exists()


def test_folders_that_hold_no_checkpoint_are_told_apart(checkpoint, tmp_path, out, make_model):
    make_model(posterior="gaussian").save_pretrained(tmp_path / "bnvae")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("")
    cases = {
        tmp_path / "bnvae": "holds a BNVAE already",
        tmp_path / "empty": "It holds nothing",
        tmp_path / "file.zip": "an archive must be unpacked first",
        tmp_path / "nowhere": "is no folder",
        checkpoint / f"checkpoint-full-{STEP}": f"one part of a checkpoint. Give the folder above it: {checkpoint}",
        ROOT / "tests": "There is no checkpoint of Optimus in .*It holds .*, ...",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            convert_optimus_checkpoint(path, out)
    assert not out.exists()


def damaged(kind: str, whole: bytes) -> bytes:
    return {
        "random": np.random.default_rng(0).bytes(5000),
        "page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "empty": b"",
        "cut in its pickle": whole[:200],
        "cut in its tensors": whole[: len(whole) // 2],
        "cut at its end": whole[:-1],
    }[kind]


KINDS = ["random", "page", "pointer", "empty", "cut in its pickle", "cut in its tensors", "cut at its end"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["full", "decoder"])
def test_a_damaged_file_is_named(kind, part, checkpoint, tmp_path, out):
    options = {} if part == "full" else {"weights": "halves"}
    name = {"full": "training.bin", "decoder": "pytorch_model.bin"}[part]
    file = checkpoint / f"checkpoint-{part}-{STEP}" / name
    file.write_bytes(damaged(kind, file.read_bytes()))
    # A name that is cut in two looks like one that is not known.
    message = rf"{name} (is no file of torch, or is damaged or cut off \(.*again|holds torch\S+, .* If it is whole)"
    with pytest.raises(ValueError, match=message) as caught:
        convert_optimus_checkpoint(checkpoint, out, **options)
    assert "weights_only" not in str(caught.value) and not out.exists()
    assert ("is empty" in str(caught.value)) == (kind == "empty")
    if part == "full":
        assert "--weights halves" in str(caught.value)
        convert(checkpoint, out, weights="halves")


def test_a_cut_archive_of_newer_torch_is_named_and_a_whole_one_read(checkpoint, out, sizes):
    file = checkpoint / f"checkpoint-full-{STEP}" / "training.bin"
    torch.save({"model_state_dict": random_state(sizes), "args": original_settings()}, file)
    convert(checkpoint, out)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or cut off"):
        load_safely(file)


def test_a_torch_file_without_weights_is_refused(checkpoint, out):
    file = checkpoint / f"checkpoint-full-{STEP}" / "training.bin"
    for content in ([1, 2], {"epoch": 3}, {"model_state_dict": {"a": 1}}, original_settings()):
        save_legacy(content, file)
        with pytest.raises(ValueError, match=r"training\.bin holds no weights where"):
            convert_optimus_checkpoint(checkpoint, out)
    (checkpoint / f"checkpoint-decoder-{STEP}" / "config.json").write_text("<html>")
    with pytest.raises(ValueError, match=r"config\.json is damaged .* it is no JSON"):
        convert_optimus_checkpoint(checkpoint, out, weights="halves")


class Attack:
    """A pickle of it runs a command where it is loaded without care."""

    def __init__(self, file: Path) -> None:
        self.command = f"{sys.executable} -c \"open('{file}', 'w')\""

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_would_run_a_command_does_not(legacy, checkpoint, tmp_path, out, sizes, warned):
    proof = tmp_path / "proof"
    attack = Attack(proof)
    content = {"model_state_dict": random_state(sizes), "args": original_settings(extra=attack)}
    files = {
        checkpoint / f"checkpoint-full-{STEP}" / "training.bin": (content, {}),
        checkpoint / f"checkpoint-encoder-{STEP}" / "pytorch_model.bin": (attack, {"weights": "halves"}),
    }
    for file, (value, options) in files.items():
        whole = file.read_bytes()
        torch.save(value, file, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=rf"{file.name} holds (posix|nt)\.system, which .* could run code"):
            convert_optimus_checkpoint(checkpoint, out, **options)
        assert not proof.exists() and not out.exists()
        if file.name == "pytorch_model.bin":
            # The full checkpoint's weights are still good.
            file.unlink()
            torch.save(value, file, _use_new_zipfile_serialization=not legacy)
            convert_optimus_checkpoint(checkpoint, out)
            assert "not compared" in warned() and "system" in warned()
            shutil.rmtree(out)
        file.write_bytes(whole)
    # Settings are not needed: the model is made without them.
    for half in ("encoder", "decoder"):
        file = checkpoint / f"checkpoint-{half}-{STEP}" / "training_encoder_args.bin"
        torch.save(original_settings(extra=attack), file, _use_new_zipfile_serialization=not legacy)
    assert convert(checkpoint, out, weights="halves").config.latent_injection == "both"
    assert "settings were not read" in warned() and "does not say how the latent enters" in warned()
    assert not proof.exists()
    # The control: loaded without care it runs.
    torch.load(file, weights_only=False)
    assert proof.exists()


def test_numbers_of_numpy_are_read_by_both_names_of_their_constructor(tmp_path):
    file = tmp_path / "settings.bin"
    save_legacy(original_settings(), file)
    written = file.read_bytes()
    names = [b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"]
    (own,) = (name for name in names if name in written)
    for name in names:
        file.write_bytes(written.replace(own, name))
        assert load_safely(file).beta == 0.5
    save_legacy({"array": np.arange(3)}, file)
    with pytest.raises(ValueError, match=r"holds numpy\S*_reconstruct, which is neither"):
        load_safely(file)


# ---------------------------------------------------------------------------------------------------------------------
# The output folder
# ---------------------------------------------------------------------------------------------------------------------


def test_what_is_in_the_output_folder_is_never_touched(checkpoint, out, tmp_path):
    out.mkdir()
    convert(checkpoint, out)  # an empty one is free
    before = {file: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(ValueError, match=r"is not empty \(it holds .*config.json, .*Nothing was touched"):
        convert_optimus_checkpoint(checkpoint, out)
    assert {file: file.read_bytes() for file in out.iterdir()} == before
    with pytest.raises(ValueError, match="is not empty"):
        convert_optimus_checkpoint(checkpoint, checkpoint)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file is a file"):
        convert_optimus_checkpoint(checkpoint, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_a_conversion_that_is_killed_leaves_no_folder_that_looks_whole(checkpoint, tmp_path, out, tokenizers):
    options = ["--checkpoint_path", str(checkpoint), "--output_dir", str(out)]
    options += [word for name, path in tokenizers.items() for word in (f"--{name}", path)]
    killer = [sys.executable, str(Path(HELPERS, "killed_at.py"))]
    for moment in (["open", "processor_config.json", "1"], ["os.rename", ".partial", "1"]):
        command = [*killer, *moment, str(SCRIPT), *options]
        killed = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert killed.returncode == -9, killed.stderr
        assert not out.exists()
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith("out")]
    assert len(left) == 2 and all(re.fullmatch(r"out\.\d+\.partial", name) for name in left)
    convert_optimus_checkpoint(checkpoint, out, **tokenizers)
    assert BNVAEProcessor.from_pretrained(out).tokenizer.pad_token == "<PAD>"


def test_a_conversion_that_fails_while_writing_leaves_nothing(checkpoint, tmp_path, out):
    before = set(tmp_path.iterdir())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"out could not be written .*Nothing was left"):
            convert_optimus_checkpoint(checkpoint, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert set(tmp_path.iterdir()) == before
    convert(checkpoint, out)


# ---------------------------------------------------------------------------------------------------------------------
# The script
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the script: what it prints."""

    def run_script(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_the_script_says_what_it_took_and_what_is_not_there(run, checkpoint, out, tokenizers, tmp_path):
    printed = run("--checkpoint_path", checkpoint, "--output_dir", out)
    assert f"Converted step {STEP} with the weights of {checkpoint}/checkpoint-full-{STEP}/training.bin" in printed
    assert "latent_size=6, latent_injection='both'" in printed and f"Written to {out}." in printed
    assert "Only the model was written" in printed and "those of bert-base-cased and gpt2" in printed
    options = [word for name, path in tokenizers.items() for word in (f"--{name}", path)]
    other = tmp_path / "other"
    options += ["--weights", "halves", "--latent_injection", "memory", "--step", STEP]
    printed = run("--checkpoint_path", tmp_path, "--output_dir", other, *options)
    assert "encoder-7/pytorch_model.bin and " in printed and "Only the model" not in printed
    assert BNVAEConfig.from_pretrained(other).latent_injection == "memory"
    assert BNVAEProcessor.from_pretrained(other).tokenizer.eos_token == "<EOS>"


def test_mistakes_are_named(run, checkpoint, tmp_path, capsys):
    paths = ["--checkpoint_path", checkpoint, "--output_dir", tmp_path / "out"]
    with pytest.raises(SystemExit, match="error: There is no step 8"):
        run(*paths, "--step", "8")
    with pytest.raises(SystemExit, match="error: Give both"):
        run(*paths, "--encoder_tokenizer", "bert-base-cased")
    with pytest.raises(SystemExit, match=r"error: .*is not empty"):
        run(*paths[:2], "--output_dir", tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run(*paths, "--latent_injection", "none")
    with pytest.raises(ValueError, match="weights must be one of full, halves, got 'half'"):
        convert_optimus_checkpoint(checkpoint, tmp_path / "out", weights="half")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The numbers that the original computed
# ---------------------------------------------------------------------------------------------------------------------

needs_reference = pytest.mark.skipif(not FIXTURE.is_dir(), reason="../shared/optimus is not there")


@pytest.fixture(scope="session")
def reference() -> dict[str, torch.Tensor]:
    """What the original computed; reference.json beside it says what is what."""
    with np.load(FIXTURE / "reference.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


@pytest.fixture
def inputs(reference) -> dict[str, torch.Tensor]:
    """Its sentences as a model's arguments."""
    ids, targets = reference["bert_ids"], reference["gpt2_ids"][:, 1:]
    return {
        "input_ids": ids,
        "attention_mask": ids.gt(0).long(),
        "labels": targets.masked_fill(targets.eq(500), -100),
    }


@pytest.fixture
def reference_model(out):
    """A function that converts the original's checkpoint with an injection, and loads it."""
    return lambda way="both": convert(FIXTURE, out, latent_injection=way)


def key(way: str) -> str:
    return "mem{}_emb{}".format(*WAYS[way])


@needs_reference
def test_reference_posteriors(reference_model, reference, inputs):
    model = reference_model()
    posterior = model.encode(inputs["input_ids"], inputs["attention_mask"])
    assert difference(posterior.mean, reference["mu"]) < 1e-5
    assert difference(posterior.logvar, reference["logvar"]) < 1e-5
    assert difference(posterior.sample(reference["eps"]), reference["z_sample"]) < 1e-4
    assert difference(model.encode(inputs["input_ids"]).mean, reference["mu_nomask"]) < 1e-5
    assert difference(reference["mu"], reference["mu_nomask"]) > 0.1
    assert difference(posterior.mean, reference["logvar"]) > 0.1


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_logits(way, reference_model, reference):
    model = reference_model(way)
    logits = model.decode(reference["z"], reference["gpt2_ids"])[0]
    columns = logits[..., reference["vocab_cols"]]
    assert difference(columns, reference[f"logits_{key(way)}"]) < 1e-5
    assert difference(logits.logsumexp(-1), reference[f"logsumexp_{key(way)}"]) < 1e-5
    for other in WAYS.keys() - {way}:
        assert difference(columns, reference[f"logits_{key(other)}"]) > 0.1
    # Positions that do not make room for the slot, or that do without one.
    shifted = torch.arange(reference["gpt2_ids"].shape[1])[None] + (0 if WAYS[way][0] else 1)
    logits = model.decode(reference["z"], reference["gpt2_ids"], position_ids=shifted)[0]
    assert difference(logits[..., reference["vocab_cols"]], reference[f"logits_{key(way)}"]) > 0.1


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_losses(way, reference_model, reference, inputs):
    model = reference_model(way)
    outputs = model(latents=reference["z"], labels=inputs["labels"])
    torch.testing.assert_close(outputs.reconstruction_nll, reference[f"rec_{key(way)}"], rtol=1e-6, atol=1e-5)
    outputs = model(**inputs, noise=reference["eps"])
    beta, free_bits = 0.7, 0.2
    kl = {
        "fb0": outputs.kl.sum(-1),
        "fb1": torch.stack([free_bits_kl(row[None], free_bits, "optimus") for row in outputs.kl]),
    }
    for name, own in kl.items():
        nll, own_kl, loss = reference[f"vae_{key(way)}_{name}_lw0"]
        close = {"rtol": 2e-6, "atol": 1e-5}
        torch.testing.assert_close(outputs.reconstruction_nll, nll, **close)
        torch.testing.assert_close(own, own_kl, **close)
        torch.testing.assert_close(outputs.reconstruction_nll + beta * own, loss, **close)
        settings = {"free_bits": free_bits, "free_bits_mode": "optimus"} if name == "fb1" else {}
        training = training_loss(outputs.reconstruction_nll, outputs.kl, beta, **settings)
        torch.testing.assert_close(training, loss.mean(), **close)
    assert difference(kl["fb0"], kl["fb1"]) > 0.1
    with_z = model(latents=reference["z"], labels=inputs["labels"]).reconstruction_nll
    assert difference(outputs.reconstruction_nll, with_z) > 0.1


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_importance_weighted_likelihoods(way, reference_model, reference, inputs):
    model = reference_model(way)
    noise = reference["eps_iw"].flatten(1, 2)  # (sentences, samples, latent_size)
    likelihood, _, kl = reference[f"iw_{key(way)}"]
    posterior = model.encode(inputs["input_ids"], inputs["attention_mask"])
    nll = decoder_nll(model, inputs["labels"])
    estimate = -importance_weighted_nll(nll, posterior, 100, noise=noise.__getitem__).float()
    torch.testing.assert_close(estimate, likelihood, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(posterior.kl().sum(-1), kl, rtol=2e-6, atol=1e-5)
    other = -importance_weighted_nll(nll, posterior, 100, noise=noise.flip(0).__getitem__).float()
    assert difference(other, likelihood) > 0.01


@needs_reference
@pytest.mark.parametrize("way", WAYS)
def test_reference_greedy_texts(way, reference_model, reference):
    model = reference_model(way)
    expected = reference[f"greedy_{key(way)}"]
    settings = {"max_new_tokens": expected.shape[1] - 1, "eos_token_id": None}
    assert torch.equal(model.generate(latents=reference["z"], **settings), expected)
    assert torch.equal(model.generate(latents=reference["z"], use_cache=False, **settings), expected)
    assert not torch.equal(model.generate(latents=reference["z"].flip(0), **settings), expected)


@needs_reference
def test_reference_gradients(reference_model, reference, inputs):
    model = reference_model()
    outputs = model(**inputs, noise=reference["eps"])
    training_loss(outputs.reconstruction_nll, outputs.kl, 0.7, 0.2, "optimus").backward()
    head = model.posterior
    gradients = {
        "encoder_linear": torch.cat([head.mean_projection.weight.grad, head.scale_projection.weight.grad]),
        "memory_linear": model.injection.memory.weight.grad,
        "emb_linear": model.injection.embedding.weight.grad,
    }
    for name, gradient in gradients.items():
        expected = reference[f"grad_{name}"]
        assert difference(gradient, expected) < 1e-5 * expected.abs().max()
    # The head's biases are ours.
    ours = {id(head.mean_projection.bias), id(head.scale_projection.bias)}
    squares = [p.grad.square().sum() for p in model.parameters() if id(p) not in ours]
    torch.testing.assert_close(
        torch.stack(squares).sum().sqrt(), reference["grad_total_norm"].float(), rtol=1e-5, atol=0
    )
