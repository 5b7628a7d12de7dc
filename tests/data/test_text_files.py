"""Files as people have them: every format and its faults."""

import gzip
import json
import logging
import os
import re

import pyarrow
import pyarrow.parquet
import pytest

from hf_bnvae.data.corpora import load_text_set, load_texts
from hf_bnvae.data.text_files import find_files, read_files
from hf_bnvae.data.text_format import TextFormat, name_files

LINES = [f"This is sentence number {i} of the file ." for i in range(20)]


def write_table(rows, delimiter=",", header="text,label"):
    return "\n".join([header.replace(",", delimiter), *(delimiter.join(map(str, row)) for row in rows)]) + "\n"


def table(ending: str, count: int = 20) -> str:
    rows = [(line, number % 2) for number, line in enumerate(LINES[:count])]
    return write_table(rows, "\t" if ending == "tsv" else ",")


CONTENTS = {
    "txt": "\n".join(LINES) + "\n",
    "csv": table("csv"),
    "tsv": table("tsv"),
    "jsonl": "\n".join(json.dumps({"text": line, "label": 1}) for line in LINES) + "\n",
    "json": json.dumps([{"text": line, "label": 1} for line in LINES]),
}


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", CONTENTS)
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_format_is_read_packed_and_in_every_encoding(tmp_path, ending, is_packed, encoding):
    content = CONTENTS[ending].encode(encoding)
    file = tmp_path / f"a.{ending}{'.gz' if is_packed else ''}"
    file.write_bytes(gzip.compress(content) if is_packed else content)
    form = TextFormat("utf-16" if encoding == "utf-16" else "utf-8")
    if "json" in ending and encoding == "utf-16":
        with pytest.raises(ValueError, match=r"JSON is read in UTF-8 only. Convert it: iconv -f utf-16"):
            load_text_set(str(file), text_format=form)
        return
    assert load_text_set(str(file), text_format=form)["text"][:] == LINES


def test_parquet_is_read(tmp_path):
    columns = {"text": LINES, "stars": list(range(20))}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for names, copies in ((["a.parquet"], 1), (["b.parquet.gz"], 1), (["a.parquet", "b.parquet.gz"], 2)):
        found = load_text_set([str(tmp_path / name) for name in names], label_column="stars")
        assert found["text"][:] == LINES * copies and found["label"][:] == list(range(20)) * copies


def test_rows_under_one_key_are_found(tmp_path):
    rows = [{"text": line} for line in LINES]
    file = tmp_path / "a.json"
    for document in ({"version": 1, "data": rows}, {"data": rows}):
        for indent in (None, 2):
            file.write_text(json.dumps(document, indent=indent))
            assert load_text_set(str(file))["text"][:] == LINES
    file.write_text(json.dumps({"train": rows, "test": rows}))
    with pytest.raises(ValueError, match=r"a\.json has rows under several keys: train, test"):
        load_text_set(str(file))
    # A single row is a row, and lines with lists in them are lines.
    row = {"text": LINES[0], "answers": [{"text": "another"}]}
    for count, name in ((1, "one.json"), (1, "one.jsonl"), (20, "many.json"), (20, "many.jsonl")):
        (tmp_path / name).write_text("\n".join([json.dumps(row)] * count))
        assert load_text_set(str(tmp_path / name), text_column="text")["text"][:] == LINES[:1] * count
    # All files are looked at.
    (tmp_path / "b.json").write_text(json.dumps({"data": rows}))
    file.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"b\.json under 'data', and others elsewhere"):
        load_text_set([str(file), str(tmp_path / "b.json")])


def test_a_field_within_a_field_is_a_column(tmp_path):
    file = tmp_path / "a.jsonl"
    rows = [{"id": i, "data": {"body": line, "by": {"name": str(i)}}} for i, line in enumerate(LINES)]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = load_text_set(str(file), text_column="data.body", label_column="data.by.name")
    assert found["text"][:] == LINES and found["label"][3] == "3"
    with pytest.raises(ValueError, match=r"none is called 'text'. Its columns: id, data\.body, data\.by\.name"):
        load_text_set(str(file))
    with pytest.raises(ValueError, match=r"no column 'data\.title'. Its columns: id, data\.body, data\.by\.name"):
        load_text_set(str(file), text_column="data.title")
    # In a data set of `datasets`, too.
    named = {"dataset_name": str(tmp_path), "text_column": "data.body"}
    assert load_text_set(**named, dataset_split="train", label_column="data.by.name")["text"][:] == LINES
    assert sorted(text for part in load_texts(**named).values() for text in part["text"]) == sorted(LINES)
    # A column of that very name comes first.
    file.write_text("\n".join(json.dumps({"data.body": line, "data": {"body": "another"}}) for line in LINES))
    assert load_text_set(str(file), text_column="data.body")["text"][:] == LINES


# --- which files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, lines in {"b": LINES[:5], "a": LINES[5:9], "c[1]": LINES[9:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    (tmp_path / "notes.pdf").write_text("not a text")
    (tmp_path / "._a.txt").write_bytes(b"\xff\xfe\x00")  # what macOS leaves
    return tmp_path


def test_several_files_a_folder_and_a_pattern_are_read_in_order(folder):
    a, b, c = (str(folder / f"{name}.txt") for name in ("a", "b", "c[1]"))
    assert find_files([b, a]) == [b, a] and find_files(str(folder)) == [a, b, c]
    assert find_files(str(folder / "[ab].txt")) == [a, b] and find_files(c) == [c]
    assert find_files([a, str(folder / "?.txt")]) == [a, b], "no file is read twice"
    assert load_text_set([b, a, c])["text"][:] == LINES
    assert load_texts(train_file=str(folder), validation_file=[a])["validation"]["text"][:] == LINES[5:9]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("nowhere.txt", r"nowhere\.txt: no such file or folder"),
        ("nowhere", r"nowhere: no such file or folder"),
        ("*.tsv", r"\*\.tsv: no file matches this pattern"),
        ("notes.pdf", r"notes\.pdf: files must end in one of \.txt"),
        (["a.txt", "t.csv"], r"must be of one kind, got t\.csv and a\.txt"),
        ("empty", r"The folder empty holds no file that ends in"),
        ("none.txt", r"none\.txt is empty"),
    ],
)
def test_what_names_no_texts_is_refused(folder, monkeypatch, names, message):
    monkeypatch.chdir(folder)
    (folder / "t.csv").write_text(table("csv"))
    (folder / "empty").mkdir()
    (folder / "none.txt").touch()
    with pytest.raises(ValueError, match=message):
        read_files(names)


def test_files_in_words():
    assert name_files("in/a.txt") == "in/a.txt" and name_files(["in/a.txt"], folders=False) == "a.txt"
    assert name_files(["in/a.txt", "b.txt", "c.txt"]) == "in/a.txt and 2 more"


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "a.csv"
    for lines in (LINES, LINES[::-1]):
        file.write_text(write_table([(line,) for line in lines], header="text"))
        assert load_text_set(str(file))["text"][:] == lines


# --- encodings -------------------------------------------------------------------------------------------------------

WORDS = {
    "cp1252": "Le déjeuner était très bon, mais le café était froid .",
    "cp1251": "Привет, как дела? Это очень хороший ресторан .",
    "gb18030": "今天天气很好,我们去公园散步,然后去吃饭。",
    "utf-16": "A sentence with the mark of its encoding .",
}


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("ending", ["txt", "csv", "jsonl", "json"])
def test_another_encoding_is_refused_with_one_that_fits(tmp_path, encoding, ending):
    texts = [f"{WORDS[encoding]} {i}" for i in range(20)]
    content = {
        "txt": "\n".join(texts),
        "csv": write_table([(f'"{text}"',) for text in texts], header="text"),
        "jsonl": "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts),
        "json": json.dumps([{"text": text} for text in texts], ensure_ascii=False),
    }[ending]
    file = tmp_path / f"a.{ending}"
    # Far into the file, which begins in English.
    start = {"txt": "Plain words .\n" * 9, "csv": "", "json": "", "jsonl": '{"text": "Plain words ."}\n' * 9}[ending]
    file.write_bytes((start + content).encode(encoding))
    advice = f"convert it, iconv -f {encoding} -t utf-8" if "json" in ending else f"give --encoding {encoding}"
    with pytest.raises(ValueError, match=rf"a\.{ending} is not in utf-8.* It may be {encoding}: {advice}"):
        load_text_set(str(file))
    if "json" in ending:
        return
    assert load_text_set(str(file), text_format=TextFormat(encoding))["text"][-20:] == texts


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_numbers_are_texts_as_they_are_written(tmp_path, ending):
    texts = ["007", "1e5", "1.50", "12", "NA", "null", "True", "-0"]
    file = tmp_path / f"a.{ending}"
    for before in ([], [f"{number:05d}" for number in range(10_000)], [f"word {number}" for number in range(10_000)]):
        file.write_text("text\n" + "\n".join([*before, *texts]) + "\n")
        assert load_text_set(str(file))["text"][:] == [*before, *texts]


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["1", "2", "10"], [1, 2, 10]),
        (["1.5", "2", "1e3"], [1.5, 2.0, 1000.0]),
        (["1", "2", "two"], ["1", "2", "two"]),
        (["nan", "inf", "1"], ["nan", "inf", "1"]),
        (["007", "7", "1"], ["007", "7", "1"]),
        (["007", "008", "010"], ["007", "008", "010"]),
        (["0", "-1", "0.5"], [0.0, -1.0, 0.5]),
        (["True", "False", "True"], [True, False, True]),
        (["true", "false", "no"], ["true", "false", "no"]),
        (["true", "True", "false"], ["true", "True", "false"]),
    ],
)
def test_labels_of_a_table_that_all_are_numbers_or_truth_values_become_such_values(tmp_path, written, labels):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps({"text": "a text", "label": label}) for label in written))
    assert load_text_set(str(file), label_column="label")["label"][:] == written, "those of JSON have their types"
    file = tmp_path / "a.csv"
    file.write_text(write_table(zip(LINES, written, strict=False)))
    assert load_text_set(str(file), label_column="label")["label"][:] == labels


def test_a_tsv_has_no_quoting_unless_asked_for(tmp_path):
    file = tmp_path / "a.tsv"
    texts = ['"Not closed', 'He said "yes" .', '"Closed" and on']
    file.write_text(write_table([(text, 1) for text in texts], "\t"))
    assert load_text_set(str(file), text_column="text")["text"][:] == texts
    file.write_text(write_table([('"with a\ttab and\na line end"', 1), ("plain", 1)], "\t"))
    found = load_text_set(str(file), text_column="text", text_format=TextFormat(quotechar='"'))
    assert found["text"][:] == ["with a\ttab and\na line end", "plain"]


def test_a_csv_has_quotes_and_may_have_none(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(write_table([('"one, ""two"" and\nthree"', 1), ('5" nails', 1)]))
    assert load_text_set(str(file), text_column="text")["text"][:] == ['one, "two" and\nthree', '5" nails']
    file.write_text(write_table([('"plain', 1)]))
    assert load_text_set(str(file), text_column="text", text_format=TextFormat(quotechar="none"))["text"][:] == [
        '"plain'
    ]


@pytest.mark.parametrize("other", [";", "\t", "|"])
def test_another_delimiter_is_found_and_named(tmp_path, other):
    file = tmp_path / "a.csv"
    file.write_text(write_table([(line, 1) for line in LINES], other))
    shown = "TAB" if other == "\t" else f"'{other}'"
    with pytest.raises(ValueError) as error:
        load_text_set(str(file))
    assert str(error.value).endswith(f"give --delimiter {shown}.")
    for delimiter in {other, "\\t" if other == "\t" else other, "TAB" if other == "\t" else other}:
        found = load_text_set(str(file), text_column="text", text_format=TextFormat(delimiter=delimiter))
        assert found["text"][:] == LINES


def test_a_table_without_a_header_is_noticed(tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("\n".join(LINES))
    two.write_text("\n".join(f"{line},{i}" for i, line in enumerate(LINES)))
    with pytest.raises(ValueError, match=r"The only column of .* looks like a text. .* give --no_header"):
        load_text_set(str(one))
    with pytest.raises(ValueError, match=r"has several columns .* give --no_header"):
        load_text_set(str(two))
    form = TextFormat(has_header=False)
    assert load_text_set(str(one), text_format=form)["text"][:] == LINES
    found = load_text_set(str(two), text_column="1", label_column="2", text_format=form)
    assert found["text"][:] == LINES and found["label"][:] == list(range(20))
    # A name that is chosen may look like anything.
    assert load_text_set(str(one), text_column=LINES[0])["text"][:] == LINES[1:]


def test_few_ragged_rows_are_left_out_and_shown_and_many_are_refused(tmp_path, caplog):
    file = tmp_path / "a.csv"
    rows = [(f"text number {number}", number) for number in range(300)]
    rows[7], rows[200] = ("too, many", 1), ("too few",)
    file.write_text(write_table(rows))
    found = load_text_set(str(file), text_column="text")["text"][:]
    assert found == [f"text number {number}" for number in range(300) if number not in (7, 200)]
    assert "2 of 300 rows of" in caplog.text and "line 9 of a.csv has 3 fields: 'too |  many | 1'" in caplog.text
    assert "line 202 of a.csv has 1 field: 'too few'" in caplog.text
    rows[20:24] = [("too, many", 1)] * 4
    file.write_text(write_table(rows))
    with pytest.raises(ValueError, match=r"6 of 300 rows of .* cannot be read.* Give --delimiter"):
        load_text_set(str(file), text_column="text")


def test_rows_are_read_and_checked_once_for_all_processes(tmp_path, caplog):
    """Who finds the rows in the cache is told of the same faults, and does not read the file."""
    file = tmp_path / "a.csv"
    rows = [(f"text number {number}", number) for number in range(300)]
    rows[200] = ("too few",)
    file.write_text(write_table(rows))
    before = file.stat()
    first = load_text_set(str(file), text_column="text")["text"][:]
    told = [message for message in caplog.messages if "1 of 300 rows" in message]
    file.write_text(write_table([("too,many", 1)] * 50).ljust(before.st_size, "\n"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    caplog.clear()
    assert load_text_set(str(file), text_column="text")["text"][:] == first
    assert len(told) == 1 and told[0] in caplog.messages
    # The control: with another time it is another file.
    os.utime(file)
    with pytest.raises(ValueError, match="50 of 50 rows"):
        load_text_set(str(file), text_column="text")


def test_a_quotation_mark_that_takes_the_rest_of_the_file_is_noticed(tmp_path):
    file = tmp_path / "a.csv"
    rows = [(f"text number {number}", number) for number in range(300)]
    rows[100] = ('"never closed', 1)
    file.write_text(write_table(rows))
    with pytest.raises(ValueError, match=r"200 of 300 rows .*line 102 of a\.csv: unexpected end.*--quotechar none"):
        load_text_set(str(file), text_column="text")


def test_tables_of_one_call_have_the_same_columns(tmp_path):
    for name, header in (("a", "text,label"), ("b", "text,stars")):
        (tmp_path / f"{name}.csv").write_text(write_table([(line, 1) for line in LINES], header=header))
    with pytest.raises(ValueError, match=r"b\.csv has other columns than .*a\.csv: text, stars"):
        load_text_set(str(tmp_path), text_column="text")
    (tmp_path / "b.csv").write_text(write_table([(line, 1) for line in LINES], header="text,text"))
    with pytest.raises(ValueError, match=r"b\.csv has several columns called 'text'"):
        load_text_set(str(tmp_path / "b.csv"), text_column="text")


def test_odd_tables_that_can_be_read_are_read(tmp_path):
    file = tmp_path / "a.csv"
    # Of a spreadsheet: columns without a name behind the last one. And words behind a quotation mark.
    file.write_text('text,label,,\n"one" more,1,,\n"two"x,2,,\nthree,3,,\n')
    found = load_text_set(str(file), label_column="label")
    assert found["text"][:] == ["one more", "twox", "three"] and found["label"][:] == [1, 2, 3]
    file.write_text("0\nfrom pandas\n")
    assert load_text_set(str(file))["text"][:] == ["from pandas"]
    file.write_text("text\n" + "long " * 40_000 + "\nshort\n")
    assert [len(text) for text in load_text_set(str(file))["text"]] == [200_000, 5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\n", "a.csv: there are no rows, or none below the header."),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "a.txt.gz: there are no rows"),
        ("a.json", b"[]", "a.json: there are no rows"),
        ("a.parquet", b"no table", "a.parquet could not be read as .parquet: Parquet"),
        ("a.txt", b"\n \n", "a.txt set holds no text: all of its 2 entries are empty."),
        ("a.txt", bytes(range(256)) * 9, "a.txt is not in utf-8 (invalid start byte at byte 128). No encoding fits"),
        ("a.json", b'{"text": ', "a.json could not be read as .json: JSON parse error"),
    ],
)
def test_a_file_without_texts_is_named_in_one_line(tmp_path, name, content, message, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("datasets"), "handlers", [caplog.handler])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_text_set(str(tmp_path / name))
    assert not caplog.text


def test_a_packed_file_that_was_cut_off_is_told(tmp_path):
    file = tmp_path / "a.txt.gz"
    file.write_bytes(gzip.compress("\n".join(LINES * 50).encode())[:-20])
    with pytest.raises(ValueError, match=r"a\.txt\.gz: a packed file is damaged or was cut off"):
        load_text_set(str(file))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "rot13"}, "encoding='rot13' is no encoding"),
        ({"encoding": "utf-9"}, "encoding='utf-9' is no encoding"),
        ({"delimiter": ";;"}, "delimiter must be one character, got ';;'"),
        ({"quotechar": "quotes"}, "quotechar must be one character or 'none', got 'quotes'"),
    ],
)
def test_a_format_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TextFormat(**settings)


def test_a_text_of_many_pages_in_one_line_is_noticed(tmp_path, caplog):
    file = tmp_path / "book.txt"
    file.write_text(" ".join(LINES * 200))
    assert len(read_files(str(file))) == 1
    assert "book.txt: 1 line of" in caplog.text and "In a .txt each line is one text" in caplog.text
