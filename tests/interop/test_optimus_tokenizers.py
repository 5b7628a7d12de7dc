"""The tokenizers that belong to an Optimus checkpoint: the processor makes the original's token ids."""

import shutil
from pathlib import Path

import pytest
import torch
from optimus_original import POSITIONS, original_settings, write_checkpoint
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_bnvae import BNVAEModel, BNVAEProcessor
from hf_bnvae.interop.optimus.convert import convert_optimus_checkpoint


def test_the_processor_makes_the_originals_ids(checkpoint, out, sizes, tokenizers, tokenizer_folders, texts):
    converted = convert_optimus_checkpoint(checkpoint, out, **tokenizers)
    processor = BNVAEProcessor.from_pretrained(out)
    plain = AutoTokenizer.from_pretrained(tokenizer_folders["gpt2"])
    vocabulary = Path(tokenizer_folders["bert"], "vocab.txt").read_text().splitlines()
    text = "The old waiter likes the red car ."
    batch = processor(text)
    assert batch["input_ids"] == [2, *(vocabulary.index(word) for word in text.split()), 3]
    # The original puts a space ahead of each text. A tokenizer of today does not.
    assert batch["labels"] == [*plain(" " + text)["input_ids"], sizes["decoder"] - 1]
    assert batch["labels"][:-1] != plain(text)["input_ids"]
    tokenizer = processor.tokenizer
    specials = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}
    for i, (name, token) in enumerate(specials.items()):
        assert (getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")) == (token, sizes["decoder"] - 3 + i)
    assert processor.encoder_tokenizer.pad_token_id == 0
    assert (tokenizer.model_max_length, processor.encoder_tokenizer.model_max_length) == (POSITIONS, POSITIONS)
    # The returned model and the saved one make the same texts.
    model = BNVAEModel.from_pretrained(out).attach_processor(processor)
    assert model.reconstruct(texts[:2], do_sample=False) == converted.reconstruct(texts[:2], do_sample=False)
    outputs = model(**processor(texts[:4], return_tensors="pt"))
    assert torch.isfinite(outputs.loss)


@pytest.mark.parametrize("lower", [False, True])
def test_the_encoders_case_is_the_trainings(lower, tmp_path, sizes, out, tokenizers):
    """The vocabulary alone does not tell the case, and Transformers would make every text lower case."""
    settings = original_settings(do_lower_case=lower)
    path = write_checkpoint(tmp_path / "checkpoint", sizes, settings=settings)
    convert_optimus_checkpoint(path, out, **tokenizers)
    pieces = BNVAEProcessor.from_pretrained(out).encoder_tokenizer.tokenize("The car")
    assert pieces == (["the", "car"] if lower else ["The", "car"])


def test_tokenizers_of_another_model_are_refused(checkpoint, out, sizes, tokenizers, tokenizer_folders, tmp_path):
    bert, gpt2 = tokenizer_folders["bert"], tokenizer_folders["gpt2"]
    larger = AutoTokenizer.from_pretrained(gpt2)
    larger.add_tokens(["another"])
    larger.save_pretrained(tmp_path / "larger")
    # The vocabulary has the right size, but its special tokens have another order.
    reordered = AutoTokenizer.from_pretrained(gpt2)
    reordered.add_tokens(["<EOS>", "<BOS>", "<PAD>"])
    reordered.save_pretrained(tmp_path / "reordered")
    fast = AutoTokenizer.from_pretrained(gpt2)
    PreTrainedTokenizerFast(tokenizer_object=fast.backend_tokenizer, eos_token="<|endoftext|>").save_pretrained(
        tmp_path / "fast"
    )
    uncased = tmp_path / "uncased"
    shutil.copytree(bert, uncased)
    with open(uncased / "vocab.txt", "a") as file:
        file.write("another\n")
    unpadded = tmp_path / "unpadded"
    shutil.copytree(bert, unpadded)
    pieces = (unpadded / "vocab.txt").read_text().splitlines()
    (unpadded / "vocab.txt").write_text("\n".join([*pieces[1:], "[PAD]"]) + "\n")
    plain = sizes["decoder"] - 3
    cases = [
        (
            {"decoder_tokenizer": tmp_path / "larger"},
            f"has {plain + 1} tokens, and the decoder {plain + 3}.*{plain} to",
        ),
        ({"decoder_tokenizer": tmp_path / "reordered"}, f"has {plain + 3} tokens.*{plain}, {plain + 1}, {plain + 2}"),
        ({"decoder_tokenizer": tmp_path / "fast"}, "cannot put a space ahead of texts.*vocab.json and merges.txt"),
        ({"decoder_tokenizer": bert}, f"has {sizes['encoder']} tokens, and the decoder {plain + 3}"),
        ({"encoder_tokenizer": uncased}, f"has {sizes['encoder'] + 1} tokens, and the encoder {sizes['encoder']}"),
        ({"encoder_tokenizer": unpadded}, "none of BERT's: .*pad with the id 0"),
        ({"encoder_tokenizer": tmp_path / "nowhere"}, "nowhere could not be loaded as a folder or from the Hub"),
        ({"encoder_tokenizer": None}, "both --encoder_tokenizer and --decoder_tokenizer, or neither"),
    ]
    for change, message in cases:
        options = {**tokenizers, **{name: path and str(path) for name, path in change.items()}}
        with pytest.raises(ValueError, match=f"(?s){message}"):
            convert_optimus_checkpoint(checkpoint, out, **options)
        assert not out.exists()


def test_a_tokenizer_that_has_the_special_tokens_already_is_taken(checkpoint, out, tokenizers, tmp_path, sizes):
    tokenizer = AutoTokenizer.from_pretrained(tokenizers["decoder_tokenizer"])
    tokenizer.add_special_tokens({"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"})
    tokenizer.save_pretrained(tmp_path / "ready")
    convert_optimus_checkpoint(checkpoint, out, **{**tokenizers, "decoder_tokenizer": str(tmp_path / "ready")})
    processor = BNVAEProcessor.from_pretrained(out)
    assert processor.tokenizer.bos_token_id == sizes["decoder"] - 2
    assert processor.tokenizer.tokenize("a") == processor.tokenizer.tokenize(" a")
