"""The encoder's features of texts and their posteriors, against the model's own methods."""

import pytest
import torch

from hf_bnvae.evaluation.encoding import encode_corpus


def test_texts_are_encoded_in_their_order_whatever_the_batches(trained_model, processor, texts):
    encoded = encode_corpus(trained_model, processor, texts[:50], batch_size=7)
    assert torch.allclose(encoded.mean, trained_model.encode_texts(texts[:50]), atol=1e-9)
    other = encode_corpus(trained_model, processor, texts[:50], batch_size=50)
    for name in ("features", "mean", "logvar"):
        assert torch.allclose(getattr(encoded, name), getattr(other, name), atol=1e-9)
    assert not torch.allclose(encoded.mean, encoded.mean.flip(0), atol=1e-2)


def test_features_are_those_of_the_model(trained_model, processor, texts):
    encoded = encode_corpus(trained_model, processor, texts[:20])
    batch = processor(texts[:20], return_tensors="pt")
    with torch.no_grad():
        expected = trained_model.features(batch["input_ids"], batch["attention_mask"])
    assert expected.shape == (20, 32)
    torch.testing.assert_close(encoded.features, expected)
    assert not torch.allclose(encoded.features, expected.flip(0), atol=1e-2)  # control: other texts


def test_the_head_makes_the_posteriors_from_the_features(trained_model, processor, texts):
    encoded = encode_corpus(trained_model, processor, texts[:20])
    with torch.no_grad():
        again = trained_model.posterior(encoded.features)
        moved = trained_model.posterior(encoded.features + 0.1)
    assert torch.allclose(again.mean, encoded.mean) and torch.allclose(again.logvar, encoded.logvar)
    assert not torch.allclose(moved.mean, encoded.mean)


def test_the_model_is_left_as_it_was(make_model, processor, texts):
    model = make_model(posterior="gaussian").train()
    model.decoder.eval()
    first = encode_corpus(model, processor, texts[:5])
    assert model.training and model.posterior.training and not model.decoder.training
    assert torch.equal(first.mean, encode_corpus(model, processor, texts[:5]).mean)


def test_draws_come_by_a_seed_with_the_posteriors_moments(trained_model, processor, texts):
    encoded = encode_corpus(trained_model, processor, texts[:300])
    assert torch.equal(encoded.draw(1), encoded.draw(1)) and not torch.equal(encoded.draw(1), encoded.draw(2))
    standardised = (encoded.draw(0) - encoded.mean) / encoded.posterior.std
    assert standardised.mean().item() == pytest.approx(0, abs=0.05)
    assert standardised.std().item() == pytest.approx(1, abs=0.05)


def test_what_cannot_be_encoded_is_refused(make_model, processor, texts):
    with pytest.raises(ValueError, match="no text to encode"):
        encode_corpus(make_model(posterior="gaussian"), processor, [])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        encode_corpus(make_model(posterior="gaussian"), processor, texts[:2], batch_size=0)
    with pytest.raises(ValueError, match="never estimated"):
        encode_corpus(make_model(posterior="bn"), processor, texts[:2])
