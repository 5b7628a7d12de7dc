# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""How much of a text is kept (BLEU, chrF), and how similar texts are to one another (self-BLEU), in tokens that fit
the texts' script."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_char import TokenizerChar

# Names of sacreBLEU's tokenizers: of mteval-v13a for words between spaces, and single characters.
WORDS, CHARACTERS = "13a", "char"
_TOKENIZERS = {WORDS: Tokenizer13a, CHARACTERS: TokenizerChar}

# Letters and marks of scripts that do not separate words: Thai, Lao, Tibetan, Burmese, Khmer, Kana, Han.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


class LetterCounts:
    """Letters of scripts with and without spaces between words, in texts that come in batches."""

    def __init__(self) -> None:
        self._without_spaces = self._with_spaces = 0

    def update(self, texts: Iterable[str]) -> "LetterCounts":
        """Add texts, and return this object."""
        for text in texts:
            rest, found = _WITHOUT_SPACES.subn("", text)
            self._without_spaces += found
            self._with_spaces += sum(map(str.isalpha, rest))
        return self

    def merge(self, other: "LetterCounts") -> "LetterCounts":
        """Add the counts of another object, and return this object."""
        self._without_spaces += other._without_spaces
        self._with_spaces += other._with_spaces
        return self

    @property
    def tokenizer(self) -> str:
        """The tokenizer that fits: `CHARACTERS` if most letters are of scripts without spaces, otherwise `WORDS`."""
        return CHARACTERS if self._without_spaces > self._with_spaces else WORDS


class RunningScores:
    """
    BLEU in words and in characters, chrF, and the share of exact reconstructions, of a corpus whose texts come in
    batches. Only numbers of n-grams, lengths and texts are kept. Batches do not change the scores.
    """

    def __init__(self) -> None:
        # `force` keeps sacreBLEU from a warning for each batch that its texts look tokenised.
        self._metrics: dict[str, Metric] = {
            **{name: BLEU(tokenize=name, force=True) for name in (WORDS, CHARACTERS)},
            "chrf": CHRF(),
        }
        self._sums: dict[str, np.ndarray | int] = dict.fromkeys(self._metrics, 0)
        self._num_exact = self._num_texts = 0
        self.letters = LetterCounts()

    def update(self, reconstructions: Sequence[str], texts: Sequence[str]) -> "RunningScores":
        """Add texts and an equal number of reconstructions, and return this object."""
        if len(reconstructions) != len(texts):
            raise ValueError(
                f"As many reconstructions as texts are needed, got {len(reconstructions)} and {len(texts)}."
            )
        if texts:
            self.letters.update(texts)
            self._num_texts += len(texts)
            self._num_exact += sum(a == b for a, b in zip(reconstructions, texts, strict=True))
            for name, metric in self._metrics.items():
                # What `corpus_score` sums and scores at once.
                rows = metric._extract_corpus_statistics(list(reconstructions), [list(texts)])
                self._sums[name] = self._sums[name] + np.array(rows).sum(0)
        return self

    def merge(self, other: "RunningScores") -> "RunningScores":
        """Add the counts of another object, and return this object."""
        self.letters.merge(other.letters)
        self._num_texts += other._num_texts
        self._num_exact += other._num_exact
        for name, sums in other._sums.items():
            self._sums[name] = self._sums[name] + sums
        return self

    def bleu(self, tokenizer: str | None = None) -> float:
        """BLEU from 0 to 100, with a tokenizer, `WORDS` or `CHARACTERS`; by default with the one that fits."""
        return self._score(tokenizer or self.letters.tokenizer)

    def chrf(self) -> float:
        """chrF, from 0 to 100."""
        return self._score("chrf")

    def exact(self) -> float:
        """The share of reconstructions that are their text, from 0 to 100."""
        return 100 * self._num_exact / self._num_texts

    def _score(self, name: str) -> float:
        return self._metrics[name]._compute_score_from_stats(np.asarray(self._sums[name]).tolist()).score


def reconstruction_bleu(reconstructions: Sequence[str], texts: Sequence[str], tokenizer: str | None = None) -> float:
    """
    BLEU of reconstructions with the texts as references, from 0 to 100: how much of the texts is kept (Papineni et
    al., ACL 2002). Computed over the whole corpus by sacreBLEU: case kept, exponential smoothing (Post, WMT 2018).

    Args:
        reconstructions (sequence of `str`): What was decoded from the texts' latents.
        texts (sequence of `str`): The texts, in the same order.
        tokenizer (`str`, *optional*): `13a`, tokens of mteval-v13a, or `char`, characters. By default characters if
            most letters of the texts are of a script without spaces between words (Chinese, Japanese, Thai, ...),
            otherwise `13a`.

    Raises:
        ValueError: for no text, or for different numbers of texts and reconstructions.
    """
    if not texts:
        raise ValueError(f"As many reconstructions as texts are needed, got {len(reconstructions)} and no text.")
    return RunningScores().update(reconstructions, texts).bleu(tokenizer)


def tokens_of(text: str, tokenizer: str = WORDS) -> list[str]:
    """The tokens of a text, by one of sacreBLEU's tokenizers: `13a` or `char`."""
    return _TOKENIZERS[tokenizer]()(text).split()


def token_f1(text: str, reconstruction: str, tokenizer: str = WORDS) -> float:
    """
    F1 of the sets of tokens of a text and of its reconstruction, from 0 to 1; case is kept. Two texts without a token
    have 1.

    Args:
        text, reconstruction (`str`): The two texts.
        tokenizer (`str`, *optional*, defaults to `"13a"`): As in [`reconstruction_bleu`].
    """
    tokens, others = (set(tokens_of(part, tokenizer)) for part in (text, reconstruction))
    return 2 * len(tokens & others) / (len(tokens) + len(others)) if tokens or others else 1.0


def self_bleu(texts: Sequence[str], tokenizer: str | None = None) -> float:
    """
    How similar texts are to one another, from 0 to 100: the mean BLEU of each text with all other texts as references
    (Self-BLEU; Zhu et al., "Texygen", SIGIR 2018). Lower is more diverse; 100 means that each text has a duplicate.

    Sentence BLEU is computed by sacreBLEU: n-grams up to the fourth order or the length of the text, exponential
    smoothing. Texygen uses other tokens and another smoothing, so its figures are not comparable. An empty text has no
    n-grams. It counts 100 if another text is empty too, otherwise 0: a model that says nothing is not diverse.

    Args:
        texts (sequence of `str`): At least two texts, such as samples of the prior. Time grows with the square of
            their number.
        tokenizer (`str`, *optional*): As in [`reconstruction_bleu`].

    Raises:
        ValueError: for fewer than two texts, or for an element that is no text.
    """
    texts = list(texts)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if len(texts) < 2 or wrong is not None:
        got = f"{len(texts)}" if wrong is None else f"an element {wrong!r}"
        raise ValueError(f"Self-BLEU compares each text with the others and needs at least two texts, got {got}.")
    bleu = BLEU(effective_order=True, tokenize=tokenizer or LetterCounts().update(texts).tokenizer)
    number = Counter(text.strip() for text in texts)
    scores = []
    for index, text in enumerate(texts):
        if number[text.strip()] > 1:
            scores.append(100.0)  # the text has a duplicate
        elif not text.strip():
            scores.append(0.0)
        else:
            scores.append(bleu.sentence_score(text, texts[:index] + texts[index + 1 :]).score)
    return sum(scores) / len(scores)
