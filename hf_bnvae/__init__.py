# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Text VAEs that do not collapse: batch-normalised posteriors for Transformers."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Torch reads this when it is loaded: its threads then wait for each other without taking a core for long.
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from ._version import __version__
from .model.batch_statistics_bnvae import population_statistics, posterior_batch_mean
from .model.configuration_bnvae import BNVAEConfig
from .model.directions_bnvae import Direction
from .model.gaussian_bnvae import DiagonalGaussian
from .model.latent_space_bnvae import Neighbour, interpolate_latents
from .model.modeling_bnvae import BNVAEModel, BNVAEOutput, BNVAEPreTrainedModel
from .model.pipeline_bnvae import PIPELINES, LatentTextPipeline, TextLatentPipeline
from .model.posterior_bnvae import (
    POSTERIOR_HEADS,
    BatchNormMeanPosterior,
    BatchNormPosterior,
    BatchNormRMSPosterior,
    DeltaPosterior,
    DiversityUncertaintyPosterior,
    GaussianPosterior,
    LayerNormPosterior,
    PosteriorHead,
    build_posterior_head,
)
from .model.prior_bnvae import PRIORS, GaussianPrior, Prior, StandardPrior
from .model.processing_bnvae import BNVAEProcessor

if TYPE_CHECKING:
    from .data.collator import BNVAEDataCollator
    from .data.corpora import load_text_set, tokenize_texts
    from .evaluation import evaluate_model, mutual_information, reconstruction_bleu
    from .evaluation.directions import fit_direction
    from .evaluation.metrics import metric_path
    from .training.calibration import recalibrate_posterior
    from .training.fitted_prior import fit_prior
    from .training.from_scratch import train_processor
    from .training.trainer import BNVAETrainer
    from .training.training_args import BNVAETrainingArguments


# Imported when first used: training and evaluation bring in accelerate and datasets, and someone who only loads a
# checkpoint need not wait for these.
_LAZY = {
    "BNVAEDataCollator": "data.collator",
    "BNVAETrainer": "training.trainer",
    "BNVAETrainingArguments": "training.training_args",
    "evaluate_model": "evaluation",
    "fit_direction": "evaluation.directions",
    "fit_prior": "training.fitted_prior",
    "load_text_set": "data.corpora",
    "metric_path": "evaluation.metrics",
    "mutual_information": "evaluation",
    "recalibrate_posterior": "training.calibration",
    "reconstruction_bleu": "evaluation",
    "tokenize_texts": "data.corpora",
    "train_processor": "training.from_scratch",
}

AutoConfig.register("bnvae", BNVAEConfig)
AutoModel.register(BNVAEConfig, BNVAEModel)
AutoProcessor.register(BNVAEConfig, BNVAEProcessor)
# A saved processor has the code that loads it beside it, as a saved model does.
BNVAEProcessor.register_for_auto_class()


def _push_to_hub(model: BNVAEModel, repo_id: str, **kwargs: Any) -> Any:
    """As [`hub.push.push_model`]."""
    from .hub.push import push_model

    return push_model(model, repo_id, **kwargs)


# Code that was loaded from the Hub has Transformers' own, which knows no cards and leaves the old model's files.
BNVAEModel.push_to_hub = _push_to_hub


def _fit_direction(model: BNVAEModel, texts: Any, labels: Any, *args: Any, **kwargs: Any) -> Direction:
    """As [`evaluation.directions.fit_direction`]."""
    from .evaluation.directions import fit_direction

    return fit_direction(model, texts, labels, *args, **kwargs)


# Code that was loaded from the Hub has no classifier.
BNVAEModel.fit_direction = _fit_direction
for _task, _pipeline in PIPELINES.items():
    PIPELINE_REGISTRY.register_pipeline(_task, pipeline_class=_pipeline, pt_model=AutoModel, type="text")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [
    "POSTERIOR_HEADS",
    "PRIORS",
    "BNVAEConfig",
    "BNVAEDataCollator",
    "BNVAEModel",
    "BNVAEOutput",
    "BNVAEPreTrainedModel",
    "BNVAEProcessor",
    "BNVAETrainer",
    "BNVAETrainingArguments",
    "BatchNormMeanPosterior",
    "BatchNormPosterior",
    "BatchNormRMSPosterior",
    "DeltaPosterior",
    "DiagonalGaussian",
    "Direction",
    "DiversityUncertaintyPosterior",
    "GaussianPosterior",
    "GaussianPrior",
    "LatentTextPipeline",
    "LayerNormPosterior",
    "Neighbour",
    "PosteriorHead",
    "Prior",
    "StandardPrior",
    "TextLatentPipeline",
    "__version__",
    "build_posterior_head",
    "evaluate_model",
    "fit_direction",
    "fit_prior",
    "interpolate_latents",
    "load_text_set",
    "metric_path",
    "mutual_information",
    "population_statistics",
    "posterior_batch_mean",
    "recalibrate_posterior",
    "reconstruction_bleu",
    "tokenize_texts",
    "train_processor",
]
