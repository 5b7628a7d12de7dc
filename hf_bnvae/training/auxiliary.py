# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""A second task for the latent in the first part of a training. It teaches the decoder sooner that the latent is worth
reading. Its network belongs to the training and is in no saved model."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers.training_args import OptimizerNames

from ..model.batch_statistics_bnvae import num_processes, posterior_batch_mean
from ..model.modeling_bnvae import BNVAEModel
from ..model.scales_bnvae import whole_parameter
from ..utils.file_names import AUXILIARY_FILE
from ..utils.random_state import mix_seeds, preserved_random_state
from .objective import bag_of_words_nll
from .training_args import BNVAETrainingArguments

HIDDEN_SIZE = 64
# The tied network is new in every training. It does not learn at the gentle rate of pretrained networks.
TIED_LEARNING_RATE = 2e-3

# Makes the seed of the network's first weights another one than the seeds of all steps and epochs.
_PURPOSE = (3, 1, 1)


class TiedNetwork(nn.Module):
    """
    From a latent to a distribution over the decoder's vocabulary, in which a token is known by its input embedding in
    the decoder.

    The embeddings of the present step are taken, and they get no gradient from here. The network learns a map from the
    latent to such embeddings, and a bias for each token. So beside a pretrained decoder it knows at once which tokens
    are alike.

    Args:
        latent_size (`int`): Number of latent dimensions.
        width (`int`): Size of an input embedding.
        vocab_size (`int`): Number of the decoder's tokens.
    """

    def __init__(self, latent_size: int, width: int, vocab_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent_size, HIDDEN_SIZE)
        self.output = nn.Linear(HIDDEN_SIZE, width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, latents: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """
        Args:
            latents (`torch.Tensor` of shape `(batch, latent_size)`): One latent for each sentence.
            embeddings (`torch.Tensor` of shape `(vocab_size, width)`): The decoder's input embeddings. Their scale
                makes no difference.

        Returns:
            `torch.Tensor` of shape `(batch, vocab_size)`: Logits.
        """
        vectors = self.output(F.gelu(self.hidden(latents)))
        return F.linear(vectors / embeddings.std(), embeddings, self.bias)


class BagOfWordsAuxiliary:
    """
    A small network that predicts from the latent alone which tokens stand in the sentence ([`bag_of_words_nll`]).

    The network has a separate optimiser and a separate backward pass. The model's loss gets the gradient for the
    latents. So wrapping, sharding and loss scaling of the model do not touch the network. With several
    processes it learns from the whole posterior batch, as the model does.

    Args:
        model ([`BNVAEModel`]): The model that is trained.
        args ([`BNVAETrainingArguments`]): The settings. `auxiliary` says which network: one that learns a vector for
            each token, or a [`TiedNetwork`]. The former learns at `latent_learning_rate`, or at `learning_rate` where
            this is `None`; the latter at 2e-3. Neither rate has a schedule.
        device (`torch.device`): The device of the training.
    """

    def __init__(self, model: BNVAEModel, args: BNVAETrainingArguments, device: torch.device) -> None:
        self._args, self._decoder = args, model.decoder
        latent_size = model.config.latent_size
        rate = args.learning_rate if args.latent_learning_rate is None else args.latent_learning_rate
        with preserved_random_state(mix_seeds(args.seed, *_PURPOSE)):
            if args.auxiliary == "tied_bag_of_words":
                vocab_size, width = model.decoder.get_input_embeddings().weight.shape
                self.network = TiedNetwork(latent_size, width, vocab_size)
                rate = TIED_LEARNING_RATE
            else:
                vocab_size = model.config.decoder.vocab_size
                self.network = nn.Sequential(
                    nn.Linear(latent_size, HIDDEN_SIZE), nn.GELU(), nn.Linear(HIDDEN_SIZE, vocab_size)
                )
        self._dtype = torch.promote_types(model.posterior.dtype, torch.float32)
        self.network.to(device, self._dtype)
        # Fused where `Trainer`'s own optimiser is.
        is_fused = args.optim == OptimizerNames.ADAMW_TORCH_FUSED or None
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, fused=is_fused)
        # Of the steps since the last log line.
        self._sum, self._count = torch.zeros((), dtype=self._dtype, device=device), 0

    def learn(self, latents: torch.Tensor, labels: torch.Tensor, step: int, max_steps: int) -> torch.Tensor | float:
        """
        One step of the network, and the term for the model's loss. In a distributed training all processes must make
        this call.

        Args:
            latents (`torch.Tensor` of shape `(batch, latent_size)`): The latents of this process' sentences, as the
                decoder gets them.
            labels (`torch.LongTensor` of shape `(batch, target_length)`): The sentences.
            step (`int`): The optimiser step, from 0.
            max_steps (`int`): Length of the whole training.

        Returns:
            `torch.Tensor`: 0-dimensional, the weighted loss in nats per sentence of the posterior batch, with a
            gradient for the latents. Once the weight is 0, the network rests, and the term is 0.
        """
        weight = self._args.auxiliary_weight_at_step(step, max_steps)
        if weight == 0:
            return 0.0
        own_latents = latents.detach().to(self._dtype).requires_grad_()
        with torch.autocast(latents.device.type, enabled=False):
            loss, _ = posterior_batch_mean(bag_of_words_nll(self.logits(own_latents), labels))
            self._optimizer.zero_grad()
            loss.backward()
        _average_gradients(self.network)
        self._optimizer.step()
        loss = loss.detach()
        self._sum, self._count = self._sum + loss, self._count + 1
        # The second term is 0. Its gradient is the one that the network has for the latents.
        return weight * (loss + ((latents - latents.detach()) * own_latents.grad.to(latents.dtype)).sum())

    def logits(self, latents: torch.Tensor) -> torch.Tensor:
        """The network's logits for latents of shape `(batch, latent_size)`, `(batch, vocab_size)`. If the weights of
        the decoder are sharded (FSDP), all processes must make this call."""
        if not isinstance(self.network, TiedNetwork):
            return self.network(latents)
        embeddings = whole_parameter(self._decoder.get_input_embeddings().weight)
        return self.network(latents, embeddings.detach().to(self._dtype))

    def figures(self, step: int, max_steps: int) -> dict[str, float]:
        """For a log line: the mean of the loss since the last line, unweighted, in nats per sentence, and the weight.
        Empty when the network has rested since then."""
        if not self._count:
            return {}
        mean = float(self._sum / self._count)
        self._sum, self._count = torch.zeros_like(self._sum), 0
        return {"auxiliary_nll": mean, "auxiliary_weight": self._args.auxiliary_weight_at_step(step, max_steps)}

    def save(self, checkpoint: str | Path) -> None:
        """Write network and optimiser to a checkpoint. The main process makes this call."""
        moments = self._optimizer.state_dict()["state"]
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"optimizer.{i}.{name}": value for i, state in moments.items() for name, value in state.items()}
        save_file(tensors, Path(checkpoint, AUXILIARY_FILE))

    def load(self, checkpoint: str | Path) -> None:
        """
        Take network and optimiser from a checkpoint.

        Raises:
            ValueError: for a checkpoint without this auxiliary.
        """
        file = Path(checkpoint, AUXILIARY_FILE)
        if not file.is_file():
            raise ValueError(
                f"{checkpoint} holds no {file.name}, and this training has auxiliary={self._args.auxiliary!r}. Either "
                "that training had none, or it saved models alone (save_only_model). Resume with the settings of that "
                "training, from a whole checkpoint."
            )
        network: dict[str, torch.Tensor] = {}
        state: dict[int, dict[str, Any]] = {}
        for name, value in load_file(file).items():
            kind, _, rest = name.partition(".")
            if kind == "network":
                network[rest] = value
            else:
                index, _, moment = rest.partition(".")
                state.setdefault(int(index), {})[moment] = value
        if network.keys() != self.network.state_dict().keys():
            raise ValueError(
                f"{file} holds another auxiliary, with the weights {', '.join(sorted(network))}. This training has "
                f"auxiliary={self._args.auxiliary!r}. Resume with the settings of that training."
            )
        self.network.load_state_dict(network)
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})


def build_auxiliary(
    model: BNVAEModel, args: BNVAETrainingArguments, device: torch.device
) -> BagOfWordsAuxiliary | None:
    """The auxiliary of a training that begins, as [`BagOfWordsAuxiliary`] takes its arguments; `None` without one."""
    return None if args.auxiliary == "none" else BagOfWordsAuxiliary(model, args, device)


def resume_auxiliary(auxiliary: BagOfWordsAuxiliary | None, checkpoint: str | Path) -> None:
    """
    Bring the auxiliary of a training, if it has one, to the state in a checkpoint.

    Raises:
        ValueError: if only one of the two, training and checkpoint, has an auxiliary.
    """
    if auxiliary is not None:
        auxiliary.load(checkpoint)
    elif Path(checkpoint, AUXILIARY_FILE).is_file():
        raise ValueError(
            f"{checkpoint} holds {AUXILIARY_FILE}, and this training has no auxiliary. Resume with the settings of "
            "that training: auxiliary='bag_of_words' or 'tied_bag_of_words'."
        )


def _average_gradients(network: nn.Module) -> None:
    """Replace the gradients by their means over the processes, as DDP does."""
    if num_processes() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= num_processes()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
