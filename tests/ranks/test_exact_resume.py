"""Runs of several ranks, killed in many ways in the middle of an epoch, end in the bits of the uninterrupted run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.ranks.launching import Run, differences, launch

pytestmark = pytest.mark.ranks

# Statistics, dropout and augmentation are each rank's own; a stage begins in each epoch.
ARGUMENTS = ("--augmented", "--evaluate", "--stages", "head;norm|head;.*")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = launch(tmp_path_factory.mktemp("control"), *ARGUMENTS)
    assert run.status == 0, run.output()
    return run


def test_the_ranks_differ_where_they_should(control: Run) -> None:
    one, other = control.final(0), control.final(1)
    differing = {name for name in one if one[name].tobytes() != other[name].tobytes()}
    assert {"parameter norm._mean", "next draws paddle", "next draws numpy"} <= differing
    assert not {name for name in differing if name.startswith("parameter") and "norm._" not in name}


def test_one_rank_is_killed(control: Run, tmp_path: Path) -> None:
    killed = launch(tmp_path, *ARGUMENTS, "--do", "kill@1@10", name="killed")
    assert killed.status != 0
    assert "step-00000009" in killed.checkpoints()
    rerun = launch(tmp_path, *ARGUMENTS)
    assert rerun.status == 0, rerun.output()
    assert (
        rerun.told(0)["report"]["resumed_from"] == rerun.told(1)["report"]["resumed_from"] == "step-00000009"
    )
    assert differences(control, killed, rerun) == []


@pytest.mark.parametrize(
    ("do", "status"),
    [
        ("term@1@9", 0),  # one rank is told, all stop
        ("term all@0@9", 128 + signal.SIGTERM),
        ("term launcher@0@9", 128 + signal.SIGTERM),
        ("kill launcher@0@9", -signal.SIGKILL),
    ],
)
def test_a_preempted_run_stops_at_one_step_of_all_ranks(
    control: Run, tmp_path: Path, do: str, status: int
) -> None:
    stopped = launch(tmp_path, *ARGUMENTS, "--do", do, "--pause", "0.05", name="stopped")
    assert stopped.status in (status, -signal.SIGTERM), stopped.output()
    told = [stopped.told(rank) for rank in range(2)]
    assert [rank["preempted_by"] for rank in told] == ["SIGTERM", "SIGTERM"]
    assert told[0]["steps"] == told[1]["steps"] >= 9
    assert stopped.checkpoints()[-1] == f"step-{told[0]['steps']:08d}"
    rerun = launch(tmp_path, *ARGUMENTS)
    assert rerun.status == 0, rerun.output()
    # nothing was lost, and nothing done twice
    assert not set(stopped.steps(0)) & set(rerun.steps(0))
    assert differences(control, stopped, rerun) == []


def test_workers_and_another_file_system_on_each_rank(tmp_path: Path) -> None:
    arguments = ("--augmented", "--workers", "2", "--no-read")
    control = launch(tmp_path / "control", *arguments)
    killed = launch(tmp_path / "killed", *arguments, "--do", "kill@0@10", name="killed")
    rerun = launch(tmp_path / "killed", *arguments)
    assert rerun.status == 0, rerun.output()
    assert not (tmp_path / "killed" / "other-1" / "checkpoints").exists()
    assert rerun.told(1)["report"]["kind"] == "resume"
    assert differences(control, killed, rerun) == []


def test_with_rank_0s_state_on_all_ranks_the_rest_of_the_run_is_another(control: Run, tmp_path: Path) -> None:
    killed = launch(tmp_path, *ARGUMENTS, "--do", "kill@1@10", name="killed")
    rerun = launch(tmp_path, *ARGUMENTS, "--forget-ranks")
    assert rerun.status == 0, rerun.output()
    found = differences(control, killed, rerun)
    assert any(line.startswith("rank 1, run, train 1") for line in found)
