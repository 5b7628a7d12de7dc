# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The processor: from a text to the encoder's token ids and the decoder's labels, and from token ids to text."""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BatchFeature,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.utils import logging

from .condition_bnvae import Condition, conditions_of_texts
from .configuration_bnvae import BNVAEConfig
from .damage_bnvae import damage_named, find_processor_damage
from .fingerprint_bnvae import fingerprint_of
from .input_checks_bnvae import require_count
from .loss_bnvae import IGNORE_INDEX

logger = logging.get_logger(__name__)

# A tokenizer without a limit says that it takes 1e30 tokens.
MOST_TOKENS = 1_000_000

# Encoders that number the positions of a text from pad_token_id + 1 on, as RoBERTa does. They never use the first
# pad_token_id + 1 positions.
OFFSET_POSITIONS = {
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}


class BNVAEProcessor(ProcessorMixin):
    r"""
    The two tokenizers of a [`BNVAEModel`]: the encoder's and the decoder's.

    The decoder's tokenizer is called `tokenizer` and lies at the root of a saved folder, since `Trainer` and
    `generate` look there for the decoder's special tokens. The encoder's tokenizer lies in the sub-folder
    `encoder_tokenizer`.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The decoder's tokenizer. It needs an EOS token. Without a padding token,
            EOS also pads.
        encoder_tokenizer (`PreTrainedTokenizerBase`): The encoder's tokenizer.

    Example:

    ```python
    >>> batch = processor(["The food was great ."], return_tensors="pt")  # input_ids, attention_mask, labels
    >>> posterior = model.encode(batch["input_ids"], batch["attention_mask"])
    >>> texts = processor.batch_decode(model.generate(latents=posterior.mode()), skip_special_tokens=True)
    ```
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, encoder_tokenizer: PreTrainedTokenizerBase, **kwargs: Any
    ) -> None:
        super().__init__(tokenizer, encoder_tokenizer, **kwargs)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "The decoder's tokenizer has no EOS token, but every text must end in one so that generation stops. "
                "Set tokenizer.eos_token."
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if encoder_tokenizer.pad_token_id is None:
            raise ValueError("The encoder's tokenizer has no padding token. Set encoder_tokenizer.pad_token.")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> "BNVAEProcessor":
        """As [`~transformers.ProcessorMixin.from_pretrained`].

        Raises:
            OSError: also for a file that is missing or damaged. The error names the file.
        """
        with damage_named(find_processor_damage, pretrained_model_name_or_path, kwargs):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def _load_tokenizer_from_pretrained(
        cls, sub_processor_type: str, pretrained_model_name_or_path: Any, subfolder: str = "", **kwargs: Any
    ) -> PreTrainedTokenizerBase:
        # The base class takes the decoder's tokenizer where the encoder's is missing or damaged.
        folder = "" if sub_processor_type == "tokenizer" else sub_processor_type
        subfolder = "/".join(filter(None, (subfolder, folder)))
        if folder:
            # There is no config.json. Looking for it would fail with a cache and without a network.
            kwargs["config"] = PreTrainedConfig()
        tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, subfolder=subfolder, **kwargs)
        if not isinstance(tokenizer.model_max_length, (int, float)):
            name = "/".join(filter(None, (str(pretrained_model_name_or_path), subfolder, "tokenizer_config.json")))
            raise ValueError(
                f"{name} is damaged: model_max_length must be a number, got {tokenizer.model_max_length!r}. Copy or "
                "download it again."
            )
        return tokenizer

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder_name_or_path: str | PreTrainedTokenizerBase,
        decoder_name_or_path: str | PreTrainedTokenizerBase,
        config: BNVAEConfig | None = None,
        encoder: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> "BNVAEProcessor":
        """
        A processor from the tokenizers of a pretrained encoder and a pretrained decoder.

        Args:
            encoder_name_or_path, decoder_name_or_path (`str` or `PreTrainedTokenizerBase`): Hub names, folders, or the
                tokenizers themselves.
            config ([`BNVAEConfig`], *optional*): The model's configuration, which says how long texts may be. By
                default the processor loads the configurations of the two networks, if both are given by names.
            encoder, decoder (`dict`, *optional*): Arguments for the loading of one tokenizer, for example
                `decoder={"gguf_file": "model.Q4_1.gguf"}`.
            **kwargs: Arguments for the loading of both tokenizers (`token`, `cache_dir`, ...).
        """
        halves = (
            (encoder_name_or_path, {**kwargs, **(encoder or {})}),
            (decoder_name_or_path, {**kwargs, **(decoder or {})}),
        )
        encoder_tokenizer, tokenizer = (
            source if isinstance(source, PreTrainedTokenizerBase) else AutoTokenizer.from_pretrained(source, **loading)
            for source, loading in halves
        )
        processor = cls(tokenizer, encoder_tokenizer)
        if config is None and any(isinstance(source, PreTrainedTokenizerBase) for source, _ in halves):
            raise ValueError("Tokenizers do not know how long texts may be. Give the model's config=...")
        if config is None:
            processor.limit_lengths(*(AutoConfig.from_pretrained(name, **loading) for name, loading in halves))
        else:
            processor.limit_lengths(config.encoder, config.decoder)
        return processor

    def save_pretrained(self, *args: Any, **kwargs: Any) -> list[str]:
        """As [`~transformers.ProcessorMixin.save_pretrained`]."""
        files = super().save_pretrained(*args, **kwargs)
        # Saving has also written the reference to the saved code here. A processor that is loaded has none.
        vars(self).pop("auto_map", None)
        return files

    def limit_lengths(self, encoder_config: Any, decoder_config: Any) -> None:
        """Lower both tokenizers' `model_max_length` to the positions that the two networks have."""
        for tokenizer, config in ((self.encoder_tokenizer, encoder_config), (self.tokenizer, decoder_config)):
            positions = getattr(config, "max_position_embeddings", None)
            if positions is None:
                continue
            if config.model_type in OFFSET_POSITIONS:
                positions -= (getattr(config, "pad_token_id", None) or 0) + 1
            tokenizer.model_max_length = min(tokenizer.model_max_length, positions)

    def fingerprint(self) -> str:
        """
        SHA-256 of what the processor does to text. Two processors with the same fingerprint make the same ids of a
        text, but they may cut it at other lengths.

        Returns:
            `str`: 64 hexadecimal digits.
        """
        halves = (
            fingerprint_of(self.encoder_tokenizer, **_spelling_out(self.encoder_tokenizer)),
            fingerprint_of(self.tokenizer, add_special_tokens=False, **_spelling_out(self.tokenizer)),
        )
        return hashlib.sha256(" ".join((*halves, str(self.tokenizer.eos_token_id))).encode()).hexdigest()

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "labels"]

    def __call__(
        self,
        text: str | list[str],
        return_tensors: str | None = None,
        return_truncated: bool = False,
        return_labels: bool = True,
        padding: bool | str | None = None,
        truncation: bool | str = True,
        max_length: int | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Args:
            text (`str` or `list[str]`): One text or several. Names of special tokens in a text, such as `</s>`, are
                words like any other.
            return_tensors (`str`, *optional*): `"pt"` for padded tensors, which are a batch even for one text. Without
                it the result holds lists.
            return_truncated (`bool`, *optional*, defaults to `False`): Add `truncated`, how many tokens of a text were
                cut: the larger number of the two halves, 0 for a whole text. With conditions also
                `condition_truncated`, the same of them.
            return_labels (`bool`, *optional*, defaults to `True`): Add `labels`. The encoder alone needs none.
            padding (`bool` or `str`, *optional*): Whether to pad to the longest text (`True`, `"longest"`), or to
                `max_length` (`"max_length"`). Tensors are always padded.
            truncation (`bool` or `str`, *optional*, defaults to `True`): Whether to cut longer texts. The networks
                cannot take more tokens than they have positions.
            max_length (`int`, *optional*): The largest number of the encoder's tokens, and of the decoder's labels,
                instead of what the networks allow. Conditions count, too.
            text_kwargs (`dict`, *optional*): Any of these arguments in a dict, as other processors of Transformers
                take them. An argument in this dict overrides the argument of the same name.
            condition (`str` or list, *optional*): For a conditional model: one condition for all texts, or a list with
                one for each. A condition is a text, or a list of turns, which `TURN_SEPARATOR` joins. An empty one
                adds no token.

        Returns:
            [`BatchFeature`]: `input_ids` and `attention_mask` for the encoder, padded with its padding token, and
            `labels` for the decoder: ending in EOS, without BOS, padded with -100. The processor cuts longer texts to
            the tokenizers' `model_max_length`, and logs a warning the first time. With conditions `input_ids` hold
            pairs of text and condition, which `token_type_ids` tell apart for encoders that know them, and
            `condition_ids` hold the decoder's ids of the conditions, padded with -100. A condition has at most half of
            the positions. A longer one loses its beginning.
        """
        if text_kwargs:
            given = {
                "return_tensors": return_tensors,
                "return_truncated": return_truncated,
                "return_labels": return_labels,
                "padding": padding,
                "truncation": truncation,
                "max_length": max_length,
                "condition": condition,
            }
            return self(text, **{**given, **kwargs, **text_kwargs})
        if kwargs:
            raise ValueError(f"Unknown arguments of {type(self).__name__}: {', '.join(sorted(kwargs))}.")
        if not isinstance(text, Iterable) or isinstance(text, Mapping):
            raise ValueError(f"text must be a string or a list of strings, got {text!r}.")
        texts = [text] if isinstance(text, str) else list(text)
        if not all(isinstance(item, str) for item in texts):
            wrong = next(item for item in texts if not isinstance(item, str))
            raise ValueError(f"text must be a string or a list of strings, got an element {wrong!r}.")
        does_cut = truncation not in (False, None, "do_not_truncate")
        limits = {"encoder": self.encoder_tokenizer.model_max_length}
        if return_labels:
            # The latent's memory slot takes one position.
            limits["decoder"] = self.tokenizer.model_max_length - 1
        if max_length is not None:
            require_count("max_length", max_length)
            limits = {name: min(limit, max_length) for name, limit in limits.items()}
        if padding == "max_length" and max(limits.values()) > MOST_TOKENS:
            raise ValueError("The tokenizers know no longest text. Give max_length to pad to it.")

        conditions = conditions_of_texts(condition, len(texts))
        condition_truncated = [0] * len(texts)
        if conditions is not None:
            features, truncated, condition_truncated = self._encode_pairs(
                texts, conditions, limits["encoder"] if does_cut else sys.maxsize
            )
        else:
            encoded = self.encoder_tokenizer(
                texts,
                truncation=does_cut,
                max_length=limits["encoder"] if does_cut and max_length is not None else None,
                verbose=False,
                **_spelling_out(self.encoder_tokenizer),
            )
            features = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
            truncated = self._cut_from_encoder(encoded, limits["encoder"]) if does_cut else [0] * len(texts)
        if return_labels:
            positions = limits["decoder"] if does_cut else sys.maxsize
            targets, longest = self._decoder_ids(texts), [positions - 1] * len(texts)
            if conditions is not None:
                features["condition_ids"], cuts = self._condition_ids(conditions, positions // 2)
                longest = [most - len(ids) for most, ids in zip(longest, features["condition_ids"], strict=True)]
                condition_truncated = list(map(max, condition_truncated, cuts))
            features["labels"] = [
                [*ids[:most], self.tokenizer.eos_token_id] for ids, most in zip(targets, longest, strict=True)
            ]
            truncated = [max(cut, len(ids) - most) for cut, ids, most in zip(truncated, targets, longest, strict=True)]
        if any(condition_truncated) and not return_truncated:
            _warn_of_cut_conditions(condition_truncated)
        if any(truncated) and not return_truncated:
            positions = ", ".join(f"{name}: {limit}" for name, limit in limits.items())
            logger.warning_once(
                f"{sum(map(bool, truncated))} of {len(texts)} texts were longer than the model has positions for and "
                f"were cut ({positions} tokens)."
            )
        if return_tensors is not None or padding not in (None, False, "do_not_pad"):
            widths = {} if padding != "max_length" else {**dict.fromkeys(features, limits["encoder"])}
            for name in widths.keys() & {"labels", "condition_ids"}:
                widths[name] = limits["decoder"] // (2 if name == "condition_ids" else 1)
            features = self.pad(features, widths=widths)
        if return_tensors is not None:
            return BatchFeature(features, tensor_type=return_tensors)
        if return_truncated:
            features["truncated"] = truncated
            if conditions is not None:
                features["condition_truncated"] = condition_truncated
        if isinstance(text, str):
            features = {name: values[0] for name, values in features.items()}
        return BatchFeature(features)

    def pad(
        self,
        features: dict[str, list[list[int]]],
        pad_to_multiple_of: int | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> dict[str, list[list[int]]]:
        """Pad `input_ids`, `attention_mask` and, if given, `token_type_ids`, `labels` and `condition_ids` of several
        texts on the right, to the longest text, or to `widths` of each. They are padded with the encoder's padding
        token, 0, 0, -100 and -100."""
        padding = {
            "input_ids": self.encoder_tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": 0,
            "labels": IGNORE_INDEX,
            "condition_ids": IGNORE_INDEX,
        }
        padded = {}
        for name, value in padding.items():
            if name in features:
                # Without a column, a tensor would not be one of whole numbers.
                longest = max([(widths or {}).get(name, 1), *map(len, features[name])])
                if pad_to_multiple_of:
                    longest = -(-longest // pad_to_multiple_of) * pad_to_multiple_of
                padded[name] = [list(row) + [value] * (longest - len(row)) for row in features[name]]
        return padded

    def encode_prompts(self, text: str | list[str]) -> BatchFeature:
        """
        Beginnings of texts that [`~BNVAEModel.generate`] continues. `generate` puts the start token ahead of them.

        Args:
            text (`str` or `list[str]`): One beginning or several.

        Returns:
            [`BatchFeature`]: `decoder_input_ids` and `decoder_attention_mask`, tensors of shape `(batch, longest)`,
            padded on the left.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts or not all(isinstance(item, str) for item in texts):
            raise ValueError(f"Prompts must be a string or a list of strings, got {text!r}.")
        prompts = self._decoder_ids(texts)
        longest = max(map(len, prompts))
        ids = [[self.tokenizer.pad_token_id] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        rows = {"decoder_input_ids": ids, "decoder_attention_mask": mask}
        return BatchFeature({name: torch.tensor(values, dtype=torch.long) for name, values in rows.items()})

    def encode_conditions(self, condition: Condition, count: int) -> BatchFeature:
        """
        Conditions for [`~BNVAEModel.generate`].

        Args:
            condition (`str` or list): As in a call of the processor.
            count (`int`): The number of texts.

        Returns:
            [`BatchFeature`]: `condition_ids`, a tensor of shape `(count, longest)`, padded on the right with -100.
        """
        if condition is None:
            raise ValueError('A condition is missing. An empty one is a text, too: "".')
        limit = (self.tokenizer.model_max_length - 1) // 2
        ids, cuts = self._condition_ids(conditions_of_texts(condition, count), limit)
        if any(cuts):
            _warn_of_cut_conditions(cuts)
        return BatchFeature(self.pad({"condition_ids": ids}), tensor_type="pt")

    def decode_texts(self, ids: Any) -> list[str]:
        """
        Texts of the decoder's token ids, without special tokens. Whitespace at both ends is removed, since some
        tokenizers put a space there.

        Args:
            ids (`torch.LongTensor` of shape `(batch, length)`): The result of [`~BNVAEModel.generate`], or labels.
        """
        ids = ids.masked_fill(ids.eq(IGNORE_INDEX), self.tokenizer.pad_token_id)
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _decoder_ids(self, texts: list[str]) -> list[list[int]]:
        """The decoder's token ids. Names of special tokens are spelt out: an EOS within a text would end it."""
        spelling_out = _spelling_out(self.tokenizer)
        return self.tokenizer(texts, add_special_tokens=False, verbose=False, **spelling_out)["input_ids"]

    def _condition_ids(self, conditions: list[str], limit: int) -> tuple[list[list[int]], list[int]]:
        """The decoder's ids of each condition, the last `limit` of them, and how many were cut."""
        rows = [ids if text else [] for ids, text in zip(self._decoder_ids(conditions), conditions, strict=True)]
        return [ids[max(0, len(ids) - limit) :] for ids in rows], [max(0, len(ids) - limit) for ids in rows]

    def _encode_pairs(
        self, texts: list[str], conditions: list[str], limit: int
    ) -> tuple[dict[str, list[list[int]]], list[int], list[int]]:
        """The encoder's inputs for pairs of a text and its condition, and how many tokens of each were cut. An empty
        condition leaves the text alone. Otherwise the condition has at most half of the `limit`, and the text has the
        rest."""
        tokenizer = self.encoder_tokenizer
        options = {"return_special_tokens_mask": True, "verbose": False, **_spelling_out(tokenizer)}
        alone = tokenizer(texts, **options)
        given = [row for row, condition in enumerate(conditions) if condition]
        pairs = alone
        if given:
            pairs = tokenizer([texts[row] for row in given], [conditions[row] for row in given], **options)
        place_of = {row: place for place, row in enumerate(given)}
        names = ["input_ids", *(["token_type_ids"] if "token_type_ids" in alone else [])]
        features: dict[str, list[list[int]]] = {name: [] for name in names}
        text_cuts, condition_cuts = [], []
        for row in range(len(texts)):
            num_text = alone["special_tokens_mask"][row].count(0)
            source, place = (pairs, place_of[row]) if row in place_of else (alone, row)
            is_special = source["special_tokens_mask"][place]
            words = [i for i, special in enumerate(is_special) if not special]
            num_condition = len(words) - num_text
            # A tokenizer that puts nothing between the two gets a separator.
            lacks_separator = num_condition > 0 and num_text > 0 and words[num_text] == words[num_text - 1] + 1
            room = max(0, limit - is_special.count(1) - lacks_separator)
            kept_condition = min(num_condition, room // 2)
            kept_text = min(num_text, room - kept_condition)
            text_cuts.append(num_text - kept_text)
            condition_cuts.append(num_condition - kept_condition)
            dropped = {*words[kept_text:num_text], *words[num_text : len(words) - kept_condition]}
            for name in names:
                values = [value for i, value in enumerate(source[name][place]) if i not in dropped]
                if lacks_separator:
                    end = words[0] + kept_text
                    values.insert(end, self._separator_id if name == "input_ids" else 0)
                features[name].append(values)
        features["attention_mask"] = [[1] * len(ids) for ids in features["input_ids"]]
        return features, text_cuts, condition_cuts

    @property
    def _separator_id(self) -> int:
        """What stands between text and condition where the encoder's tokenizer puts nothing."""
        for token_id in (self.encoder_tokenizer.sep_token_id, self.encoder_tokenizer.eos_token_id):
            if token_id is not None:
                return token_id
        raise ValueError(
            "The encoder's tokenizer has neither a separator nor an EOS token to put between text and condition. Set "
            "encoder_tokenizer.sep_token."
        )

    def _cut_from_encoder(self, encoded: Any, limit: int) -> list[int]:
        """How many tokens of each text the encoder's tokenizer has cut."""
        if encoded.encodings is not None:
            parts = [encoding.overflowing for encoding in encoded.encodings]
            return [sum(part.special_tokens_mask.count(0) for part in overflowing) for overflowing in parts]
        # A tokenizer in Python does not say whether it cut a text. So one that just fits counts as cut by one token.
        return [int(len(ids) >= limit) for ids in encoded["input_ids"]]


def _warn_of_cut_conditions(cuts: list[int]) -> None:
    logger.warning_once(
        f"{sum(map(bool, cuts))} of {len(cuts)} conditions were longer than half of the model's positions, and lost "
        "their beginnings."
    )


def _spelling_out(tokenizer: PreTrainedTokenizerBase) -> dict[str, bool]:
    """The option with which a tokenizer takes names of special tokens in a text for words. Mistral's own tokenizer
    always does, and refuses the option."""
    return {} if type(tokenizer).__name__ == "MistralCommonBackend" else {"split_special_tokens": True}


__all__ = ["BNVAEProcessor"]
