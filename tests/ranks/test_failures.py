"""A rank that fails, hangs or differs: every rank that lives says which, and none waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.ranks.launching import launch

pytestmark = pytest.mark.ranks


def test_an_exception_on_one_rank_is_told_to_the_other(tmp_path: Path) -> None:
    run = launch(tmp_path, "--do", "raise@1@5")
    assert run.status != 0
    assert run.told(1)["problem"] == "RuntimeError: a callback of this rank alone"
    # Rank 0 raises if it comes to a boundary; in a collective, which cannot be left, it still says why it will end.
    assert (
        "rank 1 has failed: an exception ended its fit" in (tmp_path / "run.logs" / "workerlog.0").read_text()
    )


def test_a_rank_that_hangs_is_named_after_the_time_limit(tmp_path: Path) -> None:
    run = launch(tmp_path, "--do", "hang@1@3", seconds=4)
    assert run.status != 0
    assert "rank 1 did not come to" in run.told(0)["problem"]
    assert "at the save of step 3" in run.told(0)["problem"]


def test_a_parameter_that_one_rank_moved_alone_is_named_at_the_next_save(tmp_path: Path) -> None:
    run = launch(tmp_path, "--do", "nudge@1@4")
    assert run.status != 0
    for rank in range(2):
        problem = run.told(rank)["problem"]
        assert problem.startswith("RankError: the parameters are not the same on all ranks")
        assert "head.weight, at the save of step 6" in problem
    assert run.checkpoints() == ["step-00000003"]


def test_a_full_disk_of_rank_0_ends_every_rank(tmp_path: Path) -> None:
    run = launch(tmp_path, "--do", "fill disk@0@4", "--pause", "0.1")
    assert run.status != 0
    for rank in range(2):  # each finds out by itself, or is told by the one that was sooner
        assert "CheckpointWriteError: a checkpoint" in run.told(rank)["problem"]
    assert "No space left on device" in run.output()
    latest = CheckpointStore(tmp_path / "run").latest_verified()
    assert latest is not None
    assert latest.name == "step-00000003"


def test_a_run_directory_that_another_process_writes_to_ends_every_rank(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path / "run").lock():
        run = launch(tmp_path)
    assert run.status != 0
    assert run.told(0)["problem"].startswith("RunDirectoryBusyError")
    assert "rank 0 has failed: RunDirectoryBusyError" in run.told(1)["problem"]


def test_saves_by_the_clock_fall_on_one_step_of_all_ranks(tmp_path: Path) -> None:
    run = launch(tmp_path, "--save", "seconds", "--pause", "0.1")
    assert run.status == 0, run.output()
    events = run.told(0)["events"]
    assert len(events) >= 3
    assert [name for name in events[:-1] if "epoch" not in name]
