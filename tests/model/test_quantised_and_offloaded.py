"""Layers that are more than their weight: quantised ones, and ones whose weights Accelerate has put away."""

import copy
import tempfile

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import nn
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from hf_bnvae import BNVAEModel


class Int8Linear(nn.Linear):
    """A linear layer whose weight holds whole numbers, and whose forward pass knows their scales, as those of
    bitsandbytes do."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        scale = layer.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((layer.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(values, self.weight.to(values.dtype) * self.scale.to(values.dtype), self.bias)


def quantise(model: nn.Module) -> nn.Module:
    """Replace all linear layers of a model."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and name != "lm_head":
                setattr(module, name, Int8Linear(child))
    return model


@pytest.fixture
def model(trained_folder):
    return BNVAEModel.from_pretrained(trained_folder, dtype=torch.float32)


def test_a_head_of_quantised_layers_gives_nearly_the_same_posteriors(model, texts):
    exact = model.encode_texts(texts[:20])
    samples = model.sample(3, seed=0)
    quantised = quantise(copy.deepcopy(model))
    error = (quantised.encode_texts(texts[:20]) - exact).abs().max()
    assert 0 < error < 0.2 * exact.std()
    assert len(quantised.sample(3, seed=0)) == len(samples)
    # The control: the numbers of the weight are no weight.
    wrong = copy.deepcopy(quantised)
    wrong.posterior.mean_projection = nn.Linear(*reversed(wrong.posterior.mean_projection.weight.shape), bias=False)
    wrong.posterior.mean_projection.weight.data = quantised.posterior.mean_projection.weight.float()
    assert (wrong.encode_texts(texts[:20]) - exact).abs().max() > 10 * exact.std()


def test_quantisation_leaves_the_head_out_and_the_networks_in(model):
    left_out = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    converted = {name for name in layers if should_convert_module(name, left_out)}
    assert {name for name in layers - converted if name.startswith("posterior")} == {
        "posterior.mean_projection",
        "posterior.scale_projection",
    }
    assert any(name.startswith("encoder.") for name in converted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dynamic_quantisation_gives_nearly_the_same_posteriors_and_texts(model, texts):
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not isinstance(quantised.posterior.mean_projection, nn.Linear)  # the head, too
    exact, found = model.encode_texts(texts[:40]), quantised.encode_texts(texts[:40])

    def distance(latents: torch.Tensor, others: torch.Tensor) -> float:
        """Root mean square, in standard deviations of the means."""
        return ((latents - others).square().mean().sqrt() / exact.std()).item()

    assert 0 < distance(found, exact) < 0.2
    assert distance(found, exact.roll(1, 0)) > 1  # the control: means of other texts
    labels = model.processor(texts[:40], return_tensors="pt")["labels"]
    nlls = [
        one(latents=latents, labels=labels).reconstruction_nll.mean().item()
        for one, latents in ((model, exact), (quantised, exact), (quantised, exact.roll(1, 0)))
    ]
    assert nlls[1] == pytest.approx(nlls[0], rel=0.01) and nlls[2] > 2 * nlls[0]
    same = map(str.__eq__, quantised.reconstruct(texts[:8]), model.reconstruct(texts[:8]))
    assert sum(same) >= 6
    assert float(quantised.kl_floor()) == pytest.approx(float(model.kl_floor()))


@pytest.mark.parametrize("is_on_disk", [False, True], ids=["main memory", "disk"])
def test_a_model_whose_weights_are_put_away_gives_the_same(model, trained_folder, texts, is_on_disk):
    expected, samples = model.encode_texts(texts[:5]), model.sample(3, seed=0)
    away = BNVAEModel.from_pretrained(trained_folder, dtype=torch.float32)
    assert away.processor is not None
    device = torch.device("cpu")
    if is_on_disk:
        disk_offload(away, tempfile.mkdtemp(), execution_device=device)
    else:
        cpu_offload(away, execution_device=device)
    assert {parameter.device.type for parameter in away.parameters()} == {"meta"} and away.device == device
    assert torch.equal(away.encode_texts(texts[:5]), expected)
    assert away.sample(3, seed=0) == samples and away.reconstruct(texts[:2]) == model.reconstruct(texts[:2])
