# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The result of an evaluation: every figure with its unit and its estimator, as a dataclass, JSON and rows of a
table."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..utils.json_files import read_json, write_json
from .information import is_near_log_n
from .moments import ACTIVE_UNIT_VARIANCE
from .text_scores import CHARACTERS, WORDS
from .verdict import Verdict, judge, kl_of_used_share

NATS = "nats per sentence"

# How the tokenizers of BLEU are called in a table.
_TOKENIZERS = {WORDS: "tokens 13a", CHARACTERS: "in characters"}

# What only a table knows, not the description of a figure.
_WORDS_IN_BRACES = re.compile("{(near_least|near_most|first|below)}| of {share_kl}")

# In JSON, beside the figures.
_ABOUT = "about"


def _figure(
    label: str, unit: str, estimator: str, digits: int = 2, default: Any = MISSING, is_always_shown: bool = True
) -> Any:
    """
    A field that is a figure. The standard error of a figure is the field `<name>_error`, if there is one.

    Args:
        label (`str`): Its name in a table; a figure without a label has no row.
        unit (`str`): Its unit.
        estimator (`str`): How it is estimated. Names of fields in braces stand for their values.
        digits (`int`): The digits to print after the point.
        default: The value of a figure that was not measured.
        is_always_shown (`bool`): Whether it also has a row where it was not measured. A figure that only some models
            have has none then.
    """
    metadata = {"label": label, "unit": unit, "estimator": estimator, "digits": digits, "always": is_always_shown}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def _fitted(name: str) -> Any:
    """The field of a figure under the model's fitted prior, instead of N(0, I)."""
    return _figure("", "as " + name, f"{name} under the fitted prior instead of N(0, I)", default=None)


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """
    The figures of a corpus under a model. The metadata of each field say what the figure is, its unit, and how it is
    estimated. [`~EvaluationResult.rows`] makes a table of them. `None` means that a figure was not measured, or is not
    defined.

    The prior is N(0, I) in all figures except `fitted_...`. These are of the same texts and draws under the model's
    fitted prior ([`fit_prior`]), and are `None` for a model without one.

    Perplexities come from the IW-NLL and its sentences: exp(sum of -log p(x) / number of units). A unit is a token or
    a word. Tokens are all tokens that are scored: EOS, but not the start token. Words are separated by whitespace, and
    the end of each sentence counts as one more word, because it is predicted too. Perplexities are upper bounds, like
    the IW-NLL.
    """

    num_sentences: int = _figure("sentences", "count", "of the corpus, N")
    reconstruction_nll: float = _figure("reconstruction", NATS, "-log p(x given z), one sample of z for each sentence")
    kl: float = _figure("KL", NATS, "of the posteriors from the prior, in closed form")
    kl_floor: float = _figure("KL floor", NATS, "least mean KL of a training batch at these parameters{below}")
    elbo: float = _figure("ELBO", NATS, "-(reconstruction + KL)")
    frequency_nll: float | None = _figure(
        "token frequencies", NATS, "-log p(x), each token predicted by how often it occurs in the others", default=None
    )
    latent_gain: float | None = _figure(
        "latent gain",
        NATS,
        "likelihood lost with another sentence's latent, {information_num_sentences} sentences",
        default=None,
    )
    latent_gain_error: float | None = _figure(
        "", NATS, "standard error of latent_gain over its sentences", default=None
    )
    latent_gain_within: float | None = _figure(
        "latent gain within conditions",
        NATS,
        "likelihood lost with the latent of another sentence of the same condition, "
        "{latent_gain_within_num_sentences} sentences",
        default=None,
        is_always_shown=False,
    )
    latent_gain_within_error: float | None = _figure(
        "", NATS, "standard error of latent_gain_within over its sentences", default=None
    )
    latent_gain_within_num_sentences: int | None = _figure(
        "", "count", "sentences of latent_gain_within", default=None
    )
    decoder_information: float | None = _figure(
        "decoder information",
        NATS,
        "what the decoder uses of a KL of {share_kl}: E[log p(x given z)] - log p(x), sentences of the IW-NLL",
        default=None,
    )
    decoder_information_error: float | None = _figure(
        "", NATS, "standard error of decoder_information over its draws", default=None
    )
    iw_nll: float = _figure(
        "IW-NLL",
        NATS,
        "-log p(x), {iw_nll_num_samples} draws of {draws}, {first}{iw_nll_num_sentences} sentences",
    )
    iw_negative_elbo: float | None = _figure(
        "-ELBO", NATS, "of the IW-NLL's sentences, from its draws of the posterior", default=None
    )
    iw_kl: float | None = _figure("", NATS, "KL of the sentences of iw_nll", default=None)
    iw_nll_draws: str | None = _figure(
        "", "text", "of which distributions the draws of iw_nll are; of the posterior if it is null", default=None
    )
    iw_nll_error: float | None = _figure("", NATS, "standard error of iw_nll over its sentences", default=None)
    iw_nll_num_sentences: int = _figure("", "count", "sentences of iw_nll and of the perplexities")
    iw_nll_num_samples: int = _figure("", "count", "importance samples for each of those sentences")
    token_perplexity: float | None = _figure(
        "perplexity", "per token", "exp(IW-NLL / {iw_nll_num_tokens} scored tokens), EOS scored", default=None
    )
    iw_nll_num_tokens: int | None = _figure("", "count", "scored tokens of the perplexity, EOS included", default=None)
    word_perplexity: float | None = _figure(
        "perplexity", "per word", "exp(IW-NLL / {iw_nll_num_words} words), one for each sentence's end", default=None
    )
    iw_nll_num_words: int | None = _figure(
        "", "count", "words of the perplexity: between whitespace, and one for each sentence's end", default=None
    )
    mutual_information: float = _figure(
        "mutual information",
        NATS,
        "aggregated posterior, {first}{information_num_sentences} sentences, "
        "log N = {log_num_sentences:.2f}{near_least}",
    )
    mutual_information_error: float = _figure("", NATS, "Monte-Carlo standard error of mutual_information")
    marginal_kl: float = _figure(
        "marginal KL",
        NATS,
        "of the aggregated posterior from the prior, same sentences{near_most}",
    )
    marginal_kl_error: float | None = _figure("", NATS, "Monte-Carlo standard error of marginal_kl", default=None)
    information_num_sentences: int | None = _figure(
        "", "count", "sentences of mutual_information, marginal_kl and latent_gain", default=None
    )
    are_sentences_spread: bool | None = _figure(
        "",
        "yes or no",
        "whether the sentences of a sample are spread over the data; the first ones if null",
        default=None,
    )
    log_num_sentences: float = _figure(
        "", "nats", "log of information_num_sentences, which the estimate cannot exceed"
    )
    active_units: int = _figure("active units", "dimensions", f"Var[mu] >= {ACTIVE_UNIT_VARIANCE}, of {{latent_size}}")
    latent_size: int = _figure("", "dimensions", "of the latent space")
    aggregate_mean: float = _figure("E[mu]", "1", "root mean square over dimensions, 0 for the prior", digits=3)
    aggregate_second_moment: float = _figure("E[mu² + sigma²]", "1", "mean over dimensions, 1 for the prior", digits=3)
    mean_moment_ratio: float | None = _figure(
        "E[mu²] over promised", "ratio", "1 where evaluation sees what training saw", digits=3, default=None
    )
    variance_moment_ratio: float | None = _figure(
        "E[sigma²] over promised", "ratio", "1 where evaluation sees what training saw", digits=3, default=None
    )
    reconstruction_bleu: float | None = _figure(
        "reconstruction BLEU",
        "0 to 100",
        "greedy, from the posteriors' means, all sentences, {tokenizer}",
        digits=1,
        default=None,
    )
    reconstruction_chrf: float | None = _figure(
        "reconstruction chrF", "0 to 100", "of the same reconstructions, n-grams of characters", digits=1, default=None
    )
    reconstruction_exact: float | None = _figure(
        "exact reconstructions",
        "percent",
        "of the same reconstructions, those that are the text",
        digits=1,
        default=None,
    )
    text_tokenizer: str | None = _figure(
        "", "text", "sacreBLEU's tokenizer of reconstruction_bleu and self_bleu; 13a if it is null", default=None
    )
    self_bleu: float | None = _figure(
        "self-BLEU",
        "0 to 100",
        "{self_bleu_num_samples} greedy samples of the prior, {tokenizer}",
        digits=1,
        default=None,
    )
    self_bleu_num_samples: int | None = _figure("", "count", "samples of the prior of self_bleu", default=None)
    fitted_prior: str | None = _figure(
        "", "text", "kind of the model's fitted prior, of all figures fitted_...; null without one", default=None
    )
    fitted_kl: float | None = _fitted("kl")
    fitted_elbo: float | None = _fitted("elbo")
    fitted_decoder_information: float | None = _fitted("decoder_information")
    fitted_decoder_information_error: float | None = _fitted("decoder_information_error")
    fitted_iw_nll: float | None = _fitted("iw_nll")
    fitted_iw_nll_error: float | None = _fitted("iw_nll_error")
    fitted_iw_negative_elbo: float | None = _fitted("iw_negative_elbo")
    fitted_iw_kl: float | None = _fitted("iw_kl")
    fitted_token_perplexity: float | None = _fitted("token_perplexity")
    fitted_word_perplexity: float | None = _fitted("word_perplexity")
    fitted_marginal_kl: float | None = _fitted("marginal_kl")
    fitted_marginal_kl_error: float | None = _fitted("marginal_kl_error")
    fitted_self_bleu: float | None = _fitted("self_bleu")

    @property
    def is_information_lower_bound(self) -> bool:
        """Whether the mutual information is within 1 nat of log N, so that the truth may be larger."""
        return is_near_log_n(self.mutual_information, self.log_num_sentences)

    @property
    def verdict(self) -> Verdict:
        """Whether the latent space is alive, and if not, why."""
        return judge(asdict(self))

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The rows of a table: name, value with standard error, unit, estimator. A figure that was not measured has
        the value "-"."""
        return figure_rows(asdict(self))

    def to_metrics(self, prefix: str = "eval") -> dict[str, Any]:
        """The figures with the names that `Trainer` would give them, `eval_kl` and so on, without those that are
        `None`."""
        return {f"{prefix}_{name}": value for name, value in self._measured().items()}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any], prefix: str = "eval") -> "EvaluationResult":
        """
        The figures from a mapping that [`~EvaluationResult.to_metrics`] made. The mapping may hold other values too.

        Raises:
            ValueError: if a figure is missing that every evaluation has.
        """
        names = {figure.name for figure in fields(cls)}
        known = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items()}
        return cls._build({name: value for name, value in known.items() if name in names}, "the metrics")

    def to_json_file(self, path: str | Path) -> None:
        """Write the figures as JSON, by their names. Their units and estimators stand under `about`."""
        record = asdict(self) | {_ABOUT: {figure.name: _about(figure) for figure in fields(self)}}
        write_json(path, record)

    @classmethod
    def from_json_file(cls, path: str | Path) -> "EvaluationResult":
        """
        The figures that [`~EvaluationResult.to_json_file`] wrote.

        Raises:
            ValueError: for a file that is no JSON object of figures, or lacks some.
        """
        record = read_json(path)
        record.pop(_ABOUT, None)
        unknown = sorted(record.keys() - {figure.name for figure in fields(cls)})
        if unknown:
            raise ValueError(f"{path} is no result of an evaluation: it holds {', '.join(unknown)}.")
        return cls._build(record, str(path))

    @classmethod
    def _build(cls, values: dict[str, Any], where: str) -> "EvaluationResult":
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
        if missing:
            raise ValueError(f"The result of an evaluation has figures that {where} lacks: {', '.join(missing)}.")
        return cls(**values)

    def _measured(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """As [`~EvaluationResult.rows`], from some of the figures. Figures that are not there get no row.

    Args:
        figures (mapping): Values by the names of [`EvaluationResult`]'s fields.
    """
    information, most = figures.get("mutual_information"), figures.get("log_num_sentences")
    is_bound = information is not None and most is not None and is_near_log_n(information, most)
    kl, floor = figures.get("kl"), figures.get("kl_floor")
    is_below = kl is not None and floor is not None and round(kl, 2) < round(floor, 2)
    values = {
        "near_least": " (a lower bound: within 1 nat of it)" if is_bound else "",
        "near_most": " (an upper bound, since the mutual information is a lower one)" if is_bound else "",
        "below": "; the moments of these texts are their own, so their KL lies below" if is_below else "",
        "share_kl": _number(kl_of_used_share(figures), 2),
        "first": "" if figures.get("are_sentences_spread") else "first ",
        "draws": figures.get("iw_nll_draws") or "the posterior",
        "tokenizer": _TOKENIZERS.get(figures.get("text_tokenizer") or WORDS),
        **figures,
    }
    if values.get("information_num_sentences") is None:
        # Results of an earlier version do not have it.
        values["information_num_sentences"] = values.get("num_sentences")
    rows = []
    for figure in fields(EvaluationResult):
        about = figure.metadata
        if not about["label"] or figure.name not in figures:
            continue
        if figures[figure.name] is None and not about["always"]:
            continue
        value = _with_error(figure, figure.name, figures)
        estimator = "not measured" if figures[figure.name] is None else about["estimator"].format(**values)
        rows.append((about["label"], value, about["unit"], estimator))
    return rows


def prior_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """
    The figures that depend on the prior: name, value under N(0, I), value under the fitted prior, unit. Empty for a
    model without a fitted prior.

    Args:
        figures (mapping): Values by the names of [`EvaluationResult`]'s fields.
    """
    rows = []
    for figure in fields(EvaluationResult):
        fitted = f"fitted_{figure.name}"
        if figure.metadata["label"] and figures.get(fitted) is not None:
            values = (_with_error(figure, name, figures) for name in (figure.name, fitted))
            rows.append((figure.metadata["label"], *values, figure.metadata["unit"]))
    return rows


def _with_error(figure: Field, name: str, figures: Mapping[str, Any]) -> str:
    """The value of a figure, with its standard error."""
    digits = figure.metadata["digits"]
    error = figures.get(f"{name}_error")
    value = _number(figures.get(name), digits)
    return value if error is None else f"{value} ± {_number(error, digits)}"


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _about(figure: Field) -> str:
    return f"{figure.metadata['unit']}; {_WORDS_IN_BRACES.sub('', figure.metadata['estimator'])}"
