#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Train and evaluate a BN-VAE as `run_bnvae.py` does, with a training loop on Accelerate that you can change.

Start it with `python` or with `accelerate launch`. `--help` lists the options.
"""

import logging
import math
from dataclasses import asdict, fields
from pathlib import Path

# Before torch, because it sets how torch's threads wait.
from hf_bnvae import BNVAEDataCollator, recalibrate_posterior

# isort: split
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import GradientAccumulationPlugin, gather_object, set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import TrainerControl, TrainerState, get_scheduler
from transformers.trainer_callback import DefaultFlowCallback
from transformers.trainer_utils import HubStrategy, rotate_checkpoints

from hf_bnvae.data.collator import scored_texts
from hf_bnvae.evaluation.decoder_use import batch_latent_gain
from hf_bnvae.evaluation.moments import PER_SENTENCE, evaluation_figures, training_figures
from hf_bnvae.evaluation.verdict import Verdict, judge, judge_training
from hf_bnvae.hub.push import BackgroundPushes
from hf_bnvae.jobs.training_arguments import ScriptTrainingArguments
from hf_bnvae.jobs.training_job import StartedRun, leave_process_group
from hf_bnvae.jobs.training_program import begin_training, interruptions_explained
from hf_bnvae.model.prior_bnvae import StandardPrior
from hf_bnvae.model.saved_files_bnvae import share_weights, write_checksums
from hf_bnvae.reporting.settings import Role, names_with_role
from hf_bnvae.training.auxiliary import build_auxiliary, resume_auxiliary
from hf_bnvae.training.fitted_prior import fit_trained_prior, remove_prior
from hf_bnvae.training.optimization import hold_first_steps, optimizer_class_and_kwargs, require_finite_loss
from hf_bnvae.training.sampling import posterior_noise, statistics_batches, training_sampler, warn_of_equal_texts
from hf_bnvae.training.short_runs import ShortRunCallback
from hf_bnvae.utils.checkpoints import record_contents, unmark_checkpoint
from hf_bnvae.utils.file_names import RESULTS_FILE
from hf_bnvae.utils.json_files import write_json
from hf_bnvae.utils.random_state import preserved_random_state
from hf_bnvae.utils.safe_loading import safe_loading

LOOP = "Accelerate"

# Choices of an option of `Trainer` that this loop does not have. `Role.TRAINER_ONLY` marks the options.
MISSING_CHOICES = {"save_strategy": "best", "lr_scheduler_type": "reduce_lr_on_plateau"}


def require_known_options(args: ScriptTrainingArguments) -> None:
    """Refuse every option that this loop would ignore."""
    defaults = {field.name: field.default for field in fields(args)}
    names = names_with_role(Role.TRAINER_ONLY)
    missing = [name for name in names if getattr(args, name) not in (defaults[name], None, [], "")]
    if args.train_sampling_strategy not in ("random", "sequential"):
        missing.append("train_sampling_strategy")
    missing += [f"{name}={value}" for name, value in MISSING_CHOICES.items() if getattr(args, name) == value]
    if args.n_gpu > 1:
        missing.append(f"several GPUs in one process ({args.n_gpu} are visible: start one process for each)")
    if missing:
        raise ValueError(
            f"This loop does not have {', '.join(missing)}. `hf-bnvae train` does. (`accelerate launch` chooses FSDP "
            "and DeepSpeed.)"
        )


class Loop:
    """The training of one run."""

    def __init__(self, run: StartedRun) -> None:
        self.run, self.job, self.args = run, run.job, run.job.training_args
        job, args = self.job, self.args
        self.accelerator = Accelerator(
            mixed_precision=args.mixed_precision,
            cpu=args.use_cpu,
            log_with=args.report_to or None,
            project_dir=job.path,
            # One pass is one posterior batch, whatever the launcher was told.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        if args.report_to:
            self.accelerator.init_trackers("bnvae", config=job.directory.settings)
        if self.accelerator.is_main_process and run.model.posterior.uses_batch:
            warn_of_equal_texts(run.train_dataset, args)
        if args.frozen_part is not None and args.freeze_steps is None:
            run.model.freeze(args.frozen_part)
        if args.activation_checkpointing:
            run.model.activation_checkpointing_enable(args.activation_checkpointing_kwargs)
        self.collator = BNVAEDataCollator(run.processor)
        # One pass for a whole posterior batch: gradient accumulation only sets the size of its chunks.
        sampler = training_sampler(len(run.train_dataset), args, 1, run.model.posterior.uses_batch)
        self.train_loader = prepare_data_loader(
            # Its own generator: the loader must not draw from the one that a resumed run has to find as it was.
            DataLoader(
                run.train_dataset,
                batch_sampler=sampler,
                collate_fn=self.collator,
                num_workers=args.dataloader_num_workers,
                generator=torch.Generator(),
            ),
            self.accelerator.device,
            num_processes=1,  # the sampler has this process' share already
            process_index=0,
            put_on_device=True,
        )
        eval_loader = DataLoader(
            run.eval_dataset, batch_size=args.per_device_eval_batch_size, collate_fn=self.collator
        )
        optimizer_class, kwargs = optimizer_class_and_kwargs(args, run.model)
        optimizer = optimizer_class(kwargs.pop("params"), **kwargs)
        self.model, self.optimizer, self.eval_loader = self.accelerator.prepare(run.model, optimizer, eval_loader)
        self.bare_model = self.accelerator.unwrap_model(self.model)
        self.auxiliary = build_auxiliary(self.bare_model, args, self.accelerator.device)
        max_steps = args.max_steps
        if max_steps <= 0:
            max_steps = math.ceil(args.num_train_epochs * len(self.train_loader))
        scheduler = get_scheduler(
            args.lr_scheduler_type,
            self.optimizer,
            num_warmup_steps=args.get_warmup_steps(max_steps),
            num_training_steps=max_steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
        self.scheduler = hold_first_steps(scheduler, args)
        self.accelerator.register_for_checkpointing(self.scheduler)
        self.state = TrainerState(max_steps=max_steps, num_train_epochs=math.ceil(max_steps / len(self.train_loader)))
        self.state.compute_steps(args, max_steps)
        # When to log, evaluate and save is decided as `Trainer` does.
        self.flow, self.short_runs, self.control = DefaultFlowCallback(), ShortRunCallback(), TrainerControl()
        # Of the steps since the last log line.
        self.losses: list[torch.Tensor] = []
        self.window: list[dict[str, torch.Tensor]] = []
        self.last_figures: dict[str, float] = {}
        self.gradient_norm: float | None = None
        self.warned: set[str] = set()  # names of verdicts
        self.pushes = None
        if args.push_to_hub and args.hub_strategy != HubStrategy.END and self.accelerator.is_main_process:
            self.pushes = BackgroundPushes(run.hub_target, job.path, args.hub_always_push)

    def train(self) -> None:
        """Train to the end, from the run's checkpoint if there is one."""
        args, steps_per_epoch = self.args, len(self.train_loader)
        # Processes begin with one seed, for one model; what they drop out should differ.
        set_seed(args.seed, device_specific=self.accelerator.num_processes > 1)
        remove_prior(self.bare_model)
        if self.run.checkpoint is not None:
            with safe_loading(self.run.checkpoint):
                self.accelerator.load_state(self.run.checkpoint)
            resume_auxiliary(self.auxiliary, self.run.checkpoint)
            self.state = TrainerState.load_from_json(Path(self.run.checkpoint, "trainer_state.json"))
        if args.eval_on_start and self.state.global_step == 0:
            self.log_evaluate_save(TrainerControl(should_evaluate=True))
        first_epoch, done = divmod(self.state.global_step, steps_per_epoch)
        progress = tqdm(
            total=self.state.max_steps,
            initial=self.state.global_step,
            disable=args.disable_tqdm or not self.accelerator.is_main_process,
        )
        for epoch in range(first_epoch, self.state.num_train_epochs):
            if self.state.global_step >= self.state.max_steps:
                break
            self.train_loader.set_epoch(epoch)
            batches = skip_first_batches(self.train_loader, done) if done else self.train_loader
            done = 0
            for batch in batches:
                self.step(batch)
                self.state.epoch = self.state.global_step / steps_per_epoch
                progress.update()
                self.flow.on_step_end(args, self.state, self.control)
                self.log_evaluate_save(self.short_runs.on_step_end(args, self.state, self.control))
                if self.control.should_training_stop:
                    break
            self.log_evaluate_save(self.flow.on_epoch_end(args, self.state, self.control))
        progress.close()
        self.warn_of(judge_training(self.last_figures))
        self.recalibrate()
        if args.prior != StandardPrior.name:
            fit_trained_prior(self.bare_model, self.statistics_loader())
        self.save_model(self.job.path)
        if self.pushes is not None:
            self.pushes.wait()

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """One step of the optimiser, on one posterior batch."""
        args, step = self.args, self.state.global_step
        self.model.train()
        noise = posterior_noise(len(batch["input_ids"]), self.bare_model.config.latent_size, args.seed, step)
        with self.accelerator.autocast():
            outputs = self.model(**batch, noise=noise.to(self.accelerator.device), **args.chunking())
            loss = args.loss(outputs, step, self.state.max_steps)
        if self.auxiliary is not None:
            loss = loss + self.auxiliary.learn(outputs.latents, batch["labels"], step, self.state.max_steps)
        self.accelerator.backward(loss)
        require_finite_loss(loss.detach(), step + 1, self.job.path)
        most = args.max_grad_norm if args.max_grad_norm > 0 else math.inf
        self.gradient_norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), most))
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:
            self.scheduler.step()
        self.optimizer.zero_grad()
        self.state.global_step += 1
        self.losses.append(loss.detach())  # the same on all processes
        self.window.append({name: getattr(outputs, name).detach() for name in PER_SENTENCE})

    def log_evaluate_save(self, control: TrainerControl) -> None:
        """Do what the control asks for."""
        if control.should_log and self.window:
            tensors = joined(gather_object([joined(self.window)]))
            self.last_figures = training_figures(**tensors, head=self.bare_model.posterior)
            how = {
                "loss": float(torch.stack(self.losses).mean()),
                "grad_norm": self.gradient_norm,
                "learning_rate": self.scheduler.get_last_lr()[0],
                "beta": self.args.beta_at_step(self.state.global_step, self.state.max_steps),
            }
            if self.auxiliary is not None:
                how |= self.auxiliary.figures(self.state.global_step, self.state.max_steps)
            self.window.clear()
            self.losses.clear()
            self.log({**how, **self.last_figures})
        if control.should_evaluate:
            self.log({f"eval_{name}": value for name, value in self.evaluate().items()})
        if control.should_save:
            self.save_checkpoint()
        control.should_log = control.should_evaluate = control.should_save = False

    def log(self, figures: dict[str, float]) -> None:
        figures = {**figures, "epoch": self.state.epoch}
        self.state.log_history.append({**figures, "step": self.state.global_step})
        self.job.print({name: f"{value:.4g}" for name, value in figures.items()})
        self.accelerator.log(figures, step=self.state.global_step)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The figures of the held-out texts, with running statistics refreshed from training texts."""
        self.recalibrate(self.args.num_statistics_batches)
        self.model.eval()
        with preserved_random_state(self.args.seed + self.accelerator.process_index):
            shares = []
            for batch in self.eval_loader:
                outputs = self.model(**batch)
                values = {name: getattr(outputs, name) for name in PER_SENTENCE}
                values["latent_gain"] = batch_latent_gain(self.model, outputs, **scored_texts(batch))
                shares.append(self.accelerator.gather_for_metrics(values))
        figures = evaluation_figures(**joined(shares), head=self.bare_model.posterior)
        self.warn_of(judge(figures))
        return figures

    def recalibrate(self, num_batches: int | None = None) -> None:
        """Recompute the running statistics from the whole training set, or as much as `num_batches` hold."""
        with preserved_random_state(self.args.seed):
            recalibrate_posterior(self.bare_model, self.statistics_loader(num_batches))

    def statistics_loader(self, num_batches: int | None = None) -> DataLoader:
        """This process' share of the training set, or of the sentences of `num_batches` posterior batches."""
        share = statistics_batches(len(self.run.train_dataset), self.args, num_batches)
        return DataLoader(
            self.run.train_dataset, batch_sampler=share, collate_fn=self.collator, generator=torch.Generator()
        )

    def warn_of(self, verdict: Verdict) -> None:
        """Say that the latent space is not healthy, once for each verdict."""
        if not verdict.is_alive and verdict.name not in self.warned:
            self.warned.add(verdict.name)
            self.job.print(str(verdict))

    def save_model(self, folder: Path) -> None:
        """Write what `from_pretrained` loads."""
        self.bare_model.save_pretrained(
            folder,
            state_dict=self.accelerator.get_state_dict(self.model),
            is_main_process=self.accelerator.is_main_process,
        )
        if self.accelerator.is_main_process:
            self.run.processor.save_pretrained(folder)
            self.state.save_to_json(folder / "trainer_state.json")

    def save_checkpoint(self) -> None:
        """Write what `from_pretrained` loads and what a resumed run needs. The state comes last: with it the
        checkpoint is complete."""
        folder = self.job.path / f"checkpoint-{self.state.global_step}"
        if self.accelerator.is_main_process:
            unmark_checkpoint(folder)
        self.accelerator.wait_for_everyone()
        # Accelerate says of tied weights that they were left out, and that this should be checked. It is meant so.
        logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
        self.accelerator.save_state(folder)
        if self.accelerator.is_main_process:
            self.bare_model.refer_to_code()
            self.bare_model.config.save_pretrained(folder)
            self.bare_model.save_code(folder)
            share_weights(folder)
            write_checksums(folder)
            self.run.processor.save_pretrained(folder)
            if self.auxiliary is not None:
                self.auxiliary.save(folder)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            record_contents(folder)
            write_json(folder / "trainer_state.json", asdict(self.state), sort_keys=True)
            if self.pushes is not None:
                self.pushes.push(folder, f"Training in progress, step {self.state.global_step}")
            rotate_checkpoints(str(self.job.path), self.args.save_total_limit, use_mtime=True)


def joined(shares: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([share[name].cpu() for share in shares]) for name in shares[0]}


def main() -> None:
    run = begin_training(None, LOOP, require_known_options)
    if run is None:
        return
    job = run.job
    with interruptions_explained(run):
        if job.training_args.do_train:
            Loop(run).train()
        leave_process_group()
        if not job.is_main:
            return
        if job.training_args.do_eval:
            write_json(job.path / RESULTS_FILE, run.evaluate(), sort_keys=True, indent=4)
        run.finish()


if __name__ == "__main__":
    main()
