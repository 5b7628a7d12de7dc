"""A campaign of faults: kills, damaged files, flipped bits, races, and wrong calls.

    python tests/helpers/campaign.py kills --script run_bnvae.py --seed 1 --count 100
    python tests/helpers/campaign.py damages --action load --seed 1 --count 100
    python tests/helpers/campaign.py flips --seed 1 --count 300
    python tests/helpers/campaign.py races --seed 1 --count 30
    python tests/helpers/campaign.py calls --seed 1 --count 1000
    python tests/helpers/campaign.py configurations --seed 1 --count 5000
    python tests/helpers/campaign.py encodings --seed 1 --count 10

Each prints how often each outcome came, and every outcome that should not be. The tests of the same faults are few and
fixed; this program draws them at random, so that another seed finds others. The results stand in `tests/README.md`."""

import argparse
import contextlib
import io
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import tiny
import torch
from configurations import CONFIGURATIONS, use_configuration
from damages import DAMAGES, damage_file
from fuzz import fuzz_forward, fuzz_generate
from paths import HELPERS, ROOT, SCRIPTS
from safetensors.torch import load_file

from hf_bnvae import BNVAEModel
from hf_bnvae.cli import main as command
from hf_bnvae.hub.folder_check import check_folder
from hf_bnvae.model.saved_files_bnvae import CHECKSUMS_FILE
from hf_bnvae.reporting.model_card import is_sealed

SECONDS = 600
OPTIONS = {
    **tiny.SCRIPT_OPTIONS,
    "train_file": "mine.txt",
    "encoder_dropout": 0.1,
    "per_device_train_batch_size": 8,
    "max_steps": 8,
    "auxiliary": "bag_of_words",
    "save_steps": 2,
    "save_total_limit": 2,
    "eval_strategy": "no",
    "logging_steps": 1,
    "num_importance_samples": 2,
}
# Where a run is killed, besides at a random time: when it opens a file with this ending. See `helpers/killed_at.py`.
MOMENTS = (
    "run.json.partial",
    "contents.json.partial",
    "checksums.json.partial",
    "trainer_state.json",
    "report.json.partial",
    "report.md.partial",
    "examples.json.partial",
    "kl_per_dimension.png.partial",
    "aggregated_posterior.png.partial",
    "model_card.json.partial",
    "README.md.partial",
    "all_results.json",
    "config.json",
    "tokenizer.json",
)


class Runs:
    """Training runs in a folder, each in a process of its own."""

    def __init__(self, folder: Path, script: str) -> None:
        self.folder, self.script = folder, str(SCRIPTS / script)
        (folder / "mine.txt").write_text("\n".join(tiny.make_texts(64)))

    def start(self, out: str, moment: tuple[str, int] | None = None) -> subprocess.Popen:
        watcher = [] if moment is None else [str(HELPERS / "killed_at.py"), "open", *map(str, moment)]
        options = [part for name, value in OPTIONS.items() for part in (f"--{name}", str(value))]
        threads = {"OMP_NUM_THREADS": "1", "HF_HOME": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{out}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, *watcher, self.script, *options, "--output_dir", out],
                cwd=self.folder,
                env={**os.environ, **threads},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def outcome(self, out: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        figures = json.loads((self.folder / out / "all_results.json").read_text())
        return load_file(self.folder / out / "model.safetensors"), {n: v for n, v in figures.items() if "eval_" in n}

    def differences(self, out: str, expected: tuple[dict[str, torch.Tensor], dict[str, float]]) -> list[str]:
        """What a finished run has that it should not have."""
        tensors, figures = self.outcome(out)
        folder = self.folder / out
        found = [name for name, tensor in expected[0].items() if not torch.equal(tensors[name], tensor)]
        found += [name for name in expected[1] if figures[name] != expected[1][name]]
        found += [problem for problem in check_folder(folder).values() if problem is not None]
        found += [] if is_sealed((folder / "README.md").read_text()) else ["README.md is not sealed"]
        found += [name for name in ("report.md", "run.json") if not (folder / name).is_file()]
        found += [f"{path.name} is left" for path in folder.rglob("*.partial")]
        return found


def kills(seed: int, count: int, script: str) -> Counter[str]:
    """Kill runs, several times each, until they finish; compare each with a run that was never killed."""
    draw, found = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name), script)
        began = time.monotonic()
        runs.start("whole").wait(SECONDS)
        most, whole = time.monotonic() - began, runs.outcome("whole")
        while found["killed"] < count:
            shutil.rmtree(runs.folder / "out", ignore_errors=True)
            for _ in range(draw.randint(2, 6)):
                moment = (draw.choice(MOMENTS), draw.randint(1, 3)) if draw.random() < 0.5 else None
                process = runs.start("out", moment)
                try:
                    process.wait(SECONDS if moment else draw.uniform(0.2, 1.0) * most)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if process.returncode == 0:
                    break
                found["killed" if process.returncode == -signal.SIGKILL else "ended with an error"] += 1
            try:
                status = runs.start("out").wait(SECONDS)
            except subprocess.TimeoutExpired:
                found["hung"] += 1
                continue
            differences = ["exit status"] if status else runs.differences("out", whole)
            found["finished as if never killed" if not differences else f"differs: {differences}"] += 1
    return found


def races(seed: int, count: int, script: str) -> Counter[str]:
    """Start two runs in one folder at nearly the same time: one trains, the other leaves everything as it is."""
    draw, found = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name), script)
        runs.start("whole").wait(SECONDS)
        whole = runs.outcome("whole")
        for turn in range(count):
            out = f"out{turn}"
            first = runs.start(out)
            time.sleep(draw.choice([0, draw.uniform(0, 8)]))
            second = runs.start(out)
            statuses = sorted([first.wait(SECONDS), second.wait(SECONDS)])
            differences = runs.differences(out, whole) if 0 in statuses else ["none finished"]
            found[f"one result, exit statuses {statuses}" if not differences else f"differs: {differences}"] += 1
    return found


def damages(seed: int, count: int, script: str, action: str) -> Counter[str]:
    """Damage one file of a model's folder, or of the last checkpoint of an unfinished run, and use the folder."""
    draw, found = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        runs = Runs(Path(name), script)
        runs.start("whole").wait(SECONDS)
        expected: Any = None
        if action == "resume":
            expected, place = runs.outcome("whole"), "checkpoint-6"
            runs.start("unfinished", ("checkpoint-8/config.json", 1)).wait(SECONDS)
            shutil.rmtree("unfinished/checkpoint-8", ignore_errors=True)
        else:
            Path("whole").rename("unfinished")
            shutil.copytree("unfinished", "out")
            expected, place = ACTIONS[action](runs), "."
        files = [file for file in sorted(Path("unfinished", place).rglob("*")) if file.is_file()]
        if action != "resume":
            files = [file for file in files if is_used(file.relative_to("unfinished"))]
        for _ in range(count):
            shutil.rmtree("out", ignore_errors=True)
            shutil.copytree("unfinished", "out")
            file, damage = Path("out", draw.choice(files).relative_to("unfinished")), draw.choice(list(DAMAGES))
            before = file.read_bytes()
            try:
                damage_file(file, damage, draw.randrange(10**6))
            except (ValueError, UnicodeDecodeError):  # no JSON, whose fields could be changed
                continue
            if file.is_file() and file.read_bytes() == before:
                continue
            shutil.rmtree("evaluations", ignore_errors=True)
            found[judged(runs, action, file, damage, expected)] += 1
    return found


def is_used(file: Path) -> bool:
    """Whether a file of a run's folder matters to whoever uses the model: it is no picture, report, record or code."""
    return (
        re.search(r"^checkpoint-|\.(png|md|py)$|(report|results|examples|run|state|args|card)\.json$", file.as_posix())
        is None
    )


def judged(runs: Runs, action: str, file: Path, damage: str, expected: Any) -> str:
    """What a use of the damaged folder comes to."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            result = ACTIONS[action](runs)
    except (Exception, SystemExit) as error:
        words = f"{error} {told.getvalue()}"
        is_error = isinstance(error, (SystemExit, ValueError, OSError, FloatingPointError))
        if is_error and file.name in words:
            return "refused, and the file named"
        return f"unclear: {file} {damage}: {type(error).__name__} {str(error)[:200]}"
    if same(result, expected):
        return "as without damage"
    return f"silently different: {file} {damage}"


def same(result: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return torch.equal(result, expected)
    if isinstance(expected, dict):
        return result.keys() == expected.keys() and all(same(result[name], expected[name]) for name in expected)
    if isinstance(expected, (list, tuple)):
        return len(result) == len(expected) and all(map(same, result, expected))
    return result == expected


def load(runs: Runs) -> Any:
    """Latents and texts of a loaded model."""
    model = BNVAEModel.from_pretrained("out", verify_checksums=True).eval()
    texts = tiny.make_texts(4)
    return [model.encode_texts(texts), model.reconstruct(texts), model.sample(3, seed=0)]


def evaluate(runs: Runs) -> Any:
    """The figures of `hf-bnvae evaluate`."""
    command(["evaluate", "--model", "out", "--file", "mine.txt", "--num_importance_samples", "2"])
    return json.loads(next(Path("evaluations").rglob("report.json")).read_text())["figures"]


def push(runs: Runs) -> Any:
    """What a push would upload: the files, and what is in them."""
    from hf_bnvae.hub.contents import list_files

    command(["push", "out", "--repo_id", "ada/model", "--dry_run"])
    names = set(list_files("out").uploaded) - {CHECKSUMS_FILE}  # a folder without it passes
    contents = {name: Path("out", name).read_bytes() for name in names}
    return {name: json.loads(content) if name.endswith(".json") else content for name, content in contents.items()}


def resume(runs: Runs) -> Any:
    """The outcome of a run that goes on."""
    options = [part for name, value in OPTIONS.items() for part in (f"--{name}", str(value))]
    arguments = sys.argv
    sys.argv = [runs.script, *options, "--output_dir", "out"]
    try:
        runpy.run_path(runs.script, run_name="__main__")
    finally:
        sys.argv = arguments
    return runs.outcome("out")


ACTIONS: dict[str, Callable[[Runs], Any]] = {"load": load, "evaluate": evaluate, "push": push, "resume": resume}


def flips(seed: int, count: int) -> Counter[str]:
    """Flip one bit of the weights. Are they found by their checksum, and what does loading without it do?"""
    draw, found = random.Random(seed), Counter()
    processor = tiny.make_processor(tiny.make_texts(400))
    with tempfile.TemporaryDirectory() as name:
        tiny.build_model(*tiny.make_configs(processor)).save_pretrained(name)
        file = Path(name, "model.safetensors")
        whole = file.read_bytes()
        for _ in range(count):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            file.write_bytes(damaged)
            for check in (True, False):
                try:
                    BNVAEModel.from_pretrained(name, verify_checksums=check)
                    found[f"checked {check}: loaded"] += 1
                except (ValueError, OSError) as error:
                    is_named = "model.safetensors" in str(error) or str(name) in str(error)
                    found[f"checked {check}: {'refused, and the file named' if is_named else error}"] += 1
    return found


def calls(seed: int, count: int) -> Counter[str]:
    """Random calls of the model, and half as many of `generate`."""
    processor = tiny.make_processor(tiny.make_texts(400))
    model = tiny.build_model(*tiny.make_configs(processor), posterior="bn_rms")
    found = Counter({f"forward: {name}": number for name, number in fuzz_forward(model, seed, count).items()})
    return found + Counter({f"generate: {n}": k for n, k in fuzz_generate(model, seed, count // 2).items()})


def configurations(seed: int, count: int) -> Counter[str]:
    """Random configurations, and a training step of each one that is not refused."""
    found: Counter[str] = Counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(CONFIGURATIONS)
    def use(drawn: dict[str, Any]) -> None:
        try:
            found[use_configuration(**drawn)] += 1
        except Exception as error:
            found[f"{type(error).__name__}: {str(error)[:200]}"] += 1

    use()
    return found


def encodings(seed: int, count: int) -> Counter[str]:
    """Kill an encoding of 40 tasks, all of it or one of its processes, and repeat the command; compare the files with
    those of an encoding that was never killed."""
    draw, found, tasks = random.Random(seed), Counter(), 40
    texts = tiny.make_texts(800)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        processor = tiny.make_processor(texts)
        model = tiny.train_model(processor, texts[:400])
        model.save_pretrained("model")
        processor.save_pretrained("model")
        Path("mine.txt").write_text("\n".join(texts))

        def start(out: str) -> subprocess.Popen:
            options = ["--model", "model", "--tasks", str(tasks), "--workers", "2", "--num_draws", "1"]
            with open("log.txt", "a") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "hf_bnvae.cli", "encode", "mine.txt", out, "--disable_tqdm", *options],
                    env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": f"{name}/cache"},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        def files(out: str) -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in Path(out).glob("*.parquet")}

        start("whole").wait(SECONDS)
        whole = files("whole")
        while found["all killed"] + found["one process killed"] < count:
            shutil.rmtree("out", ignore_errors=True)
            for _ in range(draw.randint(1, 4)):
                process, many = start("out"), draw.randrange(tasks - 1)
                while process.poll() is None and len(files("out")) <= many:
                    time.sleep(0.01)
                time.sleep(draw.uniform(0, 0.3))
                workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
                if process.poll() is None and (not workers or draw.random() < 0.5):
                    os.killpg(process.pid, signal.SIGKILL)
                    found["all killed"] += 1
                elif process.poll() is None:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        draw.choice(workers).kill()
                        found["one process killed"] += 1
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    found["hung"] += 1
                found["half files" if not files("out").items() <= whole.items() else "whole files only"] += 1
            status = start("out").wait(SECONDS)
            left = [path.name for path in Path("out").iterdir() if path.suffix == ".partial"]
            is_equal = status == 0 and files("out") == whole and not left
            found["ended as if never killed" if is_equal else f"differs: status {status}, left {left}"] += 1
    return found


KINDS = {
    "kills": kills,
    "races": races,
    "damages": damages,
    "flips": flips,
    "calls": calls,
    "configurations": configurations,
    "encodings": encodings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--script", default="run_bnvae.py", choices=["run_bnvae.py", "run_bnvae_no_trainer.py"])
    parser.add_argument("--action", default="load", choices=ACTIONS)
    args = parser.parse_args()
    takes = {"kills": ("script",), "races": ("script",), "damages": ("script", "action")}.get(args.kind, ())
    found = KINDS[args.kind](args.seed, args.count, **{name: getattr(args, name) for name in takes})
    print(" ".join([args.kind, *(getattr(args, name) for name in takes), f"seed {args.seed}"]))
    for outcome, number in found.most_common():
        print(f"  {number:5} {outcome}")


if __name__ == "__main__":
    main()
