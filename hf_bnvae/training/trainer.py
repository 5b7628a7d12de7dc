# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""`Trainer` for a BN-VAE: its objective, its figures, and a warning when the latent space dies."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object, set_seed
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    EvalLoopOutput,
    HubStrategy,
    PredictionOutput,
    TrainOutput,
    get_last_checkpoint,
    has_length,
    seed_worker,
    unwrap_peft_model,
)
from transformers.utils import logging

from ..data.collator import BNVAEDataCollator, scored_texts
from ..evaluation.decoder_use import batch_latent_gain
from ..evaluation.moments import PER_SENTENCE, evaluation_figures, training_figures
from ..evaluation.verdict import Verdict, judge, judge_training
from ..hub.push import BackgroundPushes, Pushed, prepare_repository, push_folder
from ..hub.target import HubTarget
from ..model.finite_bnvae import require_finite_weights
from ..model.modeling_bnvae import has_adapters
from ..model.posterior_bnvae import PosteriorHead
from ..model.prior_bnvae import StandardPrior
from ..model.processing_bnvae import BNVAEProcessor
from ..reporting.commands import without_folders
from ..reporting.model_card import BNVAEModelCard, known_figures, shown_settings
from ..utils.checkpoints import (
    describe_last_checkpoint,
    last_complete_checkpoint,
    record_contents,
    require_as_written,
    unmark_checkpoint,
)
from ..utils.file_names import CONTENTS_FILE
from ..utils.json_files import write_json
from ..utils.random_state import preserved_random_state
from ..utils.safe_loading import safe_loading
from .adapters import require_trainable_adapters
from .auxiliary import BagOfWordsAuxiliary, build_auxiliary, resume_auxiliary
from .calibration import recalibrate_posterior
from .fitted_prior import fit_trained_prior, remove_prior
from .optimization import decayed_parameter_names, hold_first_steps, optimizer_class_and_kwargs, require_finite_loss
from .sampling import (
    join_batches,
    posterior_batch_size,
    posterior_noise,
    statistics_batches,
    training_sampler,
    warn_of_equal_texts,
)
from .short_runs import ShortRunCallback
from .training_args import BNVAETrainingArguments, require_safe_strategy

logger = logging.get_logger(__name__)

# The strategies that do not choose sentences by their content or length.
_SAMPLING_STRATEGIES = ("random", "sequential")


class BNVAETrainer(Trainer):
    r"""
    Trains a [`BNVAEModel`].

    It adds to `Trainer`:

    - the objective `reconstruction + beta * KL`, with schedules, free bits and an auxiliary,
    - a separate learning rate for the latent's parameters,
    - one posterior batch across gradient accumulation and several processes, however the batch is cut,
    - reconstruction, KL, floor, beta and moments in the logs,
    - evaluation over the whole corpus, with running statistics refreshed from training batches,
    - exact recalibration of the running statistics at the end, and a prior that is fitted to the posteriors,
    - a warning when the latent space is not healthy, once for each verdict,
    - a stop at the first loss that is not finite.

    Args:
        model ([`BNVAEModel`]): The model, or the result of `peft.get_peft_model(model, config)`.
        args ([`BNVAETrainingArguments`]): The settings.
        processing_class ([`BNVAEProcessor`], *optional*): The processor. The trainer attaches it to the model and
            saves it with the model. Its collator pads the batches if `data_collator` is not given.
        **kwargs: All other arguments of `Trainer`.

    Raises:
        ValueError: for an empty data set; for adapters of PEFT with which something would be lost; with a
            batch-normalised posterior, for length-grouped sampling or several GPUs in one process.
    """

    args: BNVAETrainingArguments

    def __init__(
        self,
        model: nn.Module | None = None,
        args: BNVAETrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: BNVAEProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        args = BNVAETrainingArguments() if args is None else args
        if not isinstance(args, BNVAETrainingArguments):
            raise ValueError(f"args must be BNVAETrainingArguments, got {type(args).__name__}.")
        for name, is_set in (
            ("compute_loss_func", kwargs.get("compute_loss_func") is not None),
            ("label_smoothing_factor", args.label_smoothing_factor != 0),
            ("neftune_noise_alpha", args.neftune_noise_alpha is not None),
        ):
            if is_set:
                raise ValueError(f"{name} has no meaning here, because the objective is a VAE's. Leave it out.")
        for name, dataset in (("train_dataset", train_dataset), ("eval_dataset", eval_dataset)):
            if dataset is not None and has_length(dataset) and len(dataset) == 0:
                raise ValueError(f"{name} is empty: it holds no sentence.")
        if data_collator is None and processing_class is not None:
            data_collator = BNVAEDataCollator(processing_class)
        if model is not None:
            _choose_trained_parts(model, args)
            _attach_processor(model, processing_class)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.add_callback(ShortRunCallback)
        if self.head.uses_batch:
            self._require_random_batches()
            warn_of_equal_texts(train_dataset, args)
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.fsdp_version == 1:
            raise ValueError("FSDP of version 1 flattens the posterior head's parameters. Set fsdp_version: 2.")
        if self.is_deepspeed_enabled and args.gradient_accumulation_steps > 1:
            raise ValueError(
                "DeepSpeed counts the backward passes of gradient accumulation itself, but here a whole posterior "
                "batch is one pass. Use per_device_train_batch_size="
                f"{args.per_device_train_batch_size * args.gradient_accumulation_steps} with "
                f"chunk_size={args.per_device_train_batch_size} and checkpoint_chunks=True. This is the same training "
                "in the same memory."
            )
        # A posterior batch gives one loss, which is already a mean.
        self.loss_is_scaled_for_ga = True
        # The micro-batches of the posterior batch that is being gathered.
        self._micro_batches: list[dict[str, torch.Tensor]] = []
        # Values of the training batches since the last log line, kept on the device.
        self._window: list[dict[str, torch.Tensor]] = []
        self._last_figures: dict[str, float] = {}
        self._auxiliary: BagOfWordsAuxiliary | None = None  # of the training that runs
        # Values of an evaluation, on the CPU.
        self._evaluated: list[dict[str, torch.Tensor]] = []
        self._warned: set[str] = set()  # names of verdicts
        # The step at which the running statistics were refreshed; `None` when the weights have changed since.
        self._statistics_step: int | None = None

    def _require_random_batches(self) -> None:
        strategy = self.args.train_sampling_strategy
        if strategy not in _SAMPLING_STRATEGIES:
            raise ValueError(
                f"train_sampling_strategy={strategy!r} puts sentences of similar length into one batch. A "
                "batch-normalised posterior would then use the statistics of that length, which evaluation does not "
                "know. Use train_sampling_strategy='random'."
            )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs are visible to one process, so Trainer would use nn.DataParallel, which "
                "splits a batch and its statistics among them. Start one process per GPU: torchrun "
                f"--nproc_per_node={self.args.n_gpu} <script>, or show it one GPU only (CUDA_VISIBLE_DEVICES=0)."
            )
        if posterior_batch_size(self.args) == 1:
            raise ValueError(
                "A batch-normalised posterior needs at least two sentences in a posterior batch, and "
                "per_device_train_batch_size=1 gives one. Set gradient_accumulation_steps to 32, for example. That "
                "makes one posterior batch of 32 in the memory of one sentence."
            )
        if self.args.auto_find_batch_size:
            raise ValueError(
                "auto_find_batch_size would change the batch over which the posterior is normalised, and with it the "
                "training. Use gradient_accumulation_steps, or chunk_size with checkpoint_chunks=True. They save "
                "memory and do not change the batch."
            )

    def call_model_init(self, trial: Any = None) -> nn.Module:
        model = super().call_model_init(trial)
        remove_prior(model)
        _choose_trained_parts(model, self.args)
        # `Trainer` makes one model in its constructor and another one to train.
        _attach_processor(model, getattr(self, "processing_class", None))
        return model

    @property
    def head(self) -> PosteriorHead:
        """The model's posterior head."""
        return self.accelerator.unwrap_model(self.model).posterior

    # -- optimiser ---------------------------------------------------------------------------------------------------

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return decayed_parameter_names(model)

    @staticmethod
    def get_optimizer_cls_and_kwargs(
        args: BNVAETrainingArguments, model: nn.Module | None = None
    ) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """As in `Trainer`, with the latent's parameters in separate groups with their learning rate."""
        return optimizer_class_and_kwargs(args, model)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As in `Trainer`, and the auxiliary of the training that begins."""
        own_model = self.accelerator.unwrap_model(self.model if model is None else model)
        self._auxiliary = build_auxiliary(own_model, self.args, self.args.device)
        return super().create_optimizer(model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """As in `Trainer`, but 0 in the first `freeze_steps` steps for frozen parameters."""
        is_new = self.lr_scheduler is None
        if self.args.freeze_steps is not None and not (is_new or self._created_lr_scheduler):
            raise ValueError(
                f"freeze_steps={self.args.freeze_steps} is part of the schedule that the trainer makes, but you gave "
                "a schedule. Let the trainer make it, or leave freeze_steps out."
            )
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if is_new:
            self.lr_scheduler = hold_first_steps(scheduler, self.args)
        return self.lr_scheduler

    # -- training ----------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`. At the end it recomputes the running statistics from the whole training set. Then it
        fits the prior to this set, unless `args.prior` is `"standard"`. With `resume_from_checkpoint=True` a damaged
        checkpoint is passed over."""
        if resume_from_checkpoint is True:
            newest = get_last_checkpoint(self.args.output_dir)
            if newest is not None and Path(newest, CONTENTS_FILE).is_file():
                resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir, verify=True) or True
        self._window.clear()
        model = self.accelerator.unwrap_model(self.model)
        remove_prior(model)
        # All processes begin with the same seed and model, but their dropout should differ.
        set_seed(self.args.seed, device_specific=self.args.world_size > 1)
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        self._auxiliary = None
        # Without an evaluation, the last training batches tell whether the latent space has collapsed.
        self._warn_of(judge_training(self._last_figures))
        num_batches = None if has_length(self.train_dataset) else self.args.num_statistics_batches
        self.recalibrate(num_batches)
        if self.args.prior != StandardPrior.name:
            with preserved_random_state(self.args.seed):
                batches = self._statistics_batches(num_batches)
                fit_trained_prior(self.accelerator.unwrap_model(self.model), batches)
        return output

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Sentences that the end of a stream left over must not join the first ones of the next pass.
        self._micro_batches.clear()
        # A run that stopped after its last step, in the middle of an epoch, would take one more step when resumed.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of a [`PosteriorBatchSampler`]. It skips a last batch that is too small to normalise by, and logs a
        warning. For streamed data sets, and for batches by length, the batches are `Trainer`'s."""
        args, dataset = self.args, self.train_dataset
        is_streamed = isinstance(dataset, IterableDataset) or not has_length(dataset)
        if is_streamed or args.train_sampling_strategy not in _SAMPLING_STRATEGIES:
            return super().get_train_dataloader()
        loader = DataLoader(
            **self._training_data(),
            batch_sampler=training_sampler(len(dataset), args, args.gradient_accumulation_steps, self.head.uses_batch),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            prefetch_factor=args.dataloader_prefetch_factor,
            in_order=args.dataloader_in_order,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
            # A separate generator, so that only dropout draws from the global one.
            generator=torch.Generator(),
        )
        # The sampler already gives this process' share only.
        return prepare_data_loader(
            loader,
            self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=self.accelerator.device_placement,
        )

    def _training_data(self) -> dict[str, Any]:
        """Training set and collator for a `DataLoader`, without columns that the model does not take."""
        dataset, collator = self.train_dataset, self.data_collator
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collator = self._get_collator_with_removed_columns(collator, description="Training")
        return {"dataset": dataset, "collate_fn": collator}

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As in `Trainer`, but every sentence is evaluated: `dataloader_drop_last` applies to training only."""
        with self._drop_last(False):
            return super().get_eval_dataloader(eval_dataset)

    @contextmanager
    def _drop_last(self, drop_last: bool) -> Iterator[None]:
        before = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last
        try:
            yield
        finally:
            self.args.dataloader_drop_last = before

    def training_step(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """One pass over a posterior batch. With gradient accumulation the micro-batches are gathered first, and the
        pass comes with the last one. Its chunks are checkpointed and have a micro-batch's size, so the pass takes no
        more memory than a micro-batch."""
        self._statistics_step = None
        self._micro_batches.append(inputs)
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        encoder_config = self.accelerator.unwrap_model(self.model).config.encoder
        inputs = join_batches(self._micro_batches, getattr(encoder_config, "pad_token_id", None) or 0)
        self._micro_batches.clear()
        loss = super().training_step(model, inputs, num_items_in_batch)
        # The loss is the same on all processes, so all of them stop.
        require_finite_loss(loss, self.state.global_step + 1, self.args.output_dir)
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """reconstruction + beta * KL, with free bits and auxiliary, in training; the negative ELBO in evaluation."""
        args = self.args
        if not model.training:
            outputs = model(**inputs, return_dict=True)
            values = {name: getattr(outputs, name).detach() for name in PER_SENTENCE}
            others = {name: value for name, value in inputs.items() if name.startswith("decoder_")}
            values["latent_gain"] = batch_latent_gain(model, outputs, **scored_texts(inputs), **others)
            gathered = self.accelerator.gather_for_metrics(values)
            self._evaluated.append({name: value.cpu() for name, value in gathered.items()})
            return (outputs.loss, outputs) if return_outputs else outputs.loss
        if "noise" not in inputs:
            config = self.accelerator.unwrap_model(self.model).config
            noise = posterior_noise(len(inputs["input_ids"]), config.latent_size, args.seed, self.state.global_step)
            inputs = {**inputs, "noise": noise.to(args.device)}
        outputs = model(**inputs, **args.chunking(), return_dict=True)
        step, max_steps = self.state.global_step, self.state.max_steps
        loss = args.loss(outputs, step, max_steps)
        if self._auxiliary is not None:
            loss = loss + self._auxiliary.learn(outputs.latents, inputs["labels"], step, max_steps)
        if args.logging_strategy != "no":
            self._window.append({name: getattr(outputs, name).detach() for name in PER_SENTENCE})
        return (loss, outputs) if return_outputs else loss

    def current_beta(self) -> float:
        """The KL's weight at the current step."""
        return self.args.beta_at_step(self.state.global_step, self.state.max_steps)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._window:
            logs.update(self._window_figures())
        super().log(logs, start_time)

    def _window_figures(self) -> dict[str, float]:
        """Figures of the training batches of all processes since the last log line."""
        own = {name: torch.cat([entry[name] for entry in self._window]).cpu() for name in PER_SENTENCE}
        self._window.clear()
        shares = gather_object([own])
        tensors = {name: torch.cat([share[name] for share in shares]) for name in PER_SENTENCE}
        self._last_figures = training_figures(**tensors, head=self.head)
        figures = {**self._last_figures, "beta": self.current_beta()}
        if self._auxiliary is not None:
            figures |= self._auxiliary.figures(self.state.global_step, self.state.max_steps)
        return figures

    # -- running statistics ------------------------------------------------------------------------------------------

    def recalibrate(self, num_batches: int | None = None) -> None:
        """Recompute the posterior's running statistics from all training batches, or from `num_batches` drawn at
        random. The random state does not change."""
        if self.train_dataset is None or not self.head.uses_batch:
            return
        with preserved_random_state(self.args.seed):
            batches = iter(self._statistics_batches(num_batches))
            model = self.accelerator.unwrap_model(self.model)
            first = next(batches, None)
            if first is None:
                logger.warning("The training set gave no batch, so the running statistics are not recomputed.")
                return
            recalibrate_posterior(model, chain([first], batches))
        self._statistics_step = self.state.global_step

    def _statistics_batches(self, num_batches: int | None) -> Iterable[dict[str, torch.Tensor]]:
        """This process' share of the training set, or of the sentences of `num_batches` posterior batches."""
        args = self.args
        data = {**self._training_data(), "generator": torch.Generator()}
        if isinstance(self.train_dataset, IterableDataset):
            return islice(DataLoader(**data, batch_size=args.train_batch_size), num_batches)
        return DataLoader(**data, batch_sampler=statistics_batches(len(self.train_dataset), args, num_batches))

    # -- evaluation --------------------------------------------------------------------------------------------------

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As `Trainer.evaluate`, with figures of the whole corpus (see [`~evaluation.corpus_figures`])
        and the latent gain, for which the sentences of a batch exchange their latents.

        First it refreshes the running statistics from `num_statistics_batches` training batches, with dropout as in
        training, unless this was done at the same step. Noise is drawn from `args.seed`, and the random state is
        restored.

        Raises:
            ValueError: if the running statistics were never estimated and there is no training set.
        """
        self._refresh_statistics()
        with preserved_random_state(self.args.seed + self.args.process_index):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """As `Trainer.predict`, with the statistics, the noise and the figures of [`~BNVAETrainer.evaluate`]."""
        self._refresh_statistics()
        with preserved_random_state(self.args.seed + self.args.process_index):
            return super().predict(*args, **kwargs)

    def _refresh_statistics(self) -> None:
        if self._statistics_step is None:
            self.recalibrate(self.args.num_statistics_batches)
        self.head.require_estimated()

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        self._evaluated.clear()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if not self._evaluated:
            return output  # a prediction without labels
        # `Trainer` reports a mean of batch means, in which a short last batch has the weight of a full one.
        tensors = {name: torch.cat([entry[name] for entry in self._evaluated]) for name in self._evaluated[0]}
        self._evaluated.clear()
        figures = evaluation_figures(**tensors, head=self.head)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in figures.items()})
        self._warn_of(judge(figures))
        return output

    def _warn_of(self, verdict: Verdict) -> None:
        if not verdict.is_alive and verdict.name not in self._warned:
            self._warned.add(verdict.name)
            if self.is_world_process_zero():
                logger.warning(str(verdict))

    # -- saving ------------------------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`. The model is saved whole, also if FSDP saves its checkpoints in parts."""
        if self.is_fsdp_enabled:
            self._save(output_dir, state_dict=self.accelerator.get_state_dict(self.model))
            if self.args.push_to_hub and not _internal_call:
                self.push_to_hub(commit_message="Model save")
        else:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        try:
            if has_adapters(self.model):
                # PEFT saves them, not the model.
                tensors = self.accelerator.unwrap_model(self.model).state_dict() if state_dict is None else state_dict
                require_finite_weights(tensors)
            super()._save(output_dir, state_dict)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} This is step {self.state.global_step}, and the last good checkpoint is "
                f"{describe_last_checkpoint(self.args.output_dir)}."
            ) from error
        # `Trainer` leaves a pickle of its arguments. Nothing here reads it, and nobody should have to trust it.
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        # This file is pushed with the model, so it must not show folders of this machine.
        settings = {name: without_folders(value) for name, value in self.args.to_sanitized_dict().items()}
        write_json(folder / "training_args.json", settings, sort_keys=True)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Write the model's card to the output folder.

        The card is made from the files in the folder. What they lack comes from this trainer. A card that was changed
        by hand is left alone.

        Args:
            language, license (`str`, *optional*): As the Hub spells them.
            tags (`str` or `list[str]`, *optional*): Tags in addition to the library's.
            model_name (`str`, *optional*): The title.
            finetuned_from (`str` or `list[str]`, *optional*): The pretrained networks' names on the Hub.
            dataset_tags (`str` or `list[str]`, *optional*): The training texts' names on the Hub.
            kwargs: Other arguments of `Trainer.create_model_card`; they have no effect.
        """
        if not self.is_world_process_zero():
            return
        if has_adapters(self.accelerator.unwrap_model(self.model)):
            # The folder holds adapters; PEFT writes their card.
            super().create_model_card(
                language=language,
                license=license,
                tags=tags,
                model_name=model_name,
                finetuned_from=finetuned_from,
                dataset_tags=dataset_tags,
                **kwargs,
            )
            return
        given = {
            "language": language,
            "license": license,
            "model_name": model_name,
            "repo_id": self.hub_model_id,
            "tags": _as_list(tags),
            "base_models": _as_list(finetuned_from),
            "datasets": _as_list(dataset_tags),
        }
        card = BNVAEModelCard.from_folder(self.args.output_dir, **{n: v for n, v in given.items() if v})
        if not card.figures:
            figures = {name.removeprefix("eval_"): value for name, value in self._latest_evaluation().items()}
            card = replace(card, figures=known_figures(figures), settings=shown_settings(self.args.to_dict()))
        card.save(self.args.output_dir)

    def _latest_evaluation(self) -> dict[str, Any]:
        """The last logged evaluation of the present model. At the end of a training the statistics are recomputed, and
        the best checkpoint may be loaded, so earlier evaluations belong to another model."""
        log = self.state.log_history
        ends = [i for i, entry in enumerate(log) if "train_runtime" in entry]
        since = log[ends[-1] + 1 :] if ends else log
        own = [entry for entry in since if "eval_kl" in entry and entry["step"] == self.state.global_step]
        return own[-1] if own else {}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.args.should_save:
            folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            unmark_checkpoint(Path(self._get_output_dir(trial=trial), folder))
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self._auxiliary is not None and self.args.should_save:
            self._auxiliary.save(output_dir)

    # A checkpoint may come from somebody else. `Trainer` reads random states safely already.

    def _prepare_for_training(self, max_steps: int, train_dataloader: DataLoader, checkpoint: str | None) -> Any:
        with safe_loading(checkpoint):
            return super()._prepare_for_training(max_steps, train_dataloader, checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        require_as_written(resume_from_checkpoint)
        with safe_loading(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Weights that are tied to others are saved once, so they are no missing ones.
        tied = getattr(self.model, "all_tied_weights_keys", {})
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _load_best_model(self) -> None:
        with safe_loading(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            resume_auxiliary(self._auxiliary, checkpoint)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The state comes next and marks the checkpoint as complete, so all processes' files must be there.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            record_contents(output_dir)

    # -- the Hub -----------------------------------------------------------------------------------------------------

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Before training, make sure that the token may push ([`~hub.push.prepare_repository`]).

        Args:
            token, private (*optional*): Override `hub_token` and `hub_private_repo`.
        """
        require_safe_strategy(self.args.hub_strategy)
        if has_adapters(self.model):
            raise ValueError(
                "push_to_hub uploads whole models, and adapters are of no use without the one under them. Train, then "
                "push model.merge_and_unload()."
            )
        if not self.is_world_process_zero():
            return
        target, _ = prepare_repository(self._target(token, None, private))
        self.hub_model_id = target.repo_id
        self._pushes = BackgroundPushes(target, self.args.output_dir, self.args.hub_always_push)

    def push_to_hub(
        self,
        commit_message: str = "End of training",
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Pushed | None:
        """
        Save the model, write its card, and upload both with the files of `output_dir` that belong to them
        ([`~hub.push.push_folder`]). Pickles are never uploaded.

        Args:
            commit_message (`str`, *optional*): The message of the commit.
            token, revision, private (*optional*): Override `hub_token`, `hub_revision` and `hub_private_repo`.
            kwargs: Arguments of [`~BNVAETrainer.create_model_card`].

        Returns:
            [`~hub.push.Pushed`] on the main process, `None` on the others.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card(**kwargs)
        self._finish_current_push()
        return push_folder(self.args.output_dir, self._target(token, revision, private), commit_message)

    def _target(self, token: str | None, revision: str | None, private: bool | None) -> HubTarget:
        given = {"repo_id": self.hub_model_id, "token": token, "branch": revision, "private": private}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(HubTarget.of_training(self.args), **given)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.is_world_process_zero() and self.args.hub_strategy != HubStrategy.END:
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            self._pushes.push(checkpoint_folder, f"Training in progress, step {self.state.global_step}")

    def _finish_current_push(self) -> None:
        if self.hub_model_id is not None:
            self._pushes.wait()


def _as_list(names: str | list[str] | None) -> list[str] | None:
    return [names] if isinstance(names, str) else names


def _attach_processor(model: nn.Module, processing_class: Any) -> None:
    """Attach the processor, so that the trained model takes texts. If its vocabularies do not fit, log a warning and
    train.

    Raises:
        ValueError: if the model was trained with a processor that does other things to texts.
    """
    if isinstance(processing_class, BNVAEProcessor):
        model.require_own_processor(processing_class)
        try:
            model.attach_processor(processing_class)
        except ValueError as error:
            logger.warning(f"The processor is not attached to the model. {error}")
        else:
            model.record_processor()


def _choose_trained_parts(model: nn.Module, args: BNVAETrainingArguments) -> None:
    """Freeze the network that `args` names. In a model with adapters PEFT has already chosen what is trained. Networks
    that share weights could be trained, and not saved."""
    unwrap_peft_model(model).require_separate_networks()
    if has_adapters(model):
        require_trainable_adapters(model)
        if args.frozen_part is not None:
            raise ValueError(
                f"freeze={args.freeze!r} would freeze adapters too, and PEFT has already frozen the networks "
                "under them. Leave it out, and choose with target_modules what is trained."
            )
    elif args.frozen_part is not None and args.freeze_steps is None:
        model.freeze(args.frozen_part)
