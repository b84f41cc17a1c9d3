"""The selection of cells holds every allowed pair, and no forbidden one."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from tests.exact_resume.cells import CORE, FACTORS, FORBIDDEN, MATRIX
from tests.exact_resume.pairwise import all_pairs, pairs


def test_every_allowed_pair_is_in_some_cell() -> None:
    rows = [asdict(cell) for cell in MATRIX]
    missing = [
        (one, value, other, other_value)
        for one, value, other, other_value in pairs(FACTORS, FORBIDDEN)
        if not any(row[one] == value and row[other] == other_value for row in rows)
    ]
    assert not missing


def test_no_cell_is_forbidden_and_the_selection_is_small() -> None:
    for cell in (*MATRIX, *CORE):
        assert not any(rule.items() <= asdict(cell).items() for rule in FORBIDDEN), cell
        assert all(value in FACTORS[factor] for factor, value in asdict(cell).items()), cell
    everything = 1
    for values in FACTORS.values():
        everything *= len(values)
    assert len(MATRIX) < 50 < everything


def test_the_core_has_each_kill_each_kind_of_data_and_each_optimizer() -> None:
    for factor in (
        "kill",
        "data",
        "optimizer",
        "lr",
        "loading",
        "layer",
        "accumulate",
        "amp",
        "extra",
        "stages",
        "save",
    ):
        assert {asdict(cell)[factor] for cell in CORE} == set(FACTORS[factor]), factor


def test_a_pair_that_no_row_can_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="no value of c"):
        all_pairs({"a": (1,), "b": (1,), "c": (1, 2)}, [{"a": 1, "c": 1}, {"b": 1, "c": 2}])
