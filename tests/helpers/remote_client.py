"""A machine without this package loads a model by `trust_remote_code`, uses all of it, and saves it again.

    python remote_client.py SOURCE FOUND [SAVED]

FOUND gets what the model made, as safetensors and JSON. SAVED gets the model. `without_package` gives the environment
of such a process."""

import importlib.util
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

TEXTS = ["The food likes the red car .", "My sister sold her own house in the morning ."]


def without_package(folder: Path) -> dict[str, str]:
    """The environment of a process (`python -S -P`) that finds all installed packages except this one, even if this
    one is installed for editing. `folder` gets links to the other packages."""
    folder.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if "hf_bnvae" not in entry.name and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def use(model: Any, processor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors and texts that all methods of a model make. The same model makes the same."""
    import torch

    model.attach_processor(processor)
    batch = processor(TEXTS, return_tensors="pt")
    with torch.no_grad():
        posterior = model.encode(batch["input_ids"], batch["attention_mask"])
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(1))
        outputs = model(**batch, noise=noise, output_logits=True)
    tensors = {
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "loss": outputs.loss,
        "logits": outputs.logits,
        "greedy": model.generate(latents=posterior.mode(), max_new_tokens=12, do_sample=False),
        "latents": model.encode_texts(TEXTS),
    }
    texts = {
        "sample": model.sample(3, seed=7, do_sample=True, max_new_tokens=12),
        "reconstruct": model.reconstruct(TEXTS, max_new_tokens=12),
        "interpolate": model.interpolate(*TEXTS, steps=3, max_new_tokens=12),
        "analogy": model.analogy(*TEXTS, TEXTS[0], max_new_tokens=12),
        "edit": model.edit(TEXTS, model.direction(TEXTS[:1], TEXTS[1:]), 0.5, max_new_tokens=12),
        "traverse": model.traverse(TEXTS[0], 1, [-2, 2], max_new_tokens=12),
        "neighbour": model.neighbours(TEXTS[0], TEXTS, k=1)[0].index,
    }
    return tensors, texts


def main(source: str, found: str, saved: str | None = None) -> None:
    assert importlib.util.find_spec("hf_bnvae") is None, "the package is in sight"
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

    loading = {"trust_remote_code": True}
    config = AutoConfig.from_pretrained(source, **loading)
    processor = AutoProcessor.from_pretrained(source, **loading)
    model = AutoModel.from_pretrained(source, **loading)
    tensors, texts = use(model, processor)
    texts["pipelines"] = [
        pipeline("latent-text", model=source, max_new_tokens=12, **loading)(TEXTS),
        pipeline("text-latent", model=source, **loading)(TEXTS),
    ]
    texts["modules"] = [type(thing).__module__ for thing in (config, processor, model)]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, f"{found}.safetensors")
    Path(f"{found}.json").write_text(json.dumps(texts))
    if saved is not None:
        model.save_pretrained(saved)
        processor.save_pretrained(saved)


if __name__ == "__main__":
    main(*sys.argv[1:])
