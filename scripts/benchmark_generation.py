#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a latent costs in generation: `generate` beside the bare decoder's own, and beside a loop without cache.

Weights and latents are random, from a seed. Both generate greedily and exactly as many tokens, from the start token
alone, for the same number of sentences; the bare decoder does it twice in each round, so that its ratio to itself
shows the noise. The order alternates. Times are CPU seconds and wall seconds, each ratio the median of the rounds'.

The loop is what text VAEs used to ship: a sentence at a time, the whole text through the decoder for each token, and
logits for all of its positions. It is compared with `generate` on all sentences at once and, as the methods on texts
do, in batches of 64: the logits of 256 sentences are 51 MB, a size of block that the C library takes from the system
anew for every token, and pays page faults for, and smaller ones are not.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
import transformers
from transformers import BertConfig, GPT2Config

from hf_bnvae import BNVAEConfig, BNVAEModel

BATCH_SIZE = 64
TARGETS = {"generate / bare decoder": 1.05, "loop without cache / generate, CPU seconds a sentence": 15.0}


def build_model(seed: int) -> BNVAEModel:
    """A BERT-style encoder and a GPT-2-style decoder with random weights: 4 layers of width 256, 32 latents."""
    encoder = BertConfig(
        vocab_size=30522, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
    )
    decoder = GPT2Config(vocab_size=50257, n_embd=256, n_layer=4, n_head=4)
    torch.manual_seed(seed)
    return BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(encoder, decoder, latent_size=32)).eval()


@torch.no_grad()
def loop_without_cache(model: BNVAEModel, latents: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Greedy decoding of one latent, `(1, latent_size)`, in the slow way: `(1, 1 + num_tokens)`."""
    ids = torch.full((1, 1), model.config.decoder_start_token_id)
    for _ in range(num_tokens):
        logits = model.decode(latents, ids)[0][:, -1]
        logits[:, model.config.eos_token_id] = float("-inf")
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    return ids


def timed(function: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float, float]:
    """What a function returns, its CPU seconds and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def measure(num_sentences: int, num_tokens: int, rounds: int, num_loop_sentences: int, seed: int) -> dict[str, object]:
    """All figures. Raises `RuntimeError` where loop and `generate` do not give the same tokens."""
    model = build_model(seed)
    latents = torch.randn(num_sentences, 32)
    start = torch.full((num_sentences, 1), model.config.decoder_start_token_id)
    exactly = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens, "do_sample": False}
    ways = {
        "bare": lambda: model.decoder.generate(start, attention_mask=torch.ones_like(start), **exactly),
        "generate": lambda: model.generate(latents=latents, **exactly),
        "generate in batches": lambda: torch.cat(
            [model.generate(latents=part, **exactly) for part in latents.split(BATCH_SIZE)]
        ),
        "bare again": lambda: model.decoder.generate(start, attention_mask=torch.ones_like(start), **exactly),
    }
    # Greedy texts of random weights are near ties; the tokens compared below are those of float32 all the same.
    tokens = ways["generate"]()
    ways["bare"]()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(ways):
            _, cpu, wall = timed(ways[name])
            seconds[name].append((cpu, wall))
    loop_seconds, agreeing = 0.0, 0
    for row in range(num_loop_sentences):
        ids, cpu, _ = timed(lambda row=row: loop_without_cache(model, latents[row : row + 1], num_tokens))
        loop_seconds += cpu / num_loop_sentences
        agreeing += int(torch.equal(ids[0], tokens[row]))
    if agreeing < num_loop_sentences / 2:
        raise RuntimeError(f"Only {agreeing} of {num_loop_sentences} texts of the loop are those of generate.")
    per_sentence = {
        name: statistics.median(cpu for cpu, _ in times) / num_sentences for name, times in seconds.items()
    }

    def ratio(name: str, clock: int) -> float:
        pairs = zip(seconds[name], seconds["bare"], strict=True)
        return statistics.median(mine[clock] / bare[clock] for mine, bare in pairs)

    return {
        "generate / bare decoder": ratio("generate", 0),
        "bare decoder / bare decoder": ratio("bare again", 0),
        "generate / bare decoder, wall": ratio("generate", 1),
        "bare decoder / bare decoder, wall": ratio("bare again", 1),
        "loop without cache / generate, CPU seconds a sentence": loop_seconds / per_sentence["generate"],
        "loop without cache / generate in batches of 64": loop_seconds / per_sentence["generate in batches"],
        "CPU seconds a sentence": {**per_sentence, "loop without cache": loop_seconds},
        "texts of the loop that are those of generate": f"{agreeing} of {num_loop_sentences}",
        "CPU seconds of the rounds": {name: [round(cpu, 3) for cpu, _ in times] for name, times in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_sentences", type=int, default=256)
    parser.add_argument("--num_tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--num_loop_sentences", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        print("Set OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait are counted as work.")
    figures = measure(**vars(args))
    hardware = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(
        json.dumps({**figures, "targets": TARGETS, "settings": vars(args), "on": f"{hardware}, {versions}"}, indent=2)
    )


if __name__ == "__main__":
    main()
