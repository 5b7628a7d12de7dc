"""Files of latents come back as documents, whatever the number of tasks, and what cannot be latents is named."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from hf_bnvae.corpus import LatentReader
from hf_bnvae.corpus.latent_decoder import LATENT


@pytest.fixture
def folder(tmp_path):
    """Twenty latents in files of 11, 0 and 9 rows, in groups of 4."""
    names = [f"key-{n}" for n in range(20)]
    means = pyarrow.array([[float(n), -float(n)] for n in range(20)], pyarrow.list_(pyarrow.float32(), 2))
    table = pyarrow.table({"id": names, "mean": means, "stars": range(20), "draws": [[[0.0, 1.0]]] * 20})
    for number, part in enumerate((table[:11], table[11:11], table[11:])):
        parquet.write_table(part, tmp_path / f"{number:05d}.parquet", row_group_size=4)
    return tmp_path


def rows(reader, tasks=1) -> list[tuple]:
    found = [document for rank in range(tasks) for document in reader.run(None, rank, tasks)]
    return [(one.id, one.metadata[LATENT], one.metadata.get("stars")) for one in found]


@pytest.mark.parametrize("tasks", [1, 2, 7, 30])
def test_each_row_is_read_once_and_in_order_by_any_number_of_tasks(folder, tasks):
    reader = LatentReader(str(folder), columns={"stars": "stars"})
    assert rows(reader, tasks) == [(f"key-{n}", [float(n), -float(n)], n) for n in range(20)]
    assert reader.num_rows == 20


def test_a_file_or_a_pattern_can_be_named(folder, monkeypatch):
    assert len(rows(LatentReader(str(folder / "00000.parquet")))) == 11
    monkeypatch.chdir(folder)
    assert len(rows(LatentReader("0000[12].parquet"))) == 9
    assert [name for name, *_ in rows(LatentReader(".", id_column="stars"))] == [str(n) for n in range(20)]


def test_rows_without_ids_are_numbered(folder):
    for path in sorted(folder.iterdir()):
        parquet.write_table(parquet.read_table(path).drop_columns("id"), path)
    assert [name for name, *_ in rows(LatentReader(str(folder)), 3)] == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "mu"}, "has no column 'mu'. Its columns: id, mean, stars, draws"),
        ({"columns": {"date": "date"}}, "has no column 'date'"),
        ({"id_column": "key"}, "has no column 'key'"),
        ({"column": "stars"}, "The column 'stars' of .* holds no latents, but int64"),
        ({"column": "draws"}, "The column 'draws' of .* holds no latents, but list"),
    ],
)
def test_columns_that_cannot_be_latents_are_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        list(LatentReader(str(folder), **arguments).run())


def test_files_that_do_not_belong_together_are_refused(folder, tmp_path_factory):
    with pytest.raises(ValueError, match=r"there is no .parquet file"):
        rows(LatentReader(str(tmp_path_factory.mktemp("empty"))))
    with pytest.raises(ValueError, match=r"nowhere: there is no .parquet file"):
        rows(LatentReader(str(folder / "nowhere")))
    Path(folder, "00003.parquet").write_bytes(b"half of a file")
    with pytest.raises(ValueError, match=r"00003.parquet of .* is no parquet file"):
        rows(LatentReader(str(folder)))
    parquet.write_table(pyarrow.table({"mean": [[1.0, 2.0]]}), folder / "00003.parquet")
    with pytest.raises(ValueError, match=r"00003.parquet of .* differs from 00000.parquet: columns: mean list"):
        rows(LatentReader(str(folder)))


def test_a_file_that_changes_after_it_was_found_is_refused(folder):
    reader = LatentReader(str(folder))
    before = reader.content
    assert reader.num_rows == 20 and len(list(reader.run(None, 1, 2))) == 10  # control
    table = parquet.read_table(folder / "00002.parquet")
    parquet.write_table(table.take(list(range(8, -1, -1))), folder / "00002.parquet")
    with pytest.raises(ValueError, match=r"00002.parquet of .* has changed since the command was started"):
        list(reader.run(None, 1, 2))
    assert LatentReader(str(folder)).content != before
