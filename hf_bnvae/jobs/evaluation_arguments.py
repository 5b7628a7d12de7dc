# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of an evaluation of a saved model, their help, and the command that repeats the evaluation."""

import glob
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..reporting.commands import PROGRAM, command_line
from ..utils.numeric_fields import require_numbers
from ..utils.terminal import say
from .option_parser import COMMON_HELP, HELP_WORDS, CommandParser, OptionGroup, options_of, render_help
from .text_format_arguments import TextFormatArguments, one_or_several


@dataclass
class EvaluationArguments(TextFormatArguments):
    """The options of an evaluation of a saved model."""

    model_name_or_path: str = field(
        metadata={"help": "Hub name or folder of model and processor. Required.", "aliases": ["--model"]}
    )
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit on the Hub."})
    token: str | None = field(default=None, metadata={"help": "Token for private repositories of the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code from the Hub."})
    device: str | None = field(
        default=None, metadata={"help": "Where to run. Without it: on an accelerator if there is one."}
    )
    file: list[str] | None = field(
        default=None,
        metadata={
            "help": "Texts: files, a folder or a pattern, as for a training. Without texts: those that the training "
            "held out."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub, instead of a file."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "The configuration of that data set."})
    dataset_split: str = field(default="test", metadata={"help": "The split of that data set."})
    text_column: str | None = field(default=None, metadata={"help": "The column that holds the texts."})
    condition_column: str | None = field(
        default=None, metadata={"help": "The column with the condition of each text, for a conditional model."}
    )
    max_eval_samples: int = field(
        default=10000,
        metadata={
            "help": "Evaluate on this number of texts, the first ones. Mutual information takes time of their square."
        },
    )
    label_column: str | None = field(
        default=None,
        metadata={"help": "The column that holds labels. A linear classifier predicts them from the latents."},
    )
    probe_train_file: list[str] | None = field(
        default=None,
        metadata={"help": "Labelled texts that train the classifier. Without them: half of the evaluated texts."},
    )
    probe_train_split: str | None = field(
        default=None, metadata={"help": "The split of --dataset_name that trains the classifier."}
    )
    max_probe_train_samples: int = field(
        default=10000, metadata={"help": "Train the classifier on this number of texts, the first ones."}
    )
    labels_per_class: list[int] = field(
        default_factory=lambda: [10, 100],
        metadata={"help": "Train the classifier with these numbers of labels per class, too."},
    )
    num_draws: int = field(default=10, metadata={"help": "Random draws of these labels."})
    num_importance_samples: int = field(default=100, metadata={"help": "Samples for the log p(x) of each text."})
    max_importance_sentences: int = field(
        default=500, metadata={"help": "Number of texts whose log p(x) is estimated."}
    )
    judge_language_model: str | None = field(
        default=None,
        metadata={"help": "A causal language model, independent of the model, that scores samples: name or folder."},
    )
    judge_encoder: str | None = field(
        default=None,
        metadata={"help": "A text encoder, independent of the model, that compares samples with the texts."},
    )
    num_judged_samples: int = field(
        default=500,
        metadata={"help": "Texts of each kind to judge; at most half of the held-out texts."},
    )
    num_examples: int = field(
        default=5, metadata={"help": "Reconstructions, and samples of the prior, in the report."}
    )
    batch_size: int = field(default=64, metadata={"help": "Texts that are encoded or decoded at once."})
    seed: int = field(default=42, metadata={"help": "Seed of all random numbers."})
    compare_with: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders or report.json of other evaluations, which the report compares with this one."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the report. Without it: evaluations/<model>-<texts>."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace an evaluation in --output_dir."})

    update_card: bool = field(
        default=False,
        metadata={"help": "Also put figures and pictures into the model card in the folder of the model."},
    )

    def __post_init__(self) -> None:
        self.file, self.probe_train_file = map(one_or_several, (self.file, self.probe_train_file))
        require_numbers(self)
        _ = self.text_format  # checks it before any text is read
        if self.update_card and not Path(self.model_name_or_path).is_dir():
            raise ValueError(
                f"--update_card writes to the folder of the model, and {self.model_name_or_path} is no folder. "
                "Evaluate the folder that you push."
            )
        if self.file is not None and self.dataset_name is not None:
            raise ValueError("Give either --file or --dataset_name, not both.")
        least = {"max_eval_samples": 2, "max_probe_train_samples": 2, "num_judged_samples": 2, "seed": 0}
        for name in ("num_draws", "num_importance_samples", "max_importance_sentences", "num_examples", "batch_size"):
            least[name] = 1
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {getattr(self, name)}.")
        if min(self.labels_per_class, default=2) < 2:
            raise ValueError(f"labels_per_class must be 2 or more each, got {self.labels_per_class}.")
        if self.label_column is None and (self.probe_train_file or self.probe_train_split):
            raise ValueError("--probe_train_file and --probe_train_split need --label_column.")
        for name in ("text_column", "label_column", "condition_column"):
            if getattr(self, name) is not None and self.file is None and self.dataset_name is None:
                raise ValueError(
                    f"--{name} needs --file or --dataset_name. The held-out texts of a training have their columns."
                )
        if self.probe_train_file and self.probe_train_split:
            raise ValueError("Give either --probe_train_file or --probe_train_split, not both.")
        if self.probe_train_split and self.dataset_name is None:
            raise ValueError("--probe_train_split needs --dataset_name.")
        if _resolved(self.file) & _resolved(self.probe_train_file) or (
            self.probe_train_split is not None and self.probe_train_split == self.dataset_split
        ):
            raise ValueError(
                "The probe would be tested on the texts that train it. Leave --probe_train_file and "
                "--probe_train_split out: then one half of the texts trains the probe and the other half tests it."
            )

    @property
    def path(self) -> Path:
        """The folder of the report."""
        if self.output_dir is not None:
            return Path(self.output_dir)
        model = Path(self.model_name_or_path)
        texts = "held-out"
        if self.file is not None:
            texts = _name_of([self.file] if isinstance(self.file, str) else self.file)
        elif self.dataset_name is not None:
            texts = f"{Path(self.dataset_name).name}-{self.dataset_split}"
        name = f"{(model.resolve() if model.is_dir() else model).name}-{texts}"
        return Path("evaluations", re.sub(r"[^\w.-]+", "-", name))

    def command(self) -> str:
        """The command that repeats the evaluation, without the token."""
        options = {}
        for own in fields(self):
            default = own.default_factory() if callable(own.default_factory) else own.default
            value = getattr(self, own.name)
            if own.name not in ("token", "overwrite_output_dir", "update_card") and value != default:
                options[own.name] = value
        return command_line((PROGRAM, "evaluate"), options)


def _name_of(files: list[str]) -> str:
    """A name for a report on files: the first file or folder without ending, and how many more there are. A pattern
    gives its name without wild cards. If nothing is left of the name, it gives its folder's."""
    first, *others = files
    path = Path(first).resolve()
    name = path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem
    if glob.has_magic(name) and not path.exists():
        parts = (name, *(parent.name for parent in path.parents))
        fixed = (re.sub(r"\[.*?\]|[*?]", "", part).strip("-_. ") for part in parts)
        name = next(filter(None, fixed), "texts")
    return f"{name}-and-{len(others)}-more" if others else name


def _resolved(names: str | list[str] | None) -> set[Path]:
    return {Path(name).resolve() for name in ([names] if isinstance(names, str) else names or [])}


EVALUATION_GROUPS = (
    OptionGroup(
        "model",
        "Which model to evaluate, and where it runs.",
        ("model_name_or_path", "revision", "token", "trust_remote_code", "device", "batch_size", "seed"),
    ),
    OptionGroup(
        "texts",
        "Which texts to evaluate it on.",
        (
            "file",
            "dataset_name",
            "dataset_config_name",
            "dataset_split",
            "text_column",
            "condition_column",
            "max_eval_samples",
            *(own.name for own in fields(TextFormatArguments)),
        ),
    ),
    OptionGroup("figures", "How precise the estimates are.", ("num_importance_samples", "max_importance_sentences")),
    OptionGroup(
        "samples",
        "How good the model's texts are, by independent judges. Hub name, folder or .gguf file.",
        ("judge_language_model", "judge_encoder", "num_judged_samples"),
    ),
    OptionGroup(
        "probe",
        "What a linear classifier reads from the latents. Needs the extra `probe`.",
        (
            "label_column",
            "probe_train_file",
            "probe_train_split",
            "max_probe_train_samples",
            "labels_per_class",
            "num_draws",
        ),
    ),
    OptionGroup(
        "report",
        "The folder gets report.md, report.json and pictures.",
        ("output_dir", "overwrite_output_dir", "num_examples", "compare_with", "update_card"),
    ),
)


def evaluation_help() -> str:
    """The help of an evaluation."""
    options = options_of(EvaluationArguments) | COMMON_HELP
    program = f"{PROGRAM} evaluate"
    return render_help(
        f"{program} --model MODEL [--OPTION VALUE ...]",
        "Evaluate a saved BN-VAE: figures, pictures of its latent space, and texts that it makes, in one folder.",
        (*EVALUATION_GROUPS, OptionGroup("other", "Help.", list(COMMON_HELP))),
        options,
        f"{program} --model runs/bnvae\n{program} --model runs/reviews --file test.csv --text_column review "
        "--label_column stars",
    )


def parse_evaluation_arguments(argv: Sequence[str] | None = None) -> EvaluationArguments:
    """
    The options of an evaluation from a command line.

    Args:
        argv (`Sequence[str]`, *optional*): The arguments. The arguments of the process if not given.

    Raises:
        ValueError: for an unknown option, or a value that an option cannot take.
        SystemExit: after the help was printed.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if set(HELP_WORDS) & set(argv):
        say(evaluation_help())
        raise SystemExit(0)
    parser = CommandParser(EvaluationArguments, prog=f"{PROGRAM} evaluate", add_help=False)
    return EvaluationArguments(**parser.typed_options(argv))
