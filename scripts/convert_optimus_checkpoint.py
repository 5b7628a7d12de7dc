#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Convert a checkpoint of the original Optimus (2020) to a BNVAE folder.

    convert_optimus_checkpoint.py --checkpoint_path checkpoint-31250 --output_dir optimus-snli \\
        --encoder_tokenizer google-bert/bert-base-cased --decoder_tokenizer openai-community/gpt2

The folder holds checkpoint-encoder-<step>, checkpoint-decoder-<step> and checkpoint-full-<step>, or one or several
folders checkpoint-<step> of these. Pickles are read with safe loading: nothing in them is run.
"""

import argparse
from typing import get_args

from hf_bnvae.interop.optimus.checkpoint import Weights
from hf_bnvae.interop.optimus.convert import Injection, convert_optimus_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint_path", required=True, help="Folder of the checkpoint, or of several.")
    parser.add_argument("--output_dir", required=True, help="Folder to write, new or empty.")
    parser.add_argument("--step", type=int, help="Which of several checkpoints.")
    parser.add_argument(
        "--encoder_tokenizer", help="Hub name or folder; without tokenizers the model alone is written."
    )
    parser.add_argument("--decoder_tokenizer", help="Hub name or folder; <PAD>, <BOS> and <EOS> are added to it.")
    parser.add_argument(
        "--latent_injection",
        choices=get_args(Injection),
        help="How the latent enters the decoder, whatever the checkpoint says (as trained, both if it does not say).",
    )
    parser.add_argument(
        "--weights",
        choices=get_args(Weights),
        help="The full checkpoint's weights, or those of its encoder and decoder by themselves (full if it is there).",
    )
    args = parser.parse_args()
    try:
        convert_optimus_checkpoint(**vars(args))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"Written to {args.output_dir}.")


if __name__ == "__main__":
    main()
