"""The harness itself: it finds equal what is equal, and different what is different."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exact_resume.cells import CORE, Cell
from tests.exact_resume.harness import (
    FreshInterpreters,
    TrainingServer,
    compare,
    differing_arrays,
    rerun,
    run_control,
    run_killed,
)


@pytest.mark.parametrize("cell", CORE, ids=lambda cell: cell.name)
def test_an_uninterrupted_run_equals_itself(cell: Cell, server: TrainingServer, tmp_path: Path) -> None:
    one = run_control(server, cell, tmp_path / "one")
    other = run_control(server, cell, tmp_path / "other")
    assert one.steps() == other.steps()
    assert len(one.steps()) > cell.steps_per_epoch
    assert not differing_arrays(one.final(), other.final())


def test_a_forked_run_equals_one_in_a_fresh_interpreter(server: TrainingServer, tmp_path: Path) -> None:
    forked = run_control(server, Cell(loading="augmented"), tmp_path / "forked")
    fresh = run_control(FreshInterpreters(), Cell(loading="augmented"), tmp_path / "fresh")
    assert forked.steps() == fresh.steps()
    assert not differing_arrays(forked.final(), fresh.final())


def test_the_resume_that_paddle_offers_is_found_different(server: TrainingServer, tmp_path: Path) -> None:
    cell = Cell(kill="mid-epoch")
    control = run_control(server, cell, tmp_path / "control")
    killed = run_killed(server, cell, tmp_path / "killed", "naive")
    again = rerun(server, killed)
    differences = compare(control, killed, again).differences
    assert any("parameter" in difference for difference in differences)
    assert any("optimizer" in difference for difference in differences)


def test_a_rerun_without_any_resume_is_seen_to_start_over(server: TrainingServer, tmp_path: Path) -> None:
    cell = Cell(kill="mid-epoch")
    killed = run_killed(server, cell, tmp_path, "nothing")
    assert list(killed.steps())[-1] == "train 1 3"
    control = run_control(server, cell, tmp_path / "control")
    assert compare(control, killed, rerun(server, killed)).resumed_at == (0, 0)


@pytest.mark.parametrize(
    "changed",
    [{"layer": "batch norm"}, {"optimizer": "Momentum"}, {"lr": "per step"}, {"extra": "num_iters=23"}],
    ids=lambda changed: "".join(changed),
)
def test_each_change_of_the_script_is_seen(
    changed: dict[str, Any], server: TrainingServer, tmp_path: Path
) -> None:
    one = run_control(server, Cell(), tmp_path / "one")
    other = run_control(server, replace(Cell(), **changed), tmp_path / "other")
    assert compare(one, other, other).differences


def test_arrays_differ_by_a_bit_a_dtype_a_shape_or_a_name() -> None:
    zero = {"w": np.zeros(2, np.float32)}
    assert not differing_arrays(zero, {"w": np.zeros(2, np.float32)})
    for other in (
        {"w": np.array([0.0, -0.0], np.float32)},
        {"w": np.zeros(2, np.float64)},
        {"w": np.zeros((1, 2), np.float32)},
        {"v": np.zeros(2, np.float32)},
    ):
        assert differing_arrays(zero, other)
