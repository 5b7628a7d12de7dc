"""Several sentences in one row: each position has one place, sees its own sentence only, and gives the results of
padded rows."""

import pytest
import torch
from cases import cases
from families import DECODERS, ENCODERS
from hypothesis import assume, given
from hypothesis import strategies as st
from test_families import assert_same, build, gradients, make_batch

from hf_bnvae import BNVAEConfig
from hf_bnvae.model.packing_bnvae import LEAST_WIDTH, pack_for_encoder, pack_sentences

PACKED_ENCODERS = ("bert", "electra", "roberta")
PACKED_DECODERS = ("gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "gemma")


def rows_seen(model, half: str, **kwargs) -> int:
    """How many rows a network is given in one pass of the model."""
    seen = []

    def note(module, args, inputs):
        seen.append(len(inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]))

    handle = getattr(model, half).register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad():
            model.eval()(**{**make_batch(), "noise": torch.zeros(8, 8), **kwargs})
    finally:
        handle.remove()
    (rows,) = seen
    return rows


LENGTHS = st.lists(st.integers(0, 90), min_size=1, max_size=60)


def packed(lengths: list[int]):
    """The packing, and the number of positions of each sentence. Lengths that are not worth packing are left out."""
    packing = pack_sentences(torch.tensor(lengths))
    assume(packing is not None)
    return packing, [max(length, 1) for length in lengths]


@given(LENGTHS)
def test_every_position_has_one_place(lengths):
    packing, counts = packed(lengths)
    places = packing.index[packing.mask]
    assert len(places) == len(set(places.tolist())) == sum(counts) == int(packing.sentences.ge(0).sum())


@given(LENGTHS)
def test_rows_are_as_few_and_narrow_as_best_fit_finds(lengths):
    packing, counts = packed(lengths)
    longest, capacity = max(counts), max(*counts, LEAST_WIDTH)
    rows, width = packing.sentences.shape
    assert longest <= width <= capacity and rows * width <= 0.9 * longest * len(counts)
    # Best fit would have put the sentences of two half-empty rows into one.
    assert rows == 1 or sum(counts) > (rows - 1) * capacity / 2


@given(LENGTHS)
def test_lengths_that_are_not_packed_would_save_little(lengths):
    counts = [max(length, 1) for length in lengths]
    # Even rows without empty places would save little.
    assert pack_sentences(torch.tensor(lengths)) is not None or sum(counts) > 0.45 * max(counts) * len(counts)


@given(LENGTHS)
def test_a_sentence_lies_in_one_piece_in_a_row_of_its_own_members(lengths):
    packing, counts = packed(lengths)
    width = packing.sentences.shape[1]
    for number, count in enumerate(counts):
        own = packing.index[number, :count]
        assert own.tolist() == list(range(own[0], own[0] + count))
        assert packing.sentences.flatten()[own].eq(number).all()
        assert packing.positions.flatten()[own].tolist() == list(range(count))
        (row,) = {int(place) // width for place in own}
        assert number in packing.members[row].tolist()
    assert packing.members.ge(0).sum() == len(counts)


@given(LENGTHS)
def test_values_come_back_from_rows_as_they_went_in(lengths):
    packing, counts = packed(lengths)
    longest = max(counts)
    numbers = torch.arange(len(counts) * (longest + 2)).view(len(counts), -1)
    rowed = packing.pack(numbers, fill=-7)
    assert rowed[packing.sentences.lt(0)].eq(-7).all()
    unpacked = packing.unpack(rowed.double().unsqueeze(-1))[packing.mask].squeeze(-1).long()
    assert torch.equal(unpacked, numbers[:, :longest][packing.mask])


@given(LENGTHS)
def test_sums_are_over_the_positions_of_each_sentence(lengths):
    packing, counts = packed(lengths)
    numbers = torch.arange(len(counts) * max(counts)).view(len(counts), -1)
    sums = torch.stack([row[:count].sum() for row, count in zip(numbers, counts, strict=True)])
    assert torch.equal(packing.sum_by_sentence(packing.pack(numbers).double()).long(), sums)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("has_slots", [False, True])
def test_a_place_sees_its_own_sentence_and_its_own_slot(is_causal, has_slots):
    packing = pack_sentences(torch.tensor([9, 30, 7, 25, 3, 11, 64, 2]))
    mask = packing.attention_mask(is_causal, has_slots)[:, 0]
    rows, width = packing.sentences.shape
    slots = packing.members.shape[1] if has_slots else 0
    assert mask.shape == (rows, width, slots + width) and slots in (0, 4)
    for row in range(rows):
        for query in range(width):
            own = int(packing.sentences[row, query])
            for key in range(slots):
                assert mask[row, query, key] == (own >= 0 and own == int(packing.members[row, key]))
            for key in range(width):
                expected = own == int(packing.sentences[row, key]) and (key <= query or not is_causal)
                assert mask[row, query, slots + key] == expected
    assert mask.any(-1).all(), "the attention of a place that sees nothing is no number"


def test_rows_of_like_length_are_left_as_they_are():
    assert pack_sentences(torch.full((32,), 17)) is None
    assert pack_sentences(torch.tensor([40])) is None
    assert pack_sentences(torch.tensor([40, 5])) is not None


@pytest.mark.parametrize("injection", cases(["memory", "embedding", "both"], quick=["both"]))
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [*((name, "gpt2") for name in PACKED_ENCODERS), *(("bert", name) for name in PACKED_DECODERS[1:])],
)
def test_packed_is_padded_in_loss_and_gradients(encoder, decoder, injection):
    for pooling in ("mean", "cls"):
        fields = {"latent_injection": injection, "pooling": pooling}
        models = [build(encoder, decoder, pack_sentences=packs, **fields) for packs in (True, False)]
        for half in ("encoder", "decoder"):
            assert [rows_seen(model, half) for model in models] == [1, 8]
        (loss, gradient), (padded_loss, padded_gradient) = map(gradients, models)
        assert_same(loss, padded_loss)
        assert_same(gradient, padded_gradient)
        # Chunks of a packed batch are packed themselves.
        assert_same(gradients(build(encoder, decoder, **fields), chunk_size=5, checkpoint_chunks=True)[1], gradient)


def test_what_one_sentence_says_reaches_no_other():
    """Control: without the masks it would."""
    model = build("bert", "gpt2").eval()
    batch = make_batch()
    other = {name: values.clone() for name, values in batch.items()}
    other["input_ids"][1, :12] = other["input_ids"][1, :12].flip(0)
    other["labels"][1, :12] = other["labels"][1, :12].flip(0)
    outputs = []
    with torch.no_grad():
        for one in (batch, other):
            out = model(**one, noise=torch.zeros(8, 8))
            outputs.append(torch.cat([out.mean, out.logvar, out.reconstruction_nll.unsqueeze(1)], 1))
    differences = (outputs[0] - outputs[1]).abs().amax(1)
    assert differences[1] > 1e-2 and differences[torch.arange(8) != 1].max() < 1e-9


@pytest.mark.parametrize("encoder", sorted(set(ENCODERS) - set(PACKED_ENCODERS)))
def test_other_encoders_are_padded(encoder):
    assert rows_seen(build(encoder, "gpt2"), "encoder") == 8


@pytest.mark.parametrize("injection", ["memory", "embedding"])
@pytest.mark.parametrize("decoder", sorted(set(DECODERS) - set(PACKED_DECODERS)))
def test_other_decoders_are_padded(decoder, injection):
    assert rows_seen(build("bert", decoder, latent_injection=injection), "decoder") == 8


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_eager_attention_is_padded(half):
    assert rows_seen(build("bert", "gpt2", "eager"), half) == 8
    assert rows_seen(build("bert", "gpt2"), half) == 1  # control


def test_a_call_with_further_arguments_of_a_network_is_padded():
    model, ids = build("bert", "gpt2"), make_batch()["input_ids"]
    assert rows_seen(model, "encoder", position_ids=torch.arange(ids.shape[1]).expand_as(ids)) == 8
    assert rows_seen(model, "encoder", position_ids=None) == 1  # control


def test_kinds_of_tokens_are_packed_with_their_tokens():
    packed, padded = (build("bert", "gpt2", pack_sentences=packs) for packs in (True, False))
    kinds = (make_batch()["input_ids"] % 2).long()
    assert rows_seen(packed, "encoder", token_type_ids=kinds) == 1
    assert_same(gradients(packed, token_type_ids=kinds)[1], gradients(padded, token_type_ids=kinds)[1])
    other = gradients(build("bert", "gpt2"), token_type_ids=1 - kinds)[1]  # control
    assert (other - gradients(build("bert", "gpt2"), token_type_ids=kinds)[1]).norm() > 1e-3 * other.norm()


def test_a_call_for_logits_is_padded():
    model = build("bert", "gpt2")
    assert rows_seen(model, "decoder", output_logits=True) == 8
    assert rows_seen(model, "decoder") == 1  # control


def test_an_encoder_with_a_pooler_is_padded():
    assert rows_seen(build("bert", "gpt2", pooling="pooler"), "encoder") == 8


def test_a_sentence_without_a_token_is_padded():
    # The model refuses such a mask where it can look at it. On an accelerator the mask comes as far as this.
    encoder, mask = build("bert", "gpt2").encoder, make_batch()["attention_mask"]
    assert pack_for_encoder(encoder, [mask]) != [None]
    mask[3] = 0
    assert pack_for_encoder(encoder, [mask]) == [None]


def test_padding_ahead_of_tokens_or_between_them_is_padded():
    model, batch = build("bert", "gpt2"), make_batch()
    left = {name: batch[name].flip(1) for name in ("input_ids", "attention_mask")}
    assert rows_seen(model, "encoder", **left) == 8
    gap = batch["attention_mask"].clone()
    gap[1, 3] = 0
    assert rows_seen(model, "encoder", attention_mask=gap) == 8


@pytest.mark.parametrize("field", [{"is_decoder": True}, {"chunk_size_feed_forward": 4}])
def test_encoders_that_go_another_way_are_padded(field, monkeypatch):
    config = type(ENCODERS["bert"])(**{**ENCODERS["bert"].to_dict(), **field})
    monkeypatch.setitem(ENCODERS, "other", config)
    assert rows_seen(build("other", "gpt2"), "encoder") == 8


def test_networks_of_classes_that_are_not_known_are_padded():
    from peft import PrefixTuningConfig, get_peft_model

    model = build("bert", "gpt2")
    model.decoder = get_peft_model(model.decoder, PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    assert rows_seen(model.double(), "decoder") == 8

    class Own(type(model.encoder)):
        pass

    model = build("bert", "gpt2")
    model.encoder.__class__ = Own
    assert rows_seen(model, "encoder") == 8


def test_roberta_counts_its_padding_token_where_a_text_holds_it():
    batch, outputs = make_batch(), []
    batch["input_ids"][1, 4] = 0
    for packs in (True, False):
        model = build("roberta", "gpt2", pack_sentences=packs).eval()
        model.encoder.config.pad_token_id = 1  # of which the embeddings know nothing
        with torch.no_grad():
            outputs.append(model.encode(batch["input_ids"], batch["attention_mask"]).mean)
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)


def test_a_sentence_without_a_label_costs_nothing():
    model = build("bert", "gpt2").eval()
    batch = make_batch()
    batch["labels"][2] = -100
    nll = []
    for packs in (True, False):
        model.config.pack_sentences = packs
        with torch.no_grad():
            nll.append(model(**batch, noise=torch.zeros(8, 8)).reconstruction_nll)
    assert nll[0][2] == 0 and nll[0].gt(0).sum() == 7
    torch.testing.assert_close(*nll, rtol=1e-9, atol=1e-9)


def test_the_configuration_keeps_it(tmp_path):
    build("bert", "gpt2", pack_sentences=False).save_pretrained(tmp_path)
    assert BNVAEConfig.from_pretrained(tmp_path).pack_sentences is False
    assert BNVAEConfig().pack_sentences is True
