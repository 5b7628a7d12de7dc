"""Random calls of a model, right and wrong ones: each works, or its error says which argument is wrong.

    python tests/helpers/fuzz.py SEED FORWARD_CALLS GENERATE_CALLS

prints how many of them worked, were refused clearly, and failed unclearly, and each kind of unclear error once."""

import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from hf_bnvae import BNVAEModel

# What a clear error is. FloatingPointError is for models whose weights are broken, which none is here.
CLEAR = (ValueError, TypeError)
# Other names of what an argument holds.
SYNONYMS = {
    "input_ids": ("A text takes", "sentences in a training batch"),
    "labels": ("A text takes", "-100"),
    "decoder_input_ids": ("A prompt of", "Prompts", "A text takes"),
    "decoder_attention_mask": ("The decoder's attention mask", "Prompts"),
    "max_new_tokens": ("max_length", "room for"),
}


def random_ids(draw: random.Random, batch: int, length: int, vocabulary: int) -> Any:
    """Token ids, and in half of the cases something else."""
    ids = torch.tensor([[draw.randrange(5, vocabulary) for _ in range(length)] for _ in range(batch)])
    ids = ids.view(batch, length)
    if draw.random() < 0.5:
        return ids
    flat = ids.clone()
    if flat.numel():
        flat.view(-1)[draw.randrange(flat.numel())] = draw.choice([-1, -2, -100, vocabulary, 10**9, -(10**9)])
    return draw.choice(
        [
            lambda: flat,
            lambda: ids[0],
            lambda: ids.unsqueeze(0),
            lambda: ids[:, :0],
            lambda: ids[:0],
            lambda: ids[:, :-1],
            lambda: ids[:-1],
            lambda: ids.repeat(1, 40),
            lambda: ids.tolist(),
            lambda: ids.numpy(),
            lambda: ids.int(),
            lambda: ids.float(),
            lambda: ids.bool(),
            lambda: ids.short(),
            lambda: ids.tolist()[0],
            lambda: torch.tensor(3),
            lambda: "a text",
            lambda: 3,
            lambda: None,
        ]
    )()


def random_mask(draw: random.Random, batch: int, length: int) -> Any:
    """A mask, and in half of the cases something else."""
    mask = torch.ones(batch, length, dtype=torch.long)
    for row in mask:
        row[draw.randint(1, max(length, 1)) :] = 0
    if draw.random() < 0.5:
        return mask
    empty = mask.clone()
    empty[draw.randrange(batch)] = 0
    return draw.choice(
        [
            lambda: empty,
            lambda: torch.zeros_like(mask),
            lambda: mask[0],
            lambda: mask[:, :-1],
            lambda: mask[:-1],
            lambda: mask[:0],
            lambda: mask[:, :0],
            lambda: mask.unsqueeze(1),
            lambda: torch.cat([mask, mask], 1),
            lambda: mask.tolist(),
            lambda: mask.numpy(),
            lambda: mask.bool(),
            lambda: mask.float(),
            lambda: mask.float().masked_fill(mask.eq(0), float("-inf")),
            lambda: mask * float("nan"),
            lambda: -mask,
            lambda: mask.flip(1),
            lambda: "mask",
            lambda: None,
        ]
    )()


def random_vectors(draw: random.Random, batch: int, size: int) -> Any:
    """Vectors of noise or of latents, and in half of the cases something else."""
    vectors = torch.randn(batch, size)
    if draw.random() < 0.5:
        return vectors
    return draw.choice(
        [
            lambda: vectors[0],
            lambda: vectors[:, :-1],
            lambda: vectors[:-1],
            lambda: vectors[:0],
            lambda: vectors.unsqueeze(0),
            lambda: vectors.double(),
            lambda: vectors.half(),
            lambda: vectors.long(),
            lambda: vectors.tolist(),
            lambda: vectors.numpy(),
            lambda: vectors * float("nan"),
            lambda: torch.complex(vectors, vectors),
            lambda: "vectors",
            lambda: None,
        ]
    )()


def forward_call(draw: random.Random, model: BNVAEModel) -> dict[str, Any]:
    """The arguments of a random call of the model."""
    config, batch, length = model.config, draw.randint(1, 5), draw.randint(1, 8)
    may_be = {
        "input_ids": lambda: random_ids(draw, batch, length, config.encoder.vocab_size),
        "attention_mask": lambda: random_mask(draw, batch, length),
        "labels": lambda: random_ids(draw, batch, length, config.decoder.vocab_size),
        "noise": lambda: random_vectors(draw, batch, config.latent_size),
        "latents": lambda: random_vectors(draw, batch, config.latent_size),
        "decoder_input_ids": lambda: random_ids(draw, batch, length, config.decoder.vocab_size),
        "decoder_attention_mask": lambda: random_mask(draw, batch, length),
        "chunk_size": lambda: draw.choice([1, 2, 100, 0, -1, 1.5, "2", True, None]),
        "checkpoint_chunks": lambda: draw.choice([True, False, None]),
        "output_logits": lambda: draw.choice([True, False]),
        "logits_to_keep": lambda: draw.choice([0, 1, 3]),
        "token_type_ids": lambda: draw.choice(
            [torch.zeros(batch, length, dtype=torch.long), random_ids(draw, batch, length, 7)]
        ),
        "unheard_of": lambda: 1,
    }
    chances = {"input_ids": 0.85, "attention_mask": 0.7, "labels": 0.7, "latents": 0.25, "unheard_of": 0.02}
    chosen = [name for name in may_be if draw.random() < chances.get(name, 0.12)]
    return {name: may_be[name]() for name in chosen}


def generate_call(draw: random.Random, model: BNVAEModel) -> dict[str, Any]:
    """The arguments of a random call of `generate`."""
    config, batch, length = model.config, draw.randint(1, 3), draw.randint(1, 5)
    odd = [0, -1, 1.5, "2", float("nan")]
    may_be = {
        "input_ids": lambda: random_ids(draw, batch, length, config.encoder.vocab_size),
        "attention_mask": lambda: random_mask(draw, batch, length),
        "latents": lambda: random_vectors(draw, batch, config.latent_size),
        "decoder_input_ids": lambda: random_ids(draw, batch, length, config.decoder.vocab_size),
        "decoder_attention_mask": lambda: draw.choice(
            [torch.ones(batch, length, dtype=torch.long), random_mask(draw, batch, length)]
        ),
        "sample_posterior": lambda: draw.choice([True, False]),
        "seed": lambda: draw.choice([0, 1, -1, 2**70, 1.5, "a"]),
        "do_sample": lambda: draw.choice([True, False]),
        "num_beams": lambda: draw.choice([1, 2, 3, *odd]),
        "num_return_sequences": lambda: draw.choice([1, 2, *odd]),
        "temperature": lambda: draw.choice([1.0, 0.5, *odd]),
        "top_p": lambda: draw.choice([0.9, 2.0, *odd]),
        "top_k": lambda: draw.choice([1, 5, *odd]),
        "unheard_of": lambda: 1,
    }
    uses_texts = draw.random() < 0.5
    chances = {
        "input_ids": 0.95 if uses_texts else 0.05,
        "attention_mask": 0.6 if uses_texts else 0.05,
        "latents": 0.05 if uses_texts else 0.95,
        "decoder_input_ids": 0.3,
        "decoder_attention_mask": 0.2,
        "unheard_of": 0.02,
    }
    chosen = [name for name in may_be if draw.random() < chances.get(name, 0.1)]
    new_tokens = draw.choice([1, 3, 3, 3, 3, 3, 1000, *odd])
    return {"max_new_tokens": new_tokens, **{name: may_be[name]() for name in chosen}}


def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """`works`, `refused`, or the error that does not say which argument is wrong."""
    try:
        call(**arguments)
    except Exception as error:
        names = [word for name in arguments for word in (name, *SYNONYMS.get(name, ()))]
        # A call without sentences and without latents has no argument to name.
        names += ["input_ids"]
        is_clear = isinstance(error, CLEAR) and any(name in str(error) for name in names)
        return "refused" if is_clear else f"{type(error).__name__}: {str(error)[:150]}"
    return "works"


def fuzz_forward(model: BNVAEModel, seed: int, count: int) -> Counter[str]:
    """The outcomes of random calls of the model, in training and in evaluation mode."""
    draw, found = random.Random(seed), Counter()
    torch.manual_seed(seed)
    for _ in range(count):
        model.train(draw.random() < 0.5)
        model.config.pack_sentences = draw.random() < 0.5
        arguments = forward_call(draw, model)
        found[outcome(model, arguments)] += 1
        if "input_ids" in arguments and draw.random() < 0.3:
            encoded = {name: arguments[name] for name in ("input_ids", "attention_mask") if name in arguments}
            found[outcome(model.encode, encoded)] += 1
    return found


def fuzz_generate(model: BNVAEModel, seed: int, count: int) -> Counter[str]:
    """The outcomes of random calls of `generate`."""
    draw, found = random.Random(seed), Counter()
    model.eval()
    for _ in range(count):
        found[outcome(model.generate, generate_call(draw, model))] += 1
    return found


def unclear(found: Counter[str]) -> dict[str, int]:
    """The errors that do not say which argument is wrong, and how often each came."""
    return {name: number for name, number in found.most_common() if name not in ("works", "refused")}


def main(seed: int, forward_calls: int, generate_calls: int) -> None:
    import tiny

    processor = tiny.make_processor(tiny.make_texts(400))
    model = tiny.build_model(*tiny.make_configs(processor), posterior="bn_rms")
    for name, function, count in (
        ("forward", fuzz_forward, forward_calls),
        ("generate", fuzz_generate, generate_calls),
    ):
        found = function(model, seed, count)
        failed = unclear(found)
        print(f"{name}: {found['works']} worked, {found['refused']} refused, {sum(failed.values())} unclear")
        for error, number in failed.items():
            print(f"  {number:4} {error}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
