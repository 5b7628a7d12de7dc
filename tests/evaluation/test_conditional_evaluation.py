"""Evaluation of a model with conditions: figures against plain loops, however the data come; answers and the probe."""

import math

import pytest
import torch
from datasets import Dataset
from sacrebleu.metrics import BLEU
from test_evaluator import numbers

from hf_bnvae import BNVAEDataCollator, evaluate_model
from hf_bnvae.data.corpora import tokenize_texts
from hf_bnvae.evaluation.answers import distinct, judge_answers
from hf_bnvae.evaluation.chosen_sentences import order
from hf_bnvae.evaluation.condition_probe import share_explained
from hf_bnvae.evaluation.importance import decoder_nll
from hf_bnvae.evaluation.judges import EncoderJudge
from hf_bnvae.reporting.report import render_figures
from hf_bnvae.utils.random_state import RECONSTRUCTION, sentence_noise

QUICK = {
    "num_importance_samples": 10,
    "max_importance_sentences": 12,
    "num_self_bleu_samples": 6,
    "show_progress": False,
}


@pytest.fixture(scope="module")
def pairs(texts) -> Dataset:
    """Texts under the condition that fits. The texts of a condition are not neighbours."""
    return Dataset.from_dict({"text": texts[:48], "condition": [f"{text.split()[0]} ?" for text in texts[:48]]})


def close(one, other) -> bool:
    found, expected = numbers(one), numbers(other)
    return found.keys() == expected.keys() and all(
        found[name] is expected[name] is None or math.isclose(found[name], expected[name], rel_tol=1e-6, abs_tol=1e-6)
        for name in found
    )


def test_figures_do_not_depend_on_how_the_data_come(answering_model, pairs):
    result = evaluate_model(answering_model, pairs, batch_size=48, **QUICK)
    tokenized = tokenize_texts(pairs, answering_model.processor)
    collate = BNVAEDataCollator(answering_model.processor)
    batches = [collate([tokenized[i] for i in range(start, start + 16)]) for start in range(0, 48, 16)]
    for data, size in ((pairs, 7), (tokenized, 20), (pairs.to_iterable_dataset(), 48)):
        assert close(evaluate_model(answering_model, data, batch_size=size, **QUICK), result)
    ready = evaluate_model(answering_model, batches, answering_model.processor, **QUICK)
    assert ready.iw_nll == pytest.approx(result.iw_nll) and ready.latent_gain_within == pytest.approx(
        result.latent_gain_within
    )
    # Control: other conditions, other figures.
    other = pairs.map(lambda row: {"condition": "A ?"})
    assert evaluate_model(answering_model, other, batch_size=48, **QUICK).iw_nll > result.iw_nll + 0.5


def test_conditions_that_were_cut_are_counted(answering_model, pairs, caplog):
    long = pairs.map(lambda row, place: {"condition": "The food " * (30 if place < 5 else 1)}, with_indices=True)
    evaluate_model(answering_model, long, **QUICK)
    assert "5 of 48 conditions are longer than half of the model's positions and lost their beginnings" in caplog.text


def test_conditions_are_asked_for_where_there_are_any(answering_model, trained_model, pairs):
    for data, words in (
        (pairs["text"][:], "data are texts without them"),
        (pairs.remove_columns("condition"), "needs a text in its column 'condition', got None"),
        (pairs.map(lambda row: {"condition": None}), "needs a text in its column 'condition', got None"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_model(answering_model, data, **QUICK)
    # A column of this name means nothing to a model without conditions.
    plain = evaluate_model(trained_model, pairs.remove_columns("condition"), **QUICK)
    assert close(evaluate_model(trained_model, pairs, **QUICK), plain)
    assert plain.latent_gain_within is None and "within conditions" not in render_figures(plain)


def test_the_gain_within_conditions_is_that_of_a_plain_loop(answering_model, pairs):
    """The texts of a condition stand in a circle, in the order in which sentences are chosen. Each gets the latent of
    the next one."""
    result = evaluate_model(answering_model, pairs, batch_size=48, **QUICK)
    assert result.latent_gain_within_num_sentences == 48
    assert "| latent gain within conditions |" in render_figures(result)
    texts, conditions = pairs["text"][:], pairs["condition"][:]
    inputs = answering_model.processor(texts, condition=conditions, return_tensors="pt")
    names = ("input_ids", "attention_mask", "token_type_ids")
    nll = decoder_nll(answering_model, inputs["labels"], inputs["condition_ids"])

    def mean_gain(circles: list[list[int]]) -> float:
        gains = []
        for circle in circles:
            for row, other in zip(circle, [*circle[1:], circle[0]], strict=True):
                own, swapped = (nll(latents[[place]], torch.tensor([row])) for place in (row, other))
                gains.append(swapped - own)
        return torch.cat(gains).mean().item()

    with torch.no_grad():
        posterior = answering_model.encode(**{name: inputs[name] for name in names})
        latents = posterior.sample(sentence_noise(0, RECONSTRUCTION, range(48), 8).to(posterior.mean))
        chosen = sorted(range(48), key=order)
        within = [[row for row in chosen if conditions[row] == own] for own in dict.fromkeys(conditions)]
        assert result.latent_gain_within == pytest.approx(mean_gain(within), rel=1e-6)
        # Controls: all texts in one circle, and the same circles the other way round.
        assert result.latent_gain == pytest.approx(mean_gain([chosen]), rel=1e-6)
        for circles in ([chosen], [circle[::-1] for circle in within]):
            assert result.latent_gain_within != pytest.approx(mean_gain(circles), rel=1e-3)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_precision_and_recall_are_of_the_most_similar_partner():
    answers = [["the food is good .", "the food is bad ."], ["yes .", "yes ."]]
    references = [["the food is good .", "we go home now ."], ["no , i do not think so ."]]
    result = judge_answers(answers, references)
    bleu = BLEU(effective_order=True)

    def score(answer, reference):
        return bleu.sentence_score(answer, [reference]).score

    precisions = [max(score(a, r) for r in refs) for own, refs in zip(answers, references, strict=True) for a in own]
    recalls = [max(score(a, r) for a in own) for own, refs in zip(answers, references, strict=True) for r in refs]
    assert result.bleu_precision == pytest.approx(sum(precisions) / 4) and precisions[0] == pytest.approx(100)
    assert result.bleu_recall == pytest.approx(sum(recalls) / 3) and recalls[0] == pytest.approx(100)
    p, r = result.bleu_precision, result.bleu_recall
    assert result.bleu_f1 == pytest.approx(2 * p * r / (p + r))
    assert result.embedding_f1 is None and result.distinct_answers == 1.5
    assert (result.num_answers, result.num_contexts) == (2, 2)


def test_one_answer_repeated_has_the_precision_of_one_and_less_recall_than_many():
    references = [["a b c d e", "f g h i j", "k l m n o"]]
    one, many = (judge_answers([own], references) for own in (["a b c d e"] * 3, references[0]))
    assert one.bleu_precision == many.bleu_precision == pytest.approx(100)
    assert one.bleu_recall < 50 < many.bleu_recall
    assert (one.distinct_1_within, many.distinct_1_within) == (pytest.approx(1 / 3), 1)


def test_distinct_is_the_share_of_distinct_n_grams():
    assert distinct([["a", "b", "a"], ["a", "b"]], 1) == 2 / 5
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3  # ab, ba, ab: none goes over an end
    assert distinct([["a"], []], 2) == 0


def test_answers_are_compared_by_an_encoder_too(trained_folder, tmp_path, trained_model, processor):
    trained_model.encoder.save_pretrained(tmp_path)
    processor.encoder_tokenizer.save_pretrained(tmp_path)
    judge = EncoderJudge(str(tmp_path))
    answers, references = [["The food .", "A small dog ."]], [["The food .", "My sister sold ."]]
    result = judge_answers(answers, references, judge)
    vectors = judge.embed([*answers[0], *references[0]])
    table = vectors[:2] @ vectors[2:].T
    assert result.embedding_precision == pytest.approx(table.max(1).values.mean().item(), abs=1e-6)
    assert result.embedding_recall == pytest.approx(table.max(0).values.mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("answers", "references"),
    [([], []), ([["a"], ["b", "c"]], [["a"], ["b"]]), ([[]], [["a"]]), ([["a"]], [[]]), ([["a"]], [["a"], ["b"]])],
)
def test_answers_that_cannot_be_compared_are_refused(answers, references):
    with pytest.raises(ValueError, match="same number of answers, one or more, and at least one reference"):
        judge_answers(answers, references)


# -- the probe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_that_a_condition_tells_is_known_for_gaussian_latents(share):
    """Latents whose variance comes from the condition to a known share, and otherwise from noise."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6000, 8, generator=generator)
    told = features @ torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    latents = math.sqrt(share) * told + math.sqrt(1 - share) * torch.randn(6000, 8, generator=generator)
    found = share_explained(features[:4000], latents[:4000], features[4000:], latents[4000:])
    assert found == pytest.approx(share, abs=0.02)


def test_latents_that_cannot_be_probed_are_refused():
    with pytest.raises(ValueError, match="got 3 and 2"):
        share_explained(torch.zeros(3, 1), torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="no variance to explain"):
        share_explained(torch.randn(5, 1), torch.randn(5, 1), torch.randn(5, 1), torch.ones(5, 1))
