"""Every item of the saved state matters: left out, the resumed run is another one; put back, it is exact."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.exact_resume.cells import Cell
from tests.exact_resume.harness import TrainingServer, compare, rerun, run_control, run_killed
from tests.exact_resume.leave_out import ITEMS

PADDLE_26 = version("paddlepaddle").startswith("2.6")
CONTROL = "ours" if PADDLE_26 else "nothing"

# For each item a script that it matters to.
CELLS = {
    "Paddle's generator": Cell(),
    "host generators": Cell(data="loader"),
    "sampler": Cell(),
    "worker generators": Cell(loading="augmented in 2 workers"),
    "learning rate": Cell(lr="per step"),
    "metrics": Cell(),
    "logs": Cell(),
    "callbacks": Cell(extra="EarlyStopping"),
    "which parameters have a gradient": Cell(optimizer="Momentum", kill="last step"),
    "accumulators": Cell(),
    "buffers that are not persistable": Cell(),
}


def test_there_is_a_script_for_each_item() -> None:
    assert CELLS.keys() == set(ITEMS)


@pytest.mark.parametrize("item", ITEMS)
def test_left_out_it_makes_a_difference(item: str, server: TrainingServer, tmp_path: Path) -> None:
    if item == "Paddle's generator" and PADDLE_26:
        pytest.skip("Paddle 2.6 cannot save its generator; it is seeded at each step instead")
    cell = CELLS[item]
    control = run_control(server, cell, tmp_path / "control", CONTROL)

    whole = run_killed(server, cell, tmp_path / "whole", "ours")
    assert not compare(control, whole, rerun(server, whole)).differences

    partial = run_killed(server, cell, tmp_path / "partial", "ours")
    found = compare(control, partial, rerun(server, partial, leave_out=item))
    assert found.resumed_at is not None
    assert found.resumed_at > (0, 0)
    assert found.differences
