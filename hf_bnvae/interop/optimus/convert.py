# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Conversion of checkpoints of the original Optimus (Li et al., EMNLP 2020) into folders of a [`BNVAEModel`].

The converted model has the same posteriors, logits, losses and greedy texts as the original.
"""

import argparse
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoTokenizer, BertConfig, GPT2Config, PreTrainedTokenizerBase
from transformers.utils import logging

from ...model.configuration_bnvae import BNVAEConfig
from ...model.modeling_bnvae import BNVAEModel
from ...model.processing_bnvae import BNVAEProcessor
from ...utils.terminal import say
from .checkpoint import CONFIG_FILE, HALVES, Weights, find_optimus_checkpoint, read_checkpoint

logger = logging.get_logger(__name__)

Injection = Literal["both", "memory", "embedding"]

# Fields that a checkpoint must hold, since a default could be wrong. The encoder's dropouts follow encoder_dropout.
ENCODER_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "initializer_range",
)
DECODER_FIELDS = (
    "vocab_size",
    "n_positions",
    "n_embd",
    "n_layer",
    "n_head",
    "layer_norm_epsilon",
    "initializer_range",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)
DEFAULT_LATENT_SIZE = 32
ENCODER_PAD_ID = 0

# The last ids of the decoder's vocabulary, in this order.
SPECIAL_TOKENS = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}

# Weights that have another name in the original. The first half of the rows of the encoder's map gives the mean.
POSTERIOR_MAP = "encoder.linear.weight"
POSTERIOR_WEIGHTS = ("posterior.mean_projection.weight", "posterior.scale_projection.weight")
POSTERIOR_BIASES = ("posterior.mean_projection.bias", "posterior.scale_projection.bias")
INJECTION_WEIGHTS = {
    "injection.memory.weight": "decoder.transformer.linear.weight",
    "injection.embedding.weight": "decoder.transformer.linear_emb.weight",
}
_CAUSAL_MASK = re.compile(r"decoder\.transformer\.h\.\d+\.attn\.bias")
_OUTPUT_EMBEDDINGS, _INPUT_EMBEDDINGS = "decoder.lm_head.weight", "decoder.transformer.wte.weight"


# --------------------------------------------------------------------------------------------------------------------
# Configuration, injection and weights
# --------------------------------------------------------------------------------------------------------------------


def optimus_config(encoder: Mapping[str, Any], decoder: Mapping[str, Any], latent_injection: Injection) -> BNVAEConfig:
    """
    The configuration of a [`BNVAEModel`] for an Optimus.

    Args:
        encoder, decoder (`Mapping[str, Any]`): The contents of the original's two `config.json`.
        latent_injection (`str`): `"both"`, `"memory"` or `"embedding"`. The two files do not say it.

    Raises:
        ValueError: for missing fields, and for values that are not possible.
    """
    for name, values, fields in (
        ("encoder", encoder, ENCODER_FIELDS),
        ("decoder", decoder, (*DECODER_FIELDS, "n_ctx")),
    ):
        missing = [field for field in fields if field not in values]
        if missing:
            raise ValueError(f"The {name}'s {CONFIG_FILE} lacks {', '.join(missing)}, so it is none of Optimus' own.")
    if decoder["n_ctx"] != decoder["n_positions"]:
        raise ValueError(
            f"The decoder's {CONFIG_FILE} has n_ctx={decoder['n_ctx']} and n_positions={decoder['n_positions']}, but "
            "they must be the same here."
        )
    try:
        ids = {name + "_id": decoder["vocab_size"] - 3 + i for i, name in enumerate(SPECIAL_TOKENS)}
        return BNVAEConfig.from_encoder_decoder_configs(
            BertConfig(pad_token_id=ENCODER_PAD_ID, **{field: encoder[field] for field in ENCODER_FIELDS}),
            GPT2Config(activation_function="gelu_new", **ids, **{field: decoder[field] for field in DECODER_FIELDS}),
            latent_size=decoder.get("latent_size", DEFAULT_LATENT_SIZE),
            posterior="gaussian",
            pooling="pooler",
            latent_injection=latent_injection,
            decoder_start_token_id=ids["bos_token_id"],
            **ids,
        )
    except (StrictDataclassError, TypeError) as error:
        raise ValueError(f"A {CONFIG_FILE} holds what cannot be: {error}") from error


def saved_injection(settings: argparse.Namespace | None) -> Injection | None:
    """
    How the latent entered the decoder in a training, or `None` if the settings do not say it.

    A decoder that was loaded from a checkpoint of Optimus (`use_pretrained_model`) always had both ways, even if the
    other settings say something else.

    Args:
        settings (`argparse.Namespace`, *optional*): The settings that were saved.

    Raises:
        ValueError: if the settings leave the latent no way into the decoder.
    """
    if getattr(settings, "use_pretrained_model", False):
        return "both"
    memory, embedding = (getattr(settings, f"latent_as_gpt_{way}", None) for way in ("memory", "emb"))
    if memory is None or embedding is None:
        return None
    ways = {(1, 1): "both", (1, 0): "memory", (0, 1): "embedding"}
    if (memory, embedding) not in ways:
        raise ValueError(
            f"The checkpoint's settings latent_as_gpt_memory={memory!r} and latent_as_gpt_emb={embedding!r} leave the "
            f"latent no way into the decoder. Give --latent_injection ({', '.join(get_args(Injection))}) if they are "
            "wrong."
        )
    return ways[memory, embedding]


def convert_state_dict(
    original: Mapping[str, torch.Tensor], template: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """
    The original's weights with the names of a [`BNVAEModel`], and in its order.

    Args:
        original (`Mapping[str, torch.Tensor]`): All weights of the original, `encoder.*` and `decoder.*`.
        template (`Mapping[str, torch.Tensor]`): The state of the new model, which gives names and shapes.

    Returns:
        `dict[str, torch.Tensor]`: A tensor for each entry of `template`. The original has no biases in its head, so
        they are 0. Causal masks, and an injection that the model does not have, are left out.

    Raises:
        ValueError: with all names that are missing, unexpected or of another shape.
    """
    converted, missing, misshapen = {}, [], []
    known = set(INJECTION_WEIGHTS.values())
    for name, tensor in template.items():
        if name in POSTERIOR_BIASES:
            converted[name] = torch.zeros_like(tensor)
            continue
        source = POSTERIOR_MAP if name in POSTERIOR_WEIGHTS else INJECTION_WEIGHTS.get(name, name)
        shape = (2 * tensor.shape[0], tensor.shape[1]) if name in POSTERIOR_WEIGHTS else tuple(tensor.shape)
        known.add(source)
        if source not in original:
            missing.append(source)
        elif tuple(original[source].shape) != shape:
            misshapen.append(f"{source} {tuple(original[source].shape)}, expected {shape}")
        else:
            value = original[source]
            if name in POSTERIOR_WEIGHTS:
                value = value.chunk(2)[POSTERIOR_WEIGHTS.index(name)]
            converted[name] = value.to(tensor.dtype)
    unexpected = [name for name in original if name not in known and not _CAUSAL_MASK.fullmatch(name)]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(faults.values()):
        lists = "; ".join(f"{fault}: {', '.join(dict.fromkeys(names))}" for fault, names in faults.items() if names)
        raise ValueError(f"The weights are not those that the two {CONFIG_FILE} describe. {lists}.")
    if not torch.equal(converted[_OUTPUT_EMBEDDINGS], converted[_INPUT_EMBEDDINGS]):
        raise ValueError(
            f"{_OUTPUT_EMBEDDINGS} and {_INPUT_EMBEDDINGS} differ, which in Optimus are one tensor: the checkpoint is "
            "damaged, or of another program."
        )
    return converted


def _choose_injection(asked: Injection | None, settings: argparse.Namespace | None) -> Injection:
    """The injection that the caller asks for. By default the one of the training, and both ways if it is unknown."""
    if asked is None:
        saved = saved_injection(settings)
        if saved is None:
            logger.warning(
                "The checkpoint does not say how the latent enters the decoder, so it does in both ways, as in "
                "Optimus' pre-training and evaluation. If it was trained otherwise, say so with --latent_injection."
            )
        return saved or "both"
    try:
        saved = saved_injection(settings)
    except ValueError:
        saved = "neither"
    if saved not in (None, asked):
        logger.warning(f"The checkpoint was trained with the injection {saved!r}, and is converted with {asked!r}.")
    return asked


# --------------------------------------------------------------------------------------------------------------------
# Tokenizers
# --------------------------------------------------------------------------------------------------------------------


def optimus_processor(
    encoder_tokenizer: str, decoder_tokenizer: str, config: BNVAEConfig, do_lower_case: bool = False
) -> BNVAEProcessor:
    """
    The processor that makes the original's token ids.

    Args:
        encoder_tokenizer (`str`): Hub name or folder of BERT's tokenizer.
        decoder_tokenizer (`str`): Hub name or folder of GPT-2's tokenizer. It gets `<PAD>`, `<BOS>` and `<EOS>`, and
            puts a space ahead of each text, as the original does.
        config ([`BNVAEConfig`]): The model's configuration.
        do_lower_case (`bool`, *optional*, defaults to `False`): Whether the encoder was trained on lower case.

    Raises:
        ValueError: for tokenizers that cannot be loaded, or that belong to another model.
    """
    # A folder with only a vocab.txt does not say it, and Transformers would then lower all texts.
    encoder = _load_tokenizer("encoder", encoder_tokenizer, do_lower_case=do_lower_case)
    decoder = _load_tokenizer("decoder", decoder_tokenizer, add_prefix_space=True)
    if len(encoder) != config.encoder.vocab_size:
        raise ValueError(
            f"--encoder_tokenizer {encoder_tokenizer} has {len(encoder)} tokens, and the encoder "
            f"{config.encoder.vocab_size}. Give the one that it was trained with."
        )
    ids = encoder("a")["input_ids"]
    frame = [encoder.cls_token_id, encoder.sep_token_id]
    if None in frame or [*ids[:1], *ids[-1:]] != frame or encoder.pad_token_id != ENCODER_PAD_ID:
        raise ValueError(
            f"--encoder_tokenizer {encoder_tokenizer} is none of BERT's: it must frame a text with [CLS] and [SEP] "
            f"and pad with the id {ENCODER_PAD_ID}, but makes {ids} of 'a' and pads with {encoder.pad_token_id}."
        )
    plain_size, vocab_size = len(decoder), config.decoder.vocab_size
    decoder.add_special_tokens(SPECIAL_TOKENS)
    ids = decoder.convert_tokens_to_ids(list(SPECIAL_TOKENS.values()))
    expected = [config.pad_token_id, config.bos_token_id, config.eos_token_id]
    if len(decoder) != vocab_size or ids != expected:
        raise ValueError(
            f"--decoder_tokenizer {decoder_tokenizer} has {plain_size} tokens, and the decoder {vocab_size}, of which "
            f"the last are {', '.join(SPECIAL_TOKENS.values())}. Give the one that it was trained with: of "
            f"{vocab_size - len(SPECIAL_TOKENS)} tokens without those, or with them as {expected}."
        )
    if decoder.tokenize("a") != decoder.tokenize(" a"):
        raise ValueError(
            f"--decoder_tokenizer {decoder_tokenizer} ({type(decoder).__name__}) cannot put a space ahead of texts, "
            "as the original does. Give GPT-2's own: a folder with its vocab.json and merges.txt."
        )
    processor = BNVAEProcessor(decoder, encoder)
    processor.limit_lengths(config.encoder, config.decoder)
    return processor


def _load_tokenizer(half: str, name_or_path: str, **settings: Any) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(name_or_path, **settings)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"--{half}_tokenizer {name_or_path} could not be loaded as a folder or from the Hub: {error}"
        ) from error


# --------------------------------------------------------------------------------------------------------------------
# The whole conversion
# --------------------------------------------------------------------------------------------------------------------


def convert_optimus_checkpoint(
    checkpoint_path: str | Path,
    output_dir: str | Path,
    step: int | None = None,
    encoder_tokenizer: str | None = None,
    decoder_tokenizer: str | None = None,
    latent_injection: Injection | None = None,
    weights: Weights | None = None,
) -> BNVAEModel:
    """
    Write a checkpoint of the original Optimus as a folder that [`BNVAEModel`] and, with tokenizers,
    [`BNVAEProcessor`] load.

    Args:
        checkpoint_path (`str`): The folder that holds `checkpoint-encoder-<step>`, `checkpoint-decoder-<step>` and
            `checkpoint-full-<step>`, or a folder with several `checkpoint-<step>` that hold these. Either the two
            halves or the full checkpoint must have weights. The `config.json` of both halves are needed.
        output_dir (`str`): The folder to write, new or empty.
        step (`int`, *optional*): Which of several checkpoints to take.
        encoder_tokenizer, decoder_tokenizer (`str`, *optional*): Hub names or folders. Without them the function
            writes the model only.
        latent_injection (`str`, *optional*): `"both"`, `"memory"` or `"embedding"`, instead of the injection that the
            checkpoint says. By default the injection of the training, or both ways if it is unknown.
        weights (`str`, *optional*): `"full"` for the weights in the full checkpoint, the default if it exists, or
            `"halves"` for the weights in the folders of encoder and decoder.

    Returns:
        [`BNVAEModel`]: The converted model, in evaluation mode, with its processor if there is one.

    Raises:
        ValueError: if something is wrong with the checkpoint, the tokenizers or the output folder. The function then
            writes nothing.
        OSError: if files cannot be read or written. The function then removes the files that it wrote.

    Example:

    ```python
    >>> from hf_bnvae.interop.optimus.convert import convert_optimus_checkpoint

    >>> model = convert_optimus_checkpoint(
    ...     "checkpoint-31250",
    ...     "optimus-snli",
    ...     encoder_tokenizer="google-bert/bert-base-cased",
    ...     decoder_tokenizer="openai-community/gpt2",
    ... )
    ```
    """
    for name, value, choice in (("latent_injection", latent_injection, Injection), ("weights", weights, Weights)):
        if value not in (None, *get_args(choice)):
            raise ValueError(f"{name} must be one of {', '.join(get_args(choice))}, got {value!r}.")
    if (encoder_tokenizer is None) != (decoder_tokenizer is None):
        raise ValueError("Give both --encoder_tokenizer and --decoder_tokenizer, or neither.")
    path = Path(output_dir).resolve()
    _require_free_folder(path)
    checkpoint = find_optimus_checkpoint(checkpoint_path, step)
    state, settings, files = read_checkpoint(checkpoint, weights)
    config = optimus_config(
        *(checkpoint.read_config(half) for half in HALVES), _choose_injection(latent_injection, settings)
    )
    _require_same_latent_size(config, state)
    processor = None
    if encoder_tokenizer is not None:
        lower = getattr(settings, "do_lower_case", False)
        processor = optimus_processor(encoder_tokenizer, decoder_tokenizer, config, lower)
    model = BNVAEModel(config).eval()
    model.load_state_dict(convert_state_dict(state, model.state_dict()))
    if processor is not None:
        model.attach_processor(processor)
    _write(path, model)
    say(
        f"Converted step {checkpoint.step} with the weights of "
        f"{' and '.join(map(str, files))}: latent_size={config.latent_size}, "
        f"latent_injection={config.latent_injection!r}."
    )
    if processor is None:
        names = [getattr(settings, f"{half}_model_name_or_path", None) for half in HALVES]
        trained = f" (it was trained with those of {names[0]} and {names[1]})" if all(names) else ""
        say(
            "Only the model was written, no processor, since a checkpoint holds no tokenizers. Give "
            f"--encoder_tokenizer and --decoder_tokenizer{trained} to have texts encoded and decoded."
        )
    return model


def _require_same_latent_size(config: BNVAEConfig, state: Mapping[str, torch.Tensor]) -> None:
    rows = state[POSTERIOR_MAP].shape[0] if POSTERIOR_MAP in state else 2 * config.latent_size
    if rows != 2 * config.latent_size:
        raise ValueError(
            f"Encoder and decoder are of different models: the encoder's {POSTERIOR_MAP} gives means and log "
            f"variances of {rows / 2:g} dimensions, and the decoder's {CONFIG_FILE} has "
            f"latent_size={config.latent_size} ({DEFAULT_LATENT_SIZE} where it says nothing)."
        )


def _require_free_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output_dir {path} is a file. Choose another.")
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if found:
        raise ValueError(
            f"The output folder {path} is not empty (it holds {', '.join(found[:5])}"
            f"{', ...' if len(found) > 5 else ''}). Nothing was touched. Choose another --output_dir."
        )


def _write(path: Path, model: BNVAEModel) -> None:
    """Write model and processor into a folder of another name, and rename it at the end. A conversion that is killed
    leaves no folder with the right name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        model.save_pretrained(partial)
        # Checked again, since the writing took a while.
        _require_free_folder(path)
        if path.exists():
            path.rmdir()
        partial.rename(path)
    except BaseException as error:
        shutil.rmtree(partial)
        if isinstance(error, SafetensorError):  # a full disk, which other files report as an OSError
            raise OSError(f"{path} could not be written ({error}). Nothing was left there.") from error
        raise
