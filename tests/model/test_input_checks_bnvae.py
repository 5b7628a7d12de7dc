"""Wrong calls: an error that names the argument comes before anything is computed, whether sentences share rows or
not. Random calls work, or are refused in such words."""

import fuzz
import pytest
import torch
from transformers import DebertaV2Config, GPT2Config

from hf_bnvae import BNVAEConfig, BNVAEModel


@pytest.fixture(params=["packed", "padded"])
def model(make_model, request) -> BNVAEModel:
    return make_model(posterior="bn_rms", pack_sentences=request.param == "packed").train()


DEBERTA = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}

SHAPES = {
    "half of the rows": lambda batch: {"attention_mask": batch["attention_mask"][:8]},
    "a column fewer": lambda batch: {"attention_mask": batch["attention_mask"][:, :-1]},
    "three dimensions": lambda batch: {"attention_mask": batch["attention_mask"].unsqueeze(1)},
}


@pytest.mark.parametrize("change", SHAPES)
def test_a_mask_of_another_shape_is_refused_with_both_shapes(model, batch, change):
    sentences = {name: batch[name] for name in ("input_ids", "attention_mask")}
    wrong = {**sentences, **SHAPES[change](batch)}
    found, expected = (tuple(values.shape) for values in (wrong["attention_mask"], batch["input_ids"]))
    for call, others in ((model, {"labels": batch["labels"]}), (model.encode, {}), (model.features, {})):
        call(**sentences, **others)  # control
        with pytest.raises(ValueError) as error:
            call(**wrong, **others)
        assert str(error.value) == f"attention_mask of shape {found} does not fit input_ids of shape {expected}."


IDS = {
    "beyond the vocabulary": (lambda ids: ids.masked_fill(ids.eq(ids.max()), 10_000), "hold the id 10000"),
    "-1": (lambda ids: ids.masked_fill(ids.eq(ids.max()), -1), "hold the id -1"),
    "length 0": (lambda ids: ids[:, :0], "hold no token"),
    "no sentence": (lambda ids: ids[:0], "hold no sentence"),
    "one dimension": (lambda ids: ids[0], r"must have the shape \(batch, length\)"),
    "three dimensions": (lambda ids: ids.unsqueeze(0), r"must have the shape \(batch, length\)"),
    "lists": (lambda ids: ids.tolist(), r"must be a tensor of shape \(batch, length\), got list"),
    "NumPy": (lambda ids: ids.numpy(), r"must be a tensor of shape \(batch, length\), got ndarray"),
    "floats": (lambda ids: ids.float(), r"must hold token ids, torch.int64 or torch.int32, got torch.float32"),
}


@pytest.mark.parametrize("kind", IDS)
def test_what_are_no_token_ids_is_refused_by_its_name(model, batch, kind):
    change, message = IDS[kind]
    latents = torch.zeros(16, 8)
    prompts = batch["labels"].masked_fill(batch["labels"].eq(-100), 5)
    calls = {
        "input_ids": lambda ids: [model.encode(ids), model(input_ids=ids)],
        "labels": lambda ids: model(latents=latents, labels=ids),
        "decoder_input_ids": lambda ids: [
            model.decode(latents, ids),
            model.eval().generate(latents=latents, decoder_input_ids=ids, max_new_tokens=1),
        ],
    }
    for name, call in calls.items():
        right = {"input_ids": batch["input_ids"], "labels": batch["labels"]}.get(name, prompts)
        call(right)  # control
        with pytest.raises(ValueError, match=f"^{name} .*{message}"):
            call(change(right))


def test_kinds_of_tokens_that_the_encoder_does_not_have_are_refused_and_ignored_where_it_has_none(make_model, batch):
    sentences = {name: batch[name] for name in ("input_ids", "attention_mask")}
    kinds = torch.full_like(batch["input_ids"], 7)
    with pytest.raises(ValueError, match="token_type_ids hold the id 7"):
        make_model().features(**sentences, token_type_ids=kinds)
    vocab_size = int(batch["input_ids"].max()) + 1
    encoder = DebertaV2Config(vocab_size=vocab_size, type_vocab_size=0, **DEBERTA)
    decoder = GPT2Config(vocab_size=vocab_size, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    model = BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(encoder, decoder, latent_size=4)).eval()
    assert torch.equal(model.features(**sentences, token_type_ids=kinds), model.features(**sentences))


def test_a_mask_row_of_zeros_is_refused_by_its_number(model, batch):
    batch["attention_mask"][3] = 0
    with pytest.raises(ValueError, match="attention_mask is 0 in the whole of row 3"):
        model(**batch)
    with pytest.raises(ValueError, match="attention_mask is 0 in the whole of row 3"):
        model.encode(batch["input_ids"], batch["attention_mask"])
    batch["attention_mask"] = torch.full_like(batch["attention_mask"], float("nan"), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"attention_mask must hold 1 for tokens and 0 for padding, got .* nan"):
        model(**batch)


def test_labels_of_other_sentences_are_refused_with_both_shapes(model, batch):
    with pytest.raises(ValueError, match=r"labels of shape \(8, \d+\) do not fit input_ids of shape \(16, \d+\)"):
        model(**{**batch, "labels": batch["labels"][:8]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 1.5}, "max_new_tokens must be a whole number of at least 1, got 1.5"),
        ({"num_beams": "2"}, "num_beams must be a whole number of at least 1, got '2'"),
        ({"num_return_sequences": -1}, "num_return_sequences must be a whole number of at least 1, got -1"),
        ({"temperature": "warm"}, "temperature must be a finite number, got 'warm'"),
        ({"top_p": float("nan")}, "top_p must be a finite number, got nan"),
        ({"seed": 1.5}, "seed must be a whole number of 64 bits, got 1.5"),
        ({"seed": 2**70}, "seed must be a whole number of 64 bits"),
    ],
)
def test_generation_arguments_that_are_no_numbers_are_refused_by_name(make_model, arguments, message):
    model = make_model(posterior="bn_rms").eval()
    with pytest.raises(ValueError, match=message):
        model.generate(**{"latents": torch.zeros(1, 8), "max_new_tokens": 2, "do_sample": True, **arguments})


def test_random_calls_work_or_name_the_wrong_argument(make_model):
    model = make_model(posterior="bn_rms")
    for function, count in ((fuzz.fuzz_forward, 80), (fuzz.fuzz_generate, 60)):
        found = function(model, seed=0, count=count)
        assert fuzz.unclear(found) == {}
        assert found["works"] > 0.05 * count < found["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_random_calls_work_or_name_the_wrong_argument(make_model, seed):
    model = make_model(posterior="bn_rms")
    found = fuzz.fuzz_forward(model, seed, 1000) + fuzz.fuzz_generate(model, seed, 500)
    assert fuzz.unclear(found) == {}


def test_an_error_that_names_no_argument_counts_as_unclear(make_model):
    """The control of the random calls."""
    assert "index out of range" in fuzz.outcome(torch.nn.Embedding(3, 2), {"input": torch.tensor([5])})
    assert fuzz.outcome(make_model().encode, {"input_ids": [[1, 2]]}) == "refused"
