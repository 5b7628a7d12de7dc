# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A small BN-VAE from texts alone: tokenizers trained on the texts, and configurations of a small pair."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, GPT2Config, PreTrainedTokenizerFast

from ..model.processing_bnvae import BNVAEProcessor

MAX_LENGTH = 64
ENCODER_SPECIALS = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
DECODER_SPECIALS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def train_processor(
    texts: Iterable[str],
    vocab_size: int = 4096,
    max_length: int = MAX_LENGTH,
    conditions: Iterable[str] | None = None,
) -> BNVAEProcessor:
    """
    A processor whose tokenizers are trained on `texts`, and on their conditions if there are any.

    Both tokenizers are byte-level BPE (Radford et al. 2019), which can spell any text. The encoder's tokenizer puts
    [CLS] and [SEP] around a text, as BERT's does.

    Args:
        texts (iterable of `str`): The texts.
        vocab_size (`int`, *optional*, defaults to 4096): Largest number of entries of each vocabulary.
        max_length (`int`, *optional*, defaults to 64): Longest text in tokens, together with its condition.
        conditions (iterable of `str`, *optional*): The conditions of the texts, for a conditional model. The encoder's
            tokenizer then marks which tokens are of a text and which of its condition.
    """
    texts = list(texts)
    kinds = {}
    if conditions is not None:
        # Contexts that several texts share count once.
        texts += dict.fromkeys(conditions)
        kinds["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    # Not WordPiece: its training numbers the pieces in another order each time, so nobody could repeat a run.
    encoder_bpe = _train_bpe(texts, vocab_size, list(ENCODER_SPECIALS.values()))
    encoder_bpe.post_processor = processors.BertProcessing(
        *((token, encoder_bpe.token_to_id(token)) for token in ("[SEP]", "[CLS]"))
    )
    decoder_bpe = _train_bpe(texts, vocab_size, list(DECODER_SPECIALS.values()))
    return BNVAEProcessor(
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=decoder_bpe, model_max_length=max_length, **DECODER_SPECIALS
        ),
        encoder_tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=encoder_bpe, model_max_length=max_length, **kinds, **ENCODER_SPECIALS
        ),
    )


def _train_bpe(texts: list[str], vocab_size: int, special_tokens: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    # Every word has a space before it, also the first one, so a word gives the same tokens at every position.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def small_configs(
    processor: BNVAEProcessor, hidden_size: int = 128, num_layers: int = 2, num_heads: int = 4
) -> tuple[BertConfig, GPT2Config]:
    """
    Configurations of a small BERT-style encoder and a small GPT-2-style decoder for the tokenizers of `processor`.

    Args:
        processor ([`BNVAEProcessor`]): The processor.
        hidden_size, num_layers, num_heads (`int`, *optional*): Sizes of both networks.
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
