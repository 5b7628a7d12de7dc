"""The benchmark of speed: what its script writes and prints, and that the floor and the naive way do the work that
they are said to do. Positions are counted by hooks on the networks' layers. Figures of speed are not tested here."""

import importlib.util
import json
import mmap
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from paths import SCRIPTS
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from hf_bnvae.benchmarks.speed import (
    COMPARED,
    SIZES,
    Protocol,
    Setting,
    build_model,
    compare,
    draw_lengths,
    make_processor,
    make_texts,
)
from hf_bnvae.benchmarks.speed_table import BEGIN, END, file_name, render_speed, update_speed_page, update_speed_readme
from hf_bnvae.benchmarks.timing import (
    allocator_peak,
    fastest,
    has_resident_peak,
    matrix_product_peak,
    resident_peak,
    take_turns,
)

TINY = SIZES["tiny"]
CPU = torch.device("cpu")


def run_script(*arguments: str, name: str = "benchmark_speed", **constants: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv("KINETO_LOG_LEVEL", "99")
        patch.setattr(sys, "argv", [f"{name}.py", *arguments])
        spec.loader.exec_module(module)
        for constant, value in constants.items():
            patch.setattr(module, constant, value)
        module.main()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("speed") / "speed.json"
    options = ("--size", "tiny", "--rounds", "2", "--control", "--work", ",".join([*COMPARED, "growth"]))
    run_script(*options, "--output_file", str(file))
    return file


@pytest.fixture(scope="module")
def results(file):
    return json.loads(file.read_text())


@contextmanager
def counted():
    """Positions that reach the layers of encoder and decoder, and those whose logits are computed."""
    counts = Counter()

    def hook(module, arguments):
        if isinstance(module, (BertLayer, GPT2Block)):
            counts[type(module).__name__] += arguments[0].shape[:2].numel()
        elif isinstance(module, nn.Linear) and module.out_features == TINY.decoder_vocabulary:
            counts["logits"] += arguments[0].shape[:-1].numel()

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        yield counts
    finally:
        handle.remove()


def build(name: str, sentences: int | None = None, seed: int = 1):
    return COMPARED[name](Setting("tiny", seed=seed), sentences or TINY.sentences[name][0])


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
    # One of each is generated naively for six of ours.
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


def test_the_command_names_the_file_alone_however_it_is_given(tmp_path, capsys):
    options = ["--size", "tiny", "--rounds", "1", "--work", "mutual_information"]
    for number, written in enumerate((["--output_file", "{}"], ["--output_file={}"], ["--output={}"])):
        path = tmp_path / f"{number}.json"
        given = [word.format(f"{tmp_path}//{path.name}") for word in written]
        run_script(*options, *given)
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
    assert rows["iw_nll", "6"]["chunks"] == f"-, {iw_nll['chunk_size']['floor']}"  # ours has none to choose
    assert rows["training", "48"]["ours / naive"] == f"{training['ratio_to_naive']:.3f}"
    assert len(rows["training", "48"]["MiB"].split(",")) == 3
    # What is aimed at is said of one size only, in one precision, on a processor.
    assert "at most" not in render_speed(results)
    mid = {**results, "settings": {**results["settings"], "size": "mid"}, "training": {"32": training}}
    assert "(at most 1.2), " in render_speed(mid) and "(at most 0.5)" in render_speed(mid)
    for other in ({"bf16": True}, {"device": "cuda"}):
        assert "at most" not in render_speed({**mid, "settings": {**mid["settings"], **other}})
    growth = {name: values for name, values in results.items() if name not in COMPARED}
    assert "\n\n\n" not in render_speed(growth) and len(table_rows(render_speed(growth))) == 3


def test_results_are_kept_by_machine_and_shown_on_a_page_and_in_the_readme(results, file, tmp_path):
    cards = tmp_path / "model_cards"
    cards.mkdir()
    page = f"Before\n{BEGIN}\nold\n{END}\nAfter\n"
    for path in (cards / "speed.md", tmp_path / "README.md"):
        path.write_text(page)
    abacus = {**results, "machine": {**results["machine"], "device": "Abacus (wood)"}}
    kept = cards / file_name(abacus)
    assert kept.name == "speed_tiny_fp32_abacus_wood.json" != file_name(results)
    (tmp_path / "abacus.json").write_text(json.dumps(abacus))
    # The last one is rendered again from what is kept.
    for written in (file, tmp_path / "abacus.json", kept):
        run_script("--speed", str(written), name="render_results", ROOT=tmp_path, CARDS=cards)
    tables = [json.loads(path.read_text()) for path in sorted(cards.glob("speed_*.json"))]
    assert len(tables) == 2 and abacus in tables and results in tables
    text = (cards / "speed.md").read_text()
    assert text == update_speed_page(page, tables) and text.count(results["command"]) == 2
    assert text.startswith(f"Before\n{BEGIN}\n") and text.endswith(f"{END}\nAfter\n") and "old" not in text
    readme = (tmp_path / "README.md").read_text()
    assert readme == update_speed_readme(page, abacus) != update_speed_readme(page, results)
    rows = table_rows(readme)[1:]
    assert len(rows) == sum(len(results[name]) for name in COMPARED)
    for name, count, *ratios in rows:
        figures = results[name][count]
        expected = [figures["ratio_to_floor"], figures["ratio_to_naive"]]
        assert ratios == ["-" if ratio is None else f"{ratio:.3f}" for ratio in expected]


def test_the_table_has_a_row_for_each_figure(capsys):
    run_script("--size", "tiny", "--rounds", "1", "--work", "training,mutual_information", "--sentences", "16")
    printed = capsys.readouterr().out
    rows = [line.split("|") for line in printed.splitlines() if line.startswith(("| training", "| mutual"))]
    assert [row[2].strip() for row in rows] == ["16", "16"]
    assert rows[1][5].strip() == "-" != rows[0][5].strip()
    assert "encoding" not in printed


def test_sentences_have_twelve_tokens_on_average_and_five_to_thirty():
    for count, seed in ((1, 0), (2, 1), (300, 1), (300, 2)):
        lengths = draw_lengths(count, seed)
        assert lengths.sum() == 12 * count and lengths.min() >= 5 and lengths.max() <= 30
    assert lengths.max() > 20 and not torch.equal(lengths, draw_lengths(300, 1))


def test_texts_have_as_many_tokens_as_was_drawn():
    lengths = draw_lengths(20, 1)
    batch = make_processor(TINY)(make_texts(lengths, TINY, 1), return_tensors="pt")
    assert torch.equal(batch["attention_mask"].sum(1), lengths)
    # Of all words one stands for those that a vocabulary lacks: hardly any do.
    assert batch["input_ids"].eq(3).float().mean() < 0.05


@pytest.mark.parametrize("sentences", [16, 48])
def test_the_floor_of_training_computes_every_real_token_once_and_no_padding(sentences):
    tokens = int(draw_lengths(sentences, 1).sum())
    work = build("training", sentences)
    for chunk_size in (5, sentences):
        with counted() as counts:
            work.floor(chunk_size)
        assert counts == {"BertLayer": tokens, "GPT2Block": tokens, "logits": tokens}
    assert work.tokens == tokens
    # Controls: one padded piece computes everything for padding too, and chunks something.
    with counted() as counts:
        work.naive()
    padded = sentences * int(draw_lengths(sentences, 1).max())
    assert counts == {"BertLayer": padded, "GPT2Block": padded, "logits": padded} and padded > 1.4 * tokens
    with counted() as counts:
        work.ours(8)
    assert tokens < counts["BertLayer"] < padded and counts["logits"] == tokens


def test_the_other_floors_compute_every_real_token_too():
    for name, sentences, layers in (("encoding", 100, ["BertLayer"]), ("iw_nll", 6, ["GPT2Block", "logits"])):
        work, passes = build(name), TINY.num_samples if name == "iw_nll" else 1
        with counted() as counts:
            work.floor(7)
        assert work.tokens == int(draw_lengths(sentences, 1).sum()) * passes
        assert counts == dict.fromkeys(layers, work.tokens)
    # Naively each sentence is encoded once, and scored with the last position, which scores nothing.
    with counted() as counts:
        work.naive()
    scored = work.tokens + 6 * TINY.num_samples
    assert counts == {"BertLayer": work.tokens // TINY.num_samples, "GPT2Block": scored, "logits": scored}
    work = build("generation")
    with counted() as counts:
        work.floor(5)
    assert counts == dict.fromkeys(["GPT2Block", "logits"], 12 * TINY.new_tokens) and work.tokens == counts["logits"]
    # Naively each token takes the whole text ahead of it, and its logits.
    with counted() as counts:
        work.naive()
    again = TINY.naive_texts * TINY.new_tokens * (TINY.new_tokens + 1) // 2
    assert counts == {"GPT2Block": again, "logits": again}


@pytest.mark.parametrize("name", ["encoding", "generation", "iw_nll"])
def test_all_ways_compute_in_the_precision_that_is_asked_for(name):
    for bf16, expected in ((True, torch.bfloat16), (False, torch.float32)):
        work, seen = COMPARED[name](Setting("tiny", bf16=bf16), 6), []

        def hook(module, arguments, seen=seen):
            if isinstance(module, (BertLayer, GPT2Block)):
                seen.append(arguments[0].dtype)

        handle = nn.modules.module.register_module_forward_pre_hook(hook)
        try:
            for way in (lambda work=work: work.ours(6), lambda work=work: work.floor(6), work.naive):
                seen.clear()
                way()
                assert set(seen) == {expected}
        finally:
            handle.remove()


@pytest.mark.parametrize("bf16", [False, True])
def test_the_floor_makes_the_same_training_at_any_chunk_size(bf16):
    whole, chunks = (COMPARED["training"](Setting("tiny", bf16=bf16), 48) for _ in range(2))
    losses = [whole.floor(48) for _ in range(3)], [chunks.floor(5) for _ in range(3)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][2] < losses[0][0] * (1 - 1e-3)  # control: the steps change it


def test_the_naive_way_makes_the_same_training():
    ours, naive = build("training"), build("training")
    losses = [ours.ours(8) for _ in range(3)], [naive.naive() for _ in range(3)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # Controls: the steps change the loss, and other sentences and weights have another one.
    assert losses[0][2] < losses[0][0] * (1 - 1e-4)
    assert build("training", seed=2).naive() != pytest.approx(losses[0][0], rel=1e-5)


@pytest.mark.parametrize("name", ["encoding", "iw_nll"])
def test_the_naive_way_has_the_same_result(name):
    work = build(name)
    ours, naive = work.ours(16), work.naive()
    torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, naive.roll(1, 0), rtol=1e-4, atol=1e-5)  # control: another sentence's


def test_the_naive_way_generates_the_same_texts():
    work = build("generation")
    ours, naive = work.ours(5), work.naive()
    assert torch.equal(ours[: TINY.naive_texts], naive) and naive.shape == (2, 1 + TINY.new_tokens)
    other = build("generation", seed=2)  # control: other weights and latents
    assert not torch.equal(other.ours(5)[: TINY.naive_texts], naive)


def test_the_ways_take_turns():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in ("ours", "floor", "naive")}
    assert {name: len(taken) for name, taken in take_turns(ways, 3, CPU).items()} == dict.fromkeys(ways, 3)
    assert calls == ["ours", "floor", "naive", "naive", "floor", "ours", "ours", "floor", "naive"]


def test_the_fastest_choice_is_taken():
    matrix = torch.randn(200, 200)

    def work(repeats: int) -> None:
        for _ in range(repeats):
            matrix @ matrix

    assert fastest(work, [200, 5, 100], CPU) == 5
    assert fastest(lambda repeats: work(200 - repeats), [195, 5, 100], CPU) == 195


def test_memory_is_what_is_held_at_once():
    size = 16 * 2**20

    def tensor() -> torch.Tensor:
        return torch.ones(size // 4)

    def pages() -> mmap.mmap:
        block = mmap.mmap(-1, size)
        for page in range(0, size, mmap.PAGESIZE):
            block[page] = 1
        return block

    def one_after_the_other(make) -> None:
        for _ in range(3):
            make()

    def at_once(make) -> None:
        _ = [make() for _ in range(3)]

    for function, blocks in ((one_after_the_other, 1), (at_once, 3)):
        assert allocator_peak(lambda function=function: function(tensor)) == pytest.approx(blocks * size, rel=0.01)
        if has_resident_peak():
            before, highest = resident_peak(lambda function=function: function(pages))
            assert highest - before == pytest.approx(blocks * size, rel=0.1)


def test_memory_of_a_training_step_does_not_depend_on_what_ran_ahead_of_it():
    figures = compare(COMPARED["training"], "training", 48, Setting("tiny"), Protocol(rounds=1, chunk_sizes=(48,)))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in build_model(TINY, 1).parameters())
    ways = {
        "ours": lambda work: work.ours(48),
        "floor": lambda work: work.floor(48),
        "naive": lambda work: work.naive(),
    }
    for name, way in ways.items():
        alone = build("training", 48)
        way(alone)
        peak = allocator_peak(lambda way=way, alone=alone: way(alone))
        assert figures["peak_memory_bytes"][name] == pytest.approx(peak, rel=1e-3)
        assert peak > weights > 0.03 * peak  # so much are gradients, which each has in it


def test_the_peak_is_of_matrix_products():
    product = matrix_product_peak(CPU, torch.float32, width=512)
    assert product > 5 * matrix_product_peak(CPU, torch.float32, width=8)


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
def test_mistakes_are_told_before_anything_is_measured(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        run_script(*options)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert Path("notes.txt").read_text() == "mine"
