# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Checks of the two fields of a model card that a user sets."""

import re


def check_card_fields(license: str | None, language: str | None) -> None:
    """
    Check the spelling of a license and of a language.

    Raises:
        ValueError: for a value that the Hub would refuse.
    """
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise ValueError(f"license must be spelt as on the Hub (apache-2.0, mit, cc-by-4.0, other), got {license!r}.")
    if language is not None and not re.fullmatch(r"[a-z]{2,3}|multilingual|code", language):
        raise ValueError(f"language must be an ISO 639 code (en, de, ...) or 'multilingual', got {language!r}.")
