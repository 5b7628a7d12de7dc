# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""The encoder side of a BN-VAE as an ONNX graph for other runtimes: from token ids to the posterior.

Needs onnx, onnxruntime and onnxscript (extra `onnx`).
"""

import copy
from pathlib import Path

import torch
from torch import nn

from ..model.condition_bnvae import require_unconditional
from ..model.modeling_bnvae import BNVAEModel

try:
    import onnxruntime
    import onnxscript  # noqa: F401  (torch's exporter is built on it)
except ImportError as error:
    raise ImportError(
        "The export to ONNX needs three packages: pip install 'onnx>=1.18' 'onnxruntime>=1.20' 'onnxscript>=0.5'"
    ) from error

ONNX_FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("mean", "logvar")
# The largest difference between graph and model, in mean and standard deviation. (The prior has a standard deviation
# of 1.) Batch normalisation may divide by a small deviation, which enlarges the rounding of single precision.
TOLERANCE = 1e-3
# The largest batch that the exporter is told. The graph itself has no limit.
MAX_BATCH = 65536


class _EncoderSide(nn.Module):
    """From token ids and mask, each `(batch, length)`, to mean and log variance, each `(batch, latent_size)`."""

    def __init__(self, model: BNVAEModel) -> None:
        super().__init__()
        self.model = model
        # A graph cannot cut a batch by its lengths, which differ from call to call. It has no backward pass either.
        self.model.config.chunk_size = None
        self.model.config.checkpoint_chunks = False

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self.model.encode(input_ids, attention_mask)
        return posterior.mean, posterior.logvar


def export_encoder_side(model: BNVAEModel, folder: str | Path) -> Path:
    """
    Write encoder and posterior head as `model.onnx`, with the encoder's tokenizer beside it.

    The graph takes `input_ids` and `attention_mask`, int64 of shape `(batch, length)`, and gives `mean` and `logvar`,
    float32 of shape `(batch, latent_size)`. It takes any batch size, and any length up to the positions of the
    encoder. The function compares the graph with the model on batches of several sizes before it keeps the graph.

    Args:
        model ([`BNVAEModel`]): The model, with its processor attached. It stays as it is.
        folder (`str` or `Path`): Where to write. The folder must be empty, or not exist yet.

    Returns:
        `Path`: the graph's file.

    Raises:
        ValueError: for a folder that is not empty, a model without processor, and running statistics that were never
            estimated.
        RuntimeError: if the graph gives other latents than the model. The function then keeps nothing.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty folder. Nothing was touched. Choose another.")
    if model.processor is None:
        raise ValueError("The model has no processor, whose tokenizer the graph needs: model.attach_processor(...).")
    require_unconditional(model, "A graph")
    model.posterior.require_estimated()
    side = _EncoderSide(copy.deepcopy(model).float().cpu()).eval()
    positions = getattr(model.config.encoder, "max_position_embeddings", None)
    # Some architectures use two positions for padding.
    most = None if positions is None else positions - 2
    sizes = {0: torch.export.Dim("batch", max=MAX_BATCH), 1: torch.export.Dim("length", max=most)}
    program = torch.onnx.export(
        side,
        _random_inputs(model, batch=3, length=min(8, most or 8)),
        dynamo=True,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_shapes=dict.fromkeys(INPUTS, sizes),
        verbose=False,
    )
    path.mkdir(parents=True, exist_ok=True)
    file = path / ONNX_FILE
    partial = path / f"{ONNX_FILE}.partial"
    program.save(str(partial))
    try:
        _require_same_outputs(side, partial, model, lengths=(1, 5, min(17, most or 17)))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    model.processor.encoder_tokenizer.save_pretrained(path)
    return file


def _random_inputs(model: BNVAEModel, batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random token ids, and a mask that leaves each sentence a different number of them."""
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    ids = torch.randint(model.config.encoder.vocab_size, (batch, length), generator=generator)
    kept = length - torch.arange(batch) % length
    return ids, (torch.arange(length) < kept[:, None]).long()


def _require_same_outputs(side: _EncoderSide, file: Path, model: BNVAEModel, lengths: tuple[int, ...]) -> None:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch, length in ((batch, length) for batch in (1, 4) for length in lengths):
        inputs = _random_inputs(model, batch, length)
        with torch.inference_mode():
            expected = dict(zip(OUTPUTS, side(*inputs), strict=True))
        values = {name: part.numpy() for name, part in zip(INPUTS, inputs, strict=True)}
        found = {n: torch.from_numpy(v) for n, v in zip(OUTPUTS, session.run(list(OUTPUTS), values), strict=True)}
        pairs = {
            "mean": (expected["mean"], found["mean"]),
            "standard deviation": (expected["logvar"].mul(0.5).exp(), found["logvar"].mul(0.5).exp()),
        }
        for name, (mine, theirs) in pairs.items():
            difference = (mine - theirs).abs().max().item()
            if not difference <= TOLERANCE:
                raise RuntimeError(
                    f"The exported graph gives another {name} than the model, by {difference:.2g} for {batch} texts "
                    f"of {length} tokens, and {TOLERANCE:g} is allowed. The graph was not kept."
                )
