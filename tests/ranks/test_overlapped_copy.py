"""Copies behind training on several ranks: each checkpoint is of one step, whichever rank has copied its tensors."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from tests.checkpoint.samples import same
from tests.ranks.launching import Run, differences, launch

pytestmark = pytest.mark.ranks

ARGUMENTS = ("--epochs", "1", "--save", "each", "--stages", "head|norm;.*")
SLOW = ("--slow-copies",)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run, whose copies are over before anything could change."""
    run = launch(tmp_path_factory.mktemp("control"), *ARGUMENTS, "--pause", "0.05")
    assert run.status == 0, run.output()
    return run


def wrong(run: Run, control: Run) -> list[str]:
    """Return the names of the checkpoints that do not hold what the control's of the same name does."""
    theirs = {checkpoint.name: checkpoint for checkpoint in CheckpointStore(control.out / "run").list()}
    ours = CheckpointStore(run.out / "run").list()
    assert ours
    return [
        checkpoint.name
        for checkpoint in ours
        if not same(checkpoint.read_model(), theirs[checkpoint.name].read_model())
        or not same(checkpoint.read_optimizer(), theirs[checkpoint.name].read_optimizer())
    ]


@pytest.mark.parametrize("layout", ["native", "shards"])
def test_training_and_checkpoints_are_as_without_overlap(control: Run, tmp_path: Path, layout: str) -> None:
    run = launch(tmp_path, *ARGUMENTS, *SLOW, "--layout", layout)
    assert run.status == 0, run.output()
    assert "changed in place" not in run.output()
    assert run.checkpoints() == control.checkpoints()
    assert wrong(run, control) == []
    assert differences(control, run) == []


@pytest.mark.parametrize("layout", ["native", "shards"])
def test_control_without_the_hold_back_checkpoints_are_of_no_one_step(
    control: Run, tmp_path: Path, layout: str
) -> None:
    run = launch(tmp_path, *ARGUMENTS, *SLOW, "--no-hold", "--layout", layout)
    assert run.status == 0, run.output()
    assert differences(control, run) == []
    assert len(wrong(run, control)) >= 3


@pytest.mark.parametrize(("layout", "rank"), [("native", 0), ("shards", 0), ("shards", 1)])
def test_a_copy_that_is_worthless_on_one_rank_is_saved_again_by_all(
    control: Run, tmp_path: Path, layout: str, rank: int
) -> None:
    do = ("--do", f"touch@{rank}@3", "--save", "steps", "--pause", "0.05")
    run = launch(tmp_path, *ARGUMENTS, *SLOW, *do, "--layout", layout)
    assert run.status == 0, run.output()
    assert "changed in place" in (tmp_path / "run.logs" / f"workerlog.{rank}").read_text()
    events = run.told(0)["events"]
    assert "step-00000003" not in events
    assert {"step-00000004", "step-00000005"} & set(events), events
    assert layout == "native" or run.told(1)["events"] == events
    assert wrong(run, control) == []
    assert differences(control, run) == []


@pytest.mark.parametrize(("layout", "rank"), [("native", 0), ("shards", 1)])
def test_what_was_worthless_at_the_very_end_is_saved_again(
    control: Run, tmp_path: Path, layout: str, rank: int
) -> None:
    """No boundary is to come there: it is agreed on at the end of fit."""
    run = launch(tmp_path, *ARGUMENTS, *SLOW, "--layout", layout, "--do", f"touch at the end@{rank}@0")
    assert run.status == 0, run.output()
    assert "changed in place" in (tmp_path / "run.logs" / f"workerlog.{rank}").read_text()
    assert wrong(run, control) == []
    assert run.checkpoints() == control.checkpoints()
