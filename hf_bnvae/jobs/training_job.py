# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What the training scripts share: everything but the training loop itself."""

import ctypes
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import torch.distributed as dist
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModel, AutoProcessor, PretrainedConfig, set_seed
from transformers.utils import logging

from ..data.corpora import CONDITION, TEXT, corpus_hash, first_texts, load_texts, notes_on_copies, tokenize_texts
from ..hub.push import prepare_repository, push_folder, render_pushed
from ..hub.target import HubError, HubTarget
from ..model.configuration_bnvae import BNVAEConfig
from ..model.damage_bnvae import damage_named, find_model_damage, find_processor_damage
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..model.saved_files_bnvae import require_checksums
from ..reporting.commands import PROGRAM, command_line
from ..reporting.evaluate_and_report import EvaluatedTexts, evaluate_and_report
from ..reporting.model_card import BNVAEModelCard
from ..reporting.provenance import TextSource
from ..reporting.report import loading_lines
from ..reporting.report_files import TRAINING
from ..reporting.settings import Role, has_role
from ..training.from_scratch import MAX_LENGTH, small_configs, train_processor
from ..utils.checkpoints import finish_deletions
from ..utils.file_names import EXAMPLES_FILE, REPORT_JSON, REPORT_MARKDOWN, RESULTS_FILE
from ..utils.folders import require_writable
from ..utils.json_files import write_json
from ..utils.memory import keep_freed_memory
from ..utils.terminal import say, visible
from .arguments import DataArguments, ModelArguments, ReportArguments
from .run_directory import RunDirectory
from .saved_model import require_condition_column
from .trackers import require_trackers
from .training_arguments import ScriptTrainingArguments
from .training_options import training_command

logger = logging.get_logger(__name__)

# Settings that hold the hashes of the texts, by the texts' names.
_HASHES = {"train": "corpus_train_sha256", "validation": "corpus_validation_sha256"}


class TrainingJob:
    """
    One run of a training script, from its options to its folder. [`~TrainingJob.begin`] gives what the training loop
    needs.

    In a distributed training every process has its job. The main process alone writes, prints, and makes the report.

    Args:
        model_args ([`ModelArguments`]): Which networks and which latent space.
        data_args ([`DataArguments`]): Which texts.
        report_args ([`ReportArguments`]): The final evaluation.
        training_args ([`ScriptTrainingArguments`]): The training.
        loop (`str`): The name of the loop that trains. A loop cannot resume from the checkpoints of another loop.
    """

    def __init__(
        self,
        model_args: ModelArguments,
        data_args: DataArguments,
        report_args: ReportArguments,
        training_args: ScriptTrainingArguments,
        loop: str,
    ) -> None:
        self.model_args, self.data_args = model_args, data_args
        self.report_args, self.training_args = report_args, training_args
        self.path, self.loop = Path(training_args.output_dir), loop
        self.is_main = training_args.process_index == 0
        if not self.is_main:
            # The main process logs for all.
            logging.set_verbosity_error()
            datasets.disable_progress_bars()
        settings = {**asdict(model_args), **asdict(data_args), **training_args.to_dict()}
        settings = {name: value for name, value in settings.items() if not has_role(name, Role.FREE)}
        settings |= {**_launch_settings(training_args), "loop": loop}
        for name in ("train_file", "validation_file", "dataset_name"):
            # The same file has the same setting in every working directory. A data set may be a folder, too.
            if isinstance(settings[name], list):
                settings[name] = [str(Path(file).resolve()) for file in settings[name]]
            elif settings[name] and (name != "dataset_name" or Path(settings[name]).is_dir()):
                settings[name] = str(Path(settings[name]).resolve())
        command = training_command((model_args, data_args, report_args, training_args), loop)
        self.directory = RunDirectory(training_args.output_dir, settings, command)

    def begin(self) -> "StartedRun | None":
        """
        Load the data, build or load the model, and prepare the folder.

        Returns:
            [`StartedRun`]: What there is to train and to evaluate; `None` if the folder holds the finished run. The
            job then prints what can be done with it.

        Raises:
            ValueError: if the folder holds other files or another run, or if a setting is bad.
        """
        hub_target = HubTarget.of_training(self.training_args) if self.training_args.push_to_hub else None
        if self.directory.is_finished:
            self._explain_finished()
            return None
        self._check_before_reading()
        if self.training_args.device.type == "cpu":
            keep_freed_memory()
        set_seed(self.training_args.seed)
        # The main process downloads, reads and tokenises first. The others find everything in the cache.
        with self.training_args.main_process_first(local=False):
            texts = self._load_texts()
            # The same command is another run if its texts have changed, for example by a new version of a package
            # whose docstrings are trained on.
            self.directory.settings |= {name: corpus_hash(texts[split]) for split, name in _HASHES.items()}
            checkpoint = self.directory.find_checkpoint()
            model, processor = self._load_model_and_processor(texts["train"], checkpoint)
            workers = self.data_args.preprocessing_num_workers
            train_dataset = tokenize_texts(texts["train"], processor, "training", workers)
            eval_dataset = tokenize_texts(texts["validation"], processor, "validation", workers)
        PartialState().wait_for_everyone()  # until all have seen what the folder held
        if self.is_main and hub_target is not None:
            # A push that cannot succeed fails here, before the training.
            hub_target, _ = prepare_repository(hub_target)
        if checkpoint is not None:
            self.print(f"Resuming the unfinished run in {self.path} from {Path(checkpoint).name}.")
        if self.is_main:
            self.directory.start()
            finish_deletions(self.path, self.training_args.save_total_limit)
            # Of an attempt that was killed. `Trainer` adds to the results, and cannot read a file that was cut off.
            for name in (RESULTS_FILE, REPORT_JSON):
                (self.path / name).unlink(missing_ok=True)
        frozen = self.training_args.frozen_part
        self.print(
            f"{len(train_dataset)} sentences to train on, {len(eval_dataset)} held out; "
            f"{model.num_parameters() / 1e6:.1f} million parameters; posterior {model.config.posterior!r}, "
            f"{model.config.latent_size} latent dimensions, KL at least {model.config.kl_floor:.2f} nats"
            f"{'' if frozen is None else f'; --freeze {frozen}'}."
        )
        return StartedRun(self, model, processor, train_dataset, eval_dataset, texts, checkpoint, hub_target)

    def _check_before_reading(self) -> None:
        """Refuse what cannot work before any text is read.

        Raises:
            ValueError: for fields that no configuration takes, for trackers that the loop does not have, and for
                folders that cannot be written to.
        """
        if self.model_args.model_name_or_path is None:
            BNVAEConfig(**self.model_args.config_fields())
        require_trackers(self.training_args.report_to, self.loop)
        require_writable(self.path, "--output_dir")

    def print(self, text: object) -> None:
        """Print on the main process."""
        if self.is_main:
            say(text)

    def pushing_command(self) -> str:
        """The command line that pushes the finished run."""
        target = HubTarget.of_training(self.training_args)
        options = {
            "repo_id": target.repo_id,
            "branch": None if target.branch == "main" else target.branch,
            "private": bool(target.private),
        }
        return command_line((PROGRAM, "push", str(self.path)), options)

    def _load_texts(self) -> DatasetDict:
        """The texts to train on, `train`, and the texts held out, `validation`."""
        texts = load_texts(
            dataset_name=self.data_args.dataset_name,
            dataset_config_name=self.data_args.dataset_config_name,
            train_file=self.data_args.train_file,
            validation_file=self.data_args.validation_file,
            text_column=self.data_args.text_column,
            condition_column=self.data_args.condition_column,
            text_format=self.data_args.text_format,
            validation_split_percentage=self.data_args.validation_split_percentage,
            drop_duplicates=self.data_args.drop_duplicates,
            seed=self.training_args.seed,
        )
        return DatasetDict(
            train=first_texts(texts["train"], self.data_args.max_train_samples, "training"),
            validation=first_texts(texts["validation"], self.data_args.max_eval_samples, "validation"),
        )

    def _load_model_and_processor(
        self, train_texts: Dataset, checkpoint: str | None
    ) -> tuple[BNVAEModel, BNVAEProcessor]:
        args = self.model_args
        for name in (args.model_name_or_path, args.encoder_side_name_or_path):
            if name is not None:
                require_checksums(name)
        fields = args.config_fields()
        is_conditional = self.data_args.condition_column is not None
        loading = {"token": args.token, "trust_remote_code": args.trust_remote_code}
        if args.model_name_or_path is not None:
            loading["revision"] = args.revision or "main"
            with damage_named(find_model_damage, args.model_name_or_path, loading):
                model = AutoModel.from_pretrained(args.model_name_or_path, **loading)
            self._require_bnvae(model.config, fields)
            self._require_condition_column(model.config)
            with damage_named(find_processor_damage, args.model_name_or_path, loading):
                processor = AutoProcessor.from_pretrained(args.model_name_or_path, **loading)
        else:
            names = args.encoder_name_or_path, args.decoder_name_or_path
            networks, tokenizers = names, names
            if None in names:
                # A resumed run keeps the tokenizers that it was started with. An encoder that is taken over keeps its
                # own.
                source = checkpoint or (args.encoder_side_name_or_path if names == (None, None) else None)
                conditions = train_texts[CONDITION][:] if is_conditional else None
                longest = args.max_seq_length or MAX_LENGTH * (2 if is_conditional else 1)
                small = (
                    train_processor(train_texts[TEXT][:], args.vocab_size, longest, conditions)
                    if source is None
                    else BNVAEProcessor.from_pretrained(source)
                )
                configs = small_configs(small, args.hidden_size, args.num_layers)
                networks = [name or config for name, config in zip(names, configs, strict=True)]
                own_tokenizers = (small.encoder_tokenizer, small.tokenizer)
                tokenizers = [name or own for name, own in zip(names, own_tokenizers, strict=True)]
            if is_conditional:
                fields |= {"conditional": True}
            decoder = {} if args.decoder_gguf_file is None else {"gguf_file": args.decoder_gguf_file}
            model = BNVAEModel.from_encoder_decoder_pretrained(*networks, decoder=decoder, **fields, **loading)
            processor = BNVAEProcessor.from_encoder_decoder_pretrained(
                *tokenizers, config=model.config, decoder=decoder, **loading
            )
        if args.max_seq_length is not None:
            _limit_length(processor, model.config, args.max_seq_length)
        if args.attn_implementation is not None:
            model.set_attn_implementation(args.attn_implementation)
        if args.encoder_side_name_or_path is not None:
            model.load_encoder_side(BNVAEModel.from_pretrained(args.encoder_side_name_or_path, **loading))
        # A processor that does not belong to the model is refused here, before the training. A resumed run refuses all
        # but the processor that it began with, since tokenizers on the Hub may change.
        if checkpoint is not None:
            recorded = BNVAEConfig.from_pretrained(checkpoint).processor_sha256
            model.config.processor_sha256 = recorded or model.config.processor_sha256
        model.attach_processor(processor).record_processor()
        return model, processor

    def _require_bnvae(self, config: PretrainedConfig, fields: dict[str, Any]) -> None:
        """Refuse a model to go on with that is no BN-VAE, and options that would change its latent space."""
        if config.model_type != BNVAEConfig.model_type:
            raise ValueError(
                f"{self.model_args.model_name_or_path} is a {config.model_type!r}, no BNVAE. To build one on it, give "
                "it as --encoder_name_or_path or --decoder_name_or_path."
            )
        changed = [f"{name} ({getattr(config, name)!r})" for name in fields if fields[name] != getattr(config, name)]
        if changed:
            raise ValueError(
                f"{self.model_args.model_name_or_path} is trained with its own {', '.join(changed)}, which cannot be "
                "changed. Leave the option out, or build a new model."
            )

    def _require_condition_column(self, config: PretrainedConfig) -> None:
        """Refuse texts with conditions for a model that takes none, and texts without them for a conditional model."""
        name, column = self.model_args.model_name_or_path, self.data_args.condition_column
        if column is not None and not config.conditional:
            # Somebody who trains can also build a new model.
            raise ValueError(
                f"{name} was trained without conditions and cannot take --condition_column {column}. Leave the option "
                "out, or build a new model."
            )
        require_condition_column(name, config.conditional, column is not None)

    def _explain_finished(self) -> None:
        differences = [line for line in self.directory.differences() if not line.startswith("corpus_")]
        advice = (
            f"  look at it:     {self.path / REPORT_MARKDOWN}, {self.path / RESULTS_FILE}\n"
            f"  go on from it:  --model {self.path} --output_dir {self.path}-continued\n"
            f"  train anew:     --output_dir {self.path}-2, or delete {self.path} first"
        )
        if self.training_args.push_to_hub:
            advice += f"\n  push it:        {self.pushing_command()}"
        if differences:
            message = f"{self.path} holds a finished run with other settings ({'; '.join(differences)}). "
            raise SystemExit(visible(f"{message}Nothing was done.\n{advice}"))
        self.print(
            f"{self.path} holds a run with these settings already, finished. Nothing was done. (The job did not check "
            f"whether the texts are still the same.)\n{advice}"
        )


@dataclass(frozen=True)
class StartedRun:
    """
    A run that has begun: what the training loop needs, and what is left to do after the loop.

    Args:
        job ([`TrainingJob`]): The job that began it.
        model ([`BNVAEModel`]), processor ([`BNVAEProcessor`]): What to train.
        train_dataset, eval_dataset (`Dataset`): Tokenised texts.
        texts (`DatasetDict`): The texts themselves, `train` and `validation`.
        checkpoint (`str`, *optional*): The checkpoint to resume from.
        hub_target ([`HubTarget`], *optional*): Where to push; `None` if nothing is to be pushed.
    """

    job: TrainingJob
    model: BNVAEModel
    processor: BNVAEProcessor
    train_dataset: Dataset
    eval_dataset: Dataset
    texts: DatasetDict
    checkpoint: str | None
    hub_target: HubTarget | None

    def evaluate(self) -> dict[str, Any]:
        """
        Evaluate the trained model on the held-out texts: write the report to the folder and print it. Call this on
        the main process, after [`leave_process_group`].

        Returns:
            `dict`: What `all_results.json` gets: the figures as `eval_...`, the hashes of the texts, the versions of
            the libraries.
        """
        job, args = self.job, self.job.training_args
        settings = job.directory.settings
        model = self._whole_model().eval()
        report = evaluate_and_report(
            model,
            EvaluatedTexts(
                self.texts["validation"][TEXT][:],
                settings[_HASHES["validation"]],
                TextSource.held_out_by_run(settings),
                self.eval_dataset,
                self.texts["validation"][CONDITION][:] if model.config.conditional else None,
            ),
            kind=TRAINING,
            name_or_path=str(job.path),
            command=job.directory.command,
            settings=settings | asdict(job.report_args) | {"batch_size": args.per_device_eval_batch_size},
            batch_size=args.per_device_eval_batch_size,
            num_importance_samples=job.report_args.num_importance_samples,
            max_importance_sentences=job.report_args.max_importance_sentences,
            num_examples=job.report_args.num_examples,
            seed=args.seed,
            show_progress=not args.disable_tqdm,
            training={"num_texts": len(self.train_dataset), "sha256": settings[_HASHES["train"]]},
            notes=notes_on_copies(self.texts),
        )
        report.save(job.path)
        write_json(job.path / EXAMPLES_FILE, report.record["examples"])
        say(f"\n{report.markdown}")
        hashes = {f"eval_{name}": settings[name] for name in _HASHES.values()}
        run = {
            "hardware": report.record["hardware"],
            "num_parameters": report.record["model"]["num_parameters"],
            "train_samples": len(self.train_dataset),
        }
        return report.result.to_metrics("eval") | hashes | run | report.record["versions"]

    def finish(self) -> None:
        """Write the model card, mark the run as finished, print how to load the model, and push it if that was asked
        for.

        Raises:
            SystemExit: if the push failed, with the command that pushes later. The run is finished all the same.
        """
        job = self.job
        if job.training_args.do_train:
            self._write_card()
        job.directory.finish()
        if not job.training_args.do_train:
            say(f"The figures are in {job.path}.")
            return
        lines = loading_lines(str(job.path), is_conditional=self.model.config.conditional)
        say(f"Saved to {job.path}. To load it:\n\n{lines}\n")
        if self.hub_target is not None:
            try:
                say(render_pushed(push_folder(job.path, self.hub_target, "End of training")))
            except (HubError, ValueError) as error:
                message = f"error: {error}\nThe run is finished and saved in {job.path}. To push it later:\n\n"
                raise SystemExit(visible(f"{message}{job.pushing_command()}")) from error

    def _whole_model(self) -> BNVAEModel:
        """The trained model. If its weights are shared out between processes, it is loaded from the folder, where the
        training loop has saved it whole."""
        if not isinstance(self.model, FSDPModule):
            return self.model
        model = BNVAEModel.from_pretrained(self.job.path).to(self.job.training_args.device)
        return model.attach_processor(self.processor)

    def _write_card(self) -> None:
        given = {
            "license": self.job.report_args.license,
            "language": self.job.report_args.language,
            "repo_id": self.hub_target and self.hub_target.repo_id,
        }
        known = {name: value for name, value in given.items() if value is not None}
        BNVAEModelCard.from_folder(self.job.path, **known).save(self.job.path)


def leave_process_group() -> None:
    """Leave the group of processes of a distributed training. Without a group this does nothing."""
    if dist.is_available() and dist.is_initialized():
        # Torch ends the group's threads when the last reference to the group dies, and holds Python's lock while it
        # waits for them. A thread that frees a tensor waits for that lock. On a busy machine a finished run then never
        # ends (torch 2.13, gloo). So one reference is kept for ever.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
        dist.destroy_process_group()


def _limit_length(processor: BNVAEProcessor, config: BNVAEConfig, max_seq_length: int) -> None:
    """Cut longer texts. A trained model may have been given a smaller limit than its networks need.

    Raises:
        ValueError: for a length that a network has no positions for.
    """
    halves = {"encoder": processor.encoder_tokenizer, "decoder": processor.tokenizer}
    for tokenizer in halves.values():
        tokenizer.model_max_length = max_seq_length
    processor.limit_lengths(config.encoder, config.decoder)
    for half, tokenizer in halves.items():
        if tokenizer.model_max_length < max_seq_length:
            raise ValueError(
                f"--max_seq_length {max_seq_length} is more than the {half}'s {tokenizer.model_max_length} positions."
            )


def _launch_settings(args: ScriptTrainingArguments) -> dict[str, Any]:
    """What the launcher sets, partly in the environment: processes, precision and sharding."""
    return {
        "processes": args.world_size,
        "mixed_precision": args.mixed_precision,
        "fsdp": bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true",
    }
