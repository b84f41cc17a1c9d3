"""With rank_throughput=True rank 0's log tells which rank keeps the others waiting for its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ranks.launching import launch

pytestmark = pytest.mark.ranks


def test_the_rank_whose_data_is_slow_shows(tmp_path: Path) -> None:
    run = launch(tmp_path, "--slow-data", "1", "--epochs", "2")
    assert run.status == 0, run.output()
    lines = (tmp_path / "vdl" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    curves: dict[str, dict[int, float]] = {}
    for record in map(json.loads, lines):
        curves.setdefault(record["tag"], {})[record["step"]] = record["value"]
    waits = [curves[f"throughput/rank_{rank}/data_wait_share"] for rank in range(2)]
    steps = sorted(curves["train/loss"])
    assert [sorted(wait) for wait in waits] == [steps, steps]
    assert waits[0] == curves["throughput/data_wait_share"]
    # The first batches of an epoch are read ahead of training.
    other, slow = (sorted(wait.values())[len(steps) // 2] for wait in waits)
    assert slow > 2 * other
    assert "throughput/rank_2/data_wait_share" not in curves
