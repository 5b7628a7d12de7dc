"""Correlations of similarities with people's scores."""

import pytest
import torch

from hf_bnvae import fit_prior
from hf_bnvae.evaluation.encoding import EncodedTexts, encode_corpus
from hf_bnvae.evaluation.similarity import similarity_correlations


def encoded(vectors: torch.Tensor) -> EncodedTexts:
    return EncodedTexts(features=-vectors, mean=vectors, logvar=torch.zeros_like(vectors))


def test_scores_that_follow_the_distance_correlate_fully_with_it():
    first, direction = torch.randn(30, 5), torch.randn(30, 5)
    lengths = torch.rand(30) + 0.1
    second = first + direction / direction.norm(dim=-1, keepdim=True) * lengths[:, None]
    found = similarity_correlations(encoded(first), encoded(second), (-lengths).tolist())
    assert found["means"]["distance"] == found["features"]["distance"] == pytest.approx(1)
    assert abs(found["means"]["cosine"]) < 0.99 and found.keys() == {"features", "means"}
    reversed_scores = similarity_correlations(encoded(first), encoded(second), lengths.tolist())
    assert reversed_scores["means"]["distance"] == pytest.approx(-1)


def test_whitened_means_are_those_of_the_fitted_prior(make_model, trained_folder, processor, texts):
    from hf_bnvae import BNVAEModel

    model = BNVAEModel.from_pretrained(trained_folder)
    model.attach_processor(processor)
    fit_prior(model, texts[:100])
    first, second = (encode_corpus(model, processor, part) for part in (texts[:20], texts[20:40]))
    scores = list(range(20))
    found = similarity_correlations(first, second, scores, model.fitted_prior)
    whitened = [encoded(model.prior.whiten(part.mean)) for part in (first, second)]
    assert found["whitened means"] == similarity_correlations(*whitened, scores)["means"]
    assert found["whitened means"]["distance"] != found["means"]["distance"]


def test_bad_scores_are_refused():
    vectors = encoded(torch.randn(3, 4))
    with pytest.raises(ValueError, match="got 3, 3 and 2"):
        similarity_correlations(vectors, vectors, [1.0, 2.0])
    for wrong in (float("nan"), float("inf"), "4.5", None):
        with pytest.raises(ValueError, match="Score 2 of 3 is no finite number"):
            similarity_correlations(vectors, vectors, [1.0, wrong, 2.0])
    with pytest.raises(ValueError, match=r"All scores are 1\.0"):
        similarity_correlations(vectors, vectors, [1.0, 1.0, 1.0])
