"""Runs that go on with another number of ranks: exact state, and every sample of the epoch once."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.hapi.training_state import saved_accumulators
from tests.exact_resume.training_script import sample
from tests.ranks.launching import Run, differences, launch

pytestmark = pytest.mark.ranks

SAMPLES = 60
ARGUMENTS = ("--samples", str(SAMPLES), "--epochs", "2")
EVERY = Counter(float(sample(index, False)[0][0]).hex() for index in range(SAMPLES))


def stopped_in_the_first_epoch(out: Path, ranks: int, name: str, *arguments: str) -> Run:
    run = launch(out, *ARGUMENTS, *arguments, "--do", "term@0@2", "--pause", "0.05", name=name, ranks=ranks)
    told = run.told(0)
    assert told["preempted_by"] == "SIGTERM", run.output()
    assert 2 <= told["steps"] <= 5
    return run


def trained_on(run: Run, first: int = 0, steps: int | None = None) -> Counter[str]:
    """Count the samples of the run's steps over all ranks."""
    seen: Counter[str] = Counter()
    for rank in range(run.ranks):
        for batch in run.samples(rank)[first : None if steps is None else first + steps]:
            seen.update(batch)
    return seen


def require_the_checkpoints_tensors(run: Run, checkpoint: Checkpoint) -> None:
    model = checkpoint.read_model()
    saved = saved_accumulators(checkpoint.read_optimizer(), checkpoint.read_state())
    assert saved
    for rank in range(run.ranks):
        start = run.start(rank)
        for name, array in model.items():
            if "norm._" not in name:  # statistics are each rank's own
                assert start[f"parameter {name}"].tobytes() == array.tobytes(), (rank, name)
        by_name = {tuple(name.split(" ")[1:]): a for name, a in start.items() if name.startswith("optimizer")}
        for (name, kind), array in saved.items():
            assert by_name[name, kind].tobytes() == array.tobytes(), (rank, name, kind)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
def test_state_is_exact_and_every_sample_of_the_epoch_is_trained_on_once(
    tmp_path: Path, before: int, after: int
) -> None:
    stopped = stopped_in_the_first_epoch(tmp_path, before, "stopped")
    saved = tmp_path / "run" / "checkpoints" / stopped.checkpoints()[-1]
    kept = Checkpoint(shutil.copytree(saved, tmp_path / saved.name))
    rerun = launch(tmp_path, *ARGUMENTS, ranks=after)
    assert rerun.status == 0, rerun.output()

    require_the_checkpoints_tensors(rerun, kept)
    in_epoch = [key for key in rerun.steps(0) if key.startswith("train 0")]
    whole = trained_on(stopped) + trained_on(rerun, 0, len(in_epoch))
    assert set(whole) == set(EVERY)
    # where what is left is not divisible, Paddle's sampler repeats some of it
    assert 0 <= sum((whole - EVERY).values()) < after * 2
    later = trained_on(rerun, len(in_epoch))
    assert set(later) == set(EVERY)
    assert in_epoch[-1].split()[2] == str(-(-SAMPLES // (2 * after)) - 1)

    for rank in range(1, after):
        assert rerun.digests(rank) == rerun.digests(0)
    for rank in range(after):
        notes = "\n".join(rerun.told(rank)["report"]["notes"])
        assert (
            f"{before} ranks when saved, {after} now: parameters, optimizer state and schedule are exact"
            in notes
        )
        assert f"{sum(trained_on(stopped).values())} of {SAMPLES} samples were done, over all ranks" in notes
        assert f"{2 * after} samples a step where there were {2 * before}" in notes


def test_an_epoch_can_be_dealt_twice(tmp_path: Path) -> None:
    first = stopped_in_the_first_epoch(tmp_path, 2, "first")
    second = stopped_in_the_first_epoch(tmp_path, 4, "second")
    last = launch(tmp_path, *ARGUMENTS, ranks=1)
    assert last.status == 0, last.output()
    in_epoch = [key for key in last.steps(0) if key.startswith("train 0")]
    whole = trained_on(first) + trained_on(second) + trained_on(last, 0, len(in_epoch))
    assert set(whole) == set(EVERY)
    assert sum((whole - EVERY).values()) < 4


def test_the_rest_of_an_epoch_dealt_anew_resumes_to_the_bit(tmp_path: Path) -> None:
    stopped_in_the_first_epoch(tmp_path / "control", 1, "first")
    shutil.copytree(tmp_path / "control", tmp_path / "again")
    control = launch(tmp_path / "control", *ARGUMENTS)
    killed = stopped_in_the_first_epoch(tmp_path / "again", 2, "killed")
    rerun = launch(tmp_path / "again", *ARGUMENTS)
    assert rerun.status == 0, rerun.output()
    assert any(key.startswith("train 0") for key in rerun.steps(0))
    assert differences(control, killed, rerun) == []
