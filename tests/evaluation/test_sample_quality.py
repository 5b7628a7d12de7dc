"""Judges of samples: distances against closed forms, perplexities against a loop, and judges that are refused."""

import math

import pytest
import torch

from hf_bnvae.evaluation.judges import EncoderJudge, LanguageModelJudge
from hf_bnvae.evaluation.sample_quality import SPLIT, frechet_distance, judge_samples, judge_texts
from hf_bnvae.utils.random_state import seeded_generator

# --- the distance ----------------------------------------------------------------------------------------------------


def with_moments(count: int, mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Vectors whose mean and covariance `root' root` are exact."""
    vectors = torch.randn(count, len(root)).double()
    vectors = torch.linalg.qr(vectors - vectors.mean(0)).Q * math.sqrt(count - 1)
    return (vectors - vectors.mean(0)) @ root + mean


def test_the_distance_is_that_of_the_two_gaussians():
    """Of covariances with the same axes, (S1 S2)^(1/2) is the product of the deviations."""
    axes = torch.linalg.qr(torch.randn(4, 4).double()).Q
    deviations = torch.tensor([[1.0, 2.0, 0.5, 3.0], [0.3, 2.5, 0.5, 1.0]]).double()
    means = torch.randn(2, 4).double()
    first, second = (
        with_moments(60 + 7 * i, mean, axes @ std.diag() @ axes.T)
        for i, (mean, std) in enumerate(zip(means, deviations, strict=True))
    )
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance(first, second) == pytest.approx(expected.item())
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected.item())


def test_the_distance_is_that_of_the_roots_of_matrices():
    """Covariances without common axes, and fewer vectors than dimensions: by the eigenvalues of S1 S2."""
    first, second = torch.randn(9, 12).double() @ torch.randn(12, 12).double(), torch.randn(8, 12).double() + 1
    product = first.T.cov() @ second.T.cov()
    roots = torch.linalg.eigvals(product).real.clamp_min(0).sqrt().sum()
    expected = (first.mean(0) - second.mean(0)).square().sum() + first.T.cov().trace() + second.T.cov().trace()
    assert frechet_distance(first, second) == pytest.approx((expected - 2 * roots).item(), rel=1e-4)
    with pytest.raises(ValueError, match="two vectors of each kind, got 1 and 8"):
        frechet_distance(first[:1], second)


# --- the judges ------------------------------------------------------------------------------------------------------


def test_perplexity_is_that_of_a_loop_over_texts(language_model, texts):
    network, tokenizer = language_model.network, language_model.tokenizer
    total, number = 0.0, 0
    for text in texts[:7]:
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        with torch.no_grad():
            log_probs = network(torch.tensor([[start, *ids[:-1]]])).logits[0].log_softmax(-1)
        total -= log_probs[range(len(ids)), ids].sum().item()
        number += len(ids)
    for batch_size in (1, 3, 32):
        assert language_model.perplexity(texts[:7], batch_size) == pytest.approx(math.exp(total / number), rel=1e-5)
    assert language_model.perplexity(["", ""]) > 1
    assert language_model.perplexity(texts[7:14]) != pytest.approx(math.exp(total / number), rel=1e-4)


def test_vectors_do_not_depend_on_batches_and_have_unit_length(encoder, texts):
    whole = encoder.embed(texts[:7])
    torch.testing.assert_close(encoder.embed(texts[:7], batch_size=2), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(7))
    ids = encoder.tokenizer(texts[3], return_tensors="pt")
    with torch.no_grad():
        alone = encoder.network(**ids).last_hidden_state[0].mean(0)
    torch.testing.assert_close(whole[3], alone / alone.norm(), atol=1e-6, rtol=0)
    assert encoder.embed([""]).shape == (1, 16)


def test_a_part_of_the_model_is_no_judge_of_it(trained_model, language_model, processor, tmp_path):
    language_model.require_independent(trained_model)
    # The decoder itself, fine-tuned a little, under another name.
    with torch.no_grad():
        trained_model.decoder.float().save_pretrained(tmp_path / "tuned")
        trained_model.decoder.double()
    processor.tokenizer.save_pretrained(tmp_path / "tuned")
    judge = LanguageModelJudge(str(tmp_path / "tuned"))
    with torch.no_grad():
        weight = judge.network.get_input_embeddings().weight
        weight += 0.3 * weight.std() * torch.randn(weight.shape)
    for more in (0, 3):
        judge.network.resize_token_embeddings(len(weight) + more, mean_resizing=False)
        with pytest.raises(ValueError, match="is the model's decoder, or the decoder was fine-tuned from it"):
            judge.require_independent(trained_model)
    with pytest.raises(ValueError, match="could not be loaded"):
        EncoderJudge(str(tmp_path / "nothing"))


# --- samples ---------------------------------------------------------------------------------------------------------


def test_every_prior_is_judged_beside_held_out_texts(trained_model, language_model, encoder, texts):
    settings = {"num_samples": 12, "show_progress": False}
    found = judge_samples(trained_model, texts[:30], language_model, encoder, **settings)
    assert list(found) == [
        "held-out texts",
        "standard prior, greedy",
        "fitted prior, greedy",
        "standard prior, drawn tokens",
        "fitted prior, drawn tokens",
    ]
    order = torch.randperm(30, generator=seeded_generator(0, SPLIT)).tolist()
    references, others = [texts[i] for i in order[:12]], [texts[i] for i in order[15:27]]
    assert found["held-out texts"] == judge_texts(others, references, language_model, encoder)
    greedy = trained_model.sample(12, seed=0, prior="fitted", do_sample=False)
    assert found["fitted prior, greedy"] == judge_texts(greedy, references, language_model, encoder)
    assert found["fitted prior, greedy"].distinct == len(set(greedy)) / 12
    assert found == judge_samples(trained_model, texts[:30], language_model, encoder, **settings)
    without = judge_samples(trained_model, texts[:30], **settings)
    assert {quality.perplexity for quality in without.values()} == {None}
    # Half of eight texts are four, however many samples are asked for.
    assert {quality.num_texts for quality in judge_samples(trained_model, texts[:8], **settings).values()} == {4}
    with pytest.raises(ValueError, match="four are needed, got 3"):
        judge_samples(trained_model, texts[:3])


def test_the_texts_themselves_are_nearest_to_them(encoder, language_model, texts):
    own = judge_texts(texts[:40], texts[:40], language_model, encoder)
    scrambled = [" ".join(reversed(text.split())) for text in texts[:40]]
    assert own.frechet_distance == pytest.approx(0, abs=1e-5)
    assert judge_texts(scrambled, texts[:40], encoder=encoder).frechet_distance > 1e-3
    assert judge_texts(texts[:1] * 40, texts[:40]).distinct == 1 / 40
    with pytest.raises(ValueError, match="equally many, two or more of each, got 3 and 2"):
        judge_texts(texts[:3], texts[:2])
