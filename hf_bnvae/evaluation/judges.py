# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Judges of texts that the judged model has not seen: pretrained language models and text encoders."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from ..model.loss_bnvae import IGNORE_INDEX, sentence_nll
from ..model.modeling_bnvae import BNVAEModel

# The least mean cosine of two networks' vocabulary vectors that shows a common origin. Fine-tuning changes these
# vectors little. Two trainings that began apart have a mean cosine near 0.
SAME_ORIGIN = 0.5


class Judge:
    """
    A pretrained network that judges texts, with its tokenizer.

    Args:
        name_or_path (`str`): Hub name or folder, or a file in llama.cpp's format (`*.gguf`).
        auto_class: `AutoModel` or `AutoModelForCausalLM`.
        device (`torch.device`, *optional*): Where it runs.
        **loading: Arguments for the loading of network and tokenizer.

    Raises:
        ValueError: if it could not be loaded.
    """

    def __init__(self, name_or_path: str, auto_class: Any, device: Any = None, **loading: Any) -> None:
        self.name = name_or_path
        if name_or_path.endswith(".gguf"):
            file = Path(name_or_path)
            name_or_path, loading = str(file.parent), {**loading, "gguf_file": file.name}
        try:
            self.network = auto_class.from_pretrained(name_or_path, dtype=torch.float32, **loading).eval().to(device)
            self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, **loading)
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(f"The judge {self.name} could not be loaded: {error}") from error

    def require_independent(self, model: BNVAEModel) -> None:
        """
        Refuse a judge that is a part of the judged model, or from which a part of the model was fine-tuned.

        Raises:
            ValueError: if the names are the same, or the vectors of the vocabularies are nearly the same.
        """
        own = self.network.get_input_embeddings().weight.float()
        for part in ("encoder", "decoder"):
            network = getattr(model, part)
            theirs = network.get_input_embeddings().weight.to(own)
            is_same = network.config.name_or_path == self.name
            if theirs.shape[1] == own.shape[1]:
                # A vocabulary may have got more tokens in fine-tuning.
                shared = min(len(own), len(theirs))
                is_same = is_same or F.cosine_similarity(own[:shared], theirs[:shared]).mean().item() > SAME_ORIGIN
            if is_same:
                raise ValueError(
                    f"The judge {self.name} is the model's {part}, or the {part} was fine-tuned from it. Such a judge "
                    "prefers its own. Name another one."
                )

    def _batches(
        self, texts: Sequence[str], batch_size: int, add_special_tokens: bool
    ) -> Iterator[tuple[list[int], list[torch.LongTensor]]]:
        """Places of texts and their token ids, in batches of similar length."""
        limit = min(self.tokenizer.model_max_length, getattr(self.network.config, "max_position_embeddings", 2**20))
        ids = self.tokenizer(
            list(texts), add_special_tokens=add_special_tokens, truncation=True, max_length=limit - 2, verbose=False
        )["input_ids"]
        order = sorted(range(len(texts)), key=lambda place: len(ids[place]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            yield places, [torch.tensor(ids[place], dtype=torch.long) for place in places]


class LanguageModelJudge(Judge):
    """A causal language model that scores texts. `name_or_path`, `device` and `loading` are as in [`Judge`]."""

    def __init__(self, name_or_path: str, device: Any = None, **loading: Any) -> None:
        super().__init__(name_or_path, AutoModelForCausalLM, device, **loading)
        end, start = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id
        if end is None:
            raise ValueError(f"The judge {self.name} has no EOS token, with which every text ends. Name another one.")
        self._start, self._end = end if start is None else start, end

    @torch.no_grad()
    def perplexity(self, texts: Sequence[str], batch_size: int = 64) -> float:
        """exp(sum of -log p / number of tokens) of texts; the end of each text is a token, too."""
        total, number = 0.0, 0
        for _, batch in self._batches(texts, batch_size, add_special_tokens=False):
            labels = [F.pad(ids, (0, 1), value=self._end) for ids in batch]
            inputs = [F.pad(ids, (1, 0), value=self._start) for ids in batch]
            labels = pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX).to(self.network.device)
            inputs = pad_sequence(inputs, batch_first=True, padding_value=self._end).to(self.network.device)
            scored = labels.ne(IGNORE_INDEX)
            logits = self.network(input_ids=inputs, attention_mask=scored.long()).logits[scored]
            total += sentence_nll(logits, labels, scored).cpu().double().sum().item()
            number += int(scored.sum())
        return math.exp(total / number)


class EncoderJudge(Judge):
    """
    A network whose hidden states, averaged over a text's tokens and scaled to unit length, stand for the text: an
    encoder of sentences, or a language model. `name_or_path`, `device` and `loading` are as in [`Judge`].
    """

    def __init__(self, name_or_path: str, device: Any = None, **loading: Any) -> None:
        super().__init__(name_or_path, AutoModel, device, **loading)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """One vector for each text, `(texts, hidden_size)`, on the CPU."""
        vectors = [torch.empty(0)] * len(texts)
        for places, batch in self._batches(texts, batch_size, add_special_tokens=True):
            # A text without a token has the first one of the vocabulary.
            batch = [ids if len(ids) else ids.new_zeros(1) for ids in batch]
            ids = pad_sequence(batch, batch_first=True).to(self.network.device)
            mask = pad_sequence([torch.ones_like(own) for own in batch], batch_first=True).to(ids)
            hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
            for place, vector in zip(places, F.normalize(pooled, dim=-1).float().cpu(), strict=True):
                vectors[place] = vector
        return torch.stack(vectors)
