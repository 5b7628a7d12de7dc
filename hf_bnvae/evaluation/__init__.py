# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Figures that tell whether a latent space is alive, each with its unit and estimator named."""

from .decoder_use import LikelihoodEstimate, estimate_likelihood
from .evaluator import evaluate_model
from .importance import decoder_nll, importance_weighted_nll
from .information import InformationEstimate, mutual_information
from .moments import active_units, aggregate_moments, corpus_figures, posteriors_from_rows
from .result import EvaluationResult
from .text_scores import reconstruction_bleu, self_bleu
from .verdict import Verdict, judge

__all__ = [
    "EvaluationResult",
    "InformationEstimate",
    "LikelihoodEstimate",
    "Verdict",
    "active_units",
    "aggregate_moments",
    "corpus_figures",
    "decoder_nll",
    "estimate_likelihood",
    "evaluate_model",
    "importance_weighted_nll",
    "judge",
    "mutual_information",
    "posteriors_from_rows",
    "reconstruction_bleu",
    "self_bleu",
]
