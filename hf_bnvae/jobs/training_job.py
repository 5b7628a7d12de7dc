# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""What the training scripts share: everything but the training loop itself."""

import json
import os
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import torch.distributed as dist
from accelerate import PartialState
from datasets import Dataset
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModel, AutoProcessor, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from ..data.corpora import TEXT, corpus_hash, first_texts, load_texts, tokenize_texts
from ..evaluation.encoding import encode_corpus
from ..evaluation.evaluator import evaluate_model
from ..hub.push import prepare_repository, push_folder, render_pushed
from ..hub.target import HubError, HubTarget
from ..model.configuration_bnvae import BNVAEConfig
from ..model.modeling_bnvae import BNVAEModel
from ..model.processing_bnvae import BNVAEProcessor
from ..reporting.commands import PROGRAM, command_line
from ..reporting.model_card import BNVAEModelCard
from ..reporting.pictures import draw_pictures
from ..reporting.provenance import hardware, library_versions
from ..reporting.report import loading_lines, make_examples, render_examples, render_figures
from ..reporting.settings import Role, has_role
from ..training.from_scratch import small_configs, train_processor
from ..utils.file_names import EXAMPLES_FILE, RESULTS_FILE
from ..utils.memory import keep_freed_memory
from .arguments import DataArguments, ModelArguments, ReportArguments
from .run_directory import RunDirectory
from .training_arguments import ScriptTrainingArguments, training_command

logger = logging.get_logger(__name__)

REPORT_FILE = "report.md"


class TrainingJob:
    """
    One run of a training script: its folder, its data, its model, and the report at its end.

    Args:
        model_args ([`ModelArguments`]): Which networks and which latent space.
        data_args ([`DataArguments`]): Which texts.
        report_args ([`ReportArguments`]): The final evaluation.
        training_args ([`ScriptTrainingArguments`]): The training.
        loop (`str`): The name of the loop that trains. Checkpoints of one loop are none of the other's.

    In a distributed training every process has its job; the main one alone writes, prints, and makes the report.

    Attributes, once [`~TrainingJob.begin`] has returned `True`:
        model ([`BNVAEModel`]), processor ([`BNVAEProcessor`]): What to train.
        train_dataset, eval_dataset (`Dataset`): Tokenised texts.
        checkpoint (`str` or `None`): The checkpoint to resume from.
        hub_target ([`HubTarget`] or `None`): Where to push, if that was asked for.
    """

    model: BNVAEModel
    processor: BNVAEProcessor
    train_dataset: Dataset
    eval_dataset: Dataset
    checkpoint: str | None
    hub_target: HubTarget | None

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
        self.path = Path(training_args.output_dir)
        self.is_main = training_args.process_index == 0
        if not self.is_main:
            # What there is to say is said once.
            logging.set_verbosity_error()
            datasets.disable_progress_bars()
        settings = {**asdict(model_args), **asdict(data_args), **training_args.to_dict()}
        settings = {name: value for name, value in settings.items() if not has_role(name, Role.FREE)}
        settings |= {**_launch_settings(training_args), "loop": loop}
        for name in ("train_file", "validation_file", "dataset_name"):
            # The same file wherever the command is typed; a data set may be a folder, too.
            if settings[name] and (name != "dataset_name" or Path(settings[name]).is_dir()):
                settings[name] = str(Path(settings[name]).resolve())
        command = training_command((model_args, data_args, report_args, training_args), loop)
        self.directory = RunDirectory(training_args.output_dir, settings, command)
        self.hub_target = HubTarget.of_training(training_args) if training_args.push_to_hub else None

    def begin(self) -> bool:
        """
        Load the data, build or load the model, and prepare the folder.

        Returns:
            `bool`: Whether there is anything to do; `False` for a finished run, and what can be done with it is
            printed.

        Raises:
            ValueError: for a folder that holds other files, another run's, or for any bad setting.
        """
        if self.directory.is_finished:
            self._explain_finished()
            return False
        if self.training_args.device.type == "cpu":
            keep_freed_memory()
        set_seed(self.training_args.seed)
        # The main process downloads, reads and tokenises first; the others find it cached.
        with self.training_args.main_process_first(local=False):
            self._load_texts()
            # A corpus that has changed under a run, the embedded one by a new package for example, is another run.
            self.directory.settings |= self._hashes
            self.checkpoint = self.directory.find_checkpoint()
            self._load_model_and_processor()
            workers = self.data_args.preprocessing_num_workers
            self.train_dataset = tokenize_texts(self._texts["train"], self.processor, "training", workers)
            self.eval_dataset = tokenize_texts(self._texts["validation"], self.processor, "validation", workers)
        PartialState().wait_for_everyone()  # until all have seen what the folder held
        if self.is_main and self.hub_target is not None:
            # What stands in the way of a push is told before anything is trained.
            self.hub_target, _ = prepare_repository(self.hub_target)
        if self.checkpoint is not None:
            self.print(f"Resuming the unfinished run in {self.path} from {Path(self.checkpoint).name}.")
        if self.is_main:
            self.directory.start()
            # `Trainer` adds to it, and cannot read one whose writing was cut off.
            (self.path / RESULTS_FILE).unlink(missing_ok=True)
        self.print(
            f"{len(self.train_dataset)} sentences to train on, {len(self.eval_dataset)} held out; "
            f"{self.model.num_parameters() / 1e6:.1f} million parameters; posterior {self.model.config.posterior!r}, "
            f"{self.model.config.latent_size} latent dimensions, KL at least {self.model.config.kl_floor:.2f} nats."
        )
        return True

    def print(self, text: str) -> None:
        """Print on the main process."""
        if self.is_main:
            print(text)

    def part(self) -> bool:
        """
        Leave the group of processes after training: what remains is the main one's to do, by itself, with the model
        that was saved where the trained one is sharded.

        Returns:
            `bool`: Whether this is the main process.
        """
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        if self.is_main and isinstance(self.model, FSDPModule):
            self.model = BNVAEModel.from_pretrained(self.path).to(self.training_args.device)
            self.model.attach_processor(self.processor)
        return self.is_main

    def evaluate(self) -> dict[str, Any]:
        """
        The final evaluation of `self.model` on the held-out texts: printed, and written to `report.md`, the texts
        that it makes to `examples.json` too.

        Returns:
            `dict`: The figures as `eval_...`, with the corpus' hashes and the versions of the libraries.
        """
        args = self.report_args
        self.model.eval()
        result = evaluate_model(
            self.model,
            self.eval_dataset,
            self.processor,
            batch_size=self.training_args.per_device_eval_batch_size,
            num_importance_samples=args.num_importance_samples,
            max_importance_sentences=args.max_importance_sentences,
            seed=self.training_args.seed,
            show_progress=not self.training_args.disable_tqdm,
        )
        texts = self._texts["validation"][: max(2, args.num_examples)][TEXT]
        examples = make_examples(self.model, texts, args.num_examples, seed=self.training_args.seed)
        report = "\n\n".join([render_figures(result), render_examples(examples)])
        print(f"\n{report}\n")
        (self.path / REPORT_FILE).write_text(report + "\n", encoding="utf-8")
        (self.path / EXAMPLES_FILE).write_text(json.dumps(asdict(examples), indent=2) + "\n", encoding="utf-8")
        self._draw_pictures()
        hashes = {f"eval_{name}": value for name, value in self._hashes.items()}
        run = {
            "hardware": hardware(),
            "num_parameters": self.model.num_parameters(),
            "train_samples": len(self.train_dataset),
        }
        return result.to_metrics("eval") | hashes | run | library_versions()

    def _draw_pictures(self) -> None:
        """Those of the model card, where matplotlib is installed."""
        if find_spec("matplotlib") is None:
            return
        texts, size = self._texts["validation"][TEXT], self.training_args.per_device_eval_batch_size
        encoded = encode_corpus(self.model, self.processor, texts, size, show_progress=False)
        state = self.path / TRAINER_STATE_NAME
        log_history = json.loads(state.read_text(encoding="utf-8"))["log_history"] if state.is_file() else None
        pictures, notes = draw_pictures(self.model, encoded, log_history, seed=self.training_args.seed)
        for note in notes:
            logger.info(note)
        for name, figure in pictures.items():
            figure.savefig(self.path / name)

    def finish(self) -> None:
        """Write the model card, mark the run as finished, say how to load what it saved, and push it where that was
        asked for.

        Raises:
            SystemExit: if the push failed, with how to do it later: the run is finished all the same.
        """
        if self.training_args.do_train:
            self._write_card()
        self.directory.finish()
        if not self.training_args.do_train:
            print(f"The figures are in {self.path}.")
            return
        print(f"Saved to {self.path}. To load it:\n\n{loading_lines(str(self.path))}\n")
        if self.hub_target is not None:
            try:
                print(render_pushed(push_folder(self.path, self.hub_target, "End of training")))
            except (HubError, ValueError) as error:
                raise SystemExit(
                    f"error: {error}\nThe run is finished and saved in {self.path}. To push it later:\n\n"
                    f"{self._pushing_command()}"
                ) from error

    def _write_card(self) -> None:
        given = {
            "license": self.report_args.license,
            "language": self.report_args.language,
            "repo_id": self.hub_target and self.hub_target.repo_id,
        }
        known = {name: value for name, value in given.items() if value is not None}
        BNVAEModelCard.from_folder(self.path, **known).save(self.path)

    def _pushing_command(self) -> str:
        target = HubTarget.of_training(self.training_args)
        options = {
            "repo_id": target.repo_id,
            "branch": None if target.branch == "main" else target.branch,
            "private": bool(target.private),
        }
        return command_line((PROGRAM, "push", str(self.path)), options)

    def _load_texts(self) -> None:
        texts = load_texts(
            dataset_name=self.data_args.dataset_name,
            dataset_config_name=self.data_args.dataset_config_name,
            train_file=self.data_args.train_file,
            validation_file=self.data_args.validation_file,
            text_column=self.data_args.text_column,
            validation_split_percentage=self.data_args.validation_split_percentage,
            seed=self.training_args.seed,
        )
        self._texts = {
            "train": first_texts(texts["train"], self.data_args.max_train_samples, "training"),
            "validation": first_texts(texts["validation"], self.data_args.max_eval_samples, "validation"),
        }
        self._hashes = {f"corpus_{name}_sha256": corpus_hash(split) for name, split in self._texts.items()}

    def _load_model_and_processor(self) -> None:
        args = self.model_args
        fields = args.config_fields()
        loading = {"token": args.token, "trust_remote_code": args.trust_remote_code}
        if args.model_name_or_path is not None:
            loading["revision"] = args.revision or "main"
            self.model = AutoModel.from_pretrained(args.model_name_or_path, **loading)
            self._require_bnvae(fields)
            self.processor = AutoProcessor.from_pretrained(args.model_name_or_path, **loading)
        elif args.encoder_name_or_path is not None:
            names = args.encoder_name_or_path, args.decoder_name_or_path
            decoder = {} if args.decoder_gguf_file is None else {"gguf_file": args.decoder_gguf_file}
            self.model = BNVAEModel.from_encoder_decoder_pretrained(*names, decoder=decoder, **fields, **loading)
            self.processor = BNVAEProcessor.from_encoder_decoder_pretrained(
                *names, config=self.model.config, decoder=decoder, **loading
            )
        else:
            # A resumed run keeps the tokenizers that it was started with, a taken over encoder those of its own.
            source = self.checkpoint or args.encoder_side_name_or_path
            self.processor = (
                train_processor(self._texts["train"][TEXT], args.vocab_size)
                if source is None
                else AutoProcessor.from_pretrained(source)
            )
            encoder, decoder = small_configs(self.processor, args.hidden_size, args.num_layers)
            self.model = BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(encoder, decoder, **fields))
        if args.attn_implementation is not None:
            self.model.set_attn_implementation(args.attn_implementation)
        if args.encoder_side_name_or_path is not None:
            self.model.load_encoder_side(BNVAEModel.from_pretrained(args.encoder_side_name_or_path, **loading))
        # Refused now rather than after the training.
        self.model.attach_processor(self.processor)

    def _require_bnvae(self, fields: dict[str, Any]) -> None:
        """A model to go on with is a BN-VAE and keeps its latent space."""
        config = self.model.config
        if config.model_type != BNVAEConfig.model_type:
            raise ValueError(
                f"{self.model_args.model_name_or_path} is a {config.model_type!r}, no BNVAE. To build one on it, give "
                "--encoder_name_or_path and --decoder_name_or_path."
            )
        changed = [f"{name} ({getattr(config, name)!r})" for name in fields if fields[name] != getattr(config, name)]
        if changed:
            raise ValueError(
                f"{self.model_args.model_name_or_path} is trained with its own {', '.join(changed)}, which cannot be "
                "changed. Leave the option out, or build a new model."
            )

    def _explain_finished(self) -> None:
        differences = [line for line in self.directory.differences() if not line.startswith("corpus_")]
        advice = (
            f"  look at it:     {self.path / REPORT_FILE}, {self.path / RESULTS_FILE}\n"
            f"  go on from it:  --model {self.path} --output_dir {self.path}-continued\n"
            f"  train anew:     --output_dir {self.path}-2, or delete {self.path} first"
        )
        if self.training_args.push_to_hub:
            advice += f"\n  push it:        {self._pushing_command()}"
        if differences:
            raise SystemExit(
                f"{self.path} holds a finished run with other settings ({'; '.join(differences)}). Nothing was done.\n"
                f"{advice}"
            )
        self.print(
            f"{self.path} holds a run with these settings already, finished. Nothing was done, and whether the texts "
            f"are still the same was not looked at.\n{advice}"
        )


def _launch_settings(args: ScriptTrainingArguments) -> dict[str, Any]:
    """What the launcher sets, partly in the environment: processes, precision and sharding."""
    return {
        "processes": args.world_size,
        "mixed_precision": args.mixed_precision,
        "fsdp": bool(args.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true",
    }
