"""The processor and the collator: what they make of texts, and what they refuse."""

import pytest
import tiny
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
    cut = len(processor([long], truncation=False)["labels"][0]) - 31
    assert processor([long, "My sister"], return_truncated=True)["truncated"] == [cut, 0]


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
            assert processor([text], return_truncated=True)["truncated"][0] > 0
            # What is only encoded is not cut by the decoder.
            cut = processor([text], return_truncated=True, return_labels=False)["truncated"]
            assert (cut[0] > 0) == alone
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
    for wrong in (None, 3, {"text": "My sister"}):
        with pytest.raises(ValueError, match="must be a string or a list of strings, got"):
            processor(wrong)
    with pytest.raises(ValueError, match="an element 3"):
        processor(["My sister", 3])
    with pytest.raises(ValueError, match=r"Unknown arguments.*paddin\b"):
        processor("My sister", paddin=True)


def test_the_usual_arguments_of_a_tokenizer_work(processor, texts, monkeypatch):
    expected = processor(texts[:3], return_tensors="pt")
    for padding in (True, "longest", False, None):
        found = processor(texts[:3], padding=padding, truncation=True, return_tensors="pt")
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    lists = processor(texts[:3], padding=True)
    assert all(torch.equal(torch.tensor(lists[name]), expected[name]) for name in expected)
    wide = processor(texts[:3], padding="max_length", max_length=24, return_tensors="pt")
    assert {value.shape for value in wide.values()} == {(3, 24)}
    with monkeypatch.context() as patch:
        patch.setattr(processor.tokenizer, "model_max_length", 20)
        own = processor(texts[:3], padding="max_length", return_tensors="pt")
        assert own["input_ids"].shape == own["attention_mask"].shape == (3, 32) and own["labels"].shape == (3, 19)
        patch.setattr(processor.encoder_tokenizer, "model_max_length", int(1e30))
        assert len(processor("the long winter " * 40)["input_ids"]) > 100
        for half in (processor.encoder_tokenizer, processor.tokenizer):
            patch.setattr(processor.encoder_tokenizer, "model_max_length", 32)
            patch.setattr(half, "model_max_length", int(1e30))
            with pytest.raises(ValueError, match="Give max_length to pad to it"):
                processor(texts[:3], padding="max_length")
    short = processor(texts[:3], max_length=5)
    assert {len(ids) for ids in short["input_ids"]} == {len(ids) for ids in short["labels"]} == {5}
    assert all(ids[-1] == processor.tokenizer.eos_token_id for ids in short["labels"])
    assert processor(texts[:3], max_length=5, return_truncated=True)["truncated"][0] > 0
    long = "the long winter " * 40
    whole = processor([long], truncation=False, return_truncated=True)
    assert len(whole["labels"][0]) > 100 and len(whole["input_ids"][0]) > 100 and whole["truncated"] == [0]


@pytest.mark.parametrize("word", ["</s>", "<s>", "<pad>", "[SEP]", "[MASK]"])
def test_names_of_special_tokens_are_words_like_any_other(processor, word):
    text = f"My sister {word} painted two{word}birds"
    found = processor([text])
    specials = {*processor.tokenizer.all_special_ids, *processor.encoder_tokenizer.all_special_ids}
    own = processor.encoder_tokenizer
    assert not specials & {*found["labels"][0][:-1], *processor.encode_prompts(text)["decoder_input_ids"][0].tolist()}
    assert [token for token in found["input_ids"][0] if token in own.all_special_ids] == [
        own.cls_token_id,
        own.sep_token_id,
    ]
    assert processor.decode_texts(torch.tensor(found["labels"])) == [text]


class MistralCommonBackend(PreTrainedTokenizerFast):
    """Refuses an option as Mistral's own tokenizer does, whose package is not among those of the tests."""

    def __call__(self, *args, split_special_tokens=False, **kwargs):
        if split_special_tokens:
            raise ValueError("`MistralCommonBackend` does not support `split_special_tokens`.")
        return super().__call__(*args, **kwargs)


def test_mistral_s_own_tokenizer_is_not_given_what_it_refuses(processor, texts):
    own = processor.tokenizer
    mistral = MistralCommonBackend(tokenizer_object=own.backend_tokenizer, eos_token="</s>", pad_token="<pad>")
    with pytest.raises(ValueError, match="does not support"):
        mistral(texts[:3], split_special_tokens=True)
    found = BNVAEProcessor(mistral, processor.encoder_tokenizer)(texts[:3])
    assert found["labels"] == processor(texts[:3])["labels"]


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


def test_options_are_taken_in_a_dict_too(processor, texts):
    options = {"padding": "max_length", "max_length": 9, "return_tensors": "pt", "return_labels": False}
    expected = dict(processor(texts[:3], **options))
    by_dict = dict(processor(texts[:3], text_kwargs=options, max_length=20))
    assert by_dict.keys() == expected.keys()
    assert all(torch.equal(by_dict[name], values) for name, values in expected.items())
    assert processor(texts[:3], max_length=20, padding="max_length", return_tensors="pt")["input_ids"].shape == (3, 20)
    with pytest.raises(ValueError, match="Unknown arguments of BNVAEProcessor: stride"):
        processor(texts[:3], text_kwargs={"stride": 3})


def test_saving_does_not_change_a_processor(texts, tmp_path):
    processor = tiny.make_processor(texts)
    before = processor.to_dict()
    processor.save_pretrained(tmp_path)
    assert processor.to_dict() == before == BNVAEProcessor.from_pretrained(tmp_path).to_dict()
    # The file names the code that is saved beside it.
    assert "AutoProcessor" in (tmp_path / "processor_config.json").read_text(encoding="utf-8")
