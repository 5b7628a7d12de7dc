"""The speed benchmark: what it measures, what its script writes and prints, and which mistakes the script refuses.

How fast anything is, is not tested here.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from paths import SCRIPTS

from hf_bnvae.benchmarks.speed import WORKS, Protocol, compare
from hf_bnvae.benchmarks.synthetic import SIZES, build_model
from hf_bnvae.benchmarks.tables.speed import render_ratios, render_speed
from hf_bnvae.benchmarks.timing import allocator_peak, has_resident_peak
from hf_bnvae.benchmarks.workloads import COMPARED, Setting

pytestmark = pytest.mark.slow

TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def script():
    """The script as a module. It sets environment variables when it is loaded, which are taken back here."""
    spec = importlib.util.spec_from_file_location("benchmark_speed", SCRIPTS / "benchmark_speed.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv("KINETO_LOG_LEVEL", "99")
        spec.loader.exec_module(module)
    return module


def run(script, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark_speed.py", *arguments])
        script.main()


@pytest.fixture(scope="module")
def file(script, tmp_path_factory):
    file = tmp_path_factory.mktemp("speed") / "speed.json"
    options = ("--size", "tiny", "--rounds", "2", "--control", "--work", ",".join(WORKS))
    run(script, *options, "--output_file", str(file))
    return file


@pytest.fixture(scope="module")
def results(file):
    return json.loads(file.read_text())


def test_each_work_has_its_figures_for_each_number_of_sentences(results):
    for name in COMPARED:
        assert list(results[name]) == [str(count) for count in TINY.sentences[name]]
        for figures in results[name].values():
            assert figures["ratio_to_floor"] == pytest.approx(figures["ours"] / figures["floor"], rel=1e-9)
            assert figures["ours"] > 0 and figures["floor"] > 0
            if name == "mutual_information":
                assert figures["naive"] is None and figures["ratio_to_naive"] is None
            else:
                assert figures["ratio_to_naive"] == pytest.approx(figures["ours"] / figures["naive"], rel=1e-9)
            for way in ("ours", "floor"):
                of_rounds = sorted(call[figures["clock"]] for call in figures["rounds"][way])
                assert len(of_rounds) == 2 and sum(of_rounds) / 2 == pytest.approx(figures[way])
                assert figures["peak_memory_bytes"][way] > 0 and 0 < figures["share_of_peak"][way] < 1
    # The naive way generates two of twelve texts. Its seconds are scaled up.
    figures = results["generation"]["12"]
    naive = [call["cpu"] for call in figures["rounds"]["naive"]]
    assert figures["naive"] == pytest.approx(sum(naive) / 2 * 12 / TINY.naive_texts)


def test_growth_is_that_of_whole_epochs(results):
    for count, figures in results["growth"].items():
        assert figures["tokens"] == 12 * int(count)
        assert figures["tokens_per_second"] == pytest.approx(figures["tokens"] / figures["ours"])
        assert figures["floor"] is None and figures["ratio_to_floor"] is None
        assert figures["peak_memory_bytes"]["ours"] > 2**20 or not has_resident_peak()


def test_results_say_what_they_were_made_with(file, results):
    assert results["command"].startswith("python scripts/benchmark_speed.py --size tiny")
    assert results["command"].endswith("--output_file speed.json") and str(file.parent) not in results["command"]
    assert results["settings"]["size"] == "tiny" and results["settings"]["seed"] == 1
    assert results["versions"]["torch_version"] == torch.__version__
    assert results["machine"]["matrix_product_peak"]["float32"] > 1e8


def test_the_command_names_the_file_alone_however_it_is_given(script, tmp_path, capsys):
    options = ["--size", "tiny", "--rounds", "1", "--work", "mutual_information"]
    for number, written in enumerate((["--output_file", "{}"], ["--output_file={}"], ["--output={}"])):
        path = tmp_path / f"{number}.json"
        given = [word.format(f"{tmp_path}//{path.name}") for word in written]
        run(script, *options, *given)
        command = json.loads(path.read_text())["command"]
        assert command in capsys.readouterr().out and str(tmp_path) not in command
        assert command.endswith(" ".join(written).format(path.name))


def table_rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]


def test_the_table_says_whose_figures_stand_in_it(results):
    header, *rows = table_rows(render_speed(results))
    rows = {(row[0], row[1]): dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)}
    assert len(rows) == sum(len(TINY.sentences[name]) for name in COMPARED)
    training, iw_nll = results["training"]["48"], results["iw_nll"]["6"]
    assert rows["training", "48"]["chunks"] == ", ".join(str(training["chunk_size"][way]) for way in ("ours", "floor"))
    assert rows["iw_nll", "6"]["chunks"] == f"-, {iw_nll['chunk_size']['floor']}"  # `ours` has no chunk size
    assert rows["training", "48"]["ours / naive"] == f"{training['ratio_to_naive']:.3f}"
    assert len(rows["training", "48"]["MiB"].split(",")) == 3
    # There are aims for one size, in one precision, on a processor.
    assert "at most" not in render_speed(results)
    mid = {**results, "settings": {**results["settings"], "size": "mid"}, "training": {"32": training}}
    assert "(at most 1.2), " in render_speed(mid) and "(at most 0.5)" in render_speed(mid)
    for other in ({"bf16": True}, {"device": "cuda"}):
        assert "at most" not in render_speed({**mid, "settings": {**mid["settings"], **other}})
    growth = {name: values for name, values in results.items() if name not in COMPARED}
    assert "\n\n\n" not in render_speed(growth) and len(table_rows(render_speed(growth))) == 3


def test_ratios_are_shown_without_seconds(results):
    header, *rows = table_rows(render_ratios(results))
    assert header == ["work", "sentences", "ours / floor", "ours / naive"]
    assert len(rows) == sum(len(results[name]) for name in COMPARED)
    for name, count, *ratios in rows:
        figures = results[name][count]
        expected = [figures["ratio_to_floor"], figures["ratio_to_naive"]]
        assert ratios == ["-" if ratio is None else f"{ratio:.3f}" for ratio in expected]


def test_the_table_has_a_row_for_each_figure(script, capsys):
    run(script, "--size", "tiny", "--rounds", "1", "--work", "training,mutual_information", "--sentences", "16")
    printed = capsys.readouterr().out
    rows = [line.split("|") for line in printed.splitlines() if line.startswith(("| training", "| mutual"))]
    assert [row[2].strip() for row in rows] == ["16", "16"]
    assert rows[1][5].strip() == "-" != rows[0][5].strip()
    assert "encoding" not in printed


def test_memory_of_a_training_step_does_not_depend_on_what_ran_before():
    figures = compare(COMPARED["training"], "training", 48, Setting("tiny"), Protocol(rounds=1, chunk_sizes=(48,)))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in build_model(TINY, 1).parameters())
    ways = {
        "ours": lambda work: work.ours(48),
        "floor": lambda work: work.floor(48),
        "naive": lambda work: work.naive(),
    }
    for name, way in ways.items():
        alone = COMPARED["training"](Setting("tiny"), 48)
        way(alone)
        peak = allocator_peak(lambda way=way, alone=alone: way(alone))
        assert figures["peak_memory_bytes"][name] == pytest.approx(peak, rel=1e-3)
        assert peak > weights > 0.03 * peak  # gradients take as much as weights, and every way has them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "huge"], "invalid choice: 'huge'"),
        (["--work", "training,cooking"], "there is no work 'cooking'. Choose from training,encoding"),
        (["--sentences", "32,many"], "positive whole numbers, separated by commas, are needed, got '32,many'"),
        (["--work", "training", "--sentences", "4"], "--sentences 4: a posterior batch needs 8 sentences at least"),
        (["--rounds", "0"], "positive whole numbers"),
        (["--rounds", "3,4"], "one positive whole number is needed, got '3,4'"),
        (["--device", "abacus"], "cannot use 'abacus'"),
        (["--output_file", "nowhere/speed.json"], "the folder nowhere does not exist"),
        (["--output_file", "notes.txt"], "notes.txt exists already, and is not overwritten"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(options, message, script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        run(script, *options)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert Path("notes.txt").read_text() == "mine"
