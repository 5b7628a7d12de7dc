"""The step that gives documents their latents: the same latents as `encode_texts`, whatever the tasks, and every odd
document costs itself alone."""

import json

import pytest
import tiny
import torch
from cases import cases
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from hf_bnvae import BNVAEModel
from hf_bnvae.corpus import LatentEncoder, model_step
from hf_bnvae.training.fitted_prior import remove_prior

TEXTS = tiny.make_texts(60)


@pytest.fixture(scope="module")
def model(trained_folder) -> BNVAEModel:
    """The model in the folder, in evaluation mode."""
    return BNVAEModel.from_pretrained(trained_folder).eval()


def documents(texts) -> list[Document]:
    return [Document(text=text, id=f"doc-{number}", metadata={"n": number}) for number, text in enumerate(texts)]


def counts(step) -> dict[str, int]:
    return {name: stat.total for name, stat in step.stats.stats.items()}


def latents(found, entry="mean") -> torch.Tensor:
    return torch.tensor([document.metadata[entry] for document in found])


def test_latents_are_those_of_encode_texts_and_all_else_stays(model, trained_folder):
    texts = [*TEXTS[30:], *TEXTS[:30], TEXTS[3]]  # no order of length, and a text twice
    step = LatentEncoder(trained_folder, with_logvar=True, buffer_size=1000, batch_size=16)
    found = list(step(iter(documents(texts))))
    expected = model.encode_texts(texts, batch_size=16).float()
    assert torch.equal(latents(found), expected), "the same batches: the same to the bit"
    assert [(one.id, one.text, one.metadata["n"]) for one in found] == [
        (f"doc-{n}", t, n) for n, t in enumerate(texts)
    ]
    small = LatentEncoder(trained_folder, buffer_size=7, batch_size=3)
    assert torch.allclose(latents(small(iter(documents(texts)))), expected, atol=1e-5)
    ((_, posterior),) = model.text_posteriors([texts[5]])
    assert torch.allclose(latents(found[5:6], "logvar"), posterior.logvar.float(), atol=1e-5)
    assert counts(step) == {"encoded": len(texts), "truncated": 0}
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)  # control: latents differ


def test_odd_documents_cost_themselves_alone_and_are_counted(model, trained_folder):
    longest = "word " * 200_000  # a million characters
    odd = [TEXTS[0], "", "  \n", None, 7, "half \ud83d", longest, TEXTS[1]]
    step = LatentEncoder(trained_folder)
    found = list(step(iter([*documents(odd), Document(text=TEXTS[2], id="half \ud83d")])))
    assert "mean" not in found.pop().metadata
    assert [one.text for one in found] == odd
    assert ["mean" in one.metadata for one in found] == [True, False, False, False, False, False, True, True]
    assert counts(step) == {"empty": 3, "unreadable": 3, "encoded": 3, "truncated": 1}
    assert torch.allclose(latents([found[0], found[7]]), model.encode_texts(TEXTS[:2]).float(), atol=1e-5)


def test_draws_depend_on_seed_and_id_alone(model, trained_folder):
    step = LatentEncoder(trained_folder, num_draws=500)
    first = latents(step(iter(documents(TEXTS[:3]))), "draws")
    assert first.shape == (3, 500, model.config.latent_size)
    others = [Document(text="Another text .", id="other"), *documents(TEXTS[:3])[::-1]]
    again = list(LatentEncoder(trained_folder, num_draws=500, buffer_size=2)(iter(others)))[:0:-1]
    assert torch.allclose(latents(again, "draws"), first, atol=1e-5)
    other_seed = latents(LatentEncoder(trained_folder, num_draws=500, seed=1)(iter(documents(TEXTS[:3]))), "draws")
    assert not torch.allclose(other_seed, first, atol=0.1)
    ((_, posterior),) = model.text_posteriors(TEXTS[:1])
    assert torch.allclose(first[0].mean(0), posterior.mean[0].float(), atol=0.25)
    assert torch.allclose(first[0].std(0), posterior.std[0].float(), rtol=0.2)


def test_whitened_latents_are_in_the_coordinates_of_the_fitted_prior(model, trained_folder, tmp_path):
    found = latents(LatentEncoder(trained_folder, whiten=True)(iter(documents(TEXTS))))
    plain = model.encode_texts(TEXTS)
    assert torch.allclose(found, model.prior.whiten(plain).float(), atol=1e-4)
    assert not torch.allclose(found, plain.float(), atol=1e-2)
    other = BNVAEModel.from_pretrained(trained_folder)
    remove_prior(other)
    for target in (other, model.processor):
        target.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="fit_prior"):
        list(LatentEncoder(tmp_path, whiten=True)(iter(documents(TEXTS[:2]))))


def test_a_process_loads_the_model_once_and_again_when_its_files_change(trained_folder, tmp_path, monkeypatch):
    loaded = []
    load = model_step.load_saved_model
    monkeypatch.setattr(model_step, "load_saved_model", lambda **place: loaded.append(place) or load(**place))
    model = BNVAEModel.from_pretrained(trained_folder).eval()
    for target in (model, model.processor):
        target.save_pretrained(tmp_path)
    before = [latents(LatentEncoder(tmp_path)(iter(documents(TEXTS[:2])), rank, 5)) for rank in range(5)]
    assert len(loaded) == 1 and all(torch.equal(one, before[0]) for one in before)
    with torch.no_grad():
        model.posterior.mean_norm.running_mean.add_(1.0)
    model.save_pretrained(tmp_path)
    after = latents(LatentEncoder(tmp_path)(iter(documents(TEXTS[:2]))))
    assert len(loaded) == 2 and not torch.allclose(after, before[0], atol=1e-2)


@pytest.mark.parametrize(("rank", "place", "expected"), [(0, (), 0), (5, (), 1), (4, (2,), 2), (8, (5,), 1)])
def test_processes_take_one_of_several_gpus_in_turn(monkeypatch, rank, place, expected):
    """By their number in their pool: tasks that are left over after a restart may have the ranks 0, 4, 8."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(model_step.multiprocess.current_process(), "_identity", place)
    assert model_step._device_of(rank) == f"cuda:{expected}"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert model_step._device_of(rank) is None


def test_half_precision_stays_near_and_gives_plain_numbers(trained_folder):
    whole = latents(LatentEncoder(trained_folder)(iter(documents(TEXTS[:8]))))
    half = latents(LatentEncoder(trained_folder, dtype="bfloat16")(iter(documents(TEXTS[:8]))))
    assert not torch.equal(half, whole) and torch.allclose(half, whole, atol=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, got 'float8'"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"buffer_size": 2.5}, "buffer_size must be a whole number of at least 1, got 2.5"),
        ({"num_draws": -1}, "num_draws must be a whole number of at least 0, got -1"),
        ({"whiten": True, "with_logvar": True}, "no logvar"),
    ],
)
def test_wrong_arguments_are_refused_before_a_model_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentEncoder("no such model", **arguments)


def test_a_model_that_cannot_give_latents_is_refused(make_model, processor, tmp_path):
    with pytest.raises(ValueError, match="no such model could not be loaded"):
        list(LatentEncoder("no such model")(iter(documents(TEXTS[:1]))))
    make_model(posterior="bn_rms").save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="never estimated"):
        list(LatentEncoder(tmp_path)(iter(documents(TEXTS[:1]))))
    assert list(LatentEncoder("no such model")(iter([]))) == []  # nothing to encode, nothing to load


def test_an_entry_that_a_document_has_already_is_not_overwritten(trained_folder):
    mine = [Document(text=TEXTS[0], id="a", metadata={"mean": 3})]
    for text in (TEXTS[0], ""):
        mine[0].text = text
        with pytest.raises(ValueError, match="Document 'a' has an entry 'mean' in its metadata already"):
            list(LatentEncoder(trained_folder)(iter(mine)))
    assert mine[0].metadata == {"mean": 3}


@pytest.mark.parametrize("tasks", cases([1, 3], quick=[1]))
def test_it_works_between_any_reader_and_any_writer(model, trained_folder, tmp_path, tasks):
    for part in range(3):
        rows = [json.dumps({"text": text, "id": f"{part}-{n}"}) for n, text in enumerate(TEXTS[part::3])]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{part}.jsonl").write_text("\n".join(rows))
    pipeline = [
        JsonlReader(str(tmp_path / "in")),
        LatentEncoder(trained_folder, buffer_size=5, batch_size=4),
        JsonlWriter(str(tmp_path / "out"), compression=None),
    ]
    workers = min(tasks, 2)  # with two, in processes of their own
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=str(tmp_path / "logs")).run()
    lines = [line for file in sorted((tmp_path / "out").iterdir()) for line in file.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == [f"{part}-{n}" for part in range(3) for n in range(20)]
    found = torch.tensor([row["metadata"]["mean"] for row in rows])
    assert torch.allclose(found, model.encode_texts([row["text"] for row in rows]).float(), atol=1e-5)


def test_documents_are_encoded_with_their_conditions(answering_folder, trained_folder):
    conditions = ["The ?", "", ["My ?", "And so on ."], None, "A ?"]
    found = documents(TEXTS[:5])
    for document, condition in zip(found, conditions, strict=True):
        document.metadata["context"] = condition
    step = LatentEncoder(answering_folder, condition_column="context")
    encoded = list(step(iter(found)))
    expected = {"encoded": 4, "truncated": 0, "without_condition": 1, "conditions_truncated": 0}
    assert counts(step) == expected and "mean" not in encoded[3].metadata
    model, kept = BNVAEModel.from_pretrained(answering_folder).eval(), [0, 1, 2, 4]
    expected = model.encode_texts([TEXTS[i] for i in kept], condition=[conditions[i] for i in kept]).float()
    assert torch.allclose(latents([encoded[i] for i in kept]), expected, atol=1e-5)
    other = model.encode_texts([TEXTS[i] for i in kept], condition="").float()
    assert not torch.allclose(other, expected, atol=1e-2)  # control
    for folder, column, words in (
        (answering_folder, None, "trained with conditions. Say which column"),
        (trained_folder, "context", "trained without conditions. Leave condition_column out"),
    ):
        with pytest.raises(ValueError, match=words):
            list(
                LatentEncoder(folder, condition_column=column)(
                    iter([Document(TEXTS[0], "a", metadata={"context": ""})])
                )
            )
