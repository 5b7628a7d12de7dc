"""Checkpoints of the original Optimus, with their tokenizers and sentences."""

import json
from pathlib import Path

import pytest
import torch
from optimus_original import STEP, write_checkpoint
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer


@pytest.fixture(scope="session")
def tokenizer_folders(texts, tmp_path_factory) -> dict[str, str]:
    """BERT's and GPT-2's tokenizers as they were published in 2019: vocabulary files without a configuration."""
    path = tmp_path_factory.mktemp("tokenizers")
    words = sorted({word for text in texts for word in text.split()} - {"the"})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "the"]
    for name in ("bert", "gpt2"):
        (path / name).mkdir()
        (path / name / "config.json").write_text(json.dumps({"model_type": name}))
    (path / "bert" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=330, special_tokens=["<|endoftext|>"], show_progress=False)
    bpe.save_model(str(path / "gpt2"))
    return {name: str(path / name) for name in ("bert", "gpt2")}


@pytest.fixture
def tokenizers(tokenizer_folders) -> dict[str, str]:
    return {"encoder_tokenizer": tokenizer_folders["bert"], "decoder_tokenizer": tokenizer_folders["gpt2"]}


@pytest.fixture(scope="session")
def sizes(tokenizer_folders) -> dict[str, int]:
    """The sizes of both vocabularies. The decoder's counts the three special tokens that the original adds."""
    size = {name: len(AutoTokenizer.from_pretrained(path)) for name, path in tokenizer_folders.items()}
    return {"encoder": size["bert"], "decoder": size["gpt2"] + 3}


@pytest.fixture
def checkpoint(tmp_path, sizes) -> Path:
    return write_checkpoint(tmp_path / f"checkpoint-{STEP}", sizes)


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def warned(caplog):
    """A function that returns all warnings of the package so far."""
    return lambda: "\n".join(record.message for record in caplog.records if record.name.startswith("hf_bnvae"))


@pytest.fixture(scope="session")
def sentences(sizes) -> dict[str, list[list[int]]]:
    """Token ids for the encoder and the decoder, of different lengths."""
    generator = torch.Generator().manual_seed(1)
    lengths = (3, 11, 7)

    def draw(low: int, high: int, length: int) -> list[int]:
        return torch.randint(low, high, (length,), generator=generator).tolist()

    bos, eos = sizes["decoder"] - 2, sizes["decoder"] - 1
    return {
        "encoder": [[2, *draw(4, sizes["encoder"], length), 3] for length in lengths],
        "decoder": [[bos, *draw(0, sizes["decoder"] - 3, length), eos] for length in lengths],
    }
