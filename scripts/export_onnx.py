#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Write the encoder side of a saved BN-VAE, text to the mean of its posterior, as an ONNX graph with its tokenizer."""

import argparse

from hf_bnvae.jobs.saved_model import load_saved_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_name_or_path", required=True, help="A BNVAE, a Hub name or a folder.")
    parser.add_argument("--output_dir", required=True, help="A folder that is empty or does not exist yet.")
    parser.add_argument("--revision", default="main", help="Branch, tag or commit on the Hub.")
    parser.add_argument("--token", help="Token for private repositories of the Hub.")
    parser.add_argument("--trust_remote_code", action="store_true", help="Allow code from the Hub.")
    args = parser.parse_args()
    try:
        from hf_bnvae.interop.onnx_export import export_encoder_side

        model = load_saved_model(
            args.model_name_or_path, args.revision, args.token, args.trust_remote_code, device="cpu"
        )
        file = export_encoder_side(model, args.output_dir)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"Written to {file}, with its tokenizer beside it.")


if __name__ == "__main__":
    main()
