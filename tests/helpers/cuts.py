"""One short training, whose posterior batches can be cut in many ways. Tests in one and two processes compare it."""

from collections.abc import Callable
from typing import Any

import tiny
import torch
from datasets import Dataset
from torch import nn
from transformers import TrainerCallback

from hf_bnvae import BNVAEDataCollator, BNVAEModel, BNVAETrainer, BNVAETrainingArguments
from hf_bnvae.training.objective import training_loss

BATCH, STEPS, LATENTS = 32, 3, 8
LEARNING_RATE = 1e-2
AUXILIARY = {"auxiliary": "bag_of_words", "auxiliary_steps": 10}
TIED = {**AUXILIARY, "auxiliary": "tied_bag_of_words"}


class Setting:
    """Sentences with their noise, and a model. Every process builds the same."""

    def __init__(self, dtype: torch.dtype = torch.float64, is_conditional: bool = False) -> None:
        self.dtype, self.is_conditional = dtype, is_conditional
        texts = tiny.make_texts(400)
        conditions = tiny.make_conditions(BATCH * STEPS) if is_conditional else None
        self.processor = tiny.make_processor(texts, conditions)
        self.configs = tiny.make_configs(self.processor)
        noise = torch.randn(BATCH * STEPS, LATENTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        columns = dict(self.processor(texts[: BATCH * STEPS], condition=conditions))
        self.dataset = Dataset.from_dict({**columns, "noise": noise.tolist()})

    def collate(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        noise = torch.tensor([feature["noise"] for feature in features], dtype=torch.float64)
        return {**BNVAEDataCollator(self.processor)(features), "noise": noise}

    def batch(self, start: int, stop: int) -> dict[str, torch.Tensor]:
        return self.collate([self.dataset[index] for index in range(start, stop)])

    def model(self, posterior: str) -> BNVAEModel:
        # The signed standard deviations of the head `bn` cross 0. With this seed none lies within 1e-4 of 0, where the
        # gradient of the logarithm is mostly rounding in single precision. 9 of the first 10 seeds are like this one.
        model = tiny.build_model(
            *self.configs,
            seed=1,
            decoder_dropout=0.0,
            posterior=posterior,
            latent_injection="both",
            latent_size=LATENTS,
            conditional=self.is_conditional,
        )
        with torch.no_grad():  # features that vary as a trained encoder's do
            model.posterior.mean_projection.weight.mul_(10)
            model.posterior.scale_projection.weight.mul_(10)
        return model.to(self.dtype).train()

    def free_bits(self, posterior: str) -> float:
        """A lambda that clamps half of the dimensions in the first batch."""
        kl = self.model(posterior)(**self.batch(0, BATCH)).kl.detach().mean(0)
        assert kl.std() > 1e-3
        return kl.median().item() + 1e-6


def train_by_hand(
    setting: Setting,
    posterior: str,
    *,
    free_bits: float = 0.0,
    share: slice = slice(0, BATCH),
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    micro_batch: int | None = None,
    **forward: Any,
) -> dict[str, torch.Tensor]:
    """
    A few SGD steps in a plain loop.

    Args:
        share: Which sentences of each batch this process takes.
        wrap: Wraps the model, for DDP.
        micro_batch: Accumulate ordinarily over micro-batches of this size. Each is normalised by its own statistics.
        forward: Keyword arguments of the model.
    """
    bare = setting.model(posterior)
    model = wrap(bare)
    optimizer = torch.optim.SGD(bare.parameters(), lr=LEARNING_RATE)
    seen: dict[str, torch.Tensor] = {}
    for step in range(STEPS):
        start, stop, _ = share.indices(BATCH)
        size = micro_batch or stop - start
        losses = []
        for first in range(start, stop, size):
            outputs = model(**setting.batch(step * BATCH + first, step * BATCH + first + size), **forward)
            loss = training_loss(outputs.reconstruction_nll, outputs.kl, beta=0.7, free_bits=free_bits)
            (loss * size / (stop - start)).backward()
            losses.append(loss.detach())
        record(seen, step, torch.stack(losses).mean(), bare)
        optimizer.step()
        optimizer.zero_grad()
    return finish(seen, bare)


def train_with_trainer(
    setting: Setting,
    posterior: str,
    folder: str,
    trainer_class: type = BNVAETrainer,
    before: Callable[[], Any] = lambda: None,
    look_at: Callable[[nn.Module], Any] = lambda model: None,
    after: Callable[[nn.Module], Any] = lambda model: None,
    **arguments: Any,
) -> dict[str, torch.Tensor]:
    """The same steps by `BNVAETrainer`. `before` is called when the arguments exist and the trainer does not yet.
    `look_at` is called with the model before each step, `after` with the trained model."""
    seen: dict[str, torch.Tensor] = {}

    class Recorder(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            look_at(model)
            record(seen, state.global_step, None, model)

        def on_train_end(self, args, state, control, model=None, **kwargs):
            finish(seen, model)  # before the running statistics are recomputed

    class RecordingTrainer(trainer_class):
        def training_step(self, *args, **kwargs):
            loss, name = super().training_step(*args, **kwargs), f"loss {self.state.global_step}"
            seen[name] = seen.get(name, 0) + loss.double()
            return loss

    args = BNVAETrainingArguments(
        folder,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        latent_learning_rate=None,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0,
        beta=0.7,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        **arguments,
    )
    before()
    trainer = RecordingTrainer(
        model=setting.model(posterior),
        args=args,
        train_dataset=setting.dataset,
        data_collator=setting.collate,
        callbacks=[Recorder()],
    )
    trainer.train()
    after(trainer.accelerator.unwrap_model(trainer.model))
    return seen


def fitted_prior(model: nn.Module) -> dict[str, torch.Tensor]:
    """Mean and factor of the prior that a training has fitted, as the model's state holds them."""
    return {name: model.prior.get_buffer(name).clone() for name in ("mean", "scale_tril")}


def record(seen: dict[str, torch.Tensor], step: int, loss: torch.Tensor | None, model: nn.Module) -> None:
    if loss is not None:
        seen[f"loss {step}"] = loss
    if step == 0:
        seen.update({f"gradient {name}": whole(p.grad) for name, p in model.named_parameters()})


def finish(seen: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    seen.update({f"statistic {name}": buffer.clone() for name, buffer in model.posterior.named_buffers()})
    seen.update({f"parameter {name}": whole(p) for name, p in model.named_parameters()})
    return seen


def whole(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.clone()


def deviation(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """
    The greatest deviation of a tensor in units of its tolerance.

    The deviation is |t - t'| and the tolerance 1e-9 |t|. For gradients and parameters the tolerance grows by 1e-12 of
    the norm of all of them together, since some are only rounding (the biases of attention keys).
    """
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, tensor in expected.items():
        allowed = 1e-9 * tensor.double().norm()
        kind = name.partition(" ")[0]
        if kind in ("gradient", "parameter"):
            allowed += 1e-12 * norm(expected, kind)
        worst = max(worst, ((found[name].double() - tensor.double()).norm() / allowed).item())
    return worst


def norm(outcome: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
    """The norm of all tensors of a kind."""
    return torch.stack([t.double().norm() for n, t in outcome.items() if n.startswith(kind)]).norm()


def gradient_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """|all gradients - expected| over |expected|."""
    names = [name for name in expected if name.startswith("gradient")]
    difference = {name: found[name] - expected[name] for name in names}
    return (norm(difference, "gradient") / norm(expected, "gradient")).item()
