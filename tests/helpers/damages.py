"""A saved folder, damaged in many ways: what may happen to a file on its way, and what loading made of it."""

import json
import random
from collections.abc import Callable
from pathlib import Path

# What the damaged file holds, from what the whole file held. `None` removes the file.
Damage = Callable[[bytes, random.Random], bytes | None]


def _wrong_type(content: bytes, rng: random.Random) -> bytes:
    """One field of a JSON object gets a value of another type."""
    record = json.loads(content)
    name = rng.choice(sorted(record))
    record[name] = {"wrong": ["type"]} if not isinstance(record[name], dict) else "wrong type"
    return json.dumps(record).encode()


def _flipped_bit(content: bytes, rng: random.Random) -> bytes:
    """One bit among the first, where a safetensors file has its header."""
    damaged, place = bytearray(content), rng.randrange(min(len(content), 600))
    damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged)


DAMAGES: dict[str, Damage] = {
    "missing": lambda content, rng: None,
    "empty": lambda content, rng: b"",
    "half": lambda content, rng: content[: len(content) // 2],
    "last byte": lambda content, rng: content[:-1],
    "null": lambda content, rng: b"null",
    "number": lambda content, rng: b"3",
    "text": lambda content, rng: b'"text"',
    "list": lambda content, rng: b"[]",
    "object": lambda content, rng: b"{}",
    "nested": lambda content, rng: b"[" * 100_000,
    "nested object": lambda content, rng: b'{"a":' * 100_000,
    "rubbish": lambda content, rng: rng.randbytes(len(content)),
    "zeros": lambda content, rng: bytes(len(content)),
    "utf-16": lambda content, rng: content.decode("latin-1").encode("utf-16"),
    "wrong type": _wrong_type,
    "flipped bit": _flipped_bit,
}


def damage_file(file: Path, damage: str, seed: int) -> None:
    """Damage a file of a folder, the same way for the same seed."""
    damaged = DAMAGES[damage](file.read_bytes(), random.Random(f"{seed} {file.name} {damage}"))
    if damaged is None:
        file.unlink()
    else:
        file.write_bytes(damaged)
