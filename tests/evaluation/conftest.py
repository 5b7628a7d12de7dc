"""Judges of texts that no model of the tests has anything to do with."""

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from hf_bnvae.evaluation.judges import EncoderJudge, LanguageModelJudge


@pytest.fixture(scope="module")
def language_model(processor, tmp_path_factory):
    """A language model that no other model started from."""
    path = str(tmp_path_factory.mktemp("judge"))
    tokenizer = processor.tokenizer
    torch.manual_seed(9)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return LanguageModelJudge(path)


@pytest.fixture(scope="module")
def encoder(processor, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("encoder"))
    torch.manual_seed(9)
    config = BertConfig(
        vocab_size=len(processor.encoder_tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(path)
    processor.encoder_tokenizer.save_pretrained(path)
    return EncoderJudge(path)
