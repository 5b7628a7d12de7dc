"""Batch statistics across processes (gloo): two halves of a batch give what the whole gives in one process."""

import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from hf_bnvae import build_posterior_head

BATCH, FEATURES, LATENTS = 12, 6, 4


class Objective(torch.nn.Module):
    """A head and a loss that depends on every output, as the model's does: a mean over the process' sentences."""

    def __init__(self, posterior: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = build_posterior_head(posterior, FEATURES, LATENTS).double()

    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        posterior = self.head(features)
        return (posterior.sample(noise).pow(3).sum(-1) + posterior.kl().sum(-1)).mean()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(BATCH, FEATURES, generator=generator).double()
    return features.cumsum(0), torch.randn(BATCH, LATENTS, generator=generator).double()


def outcome(module: Objective, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    gradients = {f"grad.{n}": p.grad for n, p in module.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(module.named_buffers())}


def worker(rank: int, address: str, posterior: str, queue: mp.SimpleQueue) -> None:
    torch.set_num_threads(1)
    # A collective that not every process joins ends in an error, not in half an hour of waiting.
    timeout = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=timeout)
    module = Objective(posterior)
    parallel = DistributedDataParallel(module)
    features, noise = (part.chunk(2)[rank] for part in data())
    loss = parallel(features, noise)
    loss.backward()
    dist.all_reduce(loss.data)
    if rank == 0:
        queue.put({name: tensor.numpy().copy() for name, tensor in outcome(module, loss / 2).items()})
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads sometimes keep an interpreter from ending


@pytest.mark.parametrize("posterior", ["bn", "bn_rms", "bn_mean"])
def test_two_processes_share_one_posterior_batch(posterior, tmp_path):
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    mp.spawn(worker, (f"file://{tmp_path}/rendezvous", posterior, queue), nprocs=2, join=True)
    together = {name: torch.from_numpy(array) for name, array in queue.get().items()}

    module = Objective(posterior)
    features, noise = data()
    loss = module(features, noise)
    loss.backward()
    alone = outcome(module, loss)
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name].reshape(tensor.shape), tensor, rtol=1e-9, atol=1e-11, msg=name)

    # The control: statistics of each half by itself.
    apart = Objective(posterior)
    halves = [apart(f, n) for f, n in zip(features.chunk(2), noise.chunk(2), strict=True)]
    assert abs(sum(halves) / 2 - loss) > 1e-3
