# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Text VAEs that do not collapse: batch-normalised posteriors for Transformers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from ._version import __version__
from .batch_statistics_bnvae import population_statistics, posterior_batch_mean
from .configuration_bnvae import BNVAEConfig
from .latent_space_bnvae import Neighbour, interpolate_latents
from .modeling_bnvae import BNVAEModel, BNVAEOutput, BNVAEPreTrainedModel
from .pipeline_bnvae import PIPELINES, LatentTextPipeline, TextLatentPipeline
from .posterior_bnvae import (
    POSTERIOR_HEADS,
    BatchNormMeanPosterior,
    BatchNormPosterior,
    BatchNormRMSPosterior,
    DeltaPosterior,
    DiagonalGaussian,
    DiversityUncertaintyPosterior,
    GaussianPosterior,
    LayerNormPosterior,
    PosteriorHead,
    build_posterior_head,
)
from .processing_bnvae import BNVAEProcessor

if TYPE_CHECKING:
    from .calibration import recalibrate_posterior
    from .data_collator import BNVAEDataCollator
    from .metrics import metric_path
    from .trainer import BNVAETrainer
    from .training_args import BNVAETrainingArguments


# Training brings in accelerate and datasets, for which someone who only loads a checkpoint need not wait.
_LAZY = {
    "BNVAEDataCollator": "data_collator",
    "BNVAETrainer": "trainer",
    "BNVAETrainingArguments": "training_args",
    "metric_path": "metrics",
    "recalibrate_posterior": "calibration",
}

AutoConfig.register("bnvae", BNVAEConfig)
AutoModel.register(BNVAEConfig, BNVAEModel)
AutoProcessor.register(BNVAEConfig, BNVAEProcessor)
# A saved processor has the code that loads it beside it, as a saved model does.
BNVAEProcessor.register_for_auto_class()


def _push_to_hub(model: BNVAEModel, repo_id: str, **kwargs: Any) -> Any:
    """As [`hub.push_model`]."""
    from .hub import push_model

    return push_model(model, repo_id, **kwargs)


# Code that was loaded from the Hub has Transformers' own, which knows no cards and leaves the old model's files.
BNVAEModel.push_to_hub = _push_to_hub
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
    "DiversityUncertaintyPosterior",
    "GaussianPosterior",
    "LatentTextPipeline",
    "LayerNormPosterior",
    "Neighbour",
    "PosteriorHead",
    "TextLatentPipeline",
    "__version__",
    "build_posterior_head",
    "interpolate_latents",
    "metric_path",
    "population_statistics",
    "posterior_batch_mean",
    "recalibrate_posterior",
]
