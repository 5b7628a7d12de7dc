"""The encoder side as ONNX gives the model's latents, in every family, for batches and lengths that it was not traced
with."""

import copy
import runpy
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from families import DECODERS, ENCODERS, POSITIONS, VOCAB_SIZE
from paths import SCRIPTS
from transformers import AutoTokenizer

from hf_bnvae import BNVAEConfig, BNVAEModel
from hf_bnvae.interop import onnx_export
from hf_bnvae.interop.onnx_export import export_encoder_side

pytestmark = pytest.mark.slow

SCRIPT = SCRIPTS / "export_onnx.py"


def run_graph(file: Path, input_ids: torch.Tensor, mask: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()})
    return dict(zip([output.name for output in session.get_outputs()], outputs, strict=True))


@pytest.fixture(scope="module")
def graph(trained_model, tmp_path_factory) -> Path:
    """The graph of the trained model, for the tests that only read it."""
    return export_encoder_side(trained_model, tmp_path_factory.mktemp("exported") / "graph")


def test_texts_have_the_latents_of_the_model(trained_model, graph, texts):
    assert sorted(path.name for path in graph.parent.iterdir())[0] == "model.onnx"
    tokenizer = AutoTokenizer.from_pretrained(graph.parent)
    some = [texts[0], texts[1] + " " + texts[2], texts[3].split()[0]]
    inputs = tokenizer(some, padding=True, return_tensors="pt")
    outputs = run_graph(graph, inputs["input_ids"], inputs["attention_mask"])
    expected = trained_model.encode_texts(some).numpy()
    assert outputs["mean"].shape == expected.shape and outputs["mean"].dtype == np.float32
    np.testing.assert_allclose(outputs["mean"], expected, atol=1e-3)
    alone = tokenizer([some[2]], return_tensors="pt")
    np.testing.assert_allclose(
        run_graph(graph, alone["input_ids"], alone["attention_mask"])["mean"][0], expected[2], atol=1e-3
    )
    # Controls: padding that is not masked, and another text, have other latents.
    unmasked = run_graph(graph, inputs["input_ids"], torch.ones_like(inputs["attention_mask"]))
    assert np.abs(unmasked["mean"] - expected).max() > 1e-2 < np.abs(expected[0] - expected[1]).max()
    assert trained_model.dtype == torch.float64


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", ENCODERS)
def test_every_family_is_exported(family, pooling, processor, tmp_path):
    torch.manual_seed(0)
    fields = {"latent_size": 4, "posterior": "bn_rms", "pooling": pooling}
    model = BNVAEModel(BNVAEConfig.from_encoder_decoder_configs(ENCODERS[family], DECODERS["gpt2"], **fields))
    for _ in range(3):
        model.encode(torch.randint(3, VOCAB_SIZE, (16, 9)), torch.ones(16, 9, dtype=torch.long))
    model.eval().processor = processor  # of other texts: only its files are looked at
    file = export_encoder_side(model, tmp_path / "graph")
    for batch, length in ((1, 1), (1, 6), (7, 13), (2, POSITIONS - 2)):
        ids = torch.randint(3, VOCAB_SIZE, (batch, length))
        mask = (torch.arange(length) < torch.arange(1, batch + 1)[:, None]).long()
        with torch.no_grad():
            posterior = model.encode(ids, mask)
        outputs = run_graph(file, ids, mask)
        np.testing.assert_allclose(outputs["mean"], posterior.mean, atol=1e-5)
        np.testing.assert_allclose(outputs["logvar"], posterior.logvar, atol=1e-5)


def test_a_graph_with_other_latents_is_not_kept(trained_model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="gives another mean than the model"):
        export_encoder_side(trained_model, tmp_path / "graph")
    assert list((tmp_path / "graph").iterdir()) == []


@pytest.mark.parametrize(("part", "name"), [("mean_projection", "mean"), ("scale_projection", "standard deviation")])
def test_a_graph_is_held_against_both_outputs_of_the_model(part, name, trained_model, graph):
    side = onnx_export._EncoderSide(copy.deepcopy(trained_model).float()).eval()
    onnx_export._require_same_outputs(side, graph, trained_model, lengths=(3,))
    with torch.no_grad():
        weight = getattr(side.model.posterior, part).weight
        weight.copy_(torch.randn(weight.shape))
    with pytest.raises(RuntimeError, match=f"gives another {name} than the model"):
        onnx_export._require_same_outputs(side, graph, trained_model, lengths=(3,))


def test_a_model_in_training_is_exported_as_it_will_be_used(trained_model, texts, tmp_path):
    """By its running statistics, and it goes on training."""
    model = copy.deepcopy(trained_model).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    file = export_encoder_side(model, tmp_path / "graph")
    assert model.training and all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    inputs = AutoTokenizer.from_pretrained(file.parent)(texts[:9], padding=True, return_tensors="pt")
    mean = run_graph(file, inputs["input_ids"], inputs["attention_mask"])["mean"]
    np.testing.assert_allclose(mean, trained_model.encode_texts(texts[:9]).numpy(), atol=1e-3)
    with torch.no_grad():
        posterior = model.encode(inputs["input_ids"], inputs["attention_mask"])
    assert np.abs(posterior.mean.numpy() - mean).max() > 1e-2  # the control: in training a batch is its own measure


def test_a_model_that_cuts_its_batches_is_exported_without_cuts(trained_model, texts, tmp_path):
    model = copy.deepcopy(trained_model)
    model.config.chunk_size, model.config.checkpoint_chunks = 2, True
    file = export_encoder_side(model, tmp_path / "graph")
    assert (model.config.chunk_size, model.config.checkpoint_chunks) == (2, True)
    inputs = AutoTokenizer.from_pretrained(file.parent)(texts[:9], padding=True, return_tensors="pt")
    mean = run_graph(file, inputs["input_ids"], inputs["attention_mask"])["mean"]
    expected = trained_model.encode_texts(texts[:9]).numpy()
    np.testing.assert_allclose(mean, expected, atol=1e-3)
    assert np.abs(mean - expected[::-1]).max() > 1e-2  # control: other texts have other latents


def test_what_cannot_be_exported_is_refused(trained_model, make_model, processor, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        export_encoder_side(trained_model, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="attach_processor"):
        export_encoder_side(make_model(), tmp_path / "a")
    with pytest.raises(ValueError, match="never estimated"):
        export_encoder_side(make_model().attach_processor(processor), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_script_writes_the_graph_of_a_saved_model(trained_model, texts, tmp_path, monkeypatch, capsys):
    trained_model.save_pretrained(tmp_path / "model")
    trained_model.processor.save_pretrained(tmp_path / "model")
    flags = ["--model_name_or_path", str(tmp_path / "model"), "--output_dir", str(tmp_path / "graph")]
    monkeypatch.setattr(sys, "argv", ["export_onnx.py", *flags])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "Written to" in capsys.readouterr().out
    inputs = AutoTokenizer.from_pretrained(tmp_path / "graph")(texts[:1], return_tensors="pt")
    mean = run_graph(tmp_path / "graph" / "model.onnx", inputs["input_ids"], inputs["attention_mask"])["mean"]
    np.testing.assert_allclose(mean, trained_model.encode_texts(texts[:1]).numpy(), atol=1e-3)
    with pytest.raises(SystemExit, match="not an empty folder"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
