"""The reader: every row once, whatever the tasks, from files as people have them."""

import gzip
import json

import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from hf_bnvae.corpus import TextReader
from hf_bnvae.data.text_format import TextFormat

ROWS = [{"text": f"Sentence number {n} .", "name": f"row-{n}", "stars": str(n % 5)} for n in range(2500)]


def read(reader, tasks: int = 1) -> list[tuple]:
    return [(one.id, one.text, one.metadata) for rank in range(tasks) for one in reader(None, rank, tasks)]


def write(folder, kind: str) -> str:
    path = folder / f"mine.{kind}"
    texts = [row["text"] for row in ROWS]
    content = {
        "txt": "\n".join(texts),
        "jsonl": "\n".join(map(json.dumps, ROWS)),
        "csv": "\n".join(["text,name,stars", *(f'"{row["text"]}",{row["name"]},{row["stars"]}' for row in ROWS)]),
    }.get(kind.removesuffix(".gz"))
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=700)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content)
    return str(path)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "csv", "csv.gz", "parquet"])
def test_one_large_file_is_divided_among_the_tasks(tmp_path, kind):
    columns = [] if kind == "txt" else ["name", "stars"]
    reader = TextReader(write(tmp_path, kind), columns=columns)
    expected = [(str(n), row["text"], {name: row[name] for name in columns}) for n, row in enumerate(ROWS)]
    assert read(reader) == expected
    assert read(reader, 7) == expected
    shares = [len(list(reader(None, rank, 7))) for rank in range(7)]
    assert max(shares) - min(shares) <= 1


@pytest.mark.slow
@given(tasks=st.integers(1, 60), count=st.integers(1, 40))
def test_every_row_comes_once_and_in_its_order(tmp_path_factory, tasks, count):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.txt").write_text("\n".join(f"first {n}" for n in range(count)))
    (folder / "b.txt").write_text("\n".join(f"second {n}" for n in range(3)))
    found = read(TextReader(str(folder)), tasks)
    texts = [*(f"first {n}" for n in range(count)), *(f"second {n}" for n in range(3))]
    assert [text for _, text, _ in found] == texts
    assert [int(name) for name, _, _ in found] == list(range(count + 3))


def test_ids_are_of_a_column_and_a_limit_is_for_all_tasks_together(tmp_path):
    reader = TextReader(write(tmp_path, "csv"), id_column="name", max_samples=10)
    assert [name for name, *_ in read(reader, 3)] == [f"row-{n}" for n in range(10)]


def test_a_column_that_is_wanted_twice_still_holds_the_texts(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,label\nA text .,0\nAnother one .,1\n")
    assert read(TextReader(str(path), columns=["text"]))[0] == ("0", "A text .", {"text": "A text ."})
    assert read(TextReader(str(path), id_column="text"))[1] == ("Another one .", "Another one .", {})


def test_numbers_are_no_texts_and_a_missing_id_is_named(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [{"text": "a", "id": "x", "stars": 1}, {"text": "b", "id": None, "stars": 2}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"The column 'stars' of .* holds no texts, but .*int64"):
        read(TextReader(str(path), text_column="stars"))
    with pytest.raises(ValueError, match=r"Row 1 of .* has no 'id'"):
        read(TextReader(str(path), id_column="id"))


def test_texts_that_are_missing_or_empty_are_passed_on(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in ("a", None, "", "b")))
    assert [text for _, text, _ in read(TextReader(str(path)))] == ["a", None, "", "b"]


def test_a_line_that_cannot_be_read_costs_itself_alone(tmp_path, caplog):
    path = tmp_path / "mine.jsonl"
    lines = [json.dumps({"text": row["text"]}) for row in ROWS[:400]]
    lines[7], lines[300] = '{"text": "half \\ud83d of a pair"}', '{"text": "cut o'
    path.write_text("\n".join(lines))
    found = read(TextReader(str(path)), 3)
    assert [text for _, text, _ in found] == [row["text"] for n, row in enumerate(ROWS[:400]) if n not in (7, 300)]
    assert "2 of 400 lines of" in caplog.text and "line 8 of mine.jsonl: half of a surrogate pair" in caplog.text
    assert "line 301 of mine.jsonl" in caplog.text and "They are left out" in caplog.text


def test_a_data_set_that_load_dataset_reads_is_an_input_too(tmp_path):
    Dataset.from_list(ROWS[:20]).to_parquet(tmp_path / "set" / "train.parquet")
    reader = TextReader(dataset_name=str(tmp_path / "set"), dataset_split="train[:8]", columns=["name"])
    assert [name for name, *_ in read(reader, 3)] == [str(n) for n in range(8)]
    assert read(reader)[5] == ("5", "Sentence number 5 .", {"name": "row-5"})


def test_other_encodings_and_bad_rows_are_handled_as_in_a_training(tmp_path, caplog):
    path = tmp_path / "mine.csv"
    lines = ["text;stars", *(f"Grüße {n};{n % 5}" for n in range(300)), "one field"]
    path.write_bytes("\n".join(lines).encode("cp1252"))
    reader = TextReader(str(path), text_column="text", text_format=TextFormat("cp1252", delimiter=";"))
    found = read(reader, 2)
    assert len(found) == 300 and found[7][1] == "Grüße 7"
    assert "1 of 301 rows of" in caplog.text and "They are left out" in caplog.text


def test_a_task_that_reads_something_else_than_was_remembered_fails(tmp_path):
    file = tmp_path / "a.csv"
    rows = [f"text {n},{n}" for n in range(20)]
    file.write_text("\n".join(["text,key", *rows]))
    reader = TextReader(str(file), text_column="text", id_column="key")
    loaded, _ = reader.load()
    first = reader.remember(loaded, 2)
    assert [len(list(reader.run(None, rank, 2))) for rank in (0, 1)] == [10, 10]  # control
    assert reader.remember(loaded, 2) == first != reader.remember(loaded, 4)
    reader.remember(loaded, 2)
    for changed in ("text 15 .,15", "text 15,mine"):  # a text, and an id
        file.write_text("\n".join(["text,key", *rows[:15], changed, *rows[16:]]))
        assert len(list(reader.run(None, 0, 2))) == 10
        with pytest.raises(ValueError, match=r"a.csv has changed since the command was started"):
            list(reader.run(None, 1, 2))


def test_classes_are_read_as_their_names(tmp_path):
    classes = ClassLabel(names=["bad", "good"])
    kinds = Features({"text": Value("string"), "label": classes, "tags": List(classes)})
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[1], [], [0, 1]]}
    Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "a.parquet")
    found = read(TextReader(str(tmp_path / "a.parquet"), text_column="text", columns=["label", "tags"]))
    assert [metadata["label"] for _, _, metadata in found] == ["good", "bad", None]
    assert [metadata["tags"] for _, _, metadata in found] == [["good"], [], ["bad", "good"]]


def test_a_row_without_an_id_is_named_before_tasks_begin(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a", "key": "1"}\n{"text": "b", "key": null}\n')
    reader = TextReader(str(file), text_column="text", id_column="key")
    with pytest.raises(ValueError, match=r"Row 1 of .*a.jsonl has no 'key'"):
        reader.remember(reader.load()[0], 1)


def test_what_is_no_file_has_no_format():
    with pytest.raises(ValueError, match="are of files"):
        TextReader(dataset_name="user/name", text_format=TextFormat(encoding="latin-1"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either files or dataset_name"),
        ({"files": "a.txt", "dataset_name": "b"}, "either files or dataset_name"),
        ({"files": "a.txt", "max_samples": 0}, "max_samples must be a whole number of at least 1, got 0"),
        ({"files": "a.txt", "max_samples": 2.5}, "max_samples must be a whole number of at least 1, got 2.5"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TextReader(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_column": "review"}, r"has no column 'review'. Its columns: text, name, stars"),
        ({"id_column": "key"}, r"has no column 'key'. Its columns: text, name, stars"),
        ({"columns": ["name", "label"]}, r"has no column 'label'. Its columns: text, name, stars"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        read(TextReader(write(tmp_path, "csv"), **arguments))
    with pytest.raises(ValueError, match="no such file or folder"):
        read(TextReader(str(tmp_path / "gone.csv")))


def test_a_row_that_cannot_be_read_is_left_out_also_where_ids_are_wanted(tmp_path):
    file = tmp_path / "a.csv"
    rows = [f"text {n},key-{n}" for n in range(300)]
    file.write_text("\n".join(["text,key", *rows[:150], "one field", *rows[150:]]))
    reader = TextReader(str(file), text_column="text", id_column="key")
    reader.remember(reader.load()[0], 2)
    assert [one.id for rank in (0, 1) for one in reader.run(None, rank, 2)] == [f"key-{n}" for n in range(300)]
