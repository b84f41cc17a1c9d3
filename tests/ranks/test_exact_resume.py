"""Runs of several ranks, killed in many ways in the middle of an epoch, end in the bits of the uninterrupted run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.ranks.launching import Run, differences, launch

pytestmark = pytest.mark.ranks

# Statistics, dropout and augmentation are each rank's own; a stage begins in each epoch.
ARGUMENTS = ("--augmented", "--evaluate", "--stages", "head;norm|head;.*")


@pytest.fixture(scope="module", params=[2, 4])
def control(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = launch(tmp_path_factory.mktemp("control"), *ARGUMENTS, ranks=request.param)
    assert run.status == 0, run.output()
    return run


def test_the_ranks_differ_where_they_should(control: Run) -> None:
    one, other = control.final(0), control.final(control.ranks - 1)
    differing = {name for name in one if one[name].tobytes() != other[name].tobytes()}
    assert {"parameter norm._mean", "next draws paddle", "next draws numpy"} <= differing
    assert not {name for name in differing if name.startswith("parameter") and "norm._" not in name}


def test_one_rank_is_killed(control: Run, tmp_path: Path) -> None:
    killed = launch(tmp_path, *ARGUMENTS, "--do", "kill@1@10", name="killed", ranks=control.ranks)
    assert killed.status != 0
    assert "step-00000009" in killed.checkpoints()
    rerun = launch(tmp_path, *ARGUMENTS, ranks=control.ranks)
    assert rerun.status == 0, rerun.output()
    told = [rerun.told(rank)["report"]["resumed_from"] for rank in range(control.ranks)]
    assert told == ["step-00000009"] * control.ranks
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
    stopped = launch(tmp_path, *ARGUMENTS, "--do", do, "--pause", "0.05", name="stopped", ranks=control.ranks)
    assert stopped.status in (status, -signal.SIGTERM), stopped.output()
    told = [stopped.told(rank) for rank in range(control.ranks)]
    assert {rank["preempted_by"] for rank in told} == {"SIGTERM"}
    assert len({rank["steps"] for rank in told}) == 1
    assert told[0]["steps"] >= 9
    assert stopped.checkpoints()[-1] == f"step-{told[0]['steps']:08d}"
    rerun = launch(tmp_path, *ARGUMENTS, ranks=control.ranks)
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
    killed = launch(tmp_path, *ARGUMENTS, "--do", "kill@1@10", name="killed", ranks=control.ranks)
    rerun = launch(tmp_path, *ARGUMENTS, "--forget-ranks", ranks=control.ranks)
    assert rerun.status == 0, rerun.output()
    found = differences(control, killed, rerun)
    assert any(line.startswith("rank 1, run, train") for line in found)
