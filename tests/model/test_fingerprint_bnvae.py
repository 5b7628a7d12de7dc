"""What a processor does to text, as a hash: what changes it and what does not, and that a model refuses a processor
that is not its own."""

import copy
import json

import pytest
import tiny
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModel, AutoProcessor, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast, pipeline

from hf_bnvae import BNVAEModel, BNVAEProcessor
from hf_bnvae.jobs.saved_model import load_saved_model
from hf_bnvae.model.fingerprint_bnvae import fingerprint_of

HALVES = ("encoder_tokenizer", "tokenizer")


@pytest.fixture
def other(processor) -> BNVAEProcessor:
    """A processor with the same vocabularies that lower-cases what the encoder reads."""
    other = copy.deepcopy(processor)
    other.encoder_tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return other


def rebuilt(tokenizer, **fields) -> PreTrainedTokenizerFast:
    """The tokenizer with other fields of its model: `merges`, ..."""
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    saved["model"] |= fields
    backend = Tokenizer.from_str(json.dumps(saved))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "change",
    [
        lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase()),
        lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.NFC()),
        lambda t: setattr(
            t.backend_tokenizer, "normalizer", normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
        ),
        lambda t: setattr(t.backend_tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False)),
        lambda t: setattr(
            t.backend_tokenizer,
            "pre_tokenizer",
            pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel()]),
        ),
        lambda t: t.add_tokens(["word"]),
    ],
    ids=["lower case", "composition", "accents", "prefix space", "digits", "added token"],
)
def test_what_changes_a_texts_ids_changes_the_fingerprint(processor, half, change):
    changed = copy.deepcopy(processor)
    assert changed.fingerprint() == processor.fingerprint()
    change(getattr(changed, half))
    assert changed.fingerprint() != processor.fingerprint()


def test_other_merges_and_other_ids_of_rare_tokens_change_the_fingerprint(processor):
    tokenizer = processor.tokenizer
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    assert fingerprint_of(rebuilt(tokenizer)) == fingerprint_of(tokenizer)
    merges, vocabulary = list(model["merges"]), dict(model["vocab"])
    merges[-1], merges[-2] = merges[-2], merges[-1]
    names = ["".join(merge) for merge in merges[-2:]]
    vocabulary[names[0]], vocabulary[names[1]] = vocabulary[names[1]], vocabulary[names[0]]
    for fields in ({"merges": merges}, {"vocab": vocabulary}):
        changed = rebuilt(tokenizer, **fields)
        assert fingerprint_of(changed) != fingerprint_of(tokenizer)


def test_another_end_of_texts_changes_the_fingerprint(processor):
    changed = copy.deepcopy(processor)
    changed.tokenizer.eos_token = "<pad>"
    assert changed.fingerprint() != processor.fingerprint()


def test_scores_of_a_unigram_model_change_the_fingerprint():
    def unigram(score: float) -> PreTrainedTokenizerFast:
        pieces = [("<unk>", 0.0), ("a", -2.0), ("b", -2.5), ("ab", score)]
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(pieces, 0)), eos_token="</s>")

    assert fingerprint_of(unigram(-3.25)) == fingerprint_of(unigram(-3.25)) != fingerprint_of(unigram(-3.125))


def test_lengths_padding_truncation_and_templates_do_not_change_the_fingerprint(processor, texts):
    changed = copy.deepcopy(processor)
    for half in HALVES:
        tokenizer = getattr(changed, half)
        tokenizer.model_max_length = 5
        tokenizer.padding_side = "left"
        tokenizer(texts[:3], padding="max_length", truncation=True, max_length=4)
        tokenizer.chat_template = "{{ messages }}"
        tokenizer.split_special_tokens = True
        tokenizer.backend_tokenizer.model.dropout = 0.5
    assert changed.fingerprint() == processor.fingerprint()
    assert changed.encoder_tokenizer.backend_tokenizer.model.dropout == 0.5


def test_the_fingerprint_changes_no_ids(processor, texts):
    fresh = copy.deepcopy(processor)
    fresh.fingerprint()
    for arguments in ({}, {"return_tensors": "pt"}, {"max_length": 4}):
        found, expected = fresh(texts[:5], **arguments), processor(texts[:5], **arguments)
        assert str(found) == str(expected)


def test_saving_and_loading_keeps_the_fingerprint(processor, make_model, tmp_path):
    make_model().attach_processor(processor).save_pretrained(tmp_path)
    for loaded in (BNVAEProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert loaded.fingerprint() == processor.fingerprint()
    ByT5Tokenizer().save_pretrained(tmp_path / "python")  # a tokenizer in Python
    in_python = AutoTokenizer.from_pretrained(tmp_path / "python")
    assert fingerprint_of(in_python) == fingerprint_of(ByT5Tokenizer()) != fingerprint_of(processor.tokenizer)


def test_the_fingerprint_stays_the_same_in_all_versions():
    """Models carry it. If a new version of a library changes it, the form of the fingerprint has to change."""
    processor = tiny.make_processor(["My sister painted two green birds ."])
    assert processor.fingerprint() == "9008f01057905c6792c9e9c3fe293156d8155a3dc4acedfac9fc13ec097bd912"


def test_a_model_refuses_a_processor_that_is_not_its_own(processor, other, make_model, tmp_path):
    model = make_model().attach_processor(processor)
    model.attach_processor(other)  # nothing was trained or saved yet
    model.attach_processor(processor).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["processor_sha256"] == processor.fingerprint()
    for loaded in (model, BNVAEModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert loaded.attach_processor(processor).processor is processor
        with pytest.raises(ValueError, match=r"otherwise .* model\.attach_processor\(processor, allow_other=True\)"):
            loaded.attach_processor(other)
        assert loaded.processor is processor


def test_a_folder_with_another_processor_is_refused_where_texts_are_used(processor, other, make_model, tmp_path):
    make_model(posterior="gaussian").attach_processor(processor).save_pretrained(tmp_path)
    assert pipeline("text-latent", model=str(tmp_path), device="cpu")("My sister")
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="splits texts otherwise"):
        BNVAEModel.from_pretrained(tmp_path).encode_texts("My sister")
    with pytest.raises(ValueError, match="splits texts otherwise"):
        load_saved_model(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="splits texts otherwise"):
        pipeline("text-latent", model=str(tmp_path), device="cpu")


def test_who_means_another_processor_can_go_on_with_it(processor, other, make_model, tmp_path, caplog):
    model = make_model(posterior="gaussian").attach_processor(processor)
    model.save_pretrained(tmp_path)
    model.attach_processor(other, allow_other=True).save_pretrained(tmp_path)
    loaded = load_saved_model(str(tmp_path), device="cpu")
    assert loaded.processor.fingerprint() == other.fingerprint()
    with pytest.raises(ValueError, match="splits texts otherwise"):
        loaded.attach_processor(processor)
    assert "has been changed" not in caplog.text
    # Changed in place after it was attached.
    loaded.processor.encoder_tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    loaded.save_pretrained(tmp_path)
    assert "The processor has been changed since it was attached" in caplog.text
    assert load_saved_model(str(tmp_path), device="cpu").processor is not None


def test_an_older_model_takes_every_processor_that_fits(processor, other, make_model, tmp_path):
    make_model(posterior="gaussian").attach_processor(processor).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["processor_sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checksums.json").unlink()  # older models have none of these either
    other.save_pretrained(tmp_path)
    for loaded in (load_saved_model(str(tmp_path), device="cpu"), BNVAEModel.from_pretrained(tmp_path)):
        assert loaded.config.processor_sha256 is None
        assert loaded.processor.fingerprint() == other.fingerprint()


def test_training_refuses_another_processor_and_writes_down_its_own(make_trainer, processor, other, dataset, tmp_path):
    trainer = make_trainer()
    assert trainer.model.config.processor_sha256 == processor.fingerprint()
    arguments = {"args": trainer.args, "train_dataset": dataset, "processing_class": other}
    with pytest.raises(ValueError, match="splits texts otherwise"):
        type(trainer)(model=trainer.model, **arguments)
    trainer.model.attach_processor(other, allow_other=True)
    trainer = type(trainer)(model=trainer.model, **arguments)
    trainer.save_model()
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert saved["processor_sha256"] == other.fingerprint()
