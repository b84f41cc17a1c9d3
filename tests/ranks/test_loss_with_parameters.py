"""A loss with parameters, which DataParallel knows nothing of: told of, found to differ, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks.launching import differences, launch

pytestmark = pytest.mark.ranks


def test_of_its_own_it_is_warned_of_and_named_when_ranks_differ(tmp_path: Path) -> None:
    run = launch(tmp_path, "--loss", "of its own")
    assert run.status != 0
    logs = [(tmp_path / "run.logs" / f"workerlog.{rank}").read_text() for rank in range(2)]
    assert "the loss has parameters of its own, loss@scale" in logs[0]
    assert "the loss has parameters of its own" not in logs[1]
    for rank in range(2):
        problem = run.told(rank)["problem"]
        assert problem.startswith("RankError: the parameters are not the same on all ranks")
        assert "loss@scale, at the save of step 3" in problem
        assert "Make them parameters of the network, and use them in its forward" in problem
    assert run.checkpoints() == []


def test_as_parameters_of_the_network_they_are_trained_alike_and_resume_to_the_bit(tmp_path: Path) -> None:
    arguments = ("--loss", "in the network", "--augmented")
    control = launch(tmp_path / "control", *arguments)
    assert control.status == 0, control.output()
    assert "the loss has parameters" not in control.output()
    assert control.digests(0) == control.digests(1)
    scales = [epoch["scale"] for epoch in control.digests(0)]
    assert len(set(scales)) == len(scales), "it moves"
    killed = launch(tmp_path / "run", *arguments, "--layout", "shards", "--do", "kill@1@10", name="killed")
    rerun = launch(tmp_path / "run", *arguments, "--layout", "shards")
    assert rerun.status == 0, rerun.output()
    assert differences(control, killed, rerun) == []
