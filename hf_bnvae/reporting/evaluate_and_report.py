# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""One call evaluates a model and makes its report: `report.json`, `report.md` and pictures. A training run and an
evaluation of a saved model both use it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from ..evaluation.encoding import EncodedTexts
from ..evaluation.evaluator import evaluate_model
from ..evaluation.result import EvaluationResult
from ..model.modeling_bnvae import BNVAEModel
from ..model.saved_files_bnvae import write_whole
from ..utils.file_names import REPORT_JSON, REPORT_MARKDOWN
from ..utils.json_files import read_json, write_json
from ..utils.terminal import visible
from .evaluation_report import PICTURES, render_report
from .pictures import draw_pictures, kl_and_floor, save_picture
from .provenance import TextSource, hardware, library_versions
from .report import make_examples
from .report_files import REPORT_VERSION

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class EvaluatedTexts:
    """
    The texts of an evaluation.

    Args:
        texts (`Sequence[str]`): The texts.
        sha256 (`str`): Their hash, as [`~data.corpora.corpus_hash`] makes it.
        source ([`TextSource`]): Where they come from.
        dataset (`Dataset`): The same texts in the same order as [`evaluate_model`] reads them: with a column `text`,
            or tokenised.
        conditions (`Sequence[str]`, *optional*): Their conditions, if the model takes them.
    """

    texts: Sequence[str]
    sha256: str
    source: TextSource
    dataset: Dataset
    conditions: Sequence[str] | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """
    An evaluation and its report.

    Args:
        result ([`EvaluationResult`]): The figures.
        record (`dict`): What `report.json` holds.
        pictures (`dict`): Figures of matplotlib by the names of their files.
    """

    result: EvaluationResult
    record: dict[str, Any]
    pictures: dict[str, Any]

    @property
    def markdown(self) -> str:
        """What `report.md` holds."""
        return render_report(self.record)

    def save(self, folder: str | Path) -> None:
        """Write report and pictures to a folder. Report and pictures of an earlier evaluation are removed.
        `report.json` is written first, because it says what kind of folder this is. `report.md` is written last: the
        report is whole when it is there."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name in (REPORT_MARKDOWN, *PICTURES):
            (path / name).unlink(missing_ok=True)
        write_json(path / REPORT_JSON, self.record)
        for name, figure in self.pictures.items():
            save_picture(figure, path / name)
        write_whole(path / REPORT_MARKDOWN, self.markdown)


def evaluate_and_report(
    model: BNVAEModel,
    evaluated: EvaluatedTexts,
    *,
    kind: str,
    name_or_path: str,
    command: str,
    settings: Mapping[str, Any],
    batch_size: int = 64,
    num_importance_samples: int = 100,
    max_importance_sentences: int = 500,
    num_examples: int = 5,
    seed: int = 0,
    show_progress: bool = True,
    training: Mapping[str, Any] | None = None,
    compared_with: Sequence[Mapping[str, Any]] | None = None,
    probe: Callable[[EncodedTexts], dict[str, Any]] | None = None,
    samples: Callable[[EncodedTexts], dict[str, Any]] | None = None,
    notes: Sequence[str] = (),
) -> EvaluationReport:
    """
    Evaluate a model on texts: figures, texts that it makes, pictures. Each text is encoded once. Nothing is written.

    Args:
        model ([`BNVAEModel`]): The model, in evaluation mode, with its processor attached.
        evaluated ([`EvaluatedTexts`]): Two texts or more.
        kind (`str`): `EVALUATION` or `TRAINING` of [`~report_files`]: what `report.json` is to call itself.
        name_or_path (`str`): The model's folder, or its name on the Hub. If the folder holds a `trainer_state.json`,
            the training's curves are drawn from that file.
        command (`str`): The command line that repeats all this.
        settings (mapping): The settings to record, as JSON values.
        batch_size, num_importance_samples, max_importance_sentences, seed, show_progress (*optional*): As in
            [`evaluate_model`].
        num_examples (`int`, *optional*, defaults to 5): The number of reconstructions and of samples of the prior.
        training (mapping, *optional*): For the report of a training run: the number and the hash of its training
            texts, as `num_texts` and `sha256`.
        compared_with (sequence of mappings, *optional*): Other reports, for the picture of rates and distortions.
            The picture is not drawn if `compared_with` is `None`; an empty sequence draws this model alone.
        probe (`Callable`, *optional*): From the encoded texts to the `probe` of the report.
        samples (`Callable`, *optional*): From the encoded texts to the `samples` of the report: how good samples are.
        notes (sequence of `str`, *optional*): Sentences that stand at the top of the report.

    Raises:
        ValueError: as [`evaluate_model`].
    """
    batches: dict[int, EncodedTexts] = {}
    result = evaluate_model(
        model,
        evaluated.dataset,
        model.processor,
        batch_size=batch_size,
        num_importance_samples=num_importance_samples,
        max_importance_sentences=max_importance_sentences,
        seed=seed,
        show_progress=show_progress,
        on_encoded=batches.__setitem__,
    )
    encoded = joined_encodings(batches[first] for first in sorted(batches))
    assert len(encoded.mean) == len(evaluated.texts), "the data set holds other texts"
    kl, floor = kl_and_floor(model, encoded)
    report: dict[str, Any] = {
        "kind": kind,
        "version": REPORT_VERSION,
        "model": {
            "name_or_path": name_or_path,
            "commit": getattr(model.config, "_commit_hash", None),
            "posterior": model.config.posterior,
            "latent_size": model.config.latent_size,
            "num_parameters": model.num_parameters(),
        },
        "data": {
            "source": evaluated.source.name,
            "public_source": evaluated.source.public_name,
            "is_public": evaluated.source.is_public,
            "num_texts": len(evaluated.texts),
            "sha256": evaluated.sha256,
        },
        **({} if training is None else {"training": dict(training)}),
        **({} if probe is None else {"probe": probe(encoded)}),
        **({} if samples is None else {"samples": samples(encoded)}),
        "figures": {name: value if _is_json(value) else None for name, value in asdict(result).items()},
        "verdict": result.verdict.name,
        "verdict_text": str(result.verdict),
        "kl_per_dimension": [value if _is_json(value) else None for value in kl],
        "kl_floor_per_dimension": floor,
    }
    report["compared_with"] = [_rate_and_distortion(other, report) for other in compared_with or ()]
    shown = max(2, num_examples)
    examples = make_examples(
        model,
        evaluated.texts[:shown],
        encoded.mean[:shown],
        num_examples,
        seed=seed,
        conditions=None if evaluated.conditions is None else evaluated.conditions[:shown],
    )
    log_history, log_notes = read_log_history(name_or_path)
    points = [] if compared_with is None else [_rate_and_distortion(report, report), *report["compared_with"]]
    drawn = [point for point in map(_point, points) if None not in point]
    pictures, picture_notes = draw_pictures(model, encoded, log_history, drawn, seed)
    if len(drawn) < len(points):
        picture_notes.append("Models whose figures are no numbers are not in the picture of rates and distortions.")
    for note in (*log_notes, *picture_notes):
        logger.warning(note)
    report |= {
        "examples": asdict(examples),
        "files": [REPORT_JSON, REPORT_MARKDOWN, *pictures],
        "notes": [*notes, *log_notes, *picture_notes],
        "settings": dict(settings),
        "versions": library_versions(),
        "hardware": hardware(),
        "command": command,
    }
    return EvaluationReport(result, report, pictures)


def joined_encodings(parts: Iterable[EncodedTexts]) -> EncodedTexts:
    """Encoded texts in the order of their parts."""
    parts = list(parts)
    return EncodedTexts(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(EncodedTexts)})


def read_log_history(folder: str) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """
    What a training logged, from the `trainer_state.json` in a model's folder.

    Returns:
        `tuple`: the log, `None` if the folder has none or holds a damaged one; and notes, one on a damaged log.
    """
    file = Path(folder, TRAINER_STATE_NAME)
    if not file.is_file():
        return None, []
    try:
        return read_json(file)["log_history"], []
    except (KeyError, ValueError) as error:
        return None, [f"There are no training curves: {file} could not be read ({error!r})."]


def _rate_and_distortion(report: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What `report` adds to the picture of rates and distortions of the report `own`."""
    names = ("kl", "reconstruction_nll", "mutual_information")
    return {
        "name": report["model"]["name_or_path"],
        "same_texts": report["data"]["sha256"] == own["data"]["sha256"],
        **{name: report["figures"][name] for name in names},
    }


def _point(other: Mapping[str, Any]) -> tuple[str, float, float, float]:
    name = visible(other["name"]) + ("" if other["same_texts"] else " (other texts)")
    return name, other["kl"], other["reconstruction_nll"], other["mutual_information"]


def _is_json(value: Any) -> bool:
    """Whether JSON has a number for a value: for NaN and infinity it has none."""
    return not isinstance(value, float) or math.isfinite(value)
