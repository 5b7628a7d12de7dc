"""`hf-bnvae decode`: the texts that `reconstruct` gives, from files to files, and what it refuses."""

import json

import numpy as np
import pyarrow
import pytest
import tiny
import torch
from cases import cases
from datatrove.data import Document
from pyarrow import parquet

from hf_bnvae import BNVAEModel, cli
from hf_bnvae.corpus import LatentDecoder
from hf_bnvae.corpus.latent_decoder import LATENT

TEXTS = tiny.make_texts(30)


@pytest.fixture(scope="module")
def model(trained_folder) -> BNVAEModel:
    return BNVAEModel.from_pretrained(trained_folder).eval()


@pytest.fixture
def command(tmp_path, monkeypatch, trained_folder, capsys):
    """A function that runs `encode` or `decode` in an empty folder: what it prints, or its error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("\n".join(TEXTS))

    def run(*arguments: str) -> str:
        capsys.readouterr()
        try:
            cli.main([*arguments, "--model", trained_folder, "--disable_tqdm"])
        except SystemExit as end:
            assert end.code == 2
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


def texts_in(folder) -> list[str]:
    return [text for path in sorted(folder.glob("*.parquet")) for text in parquet.read_table(path)["text"].to_pylist()]


@pytest.mark.parametrize("options", cases([[], ["--num_beams", "2"]], quick=[[]]), ids=["greedy", "beams"])
def test_texts_are_those_of_reconstruct_whatever_the_number_of_tasks(command, model, tmp_path, options):
    command("encode", "mine.txt", "latents", "--tasks", "2")
    short = [*options, "--max_new_tokens", "8"]
    said = command("decode", "latents", "one", *short)
    assert "30 texts of 30 latents in 1 files" in said and "30 decoded; 0 empty latents and 0 that are not" in said
    command("decode", "latents", "four", *short, "--tasks", "4", "--batch_size", "5")
    beams = {"num_beams": 2} if options else {}
    expected = model.reconstruct(TEXTS, max_new_tokens=8, **beams)
    assert texts_in(tmp_path / "one") == texts_in(tmp_path / "four") == expected
    assert len(set(expected)) > 5  # control: texts differ
    ids = [row for part in range(4) for row in parquet.read_table(f"four/{part:05d}.parquet")["id"].to_pylist()]
    assert ids == [str(n) for n in range(30)]


def test_whitened_latents_say_so_and_give_the_same_texts(command, model, tmp_path):
    command("encode", "mine.txt", "white", "--whiten")
    command("decode", "white", "texts", "--max_new_tokens", "8")
    assert texts_in(tmp_path / "texts") == model.reconstruct(TEXTS, max_new_tokens=8)
    # Control: read as the model's own coordinates, they give other texts.
    table = parquet.read_table("white/00000.parquet").replace_schema_metadata({})
    parquet.write_table(table, "plain.parquet")
    command("decode", "plain.parquet", "wrong", "--max_new_tokens", "8")
    assert texts_in(tmp_path / "wrong") != texts_in(tmp_path / "texts")
    command("decode", "plain.parquet", "right", "--max_new_tokens", "8", "--whitened")
    assert texts_in(tmp_path / "right") == texts_in(tmp_path / "texts")


def test_drawn_texts_depend_on_the_seed(command, tmp_path):
    command("encode", "mine.txt", "latents")
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        command("decode", "latents", folder, "--do_sample", "--max_new_tokens", "8", "--seed", seed)
    assert texts_in(tmp_path / "a") == texts_in(tmp_path / "b") != texts_in(tmp_path / "c")


def test_the_same_command_makes_only_what_is_missing_and_another_one_is_refused(command, tmp_path):
    command("encode", "mine.txt", "latents")
    decode = ("decode", "latents", "texts", "--tasks", "2", "--max_new_tokens", "4")
    command(*decode)
    before = {path.name: path.read_bytes() for path in (tmp_path / "texts").iterdir()}
    assert sorted(before) == ["00000.parquet", "00001.parquet", "decoding.json"]
    (tmp_path / "texts" / "00000.parquet").unlink()
    assert "1 of the files were there already" in command(*decode)
    assert {path.name: path.read_bytes() for path in (tmp_path / "texts").iterdir()} == before
    assert "num_beams: None, not '3'" in command(*decode, "--num_beams", "3")
    (tmp_path / "latents" / "00000.parquet").unlink()
    command("encode", "mine.txt", "latents2", "--max_samples", "20")
    assert "num_latents: 30, not 20" in command("decode", "latents2", *decode[2:])
    assert json.loads((tmp_path / "texts" / "decoding.json").read_text())["latents_texts"] == "mine.txt"


def test_other_latents_under_the_same_name_are_refused(command, tmp_path):
    command("encode", "mine.txt", "latents")
    table = parquet.read_table("latents/00000.parquet").replace_schema_metadata({})
    parquet.write_table(table, "mine.parquet")
    decode = ("decode", "mine.parquet", "texts", "--max_new_tokens", "4")
    command(*decode)
    assert "1 of the files were there already" in command(*decode)  # control
    assert "coordinates: " in command(*decode, "--whitened")
    parquet.write_table(table.take(list(range(29, -1, -1))), "mine.parquet")
    assert "latents_sha256 differs" in command(*decode)


def test_latents_of_two_kinds_in_one_folder_are_refused(command, tmp_path):
    command("encode", "mine.txt", "plain")
    command("encode", "mine.txt", "white", "--whiten")
    (tmp_path / "mixed").mkdir()
    for name in ("plain", "white"):
        (tmp_path / name / "00000.parquet").rename(tmp_path / "mixed" / f"{name}.parquet")
    said = command("decode", "mixed", "texts")
    assert "white.parquet of" in said and "differs from plain.parquet: coordinates" in said


def test_mistakes_are_named_before_a_folder_is_claimed(command, tmp_path, model):
    command("encode", "mine.txt", "latents")
    assert "max_new_tokens" in command("decode", "latents", "texts", "--max_new_tokens", "5000")
    size = model.config.latent_size
    parquet.write_table(pyarrow.table({"mean": [[0.0] * (size + 1)]}), "wide.parquet")
    assert f"has {size + 1} numbers, and the model {size}" in command("decode", "wide.parquet", "texts")
    assert not (tmp_path / "texts").exists()
    assert "30 texts" in command("decode", "latents", "texts", "--max_new_tokens", "4")


def test_columns_can_be_copied_under_another_name(command, tmp_path):
    command("encode", "mine.txt", "latents [x]", "--with_text")
    assert "A column 'text' is written anyway" in command("decode", "latents [x]", "texts", "--columns", "text")
    command("decode", "latents [x]", "texts", "--columns", "text=original", "--max_new_tokens", "4")
    assert parquet.read_table("texts/00000.parquet")["original"].to_pylist() == TEXTS


def test_latents_that_are_not_the_models_are_refused(command, tmp_path, trained_folder):
    command("encode", "mine.txt", "latents")
    table = parquet.read_table("latents/00000.parquet")
    other = {**table.schema.metadata, b"hf_bnvae.weights_sha256": b"0" * 64, b"hf_bnvae.model": b"theirs"}
    parquet.write_table(table.replace_schema_metadata(other), "other.parquet")
    said = command("decode", "other.parquet", "texts")
    assert "other.parquet holds latents of theirs, whose weights are not those of" in said
    assert not (tmp_path / "texts").exists()
    assert "30 texts" in command("decode", "other.parquet", "texts", "--any_latents", "--max_new_tokens", "4")
    narrow = pyarrow.array([[0.0] * 3], pyarrow.list_(pyarrow.float32(), 3))
    parquet.write_table(pyarrow.table({"mean": narrow}), "narrow.parquet")
    assert "holds latents of 3 numbers, and" in command("decode", "narrow.parquet", "more")
    command("encode", "mine.txt", "parts", "--tasks", "3")
    (tmp_path / "parts" / "00001.parquet").unlink()
    assert "parts holds 2 of the 3 files of its encoding" in command("decode", "parts", "more")
    assert "--temperature needs --do_sample" in command("decode", "latents", "more", "--temperature", "0.5")


def test_documents_without_usable_latents_cost_themselves_alone(model, trained_folder):
    good = model.encode_texts(TEXTS[:2]).tolist()
    size = model.config.latent_size
    given = [good[0], None, [np.nan] * size, [None] * size, good[1]]
    step = LatentDecoder(trained_folder, max_new_tokens=8)
    found = list(step(iter([Document(text="", id=str(n), metadata={LATENT: row}) for n, row in enumerate(given)])))
    expected = model.reconstruct(torch.tensor([good[0], good[1]]), max_new_tokens=8)
    assert [one.text for one in found] == [expected[0], None, None, None, expected[1]]
    counted = {name: stat.total for name, stat in step.stats.stats.items()}
    assert counted == {"empty": 1, "unreadable": 2, "decoded": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"num_return_sequences": 2}, "A document has one text"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, got 'int8'"),
    ],
)
def test_wrong_arguments_are_refused(trained_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentDecoder(trained_folder, **arguments)


def test_latents_are_decoded_under_their_conditions(tmp_path, monkeypatch, answering_folder, trained_folder, capsys):
    monkeypatch.chdir(tmp_path)
    turns = [["The ?"], ["My ?", "And so on ."], []]
    rows = [{"answer": text, "turns": turns[i % 3]} for i, text in enumerate(TEXTS[:6])]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(*arguments: str, model: str = answering_folder) -> str:
        try:
            cli.main([*arguments, "--model", model, "--disable_tqdm"])
        except SystemExit as end:
            assert end.code == 2
        printed = capsys.readouterr()
        return printed.out + printed.err

    columns = ("--text_column", "answer", "--condition_column", "turns")
    assert "trained with conditions" in run("encode", "talks.jsonl", "refused", "--text_column", "answer")
    assert "trained without conditions" in run("encode", "talks.jsonl", "refused", *columns, model=trained_folder)
    assert "6 encoded" in run("encode", "talks.jsonl", "latents", *columns, "--columns", "turns")
    other = [*columns[:3], "answer"]
    assert "cannot hold both texts and conditions" in run("encode", "talks.jsonl", "refused", *other)
    (tmp_path / "talks.jsonl").write_text("\n".join(json.dumps({**row, "turns": [{"role": "user"}]}) for row in rows))
    assert "The column 'turns' of talks.jsonl holds no conditions" in run("encode", "talks.jsonl", "refused", *columns)
    (tmp_path / "talks.jsonl").write_text("\n".join(json.dumps({**row, "other": "A ?"}) for row in rows))
    assert "condition_column" in run("encode", "talks.jsonl", "latents", *columns[:3], "other", "--columns", "turns")
    assert "trained with conditions" in run("decode", "latents", "refused")
    assert "6 decoded" in run("decode", "latents", "texts", "--condition_column", "turns", "--max_new_tokens", "8")
    model = BNVAEModel.from_pretrained(answering_folder).eval()
    own = [row["turns"] for row in rows]
    expected = model.reconstruct(TEXTS[:6], condition=own, max_new_tokens=8)
    assert texts_in(tmp_path / "texts") == expected != model.reconstruct(TEXTS[:6], condition="A ?", max_new_tokens=8)
    assert parquet.read_table(tmp_path / "texts" / "00000.parquet").column_names == ["id", "text"]
    assert not (tmp_path / "refused").exists()
    (tmp_path / "talks.jsonl").write_text("\n".join(json.dumps({**row, "turns": None}) for row in rows[:2]))
    with (tmp_path / "talks.jsonl").open("a") as file:
        file.write("\n" + "\n".join(map(json.dumps, rows)))
    without = run("encode", "talks.jsonl", "some", *columns, "--columns", "turns")
    assert "6 encoded" in without and "2 without a condition, which have no latent" in without
