# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""One call on a model and a data set gives every figure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm
from transformers.utils import logging

from ..data.collator import encoder_inputs
from ..model.chunking_bnvae import real_lengths
from ..model.gaussian_bnvae import DiagonalGaussian
from ..model.loss_bnvae import IGNORE_INDEX
from ..model.modeling_bnvae import BNVAEModel
from ..model.posterior_bnvae import num_processes
from ..model.processing_bnvae import BNVAEProcessor
from ..utils.modes import preserved_modes
from ..utils.random_state import IMPORTANCE, INFORMATION, PRIOR, RECONSTRUCTION, sentence_noise
from .batches import SentenceBatch, SentenceBatches
from .bleu import BLEUCounts, self_bleu
from .encoding import EncodedTexts
from .importance import decoder_nll, importance_weighted_nll, rows_of_a_pass, rows_within
from .information import mutual_information
from .moments import CorpusSums, RunningMoments
from .processes import gather_results, process_index
from .result import EvaluationResult

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

    The data are read once, batch by batch, and may be larger than memory. Mutual information and marginal KL keep the
    posteriors of their sentences; all other figures keep sums in float64. The noise of each sentence is drawn from the
    seed and from the sentence's place in the data. So batch size and number of processes change the figures by
    rounding only.

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
        num_importance_samples (`int`, *optional*, defaults to 100): K, samples for each sentence's log p(x).
        max_importance_sentences (`int`, *optional*, defaults to 500): The number of sentences, from the first on,
            whose log p(x) is estimated. This is by far the most expensive figure: one pass of the decoder for each
            sample.
        max_information_sentences (`int`, *optional*, defaults to 10000): The number of sentences, from the first on,
            from which mutual information and marginal KL are estimated. Time grows with the square of the number, and
            the posteriors of these sentences are kept in memory.
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
    batches = SentenceBatches(data, processor or attached, text_column, batch_size, num_processes(), process_index())
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
        shares = gather_results(lambda: evaluation.evaluate_batches(batches, show))
    return evaluation.result(_merged(shares))


@dataclass
class _Share:
    """What one process has found out; after [`_merged`], what all processes have."""

    num_read: int = 0
    checksum: int = 0
    num_empty: int = 0
    num_cut: int = 0
    corpus: CorpusSums = field(default_factory=CorpusSums)
    iw_nll: RunningMoments = field(default_factory=RunningMoments)
    num_tokens: int = 0
    num_words: int = 0
    bleu: BLEUCounts = field(default_factory=BLEUCounts)
    posteriors: dict[int, DiagonalGaussian] = field(default_factory=dict)  # by the place of their first sentence
    samples: dict[int, str] = field(default_factory=dict)  # by their number


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
        """Evaluate the batches of this process, and decode its samples of the prior."""
        share = _Share()
        for batch in tqdm(
            batches, total=batches.num_batches, desc="Evaluating", disable=not show_progress, leave=False
        ):
            _require_known_tokens(self.model, batch)
            self._add_batch(share, batch)
        share.num_read, share.checksum = batches.count, batches.checksum
        share.num_empty, share.num_cut = batches.num_empty, batches.num_cut
        if self.processor is not None:
            self._add_samples(share, batches)
        return share

    def _add_batch(self, share: _Share, batch: SentenceBatch) -> None:
        model = self.model
        tensors = {name: values.to(self._device) for name, values in batch.tensors.items()}
        labels = tensors["labels"]
        posterior = self._encode(tensors, batch.first)
        noise = self._noise(RECONSTRUCTION, batch.indices).to(posterior.mean)
        nll = model(
            latents=posterior.sample(noise),
            labels=labels,
            chunk_size=self._rows_of_a_pass(int(real_lengths(labels.ne(IGNORE_INDEX)).max())),
        ).reconstruction_nll
        share.corpus.update(nll, posterior.kl(), posterior.mean, posterior.logvar)

        wanted = self.max_information_sentences - batch.first
        if wanted > 0:
            first = DiagonalGaussian(posterior.mean[:wanted].cpu(), posterior.logvar[:wanted].cpu())
            share.posteriors[batch.first] = first

        texts = None if self.processor is None else self._texts(batch)
        if texts is not None:
            ids = model.generate(latents=posterior.mode(), **GREEDY)
            share.bleu.update(self.processor.decode_texts(ids), texts)

        wanted = self.max_importance_sentences - batch.first
        if wanted > 0:
            labels, indices = labels[:wanted], batch.indices[:wanted]
            share.iw_nll.update(self._iw_nll(posterior, labels, indices))
            share.num_tokens += int(labels.ne(IGNORE_INDEX).sum())
            if texts is not None:
                share.num_words += sum(len(text.split()) + 1 for text in texts[:wanted])

    def _encode(self, tensors: Mapping[str, torch.Tensor], first: int) -> DiagonalGaussian:
        """The posteriors of a batch. `on_encoded` gets them with the features from which the head made them."""
        features = self.model.features(**encoder_inputs(tensors))
        posterior = self.model.posterior(features)
        if self.on_encoded is not None:
            self.on_encoded(first, EncodedTexts(features.cpu(), posterior.mean.cpu(), posterior.logvar.cpu()))
        return posterior

    def _iw_nll(self, posterior: DiagonalGaussian, labels: torch.LongTensor, indices: range) -> torch.Tensor:
        """-log p(x) of the first sentences of a batch, in any order."""
        lengths = real_lengths(labels.ne(IGNORE_INDEX))
        # Sentences of similar length share a pass, which saves padding.
        order = lengths.argsort(descending=True, stable=True)
        places, lengths = order.tolist(), lengths[order].tolist()

        def noise(rows: torch.Tensor) -> torch.Tensor:
            chosen = (indices[places[row]] for row in rows.tolist())
            return self._noise(IMPORTANCE, chosen, self.num_importance_samples)

        return importance_weighted_nll(
            decoder_nll(self.model, labels[order]),
            DiagonalGaussian(posterior.mean[order], posterior.logvar[order]),
            self.num_importance_samples,
            lambda place: self._rows_of_a_pass(lengths[place]),
            noise,
        )

    def _rows_of_a_pass(self, length: int) -> int:
        """The number of sentences of `length` labels that the decoder scores at once."""
        rows = rows_of_a_pass(self.memory_budget_gib, self.model, length)
        return min(rows, self.model.config.chunk_size or rows)

    def _texts(self, batch: SentenceBatch) -> list[str]:
        """The texts of a batch. If a text is not known or was cut, its labels are decoded instead."""
        decoded = self.processor.decode_texts(batch.tensors["labels"])
        return [known or text for known, text in zip(batch.texts or [None] * len(decoded), decoded, strict=True)]

    def _add_samples(self, share: _Share, batches: SentenceBatches) -> None:
        numbers = range(self.num_self_bleu_samples)
        parts = [numbers[start : start + batches.batch_size] for start in numbers[:: batches.batch_size]]
        for part in parts[batches.process_index :: batches.num_processes]:
            latents = self._noise(PRIOR, part).to(self._device, self.model.posterior.mean_projection.weight.dtype)
            texts = self.processor.decode_texts(self.model.generate(latents=latents, **GREEDY))
            share.samples |= zip(part, texts, strict=True)

    def _noise(self, purpose: int, indices: Iterable[int], *shape: int) -> torch.Tensor:
        return sentence_noise(self.seed, purpose, indices, *shape, self.model.config.latent_size)

    @property
    def _device(self) -> torch.device:
        return self.model.posterior.mean_projection.weight.device

    def result(self, share: _Share) -> EvaluationResult:
        """The figures of the whole corpus, from what all processes have found out."""
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
        if share.num_empty:
            logger.warning(f"Left out {share.num_empty} of the data's texts: empty, only whitespace, or no text.")
        figures = share.corpus.figures(self.model.posterior)
        del figures["loss"]
        posteriors = [share.posteriors[first] for first in sorted(share.posteriors)]
        whole = DiagonalGaussian(
            torch.cat([posterior.mean for posterior in posteriors]).to(self._device),
            torch.cat([posterior.logvar for posterior in posteriors]).to(self._device),
        )
        known = len(whole.mean)
        information = mutual_information(whole, noise=self._noise(INFORMATION, range(known)).to(self._device))
        likelihoods = share.iw_nll
        in_texts: dict[str, Any] = {}
        if self.processor is not None:
            in_texts = {
                "iw_nll_num_words": share.num_words,
                "word_perplexity": _perplexity(likelihoods, share.num_words),
                "reconstruction_bleu": share.bleu.score(),
            }
            if self.num_self_bleu_samples:
                samples = [share.samples[number] for number in range(self.num_self_bleu_samples)]
                in_texts |= {"self_bleu": self_bleu(samples), "self_bleu_num_samples": len(samples)}
        return EvaluationResult(
            num_sentences=count,
            iw_nll=likelihoods.mean.item(),
            iw_nll_error=likelihoods.standard_error,
            iw_nll_num_sentences=likelihoods.count,
            iw_nll_num_samples=self.num_importance_samples,
            iw_nll_num_tokens=share.num_tokens,
            token_perplexity=_perplexity(likelihoods, share.num_tokens),
            information_num_sentences=known,
            latent_size=self.model.config.latent_size,
            **asdict(information),
            **figures,
            **in_texts,
        )


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
        whole.num_tokens += share.num_tokens
        whole.num_words += share.num_words
        for name in ("corpus", "iw_nll", "bleu"):
            getattr(whole, name).merge(getattr(share, name))
        whole.posteriors |= share.posteriors
        whole.samples |= share.samples
    return whole


def _perplexity(nll: RunningMoments, num_units: int) -> float:
    """exp(sum of -log p / number of tokens or words)."""
    return torch.exp(nll.mean * nll.count / num_units).item()


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
