"""Corpora: files with their faults, the embedded docstrings, tokenizers from scratch."""

import gzip
import importlib.util
import json
import re
import sysconfig
from datetime import datetime

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from transformers import BertTokenizer

from hf_bnvae import BNVAEProcessor
from hf_bnvae.data.corpora import condition_of_value, corpus_hash, load_text_set, load_texts, tokenize_texts
from hf_bnvae.data.docstrings import _extract_file, _source_files, first_sentence
from hf_bnvae.training.from_scratch import small_configs, train_processor

LINES = [f"This is sentence number {i} of the file ." for i in range(20)]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    rows = "\n".join(f"{i},{line}" for i, line in enumerate(LINES))
    (tmp_path / "a.csv").write_text(f"id,review\n{rows}\n", encoding="utf-8")
    (tmp_path / "a.tsv").write_text("\n".join(["id\ttext", *(f"{i}\t{t}" for i, t in enumerate(LINES))]) + "\n")
    jsonl = "\n".join(json.dumps({"n": i, "sentence": line}) for i, line in enumerate(LINES))
    (tmp_path / "a.jsonl").write_text(jsonl + "\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(jsonl + "\n", encoding="utf-8")
    return tmp_path


def test_a_cache_that_cannot_be_written_to_is_named(files, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", files / "a.txt" / "datasets")
    with pytest.raises(ValueError, match=r"The cache of texts .*a\.txt is a file\. Set HF_HOME"):
        load_texts(train_file=str(files / "a.txt"))


@pytest.mark.parametrize(
    ("name", "column"),
    [("a.txt", None), ("a.csv", "review"), ("a.tsv", None), ("a.jsonl", "sentence"), ("a.json", "sentence")],
)
def test_files_are_read_and_split(files, name, column):
    texts = load_texts(train_file=str(files / name), text_column=column)
    assert isinstance(texts, DatasetDict)
    assert texts["train"].column_names == texts["validation"].column_names == ["text"]
    assert len(texts["train"]) == 18 and len(texts["validation"]) == 2
    assert sorted([*texts["train"]["text"], *texts["validation"]["text"]]) == sorted(LINES)
    again = load_texts(train_file=str(files / name), text_column=column)
    other = load_texts(train_file=str(files / name), text_column=column, seed=1)
    assert again["validation"]["text"] == texts["validation"]["text"] != other["validation"]["text"]


def test_a_validation_file_is_used_as_it_is(files):
    texts = load_texts(train_file=str(files / "a.txt"), validation_file=str(files / "a.tsv"))
    assert list(texts["train"]["text"]) == list(texts["validation"]["text"]) == LINES


def test_a_data_set_folder_with_splits_is_read(tmp_path):
    data = DatasetDict(train=Dataset.from_dict({"text": LINES}), test=Dataset.from_dict({"text": LINES[:3]}))
    for name, split in data.items():
        split.to_json(tmp_path / f"{name}.jsonl")
    texts = load_texts(dataset_name=str(tmp_path))
    assert len(texts["train"]) == 20 and len(texts["validation"]) == 3


def test_empty_texts_are_dropped_counted_and_said(tmp_path, caplog):
    file = tmp_path / "gaps.txt"
    file.write_text("\n".join([LINES[0], "", "   ", *LINES[1:], "\t"]) + "\n")
    texts = load_texts(train_file=str(file))
    assert len(texts["train"]) + len(texts["validation"]) == 20
    assert "Dropped 3 of 23 entries of the train set" in caplog.text


# --- duplicates ------------------------------------------------------------------------------------------------------


@pytest.fixture
def repeated(tmp_path):
    """A file of 20 texts, of which the first is there 20 times and the others 10 times."""
    file = tmp_path / "repeated.txt"
    file.write_text("\n".join([*(LINES * 10), *([LINES[0]] * 10)]) + "\n")
    return str(file)


def test_no_held_out_text_is_among_the_training_texts(repeated, caplog):
    texts = load_texts(train_file=repeated, validation_split_percentage=25)
    train, held_out = list(texts["train"]["text"]), list(texts["validation"]["text"])
    assert not set(train) & set(held_out) and len(set(held_out)) == 5
    assert len(set(held_out[:20])) > 2  # copies are no neighbours
    # The copies stay with their text.
    assert sorted(train + held_out) == sorted([*(LINES * 10), *([LINES[0]] * 10)])
    assert f"{len(train) - 15} of {len(train)} train texts are exact copies of others." in caplog.text
    assert f"{len(held_out) - 5} of {len(held_out)} validation texts are exact copies of others." in caplog.text


def test_copies_can_be_dropped(repeated, caplog):
    texts = load_texts(train_file=repeated, drop_duplicates=True)
    assert sorted([*texts["train"]["text"], *texts["validation"]["text"]]) == sorted(LINES)
    assert "Dropped 190 of 210 texts: exact copies of others." in caplog.text and "train texts are" not in caplog.text


def test_distinct_texts_are_split_as_a_data_set_splits_them(files, caplog):
    halves = Dataset.from_dict({"text": LINES}).train_test_split(test_size=2, seed=42)
    texts = load_texts(train_file=str(files / "a.txt"))
    assert list(texts["train"]["text"]) == list(halves["train"]["text"])
    assert list(texts["validation"]["text"]) == list(halves["test"]["text"])
    assert "copies" not in caplog.text


def test_too_few_distinct_texts_are_refused(tmp_path):
    file = tmp_path / "three.txt"
    file.write_text("\n".join(LINES[:3] * 10))
    with pytest.raises(ValueError, match="3 distinct texts are too few: 2 are held out"):
        load_texts(train_file=str(file))


def test_a_validation_file_that_shares_texts_is_told(files, caplog):
    (files / "held.txt").write_text("\n".join([*LINES[:3], LINES[0], "A new sentence ."]) + "\n")
    texts = load_texts(train_file=str(files / "a.txt"), validation_file=str(files / "held.txt"))
    assert len(texts["validation"]) == 5
    assert "4 of 5 validation texts are among the training texts too" in caplog.text
    caplog.clear()
    (files / "new.txt").write_text("A new sentence .\nAnother one .\n")
    load_texts(train_file=str(files / "a.txt"), validation_file=str(files / "new.txt"))
    assert "among the training texts" not in caplog.text


# --- faults ----------------------------------------------------------------------------------------------------------


def test_missing_values_are_dropped(tmp_path):
    file = tmp_path / "gaps.jsonl"
    rows = [{"text": line if i % 4 else None} for i, line in enumerate(LINES)]
    file.write_text("\n".join(map(json.dumps, rows)))
    texts = load_texts(train_file=str(file))
    assert len(texts["train"]) + len(texts["validation"]) == 15


def test_words_that_tables_take_for_missing_values_are_texts(tmp_path):
    file = tmp_path / "na[1].csv"
    file.write_text("text\n" + "\n".join(["NA", "null", "None", *LINES]) + "\n")
    texts = load_texts(train_file=str(file))
    assert {"NA", "null", "None"} <= {*texts["train"]["text"], *texts["validation"]["text"]}
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text('{"text": 1}\n{"text": 2}\n{"text": 3}\n')
    with pytest.raises(ValueError, match=r"holds no text: all of its 3 entries are empty or not a text \(int\)"):
        load_texts(train_file=str(numbers))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_file": "a.csv"}, "several columns and none is called 'text'. Its columns: id, review"),
        ({"train_file": "a.csv", "text_column": "body"}, "no column 'body'. Its columns: id, review"),
        ({"train_file": "nowhere.txt"}, "no such file"),
        ({"train_file": "a.pdf"}, "must end in one of .txt"),
        ({"validation_file": "a.txt"}, "without train_file"),
        ({"train_file": "a.txt", "dataset_name": "yelp"}, "not both"),
    ],
)
def test_wrong_arguments_are_refused(files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match=message):
        load_texts(**arguments)


def test_sets_without_texts_are_refused(tmp_path):
    empty, blank, few = tmp_path / "empty.txt", tmp_path / "blank.csv", tmp_path / "few.txt"
    empty.write_text("")
    blank.write_text('text\n" "\n"  "\n')
    few.write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match=r"empty\.txt is empty"):
        load_texts(train_file=str(empty))
    with pytest.raises(ValueError, match="holds no text"):
        load_texts(train_file=str(blank))
    with pytest.raises(ValueError, match="3 texts are too few"):
        load_texts(train_file=str(few))


def test_a_damaged_file_is_refused_by_name(tmp_path):
    file = tmp_path / "broken.jsonl"
    file.write_text('{"text": "fine"}\n{"text": "cut o')
    with pytest.raises(
        ValueError, match=r"broken.jsonl could not be read as .jsonl: 1 of 2 lines cannot be read; line 2"
    ):
        load_texts(train_file=str(file))


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_a_few_json_lines_that_cannot_be_read_are_left_out_and_shown(tmp_path, caplog, ending):
    file = tmp_path / f"mine.{ending}"
    lines = [json.dumps({"text": f"Sentence number {n} ."}) for n in range(300)]
    broken = ["[1, 2]", '{"text": "half \\uD83D of a pair"}', *lines[2:], "", '{"text": "cut o']

    def write(lines):
        content = "\n".join(lines).encode()
        file.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)

    write(broken)
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        texts = load_text_set(str(file))["text"][:]
        assert texts == [f"Sentence number {n} ." for n in range(2, 300)]
        assert "3 of 301 lines of" in caplog.text and "line 1 of mine.jsonl" in caplog.text
        assert "line 2 of mine.jsonl" in caplog.text and "half of a surrogate pair" in caplog.text
    write([*broken, "more", "of", "it", "x"])  # another state of the file, and more than 1%
    with pytest.raises(ValueError, match="7 of 305 lines cannot be read"):
        load_text_set(str(file))
    write(lines)  # control: nothing is said of a file that can be read
    caplog.clear()
    assert len(load_text_set(str(file))) == 300 and "cannot be read" not in caplog.text


def test_tokenized_texts_are_the_processors(processor, caplog):
    dataset = Dataset.from_dict({"text": [*LINES[:4], "word " * 100]})
    with_gaps = Dataset.from_dict({"text": [" ", *dataset["text"], ""]})
    tokenized = tokenize_texts(with_gaps, processor, "training")
    assert set(tokenized.column_names) == {"input_ids", "attention_mask", "labels"}
    expected = processor(list(dataset["text"]))
    assert all(list(tokenized[name]) == list(expected[name]) for name in tokenized.column_names)
    whole = processor(list(dataset["text"]), truncation=False)
    lengths = {n: [sum(map(len, found[n])) for found in (whole, expected)] for n in ("input_ids", "labels")}
    cut = max(whole_length - kept for whole_length, kept in lengths.values())
    share = f"{cut / (cut + max(kept for _, kept in lengths.values())):.0%}"
    assert f"1 of 5 texts of the training set were cut, and {share} of all tokens with them" in caplog.text
    assert "unknown" not in caplog.text


def test_a_tokenizer_that_does_not_know_the_texts_is_noticed(processor, tmp_path, caplog):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "bird", "sings"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    english = BertTokenizer(vocab=str(tmp_path / "vocab.txt"), model_max_length=32)
    mixed = BNVAEProcessor(processor.tokenizer, english)
    texts = ["the bird sings"] * 40
    tokenize_texts(Dataset.from_dict({"text": texts}), mixed, "training")
    assert "unknown" not in caplog.text
    tokenize_texts(Dataset.from_dict({"text": [*texts, "鳥 が 歌 う"]}), mixed, "training")
    # Four of 40 * 5 + 6 tokens. The decoder's tokenizer spells bytes.
    expected = (
        "2% of all tokens of the training set are unknown to the encoder's tokenizer, for example in '鳥 が 歌 う'"
    )
    assert expected in caplog.text and "decoder's tokenizer" not in caplog.text


def test_corpus_hash_names_texts_and_order():
    one, same = Dataset.from_dict({"text": LINES}), Dataset.from_dict({"text": list(LINES)})
    assert corpus_hash(one) == corpus_hash(same)
    assert corpus_hash(one) != corpus_hash(Dataset.from_dict({"text": LINES[::-1]}))


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the value of the field. It may be None.", "Return the value of the field."),
        ("Return the\n    value of\n    the field.\n\n    More.", "Return the value of the field."),
        ("Return `value` of the field.", "Return value of the field."),
        ("Return the value", None),
        ("Too short.", None),
        (">>> code = here(1)\n.", None),
        ("Return __all__ of the module.", None),
        ("lower case start of a sentence.", None),
        (" ".join(["Word"] + ["word"] * 30) + ".", None),
    ],
)
def test_first_sentences_of_docstrings(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_docstrings_are_parsed_and_never_imported(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        '"""The module has a docstring here."""\nraise SystemExit\n'
        'class A:\n    """The class has a docstring here."""\n'
        '    async def f(self):\n        """The method has a docstring too."""\n'
    )
    assert sorted(_extract_file(file)) == [
        "The class has a docstring here.",
        "The method has a docstring too.",
        "The module has a docstring here.",
    ]
    file.write_bytes(b"\x00 not python")
    assert _extract_file(file) == []


@pytest.mark.slow
def test_the_embedded_corpus_has_the_standard_library_and_what_is_required():
    paths = [str(path) for path, _ in _source_files()]
    # Required directly, and by what is required.
    for end in ("/ast.py", "/torch/nn/functional.py", "/sympy/core/basic.py"):
        assert any(path.endswith(end) for path in paths), end
    # Of the tests' environment, installed beside it.
    assert importlib.util.find_spec("_pytest") and importlib.util.find_spec("pip")
    # Inside the library or the folder of packages: the folders above may have any name, that of a clone for example.
    inside = [path.rpartition("/site-packages/")[2].removeprefix(sysconfig.get_path("stdlib")) for path in paths]
    assert len(inside) > 1000
    excluded = {"_pytest", "pip", "hf_bnvae", "tests"}
    assert not any(excluded & set(path.split("/")) for path in inside)


def test_tokenizers_from_scratch_round_trip_any_text():
    processor = train_processor(LINES, vocab_size=300)
    for text in (LINES[0], "Ünusual – text: 日本語 🙂", "tabs\tand  spaces"):
        labels = processor(text)["labels"]
        assert processor.decode(labels, skip_special_tokens=True).removeprefix(" ") == text
    encoder, decoder = small_configs(processor)
    assert (encoder.vocab_size, decoder.vocab_size) == (len(processor.encoder_tokenizer), len(processor.tokenizer))
    assert decoder.eos_token_id == processor.tokenizer.eos_token_id


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def talks(tmp_path) -> str:
    """40 contexts, each a list of turns with three answers, of which the first is the same everywhere."""
    path = tmp_path / "talks.jsonl"
    rows = [
        {"turns": [f"Question {i} ?", "So ?"][: 1 + i % 2], "answers": ["Yes .", f"No {i} .", f"{i} ."]}
        for i in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_each_of_several_texts_becomes_a_pair_with_its_condition(talks):
    loaded = load_text_set(talks, text_column="answers", condition_column="turns")
    assert loaded[:4]["text"] == ["Yes .", "No 0 .", "0 .", "Yes ."]
    assert loaded[:4]["condition"] == ["Question 0 ?"] * 3 + ["Question 1 ?\nSo ?"] and len(loaded) == 120
    assert load_text_set(talks, text_column="answers")["text"][:] == loaded["text"][:]


def test_texts_of_one_condition_stay_on_one_side(talks):
    halves = load_texts(train_file=talks, text_column="answers", condition_column="turns")
    train, held_out = (set(half["condition"]) for half in halves.values())
    assert len(held_out) == 4 and not train & held_out
    assert [len(half) for half in halves.values()] == [108, 12]
    # Control: without conditions a context is on both sides.
    assert len(load_texts(train_file=talks, text_column="answers")["validation"]) != 12


@pytest.mark.parametrize(("contexts", "each"), [(2, 50), (21, 101)])
def test_conditions_that_are_categories_are_on_both_sides_and_their_texts_are_not(tmp_path, contexts, each):
    rows = [{"text": f"text {i % 40} of {i}", "label": i // each} for i in range(contexts * each)]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, *rows])))
    halves = load_texts(train_file=str(path), text_column="text", condition_column="label")
    train, held_out = (set(half["text"]) for half in halves.values())
    assert not train & held_out and len(held_out) == round(contexts * each / 10)
    assert len(set(halves["train"]["condition"])) == contexts and len(set(halves["validation"]["condition"])) > 1
    assert set(halves["train"]["condition"]) == {str(number) for number in range(contexts)}


def test_conditions_that_are_all_the_same_are_told(tmp_path, caplog):
    for name, label in (("same", lambda row: "news"), ("different", lambda row: f"kind {row % 2}")):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({"text": f"text {row}", "source": label(row)}) for row in range(50)))
        caplog.clear()
        load_texts(train_file=str(path), text_column="text", condition_column="source")
        told = [message for message in caplog.messages if "the same condition" in message]
        assert len(told) == (name == "same")
        assert not told or ("the same condition, 'news'" in told[0] and "Is 'source' the column" in told[0])


def test_conditions_of_every_kind_become_texts(tmp_path):
    classes = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    data = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=classes)
    data.to_parquet(tmp_path / "classes.parquet")
    loaded = load_text_set(str(tmp_path / "classes.parquet"), text_column="text", condition_column="label")
    assert loaded["condition"][:] == ["bad", "good"]  # -1 stands for none
    (tmp_path / "table.tsv").write_text("text\tlabel\nfine\tgood\nawful\t\n")
    loaded = load_text_set(
        str(tmp_path / "table.tsv"), text_column="text", condition_column="label", label_column="label"
    )
    assert loaded["condition"][:] == ["good", ""] and loaded["label"][:] == ["good", ""]


def test_lists_of_classes_are_their_names(tmp_path):
    tags = Features({"text": Value("string"), "tags": List(ClassLabel(names=["food", "service"]))})
    data = Dataset.from_dict({"text": ["a", "b", "c"], "tags": [[1, 0], [0], [-1]]}, features=tags)
    data.to_parquet(tmp_path / "tags.parquet")
    loaded = load_text_set(str(tmp_path / "tags.parquet"), text_column="text", condition_column="tags")
    assert loaded["condition"][:] == ["service\nfood", "food"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),  # as tables hold the labels 1 and 2 where another one is missing
        (1.5, "1.5"),
        (True, "True"),
        (float("nan"), None),
        (["a", None], None),
        (datetime(2024, 1, 1), "2024-01-01"),
        (datetime(2024, 1, 1, 10, 30), "2024-01-01 10:30:00"),
    ],
)
def test_what_stands_for_a_condition_is_read_as_it_was_written(value, text):
    assert condition_of_value(value) == text


def test_the_same_labels_are_the_same_conditions_whether_one_is_missing_or_not(tmp_path):
    whole = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    whole.to_parquet(tmp_path / "whole.parquet")
    whole.assign(label=[0, 1, None]).to_parquet(tmp_path / "missing.parquet")  # pandas makes 0.0, 1.0 and NaN of it
    whole.to_csv(tmp_path / "table.csv", index=False)
    found = [
        load_text_set(str(tmp_path / name), text_column="text", condition_column="label")["condition"][:]
        for name in ("whole.parquet", "table.csv", "missing.parquet")
    ]
    assert found == [["0", "1", "0"], ["0", "1", "0"], ["0", "1"]]


def test_rows_without_a_text_and_columns_without_texts_are_told(tmp_path, caplog):
    path = tmp_path / "answers.jsonl"
    rows = [{"q": "a", "answers": [] if i < 2 else ["b", "c"]} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert len(load_text_set(str(path), text_column="answers", condition_column="q")) == 6
    assert "Dropped 2 of 8 entries" in caplog.text
    for answers, kind in ((7, "int64"), ([["nested"]], "List")):
        path.write_text("\n".join(json.dumps({"q": "a", "answers": answers}) for _ in range(3)))
        with pytest.raises(ValueError, match=rf"The column 'answers' of .* holds no texts, but .*{kind}"):
            load_text_set(str(path), text_column="answers", condition_column="q")


def test_texts_without_a_condition_are_dropped_counted_and_said(tmp_path, caplog):
    rows = [{"text": f"text {i}", "context": None if i < 2 else ""} for i in range(10)]
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert len(load_text_set(str(path), text_column="text", condition_column="context")) == 8
    assert "Dropped 2 of 10 entries of the" in caplog.text and "their condition is missing" in caplog.text
    path.write_text("\n".join(json.dumps({"text": "a", "context": None}) for _ in range(3)))
    messages = tmp_path / "messages.jsonl"
    messages.write_text(
        "\n".join(json.dumps({"text": "a", "context": [{"role": "user", "content": "b"}]}) for _ in "ab")
    )
    with pytest.raises(
        ValueError, match=r"must be a text, a label, a number, or a list of texts, got .*take the content"
    ):
        load_text_set(str(messages), text_column="text", condition_column="context")
    with pytest.raises(ValueError, match="holds no condition: all of its 3 entries lack one"):
        load_text_set(str(path), text_column="text", condition_column="context")


def test_copies_are_copies_under_the_same_condition(talks, caplog):
    halves = load_texts(train_file=talks, text_column="answers", condition_column="turns", drop_duplicates=True)
    assert sum(map(len, halves.values())) == 120 and "exact copies" not in caplog.text
    assert sum(map(len, load_texts(train_file=talks, text_column="answers", drop_duplicates=True).values())) == 81


def test_a_hash_names_conditions_too(talks):
    loaded = load_text_set(talks, text_column="answers", condition_column="turns")
    other = loaded.map(lambda row: {"condition": row["condition"].lower()})
    plain = loaded.remove_columns("condition")
    assert len({corpus_hash(loaded), corpus_hash(other), corpus_hash(plain)}) == 3
    assert corpus_hash(plain) == corpus_hash(load_text_set(talks, text_column="answers"))


def test_pairs_are_tokenised_and_what_is_cut_is_counted(talks, answering_model, caplog):
    loaded = load_text_set(talks, text_column="answers", condition_column="turns")
    loaded = loaded.map(lambda row: {"condition": row["condition"][-3:]})
    processor = answering_model.processor
    tokenized = tokenize_texts(loaded, processor)
    expected = processor(loaded["text"][:], condition=loaded["condition"][:])
    assert {name: tokenized[name][:] for name in tokenized.column_names} == dict(expected)
    assert not caplog.text
    long = loaded.map(lambda row: {"condition": "The food " * 30})
    tokenize_texts(long, processor, "training")
    assert re.search(r"Of 120 entries of the training set, 120 lost the beginning of their condition", caplog.text)
