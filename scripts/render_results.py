#!/usr/bin/env python
# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Render the README's table of results from the folders of finished runs, and keep their figures beside the cards."""

import argparse
import json
from pathlib import Path

from hf_bnvae.results_table import collect_runs, update_readme

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="Output folders of scripts/run_bnvae.py, in the order of the rows.")
    args = parser.parse_args()
    runs = collect_runs(args.runs)
    (ROOT / "model_cards" / "results.json").write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(update_readme(readme.read_text(encoding="utf-8"), runs), encoding="utf-8")


if __name__ == "__main__":
    main()
