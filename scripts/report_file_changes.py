#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How often a call of the model goes from one file of this package to another one.

A reader who follows a call needs another file each time. The script builds a tiny random model (BERT and GPT-2, two
layers each) and counts for three calls:

    packed       a training pass, with sentences that share rows
    padded       the same pass with padded rows
    reconstruct  `model.reconstruct(texts)`, which encodes eight texts and generates four tokens for each

How the script counts: a profiler (`sys.setprofile`) sees each start and each end of a Python function. Each time it
notes the file of the function that runs from then on. Functions outside of this package are left out. The figure is
the number of places in that list where a file follows another one. So a call from a.py to b.py and back counts twice,
whether or not torch stands between them, and a call from a.py into torch and back counts nothing.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, GPT2Config, PreTrainedTokenizerFast

import hf_bnvae
from hf_bnvae import BNVAEConfig, BNVAEModel, BNVAEProcessor

PACKAGE = f"{Path(hf_bnvae.__file__).parent}/"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]")
WORDS = ("the", "food", "was", "great", "and", "we", "will", "come", "back", "soon")
# Of different lengths, so that sharing rows is worth it.
TEXT_LENGTHS = (3, 28, 6, 22, 2, 9, 4, 1)


def build_model() -> BNVAEModel:
    """A model of random weights, with a processor of its vocabulary."""
    torch.manual_seed(0)
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *WORDS))}
    tokenizers = []
    for ends in (("[CLS]", "[SEP]"), None):
        words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
        words.pre_tokenizer = WhitespaceSplit()
        if ends is not None:
            special_tokens = [(token, vocabulary[token]) for token in ends]
            words.post_processor = TemplateProcessing(single=f"{ends[0]} $A {ends[1]}", special_tokens=special_tokens)
        tokenizers.append(
            PreTrainedTokenizerFast(
                tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", model_max_length=32
            )
        )
    encoder_tokenizer, tokenizer = tokenizers
    encoder = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        pad_token_id=vocabulary["[PAD]"],
    )
    decoder = GPT2Config(
        vocab_size=len(vocabulary),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=vocabulary["[EOS]"],
        eos_token_id=vocabulary["[EOS]"],
        pad_token_id=vocabulary["[PAD]"],
    )
    config = BNVAEConfig.from_encoder_decoder_configs(encoder, decoder, latent_size=8)
    return BNVAEModel(config).attach_processor(BNVAEProcessor(tokenizer, encoder_tokenizer))


def files_on_the_way(call: Callable[[], Any]) -> list[str]:
    """The files of this package that `call` runs through, in their order, each as often as it is entered."""
    files: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        running = frame if event == "call" else frame.f_back if event == "return" else None
        if running is not None and running.f_code.co_filename.startswith(PACKAGE):
            files.append(running.f_code.co_filename.removeprefix(PACKAGE))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files[:1] + [file for before, file in pairwise(files) if file != before]


def calls(model: BNVAEModel) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each call with its name. The model has the mode and the setting of the call until the next one is asked for."""
    texts = [" ".join(WORDS[(length + place) % len(WORDS)] for place in range(length)) for length in TEXT_LENGTHS]
    batch = model.processor(texts, return_tensors="pt")
    model.train()
    yield "packed", lambda: model(**batch)
    model.config.pack_sentences = False
    yield "padded", lambda: model(**batch)
    model.eval().config.pack_sentences = True
    yield "reconstruct", lambda: model.reconstruct(texts, max_new_tokens=4, min_new_tokens=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="Also print the files, in the order of the way.")
    args = parser.parse_args()
    for name, call in calls(build_model()):
        call()  # the first call of a process imports modules
        files = files_on_the_way(call)
        print(f"{name}: {len(files) - 1} changes of file")
        if args.files:
            print("  " + " ".join(files))


if __name__ == "__main__":
    main()
