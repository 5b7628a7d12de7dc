"""The bag-of-words auxiliary: its loss, its weight, its gradients, and that it is the same however a batch is cut."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import cases
from cuts import AUXILIARY, BATCH, STEPS, TIED, Setting, deviation, gradient_error, train_with_trainer
from safetensors.torch import load_file

from hf_bnvae import BNVAEModel, BNVAETrainer, BNVAETrainingArguments
from hf_bnvae.hub.contents import list_files
from hf_bnvae.training import trainer as trainer_module
from hf_bnvae.training.auxiliary import BagOfWordsAuxiliary, TiedNetwork, build_auxiliary
from hf_bnvae.training.objective import auxiliary_weight_at_step, bag_of_words_nll, training_loss
from hf_bnvae.utils.file_names import AUXILIARY_FILE, CONTENTS_FILE

BAGS = {"auxiliary": "bag_of_words"}


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


def test_the_loss_is_that_of_plain_loops():
    logits = torch.randn(3, 7, dtype=torch.float64)
    sentences = [[4, 4, 6], [2], []]  # with a repeated token, and an empty one; 1 is EOS
    labels = torch.full((3, 5), -100)
    for row, sentence in zip(labels, sentences, strict=True):
        row[: len(sentence) + 1] = torch.tensor([*sentence, 1])
    probabilities = logits.softmax(-1)
    expected = [-sum(probabilities[row, token].log() for token in s) for row, s in enumerate(sentences)]
    torch.testing.assert_close(bag_of_words_nll(logits, labels), torch.tensor(expected, dtype=torch.float64))
    with_eos = bag_of_words_nll(logits, torch.nn.functional.pad(labels, (0, 1), value=-100).roll(1, 0))
    assert not torch.allclose(with_eos, torch.tensor(expected, dtype=torch.float64))


def test_the_weight_falls_to_zero_at_its_step():
    assert [auxiliary_weight_at_step(step, 100, 2.0, 0.5) for step in (0, 25, 50, 99)] == [2.0, 1.0, 0.0, 0.0]
    assert [auxiliary_weight_at_step(step, 100, 2.0, 20) for step in (0, 5, 20)] == [2.0, 1.5, 0.0]
    assert auxiliary_weight_at_step(50, 100, 1.0, 1) == 0.5, "1 is the whole training"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auxiliary": "words"}, "auxiliary must be one of none, bag_of_words, tied_bag_of_words, got 'words'"),
        ({**BAGS, "auxiliary_weight": 0.0}, "auxiliary_weight must be a positive number, got 0.0"),
        ({**BAGS, "auxiliary_weight": math.nan}, "auxiliary_weight must be a finite number, got nan"),
        ({**BAGS, "auxiliary_steps": -1}, "auxiliary_steps must be a positive number, got -1"),
        ({**BAGS, "auxiliary_steps": math.inf}, "auxiliary_steps must be a finite number, got inf"),
        ({**BAGS, "auxiliary_steps": "0.5"}, "auxiliary_steps must be a finite number, got '0.5'"),
        ({**BAGS, "auxiliary_steps": 1.5}, r"a share .* up to 1, or a whole number .*; got 1\.5"),
        ({"auxiliary_steps": 0.3}, "auxiliary_steps=0.3 needs an auxiliary, as auxiliary='bag_of_words'"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        BNVAETrainingArguments(output_dir=str(tmp_path), **arguments)


def test_a_token_is_known_by_its_embedding_of_any_scale():
    network = TiedNetwork(latent_size=3, width=5, vocab_size=7).double()
    latents, embeddings = torch.randn(2, 3).double(), torch.randn(7, 5).double()
    vectors = network.output(torch.nn.functional.gelu(network.hidden(latents)))
    expected = [[(vector @ token / embeddings.std()).item() for token in embeddings] for vector in vectors]
    found = network(latents, embeddings)
    torch.testing.assert_close(found, torch.tensor(expected).double())
    torch.testing.assert_close(network(latents, 9 * embeddings), found)
    assert not torch.allclose(network(latents, embeddings.flip(0)), found)  # control
    with torch.no_grad():
        network.bias[4] += 1
    torch.testing.assert_close(network(latents, embeddings) - found, torch.eye(7).double()[4].expand(2, 7))


@pytest.mark.parametrize("network", [AUXILIARY, TIED], ids=["own table", "tied"])
def test_the_gradients_are_those_of_one_joint_loss(setting, tmp_path, network):
    """The auxiliary makes its own backward pass. Model and network get what one pass for the sum of both gives."""
    weight = 0.7
    args = BNVAETrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, auxiliary_weight=weight, latent_learning_rate=0.01, **network
    )

    def gradients(joint: bool, *, has_auxiliary: bool = True) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model = setting.model("bn_rms")
        auxiliary, batch = BagOfWordsAuxiliary(model, args, torch.device("cpu")), setting.batch(0, BATCH)
        outputs = model(**batch)
        loss = training_loss(outputs.reconstruction_nll, outputs.kl)
        if joint:
            loss = loss + weight * bag_of_words_nll(auxiliary.logits(outputs.latents), batch["labels"]).mean()
        elif has_auxiliary:
            loss = loss + auxiliary.learn(outputs.latents, batch["labels"], 0, 100)
        loss.backward()
        found = {f"gradient {name}": p.grad for name, p in model.named_parameters()}
        # The network learns from its unweighted loss.
        scale = 1 / weight if joint else 1
        found |= {f"parameter {n}": p.grad * scale for n, p in auxiliary.network.named_parameters() if has_auxiliary}
        return loss.detach(), found

    (loss, found), (expected_loss, expected) = gradients(False), gradients(True)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-12, atol=0)
    assert deviation(found, expected) < 1
    without = gradients(False, has_auxiliary=False)[1]
    assert gradient_error(without, {n: g for n, g in expected.items() if n in without}) > 1e-2


def train(setting: Setting, folder: Path, micro_batch: int = BATCH, **settings) -> dict[str, torch.Tensor]:
    sizes = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": BATCH // micro_batch}
    return train_with_trainer(setting, "bn_rms", str(folder), **sizes, **settings)


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    """By the name of an auxiliary, a training with it whose batches are not cut."""

    @cache
    def trained(name: str) -> dict[str, torch.Tensor]:
        return train(setting, tmp_path_factory.mktemp("whole"), **{**AUXILIARY, "auxiliary": name})

    return trained


CHUNKS = {"chunk_size": 8, "checkpoint_chunks": True}


@pytest.mark.parametrize(
    ("micro_batch", "settings", "auxiliary"),
    cases(
        [(4, {}, AUXILIARY), (1, {}, AUXILIARY), (BATCH, CHUNKS, AUXILIARY), (4, {}, TIED), (BATCH, CHUNKS, TIED)],
        quick=[(4, {}, AUXILIARY), (BATCH, CHUNKS, AUXILIARY)],
    ),
)
def test_a_batch_may_be_cut(setting, tmp_path, whole, micro_batch, settings, auxiliary):
    found = train(setting, tmp_path, micro_batch, **settings, **auxiliary)
    assert len([name for name in found if name.startswith("loss")]) == STEPS
    assert deviation(found, whole(auxiliary["auxiliary"])) < 1


@pytest.mark.parametrize("other", [{}, {**AUXILIARY, "auxiliary_steps": 2}, TIED])
def test_another_auxiliary_is_another_training(setting, tmp_path, whole, other):
    assert deviation(train(setting, tmp_path, **other), whole("bag_of_words")) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bag_of_words", "tied_bag_of_words"])
def test_a_run_resumes_to_the_bit_in_the_middle_of_the_auxiliary(make_trainer, name):
    arguments = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "auxiliary": name}
    arguments["auxiliary_steps"] = 5
    unbroken = make_trainer(**arguments)
    unbroken.train()
    checkpoint = Path(unbroken.args.output_dir, "checkpoint-3")

    def resume(**other: object) -> dict[str, torch.Tensor]:
        trainer = make_trainer(model={"seed": 1}, **{**arguments, "save_strategy": "no", **other})
        trainer.train(resume_from_checkpoint=str(checkpoint))
        return trainer.model.state_dict()

    resumed = resume()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in unbroken.model.state_dict().items())
    # The controls: the auxiliary of another step, and none.
    (checkpoint / AUXILIARY_FILE).write_bytes(
        checkpoint.with_name("checkpoint-6").joinpath(AUXILIARY_FILE).read_bytes()
    )
    (checkpoint / CONTENTS_FILE).unlink()  # it would tell that the file has changed
    assert not torch.equal(resume()["decoder.lm_head.weight"], resumed["decoder.lm_head.weight"])
    without = {"auxiliary": "none", "auxiliary_steps": None}
    with pytest.raises(ValueError, match=r"checkpoint-3 holds auxiliary.safetensors, and this training has no"):
        resume(**without)
    other = {"bag_of_words": "tied_bag_of_words", "tied_bag_of_words": "bag_of_words"}[name]
    with pytest.raises(ValueError, match=rf"holds another auxiliary, .* auxiliary='{other}'\. Resume with"):
        resume(auxiliary=other)
    (checkpoint / AUXILIARY_FILE).unlink()
    with pytest.raises(ValueError, match=r"checkpoint-3 holds no auxiliary.safetensors, and this training has"):
        resume()
    resume(**without)


def test_the_auxiliary_is_in_checkpoints_and_in_no_model(make_trainer, tmp_path):
    trainer = make_trainer(save_strategy="steps", save_steps=4, **AUXILIARY)
    trainer.train()
    trainer.save_model()
    folder = Path(trainer.args.output_dir)
    names = {name for file in folder.rglob("model.safetensors") for name in load_file(file)}
    assert names and not [name for name in names if "auxiliary" in name or "network" in name]
    assert [file.parent.name for file in folder.rglob(AUXILIARY_FILE)] == ["checkpoint-4"]
    assert list_files(folder / "checkpoint-4").left_out[AUXILIARY_FILE] == "the state of a training, to resume it from"
    loaded = BNVAEModel.from_pretrained(folder)
    assert loaded.state_dict().keys() == trainer.model.state_dict().keys()


@pytest.mark.slow
def test_the_network_learns_and_then_rests(make_trainer):
    trainer = make_trainer(
        max_steps=60, latent_learning_rate=1e-2, logging_steps=10, auxiliary="bag_of_words", auxiliary_steps=0.5
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = [entry["auxiliary_nll"] for entry in logs if "auxiliary_nll" in entry]
    assert len(losses) == 3 and losses[-1] < 0.8 * losses[0]
    assert [entry.get("auxiliary_weight") for entry in logs[:3]] == pytest.approx([2 / 3, 1 / 3, 0])
    # A log line comes after the step that it ends with, and the loss holds the auxiliary's weighted share.
    assert logs[0]["loss"] > logs[0]["reconstruction_nll"] + logs[0]["kl"] + 0.6 * losses[0]
    assert logs[-1]["loss"] == pytest.approx(logs[-1]["reconstruction_nll"] + logs[-1]["kl"], rel=1e-4)


@pytest.mark.slow
def test_a_mixed_precision_training_teaches_the_network_in_single_precision(make_trainer):
    def train(**precision: bool) -> list[float]:
        trainer = make_trainer(max_steps=4, logging_steps=1, use_cpu=True, **precision, **AUXILIARY)
        trainer.train()
        return [entry["auxiliary_nll"] for entry in trainer.state.log_history if "auxiliary_nll" in entry]

    rounded, exact = train(bf16=True), train()
    assert rounded == pytest.approx(exact, rel=1e-3)
    assert rounded != exact, "the latents come from a forward pass in bfloat16"


def test_the_network_draws_no_number_of_the_training(setting, tmp_path):
    args = BNVAETrainingArguments(output_dir=str(tmp_path), use_cpu=True, **AUXILIARY)
    model = setting.model("bn_rms")
    state = torch.get_rng_state()
    networks = [BagOfWordsAuxiliary(model, args, torch.device("cpu")).network for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(networks[0][0].weight, networks[1][0].weight)


@pytest.mark.slow
def test_a_second_training_and_another_rate_have_a_new_network(make_trainer, monkeypatch):
    rates = []
    monkeypatch.setattr(
        trainer_module,
        "build_auxiliary",
        lambda model, args, device: rates.append(args.latent_learning_rate) or build_auxiliary(model, args, device),
    )
    trainer = make_trainer(max_steps=2, latent_learning_rate=0.1, **AUXILIARY)
    trainer.train()
    assert trainer._auxiliary is None, "no memory is held after the training"
    # A search over settings changes them between two trainings.
    trainer.args.latent_learning_rate = 0.01
    trainer.train()
    assert rates == [0.1, 0.01]


def test_an_auxiliary_without_weight_changes_nothing(make_trainer):
    """Nothing of the auxiliary reaches the model but its gradient: with next to no weight the training is the same."""
    plain, slight = make_trainer(), make_trainer(**{**AUXILIARY, "auxiliary_weight": 1e-30})
    plain.train()
    slight.train()
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(slight.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_model_of_model_init_gets_its_own_network(make_model, dataset, processor, tmp_path):
    sizes = iter((8, 4))  # the model of the constructor, and the one to train
    trainer = BNVAETrainer(
        model_init=lambda: make_model(latent_size=next(sizes)),
        args=BNVAETrainingArguments(
            output_dir=str(tmp_path), max_steps=2, save_strategy="no", disable_tqdm=True, use_cpu=True, **AUXILIARY
        ),
        train_dataset=dataset,
        processing_class=processor,
    )
    trainer.train()
    assert trainer.model.config.latent_size == 4
