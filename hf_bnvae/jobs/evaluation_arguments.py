# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The options of the script that evaluates a saved model, and the command line that repeats them."""

import re
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path


@dataclass
class EvaluationArguments:
    """The options of `scripts/run_evaluation.py`."""

    model_name_or_path: str = field(metadata={"help": "Hub name or folder of model and processor."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit on the Hub."})
    token: str | None = field(default=None, metadata={"help": "Token for private repositories of the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code from the Hub."})
    device: str | None = field(default=None, metadata={"help": "Where to run; an accelerator if there is one."})
    file: str | None = field(default=None, metadata={"help": "Texts: .txt, .csv, .tsv, .json, .jsonl."})
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub instead."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    dataset_split: str = field(default="test", metadata={"help": "Its split."})
    text_column: str | None = field(default=None, metadata={"help": "The column that holds the texts."})
    max_eval_samples: int = field(
        default=10000,
        metadata={"help": "Evaluate on the first so many texts only: mutual information takes time of their square."},
    )
    label_column: str | None = field(
        default=None, metadata={"help": "The column that holds labels: what can a linear classifier read of them?"}
    )
    probe_train_file: str | None = field(
        default=None,
        metadata={"help": "Labelled texts to train that classifier on; half of the others if neither is given."},
    )
    probe_train_split: str | None = field(default=None, metadata={"help": "Or the data set's split of them."})
    max_probe_train_samples: int = field(default=10000, metadata={"help": "Of these the first so many only."})
    labels_per_class: list[int] = field(
        default_factory=lambda: [10, 100], metadata={"help": "Train it with so many labels of each class, too."}
    )
    num_draws: int = field(default=10, metadata={"help": "Random draws of those labels."})
    num_importance_samples: int = field(default=100, metadata={"help": "Samples for each text's log p(x)."})
    max_importance_sentences: int = field(default=500, metadata={"help": "Of how many texts."})
    num_examples: int = field(default=5, metadata={"help": "Reconstructions and prior samples to show."})
    batch_size: int = field(default=64, metadata={"help": "Texts that are encoded or decoded at once."})
    seed: int = field(default=42, metadata={"help": "Seed of all noise and draws."})
    compare_with: list[str] = field(
        default_factory=list,
        metadata={"help": "Other evaluations' folders or report.json, to set beside this one."},
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the report (evaluations/<model>-<texts>)."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the evaluation that is there."})

    update_card: bool = field(
        default=False, metadata={"help": "Put figures and pictures into the model card in the model's folder, too."}
    )

    def __post_init__(self) -> None:
        if self.update_card and not Path(self.model_name_or_path).is_dir():
            raise ValueError(
                f"--update_card writes to the model's folder, and {self.model_name_or_path} is none. Evaluate the "
                "folder that is pushed."
            )
        if self.file is not None and self.dataset_name is not None:
            raise ValueError("Give either --file or --dataset_name, not both.")
        least = {"max_eval_samples": 2, "max_probe_train_samples": 2, "seed": 0}
        for name in ("num_draws", "num_importance_samples", "max_importance_sentences", "num_examples", "batch_size"):
            least[name] = 1
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {getattr(self, name)}.")
        if min(self.labels_per_class, default=2) < 2:
            raise ValueError(f"labels_per_class must be 2 or more each, got {self.labels_per_class}.")
        if self.label_column is None and (self.probe_train_file or self.probe_train_split):
            raise ValueError("--probe_train_file and --probe_train_split need --label_column.")
        if self.label_column is not None and self.file is None and self.dataset_name is None:
            raise ValueError("--label_column needs --file or --dataset_name.")
        if self.probe_train_file and self.probe_train_split:
            raise ValueError("Give either --probe_train_file or --probe_train_split, not both.")
        if self.probe_train_split and self.dataset_name is None:
            raise ValueError("--probe_train_split needs --dataset_name.")
        own = self.file is not None and self.probe_train_file is not None
        if (own and Path(self.file).resolve() == Path(self.probe_train_file).resolve()) or (
            self.probe_train_split is not None and self.probe_train_split == self.dataset_split
        ):
            raise ValueError(
                "The probe would be tested on the texts that it is trained on. Leave --probe_train_file and "
                "--probe_train_split out: then one half of the texts trains and the other tests."
            )

    @property
    def path(self) -> Path:
        """The folder of the report."""
        if self.output_dir is not None:
            return Path(self.output_dir)
        model = Path(self.model_name_or_path)
        texts = "held-out"
        if self.file is not None:
            texts = Path(self.file).stem
        elif self.dataset_name is not None:
            texts = f"{Path(self.dataset_name).name}-{self.dataset_split}"
        name = f"{(model.resolve() if model.is_dir() else model).name}-{texts}"
        return Path("evaluations", re.sub(r"[^\w.-]+", "-", name))

    def command(self) -> str:
        """The command line that repeats the evaluation, without the token."""
        words = ["python", "scripts/run_evaluation.py"]
        for option in fields(self):
            value = getattr(self, option.name)
            default = option.default_factory() if callable(option.default_factory) else option.default
            if option.name in ("token", "overwrite_output_dir", "update_card") or value == default:
                continue
            words.append(f"--{option.name}")
            if not isinstance(value, bool):
                words += map(str, value if isinstance(value, list) else [value])
        return shlex.join(words)
