"""The trainer: objective, parameter groups, logs, evaluation over the corpus, statistics, warnings, faults."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import cases
from transformers import Trainer
from transformers.utils import logging

from hf_bnvae import BNVAEDataCollator, BNVAEModel, BNVAETrainer, BNVAETrainingArguments
from hf_bnvae.training.objective import beta_at_step, free_bits_kl

# --- objective and optimiser -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"beta": 0.3},
        {"beta_schedule": "linear", "beta_zero_ratio": 0.5},
        {"free_bits": 0.7},
        {"free_bits": 0.7, "free_bits_mode": "optimus"},
    ],
)
def test_training_loss_is_the_composed_objective(make_trainer, batch, arguments):
    trainer = make_trainer(model={"decoder_dropout": 0.0, "posterior": "bn_rms"}, **arguments)
    trainer.state.max_steps, trainer.state.global_step = 8, 5
    trainer.model.train()
    inputs = {**batch, "noise": torch.randn(16, 8)}
    outputs = trainer.model(**inputs)
    schedule = arguments.get("beta_schedule", "constant")
    beta = beta_at_step(5, 8, schedule, arguments.get("beta", 1.0), arguments.get("beta_zero_ratio", 0.25), 0.25)
    free = free_bits_kl(outputs.kl, arguments.get("free_bits", 0.0), arguments.get("free_bits_mode", "batch"))
    expected = outputs.reconstruction_nll.mean() + beta * free
    torch.testing.assert_close(trainer.compute_loss(trainer.model, inputs), expected)
    assert (abs(expected - outputs.loss) < 1e-5).item() == (not arguments)
    # In evaluation the loss is the negative ELBO, whatever the objective.
    trainer.model.eval()
    torch.testing.assert_close(trainer.compute_loss(trainer.model, inputs), trainer.model(**inputs).loss)


@pytest.mark.parametrize("posterior", ["bn", "bn_mean", "gaussian"])
def test_latent_parameters_have_their_own_learning_rate_and_scales_no_decay(make_trainer, posterior):
    trainer = make_trainer(model={"posterior": posterior}, latent_learning_rate=0.02, weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in seen
            seen[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert seen.keys() == set(names.values())
    for name, (rate, decay) in seen.items():
        is_latent = name.startswith(("posterior.", "injection."))
        assert rate == (0.02 if is_latent else 1e-3), name
        is_scale = any(part in name for part in ("theta", "allocation", "shift"))
        is_norm = "bias" in name or "LayerNorm" in name or ".ln_" in name
        assert decay == (0.0 if is_scale or is_norm else 0.1), name


def test_without_a_latent_rate_there_is_one_for_all(make_trainer):
    optimizer = make_trainer(latent_learning_rate=None).create_optimizer()
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3} and len(optimizer.param_groups) == 2


def test_latent_rate_follows_the_schedule(make_trainer):
    trainer = make_trainer(latent_learning_rate=0.02, lr_scheduler_type="linear")
    trainer.create_optimizer_and_scheduler(10)
    for _ in range(5):
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert {round(g["lr"], 6) for g in trainer.optimizer.param_groups} == {0.0005, 0.01}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_schedule": "sudden"}, "one of constant, linear, cyclical, got 'sudden'"),
        ({"free_bits_mode": "some"}, "one of batch, optimus, got 'some'"),
        ({"beta": -1.0}, "beta must not be negative"),
        ({"free_bits": -1.0}, "free_bits must not be negative"),
        ({"beta_zero_ratio": 0.8, "beta_increase_ratio": 0.4}, "at most 1 together, got 0.8 and 0.4"),
        ({"beta_num_cycles": 0}, "beta_num_cycles must be at least 1"),
        ({"num_statistics_batches": 0}, "num_statistics_batches must be at least 1"),
        ({"latent_learning_rate": -1.0}, "latent_learning_rate must not be negative"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        BNVAETrainingArguments(output_dir=str(tmp_path), **arguments)


# --- training and logs -----------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_logs_the_parts(make_trainer):
    trainer = make_trainer(max_steps=40, learning_rate=3e-3, logging_steps=10)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 4 and logs[-1]["loss"] < 0.8 * logs[0]["loss"]
    for entry in logs:
        assert entry["beta"] == 1.0 and math.isfinite(entry["grad_norm"])
        assert entry["loss"] == pytest.approx(entry["reconstruction_nll"] + entry["kl"], rel=1e-4)
        assert entry["kl"] >= entry["kl_floor"] - 0.1
        assert {"aggregate_mean", "aggregate_second_moment", "mean_moment_ratio"} <= entry.keys()


def test_the_plain_trainer_trains_the_model_too(make_trainer):
    trainer = make_trainer(trainer_class=Trainer, max_steps=30, learning_rate=3e-3, logging_steps=10)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert math.isfinite(trainer.evaluate()["eval_loss"])


def test_checkpoints_hold_no_pickled_arguments(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    names = {path.name for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    settings = json.loads((tmp_path / "saved" / "training_args.json").read_text())
    assert settings["latent_learning_rate"] == 1e-3
    loaded = BNVAEModel.from_pretrained(tmp_path / "saved")
    assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in trainer.model.state_dict().items())


def test_resuming_gives_the_same_model_to_the_bit(make_trainer, caplog):
    logging.enable_propagation()
    arguments = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 2}
    whole = make_trainer(**arguments)
    whole.train()
    resumed = make_trainer(model={"seed": 1}, **arguments)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")
    assert "missing keys" not in caplog.text
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    other = make_trainer(model={"seed": 1}, **{**arguments, "save_strategy": "no"})
    other.train()
    assert not torch.equal(other.model.decoder.lm_head.weight, whole.model.decoder.lm_head.weight)


def test_weights_that_a_checkpoint_lacks_are_named_and_tied_ones_are_not(make_trainer, caplog):
    logging.enable_propagation()
    trainer, tied = make_trainer(), "decoder.lm_head.weight"
    weights = trainer.model.state_dict()
    del weights[tied]
    trainer._issue_warnings_after_load(trainer.model.load_state_dict(weights, strict=False))
    assert "missing keys" not in caplog.text
    del weights["posterior.mean_projection.weight"]
    trainer._issue_warnings_after_load(trainer.model.load_state_dict(weights, strict=False))
    assert "missing keys" in caplog.text and "['posterior.mean_projection.weight']" in caplog.text


@pytest.mark.slow
def test_a_checkpoint_with_other_bits_is_not_resumed(make_trainer, caplog):
    arguments = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(**arguments)
    trainer.train()
    file = Path(trainer.args.output_dir, "checkpoint-1", "optimizer.pt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint-1 is damaged: optimizer\.pt is not as written"):
        make_trainer(**arguments).train(resume_from_checkpoint=str(file.parent))
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    newest = Path(trainer.args.output_dir, "checkpoint-2", "optimizer.pt")
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    again = make_trainer(**{**arguments, "max_steps": 3})
    again.train(resume_from_checkpoint=True)
    assert "checkpoint-2 is damaged: optimizer.pt is not as written. It is skipped." in caplog.text
    (file.parent / "contents.json").unlink()  # a checkpoint of another program
    make_trainer(**arguments).train(resume_from_checkpoint=str(file.parent))


def test_a_last_batch_too_small_is_skipped_and_said(make_trainer, dataset, caplog):
    for count, batches, is_said in ((33, 2, True), (40, 3, False), (5, 1, False), (32, 2, False)):
        caplog.clear()
        trainer = make_trainer(train=dataset.select(range(count)), max_steps=-1, num_train_epochs=1)
        assert len(trainer.get_train_dataloader()) == batches
        assert ("too few to normalise by" in caplog.text) == is_said
        assert not trainer.args.dataloader_drop_last
    gaussian = make_trainer(model={"posterior": "gaussian"}, train=dataset.select(range(33)))
    assert len(gaussian.get_train_dataloader()) == 3


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_evaluation_gives_corpus_figures_not_means_of_batch_means(make_trainer, dataset):
    """50 sentences in batches of 16, 16, 16 and 2, and in one batch. Equal draws give equal noise."""
    few = dataset.select(range(50))
    trainer = make_trainer(model={"posterior": "bn_rms"}, evaluation=few, dataloader_drop_last=True)
    trainer.train()
    metrics = trainer.evaluate()
    batch = trainer.data_collator([few[i] for i in range(50)])
    with torch.no_grad():
        posterior = trainer.model.eval().encode(batch["input_ids"], batch["attention_mask"])
    assert metrics["eval_kl"] == pytest.approx(posterior.kl().sum(-1).mean().item(), rel=1e-5)
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_reconstruction_nll"] + metrics["eval_kl"])
    assert metrics["eval_elbo"] == -metrics["eval_loss"]
    assert metrics["eval_active_units"] == int(posterior.mean.var(0).ge(0.01).sum())
    assert metrics["eval_kl_floor"] == pytest.approx(trainer.model.kl_floor().item())
    assert metrics["eval_aggregate_second_moment"] == pytest.approx(
        (posterior.mean.square() + posterior.logvar.exp()).mean().item(), rel=1e-5
    )
    # The control: Trainer reports the mean of batch means, in which the last two sentences count like sixteen.
    sizes = (16, 16, 16, 2)
    parts = posterior.kl().sum(-1).split(sizes)
    assert abs(np.mean([part.mean().item() for part in parts]) - metrics["eval_kl"]) > 1e-4


def test_evaluation_is_reproducible_and_restores_the_random_state(make_trainer):
    trainer = make_trainer(model={"encoder_dropout": 0.1})
    trainer.train()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = trainer.evaluate()
    assert before[0] == random.getstate() and before[1] == np.random.get_state()[1].tolist()
    assert torch.equal(before[2], torch.get_rng_state())
    torch.manual_seed(2)
    second = trainer.evaluate()
    timing = ("runtime", "per_second")
    assert {k: v for k, v in first.items() if not k.endswith(timing)} == {
        k: v for k, v in second.items() if not k.endswith(timing)
    }


def test_evaluating_during_training_does_not_change_the_training(make_trainer):
    plain = make_trainer(max_steps=6, model={"encoder_dropout": 0.1})
    plain.train()
    evaluated = make_trainer(max_steps=6, model={"encoder_dropout": 0.1}, eval_strategy="steps", eval_steps=2)
    evaluated.train()
    for (name, one), other in zip(plain.model.named_parameters(), evaluated.model.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_evaluation_refreshes_statistics_with_dropout_as_in_training(make_trainer):
    """With dropout in the encoder the statistics contain noise. Evaluation has none, and sees smaller moments."""
    ratios = {}
    for dropout in (0.0, 0.5):
        trainer = make_trainer(model={"encoder_dropout": dropout, "pooling": "cls"}, num_statistics_batches=20)
        with torch.no_grad():
            trainer.model.posterior.mean_projection.weight.mul_(100)
        ratios[dropout] = trainer.evaluate()["eval_mean_moment_ratio"]
    assert ratios[0.0] == pytest.approx(1, abs=0.25) and ratios[0.5] < 0.5 * ratios[0.0]


@pytest.mark.parametrize("posterior", cases(["bn", "bn_rms", "bn_mean"], quick=["bn_rms"]))
def test_training_ends_with_exact_statistics_of_the_training_set(make_trainer, dataset, posterior):
    """Over the training set each dimension has the moments that the head promises, in evaluation mode."""
    fields = {"posterior": posterior, "pooling": "mean"}
    trainer = make_trainer(model=fields, train=dataset, max_steps=10, learning_rate=3e-3)
    trainer.train()
    model = trainer.model.eval()
    collate = BNVAEDataCollator(trainer.processing_class)

    def errors():
        """For each promised moment the greatest relative error of a dimension."""
        with torch.no_grad():
            batches = [collate([dataset[i] for i in range(start, start + 50)]) for start in range(0, 400, 50)]
            encoded = [model.encode(batch["input_ids"], batch["attention_mask"]) for batch in batches]
        mean = torch.cat([e.mean for e in encoded]).double()
        variance = torch.cat([e.logvar for e in encoded]).double().exp()
        shift, mean_square, promised_variance = model.posterior.promised_moments()
        found = [((mean - shift).square().mean(0) / mean_square - 1).abs().max().item()]
        if promised_variance is not None:
            found.append((variance.mean(0) / promised_variance - 1).abs().max().item())
        return found

    assert len(dataset) == 400 and max(errors()) < 1e-4
    # The control: averages that were kept during training, or come from a few batches, are not exact.
    trainer.recalibrate(2)
    assert min(errors()) > 1e-3


def test_evaluation_without_statistics_is_refused(make_trainer):
    trainer = make_trainer(train=None)
    with pytest.raises(ValueError, match="never estimated"):
        trainer.evaluate()
    assert make_trainer(model={"posterior": "gaussian"}, train=None).evaluate()["eval_kl"] > 0


def test_prediction_has_the_same_figures_and_guards(make_trainer, dataset):
    trainer = make_trainer()
    trainer.train()
    few = dataset.select(range(10))
    output = trainer.predict(few)
    assert output.metrics["test_kl"] == pytest.approx(output.predictions[1].sum(-1).mean().item(), rel=1e-5)
    assert (
        output.metrics["test_loss"] == trainer.predict(few).metrics["test_loss"] == trainer.evaluate(few)["eval_loss"]
    )
    with pytest.raises(ValueError, match="never estimated"):
        make_trainer(train=None).predict(few)


@pytest.mark.parametrize(
    "changes",
    [
        {"ignore_keys": ["kl", "mean"]},
        {"preprocess": lambda outputs, labels: outputs[1]},
        {"arguments": {"eval_do_concat_batches": False}},
        {"arguments": {"batch_eval_metrics": True}},
    ],
    ids=["ignore_keys", "preprocess", "no_concat", "batch_metrics"],
)
def test_figures_do_not_depend_on_what_is_done_with_predictions(make_trainer, changes):
    plain, changed = make_trainer(), make_trainer(**changes.get("arguments", {}))
    changed.preprocess_logits_for_metrics = changes.get("preprocess")
    if "preprocess" in changes:
        changed.compute_metrics = lambda prediction: {"shape": prediction.predictions.shape[1]}
    expected, figures = plain.evaluate(), changed.evaluate(ignore_keys=changes.get("ignore_keys"))
    for name in ("loss", "kl", "reconstruction_nll", "active_units", "aggregate_second_moment", "mean_moment_ratio"):
        assert figures[f"eval_{name}"] == expected[f"eval_{name}"], name
    assert figures.get("eval_shape", 8) == 8


def test_streamed_training_sets_are_trained_on(make_trainer, dataset):
    trainer = make_trainer(train=dataset.to_iterable_dataset(), num_statistics_batches=3, max_steps=3)
    trainer.train()
    assert trainer.model.posterior.is_estimated

    def once():
        yield from dataset.select(range(64))

    from datasets import IterableDataset

    streamed = make_trainer(train=IterableDataset.from_generator(once), max_steps=3)
    streamed.train()
    assert math.isfinite(streamed.evaluate()["eval_loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
    ],
)
def test_settings_without_a_meaning_are_refused(make_trainer, arguments, message):
    with pytest.raises(ValueError, match=f"{message} has no meaning here"):
        make_trainer(**arguments)


def test_arguments_of_the_plain_trainer_are_refused(make_model, tmp_path):
    from transformers import TrainingArguments

    with pytest.raises(ValueError, match="must be BNVAETrainingArguments, got TrainingArguments"):
        BNVAETrainer(model=make_model(), args=TrainingArguments(str(tmp_path)))


def test_a_posterior_batch_of_one_sentence_is_refused_before_training(make_trainer):
    with pytest.raises(ValueError, match="Set gradient_accumulation_steps to 32"):
        make_trainer(per_device_train_batch_size=1)
    make_trainer(per_device_train_batch_size=1, gradient_accumulation_steps=2)
    make_trainer(per_device_train_batch_size=1, model={"posterior": "ln"})


def test_a_stream_makes_no_posterior_batch_of_two_passes(make_trainer, dataset):
    sizes = []
    stream = dataset.select(range(70)).to_iterable_dataset()
    trainer = make_trainer(train=stream, per_device_train_batch_size=8, gradient_accumulation_steps=4, max_steps=5)
    trainer.model.posterior.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0])) if torch.is_grad_enabled() else None
    )
    trainer.train()
    assert sizes == [32] * 5


@pytest.mark.parametrize(("logging_steps", "logged"), cases([(100, [3]), (2, [2]), (3, [3])], quick=[(100, [3])]))
def test_a_short_run_logs_its_last_step_if_it_logs_nothing_else(make_trainer, logging_steps, logged):
    trainer = make_trainer(max_steps=3, logging_steps=logging_steps)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == logged


def test_a_run_that_shall_log_nothing_logs_no_loss(make_trainer):
    silent = make_trainer(max_steps=3, logging_strategy="no")
    silent.train()
    assert not any("loss" in entry for entry in silent.state.log_history)


def test_the_latent_gain_is_logged_in_evaluations(make_trainer):
    trainer = make_trainer(max_steps=2, eval_strategy="steps", eval_steps=1)
    trainer.train()
    gains = [entry["eval_latent_gain"] for entry in trainer.state.log_history if "eval_latent_gain" in entry]
    assert len(gains) == 2 and 0 not in gains
    with torch.no_grad():
        for weights in trainer.model.injection.parameters():
            weights.zero_()
    assert trainer.evaluate()["eval_latent_gain"] == 0.0


def test_a_batch_of_one_sentence_has_no_latent_gain(make_trainer, dataset):
    trainer = make_trainer(evaluation=dataset.select(range(17)))  # one batch of 16, one of 1
    whole = trainer.evaluate()
    assert trainer.evaluate(dataset.select(range(16)))["eval_latent_gain"] == pytest.approx(whole["eval_latent_gain"])
    assert "eval_latent_gain" not in trainer.evaluate(dataset.select(range(1)))


def test_batches_of_one_sentence_are_no_deaf_decoder(make_trainer, caplog):
    assert "eval_latent_gain" not in make_trainer(per_device_eval_batch_size=1).evaluate()
    assert "is deaf" not in caplog.text


def test_copies_of_a_sentence_have_no_latent_gain(make_trainer, dataset):
    copies = dataset.select([0, 0, 0, 1])
    alone = make_trainer(evaluation=dataset.select([0, 1]), per_device_eval_batch_size=2).evaluate()
    assert "eval_latent_gain" in alone
    assert "eval_latent_gain" in make_trainer(evaluation=copies).evaluate()
    assert "eval_latent_gain" not in make_trainer(evaluation=dataset.select([0, 0])).evaluate()


# --- warnings and faults ---------------------------------------------------------------------------------------------


def test_a_collapsed_latent_space_is_told_once(make_trainer, caplog):
    trainer = make_trainer(model={"posterior": "gaussian"})
    with torch.no_grad():
        for projection in (trainer.model.posterior.mean_projection, trainer.model.posterior.scale_projection):
            projection.weight.zero_()
    trainer.evaluate()
    trainer.evaluate()
    assert len([r for r in caplog.records if "The latent space is collapsed" in r.message]) == 1


def test_a_collapse_is_told_without_an_evaluation_too(make_trainer, caplog):
    trainer = make_trainer(model={"posterior": "gaussian"}, max_steps=40, learning_rate=3e-3)
    trainer.train()
    assert len([r for r in caplog.records if "The latent space is collapsed" in r.message]) == 1


def test_a_noisy_latent_space_is_told_with_its_cause(make_trainer, caplog):
    trainer = make_trainer(model={"encoder_dropout": 0.5, "pooling": "cls"})
    trainer.evaluate()
    assert len([r for r in caplog.records if "encoder_dropout=0" in r.message]) == 1


HEALTHY = [
    {"posterior": "bn"},
    {"posterior": "bn_rms"},
    {"posterior": "bn_mean"},
    # This head promises no variance over sentences. With memory alone it collapses in this training, which is told.
    {"posterior": "ln", "bn_tau": 0.5, "latent_injection": "both"},
]


@pytest.mark.parametrize(
    "head",
    [pytest.param(h, id=h["posterior"], marks=[pytest.mark.slow] * (h["posterior"] != "bn_rms")) for h in HEALTHY],
)
def test_a_healthy_latent_space_is_left_in_peace(make_trainer, caplog, head):
    # `ln` takes longer.
    steps = 160 if head["posterior"] == "ln" else 80
    trainer = make_trainer(model={**head, "pooling": "mean"}, max_steps=steps, learning_rate=5e-3)
    trainer.train()
    assert trainer.evaluate()["eval_latent_gain"] > 0.1
    assert "latent space" not in caplog.text


def test_empty_data_sets_are_refused(make_trainer, dataset):
    with pytest.raises(ValueError, match="train_dataset is empty"):
        make_trainer(train=dataset.select([]))
    with pytest.raises(ValueError, match="eval_dataset is empty"):
        make_trainer(evaluation=dataset.select([]))


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_length_grouped_batches_are_refused_for_batch_heads(make_trainer, strategy):
    with pytest.raises(ValueError, match=f"train_sampling_strategy='{strategy}'"):
        make_trainer(train_sampling_strategy=strategy)
    make_trainer(model={"posterior": "ln"}, train_sampling_strategy=strategy)


def test_several_gpus_in_one_process_are_refused(make_trainer, monkeypatch):
    monkeypatch.setattr(BNVAETrainingArguments, "n_gpu", property(lambda self: 2))
    with pytest.raises(ValueError, match="torchrun --nproc_per_node=2"):
        make_trainer()


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_checkpoint(make_trainer, tmp_path):
    class Poisoned(BNVAETrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            return loss * float("nan") if self.state.global_step == 3 else loss

    trainer = make_trainer(trainer_class=Poisoned, max_steps=6, save_strategy="steps", save_steps=2)
    with pytest.raises(FloatingPointError, match=r"became nan at step 4.*checkpoint-2"):
        trainer.train()
    kept = BNVAEModel.from_pretrained(tmp_path / "out" / "checkpoint-2")
    assert all(torch.isfinite(p).all() for p in kept.parameters())
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_parameters_that_are_not_finite_are_not_saved(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.save_model()
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with torch.no_grad():
        trainer.model.injection.memory.weight[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"injection\.memory\.weight is not finite"):
        trainer.save_model()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_the_trained_model_can_be_asked_about_texts(make_trainer, make_model, processor, dataset, tmp_path, caplog):
    trainer = make_trainer()
    trainer.train()
    assert isinstance(trainer.model.eval().reconstruct("The food", max_new_tokens=3), str)
    # One that is made anew for each training, too.
    args = BNVAETrainingArguments(str(tmp_path / "anew"), max_steps=1, use_cpu=True, save_strategy="no")
    made = BNVAETrainer(model_init=lambda: make_model(), args=args, train_dataset=dataset, processing_class=processor)
    made.train()
    assert isinstance(made.model.eval().reconstruct("The food", max_new_tokens=3), str)
    # A model whose embeddings are far larger than the vocabulary can be trained.
    larger = make_model()
    larger.decoder.resize_token_embeddings(2000)
    assert "not attached" not in caplog.text
    make_trainer(model=larger).train()
    assert "The processor is not attached to the model" in caplog.text and larger.processor is None
