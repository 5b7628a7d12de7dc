"""The configuration: what it refuses and how it says so, floors, dropouts of any encoder, saving and loading."""

import json
import math

import pytest
import torch
from configurations import CONFIGURATIONS, use_configuration
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given
from transformers import (
    AutoConfig,
    BertConfig,
    CLIPConfig,
    GPT2Config,
    LlamaConfig,
    T5Config,
)

from hf_bnvae import POSTERIOR_HEADS, BNVAEConfig, BNVAEModel
from hf_bnvae.model import scales_bnvae


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bn_tau": 0.0}, "bn_tau must lie strictly between 0 and 1, got 0.0"),
        ({"bn_tau": 1}, "bn_tau must lie strictly between 0 and 1, got 1"),
        ({"posterior": "bn_mean", "bn_gamma": 0}, "bn_gamma must lie strictly between 0 and 1, got 0"),
        ({"posterior": "bn_mean", "bn_gamma": 1.2}, "posterior hole"),
        ({"rate": 0}, "positive number of nats"),
        ({"rate": float("nan")}, "positive number of nats"),
        ({"rate": 4, "bn_tau": 0.5}, "give only one"),
        ({"posterior": "bn_mean", "rate": 4, "bn_gamma": 0.5}, "give only one"),
        ({"rate": 4, "bn_theta_init": -2}, "rate=4 and bn_theta_init=-2 both set the posterior's scale"),
        ({"bn_theta_init": float("nan")}, "bn_theta_init must be a finite number between -80 and 80, got nan"),
        ({"posterior": "gaussian", "rate": 4}, "no floor"),
        ({"posterior": "bn_mean", "rate": 16, "latent_size": 32}, "below latent_size / 2 = 16.0"),
        ({"posterior": "ln", "latent_size": 1}, "latent_size=1 leaves nothing"),
        ({"latent_size": 0}, "latent_size must be at least 1, got 0"),
        ({"encoder_dropout": 1.0}, r"encoder_dropout must lie in \[0, 1\), got 1.0"),
        ({"decoder": BertConfig()}, "attends in both directions"),
        ({"decoder": T5Config()}, "'t5' is not a causal language model"),
        ({"encoder": T5Config()}, "one hidden state per token"),
        ({"encoder": CLIPConfig()}, "one hidden state per token"),
        ({"encoder": GPT2Config(), "pooling": "cls"}, "sees nothing of the sentence"),
        ({"rate": 1e308}, r"rate=1e\+308 is 3.1\S+ nats for each of 32 dimensions.*between 3.2e-05 and 1280"),
        ({"rate": 1e-45}, "rate=1e-45 .*between 3.2e-05 and 1280"),
        ({"rate": float("inf")}, "positive number of nats"),
        ({"posterior": "ln", "rate": 41, "latent_size": 1}, "rate=41 is 41 nats"),
        ({"posterior": "bn_mean", "rate": 1e-45}, "rate=1e-45 .*between 3.2e-05 and 1280"),
        ({"posterior": "bn_mean", "bn_gamma": 1e-4}, "bn_gamma=0.0001 means a floor of 5e-09 nats"),
        ({"bn_tau": 1e-45}, "bn_tau=1e-45 means a floor of 5e-46 nats for each dimension. .* hold 1e-06 to 40 nats"),
        ({"bn_tau": 0.5, "bn_theta_init": 1e308}, "bn_theta_init must be a finite number between -80 and 80"),
        ({"encoder_dropout": float("nan")}, r"encoder_dropout must lie in \[0, 1\), got nan"),
        ({"encoder": BertConfig(vocab_size=50, pad_token_id=50)}, "encoder's pad_token_id=50 .* vocabulary of 50"),
    ],
)
def test_bad_settings_are_refused_with_the_reason(fields, message):
    with pytest.raises(ValueError, match=message):
        BNVAEConfig(**fields)


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ("posterior", ["bn", "bn_rms", "bn_mean", "ln", "gaussian"]),
        ("pooling", ["cls", "mean", "pooler"]),
        ("latent_injection", ["both", "memory", "embedding"]),
    ],
)
def test_unknown_choices_are_refused_and_the_allowed_ones_listed(field, allowed):
    with pytest.raises(StrictDataclassError) as error:
        BNVAEConfig(**{field: "unheard_of"})
    assert all(repr(choice) in str(error.value) for choice in allowed) and "unheard_of" in str(error.value)


def test_posterior_choices_are_the_heads():
    literal = BNVAEConfig.__dataclass_fields__["posterior"].type
    assert set(POSTERIOR_HEADS) == set(literal.__args__)


def test_settings_changed_while_loading_are_checked_too(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    with pytest.raises(Exception, match="bn_tau must lie strictly between 0 and 1, got 2"):
        BNVAEModel.from_pretrained(tmp_path, bn_tau=2)


def test_a_scale_of_another_head_warns(caplog):
    BNVAEConfig(posterior="bn_mean", bn_tau=0.3)
    assert "bn_tau=0.3 has no effect with posterior='bn_mean'" in caplog.text
    BNVAEConfig(posterior="gaussian", bn_theta_init=-2)
    assert "bn_theta_init=-2 has no effect with posterior='gaussian'" in caplog.text
    caplog.clear()
    BNVAEConfig(posterior="bn_rms", bn_tau=0.3, bn_theta_init=-2)
    assert not caplog.records  # control: the head takes both


@pytest.mark.parametrize(
    ("fields", "floor"),
    [
        ({}, 4),
        ({"posterior": "ln", "latent_size": 10}, 4),
        ({"posterior": "bn", "bn_tau": 0.5}, 16 * math.log(2)),
        ({"posterior": "delta"}, 3.2),
        ({"posterior": "bn_rms", "bn_tau": 0.3, "latent_size": 10}, -5 * math.log(0.7)),
        ({"posterior": "ln", "bn_tau": 0.3, "latent_size": 10}, -5 * math.log(0.7)),
        ({"posterior": "bn_mean"}, 16 * 0.36),
        ({"posterior": "bn_mean", "bn_gamma": 0.5, "latent_size": 10}, 1.25),
        ({"posterior": "bn_mean", "rate": 7}, 7),
        ({"posterior": "bn", "rate": 7}, 7),
        ({"posterior": "gaussian"}, 0),
    ],
)
def test_kl_floor(fields, floor):
    assert BNVAEConfig(**fields).kl_floor == pytest.approx(floor)


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({}, "rate", 4.0),
        ({"posterior": "bn_mean"}, "bn_gamma", 0.6),
        ({"posterior": "du"}, "bn_gamma", 0.5),
        ({"posterior": "delta", "latent_size": 10}, "rate", 1.0),
    ],
)
def test_a_scale_that_was_not_given_is_written_down(fields, name, value, monkeypatch):
    """A saved model keeps its scale, whatever a later version has as the default."""
    saved = BNVAEConfig(**fields).to_dict()
    assert saved[name] == pytest.approx(value)
    monkeypatch.setattr(scales_bnvae, "DEFAULT_RATE", 5.0)
    monkeypatch.setattr(scales_bnvae, "DEFAULT_GAMMA", {"bn_mean": 0.3, "du": 0.3})
    monkeypatch.setattr(scales_bnvae, "DEFAULT_DELTA", 0.3)
    assert getattr(BNVAEConfig(**saved), name) == pytest.approx(value) != getattr(BNVAEConfig(**fields), name)


def test_a_scale_that_was_given_leaves_the_others_out():
    assert BNVAEConfig(bn_tau=0.1).rate is None and BNVAEConfig(posterior="bn_mean", rate=3).bn_gamma is None
    assert BNVAEConfig(posterior="gaussian").rate is None


def test_theta_s_start_alone_is_refused():
    with pytest.raises(ValueError, match=r"needs rate, in nats, or bn_tau.*where the theta of bn_tau starts"):
        BNVAEConfig(bn_theta_init=-2.0)


@pytest.mark.parametrize("fields", [{}, {"bn_tau": 0.4}, {"posterior": "bn_mean"}, {"posterior": "ln", "bn_tau": 0.2}])
def test_guaranteed_floor_is_the_infimum_of_the_models(make_model, fields):
    """Random parameters stay above the floor, and theta -> -infinity reaches it."""
    model = make_model(**fields)
    for _ in range(20):
        with torch.no_grad():
            for parameter in model.posterior.scale_and_shift_parameters():
                parameter.normal_(std=3)
        assert model.kl_floor().item() >= model.config.kl_floor - 1e-4
    with torch.no_grad():
        for parameter in model.posterior.scale_and_shift_parameters():
            parameter.fill_(-60.0 if "bn_mean" not in fields.values() else 0.0)
    assert model.kl_floor().item() == pytest.approx(model.config.kl_floor, rel=1e-5)


@given(CONFIGURATIONS)
def test_a_configuration_is_refused_by_a_fields_name_or_computes_finite_numbers(drawn):
    assert use_configuration(**drawn) in ("refused", "works")


# Small configurations of encoders whose dropouts have different names.
ENCODERS = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "embedding_size": 16},
    "deberta-v2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "mpnet": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "albert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "modernbert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "mlp_dropout": 0.1,
        "attention_dropout": 0.1,
        "embedding_dropout": 0.1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
}


@pytest.mark.parametrize("model_type", ENCODERS)
def test_encoder_is_deterministic_whatever_it_calls_its_dropouts(model_type, decoder_config):
    encoder = AutoConfig.for_model(model_type, vocab_size=60, **ENCODERS[model_type])
    features = {}
    for dropout in (0, 0.3):
        config = BNVAEConfig(encoder=encoder, decoder=decoder_config, latent_size=4, encoder_dropout=dropout)
        model = BNVAEModel(config).train()
        ids = torch.randint(5, 60, (8, 12))
        features[dropout] = [model.encoder(ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*features[0])
    assert not torch.equal(*features[0.3])


def test_the_callers_configurations_stay_as_they_are(encoder_config, decoder_config):
    before = encoder_config.to_dict(), decoder_config.to_dict()
    config = BNVAEConfig.from_encoder_decoder_configs(encoder_config, decoder_config, latent_size=4)
    assert config.encoder.hidden_dropout_prob == 0 and encoder_config.hidden_dropout_prob == 0.1
    assert config.encoder is not encoder_config
    assert (encoder_config.to_dict(), decoder_config.to_dict()) == before


def test_special_tokens_come_from_the_decoder():
    config = BNVAEConfig(decoder=GPT2Config())
    ids = config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id
    assert ids == (50256, 50256, 50256, 50256)
    llama = LlamaConfig(bos_token_id=1, eos_token_id=[2, 3], num_hidden_layers=1)
    config = BNVAEConfig(decoder=llama)
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (2, 2, 1)


def test_configuration_round_trips_through_auto_config(tmp_path, encoder_config, decoder_config):
    config = BNVAEConfig.from_encoder_decoder_configs(
        encoder_config, decoder_config, latent_size=5, posterior="bn_rms", rate=3, pooling="mean", encoder_dropout=0.2
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is BNVAEConfig
    assert loaded.to_json_string() == config.to_json_string()
    assert loaded.encoder.hidden_dropout_prob == 0.2


@pytest.mark.parametrize("name", ["eos_token_id", "decoder_start_token_id"])
def test_tokens_around_a_text_that_lie_outside_the_vocabulary_are_refused_by_name(name):
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    decoder = GPT2Config(vocab_size=21128, **tokens)
    assert BNVAEConfig(decoder=decoder).decoder_start_token_id == 1
    with pytest.raises(ValueError, match=f"{name}=50256 lies outside the decoder's vocabulary of 21128 tokens"):
        BNVAEConfig(decoder=decoder, **{name: 50256})
    # What a GPT-2 with another tokenizer has, and what mends it, also in a saved configuration.
    other = GPT2Config(vocab_size=21128)
    with pytest.raises(ValueError, match=r"50256 lies outside.*as fields .*config\.json \(bos_token_id"):
        BNVAEConfig(decoder=other)
    mended = BNVAEConfig(decoder=other, decoder_start_token_id=1, eos_token_id=2)
    assert BNVAEConfig.from_dict(mended.to_dict()).decoder_start_token_id == 1
    # Tokens that nothing uses may be anything, and a padding token without an embedding is none.
    assert mended.pad_token_id == 2 and mended.bos_token_id == 50256
    assert BNVAEConfig(decoder=GPT2Config(vocab_size=21128, **{**tokens, "pad_token_id": -1})).pad_token_id == 2


def test_a_truncated_configuration_file_is_refused(tmp_path):
    BNVAEConfig().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    text = file.read_text()
    json.loads(text)
    file.write_text(text[: len(text) // 2])
    with pytest.raises(OSError, match="not a valid JSON file"):
        AutoConfig.from_pretrained(tmp_path)
