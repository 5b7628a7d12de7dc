"""BLEU and chrF against sacreBLEU and by hand; texts in scripts without spaces."""

import pytest
import sacrebleu

from hf_bnvae.evaluation import reconstruction_bleu, self_bleu
from hf_bnvae.evaluation.text_scores import LetterCounts, RunningScores

CHINESE = ["我今天去了商店。", "他们喜欢吃新鲜的面包。", "她有一只小狗。"]


def test_bleu_by_hand():
    assert reconstruction_bleu(["a b c d e"], ["a b c d e"]) == pytest.approx(100)
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and none of 1, smoothed to 1/2 (exponential): no brevity penalty.
    expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
    assert reconstruction_bleu(["a b c x"], ["a b c d"]) == pytest.approx(expected)
    for wrong in ((["a"], []), ([], [])):
        with pytest.raises(ValueError, match="As many reconstructions as texts"):
            reconstruction_bleu(*wrong)


def test_bleu_in_batches_is_that_of_the_whole(texts):
    halves, others = texts[:50], texts[1:41] + texts[40:50]
    whole = sacrebleu.corpus_bleu(others, [halves]).score
    scores = RunningScores().update([], []).update(others[:7], halves[:7])
    scores.merge(RunningScores().update(others[7:], halves[7:]))
    assert scores.bleu() == reconstruction_bleu(others, halves) == pytest.approx(whole)
    assert scores.chrf() == pytest.approx(sacrebleu.corpus_chrf(others, [halves]).score)
    characters = sacrebleu.corpus_bleu(others, [halves], tokenize="char").score
    assert scores.bleu("char") == pytest.approx(characters) != pytest.approx(whole)
    means = (reconstruction_bleu(others[:7], halves[:7]) + reconstruction_bleu(others[7:], halves[7:])) / 2
    assert 5 < whole < 95 and abs(means - whole) > 1
    with pytest.raises(ValueError, match="As many reconstructions as texts"):
        scores.update(["a"], [])


def test_self_bleu_is_each_text_against_all_others(texts):
    some = texts[:12]
    one_by_one = [sacrebleu.sentence_bleu(some[i], some[:i] + some[i + 1 :]).score for i in range(12)]
    assert self_bleu(some) == pytest.approx(sum(one_by_one) / 12)
    assert 1 < self_bleu(some) < 99
    # In pairs of doubles each number is found again, whatever else is in the sum.
    assert self_bleu(some + some) == 100
    assert self_bleu(["a b c d", "e f g h"]) == pytest.approx(0, abs=1e-9)
    # A model that says nothing is not diverse.
    assert self_bleu(["", " "]) == 100 and self_bleu(["", "a b c d", "e f g h"]) == pytest.approx(0, abs=1e-9)
    for wrong, words in ((["a"], "two texts, got 1"), (["a", 3], "an element 3")):
        with pytest.raises(ValueError, match=words):
            self_bleu(wrong)


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        (CHINESE, "char"),
        (["わたしはパンがすきです"], "char"),
        (["ฉันชอบกินข้าว"], "char"),
        (["The food was great ."], "13a"),
        (["Ich mag Brot", "안녕하세요 세계"], "13a"),
        (["The city of 北京 is large ."], "13a"),
        (["1 2 3 !"], "13a"),
    ],
)
def test_the_script_chooses_the_tokenizer(texts, tokenizer):
    assert LetterCounts().update(texts).tokenizer == tokenizer
    halves = LetterCounts().update([])
    halves.merge(LetterCounts().update(texts))
    assert halves.tokenizer == tokenizer


def test_a_perfect_reconstruction_of_chinese_is_perfect():
    assert reconstruction_bleu(CHINESE, CHINESE) == pytest.approx(100)
    assert reconstruction_bleu(CHINESE, CHINESE, "13a") < 1  # one token a text, and no n-gram of two
    # One of eight characters is wrong.
    assert 50 < reconstruction_bleu(["我今天去了学店。"], CHINESE[:1]) < 90
    assert self_bleu(CHINESE) > self_bleu(CHINESE, "13a")


def test_most_letters_of_the_whole_corpus_choose():
    """A batch of English in a Chinese corpus does not change the tokenizer of the corpus."""
    scores = RunningScores().update(["a b c d"], ["a b c d"]).update(CHINESE, CHINESE)
    assert scores.letters.tokenizer == "char" and scores.bleu() == pytest.approx(100)
