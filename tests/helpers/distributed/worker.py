"""One of several gloo processes, which test_distributed.py starts: it trains on its share of each posterior batch. The
main process writes what came out in each case."""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType
from cuts import AUXILIARY, BATCH, TIED, Setting, fitted_prior, train_by_hand, train_with_trainer
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from hf_bnvae import fit_prior, recalibrate_posterior
from hf_bnvae.model import batch_statistics_bnvae
from hf_bnvae.training import auxiliary
from hf_bnvae.training.sampling import posterior_noise

EVEN, UNEVEN = 16, 20
# The priors that trainings with `BNVAETrainer` ended with, by the way in which processes share the model.
PRIORS: dict[str, dict[str, torch.Tensor]] = {}


def share(first: int) -> slice:
    """The first sentences of a batch for process 0, the others for process 1."""
    return slice(0, first) if dist.get_rank() == 0 else slice(first, BATCH)


def alone():
    """Inside, a process normalises its sentences without those of the other process."""
    return mock.patch.object(batch_statistics_bnvae, "num_processes", lambda: 1)


def shard(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if isinstance(module, (BertLayer, GPT2Block)):
            fully_shard(module)
    return fully_shard(model)


def ddp_cases(setting: Setting, folder: str) -> dict[str, Callable[[], dict[str, torch.Tensor]]]:
    def by_hand(first: int, posterior: str = "bn", **settings):
        return lambda: train_by_hand(setting, posterior, share=share(first), wrap=DistributedDataParallel, **settings)

    def by_trainer(batch_size: int, posterior: str = "bn", **settings):
        return lambda: train_with_trainer(
            setting,
            posterior,
            folder,
            per_device_train_batch_size=batch_size,
            after=lambda model: PRIORS.setdefault("ddp", fitted_prior(model)),
            **settings,
        )

    def unsynchronised():
        with alone():
            return by_hand(EVEN)()

    def networks_apart():
        with mock.patch.object(auxiliary, "num_processes", lambda: 1):
            return by_trainer(16, **AUXILIARY)()

    with alone():
        free_bits = {head: setting.free_bits(head) for head in ("bn", "bn_rms", "bn_mean")}
    cases = {
        f"{head} {first} {bool(bits)}": by_hand(first, head, free_bits=bits)
        for head in free_bits
        for first in (EVEN, UNEVEN)
        for bits in (0.0, free_bits[head])
    }
    return cases | {
        "bn uneven chunks": by_hand(UNEVEN, chunk_size=8, checkpoint_chunks=True),
        "bn trainer": by_trainer(16),
        "bn trainer accumulating": by_trainer(4, gradient_accumulation_steps=4),
        "bn trainer auxiliary": by_trainer(4, gradient_accumulation_steps=4, **AUXILIARY),
        "bn trainer tied auxiliary": by_trainer(4, gradient_accumulation_steps=4, **TIED),
        "bn networks apart": networks_apart,
        "unsynchronised": unsynchronised,
    }


def fsdp_cases(setting: Setting, folder: str) -> dict[str, Callable[[], dict[str, torch.Tensor]]]:
    def by_hand(first: int, **settings):
        return lambda: train_by_hand(setting, "bn", share=share(first), wrap=shard, **settings)

    def by_trainer(batch_size: int, **settings):
        def pretend_an_accelerator():
            # Accelerate has FSDP for accelerators only. This makes Accelerate take gloo on the CPU for an accelerator.
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU

        def train():
            kinds = []
            found = train_with_trainer(
                setting,
                "bn",
                folder,
                per_device_train_batch_size=batch_size,
                fsdp="full_shard",
                fsdp_config={"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"},
                before=pretend_an_accelerator,
                after=lambda model: PRIORS.setdefault("fsdp", fitted_prior(model)),
                look_at=kinds.append,
                **settings,
            )
            assert isinstance(kinds[0], FSDPModule)
            return found

        return train

    return {
        "bn even": by_hand(EVEN),
        "bn uneven": by_hand(UNEVEN),
        # 20 sentences need three chunks and 12 need two. Both processes run three, since sharded layers run in step.
        "bn uneven chunks": by_hand(UNEVEN, chunk_size=8, checkpoint_chunks=True),
        "bn trainer": by_trainer(16),
        "bn trainer accumulating": by_trainer(4, gradient_accumulation_steps=4),
        "bn trainer auxiliary": by_trainer(16, **AUXILIARY),
        "bn trainer tied auxiliary": by_trainer(16, **TIED),
    }


def population(setting: Setting) -> dict[str, torch.Tensor]:
    """The statistics that two processes recompute from uneven shares of the data."""
    model = setting.model("bn_rms")
    start, stop = (0, 70) if dist.get_rank() == 0 else (70, 96)
    batches = [setting.batch(first, min(first + 16, stop)) for first in range(start, stop, 16)]
    recalibrate_posterior(model, batches)
    return {name: buffer for name, buffer in model.posterior.named_buffers() if "running" in name}


def prior_of_shares(setting: Setting) -> dict[str, torch.Tensor]:
    """The prior that two processes fit to uneven shares of the data."""
    model = setting.model("gaussian")
    start, stop = (0, 70) if dist.get_rank() == 0 else (70, 96)
    fit_prior(model, [setting.batch(first, min(first + 16, stop)) for first in range(start, stop, 16)])
    return fitted_prior(model)


def noise_of_all() -> dict[str, torch.Tensor]:
    """The noise of one posterior batch whose sentences both processes share, three and five."""
    sizes = (3, 5)
    gathered = [None, None]
    dist.all_gather_object(gathered, posterior_noise(sizes[dist.get_rank()], 2, seed=7, step=11))
    return {"noise": torch.cat(gathered)}


def main(folder: str) -> None:
    torch.set_num_threads(1)
    PartialState(cpu=True)
    setting = Setting()
    found = {f"ddp {name}": run() for name, run in ddp_cases(setting, folder).items()}
    conditional = Setting(is_conditional=True)
    for first in (EVEN, UNEVEN):
        cut = {"share": share(first), "wrap": DistributedDataParallel, "chunk_size": 8}
        found[f"ddp conditional {first}"] = train_by_hand(conditional, "bn", **cut)
    found["population"] = population(setting)
    found["fitted prior"] = prior_of_shares(setting)
    found["noise"] = noise_of_all()
    # Last: they make Accelerate believe that there is an accelerator.
    found |= {f"fsdp {name}": run() for name, run in fsdp_cases(setting, folder).items()}
    found |= {f"prior {way}": prior for way, prior in PRIORS.items()}
    if dist.get_rank() == 0:
        torch.save(found, Path(folder, "found.pt"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
