"""One of several gloo processes, which test_evaluation_distributed.py starts: it evaluates together with the
others, and writes what it got."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiny
import torch
import torch.distributed as dist
from datasets import Dataset
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from hf_bnvae import BNVAEDataCollator, BNVAEModel, BNVAEProcessor
from hf_bnvae.evaluation import evaluate_model

SETTINGS = {"num_importance_samples": 10, "max_importance_sentences": 25, "num_self_bleu_samples": 20}
SETTINGS |= {"max_information_sentences": 45, "batch_size": 7, "show_progress": False}


def main(folder: str, model_folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    texts = tiny.make_texts(400)[:60]
    processor = BNVAEProcessor.from_pretrained(model_folder)
    model = BNVAEModel.from_pretrained(model_folder, dtype=torch.float64).double()
    tokenized = Dataset.from_dict(dict(processor(texts)))
    collator = BNVAEDataCollator(processor)
    wrapped = DistributedDataParallel(model)
    found = {
        "texts": evaluate_model(model, texts, processor, **SETTINGS),
        "stream": evaluate_model(
            wrapped, Dataset.from_dict({"text": texts}).to_iterable_dataset(), processor, **SETTINGS
        ),
        "tokenized": evaluate_model(model, tokenized, processor, **SETTINGS),
        "loader": evaluate_model(
            model, DataLoader(tokenized, batch_size=11, collate_fn=collator), processor, **SETTINGS
        ),
        # One batch for both: the second process has no batch.
        "one batch": evaluate_model(model, texts, processor, **{**SETTINGS, "batch_size": 60}),
    }
    found = {name: asdict(result) for name, result in found.items()}

    failures = {}
    shares_out = DataLoader(tokenized, batch_size=10, collate_fn=collator, sampler=DistributedSampler(tokenized))
    bad = [dict(batch) for batch in DataLoader(tokenized, batch_size=10, collate_fn=collator)]
    bad[1]["labels"][0, 0] = 70000  # in a batch of the second process
    for name, data in {
        "shared out": shares_out,
        "fewer": texts[: 60 - rank],
        "in part bad": bad,
        "one": texts[:1],
    }.items():
        try:
            evaluate_model(model, data, processor, **SETTINGS)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    Path(folder, f"{rank}.json").write_text(json.dumps({"found": found, "failures": failures}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
