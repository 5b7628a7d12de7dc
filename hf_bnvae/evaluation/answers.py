# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Many answers to one question: do a conditional model's samples cover what people answered, and do they differ?"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from sacrebleu.metrics import BLEU

from .judges import EncoderJudge
from .text_scores import LetterCounts, tokens_of


@dataclass(frozen=True)
class AnswerQuality:
    """
    How good several answers to each of many contexts are. Precision, recall and F1 are defined as by Zhao et al.,
    "Learning Discourse-level Diversity for Neural Dialog Models using Conditional Variational Autoencoders", ACL 2017.
    An answer is scored with the most similar reference, and a reference with the most similar answer.

    Args:
        bleu_precision (`float`): Mean score of the answers, in sentence BLEU, from 0 to 100.
        bleu_recall (`float`): Mean score of the references.
        bleu_f1 (`float`): Harmonic mean of both.
        embedding_precision, embedding_recall, embedding_f1 (`float`, *optional*): The same with the cosine in the
            space of an independent encoder, at most 1; `None` without one.
        distinct_1_within, distinct_2_within (`float`): The share of distinct words, and of distinct pairs of words, in
            all answers to one context, from 0 to 1; the mean over contexts. Source: Li et al., "A Diversity-Promoting
            Objective Function for Neural Conversation Models", NAACL 2016.
        distinct_1_between, distinct_2_between (`float`): The same in the first answers to all contexts.
        distinct_answers (`float`): Mean number of different answers to a context.
        num_answers (`int`): Answers to each context.
        num_contexts (`int`): Number of contexts.
    """

    bleu_precision: float
    bleu_recall: float
    bleu_f1: float
    embedding_precision: float | None
    embedding_recall: float | None
    embedding_f1: float | None
    distinct_1_within: float
    distinct_2_within: float
    distinct_1_between: float
    distinct_2_between: float
    distinct_answers: float
    num_answers: int
    num_contexts: int


def judge_answers(
    answers: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    encoder: EncoderJudge | None = None,
    batch_size: int = 64,
) -> AnswerQuality:
    """
    How good answers are, compared with what people answered.

    Args:
        answers (sequence of sequences of `str`): For each context the answers, equally many.
        references (sequence of sequences of `str`): For each context at least one answer of a person.
        encoder ([`EncoderJudge`], *optional*): Gives the scores of embeddings.
        batch_size (`int`, *optional*, defaults to 64): Texts that the encoder reads at once.

    Raises:
        ValueError: without a context, for other numbers of answers and of references, and for a context without one
            of them.

    Example:

    ```python
    >>> answers = model.sample(10, condition=contexts)
    >>> judge_answers(answers, references).bleu_recall
    ```
    """
    numbers = {len(own) for own in answers}
    if len(answers) != len(references) or len(numbers) != 1 or 0 in numbers or not all(references):
        raise ValueError(
            "Each context needs the same number of answers, one or more, and at least one reference, got answers to "
            f"{len(answers)} contexts ({', '.join(map(str, sorted(numbers))) or 'no'} answers each) and references "
            f"of {len(references)}."
        )
    tokenizer = LetterCounts().update(text for own in references for text in own).tokenizer
    bleu = BLEU(effective_order=True, tokenize=tokenizer)
    scores = _precision_and_recall(answers, references, lambda own, others: _bleu_table(bleu, own, others))
    cosines: tuple[float | None, ...] = (None, None, None)
    if encoder is not None:
        vectors = _embeddings(encoder, (*answers, *references), batch_size)
        cosines = _precision_and_recall(answers, references, lambda own, others: vectors(own) @ vectors(others).T)
    tokens = [[tokens_of(text, tokenizer) for text in own] for own in answers]
    first = [own[0] for own in tokens]
    return AnswerQuality(
        *scores,
        *cosines,
        *(sum(distinct(own, size) for own in tokens) / len(tokens) for size in (1, 2)),
        *(distinct(first, size) for size in (1, 2)),
        distinct_answers=sum(len(set(own)) for own in answers) / len(answers),
        num_answers=numbers.pop(),
        num_contexts=len(answers),
    )


def distinct(texts: Iterable[Sequence[str]], size: int) -> float:
    """
    The share of distinct n-grams among all n-grams of texts, from 0 to 1; 0 if there are none.

    Args:
        texts (iterable of sequences of `str`): The tokens of each text.
        size (`int`): n.
    """
    grams = [tuple(text[start : start + size]) for text in texts for start in range(len(text) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _bleu_table(bleu: BLEU, answers: Sequence[str], references: Sequence[str]) -> torch.Tensor:
    """Sentence BLEU of each answer with each reference, `(answers, references)`. Equal answers are scored once."""
    known: dict[tuple[str, str], float] = {}
    for pair in ((answer, reference) for answer in answers for reference in references):
        if pair not in known:
            known[pair] = bleu.sentence_score(pair[0], [pair[1]]).score
    return torch.tensor([[known[answer, reference] for reference in references] for answer in answers])


def _embeddings(
    encoder: EncoderJudge, groups: Iterable[Sequence[str]], batch_size: int
) -> Callable[[Sequence[str]], torch.Tensor]:
    """A function from texts to their vectors. Equal texts are encoded once."""
    texts = list(dict.fromkeys(text for group in groups for text in group))
    vectors = encoder.embed(texts, batch_size)
    places = {text: place for place, text in enumerate(texts)}
    return lambda own: vectors[[places[text] for text in own]]


def _precision_and_recall(
    answers: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    table: Callable[[Sequence[str], Sequence[str]], torch.Tensor],
) -> tuple[float, float, float]:
    """Precision, recall and F1, from a function that scores answers and references `(answers, references)`."""
    precisions, recalls = [], []
    for own, others in zip(answers, references, strict=True):
        scores = table(own, others).double()
        precisions.append(scores.max(1).values)
        recalls.append(scores.max(0).values)
    precision, recall = (torch.cat(values).mean().item() for values in (precisions, recalls))
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0
