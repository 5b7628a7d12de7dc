# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Figures that tell whether a latent space is alive, each with its unit and estimator named."""

from .bleu import reconstruction_bleu, self_bleu
from .diagnosis import diagnose
from .evaluator import evaluate_model
from .importance import decoder_nll, importance_weighted_nll
from .information import InformationEstimate, mutual_information
from .moments import active_units, aggregate_moments, corpus_figures, posteriors_from_rows
from .result import EvaluationResult

__all__ = [
    "EvaluationResult",
    "InformationEstimate",
    "active_units",
    "aggregate_moments",
    "corpus_figures",
    "decoder_nll",
    "diagnose",
    "evaluate_model",
    "importance_weighted_nll",
    "mutual_information",
    "posteriors_from_rows",
    "reconstruction_bleu",
    "self_bleu",
]
