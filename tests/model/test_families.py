"""Every encoder and every decoder that the model is known to work with: training, checkpointing, saving, generation.
Each result is compared with what the same weights give another way.

The quick tests take the implementation of attention that is the default, `sdpa`, and generation is quick with four
decoders. The slow ones take the rest."""

import pytest
import torch
from cases import cases
from families import DECODERS, EAGER_ONLY, ENCODERS, SHORT_DECODERS, SLIDING

from hf_bnvae import BNVAEConfig, BNVAEModel

PAIRS = [*((name, "gpt2") for name in ENCODERS), *(("bert", name) for name in DECODERS if name != "gpt2")]
LENGTHS = [3, 12, 7, 9, 5, 8, 11, 4]
GENERATING = cases(DECODERS, quick=["gpt2", "llama", "opt", "gemma3"])

EACH_PAIR = pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
EACH_ATTENTION = pytest.mark.parametrize("attention", cases(["eager", "sdpa"], quick=["sdpa"]))


def build(encoder: str, decoder: str, attention: str = "sdpa", **fields) -> BNVAEModel:
    """A model with random weights, strong enough that latents and tokens matter."""
    fields = {"latent_size": 8, "posterior": "bn_rms", **fields}
    config = BNVAEConfig(encoder=ENCODERS[encoder], decoder={**DECODERS, **SHORT_DECODERS}[decoder], **fields)
    halves = {"encoder": encoder, "decoder": decoder}
    implementations = {half: "eager" if name in EAGER_ONLY else attention for half, name in halves.items()}
    config._attn_implementation = implementations
    torch.manual_seed(0)
    model = BNVAEModel(config)
    assert {half: getattr(model, half).config._attn_implementation for half in halves} == implementations
    with torch.no_grad():
        if model.injection.memory is not None:
            model.injection.memory.weight.normal_()
        for name, parameter in model.decoder.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(5)
    return model.double()


def make_batch(seed: int = 1) -> dict[str, torch.Tensor]:
    """Random sentences of different lengths, longer than the sliding windows."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS))
    padding = torch.arange(shape[1]) >= torch.tensor(LENGTHS).unsqueeze(1)
    return {
        "input_ids": torch.randint(3, 60, shape, generator=generator).masked_fill(padding, 0),
        "attention_mask": (~padding).long(),
        "labels": torch.randint(3, 60, shape, generator=generator).masked_fill(padding, -100),
    }


def gradients(model: BNVAEModel, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and the gradient of all parameters, which all have one, of a step in training mode without dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    output = model(**make_batch(), noise=torch.randn(8, 8, generator=torch.Generator().manual_seed(2)), **kwargs)
    output.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    return output.loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    assert (one - other).norm() <= 1e-7 * other.norm()  # some norms and rotations are in float32


def implementations_of(network: torch.nn.Module) -> set[str]:
    """Of every layer: what each reads when it is called."""
    return {module.config._attn_implementation for module in network.modules() if hasattr(module, "config")}


@pytest.mark.parametrize(("encoder", "decoder"), [pair for pair in PAIRS if not set(EAGER_ONLY) & set(pair)])
def test_another_attention_reaches_every_layer_of_a_pretrained_pair(encoder, decoder, tmp_path):
    built = build(encoder, decoder)
    for half in ("encoder", "decoder"):
        getattr(built, half).save_pretrained(tmp_path / half)
    names = str(tmp_path / "encoder"), str(tmp_path / "decoder")
    model = BNVAEModel.from_encoder_decoder_pretrained(*names, latent_size=8)
    assert implementations_of(model.encoder) == implementations_of(model.decoder) == {"sdpa"}
    model.set_attn_implementation({"encoder": "eager"})
    assert implementations_of(model.encoder) == {"eager"} and implementations_of(model.decoder) == {"sdpa"}
    model.set_attn_implementation("eager")
    assert implementations_of(model) == {"eager"}


@EACH_ATTENTION
@EACH_PAIR
def test_a_pair_trains(encoder, decoder, attention):
    """Every parameter gets a gradient, and a step against it lowers the loss and changes the gradient."""
    model = build(encoder, decoder, attention)
    loss, gradient = gradients(model)
    torch.optim.SGD(model.parameters(), lr=1e-3 / gradient.norm().item()).step()
    after, other = gradients(model)
    assert after < loss
    assert (other - gradient).norm() > 1e-5 * gradient.norm()


@EACH_ATTENTION
@EACH_PAIR
def test_activation_checkpointing_changes_no_gradient(encoder, decoder, attention):
    """Neither layer by layer nor chunk by chunk. The control is a step, after which the gradient is another one."""
    plain, checkpointed = (build(encoder, decoder, attention) for _ in range(2))
    _, gradient = gradients(plain)
    checkpointed.activation_checkpointing_enable()
    assert_same(gradients(checkpointed)[1], gradient)
    assert_same(gradients(build(encoder, decoder, attention), chunk_size=3, checkpoint_chunks=True)[1], gradient)
    torch.optim.SGD(plain.parameters(), lr=1e-3 / gradient.norm().item()).step()
    assert (gradients(plain)[1] - gradient).norm() > 1e-5 * gradient.norm()


@EACH_ATTENTION
@EACH_PAIR
def test_a_saved_pair_is_loaded_as_the_same_model(encoder, decoder, attention, tmp_path):
    model = build(encoder, decoder, attention).eval()
    model.save_pretrained(tmp_path)
    implementations = {half: getattr(model, half).config._attn_implementation for half in ("encoder", "decoder")}
    loaded = BNVAEModel.from_pretrained(tmp_path, dtype="auto", attn_implementation=implementations)
    assert loaded.decoder.config._attn_implementation == implementations["decoder"]
    inputs = [make_batch()[name] for name in ("input_ids", "attention_mask")]
    latents = model.encode(*inputs).mode()
    assert_same(loaded.encode(*inputs).mode(), latents)
    state, loaded_state = model.state_dict(), loaded.state_dict()
    assert state.keys() == loaded_state.keys()
    assert all(torch.equal(state[name], loaded_state[name]) for name in state)
    # The control: another sentence has another latent.
    assert not torch.allclose(latents[0], latents[1])


@EACH_ATTENTION
@EACH_PAIR
def test_generation_with_a_cache_has_the_logits_of_one_pass(encoder, decoder, attention):
    model = build(encoder, decoder, attention).eval()
    latents = torch.randn(8, 8).double()
    output = model.generate(
        latents=latents,
        max_new_tokens=14,
        min_new_tokens=14,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    stepwise = torch.stack(output.logits, 1)
    with torch.no_grad():
        full, _ = model.decode(latents, output.sequences[:, :-1])
        other, _ = model.decode(-latents, output.sequences[:, :-1])
    torch.testing.assert_close(stepwise.double(), full, rtol=1e-4, atol=1e-4)  # generate keeps logits in float32
    assert (other - full).abs().max() > 1e-2


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name not in EAGER_ONLY])
def test_eager_and_sdpa_give_the_same(decoder):
    batch, outputs = make_batch(), []
    for attention in ("eager", "sdpa"):
        model = build("bert", decoder, attention).eval()
        with torch.no_grad():
            outputs.append(model.decode(torch.ones(8, 8), batch["input_ids"])[0])
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)  # eager's softmax is in float32


@EACH_ATTENTION
@pytest.mark.parametrize("injection", cases(["memory", "both"], quick=["both"]))
@pytest.mark.parametrize("decoder", GENERATING)
def test_greedy_with_cache_is_greedy_without_and_a_hand_written_loop(decoder, injection, attention):
    model = build("bert", decoder, attention, latent_injection=injection).eval()
    latents = torch.randn(6, 8).double()
    exactly = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False}
    ids = torch.full((6, 1), model.config.decoder_start_token_id)
    for _ in range(16):
        with torch.no_grad():
            logits = model.decode(latents, ids)[0][:, -1]
        logits[:, model.config.eos_token_id] = float("-inf")
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(model.generate(latents=latents, **exactly), ids)
    assert torch.equal(model.generate(latents=latents, use_cache=False, **exactly), ids)
    for _ in range(2):  # the second call finds the cache of the first one
        assert torch.equal(model.generate(latents=latents, cache_implementation="static", **exactly), ids)
    # The control: other latents, other texts.
    assert not torch.equal(model.generate(latents=-latents, **exactly), ids)


@pytest.mark.parametrize("cache", cases(["dynamic", "static"], quick=["dynamic"]))
@pytest.mark.parametrize("decoder", GENERATING)
def test_padded_prompts_go_on_as_they_do_alone(decoder, cache):
    model = build("bert", decoder).eval()
    latents, lengths = torch.randn(4, 8).double(), [7, 1, 4, 0]
    prompts = [torch.randint(3, 60, (length,)) for length in lengths]
    padded = torch.zeros(4, 7, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for row, prompt in enumerate(prompts):
        padded[row, 7 - len(prompt) :], mask[row, 7 - len(prompt) :] = prompt, 1
    settings = {"max_new_tokens": 10, "min_new_tokens": 10, "do_sample": False, "cache_implementation": cache}
    together = model.generate(latents=latents, decoder_input_ids=padded, decoder_attention_mask=mask, **settings)
    assert together.shape == (4, 1 + 7 + 10)
    for row, prompt in enumerate(prompts):
        alone = model.generate(latents=latents[row : row + 1], decoder_input_ids=prompt[None], **settings)
        assert alone[0].tolist()[: 1 + len(prompt)] == [model.config.decoder_start_token_id, *prompt.tolist()]
        assert torch.equal(together[row, 7 - len(prompt) :], alone[0])
    # A pass over padded texts knows their positions, too.
    with torch.no_grad():
        padded_logits, _ = model.decode(latents[1:2], padded[1:2], attention_mask=mask[1:2])
        alone_logits, _ = model.decode(latents[1:2], prompts[1][None])
        ignored, _ = model.decode(latents[1:2], padded[1:2])
    torch.testing.assert_close(padded_logits[:, -1], alone_logits[:, -1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ignored[:, -1], alone_logits[:, -1], rtol=1e-3, atol=1e-3)


@EACH_ATTENTION
@pytest.mark.parametrize("decoder", SLIDING)
def test_the_latent_is_in_sight_beyond_the_window(decoder, attention):
    """With memory alone: two layers that see five positions each pass nothing on over more than eight. Of a decoder
    with a layer that sees all, the other one is looked at alone."""
    model = build("bert", decoder, attention, latent_injection="memory").eval()
    tokens = torch.randint(3, 60, (1, 30))
    latents = torch.randn(2, 1, 8).double()

    def last_logits_of(latents):
        with torch.no_grad():
            return model.decode(latents, tokens)[0][:, -1]

    if decoder in ("gemma2", "gemma3"):
        # The latent in the slot of the sliding layer only.
        width = model.injection.memory.weight.shape[0] // 2
        model.injection.memory.weight.data[width:] = 0
    one, other = map(last_logits_of, latents)
    assert (one - other).abs().max() > 1e-3
    generated = [
        model.generate(
            latents=z,
            decoder_input_ids=tokens,
            max_new_tokens=1,
            output_logits=True,
            return_dict_in_generate=True,
            do_sample=False,
        ).logits[0]
        for z in latents
    ]
    assert (generated[0] - generated[1]).abs().max() > 1e-3
    # The control: out of sight it changes nothing where no layer sees all, and less where one does.
    model.injection.window = None
    hidden = [last_logits_of(z) for z in latents]
    if decoder in ("gemma2", "gemma3"):
        assert not torch.allclose(hidden[0], one)
    else:
        assert torch.equal(*hidden)


def test_flash_attention_beyond_the_window_is_refused():
    """Before anything is computed: it would lose the latent without a word."""
    tokens, latents = torch.randint(3, 60, (1, 30)), torch.randn(1, 8).double()
    model = build("bert", "mistral", latent_injection="memory").eval()
    model.decode(latents, tokens)
    model.decoder.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match=r"window of 5 positions, and flash attention.*'decoder': 'sdpa'"):
        model.decode(latents, tokens)


@pytest.mark.parametrize("decoder", ["gpt_neo", "llama4"])
def test_texts_longer_than_a_window_that_no_mask_opens_are_refused(decoder):
    """Within it the latent is seen by the last token; behind it, it would be out of sight without a word."""
    model = build("bert", decoder, "eager", latent_injection="memory").eval()
    latents = torch.randn(2, 8).double()
    with torch.no_grad():
        logits, _ = model.decode(latents, torch.randint(3, 60, (1, 7)).expand(2, 7))
    assert (logits[0, -1] - logits[1, -1]).abs().max() > 1e-6
    with pytest.raises(ValueError, match=r"9 positions of the decoder, and behind 8.*model_max_length = 8"):
        model.decode(latents, torch.randint(3, 60, (2, 8)))
    assert model.generate(latents=latents, min_new_tokens=7, max_new_tokens=7).shape == (2, 8)
    with pytest.raises(ValueError, match="room for max_new_tokens=7, got 8"):
        model.generate(latents=latents, max_new_tokens=8)
    embedding = build("bert", decoder, "eager", latent_injection="embedding").eval()
    embedding.decode(latents, torch.randint(3, 60, (2, 8)))
