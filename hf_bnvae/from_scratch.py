# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A small BN-VAE from nothing but texts: tokenizers trained on them, and configurations of a small pair."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, GPT2Config, PreTrainedTokenizerFast

from .processing_bnvae import BNVAEProcessor

MAX_LENGTH = 64


def train_processor(texts: Iterable[str], vocab_size: int = 4096, max_length: int = MAX_LENGTH) -> BNVAEProcessor:
    """
    A processor whose tokenizers are trained on `texts`: WordPieces for the encoder (Devlin et al. 2019), byte-level
    BPE for the decoder (Radford et al. 2019), which can spell any text.

    Args:
        texts (iterable of `str`): The texts.
        vocab_size (`int`, *optional*, defaults to 4096): Most entries of each vocabulary.
        max_length (`int`, *optional*, defaults to 64): Longest text in tokens.
    """
    texts = list(texts)
    return BNVAEProcessor(
        tokenizer=_train_bpe(texts, vocab_size, max_length),
        encoder_tokenizer=_train_wordpiece(texts, vocab_size, max_length),
    )


def _train_wordpiece(texts: list[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(special.values()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]"))
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **special)


def _train_bpe(texts: list[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = Tokenizer(models.BPE())
    # With a space ahead of every word, the first one included, a word is one token wherever it stands.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **special)


def small_configs(
    processor: BNVAEProcessor, hidden_size: int = 128, num_layers: int = 2, num_heads: int = 4
) -> tuple[BertConfig, GPT2Config]:
    """
    Configurations of a small BERT-style encoder and a small GPT-2-style decoder for the tokenizers of `processor`.

    Args:
        processor ([`BNVAEProcessor`]): The processor.
        hidden_size, num_layers, num_heads (`int`, *optional*): Of both networks.
    """
    tokenizer, encoder_tokenizer = processor.tokenizer, processor.encoder_tokenizer
    encoder = BertConfig(
        vocab_size=len(encoder_tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=encoder_tokenizer.model_max_length,
        pad_token_id=encoder_tokenizer.pad_token_id,
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=hidden_size,
        n_layer=num_layers,
        n_head=num_heads,
        n_positions=tokenizer.model_max_length,
        # A few epochs over tens of thousands of sentences do not overfit.
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return encoder, decoder
