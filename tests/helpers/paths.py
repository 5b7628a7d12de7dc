"""Where things lie in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hf_bnvae"
SCRIPTS = ROOT / "scripts"
HELPERS = ROOT / "tests" / "helpers"
