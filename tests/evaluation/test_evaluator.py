"""One call evaluates a model on data of any kind. The figures do not depend on how the data come, and plain words
say what cannot be measured."""

import json
import math
import weakref
from dataclasses import asdict, fields

import pytest
import torch
from cases import cases
from datasets import Dataset, DatasetDict, IterableDataset
from families import DECODERS, ENCODERS, VOCAB_SIZE
from paths import ROOT
from torch.utils.data import DataLoader
from transformers.utils import logging

from hf_bnvae import BNVAEConfig, BNVAEDataCollator, BNVAEModel, recalibrate_posterior
from hf_bnvae.data.corpora import tokenize_texts
from hf_bnvae.evaluation import (
    EvaluationResult,
    evaluate_model,
    importance,
    mutual_information,
    reconstruction_bleu,
    self_bleu,
)
from hf_bnvae.evaluation.batches import SentenceBatches
from hf_bnvae.evaluation.chosen_sentences import ChosenSentence, ChosenSentences
from hf_bnvae.reporting.report import render_figures
from hf_bnvae.utils.random_state import INFORMATION, RECONSTRUCTION, sentence_noise

RESULTS = ROOT / "model_cards" / "results.json"
QUICK = {
    "num_importance_samples": 10,
    "max_importance_sentences": 20,
    "num_self_bleu_samples": 6,
    "show_progress": False,
}


def batches_of(processor, texts, size):
    return [dict(processor(texts[i : i + size], return_tensors="pt")) for i in range(0, len(texts), size)]


def numbers(result: EvaluationResult) -> dict[str, float | None]:
    """The figures, without those that are words, and those that only a model with conditions has."""
    own = {name for name, value in asdict(result).items() if name.startswith("latent_gain_within") and value is None}
    return {name: value for name, value in asdict(result).items() if not isinstance(value, str) and name not in own}


def test_evaluation_gives_figures_of_the_corpus_however_it_is_cut(make_model, processor, texts):
    model = make_model(posterior="bn_rms")
    recalibrate_posterior(model, batches_of(processor, texts, 50))
    before = torch.get_rng_state()
    options = {"num_importance_samples": 3, "max_importance_sentences": 20, "show_progress": False}
    model.train()
    one, other = (evaluate_model(model, batches_of(processor, texts, size), **options) for size in (400, 33))
    assert model.training and torch.equal(torch.get_rng_state(), before)
    assert one.num_sentences == other.num_sentences == 400 and one.iw_nll_num_sentences == 20
    # No noise enters these figures, so they depend on the batches only by rounding.
    for name in ("kl", "kl_floor", "active_units", "aggregate_second_moment", "mean_moment_ratio"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4), name
    assert one.mean_moment_ratio == pytest.approx(1, abs=1e-4) and one.variance_moment_ratio == pytest.approx(
        1, abs=1e-4
    )
    assert one.elbo == -(one.reconstruction_nll + one.kl)
    again = evaluate_model(model, batches_of(processor, texts, 400), **options)
    assert again == one
    metrics = one.to_metrics()
    assert metrics["eval_iw_nll"] == one.iw_nll and metrics["eval_log_num_sentences"] == pytest.approx(math.log(400))


def test_bleu_of_reconstructions_is_that_of_the_texts_that_the_model_makes(trained_model, processor, texts):
    options = {"num_importance_samples": 1, "max_importance_sentences": 2, "show_progress": False}
    batches = batches_of(processor, texts[:40], 16)
    assert evaluate_model(trained_model, batches, **options).reconstruction_bleu is None
    measured = evaluate_model(trained_model, batches, processor, **options).reconstruction_bleu
    assert measured == pytest.approx(reconstruction_bleu(trained_model.reconstruct(texts[:40]), texts[:40]))
    # The model has learnt something about these texts, so the latent of another text keeps less of a text.
    swapped = reconstruction_bleu(trained_model.reconstruct(texts[40:80]), texts[:40])
    assert measured > swapped + 1


# --- data of every kind, cut in every way ----------------------------------------------------------------------------


def kinds_of_data(texts, processor):
    tokenized = tokenize_texts(Dataset.from_dict({"text": texts}), processor)
    return {
        "list": (texts, {}),
        "texts": (Dataset.from_dict({"text": texts}), {}),
        "column": (Dataset.from_dict({"other": texts, "review": texts}), {"text_column": "review"}),
        "stream": (Dataset.from_dict({"text": texts}).to_iterable_dataset(), {}),
        "generated": (IterableDataset.from_generator(lambda: ({"text": text} for text in texts)), {}),
        "tokenized": (tokenized, {}),
        "tokenized tensors": (tokenized.with_format("torch"), {}),
        "tokenized stream": (tokenized.to_iterable_dataset(), {}),
        "loader": (DataLoader(tokenized, batch_size=9, collate_fn=BNVAEDataCollator(processor)), {}),
        "generator of batches": (iter(batches_of(processor, texts, 9)), {}),
    }


def test_data_of_every_kind_give_the_same_figures(trained_model, processor, texts):
    kinds = kinds_of_data(texts[:24], processor)
    results = {
        name: evaluate_model(trained_model, data, processor, **options, **QUICK)
        for name, (data, options) in kinds.items()
    }
    first = numbers(results.pop("list"))
    assert None not in first.values() and first["reconstruction_bleu"] > 0
    for name, result in results.items():
        assert numbers(result) == pytest.approx(first, rel=1e-9), name
    # The attached processor is used for texts. It is not used for batches, which another processor may have made.
    assert evaluate_model(trained_model, texts[:24], **QUICK).self_bleu == pytest.approx(first["self_bleu"])
    unknown = evaluate_model(trained_model, batches_of(processor, texts[:24], 9), **QUICK)
    assert unknown.self_bleu is unknown.word_perplexity is unknown.reconstruction_bleu is None
    other = evaluate_model(trained_model, texts[1:25], processor, **QUICK)
    for name in ("kl", "iw_nll", "marginal_kl"):
        assert getattr(other, name) != pytest.approx(first[name], rel=1e-4)


def test_figures_do_not_depend_on_batches(trained_model, processor, texts):
    data = texts[:24]
    one, seven, all_at_once = (
        numbers(evaluate_model(trained_model, data, processor, batch_size=size, **QUICK)) for size in (1, 7, 24)
    )
    assert one == pytest.approx(all_at_once, rel=1e-9) and seven == pytest.approx(all_at_once, rel=1e-9)
    # With another seed the figures that noise enters differ, and the other figures are the same.
    other = numbers(evaluate_model(trained_model, data, processor, seed=1, **QUICK))
    for name in ("reconstruction_nll", "iw_nll", "mutual_information", "marginal_kl", "self_bleu"):
        assert other[name] != all_at_once[name], name
    for name in ("kl", "active_units", "aggregate_second_moment", "reconstruction_bleu"):
        assert other[name] == pytest.approx(all_at_once[name], rel=1e-9), name
    # With less memory for a pass, the same importance samples come in smaller parts.
    tight = evaluate_model(trained_model, data, processor, memory_budget_gib=1e-6, **QUICK)
    assert numbers(tight) == pytest.approx(all_at_once, rel=1e-9)


@pytest.fixture
def evaluated(trained_model, processor, texts, monkeypatch):
    """A function that evaluates with limits: the figures, and (rows, length) of each pass that scores sentences."""
    data = [text * (1 + place % 2) for place, text in enumerate(texts[:20])]
    passes: list[tuple[int, int]] = []
    monkeypatch.setattr(trained_model.config, "pack_sentences", False)  # a row is a sample of a sentence
    monkeypatch.setattr(importance, "freed_memory_is_kept", lambda: False)

    def count(module, arguments, given):
        if isinstance(given.get("logits_to_keep"), torch.Tensor):  # sentences that are scored
            passes.append(tuple(given["inputs_embeds"].shape[:2]))

    def evaluate(labels: int = 10**6, chunk_size: int | None = None, **options) -> tuple[dict, list[tuple[int, int]]]:
        monkeypatch.setattr(importance, "CPU_LOGITS", labels * 8 * trained_model.config.decoder.vocab_size)
        monkeypatch.setattr(trained_model.config, "chunk_size", chunk_size)
        passes.clear()
        return numbers(evaluate_model(trained_model, data, processor, **QUICK, **options)), list(passes)

    handle = trained_model.decoder.register_forward_pre_hook(count, with_kwargs=True)
    yield evaluate
    handle.remove()


def test_passes_are_no_larger_than_the_logits_allow(evaluated):
    figures, whole = evaluated()
    # The reconstruction, the two passes of the latent gain, and ten draws for each of 20 sentences.
    assert [rows for rows, _ in whole] == [20, 20, 20, 200]
    others, small = evaluated(labels=40)
    assert others == pytest.approx(figures, rel=1e-9)
    assert all(rows == 1 or rows * length <= 40 for rows, length in small)
    # Nor much smaller: a pass takes more short sentences than long ones.
    assert max(rows * length for rows, length in small) > 30 and len({rows for rows, _ in small}) > 2


def test_passes_are_no_larger_than_a_chunk(evaluated):
    figures, whole = evaluated()
    others, chunks = evaluated(chunk_size=2)
    assert others == pytest.approx(figures, rel=1e-9)
    longest = max(length for _, length in whole)
    assert all(rows * length <= 2 * longest for rows, length in chunks) and (2, longest) in chunks


def test_passes_are_no_larger_than_the_budget_of_memory_allows(evaluated):
    figures, whole = evaluated()
    others, tight = evaluated(labels=40, memory_budget_gib=1e-6)
    assert others == pytest.approx(figures, rel=1e-9)
    longest = max(length for _, length in whole)
    assert all(rows * length <= longest for rows, length in tight) and (1, longest) in tight


def test_a_stream_is_read_once_and_not_kept(trained_model, processor, texts):
    alive: list[weakref.ref] = []
    most = 0

    def stream():
        nonlocal most
        for _ in range(6):
            for batch in batches_of(processor, texts[:40], 10):
                alive.append(weakref.ref(batch["labels"]))
                most = max(most, sum(reference() is not None for reference in alive))
                yield batch
                del batch

    result = evaluate_model(trained_model, stream(), max_information_sentences=50, **QUICK)
    assert result.num_sentences == 240 and result.information_num_sentences == 50 and len(alive) == 24
    assert most <= 12  # the batches of one round of this test, and none of the rounds before


def test_information_is_of_as_many_sentences_as_asked_for(trained_model, make_model, processor, texts):
    whole = evaluate_model(trained_model, texts[:60], processor, **QUICK)
    part = evaluate_model(trained_model, texts[:60], processor, max_information_sentences=25, **QUICK)
    places = [entry.place for entry in chosen(60, 25)]
    batch = processor([texts[place] for place in places], return_tensors="pt")
    posterior = trained_model.encode(batch["input_ids"], batch["attention_mask"])
    noise = sentence_noise(0, INFORMATION, places, trained_model.config.latent_size)
    alone = asdict(mutual_information(posterior, noise=noise))
    assert part.information_num_sentences == 25 and part.log_num_sentences == pytest.approx(math.log(25))
    for name in ("mutual_information", "mutual_information_error", "marginal_kl", "marginal_kl_error"):
        assert getattr(part, name) == pytest.approx(alone[name], rel=1e-5)
        assert getattr(part, name) != pytest.approx(getattr(whole, name), rel=1e-3)
    assert part.kl == whole.kl and part.reconstruction_bleu == whole.reconstruction_bleu
    # The information of six sentences is near its limit, log 6, and the report says so.
    few = evaluate_model(trained_model, texts[:60], processor, max_information_sentences=6, **QUICK)
    assert 0.5 < math.log(6) - 1 < few.mutual_information < math.log(6)
    assert few.is_information_lower_bound
    assert "log N = 1.79 (a lower bound: within 1 nat of it)" in render_figures(few)
    # One nat of information of 60 sentences is far from the limit.
    model = make_model(posterior="bn_rms", rate=1)
    recalibrate_posterior(model, batches_of(processor, texts, 50))
    little = evaluate_model(model, texts[:60], processor, **QUICK)
    assert not little.is_information_lower_bound and "a lower bound" not in render_figures(little)


def test_progress_has_a_total_where_it_is_known(trained_model, processor, texts, capsys):
    def total(data, **options):
        return SentenceBatches(data, processor, **options).num_batches

    tokenized = tokenize_texts(Dataset.from_dict({"text": texts[:40]}), processor)
    assert total(texts[:40], batch_size=16) == total(tokenized, batch_size=16) == 3
    assert [total(texts[:40], batch_size=16, num_processes=2, process_index=i) for i in (0, 1)] == [2, 1]
    assert total(batches_of(processor, texts[:40], 10)) == 4
    assert total(iter(texts[:40])) is total(tokenized.to_iterable_dataset()) is None
    evaluate_model(trained_model, texts[:40], processor, batch_size=16, **{**QUICK, "show_progress": True})
    assert "/3 [" in capsys.readouterr().err
    evaluate_model(trained_model, texts[:40], processor, batch_size=16, **QUICK)
    assert capsys.readouterr().err == ""


# --- the sentences and the draws of a likelihood --------------------------------------------------------------------


def test_the_elbo_beside_the_likelihood_is_of_its_sentences_and_draws(trained_model, processor, texts):
    result = evaluate_model(trained_model, texts[:60], processor, **{**QUICK, "num_importance_samples": 400})
    places = [entry.place for entry in chosen(60, 20)]
    alone = evaluate_model(
        trained_model, [texts[place] for place in places], processor, **{**QUICK, "num_importance_samples": 1}
    )
    # The same sentences, so the same KL; of the reconstruction, 80 draws for each sentence instead of one.
    assert result.iw_negative_elbo == pytest.approx(-alone.elbo, rel=0.02)
    assert result.iw_nll < result.iw_negative_elbo
    # The gap is KL(q(z|x) || p(z|x)), what the decoder does not use of the KL.
    gap = alone.kl - result.decoder_information
    assert result.iw_negative_elbo - result.iw_nll == pytest.approx(gap, abs=0.1)
    # The first sentences are others.
    first = evaluate_model(trained_model, texts[:20], processor, **QUICK)
    assert first.kl != pytest.approx(alone.kl, rel=1e-4)


def chosen(count: int, size: int) -> list[ChosenSentence]:
    sample = ChosenSentences(size)
    for place in range(count):
        if sample.wants(place):
            sample.add(ChosenSentence(place, torch.zeros(1), torch.zeros(1), torch.zeros(1), None))
    return sample.first(size)


def test_sentences_of_a_likelihood_do_not_depend_on_the_seed(uniform_model, processor, texts):
    """Where every token is equally likely, a likelihood only tells how long its sentences are."""
    results = [evaluate_model(uniform_model, texts[:60], processor, seed=seed, **QUICK) for seed in (0, 1)]
    assert results[0].iw_nll == pytest.approx(results[1].iw_nll, rel=1e-12)
    other = evaluate_model(uniform_model, texts[1:61], processor, **QUICK)
    assert other.iw_nll != pytest.approx(results[0].iw_nll, rel=1e-6)


def test_few_draws_are_all_of_the_posterior_and_tell_nothing_of_the_decoder(trained_model, processor, texts):
    few, more = (
        evaluate_model(trained_model, texts[:30], processor, **{**QUICK, "num_importance_samples": number})
        for number in (9, 10)
    )
    assert few.decoder_information is few.iw_negative_elbo is few.iw_nll_draws is None
    assert more.decoder_information is not None
    assert "9 draws of the posterior," in render_figures(few)
    assert "10 draws of a mixture between posterior and prior," in render_figures(more)


def test_latent_gain_is_the_loss_by_another_sentence_s_latent(trained_model, processor, texts):
    """Against a plain loop over the sentences in the order of their choice."""
    data = texts[:30]
    result = evaluate_model(trained_model, data, processor, **QUICK)
    places = [entry.place for entry in chosen(30, 30)]
    batch = processor([data[place] for place in places], return_tensors="pt")
    posterior = trained_model.encode(batch["input_ids"], batch["attention_mask"])
    noise = sentence_noise(0, RECONSTRUCTION, places, trained_model.config.latent_size)
    latents = posterior.sample(noise.to(posterior.mean))
    gains = []
    for row in range(30):
        own, other = (
            trained_model(latents=z[None], labels=batch["labels"][row : row + 1]).reconstruction_nll.item()
            for z in (latents[row], latents[(row + 1) % 30])
        )
        gains.append(other - own)
    assert result.latent_gain == pytest.approx(sum(gains) / 30, rel=1e-4) and result.latent_gain > 1
    deviation = torch.tensor(gains).std().item()
    assert result.latent_gain_error == pytest.approx(deviation / 30**0.5, rel=1e-3)


def test_copies_of_one_text_have_no_latent_gain(trained_model, processor, texts):
    assert evaluate_model(trained_model, [texts[0]] * 5, processor, **QUICK).latent_gain is None
    assert evaluate_model(trained_model, [*[texts[0]] * 5, texts[1]], processor, **QUICK).latent_gain > 1


def test_token_frequencies_predict_as_counted_by_hand(trained_model, processor, texts):
    data = texts[:30]
    result = evaluate_model(trained_model, data, processor, **QUICK)
    labels = [token for ids in processor(data)["labels"] for token in ids]
    vocabulary = trained_model.config.decoder.vocab_size
    total = 0.0
    for place, token in enumerate(labels):
        others = labels[:place] + labels[place + 1 :]
        total -= math.log((others.count(token) + 1) / (len(others) + vocabulary))
    assert result.frequency_nll == pytest.approx(total / 30)


# --- perplexity ------------------------------------------------------------------------------------------------------


@pytest.fixture
def uniform_model(make_model):
    """Every token is as likely as any other, and the posterior is the prior."""
    model = make_model(posterior="gaussian").double().eval()
    with torch.no_grad():
        for parameter in (*model.decoder.transformer.wte.parameters(), *model.posterior.parameters()):
            parameter.zero_()
    return model


def test_perplexity_of_a_uniform_model_is_the_vocabulary(uniform_model, processor, texts):
    """The score counts the tokens of the text and EOS, but not the start token and no padding."""
    vocabulary = uniform_model.config.decoder.vocab_size
    data = texts[:20]
    tokens = sum(len(processor.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in data)
    words = sum(len(text.split()) + 1 for text in data)
    result = evaluate_model(uniform_model, data, processor, batch_size=6, **QUICK)
    assert (result.iw_nll_num_tokens, result.iw_nll_num_words) == (tokens, words)
    assert result.token_perplexity == pytest.approx(vocabulary, rel=1e-12)
    assert result.word_perplexity == pytest.approx(vocabulary ** (tokens / words), rel=1e-12)
    assert result.iw_nll == pytest.approx(math.log(vocabulary) * tokens / 20, rel=1e-12)
    # With the start token in the score, the perplexity would be too low.
    assert math.exp(result.iw_nll * 20 / (tokens + 20)) < 0.8 * vocabulary
    padded = [dict(batch) for batch in batches_of(processor, data, 6)]
    for batch in padded:
        batch["labels"] = torch.nn.functional.pad(batch["labels"], (0, 3), value=-100)
    again = evaluate_model(uniform_model, padded, processor, **QUICK)
    assert again.token_perplexity == pytest.approx(vocabulary, rel=1e-12) and again.iw_nll_num_tokens == tokens
    assert again.word_perplexity == pytest.approx(result.word_perplexity)


def test_perplexity_is_of_the_sentences_of_the_likelihood(trained_model, processor, texts):
    result = evaluate_model(trained_model, texts[:40], processor, **QUICK)
    assert result.iw_nll_num_sentences == 20
    tokens = sum(map(len, processor([texts[entry.place] for entry in chosen(40, 20)])["labels"]))
    assert result.iw_nll_num_tokens == tokens != sum(map(len, processor(texts[:40])["labels"]))
    assert result.token_perplexity == pytest.approx(math.exp(result.iw_nll * 20 / tokens))


def test_a_text_that_was_cut_has_the_words_that_were_left(trained_model, processor, texts, caplog):
    logging.enable_propagation()
    long = " ".join(texts[:10])
    result = evaluate_model(trained_model, [long, texts[0]], processor, **QUICK)
    left = processor.decode_texts(torch.tensor([processor(long)["labels"]]))[0]
    assert result.iw_nll_num_words == len(left.split()) + 1 + len(texts[0].split()) + 1
    assert len(left.split()) < len(long.split()) / 2
    assert "1 of 2 texts are longer than the model has positions for and were cut" in caplog.text


@pytest.mark.parametrize("decoder", cases(DECODERS, quick=["gpt2", "llama", "gemma3"]))
def test_every_decoder_is_evaluated(decoder):
    """An untrained model on random tokens has a perplexity near the size of the vocabulary."""
    config = BNVAEConfig.from_encoder_decoder_configs(
        ENCODERS["bert"], DECODERS[decoder], latent_size=4, posterior="gaussian"
    )
    ids = torch.randint(3, VOCAB_SIZE, (3, 5, 8))
    batches = [{"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows} for rows in ids]
    result = evaluate_model(BNVAEModel(config), batches, memory_budget_gib=1e-5, **QUICK)
    assert result.token_perplexity == pytest.approx(VOCAB_SIZE, rel=0.1) and result.iw_nll_num_tokens == 120


# --- texts -----------------------------------------------------------------------------------------------------------


def test_self_bleu_is_of_greedy_samples_of_the_prior(trained_model, processor, texts):
    data = texts[:10]
    result = evaluate_model(trained_model, data, processor, **{**QUICK, "num_self_bleu_samples": 30})
    # The samples of another seed, made by the model's method, are as similar to one another.
    assert result.self_bleu == pytest.approx(self_bleu(trained_model.sample(30, seed=5)), abs=15)
    assert 0 < result.self_bleu < 100 and result.self_bleu_num_samples == 30
    trained_model.generation_config.do_sample = True
    try:
        assert evaluate_model(
            trained_model, data, processor, **{**QUICK, "num_self_bleu_samples": 30}
        ).self_bleu == pytest.approx(result.self_bleu)
    finally:
        trained_model.generation_config.do_sample = False
    for nothing in (None, 0):
        skipped = evaluate_model(trained_model, data, processor, **{**QUICK, "num_self_bleu_samples": nothing})
        assert skipped.self_bleu is skipped.self_bleu_num_samples is None and skipped.reconstruction_bleu is not None


# --- the result ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(trained_model, processor, texts) -> EvaluationResult:
    return evaluate_model(trained_model, texts[:30], processor, **QUICK)


def test_a_result_goes_to_json_and_back(result, tmp_path):
    path = tmp_path / "figures.json"
    result.to_json_file(path)
    assert EvaluationResult.from_json_file(path) == result
    record = json.loads(path.read_text())
    assert record["kl"] == result.kl
    assert record["about"]["kl"].startswith("nats per sentence; ") and set(record["about"]) == set(asdict(result))
    assert EvaluationResult.from_metrics({**result.to_metrics("test"), "train_loss": 1.0}, "test") == result
    for change, words in (({"kl": None}, None), ({"nonsense": 1}, "it holds nonsense")):
        path.write_text(json.dumps({**record, **change}))
        if words:
            with pytest.raises(ValueError, match=words):
                EvaluationResult.from_json_file(path)
        else:
            assert EvaluationResult.from_json_file(path) != result
    del record["iw_nll"]
    for content, words in (
        (json.dumps(record), "lacks: iw_nll"),
        ("[1]", "must hold a JSON object"),
        ("{", "is no JSON"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=words):
            EvaluationResult.from_json_file(path)


def test_results_that_were_stored_before_there_were_more_figures_can_be_read():
    for run in json.loads(RESULTS.read_text(encoding="utf-8")):
        old = EvaluationResult.from_metrics(run["results"])
        assert old.to_metrics().items() <= run["results"].items()
        table = render_figures(old)
        if old.decoder_information is None:
            assert f"first {old.num_sentences} sentences, log N" in table and "decoder information" in table


def test_the_table_has_every_figure_with_unit_and_estimator(result):
    assert all(figure.metadata["unit"] and figure.metadata["estimator"] for figure in fields(result))
    lines = render_figures(result).splitlines()
    cells = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("|")}
    nats = "nats per sentence"
    estimator = "-log p(x), 10 draws of a mixture between posterior and prior, 20 sentences"
    assert ("IW-NLL", f"{result.iw_nll:.2f} ± {result.iw_nll_error:.2f}", nats, estimator) in cells
    assert ("KL", f"{result.kl:.2f}", nats, "of the posteriors from the prior, in closed form") in cells
    assert ("self-BLEU", f"{result.self_bleu:.1f}", "0 to 100", "6 greedy samples of the prior, tokens 13a") in cells
    tokens = f"exp(IW-NLL / {result.iw_nll_num_tokens} scored tokens), EOS scored"
    assert ("perplexity", f"{result.token_perplexity:.2f}", "per token", tokens) in cells
    assert ("active units", str(result.active_units), "dimensions", "Var[mu] >= 0.01, of 8") in cells
    assert not any("{" in line or "None" in line or "nan" in line for line in lines)


def test_an_error_over_one_sentence_is_not_defined_and_not_printed(trained_model, processor, texts):
    result = evaluate_model(trained_model, texts[:5], processor, **{**QUICK, "max_importance_sentences": 1})
    assert result.iw_nll_error is None
    table = render_figures(result)
    assert f"| {result.iw_nll:.2f} " in table and "nan" not in table
    assert EvaluationResult.from_metrics(result.to_metrics()) == result


# --- what cannot be measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_importance_samples": 0}, "num_importance_samples must be a whole number of at least 1, got 0"),
        ({"max_importance_sentences": 0}, "max_importance_sentences must be .* at least 1, got 0"),
        ({"max_information_sentences": 1}, "max_information_sentences must be .* at least 2, got 1"),
        ({"num_self_bleu_samples": 1}, "num_self_bleu_samples must be .* at least 2, got 1"),
        ({"memory_budget_gib": 0}, "memory_budget_gib must be above 0, got 0"),
        ({"batch_size": 0}, "batch_size must be .* at least 1, got 0"),
        ({"seed": -1}, "seed must be .* at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(trained_model, texts, changes, words):
    with pytest.raises(ValueError, match=words):
        evaluate_model(trained_model, texts[:10], **{**QUICK, **changes})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "at least two sentences, got none"),
        (["One alone ."], "at least two sentences, got 1: moments"),
        ("One alone .", "data must be a data set, a list of texts.*got str: 'One alone"),
        (7, "data must be a data set.*got int: 7"),
        ([1, 2], "data must hold texts, rows of a data set or batches, got an element of type int: 1"),
        (["A text .", 3], "data must hold texts, got int: 3"),
        ([{"review": "A text ."}], "no column 'text'. Their columns: review. Choose .* text_column"),
        ([{"input_ids": [1, 2], "attention_mask": [1, 1]}], "Sentence 0 lacks labels; it has input_ids, att"),
        ([{"input_ids": torch.ones(2, 3, dtype=torch.long)}], "Batch 0 lacks labels.*BNVAEProcessor"),
        (
            [{"input_ids": torch.ones(2, 3, dtype=torch.long), "labels": torch.ones(3, 3, dtype=torch.long)}],
            "Batch 0 has 2 rows of input_ids and 3 of labels",
        ),
        (
            [{"input_ids": torch.ones(2, 3, dtype=torch.long), "labels": torch.tensor([[1], [-100]])}],
            "labels of sentence 1 hold no token to score",
        ),
        (
            [{"input_ids": torch.tensor([[1, 70000]]), "labels": torch.tensor([[1]])}],
            "input_ids of sentences 0 to 0 hold the token id 70000, and the encoder's vocabulary has 400 tokens",
        ),
        (
            [{"input_ids": torch.tensor([[1, 2]]), "labels": torch.tensor([[70000]])}],
            "labels of sentences 0 to 0 hold the token id 70000, and the decoder's vocabulary has 4",
        ),
        (
            [{"input_ids": torch.tensor([[-1, 2]]), "labels": torch.tensor([[1]])}],
            "hold the token id -1",
        ),
        (DatasetDict(test=Dataset.from_dict({"text": ["a"]})), "several splits .test.. Choose one"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_bad_data_are_refused(trained_model, data, words):
    with pytest.raises(ValueError, match=words):
        evaluate_model(trained_model, data, **QUICK)


def test_bad_models_are_refused(make_model, processor, texts):
    batches = batches_of(processor, texts[:20], 10)
    decoder = make_model().decoder
    with pytest.raises(ValueError, match="needs a model with latents, a BNVAEModel, got GPT2LMHeadModel"):
        evaluate_model(decoder, batches, **QUICK)
    with pytest.raises(ValueError, match="never estimated"):
        evaluate_model(make_model(), batches, **QUICK)
    with pytest.raises(ValueError, match="made token ids by the model's processor, and there is none"):
        evaluate_model(make_model(posterior="gaussian"), texts[:20], **QUICK)
    assert evaluate_model(make_model(posterior="gaussian"), texts[:20], processor, **QUICK).num_sentences == 20


def test_empty_texts_are_left_out_and_that_is_said(trained_model, processor, texts, caplog):
    logging.enable_propagation()
    with_gaps = ["", texts[0], "  ", None, *texts[1:10]]
    found = evaluate_model(trained_model, with_gaps, processor, **QUICK)
    assert found == evaluate_model(trained_model, texts[:10], processor, **QUICK)
    assert [record.message for record in caplog.records if "Left out" in record.message] == [
        "Left out 3 of the data's texts: empty, only whitespace, or no text."
    ]
    with pytest.raises(ValueError, match="got none"):
        evaluate_model(trained_model, ["", " "], processor, **QUICK)
