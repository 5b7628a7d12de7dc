# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""One call on a model and a data set gives every figure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm
from transformers.utils import logging

from ..data.collator import encoder_inputs, scored_texts
from ..model.chunking_bnvae import real_lengths
from ..model.gaussian_bnvae import DiagonalGaussian, in_float64
from ..model.loss_bnvae import IGNORE_INDEX
from ..model.modeling_bnvae import BNVAEModel
from ..model.posterior_bnvae import num_processes
from ..model.prior_bnvae import Prior
from ..model.processing_bnvae import BNVAEProcessor
from ..utils.modes import preserved_modes
from ..utils.random_state import IMPORTANCE, INFORMATION, PRIOR, RECONSTRUCTION, sentence_noise
from .batches import SentenceBatch, SentenceBatches
from .chosen_sentences import (
    ChosenSentence,
    ChosenSentences,
    decoder_targets,
    padded_conditions,
    partners_within,
    posteriors,
)
from .decoder_use import LEAST_DRAWS, LikelihoodEstimate, estimate_likelihood
from .encoding import EncodedTexts
from .importance import decoder_nll, importance_weighted_nll, rows_of_a_pass, rows_within
from .information import mutual_information
from .moments import CorpusSums, RunningMoments
from .processes import gather_results, process_index
from .result import EvaluationResult
from .text_scores import CHARACTERS, RunningScores, self_bleu

logger = logging.get_logger(__name__)

# These override the model's generation configuration.
GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "return_dict_in_generate": False}


def evaluate_model(
    model: BNVAEModel,
    data: Dataset | IterableDataset | Iterable[str] | Iterable[Mapping[str, torch.Tensor]],
    processor: BNVAEProcessor | None = None,
    *,
    text_column: str | None = None,
    batch_size: int = 64,
    num_importance_samples: int = 100,
    max_importance_sentences: int = 500,
    max_information_sentences: int = 10_000,
    num_self_bleu_samples: int | None = 100,
    memory_budget_gib: float = 1.0,
    seed: int = 0,
    show_progress: bool = True,
    on_encoded: Callable[[int, EncodedTexts], None] | None = None,
) -> EvaluationResult:
    """
    Every figure of a corpus.

    The data are read once, batch by batch, and may be larger than memory. The expensive figures are of a sample of the
    sentences ([`~evaluation.chosen_sentences.ChosenSentences`]), whose token ids and posteriors are kept. All other
    figures keep sums in float64. The noise of each sentence is drawn from the seed and from the sentence's place in
    the data. So batch size and number of processes change the figures by rounding only.

    If `torch.distributed` is initialised, every process makes this call with all of the same data. Process `i` of `P`
    evaluates the batches `i`, `i + P`, and so on, and all processes return the same result.

    Args:
        model ([`BNVAEModel`]): The model. It is evaluated in evaluation mode and gets its own mode back.
        data: The sentences: a list of strings; a `Dataset` or streamed `IterableDataset` with a column of texts, or
            with `input_ids`, `attention_mask` and `labels`; or a `DataLoader` or another iterable of such batches, as
            tensors. Empty texts are left out; a warning gives their number.
        processor ([`BNVAEProcessor`], *optional*): The model's processor. Data that are no batches need it; the one
            that is attached to the model will do. For batches, it adds the figures of texts and words.
        text_column (`str`, *optional*): The column of the texts. By default it is `text`, unless the rows have
            `input_ids`.
        batch_size (`int`, *optional*, defaults to 64): Sentences that are encoded or decoded at once. Data that are
            batches keep their own size.
        num_importance_samples (`int`, *optional*, defaults to 100): K, draws for each sentence's log p(x). With fewer
            than 10 all draws come from the posterior, and there is no decoder information.
        max_importance_sentences (`int`, *optional*, defaults to 500): The most sentences whose log p(x) is estimated.
            This is by far the most expensive figure: one pass of the decoder for each draw.
        max_information_sentences (`int`, *optional*, defaults to 10000): The most sentences from which mutual
            information, marginal KL and latent gain are estimated. For the first two, time grows with the square of
            the number.
        num_self_bleu_samples (`int`, *optional*, defaults to 100): The number of texts that are decoded from draws of
            the prior for self-BLEU; `None` or 0 leaves self-BLEU out.
        memory_budget_gib (`float`, *optional*, defaults to 1): Memory in GiB, without the weights, that the decoder
            may take when it scores sentences; see [`~evaluation.importance.rows_within`]. Importance samples need the
            most of it. On the CPU the decoder takes less if that is faster.
        seed (`int`, *optional*, defaults to 0): Seed of all noise; the global random state is left alone.
        show_progress (`bool`, *optional*, defaults to `True`): Whether to draw a progress bar, on the main process.
        on_encoded (`Callable`, *optional*): Called once for each batch, on the process that encoded the batch: with
            the place of its first sentence in the data, and with its features and posteriors on the CPU. Whoever needs
            them later keeps them, so that no text is encoded twice; the evaluation itself does not.

    Returns:
        [`EvaluationResult`]: The figures, with their units and estimators.

    Raises:
        ValueError: for a model without latents, a posterior whose running statistics were never estimated, and
            arguments out of range; for fewer than two sentences, sentences without labels, and token ids that the
            model does not have; and for processes that were given different data.
    """
    for name, value, least in (
        ("num_importance_samples", num_importance_samples, 1),
        ("max_importance_sentences", max_importance_sentences, 1),
        ("max_information_sentences", max_information_sentences, 2),
        ("num_self_bleu_samples", num_self_bleu_samples or 2, 2),  # 0 and None leave it out
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    model = getattr(model, "module", model)
    _require_latents(model)
    model.posterior.require_estimated()
    rows_within(memory_budget_gib, model, 1)  # raises for a bad budget, before the work begins
    attached = getattr(model, "processor", None)
    batches = SentenceBatches(
        data,
        processor or attached,
        text_column,
        batch_size,
        num_processes(),
        process_index(),
        model.config.conditional,
    )
    evaluation = _Evaluation(
        model,
        # Ready batches may come from another processor than the attached one.
        processor or (None if batches.are_ready else attached),
        num_importance_samples=num_importance_samples,
        max_importance_sentences=max_importance_sentences,
        max_information_sentences=max_information_sentences,
        num_self_bleu_samples=num_self_bleu_samples or 0,
        memory_budget_gib=memory_budget_gib,
        seed=seed,
        on_encoded=on_encoded,
    )
    with preserved_modes(model), torch.no_grad():
        model.eval()
        show = show_progress and process_index() == 0
        share = _merged(gather_results(lambda: evaluation.evaluate_batches(batches, show)))
        sample, *others = gather_results(lambda: evaluation.evaluate_sample(share, batches, show))
        for other in others:
            sample.merge(other)
        return evaluation.result(share, sample)


@dataclass
class _Share:
    """What one process has found out; after [`_merged`], what all processes have."""

    num_read: int = 0
    checksum: int = 0
    num_empty: int = 0
    num_cut: int = 0
    num_cut_conditions: int = 0
    corpus: CorpusSums = field(default_factory=CorpusSums)
    tokens: Counter[int] = field(default_factory=Counter)  # how often each token id is scored
    scores: RunningScores = field(default_factory=RunningScores)
    num_undecodable: int = 0  # sentences whose latents are no numbers
    fitted_kl: RunningMoments = field(default_factory=RunningMoments)
    chosen: ChosenSentences = field(default_factory=lambda: ChosenSentences(0))


@dataclass
class _Likelihoods:
    """log p(x) of chosen sentences under one prior, and what depends on it."""

    iw_nll: RunningMoments = field(default_factory=RunningMoments)
    kl: RunningMoments = field(default_factory=RunningMoments)
    negative_elbo: RunningMoments = field(default_factory=RunningMoments)
    decoder_information: RunningMoments = field(default_factory=RunningMoments)
    variance: RunningMoments = field(default_factory=RunningMoments)

    def update(self, estimate: LikelihoodEstimate, kl: torch.Tensor) -> None:
        """Add sentences, with the KL of each from the prior."""
        self.iw_nll.update(estimate.iw_nll)
        self.kl.update(kl)
        self.negative_elbo.update(estimate.reconstruction_nll + kl)
        self.decoder_information.update(estimate.decoder_information)
        self.variance.update(estimate.variance)

    def merge(self, other: "_Likelihoods") -> None:
        for moments in fields(self):
            getattr(self, moments.name).merge(getattr(other, moments.name))

    def figures(self) -> dict[str, float]:
        """The figures by their names under N(0, I), as far as there are sentences."""
        if not self.iw_nll.count:
            return {}
        figures = {"iw_nll": self.iw_nll.mean.item(), "iw_nll_error": self.iw_nll.standard_error}
        if not self.decoder_information.count:
            return figures
        return figures | {
            "iw_kl": self.kl.mean.item(),
            "iw_negative_elbo": self.negative_elbo.mean.item(),
            "decoder_information": self.decoder_information.mean.item(),
            "decoder_information_error": math.sqrt(self.variance.mean.item() / self.variance.count),
        }


@dataclass
class _SampleShare:
    """What one process has found out about the chosen sentences; after merging, what all processes have."""

    latent_gain: RunningMoments = field(default_factory=RunningMoments)
    gain_within: RunningMoments = field(default_factory=RunningMoments)  # between texts of one condition
    samples: dict[int, str] = field(default_factory=dict)  # by their number
    fitted_samples: dict[int, str] = field(default_factory=dict)  # the same of the fitted prior
    standard: _Likelihoods = field(default_factory=_Likelihoods)
    fitted: _Likelihoods = field(default_factory=_Likelihoods)

    def merge(self, other: "_SampleShare") -> None:
        for part in fields(self):
            own, added = getattr(self, part.name), getattr(other, part.name)
            own.update(added) if isinstance(own, dict) else own.merge(added)


@dataclass
class _Evaluation:
    """A model in evaluation mode, with the arguments of [`evaluate_model`]."""

    model: BNVAEModel
    processor: BNVAEProcessor | None
    num_importance_samples: int
    max_importance_sentences: int
    max_information_sentences: int
    num_self_bleu_samples: int
    memory_budget_gib: float
    seed: int
    on_encoded: Callable[[int, EncodedTexts], None] | None

    def evaluate_batches(self, batches: SentenceBatches, show_progress: bool) -> _Share:
        """Evaluate the batches of this process."""
        share = _Share(chosen=ChosenSentences(max(self.max_importance_sentences, self.max_information_sentences)))
        for batch in tqdm(
            batches, total=batches.num_batches, desc="Evaluating", disable=not show_progress, leave=False
        ):
            _require_known_tokens(self.model, batch)
            self._add_batch(share, batch)
        share.num_read, share.checksum = batches.count, batches.checksum
        share.num_empty, share.num_cut = batches.num_empty, batches.num_cut
        share.num_cut_conditions = batches.num_cut_conditions
        return share

    def _add_batch(self, share: _Share, batch: SentenceBatch) -> None:
        model = self.model
        tensors = {name: values.to(self._device) for name, values in batch.tensors.items()}
        labels = tensors["labels"]
        posterior = self._encode(tensors, batch.first)
        noise = self._noise(RECONSTRUCTION, batch.indices).to(posterior.mean)
        targets = scored_texts(tensors)
        nll = model(
            latents=posterior.sample(noise),
            **targets,
            chunk_size=self._rows_of_a_pass(
                sum(int(real_lengths(ids.ne(IGNORE_INDEX)).max()) for ids in targets.values())
            ),
            return_dict=True,
        ).reconstruction_nll
        share.corpus.update(nll, posterior.kl(), posterior.mean, posterior.logvar)
        if self._fitted_prior is not None:
            share.fitted_kl.update(self._fitted_prior.kl(posterior))
        tokens, counts = labels[labels.ne(IGNORE_INDEX)].unique(return_counts=True)
        share.tokens.update(dict(zip(tokens.tolist(), counts.tolist(), strict=True)))

        num_words: list[int | None] = [None] * len(labels)
        if self.processor is not None:
            # What the tokenizer makes of the text: a reconstruction cannot have more than that.
            references = self.processor.decode_texts(batch.tensors["labels"])
            latents = posterior.mode()
            undecodable = int(latents.isfinite().logical_not().any(1).sum())
            share.num_undecodable += undecodable
            if not undecodable:
                share.scores.update(self._decode(latents, tensors.get("condition_ids")), references)
            # A text that was cut is known by its labels only.
            texts = [known or text for known, text in zip(batch.texts or references, references, strict=True)]
            num_words = [len(text.split()) + 1 for text in texts]
        mean, logvar = posterior.mean.cpu(), posterior.logvar.cpu()
        ids = {name: values.cpu() for name, values in targets.items()}
        for row, place in enumerate(batch.indices):
            if share.chosen.wants(place):
                own = {name: values[row][values[row].ne(IGNORE_INDEX)] for name, values in ids.items()}
                share.chosen.add(
                    ChosenSentence(
                        place=place,
                        mean=mean[row].clone(),
                        logvar=logvar[row].clone(),
                        num_words=num_words[row],
                        **own,
                    )
                )

    def _encode(self, tensors: Mapping[str, torch.Tensor], first: int) -> DiagonalGaussian:
        """The posteriors of a batch. `on_encoded` gets them with the features from which the head made them."""
        features = self.model.features(**encoder_inputs(tensors))
        posterior = self.model.posterior(features)
        if self.on_encoded is not None:
            self.on_encoded(first, EncodedTexts(features.cpu(), posterior.mean.cpu(), posterior.logvar.cpu()))
        return posterior

    # -- the chosen sentences -----------------------------------------------------------------------------------------

    def evaluate_sample(self, share: _Share, batches: SentenceBatches, show_progress: bool) -> _SampleShare:
        """Evaluate this process' part of the chosen sentences."""
        sample = _SampleShare()
        chosen = share.chosen.first(self.max_information_sentences)
        if len(chosen) > 1:
            partners = list(zip(chosen, [*chosen[1:], chosen[0]], strict=True))
            own_partners = partners[batches.process_index :: batches.num_processes]
            self._add_latent_gain(sample.latent_gain, own_partners, batches.batch_size)
            own_partners = partners_within(chosen)[batches.process_index :: batches.num_processes]
            self._add_latent_gain(sample.gain_within, own_partners, batches.batch_size)
        if self.processor is not None:
            self._add_samples(sample, chosen, batches)
        chosen = share.chosen.first(self.max_importance_sentences)[batches.process_index :: batches.num_processes]
        if chosen:
            with tqdm(total=len(chosen), desc="log p(x)", disable=not show_progress, leave=False) as progress:
                self._add_likelihoods(sample, chosen, progress.update)
        return sample

    def _add_latent_gain(
        self, gain: RunningMoments, partners: list[tuple[ChosenSentence, ChosenSentence]], batch_size: int
    ) -> None:
        """Add to `gain` what sentences lose with the latent of another one. Both passes are of the same shape, so that
        the difference is exactly 0 if the decoder ignores the latent."""
        # Copies of one text tell nothing about each other.
        partners = [(own, other) for own, other in partners if not torch.equal(own.labels, other.labels)]
        partners.sort(key=lambda pair: -pair[0].num_positions)
        for start in range(0, len(partners), batch_size):
            own, other = zip(*partners[start : start + batch_size], strict=True)
            targets = decoder_targets(own, self._device)
            size = self._rows_of_a_pass(sum(ids.shape[1] for ids in targets.values()))
            nll, other_nll = (
                self.model(
                    latents=self._draw(sentences), **targets, chunk_size=size, return_dict=True
                ).reconstruction_nll
                for sentences in (own, other)
            )
            gain.update(in_float64(other_nll) - in_float64(nll))

    def _draw(self, sentences: Sequence[ChosenSentence]) -> torch.Tensor:
        """The latents of the reconstruction."""
        posterior = posteriors(sentences, self._device)
        noise = self._noise(RECONSTRUCTION, [sentence.place for sentence in sentences])
        return posterior.sample(noise.to(posterior.mean))

    def _add_likelihoods(
        self, sample: _SampleShare, sentences: list[ChosenSentence], count: Callable[[int], Any]
    ) -> None:
        """log p(x) and what depends on it. Sentences of similar length share a pass, which saves padding."""
        sentences = sorted(sentences, key=lambda sentence: -sentence.num_positions)
        posterior = posteriors(sentences, self._device)

        def noise(rows: torch.Tensor) -> torch.Tensor:
            count(len(rows))
            places = (sentences[row].place for row in rows.tolist())
            return self._noise(IMPORTANCE, places, self.num_importance_samples)

        def rows_per_pass(first: int) -> int:
            return self._rows_of_a_pass(sentences[first].num_positions)

        nll = decoder_nll(self.model, **decoder_targets(sentences, self._device))
        size = self.num_importance_samples
        if size < LEAST_DRAWS:
            sample.standard.iw_nll.update(importance_weighted_nll(nll, posterior, size, rows_per_pass, noise))
            return
        fitted_prior = self._fitted_prior
        estimate = estimate_likelihood(nll, posterior, size, rows_per_pass, noise, fitted_prior=fitted_prior)
        sample.standard.update(estimate, in_float64(posterior.kl()).sum(-1))
        if fitted_prior is not None:
            exact = DiagonalGaussian(in_float64(posterior.mean), in_float64(posterior.logvar))
            sample.fitted.update(estimate.fitted, fitted_prior.kl(exact))

    def _rows_of_a_pass(self, length: int) -> int:
        """The number of sentences of `length` positions that the decoder scores at once."""
        rows = rows_of_a_pass(self.memory_budget_gib, self.model, length)
        return min(rows, self.model.config.chunk_size or rows)

    def _add_samples(self, sample: _SampleShare, chosen: Sequence[ChosenSentence], batches: SentenceBatches) -> None:
        """Decode this process' samples of the prior. The chosen sentences give the conditions."""
        if not chosen:
            return
        numbers = range(self.num_self_bleu_samples)
        parts = [numbers[start : start + batches.batch_size] for start in numbers[:: batches.batch_size]]
        for part in parts[batches.process_index :: batches.num_processes]:
            latents = self._noise(PRIOR, part).to(self._device, self.model.posterior.dtype)
            conditions = padded_conditions([chosen[number % len(chosen)] for number in part], self._device)
            sample.samples |= zip(part, self._decode(latents, conditions), strict=True)
            if self._fitted_prior is not None:
                latents = self._fitted_prior.unwhiten(latents)
                sample.fitted_samples |= zip(part, self._decode(latents, conditions), strict=True)

    def _decode(self, latents: torch.Tensor, condition_ids: torch.Tensor | None) -> list[str]:
        try:
            output = self.model.generate(latents=latents, condition_ids=condition_ids, **GREEDY)
            return self.processor.decode_texts(output)
        except FloatingPointError:  # a broken decoder has no texts, and the verdict says that it is broken
            return [""] * len(latents)

    def _noise(self, purpose: int, indices: Iterable[int], *shape: int) -> torch.Tensor:
        return sentence_noise(self.seed, purpose, indices, *shape, self.model.config.latent_size)

    @cached_property
    def _fitted_prior(self) -> Prior | None:
        return self.model.fitted_prior

    @property
    def _device(self) -> torch.device:
        return self.model.posterior.device

    def result(self, share: _Share, sample: _SampleShare) -> EvaluationResult:
        """The figures of the whole corpus, from what all processes have found out about it and about the chosen
        sentences."""
        count = share.corpus.count
        if count < 2:
            raise ValueError(
                f"An evaluation needs at least two sentences, got {count or 'none'}: moments, active units and mutual "
                "information are over the sentences, and not defined for fewer. Give it more data."
            )
        if share.num_cut:
            logger.warning(
                f"{share.num_cut} of {count} texts are longer than the model has positions for and were cut. The "
                "figures are those of what was left."
            )
        if share.num_cut_conditions:
            logger.warning(
                f"{share.num_cut_conditions} of {count} conditions are longer than half of the model's positions and "
                "lost their beginnings."
            )
        if share.num_empty:
            logger.warning(f"Left out {share.num_empty} of the data's texts: empty, only whitespace, or no text.")
        figures = share.corpus.figures(self.model.posterior)
        del figures["loss"]
        chosen = share.chosen.first(self.max_information_sentences)
        noise = self._noise(INFORMATION, [sentence.place for sentence in chosen])
        information = mutual_information(
            posteriors(chosen, self._device), noise=noise, fitted_prior=self._fitted_prior
        )
        likelihoods = share.chosen.first(self.max_importance_sentences)
        num_tokens = sum(len(sentence.labels) for sentence in likelihoods)
        if sample.standard.decoder_information.count:
            figures["iw_nll_draws"] = "a mixture between posterior and prior"
        figures |= sample.standard.figures()
        iw_nlls = {"iw_nll": sample.standard.iw_nll}
        if self._fitted_prior is not None:
            figures |= {
                "fitted_prior": self._fitted_prior.name,
                "fitted_kl": share.fitted_kl.mean.item(),
                "fitted_elbo": -(figures["reconstruction_nll"] + share.fitted_kl.mean.item()),
                **{f"fitted_{name}": value for name, value in sample.fitted.figures().items()},
            }
            if sample.fitted.iw_nll.count:
                iw_nlls["fitted_iw_nll"] = sample.fitted.iw_nll
        figures |= _perplexities(iw_nlls, "token", num_tokens)
        if self.processor is not None:
            tokenizer = share.scores.letters.tokenizer
            figures["text_tokenizer"] = tokenizer
            if not share.num_undecodable:
                figures["reconstruction_bleu"] = share.scores.bleu(tokenizer)
                figures["reconstruction_chrf"] = share.scores.chrf()
                figures["reconstruction_exact"] = share.scores.exact()
            if tokenizer != CHARACTERS:
                num_words = sum(sentence.num_words or 0 for sentence in likelihoods)
                figures |= {"iw_nll_num_words": num_words, **_perplexities(iw_nlls, "word", num_words)}
            if self.num_self_bleu_samples:
                figures["self_bleu_num_samples"] = self.num_self_bleu_samples
                for name, samples in (("self_bleu", sample.samples), ("fitted_self_bleu", sample.fitted_samples)):
                    if samples:
                        figures[name] = self_bleu([samples[number] for number in sorted(samples)], tokenizer)
        return EvaluationResult(
            num_sentences=count,
            frequency_nll=self._frequency_nll(share.tokens, count),
            iw_nll_num_sentences=sample.standard.iw_nll.count,
            iw_nll_num_samples=self.num_importance_samples,
            iw_nll_num_tokens=num_tokens,
            latent_gain=sample.latent_gain.mean.item() if sample.latent_gain.count else None,
            latent_gain_error=sample.latent_gain.standard_error,
            **self._gain_within(sample.gain_within),
            information_num_sentences=len(chosen),
            are_sentences_spread=True,
            latent_size=self.model.config.latent_size,
            **asdict(information),
            **figures,
        )

    @staticmethod
    def _gain_within(gain: RunningMoments) -> dict[str, float]:
        """The figures of the latent gain between texts of one condition, if there are such texts."""
        if not gain.count:
            return {}
        return {
            "latent_gain_within": gain.mean.item(),
            "latent_gain_within_error": gain.standard_error,
            "latent_gain_within_num_sentences": gain.count,
        }

    def _frequency_nll(self, tokens: Counter[int], num_sentences: int) -> float:
        """-log p(x) of a sentence in nats, if each of its tokens is predicted by how often it occurs among the others.
        One is added to the count of each token of the vocabulary, so that none is impossible."""
        total = tokens.total() - 1 + self.model.config.decoder.vocab_size
        return sum(count * (math.log(total) - math.log(count)) for count in tokens.values()) / num_sentences


def _merged(shares: list[_Share]) -> _Share:
    """The shares of all processes in one.

    Raises:
        ValueError: if the processes were given different data.
    """
    if len({(share.num_read, share.checksum) for share in shares}) > 1:
        raise ValueError(
            "The processes were given different data "
            f"({', '.join(str(share.num_read) for share in shares)} sentences). Give each of them all the data, in "
            "the same order: the evaluation shares them out itself. A loader that was prepared for several processes "
            "(a DistributedSampler, accelerator.prepare) does so already."
        )
    whole = shares[0]
    for share in shares[1:]:
        # A process counts the cut texts in its own batches, but the empty texts in all data. So `num_empty` is whole.
        whole.num_cut += share.num_cut
        whole.num_cut_conditions += share.num_cut_conditions
        whole.num_undecodable += share.num_undecodable
        whole.tokens.update(share.tokens)
        for name in ("corpus", "scores", "chosen", "fitted_kl"):
            getattr(whole, name).merge(getattr(share, name))
    return whole


def _perplexities(iw_nlls: Mapping[str, RunningMoments], unit: str, number: int) -> dict[str, float]:
    """exp(sum of -log p / number of tokens or words), for each IW-NLL."""
    return {
        name.replace("iw_nll", f"{unit}_perplexity"): torch.exp(nll.mean * nll.count / number).item()
        for name, nll in iw_nlls.items()
    }


def _require_latents(model: Any) -> None:
    if not all(hasattr(model, name) for name in ("encode", "posterior", "decoder")):
        raise ValueError(
            f"An evaluation needs a model with latents, a BNVAEModel, got {type(model).__name__}. For a BN-VAE of a "
            "pretrained encoder and decoder, see BNVAEModel.from_encoder_decoder_pretrained."
        )
    if num_processes() > 1 and any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
        raise ValueError(
            "The model's weights are sharded (FSDP), so all processes would have to make the same passes, and an "
            "evaluation gives each process other batches. Save the model, and evaluate what "
            "BNVAEModel.from_pretrained loads."
        )


def _require_known_tokens(model: BNVAEModel, batch: SentenceBatch) -> None:
    """Refuse token ids that an embedding lacks. On a GPU its kernel would fail without a useful message."""
    labels = batch.tensors["labels"]
    scored = labels.ne(IGNORE_INDEX)
    if not bool(scored.any(1).all()):
        index = batch.first + int(scored.any(1).long().argmin())
        raise ValueError(f"The labels of sentence {index} hold no token to score, not even EOS: all are -100.")
    for name, network, ids in (
        ("input_ids", "encoder", batch.tensors["input_ids"]),
        ("labels", "decoder", labels[scored]),
    ):
        size = getattr(model, network).get_input_embeddings().weight.shape[0]
        if bool((ids.lt(0) | ids.ge(size)).any()):
            wrong = int(ids[ids.lt(0) | ids.ge(size)][0])
            raise ValueError(
                f"The {name} of sentences {batch.first} to {batch.indices[-1]} hold the token id {wrong}, and the "
                f"{network}'s vocabulary has {size} tokens, 0 to {size - 1}. They were made by another tokenizer: use "
                "the processor that was saved with the model."
            )
