"""A frozen network: training leaves it as it is to the bit, and gradients go through it as without freezing."""

import pytest
import torch
from cases import cases

from hf_bnvae import BNVAEModel, BNVAETrainer, BNVAETrainingArguments
from hf_bnvae.jobs.training_options import parse_arguments
from hf_bnvae.reporting.settings import Role, has_role

FROZEN = {"encoder": ("encoder.",), "decoder": ("decoder.",), "both": ("encoder.", "decoder.")}
PARTS = pytest.mark.parametrize("part", FROZEN)
# One part among the quick tests, all among the slow ones.
ONE_QUICK_PART = pytest.mark.parametrize("part", cases(["encoder", "decoder", "both"], quick=["encoder"]))


@ONE_QUICK_PART
@pytest.mark.parametrize(
    "cut",
    [
        {},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
        pytest.param({"chunk_size": 4, "checkpoint_chunks": True}, marks=pytest.mark.slow),
        pytest.param({"activation_checkpointing": True}, marks=pytest.mark.slow),
    ],
    ids=["whole", "accumulated", "chunks", "activations"],
)
def test_frozen_weights_stay_to_the_bit_and_all_others_are_trained(make_trainer, make_model, part, cut):
    before = make_model().state_dict()
    trainer = make_trainer(freeze=part, **cut)
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith(FROZEN[part]), name


@PARTS
@pytest.mark.parametrize("how", ["whole", "chunks", "activations"])
def test_gradients_pass_through_a_frozen_network_as_through_a_trained_one(make_model, batch, part, how):
    inputs = {**batch, "noise": torch.randn(16, 8)}
    if how == "chunks":
        inputs |= {"chunk_size": 4, "checkpoint_chunks": True}
    gradients = []
    for freezes in (False, True):
        model = make_model(decoder_dropout=0.0).train()
        if how == "activations":
            model.activation_checkpointing_enable()
        if freezes:
            model.freeze(part)
        model(**inputs).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        if name.startswith(FROZEN[part]):
            assert gradients[1][name] is None and gradient.norm() > 0, name
        else:
            assert torch.equal(gradients[1][name], gradient), name


@PARTS
def test_the_optimiser_knows_nothing_of_frozen_weights(make_trainer, part):
    trainer = make_trainer(freeze=part, weight_decay=0.1)
    given = {id(p) for group in trainer.create_optimizer().param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        assert (id(parameter) in given) != name.startswith(FROZEN[part]), name


@pytest.mark.slow
def test_a_resumed_training_freezes_again_and_ends_at_the_same_bits(make_trainer):
    arguments = {"freeze": "decoder", "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(**arguments)
    whole.train()
    checkpoint = f"{whole.args.output_dir}/checkpoint-2"
    # What is saved is whole, and loaded it is trainable: freezing is the training's.
    saved = BNVAEModel.from_pretrained(checkpoint)
    fitted = {"prior.mean", "prior.scale_tril", "prior.head_fingerprint"}  # at the end of the training
    assert saved.state_dict().keys() == whole.model.state_dict().keys() - fitted
    assert torch.equal(saved.decoder.lm_head.weight, whole.model.decoder.lm_head.weight)
    assert all(parameter.requires_grad for parameter in saved.parameters())
    resumed = make_trainer(model={"seed": 1}, **arguments)
    resumed.train(resume_from_checkpoint=checkpoint)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
        assert name.startswith("decoder.") or name in fitted or not torch.equal(tensor, saved.state_dict()[name]), name


@ONE_QUICK_PART
@pytest.mark.parametrize("latent_learning_rate", cases([1e-3, None], quick=[1e-3]))
def test_frozen_in_the_first_steps_only(make_trainer, make_model, part, latent_learning_rate):
    arguments = {"freeze": part, "weight_decay": 0.1, "latent_learning_rate": latent_learning_rate}
    for steps in (2, 3, None):  # of 3; with the control, in which nothing is frozen
        trainer = make_trainer(max_steps=3, **(arguments | {"freeze_steps": steps} if steps else {}))
        # Trainer's schedule falls to 0 behind the last step.
        trainer.train()
        before = make_model().state_dict()
        for name, parameter in trainer.model.named_parameters():
            stays = steps == 3 and name.startswith(FROZEN[part])
            assert torch.equal(parameter, before[name]) == stays, (name, steps)


def test_what_was_frozen_in_the_first_steps_learns_at_its_own_rate_from_then_on(make_trainer):
    arguments = {"max_steps": 6, "warmup_steps": 2, "lr_scheduler_type": "cosine"}
    plain, held = make_trainer(**arguments), make_trainer(**arguments, freeze="decoder", freeze_steps=3)
    rates = []
    for trainer in (plain, held):
        optimizer = trainer.create_optimizer()
        scheduler = trainer.create_scheduler(6)
        group_of = {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
        names = ("encoder", "decoder", "injection")
        groups = {name: {group_of[id(p)] for p in getattr(trainer.model, name).parameters()} for name in names}
        rates.append({name: [] for name in names})
        for _ in range(6):
            for name, own in groups.items():
                rates[-1][name].append({optimizer.param_groups[group]["lr"] for group in own})
            optimizer.step()
            scheduler.step()
    assert rates[0]["encoder"] == rates[1]["encoder"] and rates[0]["injection"] == rates[1]["injection"]
    assert rates[1]["decoder"] == [{0.0}] * 3 + rates[0]["decoder"][3:]
    assert all(min(own) > 0 for own in rates[0]["decoder"][1:])


@pytest.mark.slow
def test_resumed_behind_the_first_steps_it_ends_at_the_same_bits(make_trainer):
    arguments = {"freeze": "decoder", "freeze_steps": 3, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(**arguments)
    whole.train()
    resumed = make_trainer(model={"seed": 1}, **arguments)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    other = make_trainer(**{**arguments, "freeze_steps": 2, "save_strategy": "no"})
    other.train()
    assert not torch.equal(other.model.decoder.lm_head.weight, whole.model.decoder.lm_head.weight)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"freeze_steps": 5}, "got freeze=None, freeze_steps=5"),
        ({"freeze": "both", "freeze_steps": 0}, "1 at least; got freeze='both', freeze_steps=0"),
        ({"freeze": "both", "freeze_steps": 2.5}, "freeze_steps must be a whole number, got 2.5"),
        ({"freeze": "both", "freeze_steps": True}, "freeze_steps must be a whole number, got True"),
        ({"freeze": "both", "freeze_steps": "3"}, "freeze_steps must be a whole number, got '3'"),
    ],
)
def test_first_steps_of_nothing_are_refused(make_trainer, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(**arguments)


@pytest.mark.slow
def test_first_steps_need_a_schedule_and_an_optimiser_that_know_of_them(make_trainer):
    trainer = make_trainer(
        freeze="both", freeze_steps=2, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch"
    )
    with pytest.raises(ValueError, match=r"function of the step .* 'reduce_lr_on_plateau'"):
        trainer.train()
    trainer = make_trainer(freeze="both", freeze_steps=2)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="found nothing of freeze='both' in the optimiser"):
        trainer.train()
    trainer = make_trainer(freeze="both", freeze_steps=2)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer)
    with pytest.raises(ValueError, match="freeze_steps=2 is part of the schedule that the trainer makes"):
        trainer.train()
    # One that it has made itself is made anew by another training.
    trainer = make_trainer(freeze="both", freeze_steps=9, max_steps=2)
    before = trainer.model.encoder.embeddings.word_embeddings.weight.clone()
    for _ in range(2):
        trainer.train()
        assert trainer.lr_scheduler.get_last_lr()[-1] == 0.0
    assert torch.equal(trainer.model.encoder.embeddings.word_embeddings.weight, before)


def test_a_model_made_anew_for_each_training_is_frozen_too(make_model, dataset, processor, tmp_path):
    args = BNVAETrainingArguments(
        str(tmp_path), max_steps=1, freeze="encoder", use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    trainer = BNVAETrainer(
        model_init=lambda: make_model(), args=args, train_dataset=dataset, processing_class=processor
    )
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert parameter.requires_grad != name.startswith("encoder."), name


@pytest.mark.parametrize(("option", "value"), [("freeze", "decoder"), ("freeze_steps", 7)])
def test_the_scripts_take_it_as_an_option_that_makes_a_run_what_it_is(option, value):
    *_, args = parse_arguments(["--freeze", "decoder", f"--{option}", str(value), "--use_cpu", "true"])
    assert args.to_dict()[option] == value and not has_role(option, Role.FREE)
    # The control: a run may be resumed with another value of this one.
    assert has_role("save_steps", Role.FREE)


def test_nothing_is_frozen_unless_asked_for():
    *_, args = parse_arguments(["--use_cpu", "true"])
    assert args.freeze is None


def test_an_unknown_part_is_refused(make_model, tmp_path):
    with pytest.raises(ValueError, match="freeze must be one of encoder, decoder, both, none, got 'posterior'"):
        BNVAETrainingArguments(str(tmp_path), freeze="posterior")
    with pytest.raises(ValueError, match="part must be one of encoder, decoder, both, got 'posterior'"):
        make_model().freeze("posterior")
