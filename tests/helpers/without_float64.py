"""A program: what follows a training gives the figures of the CPU on a device without float64, as Apple's GPUs are.

Torch gets such a device in Python. Its tensors lie in main memory, and it refuses float64 with the error of a real
one. This needs a process of its own, because torch then takes the device for an accelerator everywhere."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import copy

import pytest
import tiny
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from hf_bnvae import BNVAEModel, fit_prior, recalibrate_posterior
from hf_bnvae.evaluation.decoder_use import batch_latent_gain
from hf_bnvae.evaluation.encoding import encode_corpus
from hf_bnvae.evaluation.evaluator import evaluate_model
from hf_bnvae.evaluation.moments import PER_SENTENCE, evaluation_figures, training_figures
from hf_bnvae.model.gaussian_bnvae import float64_device
from hf_bnvae.model.posterior_bnvae import POSTERIOR_HEADS
from hf_bnvae.reporting.pictures import kl_and_floor

DEVICE = "nodouble"


class Backend:
    """What torch asks a device for. Random numbers of the device are those of the CPU."""

    is_available = is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: torch.set_rng_state(state))
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])


class OnDevice(torch.Tensor):
    """A tensor of the device. `host` holds its values."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> "OnDevice":
        if host.dtype == torch.float64:
            raise TypeError("The device has no float64.")
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, host.shape, host.stride(), host.storage_offset(), dtype=host.dtype, device=DEVICE
        )
        tensor.host = host
        return tensor

    def tolist(self) -> list:
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Makes tensors of numbers in main memory first."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if function is torch.tensor else None
        made = function(*args, **kwargs)
        return made if device is None else made.to(device)


class Device(TorchDispatchMode):
    """Makes new tensors on the device, too."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation, args, kwargs):
    """An operation on tensors of the device, or one that makes some: on the CPU, with results on the right device."""
    owners: dict[int, OnDevice] = {}

    def to_host(value):
        if isinstance(value, OnDevice):
            owners[id(value.host)] = value
            return value.host
        return value

    args, kwargs = tree_map(to_host, args), tree_map(to_host, dict(kwargs))
    target = kwargs.get("device")
    if target is not None:
        kwargs["device"] = torch.device("cpu")
    is_on_device = bool(owners) if target is None else torch.device(target).type == DEVICE

    def to_device(value):
        if not isinstance(value, torch.Tensor):
            return value
        return owners.get(id(value)) if id(value) in owners else OnDevice(value) if is_on_device else value

    return tree_map(to_device, operation(*args, **kwargs))


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of a model on the device."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(OnDevice(parameter.detach()), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = OnDevice(buffer)
    return model


def after_training(model: BNVAEModel, batch: dict[str, torch.Tensor]) -> list[float]:
    """Statistics, prior and the figures of one batch, as numbers."""
    recalibrate_posterior(model, [batch])
    fit_prior(model, [batch])
    on_device = {name: values.to(model.device) for name, values in batch.items()}
    noise = torch.randn(len(batch["labels"]), model.config.latent_size, generator=torch.Generator().manual_seed(0))
    outputs = model(**on_device, noise=noise)
    window = {name: getattr(outputs, name) for name in PER_SENTENCE}
    gain = batch_latent_gain(model, outputs, on_device["labels"])
    found = [buffer.tolist() for buffer in (*model.posterior.buffers(), model.prior.scale_tril)]
    found += [training_figures(**window, head=model.posterior)]
    return tree_flatten([*found, evaluation_figures(**window, latent_gain=gain, head=model.posterior)])[0]


def report(model: BNVAEModel, texts: list[str]) -> tuple[list[float], list[str]]:
    """What a report says of a model: numbers and words."""
    sizes = {"num_importance_samples": 10, "max_importance_sentences": 4, "num_self_bleu_samples": 2}
    found = vars(evaluate_model(model, texts, show_progress=False, **sizes))
    pictures = kl_and_floor(model, encode_corpus(model, model.processor, texts, show_progress=False))
    made = [*model.sample(2, seed=0), *model.interpolate(*texts[:2], steps=3, method="spherical")]
    values = tree_flatten([found, pictures, made])[0]
    numbers = [value for value in values if isinstance(value, (int, float))]
    return numbers, [value for value in values if isinstance(value, str)]


def main() -> None:
    torch.set_num_threads(1)
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, backend_module=Backend())
    assert float64_device(torch.device("cpu")).type == "cpu"
    with Device(), Literals(), torch.no_grad():
        assert float64_device(torch.device(DEVICE)).type == "cpu"
        with pytest.raises(TypeError):  # the control
            torch.zeros(2, device=DEVICE).double()
    texts = tiny.make_texts(32)
    processor = tiny.make_processor(texts)
    configs = tiny.make_configs(processor)
    batch = dict(processor(texts, return_tensors="pt"))
    for head in POSTERIOR_HEADS:
        on_cpu = tiny.build_model(*configs, posterior=head, decoder_dropout=0.0, encoder_dropout=0.0).eval()
        on_device = moved(on_cpu)
        with torch.no_grad():
            expected = after_training(on_cpu, batch)
            with Device(), Literals():
                found = after_training(on_device, batch)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True), head
    # With one head, since the rest sees only posteriors.
    for model in (on_cpu, on_device):
        model.attach_processor(processor)
    numbers, words = report(on_cpu, texts[:6])
    with Device(), Literals():
        found, found_words = report(on_device, texts[:6])
    assert len(numbers) > 40 and found == pytest.approx(numbers, rel=1e-3, abs=1e-4)
    assert len(words) > 5 and found_words == words


if __name__ == "__main__":
    main()
