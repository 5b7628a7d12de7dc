# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Texts to latents and back: reconstruct, sample, interpolate, compare, with the processor attached to the model."""

import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional as F
from transformers.utils import logging

from .condition_bnvae import Condition, conditions_of_texts, is_list_of_conditions, require_condition
from .gaussian_bnvae import DiagonalGaussian, in_float64
from .generation_bnvae import seeded
from .input_checks_bnvae import require_count
from .prior_bnvae import GaussianPrior, Prior, StandardPrior
from .text_encoding_bnvae import encode_in_batches, with_progress

logger = logging.get_logger(__name__)

# One text or latent `(latent_size,)`, or several: an iterable, or a tensor or array `(n, latent_size)`.
TextsOrLatents = str | Iterable[str] | torch.Tensor | Iterable[Any]

InterpolationMethod = Literal["linear", "spherical"]
PriorChoice = Literal["fitted", "standard"]

_OTHER_WEIGHTS = "The model's prior was fitted to other weights: the model has been trained or adapted since."
_HOW_TO_FIT = (
    "Fit a prior on texts like those of the training: hf_bnvae.fit_prior(model, texts), then save the model. "
    "A training with hf-bnvae or BNVAETrainer fits one at its end, unless prior='standard' is given."
)

# How far the length of a normalised embedding may be from 1, also in half precision.
_LENGTH_TOLERANCE = 0.01

# Half characters, which no tokenizer takes.
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Neighbour:
    """
    One of the nearest latents of a corpus.

    Args:
        index (`int`): Its place in the corpus.
        distance (`float`): Its distance from the query.
        text (`str`, *optional*): Its text, if the corpus was given as texts.
    """

    index: int
    distance: float
    text: str | None = None


def interpolate_latents(
    start: torch.Tensor, end: torch.Tensor, steps: int, method: InterpolationMethod = "linear"
) -> torch.Tensor:
    """
    Points between pairs of latents, both ends included.

    Args:
        start, end (`torch.Tensor` of shape `(..., latent_size)`): The ends.
        steps (`int`): Number of points, at least 2.
        method (`str`, *optional*, defaults to `"linear"`): `"linear"` for equal steps on the straight line, or
            `"spherical"` for equal angles on the arc between the directions (Shoemake 1985; White 2016). The arc stays
            away from the origin. So do draws of the prior in many dimensions.

    Returns:
        `torch.Tensor` of shape `(..., steps, latent_size)`

    Raises:
        ValueError: for fewer than two steps or an unknown method. With `"spherical"` also for a latent of length zero,
            and for a pair of opposite latents, which has no shortest arc.
    """
    steps = require_count("steps", steps, 2)
    weights = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device).unsqueeze(-1)  # (steps, 1)
    start, end = start.unsqueeze(-2), end.unsqueeze(-2)
    if method == "linear":
        return torch.lerp(start, end, weights)
    if method != "spherical":
        raise ValueError(f"method must be 'linear' or 'spherical', got {method!r}.")
    # In float64, since the arc cosine of nearly parallel directions loses half of the digits.
    start64, end64 = in_float64(start), in_float64(end)
    cosine = F.cosine_similarity(start64, end64, dim=-1, eps=0.0).clamp(-1, 1)
    if cosine.isnan().any():
        raise ValueError("method='spherical' needs directions, and a latent of length zero has none. Use 'linear'.")
    angle = torch.arccos(cosine).unsqueeze(-1)
    if (torch.pi - angle < 1e-6).any():
        raise ValueError("Between opposite latents there is no shortest arc. Use method='linear'.")
    parts = (1 - weights) * angle, weights * angle
    on_arc = (torch.sin(parts[0]) * start64 + torch.sin(parts[1]) * end64) / torch.sin(angle)
    # If the directions agree, the arc is the line.
    return (
        torch.where(angle < 1e-6, torch.lerp(start64, end64, in_float64(weights)), on_arc)
        .to(start.dtype)
        .to(start.device)
    )


class LatentSpaceMixin:
    """
    The latent space of a [`BNVAEModel`] in terms of texts.

    A model that was loaded finds its processor beside its weights when a method first needs it. A new model gets one
    by [`~LatentSpaceMixin.attach_processor`]. Every method takes texts or latents, one or several. One is a string or
    a latent of shape `(latent_size,)`, and gives one result. Several are a list of strings or a tensor of shape
    `(n, latent_size)`, and give a list of results. All methods share these arguments:

        batch_size (`int`, *optional*, defaults to 64): Sentences that are encoded or decoded at once.
        show_progress (`bool`, *optional*): Whether to draw progress bars; by default for many batches.
        seed (`int`, *optional*): Seed of every draw of the call. The global random state then stays as it was.
        condition (`str` or list, *optional*): What a conditional model (`config.conditional`) is given beside a text:
            one condition for all texts, or a list with one for each. A condition is a text, or a list of turns. `""`
            is an empty one. Such a model needs a condition, and no other model takes one.
        **generation_kwargs: Arguments of [`~BNVAEModel.generate`] (`max_new_tokens`, `do_sample`, `num_beams`, ...).

    All methods raise `ValueError` in training mode, for an empty text, for latents that the model cannot decode, and
    for a condition that is missing or that the model does not take.
    """

    prior: Prior

    _processor: Any = None
    # Where the model was loaded from, and how. What lies beside the weights is loaded when it is first needed.
    _origin: tuple[Any, dict[str, Any]] | None = None
    _looks_for_processor: bool = True
    _missing_processor: str = ""
    _is_processor_found: bool = False

    @property
    def processor(self) -> Any:
        """The [`BNVAEProcessor`] that was attached, or that lies beside the weights; `None` if there is none."""
        if self._processor is None and self._origin is not None and self._looks_for_processor:
            place, loading = self._origin
            # Transformers' copier reads this line, too.
            from .processing_bnvae import BNVAEProcessor

            try:
                self.attach_processor(BNVAEProcessor.from_pretrained(place, **loading))
                self._is_processor_found = True
            except (ImportError, OSError, TypeError, ValueError) as error:
                self._missing_processor = f" {place} has none that can be loaded: {str(error).partition(chr(10))[0]}"
                if os.path.isdir(place):
                    self._looks_for_processor = False  # the Hub may answer later
        return self._processor

    @processor.setter
    def processor(self, processor: Any) -> None:
        self._processor, self._is_processor_found = processor, False

    def attach_processor(self, processor: Any, allow_other: bool = False) -> Any:
        """
        Give the model the processor with which it was trained, so that its methods take texts.

        Args:
            processor ([`BNVAEProcessor`]): The processor.
            allow_other (`bool`, *optional*, defaults to `False`): Accept a processor that splits texts otherwise than
                the processor of the training did, for example to train on with added tokens. From then on this
                processor is the model's own.

        Returns:
            The model itself: `model = BNVAEModel.from_pretrained(path).attach_processor(processor)`.

        Raises:
            ValueError: if its vocabularies, or what it does to texts, show that it belongs to another model.
        """
        for name, config in (("encoder_tokenizer", self.config.encoder), ("tokenizer", self.config.decoder)):
            tokenizer = getattr(processor, name, None)
            if tokenizer is None:
                raise ValueError(f"The processor must be a BNVAEProcessor, got {type(processor).__name__}.")
            # Embeddings may be somewhat larger than the vocabulary, since many are padded to a round size. And some
            # vocabularies have special tokens for other uses (Gemma's image token) that a language model lacks.
            needed = {tokenizer.eos_token_id, tokenizer.pad_token_id}
            spared = sum(index >= config.vocab_size for index in set(tokenizer.all_special_ids) - needed)
            slack = max(64, 0.03 * config.vocab_size)
            if not config.vocab_size - slack <= len(tokenizer) <= config.vocab_size + spared:
                raise ValueError(
                    f"The processor does not belong to this model: its {name} has {len(tokenizer)} tokens, the "
                    f"model's {config.model_type!r} embeds {config.vocab_size}. Load the processor that was saved "
                    "with the model. If it is the right one, resize the embeddings: "
                    f"model.{'encoder' if name == 'encoder_tokenizer' else 'decoder'}.resize_token_embeddings(...)."
                )
        if allow_other:
            self.config.processor_sha256 = None
        self.require_own_processor(processor)
        self._processor, self._is_processor_found = processor, False
        return self

    def require_own_processor(self, processor: Any) -> None:
        """
        Refuse a processor that does other things to texts than the processor of the training did. A model that does
        not know the latter accepts every processor.

        Raises:
            ValueError: for such a processor.
        """
        own = self.config.processor_sha256
        if own is not None and own != (found := processor.fingerprint()):
            raise ValueError(
                "The processor does not belong to this model: it splits texts otherwise than the processor of "
                f"the training did (SHA-256 {found[:12]}..., not {own[:12]}...). Load the processor that was saved "
                "with the model. If you mean this one, call model.attach_processor(processor, allow_other=True), and "
                "save the model."
            )

    def record_processor(self) -> None:
        """Write down in the configuration what the attached processor does to texts. From then on the model refuses
        processors that do other things. Training and saving call this."""
        if self.processor is None:
            return
        found = self.processor.fingerprint()
        if self.config.processor_sha256 not in (None, found):
            logger.warning(
                "The processor has been changed since it was attached. The model is saved as one of the changed "
                "processor."
            )
        self.config.processor_sha256 = found

    @torch.no_grad()
    def encode_texts(
        self,
        texts: str | Sequence[str],
        sample_posterior: bool = False,
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        condition: Condition | None = None,
    ) -> torch.FloatTensor:
        """
        The latents of texts.

        Args:
            texts (`str` or sequence of `str`): One text or several.
            sample_posterior (`bool`, *optional*, defaults to `False`): Draw from each text's posterior instead of
                taking its mode.
            batch_size, show_progress, seed, condition: See [`LatentSpaceMixin`].

        Returns:
            `torch.FloatTensor` of shape `(latent_size,)` for one text, `(n, latent_size)` for several, on the CPU.
        """
        found = _materialize(texts, "texts")
        items = [found] if isinstance(found, str) else list(found)
        latents = torch.empty(len(items), self.config.latent_size, dtype=self.posterior.dtype)
        with seeded(seed):
            # Drawn at once and on the CPU, so that batches of any size and all devices get the same draws.
            noise = torch.randn(latents.shape) if sample_posterior else None
            for places, posterior in self.text_posteriors(items, batch_size, show_progress, condition):
                drawn = posterior.mode() if noise is None else posterior.sample(noise[places])
                latents[places] = drawn.to(latents)
        return latents[0] if isinstance(texts, str) else latents

    @torch.no_grad()
    def encode_embeddings(
        self, embeddings: Any, sample_posterior: bool = False, seed: int | None = None
    ) -> torch.FloatTensor:
        """
        The latents of sentence embeddings that the model's encoder has made elsewhere, for example in a
        SentenceTransformer. The encoder itself is not used.

        Args:
            embeddings (tensor, array or list): One embedding `(hidden_size,)` or several `(n, hidden_size)`. They must
                be of the same encoder with the same pooling, as [`~BNVAEEncoderSide.features`] returns them. With
                `config.normalize_features` they have length 1. Other libraries may cut long texts earlier; the
                embeddings of such texts are of their beginnings.
            sample_posterior (`bool`, *optional*, defaults to `False`): Draw from each posterior instead of taking its
                mode.
            seed (`int`, *optional*): See [`LatentSpaceMixin`].

        Returns:
            `torch.FloatTensor` of shape `(latent_size,)` for one embedding, `(n, latent_size)` for several, on the
            CPU.

        Raises:
            ValueError: for embeddings that are no finite numbers or have another size, and for lengths that show that
                they are not this model's features.
        """
        self.require_evaluation_mode()
        size = self.config.encoder.hidden_size
        table = embeddings.to_numpy() if hasattr(embeddings, "to_numpy") else embeddings
        vectors = _materialize(table, "embeddings")
        if isinstance(vectors, list) and not vectors:
            vectors = torch.empty(0, size)
        is_numbers = isinstance(vectors, torch.Tensor) and vectors.dim() in (1, 2) and not vectors.is_complex()
        if not (is_numbers and vectors.shape[-1] == size):
            raise ValueError(
                f"embeddings must have the shape ({size},) or (n, {size}), the size of the encoder's vectors, got "
                f"{tuple(vectors.shape) if isinstance(vectors, torch.Tensor) else reprlib.repr(embeddings)}."
            )
        is_single = vectors.dim() == 1
        vectors = vectors.reshape(-1, size).to(self.device, self.posterior.dtype)
        self._check_lengths(vectors)
        with seeded(seed):
            noise = torch.randn(len(vectors), self.config.latent_size) if sample_posterior else None
        posterior = self.posterior(vectors)
        latents = (posterior.mode() if noise is None else posterior.sample(noise)).cpu()
        return latents[0] if is_single else latents

    def _check_lengths(self, vectors: torch.Tensor) -> None:
        """Refuse embeddings whose lengths show that they are not this model's features."""
        lengths = vectors.norm(dim=-1)
        is_finite = lengths.isfinite()
        if not is_finite.all():
            raise ValueError(f"embeddings must be finite numbers, but number {int(is_finite.int().argmin())} is not.")
        has_unit_length = (lengths - 1).abs() < _LENGTH_TOLERANCE
        if self.config.normalize_features and not has_unit_length.all():
            worst = (lengths - 1).abs().argmax()
            raise ValueError(
                f"This model was trained on embeddings of length 1 (normalize_features=True), but number {int(worst)} "
                f"has length {lengths[worst]:.3g}. Scale each to length 1 if they come from the same encoder: "
                "torch.nn.functional.normalize(embeddings, dim=-1)."
            )
        if not self.config.normalize_features and len(vectors) and has_unit_length.all():
            raise ValueError(
                "All embeddings have length 1, but this model was trained on the encoder's vectors as they are "
                "(normalize_features=False). Take the vectors from before their normalisation, or train with "
                "--normalize_features."
            )

    @torch.no_grad()
    def text_posteriors(
        self,
        texts: Sequence[str],
        batch_size: int = 64,
        show_progress: bool | None = None,
        condition: Condition | None = None,
    ) -> Iterator[tuple[list[int], DiagonalGaussian]]:
        """
        The posteriors of texts, in batches of texts of similar length.

        Args:
            texts (sequence of `str`): The texts.
            batch_size, show_progress, condition: See [`LatentSpaceMixin`].

        Yields:
            `tuple`: the places of some texts, and their posteriors, `(places, latent_size)`, on the model's device.
        """
        processor = self._require_processor()
        for index, item in enumerate(texts):
            if not isinstance(item, str):
                raise ValueError(f"texts must be strings, got {reprlib.repr(item)} at index {index}.")
            if not item.strip():
                raise ValueError(f"The text at index {index} is empty: {item!r}. Leave it out.")
            if _SURROGATES.search(item):
                raise ValueError(f"The text at index {index} is no valid Unicode: {reprlib.repr(item)}.")
        self.require_evaluation_mode()
        batch_size = require_count("batch_size", batch_size)
        conditions = self.conditions_of(condition, len(texts))
        for places, features in encode_in_batches(self, processor, texts, batch_size, show_progress, conditions):
            yield places, self.posterior(features)

    def conditions_of(self, condition: Condition | None, count: int) -> list[str] | None:
        """
        The condition of each of `count` texts, or `None` for a model that takes none.

        Raises:
            ValueError: for a condition that is missing, that the model does not take, or that is no text; and for
                another number of conditions than of texts.
        """
        require_condition(self.config.conditional, condition is not None, "condition")
        conditions = conditions_of_texts(condition, count)
        for index, own in enumerate(conditions or ()):
            if _SURROGATES.search(own):
                raise ValueError(f"The condition at index {index} is no valid Unicode: {reprlib.repr(own)}.")
        return conditions

    def reconstruct(
        self,
        texts: TextsOrLatents | None = None,
        sample_posterior: bool = False,
        prompt: str | None = None,
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        embeddings: Any = None,
        condition: Condition | None = None,
        text_condition: Condition | None = None,
        **generation_kwargs: Any,
    ) -> str | list[Any]:
        """
        Texts from the latents of texts, from latents, or from sentence embeddings.

        Args:
            texts (`str`, sequence of `str`, or latents): What to decode.
            sample_posterior (`bool`, *optional*, defaults to `False`): Decode a draw from each text's posterior
                instead of its mode.
            prompt (`str`, *optional*): The beginning of every text, which the decoder continues under each latent.
            embeddings (tensor, array or list, *optional*): Sentence embeddings instead of texts, as
                [`~LatentSpaceMixin.encode_embeddings`] takes them.
            text_condition (`str` or list, *optional*): The condition under which texts are encoded, if it is another
                one than `condition`, under which they are decoded. So a text is transferred to another condition.
            batch_size, show_progress, seed, condition, **generation_kwargs: See [`LatentSpaceMixin`].

        Returns:
            `str` for one text, latent or embedding, `list[str]` for several. With `num_return_sequences` above one, a
            list of this number of texts for each of them.

        Example:

        ```python
        >>> model.reconstruct("The food was great .")
        'the food was great .'
        ```
        """
        if texts is not None and embeddings is not None:
            raise ValueError("Give what to decode either as texts or latents, or as embeddings, not both.")
        if text_condition is not None:
            require_condition(self.config.conditional, True, "text_condition")
            if texts is None or isinstance(texts := _materialize(texts), torch.Tensor):
                raise ValueError("text_condition needs texts: latents and embeddings were encoded before.")
        with seeded(seed):
            if embeddings is None:
                encoded_under = condition if text_condition is None else text_condition
                latents, is_single = self.as_latents(texts, batch_size, show_progress, sample_posterior, encoded_under)
            else:
                latents = self.encode_embeddings(embeddings, sample_posterior)
                latents, is_single = torch.atleast_2d(latents), latents.dim() == 1
            conditions = self.conditions_of(condition, len(latents))
            decoded = self._decode_latents(latents, prompt, batch_size, show_progress, generation_kwargs, conditions)
        return decoded[0] if is_single else decoded

    def sample(
        self,
        n: int = 1,
        prompt: str | None = None,
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        prior: PriorChoice | None = None,
        condition: Condition | None = None,
        **generation_kwargs: Any,
    ) -> list[Any]:
        """
        Texts from draws of the prior.

        Args:
            n (`int`, *optional*, defaults to 1): Number of texts, for each condition if there are several.
            prompt (`str`, *optional*): The beginning of every text.
            prior (`str`, *optional*): `"fitted"` draws from the prior that [`fit_prior`] has fitted, from where texts
                are encoded. `"standard"` draws from N(0, I). By default the fitted prior, if the model has one.
            batch_size, show_progress, seed, condition, **generation_kwargs: See [`LatentSpaceMixin`]. By default each
                draw is decoded greedily.

        Returns:
            `list[str]` of length `n`. For a list of conditions, such a list for each of them.

        Example:

        ```python
        >>> model.sample(3, condition="Are you going out, Jack?")  # of a conditional model: three answers
        ```
        """
        n = require_count("n", n)
        if prior not in (None, "fitted", "standard"):
            raise ValueError(f"prior must be 'fitted' or 'standard', got {prior!r}.")
        if prior == "fitted":
            self.require_fitted_prior()
        source = StandardPrior(self.config.latent_size) if prior == "standard" else self.current_prior
        is_single = not is_list_of_conditions(condition)
        number = 1 if is_single else len(condition)
        conditions = self.conditions_of(condition, number)
        if conditions is not None:
            conditions = [own for own in conditions for _ in range(n)]
        with seeded(seed):
            latents = source.sample(n * number)
            texts = self._decode_latents(latents, prompt, batch_size, show_progress, generation_kwargs, conditions)
        return texts if is_single else [texts[first : first + n] for first in range(0, n * number, n)]

    def interpolate(
        self,
        a: TextsOrLatents,
        b: TextsOrLatents,
        steps: int = 9,
        method: InterpolationMethod = "linear",
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        condition: Condition | None = None,
        **generation_kwargs: Any,
    ) -> list[Any]:
        """
        Texts along the way from one latent to another, both ends included.

        Args:
            a, b (`str`, sequence of `str`, or latents): The ends, the same number of each.
            steps (`int`, *optional*, defaults to 9): Number of texts, at least 2.
            method (`str`, *optional*, defaults to `"linear"`): `"linear"` or `"spherical"`; see
                [`interpolate_latents`]. With a fitted prior, the arc is drawn where this prior is N(0, I).
            batch_size, show_progress, seed, condition, **generation_kwargs: See [`LatentSpaceMixin`]. Both ends of a
                pair and all texts between have the same condition.

        Returns:
            `list[str]` of length `steps` for one pair, a list of such lists for several.
        """
        with seeded(seed):
            start, is_single_start = self.as_latents(a, batch_size, show_progress, condition=condition)
            end, is_single_end = self.as_latents(b, batch_size, show_progress, condition=condition)
            if len(start) != len(end):
                raise ValueError(f"a and b must be as many, got {len(start)} and {len(end)}.")
            prior = self.current_prior if method == "spherical" else StandardPrior(self.config.latent_size)
            points = prior.unwhiten(interpolate_latents(prior.whiten(start), prior.whiten(end), steps, method))
            lines = self._decode_paths(points, batch_size, show_progress, generation_kwargs, condition)
        return lines[0] if is_single_start and is_single_end else lines

    def analogy(
        self,
        a: TextsOrLatents,
        b: TextsOrLatents,
        c: TextsOrLatents,
        degree: float = 1.0,
        batch_size: int = 64,
        show_progress: bool | None = None,
        seed: int | None = None,
        condition: Condition | None = None,
        **generation_kwargs: Any,
    ) -> str | list[Any]:
        """
        Change `c` in the way in which `b` differs from `a`: the text at `z_c + degree * (z_b - z_a)` (Optimus, Li et
        al., EMNLP 2020).

        Args:
            a, b (`str`, sequence of `str`, or latents): Before and after: one pair for every `c`, or one for each.
            c (`str`, sequence of `str`, or latents): What to change.
            degree (`float`, *optional*, defaults to 1): How far to go; 0 gives the reconstruction of `c`.
            batch_size, show_progress, seed, **generation_kwargs: See [`LatentSpaceMixin`].
            condition (`str`, *optional*): One condition for all texts.

        Returns:
            `str` for one `c`, `list[str]` for several.
        """
        with seeded(seed):
            latents_c, is_single = self.as_latents(c, batch_size, show_progress, condition=condition)
            pair = []
            for name, ends in (("a", a), ("b", b)):
                latents, _ = self.as_latents(ends, batch_size, show_progress, condition=condition)
                if len(latents) not in (1, len(latents_c)):
                    raise ValueError(f"{name} must be one or as many as c, {len(latents_c)}, got {len(latents)}.")
                pair.append(latents)
            degree = torch.tensor(degree, dtype=latents_c.dtype)
            if not degree.isfinite():
                raise ValueError(f"degree must be a finite number, got {degree.item()}.")
            latents = latents_c + degree * (pair[1] - pair[0])
            conditions = self.conditions_of(condition, len(latents))
            decoded = self._decode_latents(latents, None, batch_size, show_progress, generation_kwargs, conditions)
        return decoded[0] if is_single else decoded

    def neighbours(
        self,
        queries: TextsOrLatents,
        corpus: TextsOrLatents,
        k: int = 5,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        batch_size: int = 64,
        show_progress: bool | None = None,
        whitened: bool = False,
        condition: Condition | None = None,
    ) -> list[Any]:
        """
        The nearest latents of a corpus.

        Args:
            queries (`str`, sequence of `str`, or latents): What to look for.
            corpus (sequence of `str`, or latents): Where to look. To search a corpus several times, encode it once
                with [`~LatentSpaceMixin.encode_texts`] and pass the latents.
            k (`int`, *optional*, defaults to 5): Number of neighbours. A smaller corpus gives all of its latents.
            metric (`str`, *optional*, defaults to `"euclidean"`): `"euclidean"`, or `"cosine"` for one minus the
                cosine of the angle.
            batch_size, show_progress: See [`LatentSpaceMixin`].
            whitened (`bool`, *optional*, defaults to `False`): Measure where the fitted prior is N(0, I). All
                directions then count alike, also one in which all texts differ much.
            condition (`str`, *optional*): One condition for all texts, queries and corpus.

        Returns:
            `list[Neighbour]` for one query, nearest first; a list of such lists for several.
        """
        latents, is_single = self.as_latents(queries, batch_size, show_progress, condition=condition)
        corpus = _materialize(corpus)
        corpus = [corpus] if isinstance(corpus, str) else corpus
        texts = None if isinstance(corpus, torch.Tensor) else corpus
        corpus_latents, _ = self.as_latents(corpus, batch_size, show_progress, condition=condition)
        if len(corpus_latents) == 0:
            raise ValueError("The corpus is empty.")
        # PyTorch has no kernel for distances in half precision.
        dtype = torch.promote_types(latents.dtype, torch.float32)
        latents, corpus_latents = latents.to(dtype), corpus_latents.to(dtype)
        if whitened:
            prior = self.require_fitted_prior()
            latents, corpus_latents = prior.whiten(latents), prior.whiten(corpus_latents)
        k = min(require_count("k", k), len(corpus_latents))
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric must be 'euclidean' or 'cosine', got {metric!r}.")
        if metric == "cosine":
            corpus_latents = F.normalize(corpus_latents, dim=-1)
        found = []
        for rows in self._batches(range(len(latents)), batch_size, show_progress, "Searching"):
            if metric == "cosine":
                distances = 1 - F.normalize(latents[rows], dim=-1) @ corpus_latents.T
            else:
                # By differences, since a matrix product loses the digits of small distances.
                distances = torch.cdist(latents[rows], corpus_latents, compute_mode="donot_use_mm_for_euclid_dist")
            nearest = distances.topk(k, largest=False)
            for values, indices in zip(nearest.values.tolist(), nearest.indices.tolist(), strict=True):
                found.append(
                    [
                        Neighbour(index, distance, None if texts is None else texts[index])
                        for index, distance in zip(indices, values, strict=True)
                    ]
                )
        return found[0] if is_single else found

    def as_latents(
        self,
        items: TextsOrLatents,
        batch_size: int = 64,
        show_progress: bool | None = None,
        sample_posterior: bool = False,
        condition: Condition | None = None,
    ) -> tuple[torch.FloatTensor, bool]:
        """
        The latents of texts, or given latents after a check. All methods of this class take their inputs through it.

        Args:
            items (`str`, sequence of `str`, or latents): One or several.
            sample_posterior (`bool`, *optional*, defaults to `False`): Draw from each text's posterior.
            batch_size, show_progress, condition: See [`LatentSpaceMixin`]. Latents need no condition here.

        Returns:
            `tuple`: latents of shape `(n, latent_size)` on the CPU, and whether `items` is one text or latent, and not
            a list of one.
        """
        items = _materialize(items)
        if not isinstance(items, torch.Tensor):
            latents = self.encode_texts(items, sample_posterior, batch_size, show_progress, condition=condition)
            return latents.reshape(-1, self.config.latent_size), isinstance(items, str)
        if sample_posterior:
            raise ValueError("sample_posterior=True needs texts: given latents are decoded as they are.")
        if condition is not None:
            require_condition(self.config.conditional, True, "condition")
        is_single = items.dim() == 1
        return self.prepare_latents(items[None] if is_single else items).cpu(), is_single

    @property
    def fitted_prior(self) -> GaussianPrior | None:
        """The prior that [`fit_prior`] has fitted to the model's posteriors. `None` without one, and with a warning if
        the weights have changed since the prior was fitted."""
        if not isinstance(self.prior, GaussianPrior) or not self.prior.is_fitted:
            return None
        if not self.prior.fits(self.posterior.fingerprint()):
            logger.warning_once(f"{_OTHER_WEIGHTS} N(0, I) is used instead. {_HOW_TO_FIT}")
            return None
        return self.prior

    @property
    def current_prior(self) -> Prior:
        """The fitted prior if the model has one, otherwise N(0, I)."""
        return self.fitted_prior or StandardPrior(self.config.latent_size)

    def require_fitted_prior(self) -> GaussianPrior:
        """
        The fitted prior.

        Raises:
            ValueError: if the model has none, or if its weights have changed since.
        """
        prior = self.fitted_prior
        if prior is None:
            has_other = isinstance(self.prior, GaussianPrior) and self.prior.is_fitted
            reason = _OTHER_WEIGHTS if has_other else "The model has no fitted prior, only N(0, I)."
            raise ValueError(f"{reason} {_HOW_TO_FIT}")
        return prior

    @torch.no_grad()
    def _decode_latents(
        self,
        latents: torch.Tensor,
        prompt: str | None,
        batch_size: int,
        show_progress: bool | None,
        generation_kwargs: dict[str, Any],
        conditions: list[str] | None,
    ) -> list[Any]:
        """The text of each latent of `(n, latent_size)`; a list of texts for each, with several returned sequences."""
        processor = self._require_processor()
        for name in ("input_ids", "latents", "decoder_input_ids", "condition_ids", "return_dict_in_generate"):
            if name in generation_kwargs:
                raise ValueError(f"{name} has no place here: texts go in and come out. Call model.generate instead.")
        if prompt is not None and not isinstance(prompt, str):
            raise ValueError(f"prompt must be a string, the beginning of every text, got {reprlib.repr(prompt)}.")
        # All at once, so that cut conditions are counted, and told of, once.
        condition_ids = processor.encode_conditions(conditions, len(latents))["condition_ids"] if conditions else None
        decoded: list[Any] = []
        for rows in self._batches(range(len(latents)), batch_size, show_progress, "Decoding"):
            prompts = {} if prompt is None else processor.encode_prompts([prompt] * len(rows)).to(self.device)
            if condition_ids is not None:
                prompts["condition_ids"] = condition_ids[rows].to(self.device)
            output = self.generate(latents=latents[rows], **prompts, **generation_kwargs)
            # With some generation configurations the output is an object that holds the tokens.
            texts = processor.decode_texts(getattr(output, "sequences", output))
            each = len(texts) // len(rows)
            decoded += texts if each == 1 else [texts[i : i + each] for i in range(0, len(texts), each)]
        return decoded

    def _decode_paths(
        self,
        points: torch.Tensor,
        batch_size: int,
        show_progress: bool | None,
        generation_kwargs: dict[str, Any],
        condition: Condition | None,
    ) -> list[list[Any]]:
        """The texts of points `(n, steps, latent_size)`, a list of `steps` for each of n paths."""
        number, steps = points.shape[:2]
        conditions = self.conditions_of(condition, number)
        if conditions is not None:
            conditions = [own for own in conditions for _ in range(steps)]
        points = points.flatten(0, 1)
        decoded = self._decode_latents(points, None, batch_size, show_progress, generation_kwargs, conditions)
        return [decoded[first : first + steps] for first in range(0, len(decoded), steps)]

    def _batches(
        self, indices: Sequence[int], batch_size: int, show_progress: bool | None, description: str
    ) -> Iterable[list[int]]:
        batch_size = require_count("batch_size", batch_size)
        batches = (list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size))
        return with_progress(batches, len(indices), batch_size, show_progress, description)

    def _require_processor(self) -> Any:
        if self.processor is None:
            raise ValueError(
                "The model has no processor, so it cannot take texts. Attach the processor that was saved with it: "
                f"model.attach_processor(BNVAEProcessor.from_pretrained(...)).{self._missing_processor}"
            )
        return self.processor


def _materialize(items: Any, expected: str = "texts or latents") -> str | list[Any] | torch.Tensor:
    """A text, a list that holds texts (or nothing), or a tensor of latents.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(items, (str, torch.Tensor)):
        return items
    if items is None or isinstance(items, (bytes, Mapping, Set)):
        # The keys of a mapping would pass for texts, and a set has no order in which results could come.
        raise ValueError(f"Expected {expected}, one or a list of several, got {reprlib.repr(items)}.")
    try:
        if getattr(getattr(items, "dtype", None), "kind", "O") in "fiub":
            return torch.as_tensor(items)  # an array or a column of numbers
        items = list(items)
        if not items or any(isinstance(item, str) for item in items):
            return items
        if all(hasattr(item, "__array__") for item in items):
            return torch.stack([torch.as_tensor(item) for item in items])
        return torch.as_tensor(items)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"Expected {expected}, got {reprlib.repr(items)}: {error}") from error


__all__ = [
    "InterpolationMethod",
    "LatentSpaceMixin",
    "Neighbour",
    "PriorChoice",
    "TextsOrLatents",
    "interpolate_latents",
]
