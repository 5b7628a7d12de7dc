"""The pipelines, against the model's own methods: from a folder and from objects, in batches and one by one."""

import pytest
import torch
from datasets import Dataset
from transformers import GenerationConfig, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_bnvae import LatentTextPipeline

GREEDY = {"max_new_tokens": 10, "do_sample": False}


@pytest.fixture
def latent_text(trained_folder):
    return pipeline("latent-text", model=trained_folder, device="cpu", **GREEDY)


@pytest.fixture
def expected(latent_text, texts):
    return [[{"generated_text": text}] for text in latent_text.model.reconstruct(texts[:5], **GREEDY)]


def test_texts_are_reconstructed_in_batches_and_one_by_one(latent_text, texts, expected):
    assert latent_text(texts[:5]) == expected
    assert latent_text(texts[:5], batch_size=2) == expected
    assert latent_text(texts[1]) == expected[1]
    assert len({str(item) for item in expected}) > 1


def test_texts_come_in_every_form_that_pipelines_take(latent_text, texts, expected):
    assert list(latent_text((text for text in texts[:5]), batch_size=2)) == expected
    assert latent_text(tuple(texts[:5])) == expected
    dataset = KeyDataset(Dataset.from_dict({"text": texts[:5]}), "text")
    assert list(latent_text(dataset, batch_size=3)) == expected
    assert latent_text([]) == []


def test_latents_are_decoded(latent_text):
    latents = torch.randn(5, 8)
    expected = [[{"generated_text": text}] for text in latent_text.model.reconstruct(latents, **GREEDY)]
    for inputs in (latents, latents.numpy(), list(latents)):
        assert latent_text(inputs, batch_size=2) == expected
    assert latent_text(latents[3]) == latent_text(latents[3].tolist()) == expected[3]


def test_generation_arguments_reach_generate(latent_text, texts):
    settings = {"batch_size": 2, "num_return_sequences": 2, "do_sample": True}
    several = latent_text(texts[:3], **settings, seed=1)
    assert [len(group) for group in several] == [2, 2, 2]
    assert several == latent_text(texts[:3], **settings, seed=1)
    assert several != latent_text(texts[:3], **settings, seed=2)
    with pytest.raises(ValueError, match="nonsense"):
        latent_text(texts[0], nonsense=1)


def test_a_prompt_begins_every_text(latent_text, texts):
    assert all(g["generated_text"].startswith("My") for (g,) in latent_text(texts[:3], prompt="My"))


def test_a_generation_configuration_may_ask_for_several_texts(latent_text, texts):
    config = GenerationConfig(num_beams=2, num_return_sequences=2, max_new_tokens=5)
    for batch_size in (1, 2):
        groups = latent_text(texts[:2], batch_size=batch_size, generation_config=config)
        assert [[type(item["generated_text"]) for item in group] for group in groups] == [[str, str]] * 2


@pytest.fixture
def text_latent(trained_folder):
    return pipeline("text-latent", model=trained_folder, device="cpu")


@pytest.mark.parametrize("batch_size", [1, 2])
def test_features_are_the_posteriors_means(text_latent, texts, batch_size):
    expected = text_latent.model.encode_texts(texts[:5])
    features = text_latent(texts[:5], batch_size=batch_size)
    assert isinstance(features[0][0], float) and len(features[0]) == 8
    torch.testing.assert_close(torch.tensor(features, dtype=torch.float64), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)  # control: another text's


def test_features_come_as_tensors_where_asked_for(text_latent, texts):
    tensor = text_latent(texts[0], return_tensors=True)
    assert tensor.shape == (8,)
    torch.testing.assert_close(tensor, text_latent.model.encode_texts(texts[0]), rtol=1e-5, atol=1e-6)


def test_unknown_arguments_of_features_are_refused(text_latent, texts):
    with pytest.raises(ValueError, match="Unknown arguments of TextLatentPipeline: top_k"):
        text_latent(texts[0], top_k=3)


def test_a_pipeline_is_saved_with_both_tokenizers_and_loaded_from_the_package(latent_text, texts, tmp_path):
    latent_text.save_pretrained(tmp_path)
    # The folder holds code for users without the package. With the package nobody has to trust this code.
    assert (tmp_path / "pipeline_bnvae.py").exists()
    again = pipeline("latent-text", model=str(tmp_path), device="cpu", **GREEDY)
    assert type(again) is LatentTextPipeline
    assert again(texts[:2]) == latent_text(texts[:2])


def test_a_model_and_a_processor_make_a_pipeline_too(make_model, processor):
    model = make_model(posterior="gaussian").train()
    with pytest.raises(ValueError, match="needs the model's processor"):
        pipeline("latent-text", model=model, device="cpu")
    made = pipeline("latent-text", model=model, processor=processor, device="cpu", **GREEDY)
    assert not model.training and len(made(torch.randn(8))) == 1
    attached = pipeline("latent-text", model=model, device="cpu", **GREEDY)
    assert attached.processor is processor


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("", "is empty"),
        (torch.zeros(7), r"got shape \(1, 7\)"),
        (torch.full((8,), float("nan")), "hold NaN"),
        (3, "Expected texts or latents, got 3"),
    ],
)
def test_bad_input_is_refused(latent_text, inputs, words):
    with pytest.raises(ValueError, match=words):
        latent_text(inputs)


def test_whitened_latents_go_out_and_come_back(trained_folder, latent_text, texts, expected):
    text_latent = pipeline("text-latent", model=trained_folder, device="cpu", return_tensors=True)
    plain, whitened = text_latent(texts[:5]), text_latent(texts[:5], whitened=True, batch_size=2)
    prior = latent_text.model.prior
    torch.testing.assert_close(torch.stack(whitened), prior.whiten(torch.stack(plain)), rtol=1e-4, atol=1e-4)
    assert latent_text(whitened, whitened=True) == expected == latent_text(texts[:5], whitened=True)
    assert (torch.stack(whitened) - torch.stack(plain)).abs().max() > 0.1  # control


def test_inputs_with_conditions_are_those_of_the_models_methods(answering_model, answering_folder, texts):
    conditions = ["The ?", "", ["My ?", "And so on ."], "A ?"]
    rows = [{"text": text, "condition": own} for text, own in zip(texts[:4], conditions, strict=True)]
    decode = pipeline("latent-text", model=answering_folder, device="cpu", **GREEDY)
    expected = [
        [{"generated_text": text}] for text in decode.model.reconstruct(texts[:4], condition=conditions, **GREEDY)
    ]
    assert decode(rows) == decode(rows, batch_size=3) == [decode(row) for row in rows] == expected
    assert decode(texts[:4], condition="A ?") != expected  # control
    latents = decode.model.encode_texts(texts[:4], condition=conditions)
    with_latents = [{"latents": z, "condition": own} for z, own in zip(latents, conditions, strict=True)]
    assert decode(with_latents, batch_size=2) == expected
    encode = pipeline("text-latent", model=answering_folder, device="cpu", return_tensors=True)
    torch.testing.assert_close(torch.stack(encode(rows, batch_size=2)), latents)
    same = decode.model.encode_texts(texts[:4], condition="A ?")
    torch.testing.assert_close(torch.stack(encode(texts[:4], condition="A ?")), same)
    assert not same.allclose(latents, atol=1e-2)
    with pytest.raises(ValueError, match="condition is missing"):
        decode(texts[0])
    for pipe in (decode, encode):
        with pytest.raises(ValueError, match=r"must be one text for all inputs, got .*Give each input its own"):
            pipe(texts[:2], condition=["A ?", "My ?"])
    with pytest.raises(ValueError, match="must have the keys text or latents, and condition, got text, context"):
        decode({"text": texts[0], "context": "A ?"})
