# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""One evaluation of a saved model: its texts, figures, pictures and probe, and the folder of its report."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from ..data.corpora import LABEL, TEXT, corpus_hash, first_texts, load_text_set, load_texts
from ..evaluation.encoding import EncodedTexts, encode_corpus
from ..evaluation.evaluator import EvaluationResult, evaluate_model
from ..model.modeling_bnvae import BNVAEModel
from ..reporting.evaluation_report import PICTURES, render_report
from ..reporting.model_card import BNVAEModelCard
from ..reporting.pictures import draw_pictures, kl_and_floor
from ..reporting.provenance import library_versions
from ..reporting.report import make_examples, render_examples, render_figures
from ..utils.file_names import RUN_FILE
from ..utils.memory import keep_freed_memory
from .evaluation_arguments import EvaluationArguments
from .saved_model import load_saved_model

logger = logging.get_logger(__name__)

KIND = "hf_bnvae evaluation"
REPORT_JSON, REPORT_MARKDOWN = "report.json", "report.md"


@dataclass(frozen=True)
class ProbeData:
    """Rows and labels of the labelled texts: `train` and `test` are indices into the texts that were encoded."""

    texts: list[str]
    labels: list[Any]
    train: np.ndarray
    test: np.ndarray
    description: str
    train_sha256: str | None = None


class EvaluationJob:
    """
    One evaluation of a saved model, from its options to its folder.

    Args:
        args ([`EvaluationArguments`]): The options.

    Raises:
        ValueError: from [`~EvaluationJob.run`], before anything expensive is done, for whatever is wrong with options,
            folder, texts, labels or model; nothing is written then.
    """

    def __init__(self, args: EvaluationArguments) -> None:
        self.args = args
        self.notes: list[str] = []

    def run(self) -> str:
        """Make the evaluation and write its folder; the report in Markdown is returned."""
        args = self.args
        require_free_folder(args.path, args.overwrite_output_dir)
        others = [read_report(path) for path in args.compare_with]
        probe = self._import_probe()
        dataset, source = self._load_texts()
        probe_data = None if probe is None else self._load_probe_data(probe, dataset)
        log_history = self._training_log()
        model = load_saved_model(
            args.model_name_or_path, args.revision, args.token, args.trust_remote_code, args.device
        )
        model.eval()
        if model.device.type == "cpu":
            keep_freed_memory()
        texts = dataset[TEXT][:]
        print(
            f"{len(texts)} texts ({source}); posterior {model.config.posterior!r}, {model.config.latent_size} latent "
            "dimensions."
        )
        encoded = self._encode(model, texts)
        report: dict[str, Any] = {
            "kind": KIND,
            "model": {
                "name_or_path": args.model_name_or_path,
                "commit": getattr(model.config, "_commit_hash", None),
                "posterior": model.config.posterior,
                "latent_size": model.config.latent_size,
                "num_parameters": model.num_parameters(),
            },
            "data": {"source": source, "num_texts": len(texts), "sha256": corpus_hash(dataset)},
        }
        if probe_data is not None:
            report["probe"] = self._probe(probe, model, probe_data, texts, encoded)
        result = self._evaluate(model, dataset)
        kl, floor = kl_and_floor(model, encoded)
        report |= {
            "figures": {k: v if _is_json(v) else None for k, v in asdict(result).items()},
            "diagnosis": result.diagnosis,
            "kl_per_dimension": kl,
            "kl_floor_per_dimension": floor,
            "compared_with": [_summary(other, report) for other in others],
        }
        examples = make_examples(model, texts[: max(2, args.num_examples)], args.num_examples, seed=args.seed)
        pictures = self._draw(model, encoded, report, log_history)
        settings = {k: v for k, v in asdict(args).items() if k not in ("token", "overwrite_output_dir")}
        report |= {
            "examples": asdict(examples),
            "files": [REPORT_JSON, REPORT_MARKDOWN, *pictures],
            "notes": self.notes,
            "settings": settings | {"output_dir": str(args.path)},
            "versions": library_versions(),
            "command": args.command(),
        }
        parts = [render_figures(result), render_examples(examples)]
        markdown = render_report(report, *parts)
        self._write(report, markdown, pictures)
        if args.update_card:
            self._update_card(report, pictures)
        return markdown

    # -- what goes in ------------------------------------------------------------------------------------------------

    def _import_probe(self) -> Any:
        if self.args.label_column is None:
            return None
        try:
            from ..evaluation import probe
        except ImportError as error:
            raise ValueError(str(error)) from error
        return probe

    def _load_texts(self) -> tuple[Dataset, str]:
        """The texts, with labels where they are asked for, and in words where they are from."""
        args = self.args
        if args.file is None and args.dataset_name is None:
            dataset, source = held_out_texts(args.model_name_or_path)
        else:
            source = args.file or f"{args.dataset_name}, {args.dataset_config_name or 'default'}, {args.dataset_split}"
            dataset = self._load_set(args.file, args.dataset_split)
        dataset = first_texts(dataset, args.max_eval_samples, "evaluation")
        if len(dataset) < 2:
            raise ValueError(f"An evaluation needs at least two texts, and {source} has {len(dataset)}.")
        return dataset, source

    def _load_set(self, file: str | None, split: str | None) -> Dataset:
        args = self.args
        named = {"file": file}
        if file is None:
            named = {
                "dataset_name": args.dataset_name,
                "dataset_config_name": args.dataset_config_name,
                "dataset_split": split,
                "token": args.token,
            }
        return load_text_set(**named, text_column=args.text_column, label_column=args.label_column)

    def _load_probe_data(self, probe: Any, dataset: Dataset) -> ProbeData:
        args = self.args
        texts, labels = dataset[TEXT][:], dataset[LABEL][:]
        if not (args.probe_train_file or args.probe_train_split):
            train, test = probe.split_in_halves(labels, args.seed)
            probe.require_classes([labels[i] for i in train], [labels[i] for i in test])
            return ProbeData(texts, labels, train, test, "a random half of each class trains, the other tests")
        loaded = self._load_set(args.probe_train_file, args.probe_train_split)
        added = first_texts(loaded, args.max_probe_train_samples, "probe's training")
        rows = np.arange(len(texts) + len(added))
        all_texts, all_labels = texts + added[TEXT][:], labels + added[LABEL][:]
        probe.require_classes(added[LABEL][:], labels)
        shared = len(set(added[TEXT]) & set(texts))
        if shared:
            self._note(f"{shared} of the probe's test texts are among its training texts.")
        description = f"trained on {args.probe_train_file or args.probe_train_split}, tested on the evaluation's texts"
        return ProbeData(
            all_texts, all_labels, rows[len(texts) :], rows[: len(texts)], description, corpus_hash(added)
        )

    def _training_log(self) -> list[dict[str, Any]] | None:
        file = Path(self.args.model_name_or_path, TRAINER_STATE_NAME)
        if not file.is_file():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))["log_history"]
        except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
            self._note(f"There are no training curves: {file} could not be read ({error!r}).")
            return None

    # -- what comes out ----------------------------------------------------------------------------------------------

    def _encode(self, model: BNVAEModel, texts: Sequence[str]) -> EncodedTexts:
        return encode_corpus(model, model.processor, texts, self.args.batch_size, show_progress=True)

    def _evaluate(self, model: BNVAEModel, dataset: Dataset) -> EvaluationResult:
        args = self.args
        return evaluate_model(
            model,
            dataset,
            model.processor,
            text_column=TEXT,
            batch_size=args.batch_size,
            num_importance_samples=args.num_importance_samples,
            max_importance_sentences=args.max_importance_sentences,
            seed=args.seed,
        )

    def _probe(
        self, probe: Any, model: BNVAEModel, data: ProbeData, texts: list[str], encoded: EncodedTexts
    ) -> dict[str, Any]:
        args = self.args
        if len(data.texts) > len(texts):
            added = self._encode(model, data.texts[len(texts) :])
            names = ("features", "mean", "logvar")
            encoded = EncodedTexts(*(torch.cat([getattr(encoded, name), getattr(added, name)]) for name in names))
        labels = np.array(data.labels, dtype=object)
        kinds = {"means": encoded.mean, "draws": encoded.draw(args.seed), "features": encoded.features}
        results = {}
        for name, values in kinds.items():
            result = probe.probe_features(
                values[data.train],
                labels[data.train],
                values[data.test],
                labels[data.test],
                args.labels_per_class,
                args.num_draws,
                args.seed,
            )
            results[name] = asdict(result)
        return {
            "labels": args.label_column,
            "description": data.description,
            "train_sha256": data.train_sha256,
            "results": results,
        }

    def _draw(
        self,
        model: BNVAEModel,
        encoded: EncodedTexts,
        report: Mapping[str, Any],
        log_history: list[dict[str, Any]] | None,
    ) -> dict[str, Any]:
        points = [
            (
                p["name"] + ("" if p["same_texts"] else " (other texts)"),
                p["kl"],
                p["reconstruction_nll"],
                p["mutual_information"],
            )
            for p in (_summary(report, report), *report["compared_with"])
        ]
        pictures, notes = draw_pictures(model, encoded, log_history, points, self.args.seed)
        for note in notes:
            self._note(note)
        return pictures

    def _note(self, text: str) -> None:
        logger.warning(text)
        self.notes.append(text)

    def _write(self, report: dict[str, Any], markdown: str, pictures: Mapping[str, Any]) -> None:
        path = self.args.path
        # Again: this took a while.
        require_free_folder(path, self.args.overwrite_output_dir)
        path.mkdir(parents=True, exist_ok=True)
        for name in (REPORT_MARKDOWN, *PICTURES):
            (path / name).unlink(missing_ok=True)
        # First, as it says that the folder is an evaluation's, and in one go.
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path / REPORT_JSON)
        for name, figure in pictures.items():
            figure.savefig(path / name)
        (path / REPORT_MARKDOWN).write_text(markdown, encoding="utf-8")

    def _update_card(self, report: Mapping[str, Any], pictures: Mapping[str, Any]) -> None:
        folder = Path(self.args.model_name_or_path)
        card = BNVAEModelCard.of_weights(folder).with_evaluation(report)
        # Not the one that names other models' folders.
        shown = [name for name in card.pictures if name != "rate_distortion.png"]
        for name in shown:
            pictures[name].savefig(folder / name)
        replace(card, pictures=shown).save(folder)


def require_free_folder(path: Path, overwrite: bool) -> None:
    """
    Refuse a folder that an evaluation must not be written to. Nothing is written or deleted.

    Args:
        path (`Path`): The folder.
        overwrite (`bool`): Whether an evaluation that is there may be replaced. Other files never are.

    Raises:
        ValueError: if it is a file, or holds anything but an evaluation, or one that may not be replaced.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output_dir {path} is a file. Choose another.")
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if not found:
        return
    if not _is_report(path / REPORT_JSON):
        raise ValueError(
            f"The folder {path} is not empty and holds no evaluation ({', '.join(found[:5])}"
            f"{', ...' if len(found) > 5 else ''}). Nothing was touched. Choose another --output_dir."
        )
    if not overwrite:
        raise ValueError(
            f"{path} holds an evaluation already. Choose another --output_dir, or replace it with "
            "--overwrite_output_dir."
        )


def read_report(path: str) -> dict[str, Any]:
    """
    An evaluation that was written before.

    Args:
        path (`str`): Its folder or its `report.json`.

    Raises:
        ValueError: if there is none.
    """
    file = Path(path)
    file = file / REPORT_JSON if file.is_dir() else file
    if not _is_report(file):
        raise ValueError(f"--compare_with {path} is no evaluation: it needs a {REPORT_JSON} of this script.")
    return json.loads(file.read_text(encoding="utf-8"))


def held_out_texts(model_path: str) -> tuple[Dataset, str]:
    """
    The texts that the training run in a folder held out, found again by its settings and known by their hash.

    Args:
        model_path (`str`): The run's folder.

    Returns:
        `tuple`: the texts, and in words where they are from.

    Raises:
        ValueError: if the folder holds no run of a training script, or its texts have changed since.
    """
    file = Path(model_path, RUN_FILE)
    if not file.is_file():
        raise ValueError(
            f"Which texts? {model_path} is no folder of a training script, whose held-out texts would be known. Give "
            "--file or --dataset_name."
        )
    settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
    names = ("dataset_name", "dataset_config_name", "train_file", "validation_file", "text_column")
    texts = load_texts(
        **{name: settings.get(name) for name in names},
        validation_split_percentage=settings["validation_split_percentage"],
        seed=settings["seed"],
    )["validation"]
    texts = first_texts(texts, settings["max_eval_samples"], "held-out")
    if corpus_hash(texts) != settings["corpus_validation_sha256"]:
        raise ValueError(
            f"The texts that the run in {model_path} held out are no longer what they were: its data have changed. "
            "Give --file or --dataset_name."
        )
    corpus = settings.get("dataset_name") or settings.get("train_file") or "docstrings of Python packages"
    return texts, settings.get("validation_file") or f"held out by the training run, of {corpus}"


def _summary(report: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a report adds to the picture of rates and distortions of another one, or of its own."""
    names = ("kl", "reconstruction_nll", "mutual_information")
    return {
        "name": report["model"]["name_or_path"],
        "same_texts": report["data"]["sha256"] == own["data"]["sha256"],
        **{name: report["figures"][name] for name in names},
    }


def _is_json(value: Any) -> bool:
    """Whether JSON can say it: the standard error of a single sentence is no number."""
    return not isinstance(value, float) or math.isfinite(value)


def _is_report(file: Path) -> bool:
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError):
        return False
