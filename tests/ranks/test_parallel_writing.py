"""Checkpoints that all ranks write side by side: the same state, whole or not at all, for any number of readers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.cli.main import main
from tests.checkpoint.samples import same
from tests.ranks.launching import Run, differences, launch
from tests.ranks.test_other_number_of_ranks import require_the_checkpoints_tensors, stopped_in_the_first_epoch

pytestmark = pytest.mark.ranks

ARGUMENTS = ("--augmented", "--stages", "head;norm|head;.*")
SHARDS = ("--layout", "shards")


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run, written by rank 0 alone."""
    run = launch(tmp_path_factory.mktemp("control"), *ARGUMENTS)
    assert run.status == 0, run.output()
    return run


def checkpoints(run: Run) -> list[Checkpoint]:
    found = CheckpointStore(run.out / "run").list()
    for checkpoint in found:
        checkpoint.verify()
    return found


def shards_of(checkpoint: Checkpoint) -> list[str]:
    return [name for name in checkpoint.manifest.files if name.startswith("shard-")]


def held(checkpoint: Checkpoint) -> list[Any]:
    """Return all tensors, each with its name."""
    return [checkpoint.read_model(), checkpoint.read_optimizer(), checkpoint.read_extra()]


def test_it_is_the_state_that_rank_0_alone_writes(control: Run, tmp_path: Path) -> None:
    run = launch(tmp_path, *ARGUMENTS, *SHARDS)
    assert run.status == 0, run.output()
    assert differences(control, run) == []
    ours, theirs = checkpoints(run), checkpoints(control)
    assert [checkpoint.name for checkpoint in ours] == [checkpoint.name for checkpoint in theirs]
    for one, other in zip(ours, theirs):
        assert same(held(one), held(other))
        assert len(shards_of(one)) >= 2 > len(shards_of(other))
    for either in (run, control):
        assert either.told(0)["events"] == either.told(1)["events"] != []

    with pytest.raises(SystemExit, match="0"):
        main(["export", ours[-1].path, str(tmp_path / "plain.pdparams")])
    exported = paddle.load(str(tmp_path / "plain.pdparams"), return_numpy=True)
    exported.pop("StructuredToParameterName@@", None)
    assert same(dict(sorted(exported.items())), dict(sorted(theirs[-1].read_model().items())))


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_while_it_writes_its_share_a_rank_leaves_no_checkpoint(
    control: Run, tmp_path: Path, rank: int
) -> None:
    killed = launch(tmp_path, *ARGUMENTS, *SHARDS, "--do", f"kill writing@{rank}@7", name="killed")
    assert killed.status != 0
    assert killed.checkpoints()[-1] == "step-00000006"
    rerun = launch(tmp_path, *ARGUMENTS, *SHARDS)
    assert rerun.status == 0, rerun.output()
    assert [rerun.told(each)["report"]["resumed_from"] for each in range(2)] == ["step-00000006"] * 2
    assert differences(control, killed, rerun) == []
    assert same(held(checkpoints(rerun)[-1]), held(checkpoints(control)[-1]))
    assert not list((tmp_path / "run" / "checkpoints").glob(".staging-*"))


def test_a_full_disk_of_one_rank_ends_every_rank_and_names_it(tmp_path: Path) -> None:
    run = launch(tmp_path, *SHARDS, "--do", "fill disk@1@4", "--pause", "0.1")
    assert run.status != 0
    for rank in range(2):
        problem = run.told(rank)["problem"]
        assert "rank 1 could not write its share of a checkpoint: OSError" in problem, problem
        assert "No space left on device" in problem
    latest = CheckpointStore(tmp_path / "run").latest_verified()
    assert latest is not None
    assert latest.name == "step-00000003"


def test_a_rank_that_hangs_in_its_share_is_named_after_the_time_limit(tmp_path: Path) -> None:
    run = launch(tmp_path, *SHARDS, "--do", "hang writing@1@4", seconds=4)
    assert run.status != 0
    assert "rank 1 did not come to" in run.output()
    assert run.checkpoints() == ["step-00000003"]


def test_a_rank_on_another_file_system_writes_nothing(tmp_path: Path) -> None:
    run = launch(tmp_path, *SHARDS, "--no-read")
    assert run.status == 0, run.output()
    assert "rank 1 cannot write to rank 0's run directory" in run.output()
    assert "rank 0 writes alone" in run.output()
    assert not (tmp_path / "other-1").exists()
    assert run.told(1)["events"] == run.told(0)["events"] != []
    assert len(shards_of(checkpoints(run)[0])) == 1


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4)])
def test_any_number_of_ranks_reads_it(tmp_path: Path, before: int, after: int) -> None:
    stopped = stopped_in_the_first_epoch(tmp_path, before, "stopped", *SHARDS)
    checkpoint = checkpoints(stopped)[-1]
    assert len(shards_of(checkpoint)) == before
    kept = Checkpoint(shutil.copytree(checkpoint.path, tmp_path / checkpoint.name))
    rerun = launch(tmp_path, "--samples", "60", "--epochs", "2", *SHARDS, ranks=after)
    assert rerun.status == 0, rerun.output()
    require_the_checkpoints_tensors(rerun, kept)
