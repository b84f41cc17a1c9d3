"""Stages on several ranks: gradients are averaged at every stage, beside a control in which they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks.launching import Run, launch

pytestmark = pytest.mark.ranks

STAGES = ("--stages", "head;norm|head;.*", "--save", "none")


def same_parameters(run: Run) -> list[bool]:
    """Return for each epoch whether all ranks ended it with the same parameters."""
    by_rank = [run.digests(rank) for rank in range(run.ranks)]
    assert {len(digests) for digests in by_rank} == {3}
    return [all(digests[epoch] == by_rank[0][epoch] for digests in by_rank) for epoch in range(3)]


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("unused", [(), ("--unused",)])
def test_parameters_are_the_same_on_all_ranks_after_every_stage(
    tmp_path: Path, ranks: int, unused: tuple[str, ...]
) -> None:
    run = launch(tmp_path, *STAGES, *unused, ranks=ranks)
    assert run.status == 0, run.output()
    assert same_parameters(run) == [True, True, True]
    moved = [
        {name for name in after if name != "epoch" and after[name] != before[name]}
        for before, after in zip(run.digests(0), run.digests(0)[1:])
    ]
    assert moved[0] == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert {"backbone.weight", "head.weight"} <= moved[1]


def test_without_a_new_reducer_the_ranks_drift_apart(tmp_path: Path) -> None:
    # The first stage is as DataParallel found the network, so that it is the thawing that goes wrong.
    stages = ("--frozen-first", "--stages", "head;norm|head;norm|head|backbone", "--save", "none")
    control = launch(tmp_path / "control", *stages, "--no-averaging", "--no-comparison")
    assert control.status == 0, control.output()
    assert same_parameters(control) == [True, False, False]
    run = launch(tmp_path / "run", *stages)
    assert run.status == 0, run.output()
    assert same_parameters(run) == [True, True, True]


def test_ranks_that_drift_apart_are_found_at_the_next_stage(tmp_path: Path) -> None:
    stages = ("--frozen-first", "--stages", "head;norm|head;norm|head|backbone", "--save", "none")
    run = launch(tmp_path, *stages, "--no-averaging")
    assert run.status != 0
    for rank in range(2):
        problem = run.told(rank)["problem"]
        assert problem.startswith("RankError: the parameters are not the same on all ranks")
        assert "as stage 2 begins" in problem
        assert "norm.weight" in problem
