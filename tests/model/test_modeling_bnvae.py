"""The model: its loss against a slow plain loop, padding, masks, noise, saving, loading, precision."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
)
from transformers.modeling_outputs import BaseModelOutput

from hf_bnvae import POSTERIOR_HEADS, BNVAEConfig, BNVAEModel
from hf_bnvae.model.loss_bnvae import sentence_nll


def slow_nll(model, latents, labels):
    """-log p(x | z) of one sentence by the decoder alone, one token at a time, with the latent put in by hand."""
    config, decoder, injection = model.config, model.decoder, model.injection
    tokens = [config.decoder_start_token_id]
    total = 0.0
    for label in labels[labels != -100].tolist():
        embeddings = decoder.transformer.wte(torch.tensor([tokens])) + injection.embedding(latents)[:, None]
        memory = injection.memory(latents)  # (1, layers * width): slice i belongs to layer i
        width = config.decoder.n_embd
        hidden = embeddings + decoder.transformer.wpe(torch.arange(1, len(tokens) + 1))  # the slot takes position 0
        for index, block in enumerate(decoder.transformer.h):
            slot = memory[:, None, index * width : (index + 1) * width]
            query, key, value = block.attn.c_attn(block.ln_1(hidden)).split(width, -1)
            key, value = torch.cat([slot, key], 1), torch.cat([slot, value], 1)
            heads = config.decoder.n_head
            query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            visible = torch.ones(len(tokens), len(tokens) + 1).tril(1).bool()
            weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
            attended = (weights @ value).transpose(1, 2).flatten(2)
            hidden = hidden + block.attn.c_proj(attended)
            hidden = hidden + block.mlp(block.ln_2(hidden))
        logits = decoder.lm_head(decoder.transformer.ln_f(hidden))[0, -1]
        total -= logits.log_softmax(-1)[label].item()
        tokens.append(label)
    return total


def test_loss_matches_a_slow_plain_loop(make_model, batch):
    model = make_model(posterior="bn_rms", latent_injection="both").double().eval()
    with torch.no_grad():
        model.injection.memory.weight.normal_()  # strong enough that the latent matters
        model.injection.embedding.weight.normal_()
        noise = torch.randn(16, 8).double()
        output = model(**batch, noise=noise)
        posterior = model.encode(batch["input_ids"], batch["attention_mask"])
        latents = posterior.mean + posterior.std * noise
        torch.testing.assert_close(output.latents, latents)
        for row in range(4):
            expected = slow_nll(model, latents[row : row + 1], batch["labels"][row])
            assert output.reconstruction_nll[row].item() == pytest.approx(expected, rel=1e-9)
            # The control: another sentence's latent.
            other = slow_nll(model, latents[row + 1 : row + 2], batch["labels"][row])
            assert abs(other - expected) > 1e-3
    reference = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    torch.testing.assert_close(output.kl, reference)
    assert output.loss.item() == pytest.approx((output.reconstruction_nll + output.kl.sum(-1)).mean().item())


def test_output_has_the_promised_shapes(make_model, batch):
    model = make_model()
    output = model(**batch)
    assert output.loss.shape == () and output.reconstruction_nll.shape == (16,)
    assert all(getattr(output, name).shape == (16, 8) for name in ("kl", "mean", "logvar", "latents"))
    assert output.logits is None and output.past_key_values is None
    logits = model(**batch, output_logits=True).logits
    assert logits.shape == (*batch["labels"].shape, model.config.decoder.vocab_size)
    assert {t.dtype for t in (output.mean, output.logvar, output.latents)} == {torch.float32}
    torch.testing.assert_close(output.posterior.kl(), output.kl)


def test_logits_asked_for_are_those_of_the_loss(make_model, batch):
    model = make_model().eval()
    output = model(**batch, noise=torch.zeros(16, 8), output_logits=True)
    nll = torch.nn.functional.cross_entropy(output.logits.transpose(1, 2), batch["labels"], reduction="none")
    torch.testing.assert_close(nll.sum(1), output.reconstruction_nll)


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
@pytest.mark.parametrize("injection", ["both", "memory", "embedding"])
def test_padding_does_not_change_anything(make_model, batch, processor, pooling, injection):
    """More padding, and other tokens under it, leave loss, gradients and statistics as they are, to rounding."""
    more = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 5), value=7),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 5)),
        "labels": torch.nn.functional.pad(batch["labels"], (0, 6), value=-100),
    }
    more["input_ids"] = torch.where(more["attention_mask"].bool(), more["input_ids"], 9)
    noise = torch.randn(16, 8).double()
    outcomes = []
    for inputs in (batch, more, {**more, "attention_mask": torch.ones_like(more["attention_mask"])}):
        model = make_model(pooling=pooling, latent_injection=injection, decoder_dropout=0.0).double().train()
        model(**inputs, noise=noise).loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        buffers = torch.cat([b.double().flatten() for n, b in model.named_buffers() if "running" in n])
        outcomes.append(torch.cat([gradients, buffers]))
    reference, with_padding, padding_let_in = outcomes
    assert (with_padding - reference).norm() <= 1e-10 * reference.norm()
    # The control.
    assert (padding_let_in - reference).norm() > 1e-3 * reference.norm()


def test_padding_on_the_left_of_the_encoder_does_not_change_the_posterior():
    """For an encoder with relative positions `cls` finds the first real token wherever it is."""
    torch.manual_seed(0)
    encoder = LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    config = BNVAEConfig(
        encoder=encoder,
        decoder=GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0),
        pooling="mean",
    )
    model = BNVAEModel(config).eval()
    ids = torch.randint(1, 60, (2, 6))
    mask = torch.ones_like(ids)
    plain = model.encode(ids, mask)
    padded = model.encode(torch.nn.functional.pad(ids, (3, 0)), torch.nn.functional.pad(mask, (3, 0)))
    torch.testing.assert_close(plain.mean, padded.mean, rtol=1e-4, atol=1e-5)


def test_every_label_is_scored_and_nothing_else(make_model, batch):
    """Changing any label, the first and the EOS too, changes that sentence's likelihood and no other's."""
    model = make_model().eval()
    noise = torch.zeros(16, 8)
    reference = model(**batch, noise=noise).reconstruction_nll
    length = int(batch["labels"][0].ne(-100).sum())
    for position in (0, 1, length - 1):
        labels = batch["labels"].clone()
        labels[0, position] = 5 if labels[0, position] != 5 else 6
        changed = model(batch["input_ids"], batch["attention_mask"], labels, noise=noise).reconstruction_nll
        assert abs(changed[0] - reference[0]) > 1e-4
        torch.testing.assert_close(changed[1:], reference[1:])


def test_decoder_input_is_the_start_token_and_then_the_labels(make_model):
    model = make_model()
    start = model.config.decoder_start_token_id
    labels = torch.tensor([[7, 8, 9], [7, -100, -100]])
    inputs = model.prepare_decoder_input_ids_from_labels(labels)
    assert inputs.tolist() == [[start, 7, 8], [start, 7, start]]
    with pytest.raises(ValueError, match="on the right only"):
        model.prepare_decoder_input_ids_from_labels(torch.tensor([[-100, 7]]))


def test_noise_reproduces_a_step_and_is_drawn_afresh_without(make_model, batch):
    model = make_model(decoder_dropout=0.0).train()
    noise = torch.randn(16, 8)
    assert torch.equal(model(**batch, noise=noise).loss, model(**batch, noise=noise).loss)
    assert not torch.equal(model(**batch).loss, model(**batch).loss)
    # In evaluation, too, the latent is a sample: the loss is an estimate of the negative ELBO.
    model.eval()
    assert not torch.equal(model(**batch).loss, model(**batch).loss)


def test_given_latents_are_decoded_as_they_are(make_model, batch):
    model = make_model().eval()
    latents = torch.randn(16, 8)
    output = model(latents=latents, labels=batch["labels"])
    assert torch.equal(output.latents, latents) and output.loss is None and output.kl is None
    both = model(**batch, latents=latents)
    torch.testing.assert_close(both.reconstruction_nll, output.reconstruction_nll)
    with pytest.raises(ValueError, match=r"\(16, 8\), got \(16, 7\)"):
        model(latents=latents[:, :7], labels=batch["labels"])
    with pytest.raises(ValueError, match="input_ids, or the latents"):
        model(labels=batch["labels"])


@pytest.mark.parametrize("posterior", POSTERIOR_HEADS)
def test_every_parameter_gets_a_gradient(make_model, batch, posterior):
    """DDP does not synchronise with a parameter that gets no gradient. So the model drops BERT's pooler."""
    model = make_model(posterior=posterior).train()
    model(**batch).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.encoder.pooler is None
    assert make_model(pooling="pooler").encoder.pooler is not None


def test_pooler_is_demanded_where_it_is_used(decoder_config):
    encoder = DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    config = BNVAEConfig(encoder=encoder, decoder=decoder_config, pooling="pooler")
    with pytest.raises(ValueError, match="encoder with a pooler, which DistilBertModel does not"):
        BNVAEModel(config)


# --- saving and loading ----------------------------------------------------------------------------------------------


def assert_same_tensors(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("posterior", POSTERIOR_HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_saving_and_loading_keeps_every_bit(make_model, batch, tmp_path, posterior, dtype):
    model = make_model(posterior=posterior)
    with torch.no_grad():
        for parameter in model.posterior.scale_and_shift_parameters():
            parameter.normal_()
    model.train()(**batch)  # buffers that differ from their initial values
    if dtype is torch.float64:
        model.double()
    else:
        for module in (model.encoder, model.decoder, model.injection):
            module.to(dtype)
    model.save_pretrained(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors", ".py"}
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is BNVAEModel and not loaded.training
    assert_same_tensors(model.state_dict(), loaded.state_dict())
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in loaded.named_parameters() if p.requires_grad
    }
    noise = torch.zeros(16, 8)
    assert torch.equal(model.eval()(**batch, noise=noise).loss, loaded(**batch, noise=noise).loss)
    assert loaded.posterior.is_estimated == model.posterior.is_estimated


def test_settings_given_while_loading_take_effect(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    model = BNVAEModel.from_pretrained(tmp_path, encoder_dropout=0.3, decoder={"resid_pdrop": 0.25})
    rates = [
        {m.p for m in half.modules() if isinstance(m, torch.nn.Dropout)} for half in (model.encoder, model.decoder)
    ]
    assert rates[0] == {0.3} and 0.25 in rates[1]
    assert (model.config.encoder.hidden_dropout_prob, model.config.decoder.resid_pdrop) == (0.3, 0.25)


def test_statistics_stay_in_float32_when_loaded_in_bfloat16(make_model, batch, tmp_path):
    model = make_model()
    model.train()(**batch)
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.decoder.dtype == torch.bfloat16
    expected = {n: t for n, t in model.state_dict().items() if n.startswith("posterior")}
    assert_same_tensors(expected, {n: t for n, t in loaded.state_dict().items() if n.startswith("posterior")})
    loaded.train()(**batch).loss.backward()


def test_a_truncated_weights_file_is_refused(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"is damaged or was cut off .* Copy or download it again"):
        BNVAEModel.from_pretrained(tmp_path)


def test_missing_parameters_start_at_their_initial_values(make_model, tmp_path):
    """Loading initialises what a file lacks, by `_init_weights`. A constant set elsewhere would be lost."""
    import safetensors.torch

    for posterior in ("bn", "bn_mean", "bn_rms"):
        model = make_model(posterior=posterior)
        model.save_pretrained(tmp_path)
        weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
        kept = {k: v for k, v in weights.items() if not k.startswith("posterior")}
        safetensors.torch.save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        loaded = BNVAEModel.from_pretrained(tmp_path)
        state, expected = loaded.state_dict(), model.state_dict()
        names = [n for n in expected if n.startswith("posterior") and "projection" not in n]
        assert names and all(torch.equal(state[n], expected[n]) for n in names)
        assert not loaded.posterior.is_estimated
        assert 0.01 < loaded.posterior.mean_projection.weight.std() < 0.03


@pytest.fixture
def pretrained_pair(tmp_path, encoder_config, decoder_config):
    torch.manual_seed(1)
    encoder, decoder = BertModel(encoder_config), GPT2LMHeadModel(decoder_config)
    encoder.save_pretrained(tmp_path / "encoder")
    decoder.save_pretrained(tmp_path / "decoder")
    return encoder, decoder, str(tmp_path / "encoder"), str(tmp_path / "decoder")


def test_pretrained_networks_keep_their_weights(pretrained_pair):
    encoder, decoder, encoder_path, decoder_path = pretrained_pair
    model = BNVAEModel.from_encoder_decoder_pretrained(encoder_path, decoder_path, latent_size=5)
    assert not model.training
    expected = {n: t for n, t in encoder.state_dict().items() if not n.startswith("pooler")}
    assert_same_tensors(expected, model.encoder.state_dict())
    assert_same_tensors(decoder.state_dict(), model.decoder.state_dict())


def test_settings_of_a_pretrained_pair_take_effect(pretrained_pair):
    *_, encoder_path, decoder_path = pretrained_pair
    model = BNVAEModel.from_encoder_decoder_pretrained(
        encoder_path, decoder_path, decoder={"resid_pdrop": 0.3}, latent_size=5, posterior="bn_rms", rate=4
    )
    assert model.config.decoder.resid_pdrop == 0.3
    assert 0.3 in {m.p for m in model.decoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert model.posterior.scale.rate == model.config.rate == 4 and model.posterior.latent_size == 5


def test_a_pretrained_pair_has_an_encoder_without_dropout(pretrained_pair):
    encoder, _, encoder_path, decoder_path = pretrained_pair
    model = BNVAEModel.from_encoder_decoder_pretrained(encoder_path, decoder_path)
    assert {m.p for m in model.encoder.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    assert {m.p for m in encoder.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}  # control


def test_the_configuration_of_a_pretrained_pair_holds_those_of_its_networks(pretrained_pair):
    *_, encoder_path, decoder_path = pretrained_pair
    model = BNVAEModel.from_encoder_decoder_pretrained(encoder_path, decoder_path)
    assert model.decoder.config is model.config.decoder and model.encoder.config is model.config.encoder


def test_pretrained_pair_in_bfloat16_keeps_its_head_in_float32(pretrained_pair, batch):
    *_, encoder_path, decoder_path = pretrained_pair
    model = BNVAEModel.from_encoder_decoder_pretrained(encoder_path, decoder_path, dtype="bfloat16", latent_size=8)
    dtypes = {name.split(".")[0]: parameter.dtype for name, parameter in model.named_parameters()}
    assert dtypes["posterior"] == torch.float32
    assert {dtypes[name] for name in ("encoder", "decoder", "injection")} == {torch.bfloat16}
    model.train()(**batch).loss.backward()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder_hidden_size": 3}, r"Write encoder={'hidden_size': ...}"),
        ({"decoder_resid_pdrop": 0.1}, r"Write decoder={'resid_pdrop': ...}"),
        ({"latent_dim": 3}, "'latent_dim' is no field of BNVAEConfig.*latent_size"),
        ({"encoder": {"hidden_dropout_prob": 0.1}}, "Write encoder_dropout=0.1"),
    ],
)
def test_misdirected_settings_are_refused_with_the_right_way(pretrained_pair, fields, message):
    *_, encoder_path, decoder_path = pretrained_pair
    with pytest.raises(ValueError, match=message):
        BNVAEModel.from_encoder_decoder_pretrained(encoder_path, decoder_path, **fields)


def test_an_encoder_with_other_dropouts_is_refused(make_model, encoder_config):
    config = make_model().config
    with pytest.raises(ValueError, match="built with other dropouts than encoder_dropout=0"):
        BNVAEModel(config, encoder=BertModel(encoder_config))
    BNVAEModel(config, encoder=BertModel(config.encoder))


def test_overridden_encoder_dropouts_are_refused_while_loading(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"Write encoder_dropout=0\.3"):
        BNVAEModel.from_pretrained(tmp_path, encoder={"hidden_dropout_prob": 0.3})


def test_a_decoder_mask_may_leave_the_memory_slot_out(make_model):
    model = make_model().eval()
    latents, ids, mask = torch.randn(2, 8), torch.randint(3, 60, (2, 5)), torch.ones(2, 5, dtype=torch.long)
    expected, _ = model.decode(latents, ids)
    for given in (mask, torch.ones(2, 6, dtype=torch.long)):
        torch.testing.assert_close(model.decode(latents, ids, attention_mask=given)[0], expected)
    mask[:, 0] = 0
    assert not torch.allclose(model.decode(latents, ids, attention_mask=mask)[0], expected)


def test_texts_beyond_the_positions_are_refused_with_the_way_out(make_model):
    model = make_model().eval()
    with pytest.raises(ValueError, match=r"33 positions of the decoder, which has 32.*limit_lengths"):
        model(latents=torch.zeros(1, 8), labels=torch.full((1, 32), 5))
    with pytest.raises(ValueError, match="33 positions of the encoder"):
        model.encode(torch.full((1, 33), 5))


def test_a_decoder_without_attention_takes_the_latent_as_an_embedding_only(encoder_config):
    from transformers import MambaConfig

    decoder = MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, bos_token_id=1, eos_token_id=2)
    with pytest.raises(ValueError, match=r"'mamba' has no attention heads. Use latent_injection='embedding'"):
        BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(encoder_config, decoder, latent_size=8))


def test_resizing_points_at_the_two_networks(make_model):
    with pytest.raises(NotImplementedError, match="two vocabularies"):
        make_model().resize_token_embeddings(10)


# --- precision -------------------------------------------------------------------------------------------------------


def test_autocast_leaves_the_latent_space_in_float32(make_model, batch):
    model = make_model(posterior="bn_rms").train()
    seen = []
    model.posterior.register_forward_pre_hook(lambda head, arguments: seen.append(arguments[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch)
    assert {output.mean.dtype, output.logvar.dtype, output.latents.dtype, output.kl.dtype} == {torch.float32}
    assert output.reconstruction_nll.dtype == torch.float32
    (features,) = seen
    outside = model.posterior(features.float())
    assert torch.equal(output.mean, outside.mean) and torch.equal(output.logvar, outside.logvar)
    # The control: the same linear map under autocast is another.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = model.posterior.mean_projection(features)
    assert not torch.equal(under_autocast.float(), model.posterior.mean_projection(features.float()))
    output.loss.backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_loss_of_a_token_is_that_of_torch(dtype):
    """Value and gradient. In half precision the loss is in single precision."""
    logits, labels = torch.randn(20, 300, dtype=dtype, requires_grad=True), torch.randint(300, (20,))
    at_least_single = logits.double() if dtype == torch.float64 else logits.float()
    expected = F.cross_entropy(at_least_single, labels, reduction="none")
    scored = torch.ones(20, 1, dtype=torch.bool)
    nll = sentence_nll(logits, labels[:, None], scored)
    assert nll.dtype == expected.dtype and torch.equal(nll, expected)
    upstream = torch.randn(20, dtype=nll.dtype)
    (reference,) = torch.autograd.grad(expected, logits, upstream)
    for _ in range(2):  # the backward pass leaves what it needs for another one
        (gradient,) = torch.autograd.grad(nll, logits, upstream, retain_graph=True)
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, reference)
    with pytest.raises(AssertionError):  # control: other labels
        (other,) = torch.autograd.grad(sentence_nll(logits, labels.roll(1)[:, None], scored), logits, upstream)
        torch.testing.assert_close(other, reference)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_derivatives_of_a_tokens_loss_are_those_of_differences(check):
    few, labels = torch.randn(4, 6, dtype=torch.float64, requires_grad=True), torch.randint(6, (4, 1))
    assert check(lambda values: sentence_nll(values, labels, torch.ones(4, 1, dtype=torch.bool)), few)


def test_the_loss_has_second_derivatives_and_goes_through_torch_func(make_model, batch):
    """Against the same model whose token losses are torch's own."""
    model = make_model(posterior="gaussian", attn_implementation="eager").double().eval()
    noise = torch.randn(len(batch["labels"]), model.config.latent_size, dtype=torch.float64)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (), {**batch, "noise": noise}).reconstruction_nll.sum()

    def loss_of_torch(parameters):
        outputs = torch.func.functional_call(model, parameters, (), {**batch, "noise": noise, "output_logits": True})
        return F.cross_entropy(outputs.logits.transpose(1, 2), batch["labels"], reduction="sum")

    def squared_gradient(function):
        leaves = {name: values.clone().requires_grad_() for name, values in parameters.items()}
        gradients = torch.autograd.grad(function(leaves), leaves.values(), create_graph=True)
        second = torch.autograd.grad(sum(values.square().sum() for values in gradients), leaves.values())
        return torch.cat([values.flatten() for values in second])

    second, expected = squared_gradient(loss), squared_gradient(loss_of_torch)
    torch.testing.assert_close(second, expected)
    assert expected.norm() > 1
    first, expected = torch.func.grad(loss)(parameters), torch.func.grad(loss_of_torch)(parameters)
    for name, values in first.items():
        torch.testing.assert_close(values, expected[name])
    assert first["decoder.transformer.wte.weight"].norm() > 1


def test_float64_stays_float64(make_model, batch):
    output = make_model().double()(**batch, output_logits=True)
    assert {t.dtype for t in (output.loss, output.kl, output.latents, output.logits)} == {torch.float64}


def test_encoder_outputs_carry_the_latents(make_model):
    model = make_model().eval()
    latents, ids = torch.randn(2, 8), torch.randint(3, 60, (2, 4))
    through = model(encoder_outputs=BaseModelOutput(last_hidden_state=latents[:, None]), decoder_input_ids=ids).logits
    torch.testing.assert_close(through, model.decode(latents, ids)[0])


def test_the_trainer_is_told_not_to_scale_the_loss(make_model):
    assert make_model().accepts_loss_kwargs is False


def test_the_networks_are_of_the_configured_classes(make_model):
    model = make_model()
    assert isinstance(model.config.encoder, BertConfig) and isinstance(model.encoder, BertModel)
    assert isinstance(model.config.decoder, GPT2Config) and isinstance(model.decoder, GPT2LMHeadModel)


@pytest.mark.parametrize("posterior", ["gaussian", "bn_rms"])
def test_an_encoder_side_is_taken_over_with_its_statistics(make_model, batch, posterior):
    source, model = make_model(posterior=posterior, seed=1).train(), make_model(posterior=posterior, seed=2)
    source(**batch)  # moves running statistics
    inputs = batch["input_ids"], batch["attention_mask"]
    source.eval(), model.eval()
    assert not torch.equal(model.encode(*inputs).mean, source.encode(*inputs).mean)
    assert model.load_encoder_side(source) is model
    taken, original = model.encode(*inputs), source.encode(*inputs)
    assert torch.equal(taken.mean, original.mean) and torch.equal(taken.logvar, original.logvar)


def test_decoder_and_injection_stay_when_an_encoder_side_is_taken_over(make_model):
    source, model = make_model(seed=1), make_model(seed=2)
    before = {n: t.clone() for n, t in model.state_dict().items() if n.startswith(("decoder", "injection"))}
    model.load_encoder_side(source)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not torch.equal(model.injection.memory.weight, source.injection.memory.weight)


def test_an_encoder_side_that_is_taken_over_is_a_copy(make_model):
    source, model = make_model(seed=1), make_model(seed=2)
    model.load_encoder_side(source)
    with torch.no_grad():
        source.posterior.mean_projection.weight.zero_()
    assert model.posterior.mean_projection.weight.abs().sum() > 0


def test_an_encoder_side_of_another_kind_is_refused(make_model):
    model = make_model(posterior="bn", latent_size=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for source, message in (
        (make_model(posterior="gaussian", seed=1), "posterior is 'gaussian', this one's 'bn'"),
        (make_model(posterior="bn", latent_size=4, seed=1), "latent_size is 4, this one's 8"),
        (make_model(posterior="bn", latent_size=8, pooling="cls", seed=1), "pooling is 'cls'"),
        (make_model(posterior="bn", latent_size=8, rate=3, seed=1), "rate is 3, this one's 4"),
        ("a folder", "must be a BNVAEModel, got str"),
    ):
        with pytest.raises(ValueError, match=message):
            model.load_encoder_side(source)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_theta_starts_where_the_configuration_says_and_stays_where_training_left_it(make_model, tmp_path):
    model = make_model(posterior="bn_rms", bn_tau=0.1, bn_theta_init=-4)
    torch.testing.assert_close(model.posterior.scale.theta, torch.full_like(model.posterior.scale.theta, -4.0))
    assert make_model(posterior="bn_rms", bn_tau=0.1).posterior.scale.theta.abs().max() == 0
    with torch.no_grad():
        model.posterior.scale.theta.add_(1.5)
    model.save_pretrained(tmp_path)
    loaded = BNVAEModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.posterior.scale.theta, torch.full_like(loaded.posterior.scale.theta, -2.5))
    assert loaded.config.bn_theta_init == -4


def test_networks_that_share_weights_are_refused_before_anything_is_lost(make_model, make_trainer, tmp_path):
    model = make_model()
    model.decoder.set_input_embeddings(model.encoder.get_input_embeddings())
    for act in (lambda: model.save_pretrained(tmp_path / "model"), lambda: make_trainer(model=model)):
        with pytest.raises(ValueError, match=r"share weights: the decoder's transformer\.wte\.weight"):
            act()
    assert not (tmp_path / "model").exists()
