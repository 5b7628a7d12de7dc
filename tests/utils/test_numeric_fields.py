"""Numbers in settings: every field of every dataclass of options refuses what it cannot hold, by its name."""

import math
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_bnvae import BNVAETrainingArguments
from hf_bnvae.jobs.arguments import DataArguments, ModelArguments, ReportArguments
from hf_bnvae.jobs.evaluation_arguments import EvaluationArguments
from hf_bnvae.utils.numeric_fields import require_numbers


def numeric_fields(kind: type) -> dict[str, set[type]]:
    """The fields of a dataclass that hold numbers only, and the types of these numbers."""
    hints = get_type_hints(kind)
    types = {own.name: set(get_args(hints[own.name]) or (hints[own.name],)) for own in fields(kind) if own.init}
    return {name: found & {int, float} for name, found in types.items() if found & {int, float}}


KINDS = (BNVAETrainingArguments, ModelArguments, DataArguments, ReportArguments, EvaluationArguments)
# What a settings class needs in any case.
NEEDED = {
    BNVAETrainingArguments: {"output_dir": "out", "use_cpu": True},
    EvaluationArguments: {"model_name_or_path": "model"},
}
CASES = [(kind, name, float in types) for kind in KINDS for name, types in numeric_fields(kind).items()]
odd_numbers = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 1e-45, -1e308, True, "1", "x", [1]])


def build(kind: type, values: dict):
    return kind(**NEEDED.get(kind, {}), **values)


@given(case=st.sampled_from(CASES), value=odd_numbers)
def test_every_field_refuses_numbers_that_it_cannot_hold(case, value):
    kind, name, is_real = case
    with pytest.raises(ValueError, match=f"^{name} must be "):
        build(kind, {name: value})
    if not is_real:
        with pytest.raises(ValueError, match=f"^{name} must be a .*, got 2.5"):
            build(kind, {name: 2.5})


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_pass(kind):
    build(kind, {})


@pytest.mark.parametrize("numbers", [[2, 2.5], [True], ["10"], [None]])
def test_each_number_in_a_list_is_a_number(numbers):
    with pytest.raises(
        ValueError, match=f"Each number in labels_per_class must be a whole number, got {numbers[-1]!r}"
    ):
        build(EvaluationArguments, {"labels_per_class": numbers})
    with pytest.raises(ValueError, match="labels_per_class must be a list of numbers, got 10"):
        build(EvaluationArguments, {"labels_per_class": 10})
    assert build(EvaluationArguments, {"labels_per_class": [10, 20]}).labels_per_class == [10, 20]


def test_zero_small_and_large_numbers_pass():
    built = BNVAETrainingArguments("out", use_cpu=True, learning_rate=1e-30, weight_decay=0, beta=1e30, max_steps=5)
    assert require_numbers(built) is None
    with pytest.raises(ValueError, match=r"learning_rate must be 0 or lie between 1e-30 and 1e\+30 in size"):
        BNVAETrainingArguments("out", use_cpu=True, learning_rate=1e31)


@pytest.mark.parametrize("name", ["max_train_samples", "max_eval_samples", "preprocessing_num_workers"])
def test_counts_of_texts_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        DataArguments(**{name: 0})
