"""Adapters of PEFT are trained, saved with the posterior's statistics, loaded, merged. What loses weights is refused.

The reference is the trained model. Results are equal to the bit, except after merging, which rounds.
"""

import subprocess
import sys

import pytest
import torch
from cases import cases
from paths import HELPERS
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import Trainer

from hf_bnvae import BNVAEModel, BNVAETrainer, fit_prior, recalibrate_posterior
from hf_bnvae.evaluation.evaluator import evaluate_model

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")


@pytest.fixture
def base(make_model, tmp_path) -> str:
    """The folder of a saved base model."""
    # The rounding of a merge would show in the logarithm of a standard deviation of `bn` that is nearly 0.
    make_model(posterior="bn_rms", bn_tau=0.5).save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.fixture
def make_adapted(base):
    """A function that gives the base model adapters: LoRA on the decoder's attention, head and injection trained."""

    def build(seed=0, **fields):
        torch.manual_seed(seed)
        return get_peft_model(BNVAEModel.from_pretrained(base), config(**fields))

    return build


def config(**fields) -> LoraConfig:
    defaults = {"target_modules": r"decoder\..*c_attn", "modules_to_save": ["posterior", "injection"], "r": 4}
    return LoraConfig(**{**defaults, **fields})


def outputs(model, batch) -> tuple[torch.Tensor, ...]:
    """What the model makes in evaluation mode, with given noise and given latents."""
    generator = torch.Generator().manual_seed(3)
    noise, latents = torch.randn(16, 8, generator=generator), torch.randn(4, 8, generator=generator)
    model.eval()
    with torch.no_grad():
        found = model(**batch, noise=noise, output_logits=True)
    ids = model.generate(latents=latents, max_new_tokens=8)
    return found.loss, found.kl, found.logits, ids


def equal(found, expected) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


# --- training, saving, loading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer_class", cases([BNVAETrainer, Trainer], quick=[BNVAETrainer]))
@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({}, {}),
        pytest.param(
            {"task_type": "SEQ_2_SEQ_LM"},
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
            marks=pytest.mark.slow,
        ),
        pytest.param({"task_type": "CAUSAL_LM"}, {"chunk_size": 4, "checkpoint_chunks": True}, marks=pytest.mark.slow),
        pytest.param({"use_rslora": True}, {"activation_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param(
            {"modules_to_save": ["encoder.embeddings", "encoder.encoder", "posterior", "injection"]},
            {},
            marks=pytest.mark.slow,
        ),
        pytest.param({"target_modules": "all-linear", "exclude_modules": ["lm_head"]}, {}, marks=pytest.mark.slow),
        pytest.param({}, {"auxiliary": "bag_of_words"}, marks=pytest.mark.slow),
    ],
    ids=["lora", "seq2seq_accumulated", "causal_chunks", "activations", "encoder_too", "all_linear", "auxiliary"],
)
def test_a_trained_adapter_loads_onto_a_fresh_base_with_the_same_outputs(
    make_trainer, make_adapted, base, batch, tmp_path, trainer_class, fields, arguments
):
    model = make_adapted(**fields)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = make_trainer(model=model, trainer_class=trainer_class, eval_strategy="steps", eval_steps=2, **arguments)
    trainer.train()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in trained), name
    assert {"lora", "posterior", "injection"} <= {
        part for name in trained for part in name.replace("_", ".").split(".")
    }
    trainer.save_model(str(tmp_path / "adapter"))
    assert not (tmp_path / "adapter" / "model.safetensors").exists()

    expected = outputs(model, batch)
    loaded = PeftModel.from_pretrained(BNVAEModel.from_pretrained(base), tmp_path / "adapter")
    assert equal(outputs(loaded, batch), expected)
    assert equal(outputs(BNVAEModel.from_pretrained(tmp_path / "adapter"), batch), expected)
    # The control: without the adapter it is another model.
    with loaded.disable_adapter():
        assert not equal(outputs(loaded, batch), expected)

    merged = model.merge_and_unload()
    assert type(merged) is BNVAEModel
    for one, other in zip(outputs(merged, batch), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    merged.save_pretrained(tmp_path / "merged")
    assert equal(outputs(BNVAEModel.from_pretrained(tmp_path / "merged"), batch), outputs(merged, batch))


@pytest.mark.slow
def test_resuming_gives_the_same_adapter_to_the_bit(make_trainer, make_adapted):
    arguments = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 2}
    fields = {"lora_dropout": 0.1}
    whole = make_trainer(model=make_adapted(**fields), **arguments)
    whole.train()
    resumed = make_trainer(model=make_adapted(seed=1, **fields), **arguments)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    other = make_trainer(model=make_adapted(seed=1, **fields), **{**arguments, "save_strategy": "no"})
    other.train()
    assert not equal(whole.model.parameters(), other.model.parameters())


def test_the_trained_head_alone_has_its_statistics_recomputed(make_trainer, make_adapted, batch):
    """PEFT keeps the original head beside the copy that it trains."""
    model = make_adapted()
    wrapper = model.get_base_model().posterior
    original, copy = wrapper.original_module, wrapper.modules_to_save["default"]
    recalibrate_posterior(model, [batch])
    assert copy.is_estimated and not original.is_estimated
    assert torch.equal(original.mean_norm.running_var, torch.ones(8))
    averaged = copy.mean_norm.running_mean.clone()
    make_trainer(model=model).train()
    assert not original.is_estimated and not torch.equal(copy.mean_norm.running_mean, averaged)
    with pytest.raises(ValueError, match="at least two sentences, and none"):
        recalibrate_posterior(model, [])


def test_no_prior_is_fitted_that_an_adapter_would_not_save(
    make_trainer, base, batch, processor, texts, tmp_path, caplog
):
    """And the base's own prior is not taken for that of the adapted model, loaded or merged."""
    fitted = BNVAEModel.from_pretrained(base).attach_processor(processor)
    recalibrate_posterior(fitted, [batch])
    fit_prior(fitted.eval(), texts)
    fitted.save_pretrained(base)
    trainer = make_trainer(model=get_peft_model(BNVAEModel.from_pretrained(base), config()), learning_rate=1e-2)
    trainer.train()
    assert "A model with adapters has no prior" in caplog.text
    trainer.save_model(str(tmp_path / "adapter"))
    fresh = BNVAEModel.from_pretrained(base).eval()
    assert fresh.fitted_prior is not None  # control
    loaded = PeftModel.from_pretrained(fresh, str(tmp_path / "adapter")).eval()
    assert loaded.fitted_prior is None
    with pytest.raises(ValueError, match="has no prior"):
        fit_prior(loaded, [batch])
    merged = loaded.merge_and_unload()
    assert merged.fitted_prior is None
    assert fit_prior(merged.attach_processor(processor), texts) is merged.fitted_prior


def test_floor_and_figures_are_those_of_the_trained_head(make_trainer, make_adapted, batch):
    model = make_adapted()
    wrapper = model.get_base_model().posterior
    trainer = make_trainer(model=model, evaluation=None)
    with torch.no_grad():
        wrapper.modules_to_save["default"].scale.theta.fill_(2.0)
    floor = wrapper.modules_to_save["default"].kl_floor().item()
    assert abs(floor - wrapper.original_module.kl_floor().item()) > 1
    figures = trainer.evaluate()
    assert figures["eval_kl_floor"] == pytest.approx(floor)
    assert evaluate_model(model, [batch], num_importance_samples=2, show_progress=False).kl_floor == pytest.approx(
        floor
    )


def test_the_copied_head_has_the_latent_rate_and_its_scales_no_decay(make_trainer, make_adapted):
    trainer = make_trainer(model=make_adapted(), latent_learning_rate=0.02, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    seen = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in trainer.create_optimizer().param_groups
        for parameter in group["params"]
    }
    assert seen.keys() == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    for name, (rate, decay) in seen.items():
        assert rate == (1e-3 if "lora" in name else 0.02), name
        assert decay == (0.0 if name.endswith(("theta", "bias")) else 0.1), name


def test_a_collapsed_latent_space_is_told_with_adapters_too(make_trainer, make_model, caplog):
    model = get_peft_model(make_model(posterior="gaussian"), config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "projection.weight" in name:
                parameter.zero_()
    make_trainer(model=model).evaluate()
    assert len([record for record in caplog.records if "The latent space is collapsed" in record.message]) == 1


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modules_to_save": None}, r'modules_to_save=\["posterior", "injection"\]'),
        ({"modules_to_save": ["injection"]}, "running statistics it would not save"),
        (
            {"modules_to_save": ["encoder", "posterior", "injection"]},
            r"Name its parts instead: \['encoder.embeddings', 'encoder.encoder'\]",
        ),
        ({"target_modules": "all-linear"}, r"exclude_modules=\['lm_head'\]"),
        ({"target_modules": r"decoder\..*wte"}, r"an adapter of transformer\.wte would be merged into both"),
        ({"modules_to_save": ["posterior", "lm_head"]}, "an adapter of lm_head would be merged into both"),
    ],
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_adapters_that_would_lose_something_are_refused_before_training(make_trainer, make_adapted, fields, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(model=make_adapted(**fields))


def test_adapters_that_peft_cannot_merge_beside_a_head_are_trained_with_a_warning(make_model, make_trainer, caplog):
    targets = {"target_modules": ["c_attn", "mlp.c_proj"], "modules_to_save": ["posterior", "injection"]}
    config = IA3Config(**targets, feedforward_modules=["mlp.c_proj"])
    adapted = get_peft_model(make_model(), config)
    make_trainer(model=adapted, max_steps=2).train()
    assert "of the kind IA3 can be trained and saved, but not merged" in caplog.text
    # The reason, which a later PEFT may take away.
    with pytest.raises(AttributeError, match="weight"):
        adapted.merge_and_unload()


def test_an_adapter_of_tied_embeddings_would_be_merged_wrongly(make_adapted, batch):
    """Why it is refused."""
    model = make_adapted(target_modules=r"decoder\.lm_head", init_lora_weights=False)
    expected = outputs(model, batch)[0]
    assert abs(outputs(model.merge_and_unload(), batch)[0] - expected) > 1e-2


def test_freezing_is_left_to_peft(make_trainer, make_adapted):
    with pytest.raises(ValueError, match="freeze='decoder' would freeze adapters too"):
        make_trainer(model=make_adapted(), freeze="decoder")


@pytest.mark.parametrize("way", ["get_peft_model", "add_adapter"])
def test_adapters_of_a_part_are_not_saved_into_a_folder_that_could_not_be_loaded(
    make_trainer, make_model, batch, tmp_path, way
):
    model, lora = make_model(), config(target_modules=["c_attn"], modules_to_save=None)
    if way == "get_peft_model":
        model.decoder = get_peft_model(model.decoder, lora)
    else:
        model.decoder.add_adapter(lora)
    with pytest.raises(ValueError, match=r"peft\.get_peft_model\(model, config\)"):
        model.save_pretrained(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    with pytest.raises(ValueError, match=r"peft\.get_peft_model\(model, config\)"):
        make_trainer(model=model)
    if way == "get_peft_model":
        model.decoder = model.decoder.merge_and_unload()
        model.save_pretrained(tmp_path / "good")
        assert equal(outputs(BNVAEModel.from_pretrained(tmp_path / "good"), batch), outputs(model, batch))


def test_adapters_of_transformers_own_way_save_and_load_but_are_not_trained_by_a_trainer_that_could_not_resume(
    make_trainer, base, batch, tmp_path
):
    model = BNVAEModel.from_pretrained(base)
    model.add_adapter(config(init_lora_weights=False))
    recalibrate_posterior(model, [batch])
    model.save_pretrained(tmp_path / "adapter")
    assert equal(outputs(BNVAEModel.from_pretrained(tmp_path / "adapter"), batch), outputs(model, batch))
    with pytest.raises(ValueError, match="could not be resumed from"):
        make_trainer(model=model)


@pytest.mark.slow
def test_peft_is_not_needed():
    """The package trains in a process in which PEFT cannot be imported."""
    code = """
import sys, tempfile
sys.modules["peft"] = None
import tiny
from datasets import Dataset
from hf_bnvae import BNVAETrainer, BNVAETrainingArguments

texts = tiny.make_texts(64)
processor = tiny.make_processor(texts)
trainer = BNVAETrainer(
    tiny.build_model(*tiny.make_configs(processor)),
    BNVAETrainingArguments(tempfile.mkdtemp(), max_steps=1, use_cpu=True),
    train_dataset=Dataset.from_dict(dict(processor(texts))),
    processing_class=processor,
)
trainer.train()
trainer.save_model()
"""
    here = str(HELPERS)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=here)
