"""Files of latents: what is in them, that they appear when they are whole, and that they say what is still to do."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pytest
import tiny
import torch
from datasets import load_dataset
from datatrove.data import Document
from datatrove.io import get_datafolder
from datatrove.pipeline.readers import JsonlReader
from latent_run import SIZE, executor
from paths import HELPERS, ROOT
from pyarrow import parquet

from hf_bnvae import BNVAEModel, __version__
from hf_bnvae.corpus import LatentEncoder, LatentWriter, LocalLatentExecutor
from hf_bnvae.model.saved_files_bnvae import sha256_of

TEXTS = tiny.make_texts(40)


def documents(texts, **metadata) -> list[Document]:
    return [Document(text=text, id=f"doc-{n}", metadata={"n": n, **metadata}) for n, text in enumerate(texts)]


def write(folder, encoder, found, rank=0, **arguments) -> LatentWriter:
    writer = LatentWriter(folder, encoder, **arguments)
    for _ in writer(encoder(iter(found)), rank, 5):
        pass
    return writer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_ids_latents_and_what_else_was_asked_for_and_says_where_they_are_from(trained_folder, tmp_path):
    encoder = LatentEncoder(trained_folder, with_logvar=True, num_draws=3)
    asked = {"with_text": True, "columns": {"n": pyarrow.int64(), "kind": pyarrow.string()}, "batch_size": 7}
    write(str(tmp_path), encoder, documents(TEXTS), rank=2, description={"mine": "yes"}, **asked)
    assert names(tmp_path) == ["00002.parquet"]
    table = parquet.read_table(tmp_path / "00002.parquet")
    latents = pyarrow.list_(pyarrow.float32(), SIZE)
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "id": pyarrow.string(),
        "mean": latents,
        "logvar": latents,
        "draws": pyarrow.list_(latents, 3),
        "text": pyarrow.string(),
        "n": pyarrow.int64(),
        "kind": pyarrow.string(),
    }
    expected = list(LatentEncoder(trained_folder, with_logvar=True, num_draws=3)(iter(documents(TEXTS))))
    for name in ("mean", "logvar", "draws"):
        found = torch.tensor(table[name].to_pylist())
        assert torch.equal(found, torch.tensor([one.metadata[name] for one in expected]))
    assert table["id"].to_pylist() == [f"doc-{n}" for n in range(40)] and table["text"].to_pylist() == TEXTS
    assert table["n"].to_pylist() == list(range(40)) and set(table["kind"].to_pylist()) == {None}
    told = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert told["hf_bnvae.weights_sha256"] == sha256_of(Path(trained_folder, "model.safetensors"))
    assert (told["hf_bnvae.version"], told["hf_bnvae.model"]) == (__version__, Path(trained_folder).name)
    assert told["hf_bnvae.mine"] == "yes"
    assert (told["hf_bnvae.tasks"], told["hf_bnvae.seed"], told["hf_bnvae.latent_dtype"]) == ("5", "42", "float32")


def test_a_file_is_a_data_set_of_tensors(trained_folder, tmp_path):
    write(str(tmp_path), LatentEncoder(trained_folder), documents([TEXTS[0], "", TEXTS[1]]), dtype="float16")
    found = load_dataset(
        "parquet", data_files=str(tmp_path / "*.parquet"), split="train", cache_dir=tmp_path / "cache"
    )
    expected = BNVAEModel.from_pretrained(trained_folder).eval().encode_texts(TEXTS[:2])
    means = found.with_format("torch")["mean"][:]
    assert means.shape == (2, SIZE) and torch.allclose(means.float(), expected.float(), atol=2e-3)
    assert found["id"][:] == ["doc-0", "doc-2"]


def test_documents_without_latents_are_left_out_and_counted(trained_folder, tmp_path):
    writer = write(str(tmp_path), LatentEncoder(trained_folder), documents(["", "  "]))
    assert parquet.read_table(tmp_path / "00000.parquet").num_rows == 0
    assert writer.stats.stats["left_out"].total == 2
    assert next(iter(list(writer(iter(documents([""])), 1, 5)))).id == "doc-0"  # and passed on
    write(str(tmp_path), LatentEncoder(trained_folder), [], rank=3)  # nothing came at all
    assert names(tmp_path) == ["00000.parquet", "00001.parquet", "00003.parquet"]


@pytest.mark.parametrize("place", ["a folder", "memory"])
def test_a_task_that_fails_leaves_nothing_under_a_name(trained_folder, tmp_path, place):
    folder = str(tmp_path) if place == "a folder" else f"memory://{tmp_path.name}"

    def breaks(data):
        yield from data
        raise RuntimeError("no space left")

    encoder = LatentEncoder(trained_folder, buffer_size=4)
    writer = LatentWriter(folder, encoder, batch_size=2)
    with pytest.raises(RuntimeError, match="no space left"):
        list(writer(breaks(encoder(iter(documents(TEXTS)))), 0, 1))
    steps = writer(encoder(iter(documents(TEXTS))), 0, 1)
    next(steps)
    steps.close()  # whoever reads the pipeline stops early
    assert get_datafolder(folder).list_files() == [] and not writer.is_done(0)
    write(folder, encoder, documents(TEXTS))  # control
    assert get_datafolder(folder).list_files() == ["00000.parquet"] and writer.is_done(0)
    with get_datafolder(folder).open("00000.parquet", "rb") as file:
        assert parquet.read_table(file).num_rows == len(TEXTS)


def inputs(folder: Path, count: int) -> str:
    folder.mkdir()
    for part in range(count):
        rows = [json.dumps({"text": text, "id": f"{part}-{n}"}) for n, text in enumerate(TEXTS[part::count] * 3)]
        (folder / f"{part:02d}.jsonl").write_text("\n".join(rows))
    return str(folder)


def test_files_decide_which_tasks_are_done(trained_folder, tmp_path):
    source = inputs(tmp_path / "in", 3)
    executor(trained_folder, source, tmp_path, 3).run()
    out = tmp_path / "out"
    assert names(out) == ["00000.parquet", "00001.parquet", "00002.parquet"]
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "00001.parquet").unlink()  # the log folder still calls this task completed
    assert executor(trained_folder, source, tmp_path, 3).get_incomplete_ranks() == [1]
    executor(trained_folder, source, tmp_path, 3).run()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    again = {path.name for path in out.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert again == {"00001.parquet"}


def test_files_of_another_pipeline_are_not_mixed_with_its_own(trained_folder, make_model, processor, tmp_path):
    source = inputs(tmp_path / "in", 2)
    executor(trained_folder, source, tmp_path, 2).run()
    with pytest.raises(ValueError, match=r"00000.parquet is of another pipeline \(tasks: 2, not 4\)"):
        executor(trained_folder, source, tmp_path, 4).run()
    other = BNVAEModel.from_pretrained(trained_folder)
    with torch.no_grad():
        other.posterior.mean_norm.running_mean.add_(1.0)
    for target in (other, other.processor):
        target.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"another pipeline \(model: trained\d*, not other; weights_sha256"):
        executor(str(tmp_path / "other"), source, tmp_path, 2).run()
    (tmp_path / "out" / "00001.parquet").unlink()
    again = executor(trained_folder, source, tmp_path, 2)
    again.run()
    (tmp_path / "out" / "00001.parquet").unlink()
    again.run()  # the same object once more
    assert names(tmp_path / "out") == ["00000.parquet", "00001.parquet"]


def test_a_model_that_changes_while_a_pipeline_waits_is_refused(trained_folder, tmp_path):
    model = BNVAEModel.from_pretrained(trained_folder).eval()
    for target in (model, model.processor):
        target.save_pretrained(tmp_path / "model")
    encoder = LatentEncoder(tmp_path / "model")
    writer = LatentWriter(str(tmp_path / "out"), encoder)
    (tmp_path / "model" / "notes.txt").write_text("no file of the model")
    list(writer(encoder(iter(documents(TEXTS[:2]))), 0, 2))
    with torch.no_grad():
        model.posterior.mean_norm.running_mean.add_(1.0)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="have changed since the pipeline was built"):
        list(writer(encoder(iter(documents(TEXTS[:2]))), 1, 2))
    assert names(tmp_path / "out") == ["00000.parquet"]


def test_two_processes_with_the_same_task_both_end(trained_folder, tmp_path):
    encoder = LatentEncoder(trained_folder, buffer_size=4)
    slow = LatentWriter(str(tmp_path), encoder, batch_size=2)(encoder(iter(documents(TEXTS))), 0, 5)
    next(slow)
    write(str(tmp_path), encoder, documents(TEXTS))  # the other one is quicker, and deletes what it finds
    assert names(tmp_path) == ["00000.parquet"]
    list(slow)
    assert names(tmp_path) == ["00000.parquet"]
    lonely = LatentWriter(str(tmp_path), encoder, batch_size=2)(encoder(iter(documents(TEXTS))), 1, 5)
    next(lonely)
    next(tmp_path.glob("*.partial")).unlink()
    with pytest.raises(FileNotFoundError, match="was deleted while it was being written"):
        list(lonely)


def test_an_executor_runs_what_it_depends_on_first(trained_folder, tmp_path):
    source = inputs(tmp_path / "in", 1)
    first = executor(trained_folder, source, tmp_path / "first", 1)
    second = executor(trained_folder, source, tmp_path / "second", 1)
    second.depends = first
    second.run()
    assert names(tmp_path / "first/out") == names(tmp_path / "second/out") == ["00000.parquet"]


def test_an_upload_that_breaks_leaves_nothing_under_the_final_name(trained_folder, tmp_path, monkeypatch):
    encoder = LatentEncoder(trained_folder)
    writer = LatentWriter(f"memory://broken-{tmp_path.name}", encoder)
    put = writer.output_folder.put_file

    def breaks(path, name):
        put(path, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(writer.output_folder, "put_file", breaks)
    with pytest.raises(KeyboardInterrupt):
        list(writer(encoder(iter(documents(TEXTS[:2]))), 0, 1))
    assert not writer.is_done(0)
    monkeypatch.undo()
    list(writer(encoder(iter(documents(TEXTS[:2]))), 0, 1))
    assert writer.output_folder.list_files() == ["00000.parquet"]


def test_an_executor_without_files_of_latents_is_refused(trained_folder, tmp_path):
    pipeline = [JsonlReader(inputs(tmp_path / "in", 1)), LatentEncoder(trained_folder)]
    with pytest.raises(ValueError, match="the pipeline has 0"):
        LocalLatentExecutor(pipeline, tasks=1, logging_dir=str(tmp_path / "logs")).run()


def test_ids_of_any_kind_become_strings_and_an_entry_of_another_type_is_named(trained_folder, tmp_path):
    found = [Document(text=TEXTS[0], id=7, metadata={"n": 1}), Document(text=TEXTS[1], id="b", metadata={"n": "two"})]
    write(str(tmp_path), LatentEncoder(trained_folder), [Document(text=one.text, id=one.id) for one in found])
    assert parquet.read_table(tmp_path / "00000.parquet")["id"].to_pylist() == ["7", "b"]
    with pytest.raises(ValueError, match="The entry 'n' of a document is no int64"):
        write(str(tmp_path), LatentEncoder(trained_folder), found, columns={"n": pyarrow.int64()})


@pytest.mark.slow
def test_kills_leave_no_half_file_and_a_relaunch_ends_as_if_undisturbed(trained_folder, tmp_path):
    tasks, draw = 8, random.Random(0)
    source = inputs(tmp_path / "in", tasks)
    executor(trained_folder, source, tmp_path / "whole", tasks).run()
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole/out").iterdir()}
    assert len(set(expected.values())) == tasks  # control: a file of another task would be seen
    command = [sys.executable, str(HELPERS / "latent_run.py"), trained_folder, source, str(tmp_path / "killed"), "8"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = 0
    for turn in range(4):
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, str(1 + turn % 2)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        out = tmp_path / "killed/out"
        while process.poll() is None and time.monotonic() - began < 300:
            if out.is_dir() and len(list(out.iterdir())) > turn + draw.random():
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        process.wait()
        found = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
        assert found.items() <= expected.items()
    assert killed >= 2
    executor(trained_folder, source, tmp_path / "killed", tasks).run()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, float16, got 'int8'"),
        ({"columns": {"mean": pyarrow.string()}}, "A column 'mean' is written anyway"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"columns": {"text": pyarrow.string()}, "with_text": True}, "A column 'text' is written anyway"),
    ],
)
def test_wrong_arguments_are_refused(trained_folder, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentWriter(str(tmp_path), LatentEncoder(trained_folder), **arguments)
