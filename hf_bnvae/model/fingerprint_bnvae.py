# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What a tokenizer does to text, as a hash: by this a model recognises the processor with which it was trained."""

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

# Tokenizers that do different things to text have different ids for at least one of these. Together they hold case,
# accents in both forms, characters that normalisation replaces, digits, spaces, punctuation, contractions, other
# scripts, emoji, control characters and long words.
PROBES = (
    "The Quick BROWN fox jumps over the lazy dog.",
    "the quick brown fox jumps over the lazy dog",
    "  two  spaces,\ta tab,\na line break\r\nand  spaces at the end  ",
    "No. 1234567890, 3.14159, 1,000,000, 2026-01-31, 12:34, $5.60, 7%, x2, 007",
    "It's what we've said: don't, I'd, they'll, you're. IT'S WE'VE",
    "Brackets (a) [b] {c} <d>, quotes \"e\" 'f' \u201cg\u201d \u2018h\u2019 \u00abi\u00bb, dashes - \u2013 \u2014 ..."
    " \u2026 !?",
    "https://example.org/a_b-c?d=e&f=g#h me@example.org C:\\file.txt snake_case CamelCase #tag @name ~^|`*+/=",
    "Caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u0141\u00f3d\u017a S\u00e3o \u00d1and\u00fa Fa\u00e7ade",
    "Cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "Stra\u00dfe STRASSE \u1e9e \u0130stanbul \u0131 \u01c4 \u01c5",
    "\ufb01 \uff21\uff42\uff13 \u2460 \u00bd \u00b2 \u2122 \u212b \u00a0 \u3000 \u00ad \u200b \u200d \ufeff \x07 \x7f"
    " \ufffd",
    "\u0414\u043e\u0431\u0440\u043e\u0435 \u0443\u0442\u0440\u043e, \u0419\u043e\u0436\u0438\u043a \u0415\u0449\u0451",
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u039a\u0391\u039b\u0397\u039c\u0395\u03a1\u0391 \u03c3\u03c2",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002 \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \u30d7\u30d5\u309a "
    "\u8336\uf9fe",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \uc778\uc0ac",
    "\u0645\u0631\u062d\u0628\u0627 \u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 "
    "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1019\u1004\u103a\u1039\u1002\u101c",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f "
    "\U0001d538 \u266b \u2211",
    "internationalisation Donaudampfschifffahrtsgesellschaft aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u2581under \u2581 \u0120gee ##hash @@at </w> <0x0A> <s> </s> [MASK] <|endoftext|>",
    "",
    " ",
)


def fingerprint_of(tokenizer: PreTrainedTokenizerBase, **options: Any) -> str:
    """
    SHA-256 of what a tokenizer does to text: of its vocabulary, its merges or scores, and the ids of [`PROBES`].

    Normaliser, pre-tokeniser and post-processor count by the ids of the probes and not by their settings, whose form
    changes with the versions of `tokenizers`. Padding, truncation and chat templates do not count.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer.
        **options: Arguments of its call.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    encoded = _without_dropout(tokenizer)(list(PROBES), truncation=False, padding=False, verbose=False, **options)
    digest = hashlib.sha256(repr(encoded["input_ids"]).encode())
    for table in _tables(tokenizer):
        digest.update(b"\0\0" + table.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _tables(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """The vocabulary with its ids, and the merges or scores of a tokenizer that has them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python
        yield from _numbered(tokenizer.get_vocab())
        return
    saved = json.loads(backend.to_str())
    vocabulary = saved["model"]["vocab"]
    if isinstance(vocabulary, list):  # of a unigram model, which has scores
        yield repr([score for _, score in vocabulary])
        vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
    yield from _numbered(vocabulary)
    yield from _numbered({token["content"]: token["id"] for token in saved["added_tokens"]})
    yield "\0".join(map(" ".join, saved["model"].get("merges", [])))


def _numbered(vocabulary: dict[str, int]) -> Iterator[str]:
    yield "\0".join(sorted(vocabulary, key=vocabulary.get))
    yield " ".join(map(str, sorted(vocabulary.values())))


def _without_dropout(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer itself, or a copy without the random choice of merges (BPE dropout)."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None):
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.backend_tokenizer.model.dropout = None
    return tokenizer
