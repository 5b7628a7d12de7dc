"""One posterior batch gives the same training however it is cut: chunks, checkpointed chunks, gradient accumulation.
(Several processes: test_distributed.py.)"""

import logging
from functools import cache
from itertools import product

import pytest
import torch
from cases import cases
from cuts import BATCH, STEPS, Setting, deviation, gradient_error, train_by_hand, train_with_trainer
from datasets import Dataset
from transformers import Trainer

from hf_bnvae.training.sampling import PosteriorBatchSampler, divide_batch, join_batches, statistics_batches

HEADS = ["bn", "bn_rms", "bn_mean"]


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting()


@pytest.fixture(scope="module")
def uncut(setting):
    """A function that trains on whole batches by hand, once for each head and weight of free bits."""
    return cache(lambda posterior, free_bits=0.0: train_by_hand(setting, posterior, free_bits=free_bits))


# --- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", cases(HEADS, quick=["bn_rms"]))
@pytest.mark.parametrize("with_free_bits", cases([False, True], quick=[True]), ids=["", "free_bits"])
def test_chunks_are_one_batch(setting, uncut, posterior, with_free_bits):
    free_bits = setting.free_bits(posterior) if with_free_bits else 0.0
    whole = uncut(posterior, free_bits)
    for cut in (
        {"chunk_size": 8},
        {"chunk_size": 5},
        {"chunk_size": 1},
        {"chunk_size": 8, "checkpoint_chunks": True},
        {"checkpoint_chunks": True},
    ):
        assert deviation(train_by_hand(setting, posterior, free_bits=free_bits, **cut), whole) < 1, cut
    # The controls: ordinary accumulation is another training, and so is one without free bits.
    accumulated = train_by_hand(setting, posterior, free_bits=free_bits, micro_batch=4)
    assert gradient_error(accumulated, whole) > 1e-3
    assert not with_free_bits or gradient_error(uncut(posterior), whole) > 1e-3


@pytest.mark.parametrize("posterior", cases(HEADS, quick=["bn_rms"]))
def test_chunks_are_one_batch_in_single_precision(posterior):
    setting = Setting(torch.float32)
    whole = train_by_hand(setting, posterior)
    for cut in ({"chunk_size": 8}, {"chunk_size": 8, "checkpoint_chunks": True}):
        found = train_by_hand(setting, posterior, **cut)
        torch.testing.assert_close(found["loss 0"], whole["loss 0"], rtol=1e-5, atol=0)
        assert gradient_error(found, whole) < 1e-3
    assert gradient_error(train_by_hand(setting, posterior, micro_batch=4), whole) > 5e-3


def test_outputs_come_back_in_the_order_of_the_inputs(setting):
    model, batch = setting.model("bn").eval(), setting.batch(0, BATCH)
    whole, cut = model(**batch, output_logits=True), model(**batch, output_logits=True, chunk_size=5)
    for name in ("reconstruction_nll", "kl", "mean", "logvar", "latents", "logits"):
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-9, atol=1e-11, msg=name)
    assert cut.logits.shape == (*batch["labels"].shape, model.config.decoder.vocab_size)
    # The control: sentences differ from one another.
    assert (whole.reconstruction_nll - whole.reconstruction_nll.roll(1)).abs().min() > 1e-6


def test_a_latent_as_wide_as_the_text_is_cut_by_rows_only(setting):
    """A latent with as many dimensions as there are positions must not be taken for something with positions."""
    model = setting.model("gaussian").eval()
    batch = {name: values[:, : model.config.latent_size] for name, values in setting.batch(0, BATCH).items()}
    batch["labels"][::2, 5:] = -100
    torch.testing.assert_close(model(**batch, chunk_size=4).loss, model(**batch).loss, rtol=1e-9, atol=0)


def test_further_arguments_and_padding_on_the_left_are_cut_along(setting):
    model, batch = setting.model("bn").eval(), setting.batch(0, BATCH)
    kinds = torch.arange(batch["input_ids"].shape[1]).remainder(2).expand_as(batch["input_ids"])
    whole = model(**batch, token_type_ids=kinds)
    torch.testing.assert_close(model(**batch, token_type_ids=kinds, chunk_size=8).mean, whole.mean)
    assert (model(**batch).mean - whole.mean).abs().max() > 1e-6
    flipped = {**batch, "input_ids": batch["input_ids"].flip(1), "attention_mask": batch["attention_mask"].flip(1)}
    torch.testing.assert_close(model(**flipped, chunk_size=8).mean, model(**flipped).mean)


def test_sorted_chunks_leave_out_padding(setting):
    """The positions that both networks compute, counted where they enter the first layer."""
    counted = {"encoder": 0, "decoder": 0}

    def count(name):
        def hook(module, arguments, keywords, output):
            counted[name] += output.shape[0] * output.shape[1]

        return hook

    model, batch = setting.model("bn"), setting.batch(0, BATCH)
    model.config.pack_sentences = False
    model.encoder.embeddings.register_forward_hook(count("encoder"), with_kwargs=True)
    model.decoder.transformer.drop.register_forward_hook(count("decoder"), with_kwargs=True)
    real = {"encoder": batch["attention_mask"].sum().item(), "decoder": batch["labels"].ne(-100).sum().item()}
    model(**batch, chunk_size=4)
    sorted_counts = dict(counted)
    counted.update(encoder=0, decoder=0)
    model(**batch)
    for name in real:
        assert real[name] <= sorted_counts[name] < 1.15 * real[name] < counted[name]
    # When sentences share rows, there is no padding that chunks could save.
    model.config.pack_sentences = True
    counted.update(encoder=0, decoder=0)
    model(**batch)
    for name in real:
        assert real[name] <= counted[name] < 1.15 * real[name]


def test_the_configuration_holds_the_setting_and_a_call_overrides_it(setting, tmp_path):
    model = setting.model("bn")
    model.config.chunk_size, model.config.checkpoint_chunks = 8, True
    model.config.pack_sentences = False  # a row is a sentence
    passes = []
    model.encoder.register_forward_hook(lambda module, args, output: passes.append(len(output.last_hidden_state)))
    batch = setting.batch(0, BATCH)
    model(**batch).loss.backward()
    assert len(passes) % 2 == 0 and sum(passes) == 2 * BATCH  # every chunk twice
    forward, again = passes[: len(passes) // 2], passes[len(passes) // 2 :]
    assert again == forward[::-1] and forward[-1] <= 8 and 1 < len(forward) <= BATCH / 8
    passes.clear()
    model(**batch, chunk_size=BATCH, checkpoint_chunks=False).loss.backward()
    assert passes == [BATCH]
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).config.chunk_size == 8


@pytest.mark.parametrize("chunk_size", [0, -4, 2.5, True])
def test_bad_chunk_sizes_are_refused(setting, make_model, tmp_path, chunk_size):
    from hf_bnvae import BNVAEConfig, BNVAETrainingArguments

    message = r"chunk_size must be a positive number of sentences, or None .*, got"
    with pytest.raises(ValueError, match=message):
        setting.model("bn")(**setting.batch(0, 8), chunk_size=chunk_size)
    with pytest.raises(ValueError, match=message):
        BNVAETrainingArguments(str(tmp_path), chunk_size=chunk_size)
    if isinstance(chunk_size, int):
        with pytest.raises(ValueError, match=message):
            BNVAEConfig(chunk_size=int(chunk_size) if chunk_size is not True else 0)


def test_a_batch_without_sentences_is_refused(setting):
    batch = {name: values[:0] for name, values in setting.batch(0, 4).items()}
    with pytest.raises(ValueError, match="hold no sentence"):
        setting.model("bn")(**batch)


# --- activation checkpointing of single layers -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [None, 8])
def test_checkpointed_layers_are_the_same_training(setting, chunk_size):
    def checkpointed(model):
        model.activation_checkpointing_enable()
        return model

    whole = train_by_hand(setting, "bn")
    assert deviation(train_by_hand(setting, "bn", wrap=checkpointed, chunk_size=chunk_size), whole) < 1


def test_checkpointed_layers_run_twice_and_keep_the_latents_slot(setting):
    model, batch = setting.model("bn"), setting.batch(0, BATCH)
    passes = []
    # The attention lies inside the checkpointed layer, so its hook also sees the second pass.
    for layer in (model.encoder.encoder.layer[0].attention, model.decoder.transformer.h[0].attn):
        layer.register_forward_hook(lambda module, args, output: passes.append(type(module).__name__))
    model(**batch).loss.backward()
    assert len(passes) == 2
    passes.clear()
    model.activation_checkpointing_enable()
    assert model.is_activation_checkpointing
    model.zero_grad()
    model(**batch).loss.backward()
    assert len(passes) == 4
    assert model.injection.memory.weight.grad.abs().sum() > 0
    passes.clear()
    model.activation_checkpointing_disable()
    model(**batch).loss.backward()
    assert len(passes) == 2


def test_reentrant_checkpointing_is_refused(setting, tmp_path):
    model = setting.model("bn")
    with pytest.raises(ValueError, match=r"use_reentrant=True.*lose the gradient"):
        model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(ValueError, match=r"use_reentrant=True.*lose the gradient"):
        train_with_trainer(
            setting,
            "bn",
            str(tmp_path),
            activation_checkpointing=True,
            activation_checkpointing_kwargs={"use_reentrant": True},
        )


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conditional() -> Setting:
    return Setting(is_conditional=True)


CONDITIONAL_CUTS = {
    "chunks": {"chunk_size": 5},
    "one by one": {"chunk_size": 1},
    "checkpointed chunks": {"chunk_size": 8, "checkpoint_chunks": True},
    "accumulated": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8},
}


@pytest.mark.parametrize("cut", cases(CONDITIONAL_CUTS, quick=["chunks", "accumulated"]))
def test_batches_with_conditions_are_one_batch_too(conditional, tmp_path, cut):
    arguments = CONDITIONAL_CUTS[cut]
    if "chunk_size" in arguments:
        found = train_by_hand(conditional, "bn_rms", **arguments)
    else:
        found = train_with_trainer(conditional, "bn_rms", str(tmp_path), **arguments)
    assert deviation(found, train_by_hand(conditional, "bn_rms")) < 1


def test_another_condition_is_another_training(conditional):
    """Control, for the encoder and for the decoder."""
    whole = train_by_hand(conditional, "bn_rms")
    for name in ("token_type_ids", "condition_ids"):
        other = Setting(is_conditional=True)
        other.dataset = other.dataset.map(lambda row, name=name: {name: row[name][::-1]})
        assert gradient_error(train_by_hand(other, "bn_rms"), whole) > 1e-3, name


# --- gradient accumulation -------------------------------------------------------------------------------------------


CUTS = {
    "whole": (32, {}),
    "accumulated": (4, {}),
    "one by one": (1, {}),
    "chunks too": (4, {"chunk_size": 2}),
    "checkpointed chunks": (32, {"chunk_size": 8, "checkpoint_chunks": True}),
    "activations": (8, {"activation_checkpointing": True}),
}


QUICK_ACCUMULATIONS = [
    ("bn", False, "accumulated"),
    ("bn_rms", True, "accumulated"),
    ("bn_rms", True, "chunks too"),
    ("bn_rms", True, "checkpointed chunks"),
]


@pytest.mark.parametrize(
    ("posterior", "with_free_bits", "cut"), cases(product(HEADS, (False, True), CUTS), quick=QUICK_ACCUMULATIONS)
)
def test_accumulated_batches_are_one_batch(setting, uncut, tmp_path, posterior, with_free_bits, cut):
    free_bits = setting.free_bits(posterior) if with_free_bits else 0.0
    micro_batch, settings = CUTS[cut]
    found = train_with_trainer(
        setting,
        posterior,
        str(tmp_path),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=BATCH // micro_batch,
        free_bits=free_bits,
        **settings,
    )
    assert len([name for name in found if name.startswith("loss")]) == STEPS
    assert deviation(found, uncut(posterior, free_bits)) < 1


def test_the_plain_trainer_accumulates_another_training_and_says_so_once(setting, uncut, tmp_path, caplog):
    arguments = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    plain = train_with_trainer(setting, "bn", str(tmp_path), trainer_class=Trainer, **arguments)
    assert gradient_error(plain, uncut("bn")) > 1e-3
    told = [r for r in caplog.records if "normalised by its own statistics" in r.message]
    assert len(told) == 1 and told[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    ("trainer", "posterior", "steps"),
    cases([("ours", "bn", 4), ("plain", "gaussian", 4), ("plain", "bn", 1)], quick=[("ours", "bn", 4)]),
)
def test_who_does_not_cut_a_posterior_batch_is_told_nothing(setting, tmp_path, caplog, trainer, posterior, steps):
    arguments = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": steps}
    if trainer == "plain":
        arguments["trainer_class"] = Trainer
    train_with_trainer(setting, posterior, str(tmp_path), **arguments)
    assert not [r for r in caplog.records if "statistics" in r.message]


def test_accumulation_keeps_no_more_than_a_micro_batch(setting, tmp_path):
    """For the backward pass of a window the model keeps the inputs of its chunks, not their activations."""

    def saved_elements(**cut):
        elements = 0

        def pack(tensor):
            nonlocal elements
            elements += tensor.numel()
            return tensor

        model = setting.model("bn")
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**setting.batch(0, BATCH), **cut)
        return elements

    assert saved_elements(chunk_size=4, checkpoint_chunks=True) < 0.05 * saved_elements()


# --- which sentences make a batch ------------------------------------------------------------------------------------


def windows(num_sentences, batch_size, steps, processes, epoch=0, **settings):
    """The sentences of each posterior batch of an epoch, from the micro-batches of all processes."""
    shares = []
    for rank in range(processes):
        sampler = PosteriorBatchSampler(num_sentences, batch_size, steps, processes, rank, **settings)
        sampler.set_epoch(epoch)
        micro_batches = list(sampler)
        assert len(micro_batches) == len(sampler) and all(micro_batches)
        shares.append(micro_batches)
    assert len({len(share) for share in shares}) == 1
    found = []
    for start in range(0, len(shares[0]), steps):
        indices = [i for share in shares for micro_batch in share[start : start + steps] for i in micro_batch]
        assert len(set(indices)) == len(indices)
        found.append(indices)
    return found


@pytest.mark.parametrize("num_sentences", [96, 100, 109, 127, 33])
def test_sentences_of_a_posterior_batch_do_not_depend_on_its_cut(num_sentences):
    whole = windows(num_sentences, 32, 1, 1, seed=5)
    assert sorted(i for window in whole for i in window) == list(range(num_sentences))
    for cut in ((8, 4, 1), (1, 32, 1), (16, 1, 2), (4, 4, 2), (3, 2, 5), (1, 8, 4)):
        if cut[0] * cut[1] * cut[2] != 32:
            continue
        if num_sentences % 32 and num_sentences % 32 < cut[2]:
            assert windows(num_sentences, *cut, seed=5) == whole[:-1]  # fewer sentences than processes
        else:
            assert windows(num_sentences, *cut, seed=5) == whole, cut
    assert windows(num_sentences, 32, 1, 1, seed=6) != whole
    assert windows(num_sentences, 32, 1, 1, seed=5, epoch=1) != whole


def test_small_last_batches_are_skipped_or_kept():
    assert [len(w) for w in windows(70, 32, 1, 1, least=8)] == [32, 32]
    assert [len(w) for w in windows(72, 32, 1, 1, least=8)] == [32, 32, 8]
    assert [len(w) for w in windows(70, 32, 1, 1)] == [32, 32, 6]
    assert [len(w) for w in windows(72, 32, 1, 1, drop_last=True)] == [32, 32]
    assert [len(w) for w in windows(5, 32, 1, 1, least=8)] == [5]
    assert windows(5, 2, 1, 1, shuffle=False) == [[0, 1], [2, 3], [4]]
    assert PosteriorBatchSampler(70, 32, least=8).num_skipped == 6
    with pytest.raises(ValueError, match=r"20 sentences do not fill one posterior batch of 32"):
        PosteriorBatchSampler(20, 32, drop_last=True)
    with pytest.raises(ValueError, match=r"3 sentences are too few to share out among 4 processes"):
        PosteriorBatchSampler(3, 1, num_processes=4)


def test_micro_batches_have_their_size_and_no_process_comes_off_with_nothing():
    for sentences, size, processes in ((32, 4, 2), (9, 1, 2), (7, 3, 3), (2, 8, 2)):
        shares = [divide_batch(torch.arange(sentences), size, processes, rank) for rank in range(processes)]
        assert sorted(i for share in shares for part in share for i in part) == list(range(sentences))
        assert len({len(share) for share in shares}) == 1
        assert all(0 < len(part) <= size + 1 for share in shares for part in share)


def test_statistics_see_every_sentence_once():
    class Arguments:
        train_batch_size, gradient_accumulation_steps, world_size, process_index, seed = 8, 2, 3, 0, 1

    def seen(num_batches):
        found = []
        for rank in range(3):
            Arguments.process_index = rank
            found += [i for part in statistics_batches(101, Arguments, num_batches) for i in part]
        return found

    assert sorted(seen(None)) == list(range(101))
    assert len(set(seen(2))) == len(seen(2)) == 2 * 48


def test_joined_micro_batches_are_the_batch_collated_at_once(setting):
    together = setting.batch(0, 12)
    parts = [setting.batch(0, 4), setting.batch(4, 5), setting.batch(5, 6), setting.batch(6, 12)]
    joined = join_batches(parts, setting.processor.encoder_tokenizer.pad_token_id)
    assert joined.keys() == together.keys()
    for name, values in together.items():
        assert torch.equal(joined[name], values), name
    # A shorter micro-batch without a mask gets one. Otherwise its padding would count as text.
    widths = [part["input_ids"].shape[1] for part in parts]
    assert len(set(widths)) > 1
    bare = join_batches([{"input_ids": part["input_ids"]} for part in parts])
    assert bare["attention_mask"].sum(1).tolist() == [
        w for w, p in zip(widths, parts, strict=True) for _ in p["labels"]
    ]


# --- texts that do not differ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentences", "posterior", "share"),
    [
        (["The food ."] * 40, "bn_rms", "100.0%"),
        (["The food ."] * 39 + ["A dog ."], "bn", "97.5%"),
        (["The food ."] * 40, "ln", None),
        (["The food ."] * 20 + ["A dog ."] * 20, "bn_rms", None),
    ],
)
def test_training_on_one_text_warns_and_names_the_cause(make_trainer, processor, caplog, sentences, posterior, share):
    make_trainer(model={"posterior": posterior}, train=Dataset.from_dict(dict(processor(sentences))))
    words = "of the training texts are the same text"
    assert (words in caplog.text) == (share is not None)
    assert share is None or f"{share} {words}" in caplog.text
