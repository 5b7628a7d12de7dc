# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""One evaluation of a saved model: its options, its texts, its probe, and the folder of its report."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from ..data.corpora import (
    CONDITION,
    LABEL,
    TEXT,
    Files,
    corpus_hash,
    first_texts,
    load_text_set,
    load_texts,
    notes_on_copies,
)
from ..data.text_format import name_files
from ..evaluation.encoding import EncodedTexts, encode_corpus
from ..evaluation.judged_latents import judge_paths, judge_reconstructions
from ..evaluation.judges import EncoderJudge, Judge, LanguageModelJudge
from ..evaluation.sample_quality import check_judges, judge_samples
from ..model.modeling_bnvae import BNVAEModel
from ..model.saved_files_bnvae import PARTIAL
from ..reporting.commands import without_folders
from ..reporting.evaluate_and_report import (
    EvaluatedTexts,
    EvaluationReport,
    evaluate_and_report,
    joined_encodings,
)
from ..reporting.model_card import BNVAEModelCard
from ..reporting.pictures import save_picture
from ..reporting.provenance import TextSource
from ..reporting.report_files import EVALUATION, PARTS, is_report, read_report
from ..utils.file_names import REPORT_JSON, REPORT_MARKDOWN, RUN_FILE
from ..utils.folders import require_writable
from ..utils.json_files import read_json
from ..utils.memory import keep_freed_memory
from ..utils.terminal import say
from .evaluation_arguments import EvaluationArguments
from .saved_model import load_saved_model, require_condition_column
from .text_format_arguments import recorded_text_format

logger = logging.get_logger(__name__)

# Each path costs nine decoded texts.
_MOST_PATHS = 100

# Options that the report does not record.
_UNRECORDED = ("token", "overwrite_output_dir")


@dataclass(frozen=True)
class ProbeData:
    """
    Labelled texts for a probe.

    Args:
        labels (`list`): A label for each text of the evaluation, then one for each of the added texts.
        added_texts (`list[str]`): Training texts that the evaluation does not have.
        train, test (`np.ndarray`): Indices into `labels`.
        description (`str`): How the texts were shared out.
        train_sha256 (`str`, *optional*): Hash of the added texts.
    """

    labels: list[Any]
    added_texts: list[str]
    train: np.ndarray
    test: np.ndarray
    description: str
    train_sha256: str | None = None
    added_conditions: list[str] | None = None


class EvaluationJob:
    """
    One evaluation of a saved model, from its options to its folder.

    Args:
        args ([`EvaluationArguments`]): The options.

    Raises:
        ValueError: from [`~EvaluationJob.run`], if options, folder, texts, labels or model are wrong. The error comes
            before the expensive work, and nothing is written then.
    """

    def __init__(self, args: EvaluationArguments) -> None:
        self.args = args
        self.notes: list[str] = []

    def run(self) -> str:
        """Evaluate and write the folder.

        Returns:
            `str`: The report in Markdown.
        """
        args = self.args
        require_free_folder(args.path, args.overwrite_output_dir)
        others = [self._read_other(path) for path in args.compare_with]
        probe = self._import_probe()
        dataset, source = self._load_texts()
        probe_data = None if probe is None else self._load_probe_data(probe, dataset)
        model = load_saved_model(
            args.model_name_or_path, args.revision, args.token, args.trust_remote_code, args.device
        )
        model.eval()
        if model.device.type == "cpu":
            keep_freed_memory()
        require_condition_column(args.model_name_or_path, model.config.conditional, CONDITION in dataset.column_names)
        texts = dataset[TEXT][:]
        conditions = dataset[CONDITION][:] if model.config.conditional else None
        own_columns = [name for name in (TEXT, CONDITION) if name in dataset.column_names]
        judges = self._load_judges(model, texts)
        say(
            f"{len(texts)} texts ({source.name}); posterior {model.config.posterior!r}, {model.config.latent_size} "
            "latent dimensions."
        )
        settings = {name: value for name, value in asdict(args).items() if name not in _UNRECORDED}
        report = evaluate_and_report(
            model,
            EvaluatedTexts(texts, corpus_hash(dataset), source, dataset.select_columns(own_columns), conditions),
            kind=EVALUATION,
            name_or_path=args.model_name_or_path,
            command=args.command(),
            settings=settings | {"output_dir": str(args.path)},
            batch_size=args.batch_size,
            num_importance_samples=args.num_importance_samples,
            max_importance_sentences=args.max_importance_sentences,
            num_examples=args.num_examples,
            seed=args.seed,
            compared_with=others,
            probe=None if probe is None else lambda encoded: self._probe(probe, model, probe_data, encoded),
            samples=(lambda encoded: self._judge_samples(model, texts, conditions, judges, encoded))
            if judges
            else None,
            notes=self.notes,
        )
        # Somebody may have written to the folder meanwhile.
        require_free_folder(args.path, args.overwrite_output_dir)
        report.save(args.path)
        if args.update_card:
            self._update_card(report)
        return report.markdown

    # -- what goes in ------------------------------------------------------------------------------------------------

    def _read_other(self, path: str) -> dict[str, Any]:
        try:
            return read_report(path, tuple(PARTS))
        except ValueError as error:
            raise ValueError(f"--compare_with {error}") from error

    def _import_probe(self) -> Any:
        if self.args.label_column is None:
            return None
        try:
            from ..evaluation import probe
        except ImportError as error:
            raise ValueError(str(error)) from error
        return probe

    def _load_texts(self) -> tuple[Dataset, TextSource]:
        """The texts, with their labels if a probe needs them."""
        args = self.args
        if args.file is not None:
            dataset, source = self._load_set(args.file, None), TextSource.of_file(args.file)
        elif args.dataset_name is not None:
            dataset = self._load_set(None, args.dataset_split)
            source = TextSource.of_dataset(args.dataset_name, args.dataset_config_name, args.dataset_split)
        else:
            dataset, source = held_out_texts(args.model_name_or_path)
        dataset = first_texts(dataset, args.max_eval_samples, "evaluation")
        for note in notes_on_copies({"evaluation": dataset}):
            logger.warning(note)
            self.notes.append(note)
        if len(dataset) < 2:
            raise ValueError(f"An evaluation needs at least two texts, and {source.name} has {len(dataset)}.")
        return dataset, source

    def _load_set(self, file: Files | None, split: str | None) -> Dataset:
        args = self.args
        named = {"file": file, "text_format": args.text_format}
        if file is None:
            named = {
                "dataset_name": args.dataset_name,
                "dataset_config_name": args.dataset_config_name,
                "dataset_split": split,
                "token": args.token,
            }
        return load_text_set(
            **named,
            text_column=args.text_column,
            label_column=args.label_column,
            condition_column=args.condition_column,
        )

    def _load_probe_data(self, probe: Any, dataset: Dataset) -> ProbeData:
        args = self.args
        texts, labels = dataset[TEXT][:], dataset[LABEL][:]
        if not (args.probe_train_file or args.probe_train_split):
            train, test = probe.split_in_halves(labels, args.seed)
            probe.require_classes([labels[i] for i in train], [labels[i] for i in test])
            return ProbeData(labels, [], train, test, "a random half of each class trains, the other tests")
        loaded = self._load_set(args.probe_train_file, args.probe_train_split)
        added = first_texts(loaded, args.max_probe_train_samples, "probe's training")
        rows = np.arange(len(texts) + len(added))
        probe.require_classes(added[LABEL][:], labels)
        shared = len(set(added[TEXT]) & set(texts))
        if shared:
            note = f"{shared} of the probe's test texts are among its training texts."
            logger.warning(note)
            self.notes.append(note)
        return ProbeData(
            labels + added[LABEL][:],
            added[TEXT][:],
            added_conditions=added[CONDITION][:] if CONDITION in added.column_names else None,
            train=rows[len(texts) :],
            test=rows[: len(texts)],
            description=f"trained on {name_files(args.probe_train_file or args.probe_train_split)}, tested on the "
            "evaluation's texts",
            train_sha256=corpus_hash(added),
        )

    def _load_judges(self, model: BNVAEModel, texts: list[str]) -> dict[str, Judge]:
        """The judges of samples. A judge that would fail fails here, before the evaluation."""
        args = self.args
        loading = {"token": args.token, "trust_remote_code": args.trust_remote_code}
        judges: dict[str, Judge] = {}
        if args.judge_language_model is not None:
            judges["language_model"] = LanguageModelJudge(args.judge_language_model, model.device, **loading)
        if args.judge_encoder is not None:
            judges["encoder"] = EncoderJudge(args.judge_encoder, model.device, **loading)
        if judges:
            check_judges(model, texts, **judges)
        return judges

    # -- what comes out ----------------------------------------------------------------------------------------------

    def _probe(self, probe: Any, model: BNVAEModel, data: ProbeData, encoded: EncodedTexts) -> dict[str, Any]:
        args = self.args
        if data.added_texts:
            added = encode_corpus(
                model,
                model.processor,
                data.added_texts,
                args.batch_size,
                show_progress=True,
                conditions=data.added_conditions,
            )
            encoded = joined_encodings([encoded, added])
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

    def _judge_samples(
        self,
        model: BNVAEModel,
        texts: list[str],
        conditions: list[str] | None,
        judges: dict[str, Judge],
        encoded: EncodedTexts,
    ) -> dict[str, Any]:
        args = self.args
        settings: dict[str, Any] = {"batch_size": args.batch_size, "seed": args.seed, "conditions": conditions}
        kinds = judge_samples(model, texts, **judges, num_samples=args.num_judged_samples, **settings)
        names = {"language_model": args.judge_language_model, "encoder": args.judge_encoder}
        judged: dict[str, Any] = {
            "judges": {kind: without_folders(name) for kind, name in names.items()},
            "kinds": {name: asdict(quality) for name, quality in kinds.items()},
        }
        if not encoded.mean.isfinite().all():
            return judged  # nothing can be decoded from such latents
        found = judge_reconstructions(model, texts, judges.get("encoder"), args.num_judged_samples, **settings)
        num_paths = min(args.num_judged_samples, _MOST_PATHS)
        paths = judge_paths(model, texts, judges.get("language_model"), num_paths, **settings)
        return judged | {"reconstructions": asdict(found), "paths": asdict(paths)}

    def _update_card(self, report: EvaluationReport) -> None:
        folder = Path(self.args.model_name_or_path)
        card = BNVAEModelCard.of_weights(folder).with_evaluation(report.record)
        # Without the picture that names other models' folders.
        shown = [name for name in card.pictures if name != "rate_distortion.png"]
        for name in shown:
            save_picture(report.pictures[name], folder / name)
        replace(card, pictures=shown).save(folder)


def require_free_folder(path: Path, overwrite: bool) -> None:
    """
    Refuse a folder that an evaluation must not be written to. Nothing is written or deleted.

    Args:
        path (`Path`): The folder.
        overwrite (`bool`): Whether an evaluation in the folder may be replaced. Other files are never replaced.

    Raises:
        ValueError: if the folder cannot be written to, if it holds something else than an evaluation, or if it holds
            an evaluation that may not be replaced. One without its `report.md` was killed, and is replaced.
    """
    require_writable(path, "--output_dir")
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    # An evaluation that was killed while writing leaves a partial file, or a report without its pages.
    if found in ([], [f"{REPORT_JSON}{PARTIAL}"]):
        return
    if not is_report(path / REPORT_JSON, EVALUATION):
        raise ValueError(
            f"The folder {path} is not empty and holds no evaluation ({', '.join(found[:5])}"
            f"{', ...' if len(found) > 5 else ''}). Nothing was touched. Choose another --output_dir."
        )
    if not overwrite and (path / REPORT_MARKDOWN).is_file():
        raise ValueError(
            f"{path} holds an evaluation already. Choose another --output_dir, or replace it with "
            "--overwrite_output_dir."
        )


def held_out_texts(model_path: str) -> tuple[Dataset, TextSource]:
    """
    The texts that a training run evaluated with. They are loaded again by the run's settings and checked by their
    hash.

    Args:
        model_path (`str`): The run's folder.

    Returns:
        `tuple`: the texts, and where they come from.

    Raises:
        ValueError: if the folder holds no run of a training script, or its texts have changed since.
    """
    file = Path(model_path, RUN_FILE)
    if not file.is_file():
        raise ValueError(
            f"Which texts? The held-out texts are only known for a folder of a training script, and {model_path} is "
            "none. Give --file or --dataset_name."
        )
    settings = read_json(file)["settings"]
    names = ("dataset_name", "dataset_config_name", "train_file", "validation_file", "text_column", "condition_column")
    texts = load_texts(
        **{name: settings.get(name) for name in names},
        text_format=recorded_text_format(settings),
        validation_split_percentage=settings["validation_split_percentage"],
        drop_duplicates=settings.get("drop_duplicates", False),
        seed=settings["seed"],
    )["validation"]
    texts = first_texts(texts, settings["max_eval_samples"], "held-out")
    if corpus_hash(texts) != settings["corpus_validation_sha256"]:
        raise ValueError(
            f"The texts that the run in {model_path} held out are no longer what they were: the data have changed, "
            "or the run is of an older version, which split texts that occur several times in another way. "
            "Give --file or --dataset_name."
        )
    return texts, TextSource.held_out_by_run(settings)
