"""The training script as a user runs it: own files, own mistakes, a second time, from a pretrained pair."""

import copy
import json
import math
import os
import platform
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import tiny
import torch
from cases import cases
from counting import encoded_texts
from paths import SCRIPTS
from tokenizers.normalizers import Lowercase
from transformers import AutoModel, AutoProcessor, BertModel, GPT2LMHeadModel

from hf_bnvae import BNVAEModel, BNVAEProcessor
from hf_bnvae.hub.contents import list_files
from hf_bnvae.jobs.training_job import StartedRun
from hf_bnvae.reporting.evaluation_report import PICTURES
from hf_bnvae.training.sampling import posterior_noise
from hf_bnvae.utils.checkpoints import record_contents
from hf_bnvae.utils.file_names import CONTENTS_FILE
from hf_bnvae.utils.memory import freed_memory_is_kept

BOTH = pytest.mark.parametrize("script", ["run_bnvae", "run_bnvae_no_trainer"])
# Quick by one of the scripts, slow by the other.
EACH = pytest.mark.parametrize("script", cases(["run_bnvae", "run_bnvae_no_trainer"], quick=["run_bnvae"]))
LINES = [f"This is sentence number {i} of my own file ." for i in range(20)]

# The file's own 20 lines make one batch an epoch.
QUICK = tiny.SCRIPT_OPTIONS
QUICK_EVALUATION = {"num_importance_samples": 2, "device": "cpu"}


@dataclass(frozen=True)
class Finished:
    """A finished run in the folder `out` of a folder with the file `mine.txt`."""

    script: str
    folder: Path
    printed: str
    kept_memory: bool

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def read(self, name: str) -> dict:
        return json.loads((self.out / name).read_text())


def start(script: str, *arguments: str, **options) -> None:
    """Run a script in this process and in the working directory."""
    path = str(SCRIPTS / f"{script}.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *arguments, *as_flags(options)])
        runpy.run_path(path, run_name="__main__")


@pytest.fixture(scope="module", params=["run_bnvae", "run_bnvae_no_trainer"])
def finished(request, tmp_path_factory) -> Finished:
    """Tests leave it as it is."""
    folder = tmp_path_factory.mktemp(request.param)
    write_files(folder)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.chdir(folder)
        patch.setattr("hf_bnvae.utils.memory._is_kept", False)
        start(request.param, train_file="mine.txt", output_dir="out", **QUICK)
        return Finished(request.param, folder, printed.getvalue(), freed_memory_is_kept())


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a script in `tmp_path` with options as keywords."""
    monkeypatch.chdir(tmp_path)

    def run_script(*arguments: str, script: str = "run_bnvae", **options):
        start(script, *arguments, **options)

    return run_script


@pytest.fixture
def my_files(tmp_path):
    write_files(tmp_path)


def write_files(folder: Path) -> None:
    (folder / "mine.txt").write_text("\n".join(LINES))
    (folder / "mine.csv").write_text("id,review\n" + "\n".join(f"{i},{line}" for i, line in enumerate(LINES)))
    (folder / "mine.jsonl").write_text("\n".join(json.dumps({"sentence": line}) for line in LINES))


def as_flags(options: dict) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


@contextmanager
def interrupted_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run in the block gets Ctrl-C when it draws the noise of a step. It must end with the shell's status."""

    def interrupted(num_sentences, latent_size, seed, now):
        if now == step:
            raise KeyboardInterrupt
        return posterior_noise(num_sentences, latent_size, seed, now)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        for module in ("sampling", "trainer"):
            patch.setattr(f"hf_bnvae.training.{module}.posterior_noise", interrupted)
        yield


def results(folder: str = "out") -> dict:
    return json.loads(Path(folder, "all_results.json").read_text())


def evaluation(folder: str) -> dict:
    """What a run's report says of its model, whichever script wrote it."""
    report = json.loads(Path(folder, "report.json").read_text())
    return {name: report[name] for name in ("data", "figures", "verdict_text", "kl_per_dimension", "examples")}


@EACH
@pytest.mark.parametrize(
    ("file", "column"), cases([("mine.csv", "review"), ("mine.jsonl", "sentence")], quick=[("mine.csv", "review")])
)
def test_a_table_of_my_own_is_trained_on(run, my_files, capsys, script, file, column):
    run(script=script, train_file=file, text_column=column, output_dir="out", **QUICK)
    assert "18 sentences to train on, 2 held out" in capsys.readouterr().out
    assert BNVAEModel.from_pretrained("out").posterior.is_estimated


@pytest.mark.slow
@EACH
def test_a_run_of_fewer_steps_than_logging_steps_logs_a_loss(run, my_files, script):
    run(script=script, train_file="mine.txt", output_dir="out", **{**QUICK, "logging_steps": 1000})
    log = json.loads(Path("out/trainer_state.json").read_text())["log_history"]
    logged = [entry for entry in log if "loss" in entry]
    assert len(logged) == 1 and logged[0]["step"] == 3 and math.isfinite(logged[0]["loss"])
    assert "eval_latent_gain" in results()


def test_a_run_prints_what_it_trains_on_and_its_report(finished):
    assert "18 sentences to train on, 2 held out" in finished.printed
    for piece in ("| IW-NLL", "Reconstructions", "| reconstruction BLEU"):
        assert piece in finished.printed
    assert (finished.out / "report.md").read_text().strip() in finished.printed


def test_a_run_on_the_cpu_keeps_freed_memory_where_the_c_library_can(finished):
    assert finished.kept_memory == (platform.libc_ver()[0] == "glibc")


def test_what_a_run_prints_of_loading_is_python_that_works(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    assert "model = BNVAEModel.from_pretrained('out')" in finished.printed
    lines = finished.printed[finished.printed.index("from hf_bnvae import") :].strip()
    names: dict = {}
    exec(lines.replace("model.reconstruct", "text = model.reconstruct"), names)
    assert isinstance(names["text"], str)


def test_a_run_leaves_its_figures(finished):
    figures = finished.read("all_results.json")
    for name in ("reconstruction_nll", "kl", "kl_floor", "elbo", "iw_nll", "mutual_information", "active_units"):
        assert math.isfinite(figures[f"eval_{name}"]), name
    assert figures["eval_log_num_sentences"] == pytest.approx(math.log(2))


def test_figures_name_their_texts_and_versions(finished):
    figures = finished.read("all_results.json")
    assert len(figures["eval_corpus_train_sha256"]) == 64 and figures["torch_version"] == torch.__version__
    assert figures["eval_corpus_train_sha256"] != figures["eval_corpus_validation_sha256"]
    assert figures["train_samples"] == 18


def test_a_run_leaves_texts_that_its_model_makes(finished):
    examples = finished.read("examples.json")
    assert len(examples["interpolation"]) == 9
    assert all(text in finished.printed for text in [*examples["interpolation"], *examples["samples"]])


def test_a_run_leaves_a_model_that_can_be_loaded(finished):
    model, processor = AutoModel.from_pretrained(finished.out), AutoProcessor.from_pretrained(finished.out)
    assert type(model) is BNVAEModel and model.posterior.is_estimated
    batch = processor(LINES[:3], return_tensors="pt")
    assert model.encode(batch["input_ids"], batch["attention_mask"]).mean.shape == (3, 4)


def test_a_run_leaves_no_pickle_of_its_arguments(finished):
    assert not list(finished.out.rglob("training_args.bin")) and list(finished.out.rglob("run.json"))


def test_a_run_leaves_the_report_of_its_evaluation(finished):
    report = finished.read("report.json")
    figures = {f"eval_{name}": value for name, value in report["figures"].items() if value is not None}
    assert figures.items() <= finished.read("all_results.json").items() and len(figures) > 20
    assert (report["data"]["num_texts"], report["training"]["num_texts"]) == (2, 18)
    assert report["examples"] == finished.read("examples.json")
    assert report["command"] == finished.read("run.json")["command"]


def test_a_report_names_the_files_that_are_there(finished):
    names = {path.name for path in finished.out.iterdir()}
    files = set(finished.read("report.json")["files"])
    assert {"report.json", "report.md", "kl_per_dimension.png", "training_curves.png"} <= files <= names
    assert not (set(PICTURES) - files) & names


def test_a_report_stays_here_when_the_run_is_pushed(finished):
    contents = list_files(finished.out)
    for name in ("report.json", "report.md", "examples.json"):
        assert contents.left_out[name] == "holds texts of the corpus"
    assert {"model.safetensors", "model_card.json", "all_results.json"} <= contents.uploaded.keys()


@pytest.mark.slow
def test_a_script_encodes_every_text_once_for_its_report(finished, run, tmp_path):
    """For pictures, examples and figures together. A training before would encode texts for itself."""
    options = {"train_file": str(finished.folder / "mine.txt"), "model_name_or_path": str(finished.out), **QUICK}
    with encoded_texts() as counts:
        run("--do_eval", script=finished.script, output_dir="evaluated", **options)
    assert sum(counts) == 2
    with encoded_texts() as counts:  # the control: as many as are held out
        run("--do_eval", script=finished.script, output_dir="more", validation_split_percentage=50, **options)
    assert sum(counts) == 10


@pytest.mark.slow
def test_a_run_is_never_replaced_by_an_evaluation(finished, run, my_files):
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")}
    options = {"model_name_or_path": str(finished.out), "file": "mine.txt", **QUICK_EVALUATION}
    with pytest.raises(SystemExit, match="out is not empty and holds no evaluation"):
        run("--overwrite_output_dir", script="run_evaluation", output_dir=str(finished.out), **options)
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")} == before
    # The control: the folder of an evaluation may be replaced.
    for more in ([], ["--overwrite_output_dir"]):
        run(*more, script="run_evaluation", output_dir="evaluated", **options)


@pytest.mark.slow
def test_an_evaluation_can_be_compared_with_a_run(finished, run, tmp_path):
    options = {"model_name_or_path": str(finished.out), "compare_with": str(finished.out), **QUICK_EVALUATION}
    run(script="run_evaluation", output_dir="evaluated", **options)
    (other,) = json.loads(Path("evaluated/report.json").read_text())["compared_with"]
    assert other["same_texts"] and other["kl"] == finished.read("all_results.json")["eval_kl"]


def test_a_second_run_leaves_a_finished_one_alone(finished, run, monkeypatch, capsys):
    monkeypatch.chdir(finished.folder)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    run(script=finished.script, train_file="mine.txt", output_dir="out", **QUICK)
    printed = capsys.readouterr().out
    assert "finished. Nothing was done" in printed
    assert all(word in printed for word in ("look at it", "go on from it", "train anew"))
    with pytest.raises(SystemExit, match=r"other settings \(posterior: None, not 'ln'\)"):
        run(script=finished.script, train_file="mine.txt", output_dir="out", posterior="ln", **QUICK)
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


@pytest.mark.slow
def test_a_frozen_network_keeps_its_weights(finished, run, my_files):
    options = {"train_file": "mine.txt", "script": finished.script, **QUICK}
    run(output_dir="second", model_name_or_path=str(finished.out), freeze="decoder", **options)
    before, after = (BNVAEModel.from_pretrained(folder).state_dict() for folder in (finished.out, "second"))
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"encoder", "posterior", "injection", "prior"}


@pytest.mark.slow
@EACH
def test_an_encoder_pretrained_as_an_autoencoder_is_taken_over(run, my_files, capsys, script):
    options = {"train_file": "mine.txt", "script": script, "posterior": "gaussian", **QUICK}
    run(output_dir="autoencoder", beta=0, **options)
    run(output_dir="plain", **options)
    run(output_dir="vae", encoder_side_name_or_path="autoencoder", learning_rate=0, latent_learning_rate=0, **options)
    first, plain, taken = (BNVAEModel.from_pretrained(name).state_dict() for name in ("autoencoder", "plain", "vae"))
    changed = {name.split(".")[0] for name, tensor in taken.items() if not torch.equal(tensor, first[name])}
    assert changed == {"decoder", "injection"}
    assert not torch.equal(plain["posterior.mean_projection.weight"], first["posterior.mean_projection.weight"])
    with pytest.raises(SystemExit, match="has its own encoder"):
        run(output_dir="both", encoder_side_name_or_path="plain", model_name_or_path="plain", **options)


@pytest.mark.slow
@EACH
@pytest.mark.parametrize(("posterior", "more"), [("delta", {"rate": 2}), ("du", {}), ("gaussian", {})])
def test_the_remedies_to_compare_with_can_be_trained(run, my_files, script, posterior, more):
    gap = {"regularizer": "density_gap"} if posterior == "gaussian" else {}
    run(script=script, train_file="mine.txt", output_dir="out", posterior=posterior, **more, **gap, **QUICK)
    assert BNVAEModel.from_pretrained("out").config.posterior == posterior
    assert results()["eval_kl"] >= results()["eval_kl_floor"] - 0.5


@pytest.mark.slow
@EACH
def test_an_unfinished_run_is_resumed_within_an_epoch_and_ends_as_if_never_stopped(
    run, my_files, capsys, monkeypatch, script
):
    """Four texts a step make five steps an epoch. The run stops in the second epoch, and so does its checkpoint."""
    options = {"script": script, "train_file": "mine.txt", **QUICK, "per_device_train_batch_size": 4, "save_steps": 3}
    options |= {"encoder_dropout": 0.1}
    run(output_dir="whole", **options)

    with interrupted_at(7, monkeypatch):
        run(output_dir="stopped", **options)
    told = "Interrupted. Kept: stopped/checkpoint-6. The same command goes on from it."
    assert told in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"unfinished run with other settings \(latent_size: 4, not 5\)"):
        run(output_dir="stopped", **{**options, "latent_size": 5})
    run(output_dir="stopped", **options)
    assert "Resuming the unfinished run in stopped from checkpoint-6" in capsys.readouterr().out
    whole, resumed = BNVAEModel.from_pretrained("whole"), BNVAEModel.from_pretrained("stopped")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    figures = [{k: v for k, v in results(f).items() if k.startswith("eval_")} for f in ("whole", "stopped")]
    assert figures[0] == figures[1]


@pytest.mark.slow
@BOTH
def test_a_run_does_not_go_on_with_another_tokenizer(run, my_files, monkeypatch, capsys, script):
    options = {"script": script, "output_dir": "out", "train_file": "mine.txt", **QUICK}
    options |= {"per_device_train_batch_size": 4, "save_steps": 3}

    with interrupted_at(4, monkeypatch):
        run(**options)
    checkpoint = Path("out", "checkpoint-3")
    own = BNVAEProcessor.from_pretrained(checkpoint)
    other = copy.deepcopy(own)
    other.encoder_tokenizer.backend_tokenizer.normalizer = Lowercase()
    for processor in (other, own):
        processor.save_pretrained(checkpoint)
        (checkpoint / CONTENTS_FILE).unlink()
        record_contents(checkpoint)
        if processor is other:
            with pytest.raises(SystemExit, match="splits texts otherwise than the processor of the training"):
                run(**options)
    run(**options)
    assert BNVAEModel.from_pretrained("out").config.processor_sha256 == own.fingerprint()


@pytest.mark.slow
def test_both_scripts_make_the_same_model_and_report(run, my_files):
    options = {**QUICK, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "encoder_dropout": 0.1}
    options["auxiliary"] = "bag_of_words"
    for script in ("run_bnvae", "run_bnvae_no_trainer"):
        run(script=script, train_file="mine.txt", output_dir=script, **options)
    first, second = BNVAEModel.from_pretrained("run_bnvae"), BNVAEModel.from_pretrained("run_bnvae_no_trainer")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert evaluation("run_bnvae") == evaluation("run_bnvae_no_trainer")
    # The control: another seed, another model.
    run(train_file="mine.txt", output_dir="other", seed=1, **options)
    assert evaluation("run_bnvae") != evaluation("other")


def test_checkpoints_of_one_loop_are_none_of_the_others(run, my_files, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(StartedRun, "evaluate", stop)  # before the run is marked as finished
    with pytest.raises(SystemExit, match="130"):
        run(train_file="mine.txt", output_dir="out", **QUICK)
    with pytest.raises(SystemExit, match=r"other settings \(loop: 'Trainer', not 'Accelerate'\)"):
        run(script="run_bnvae_no_trainer", train_file="mine.txt", output_dir="out", **QUICK)


@pytest.mark.parametrize(
    "option",
    [
        {"load_best_model_at_end": "true"},
        {"train_sampling_strategy": "group_by_length"},
        {"fsdp": "full_shard"},
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
    ],
)
def test_the_own_loop_passes_over_no_option_in_silence(run, my_files, option):
    options = {**QUICK, "posterior": "gaussian", "save_strategy": "epoch", "eval_strategy": "epoch", **option}
    with pytest.raises(SystemExit, match=f"does not have {next(iter(option))}"):
        run(script="run_bnvae_no_trainer", train_file="mine.txt", output_dir="out", **options)
    assert not Path("out").exists()


@pytest.fixture
def torchrun(my_files, tmp_path):
    """A function that runs a script in two processes on `mine.txt`, each with half of every posterior batch."""

    def run_script(script: str, folder: str, **changed):
        options = {**QUICK, "per_device_train_batch_size": 8, "num_train_epochs": 2, **changed}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += [str(SCRIPTS / f"{script}.py")]
        command += as_flags({**options, "train_file": "mine.txt", "output_dir": folder})
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run_script


# The trainer in two processes has quick tests of its own: tests/training/test_distributed.py.
@pytest.mark.slow
@BOTH
def test_two_processes_make_one_run(torchrun, tmp_path, script):
    """And what they print is printed once."""
    ended = torchrun(script, "two")
    assert ended.returncode == 0, ended.stderr[-3000:]
    for piece in ("18 sentences to train on", "| latent gain", "BNVAEModel.from_pretrained('two')"):
        assert ended.stdout.count(piece) == 1, piece
    assert (ended.stdout + ended.stderr).count("The latent space is d") <= 2  # the warning, and the report's verdict
    assert json.loads((tmp_path / "two" / "run.json").read_text())["finished"]
    assert math.isfinite(json.loads((tmp_path / "two" / "all_results.json").read_text())["eval_kl"])
    model = BNVAEModel.from_pretrained(tmp_path / "two")
    assert model.posterior.is_estimated


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="an accelerator's processes find each other")
@BOTH
def test_processes_that_would_train_apart_are_refused(torchrun, tmp_path, script):
    """On the CPU a process must be told to look for others. Otherwise each would write its model over the other's."""
    ended = torchrun(script, "apart", use_cpu="false")
    assert ended.returncode != 0 and "2 processes were started together" in ended.stderr
    assert not (tmp_path / "apart").exists()


@pytest.mark.slow
def test_a_trained_model_is_gone_on_with(finished, run, my_files):
    options = {"train_file": "mine.txt", "model_name_or_path": str(finished.out), "script": finished.script, **QUICK}
    run(output_dir="more", **{**options, "latent_size": 4})
    first, second = BNVAEModel.from_pretrained(finished.out), BNVAEModel.from_pretrained("more")
    assert not torch.equal(first.decoder.lm_head.weight, second.decoder.lm_head.weight)
    with pytest.raises(SystemExit, match=r"its own latent_size \(4\), which cannot be changed"):
        run(output_dir="wider", **{**options, "latent_size": 6})


@pytest.mark.slow
def test_a_trained_model_is_evaluated_without_training(finished, run, my_files, capsys):
    options = {"train_file": "mine.txt", "model_name_or_path": str(finished.out), "script": finished.script, **QUICK}
    run("--do_eval", output_dir="evaluated", **options)
    assert results("evaluated")["eval_kl"] == finished.read("all_results.json")["eval_kl"]
    assert "train_loss" not in results("evaluated")
    printed = capsys.readouterr().out
    assert "The figures are in evaluated" in printed and "Saved to evaluated" not in printed


@pytest.mark.slow
def test_a_pretrained_pair_is_fine_tuned_from_a_file_of_options(
    run, my_files, processor, encoder_config, decoder_config
):
    torch.manual_seed(3)
    for name, model, tokenizer in (
        ("encoder", BertModel(encoder_config), processor.encoder_tokenizer),
        ("decoder", GPT2LMHeadModel(decoder_config), processor.tokenizer),
    ):
        model.save_pretrained(name)
        tokenizer.save_pretrained(name)
    options = {
        "encoder_name_or_path": "encoder",
        "decoder_name_or_path": "decoder",
        "train_file": "mine.txt",
        "output_dir": "out",
        "posterior": "bn_rms",
        "rate": 3.0,
        "latent_size": 6,
        "max_steps": 2,
        "disable_tqdm": True,
        "num_importance_samples": 2,
    }
    Path("options.json").write_text(json.dumps(options))
    run("options.json")
    model = BNVAEModel.from_pretrained("out")
    assert (model.config.posterior, model.config.kl_floor) == ("bn_rms", 3.0)
    assert results()["eval_kl_floor"] == pytest.approx(3.0, rel=1e-5)
    with pytest.raises(SystemExit, match="'bert', no BNVAE"):
        run(train_file="mine.txt", model_name_or_path="encoder", output_dir="other")


@pytest.mark.slow
@pytest.mark.parametrize("known", ["encoder", "decoder"])
def test_one_pretrained_network_gets_a_small_new_partner(
    run, my_files, processor, encoder_config, decoder_config, known
):
    torch.manual_seed(3)
    if known == "encoder":
        network, tokenizer = BertModel(encoder_config, add_pooling_layer=False), processor.encoder_tokenizer
    else:
        network, tokenizer = GPT2LMHeadModel(decoder_config), processor.tokenizer
    network.save_pretrained("known")
    tokenizer.save_pretrained("known")
    options = {f"{known}_name_or_path": "known", "freeze": known, "train_file": "mine.txt", "output_dir": "out"}
    run(**{**QUICK, **options, "normalize_features": "true", "num_layers": 1})
    model, trained = BNVAEModel.from_pretrained("out"), BNVAEProcessor.from_pretrained("out")
    kept, new = getattr(model, known), model.decoder if known == "encoder" else model.encoder
    assert all(torch.equal(tensor, kept.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert new.config.num_hidden_layers == 1 and kept.config.num_hidden_layers == 2
    own = trained.tokenizer if known == "encoder" else trained.encoder_tokenizer
    assert len(own) == new.config.vocab_size == 300 and model.config.normalize_features
    assert len(trained.encoder_tokenizer) != len(trained.tokenizer)
    assert isinstance(model.attach_processor(trained).reconstruct("The food likes fresh bread ."), str)


@pytest.mark.slow
def test_attention_is_the_one_that_was_asked_for(run, my_files, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("sdpa")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refuse)
    run(train_file="mine.txt", output_dir="out", attn_implementation="eager", **QUICK)
    with pytest.raises(AssertionError, match="sdpa"):
        run(train_file="mine.txt", output_dir="other", **QUICK)


@pytest.mark.slow
def test_long_texts_are_kept_with_a_longer_limit_and_lost_texts_are_counted_without(run, tmp_path, caplog):
    texts = [" ".join(f"word{(7 * i + j) % 50}" for j in range(8 + 8 * i)) for i in range(12)]
    (tmp_path / "long.txt").write_text("\n".join(texts))
    (tmp_path / "short.txt").write_text("word1\nword2")
    options = {**QUICK, "train_file": "long.txt", "validation_file": "short.txt", "max_steps": 1, "vocab_size": 400}
    run(output_dir="long", max_seq_length=300, **options)
    assert "were cut" not in caplog.text
    model, processor = BNVAEModel.from_pretrained("long"), BNVAEProcessor.from_pretrained("long")
    longest = max(map(len, processor(texts)["labels"]))
    assert 64 < longest < 300 == model.config.decoder.n_positions == model.config.encoder.max_position_embeddings
    # The control: by default 64 tokens, of which the latent, EOS and the encoder's own take two.
    run(output_dir="short", **options)
    (told,) = (message for message in caplog.messages if "were cut" in message)
    tokenizer = BNVAEProcessor.from_pretrained("short").tokenizer
    counts = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    lost = [count - 62 for count in counts if count > 62]
    assert told.startswith(f"{len(lost)} of 12 texts of the training set were cut, and ")
    share = int(re.search(r"(\d+)% of all tokens", told)[1])
    assert 10 < share == pytest.approx(100 * sum(lost) / sum(counts), abs=1)
    # The number that the message gives is the smallest one that keeps all texts whole.
    needed = int(re.search(r"keeps them whole with --max_seq_length (\d+)\.$", told)[1])
    for length, is_told in ((needed, False), (needed - 1, True)):
        caplog.clear()
        run(output_dir=f"run-{length}", max_seq_length=length, **options)
        assert ("1 of 12 texts of the training set were cut" in caplog.text) == is_told


@pytest.mark.slow
def test_a_trained_model_takes_texts_as_long_as_its_networks_allow(finished, run, my_files):
    options = {"train_file": "mine.txt", "script": finished.script, **QUICK, "max_steps": 1}
    run(output_dir="shorter", model_name_or_path=str(finished.out), max_seq_length=10, **options)
    assert BNVAEProcessor.from_pretrained("shorter").tokenizer.model_max_length == 10
    run(output_dir="longer", model_name_or_path="shorter", max_seq_length=64, **options)
    assert BNVAEProcessor.from_pretrained("longer").tokenizer.model_max_length == 64
    with pytest.raises(SystemExit, match="--max_seq_length 65 is more than the encoder's 64 positions"):
        run(output_dir="longest", model_name_or_path="shorter", max_seq_length=65, **options)


def test_mistakes_are_told_before_anything_is_written(run, my_files, tmp_path):
    for options, message in (
        ({"train_file": "mine.csv"}, "Its columns: id, review"),
        ({"train_file": "mine.txt", "bn_tau": 3}, "bn_tau must lie strictly between 0 and 1, got 3"),
        ({"train_file": "mine.txt", "posterior": "gaussian", "rate": 3}, "no floor"),
        ({"train_file": "mine.txt", "max_train_samples": 1}, "At least two training texts"),
        ({"train_file": "mine.txt", "attn_implementation": "fast"}, 'attn_implementation="fast"'),
        ({"train_file": "mine.txt", "gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(output_dir="out", **{**QUICK, **options})
        assert not (tmp_path / "out").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(SystemExit, match="not made by this script"):
        run(train_file="mine.txt", output_dir="thesis", **QUICK)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
