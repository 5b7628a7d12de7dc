"""The processor and the collator: what they make of texts, and what they refuse."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoProcessor, BertConfig, GPT2Config, PreTrainedTokenizerFast, RobertaConfig

from hf_bnvae import BNVAEConfig, BNVAEDataCollator, BNVAEProcessor
from hf_bnvae.training.from_scratch import train_processor


def test_labels_end_in_eos_without_bos_and_are_padded_with_minus_100(processor):
    batch = processor(["The food likes fresh bread .", "My sister"], return_tensors="pt")
    labels, tokenizer = batch["labels"], processor.tokenizer
    for row in labels:
        real = row[row != -100].tolist()
        assert real[-1] == tokenizer.eos_token_id
        assert tokenizer.bos_token_id not in real and real.count(tokenizer.eos_token_id) == 1
        assert (row[len(real) :] == -100).all()
    assert tokenizer.decode(labels[0], skip_special_tokens=True).strip() == "The food likes fresh bread ."


def test_encoder_ids_begin_with_cls_and_are_padded_where_the_mask_is_0(processor):
    batch = processor(["The food likes fresh bread .", "My sister"], return_tensors="pt")
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert (batch["input_ids"] == processor.encoder_tokenizer.pad_token_id).equal(batch["attention_mask"] == 0)
    assert not batch["attention_mask"].all()
    assert batch["input_ids"][0, 0] == processor.encoder_tokenizer.cls_token_id


def test_one_text_and_several_without_tensors(processor):
    single, several = processor("My sister"), processor(["My sister"])
    assert single["input_ids"] == several["input_ids"][0] and single["labels"] == several["labels"][0]


def test_long_texts_are_cut_to_the_models_positions_with_a_warning(processor, caplog):
    long = "the long winter " * 40
    batch = processor([long, "My sister"])
    assert len(batch["input_ids"][0]) == 32 and batch["input_ids"][0][-1] == processor.encoder_tokenizer.sep_token_id
    assert len(batch["labels"][0]) == 31 and batch["labels"][0][-1] == processor.tokenizer.eos_token_id
    assert "1 of 2 texts were longer" in caplog.text
    assert processor([long, "My sister"], return_truncated=True)["truncated"] == [True, False]


def test_a_text_that_just_fits_is_not_cut(processor, make_model):
    words = processor.tokenizer("the long winter " * 40, add_special_tokens=False)["input_ids"]
    fitting = processor.tokenizer.decode(words[:30])
    batch = processor([fitting], return_tensors="pt")
    assert len(batch["labels"][0]) == 31
    assert processor([fitting], return_truncated=True)["truncated"] == [False]
    model = make_model().eval()
    assert torch.isfinite(model(latents=torch.zeros(1, 8), labels=batch["labels"]).reconstruction_nll).all()


def test_what_is_only_encoded_needs_no_labels(processor, texts):
    whole = processor(texts[:3], return_tensors="pt")
    encoded = processor(texts[:3], return_tensors="pt", return_labels=False)
    assert set(encoded) == {"input_ids", "attention_mask"}
    for name, values in encoded.items():
        assert torch.equal(values, whole[name])


def test_a_text_that_one_of_both_networks_has_to_cut_is_cut(processor, monkeypatch, caplog):
    text = "the long winter " * 4
    for tokenizer, name, alone in (
        (processor.encoder_tokenizer, "encoder: 8, decoder: 31 tokens", True),
        (processor.tokenizer, "encoder: 32, decoder: 7 tokens", False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(tokenizer, "model_max_length", 8)
            assert processor([text], return_truncated=True)["truncated"] == [True]
            # What is only encoded is not cut by the decoder.
            assert processor([text], return_truncated=True, return_labels=False)["truncated"] == [alone]
            processor([text, "My sister", "My sister"])
            assert f"1 of 3 texts were longer than the model has positions for and were cut ({name})" in caplog.text
    assert processor([text], return_truncated=True)["truncated"] == [False]


def test_round_trip_through_auto_processor(processor, tmp_path, encoder_config, decoder_config):
    BNVAEConfig.from_encoder_decoder_configs(encoder_config, decoder_config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is BNVAEProcessor
    texts = ["My sister painted two green birds .", "x"]
    assert loaded(texts).data == processor(texts).data
    assert loaded.encoder_tokenizer.model_max_length == loaded.tokenizer.model_max_length == 32


def test_pretrained_tokenizers_learn_how_many_positions_there_are(processor, tmp_path):
    fresh = train_processor(["My sister painted two green birds ."], vocab_size=300, max_length=int(1e30))
    for name, tokenizer, config in (
        ("encoder", fresh.encoder_tokenizer, RobertaConfig(max_position_embeddings=40, pad_token_id=1)),
        ("decoder", fresh.tokenizer, GPT2Config(n_positions=50)),
    ):
        tokenizer.save_pretrained(tmp_path / name)
        config.save_pretrained(tmp_path / name)
    paths = str(tmp_path / "encoder"), str(tmp_path / "decoder")
    built = BNVAEProcessor.from_encoder_decoder_pretrained(*paths)
    # RoBERTa's kin lose pad_token_id + 1 positions, whatever their tokenizer believes; BERT's do not.
    assert (built.encoder_tokenizer.model_max_length, built.tokenizer.model_max_length) == (38, 50)
    for believed in (39, 40, 41, 10**6):
        built.encoder_tokenizer.model_max_length = believed
        built.limit_lengths(RobertaConfig(max_position_embeddings=40, pad_token_id=1), GPT2Config())
        assert built.encoder_tokenizer.model_max_length == 38
    built.encoder_tokenizer.model_max_length = 10**6
    built.limit_lengths(BertConfig(max_position_embeddings=40), GPT2Config())
    assert built.encoder_tokenizer.model_max_length == 40


def test_a_decoder_without_padding_token_pads_with_eos():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>")
    encoder_tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="[PAD]")
    assert BNVAEProcessor(tokenizer, encoder_tokenizer).tokenizer.pad_token == "</s>"


def test_tokenizers_that_lack_what_is_needed_are_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(ValueError, match="no EOS token"):
        BNVAEProcessor(bare, bare)
    eos = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>")
    with pytest.raises(ValueError, match="no padding token"):
        BNVAEProcessor(eos, bare)


def test_what_is_not_text_is_refused(processor):
    with pytest.raises(ValueError, match="an element 3"):
        processor(["My sister", 3])
    with pytest.raises(ValueError, match=r"Unknown arguments.*padding"):
        processor("My sister", padding=True)


def test_collator_pads_as_the_processor_does(processor, texts):
    expected = processor(texts[:5], return_tensors="pt")
    tokenized = processor(texts[:5])
    features = [{name: tokenized[name][i] for name in tokenized} for i in range(5)]
    batch = BNVAEDataCollator(processor)(features)
    assert batch.keys() == expected.keys() and all(torch.equal(batch[name], expected[name]) for name in batch)
    for feature in features:
        del feature["attention_mask"]
    again = BNVAEDataCollator(processor)(features)
    assert torch.equal(again["attention_mask"], expected["attention_mask"])
    wide = BNVAEDataCollator(processor, pad_to_multiple_of=16)(features)
    assert wide["input_ids"].shape[1] % 16 == 0 and wide["labels"].shape[1] % 16 == 0
