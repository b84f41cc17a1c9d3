"""What each rank copies of a run's tensors: all of it once, evenly, and the same as long as it can be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_warm_callbacks.hapi.shares import Shares
from paddle_warm_callbacks.hapi.staging import bytes_in
from tests.hapi.test_parallel import run

PARAMETERS = {f"p{n}": paddle.zeros([10 + 3 * n, 7]) for n in range(30)}
SLOTS = {f"moment of p{n}": paddle.zeros([10 + 3 * n, 7]) for n in range(30)}
OWN = {"statistics": paddle.zeros([50]), "gradient": paddle.zeros([5])}


def shares(tensors: dict[str, Any], writers: list[int], size: int) -> list[dict[str, Any]]:
    groups = [[n for n in PARAMETERS if n in tensors], [n for n in SLOTS if n in tensors]]
    return [Shares(rank, writers).mine(tensors, groups) for rank in range(size)]


@pytest.mark.parametrize(("writers", "size"), [([0, 1], 2), ([0, 1, 2, 3], 4), ([0, 2], 3)])
def test_each_tensor_is_one_ranks_and_the_bytes_are_even(writers: list[int], size: int) -> None:
    tensors = {**PARAMETERS, **SLOTS, **OWN}
    found = shares(tensors, writers, size)
    names = [name for share in found for name in share]
    assert sorted(names) == sorted(tensors)
    assert set(OWN) <= found[0].keys()
    sizes = [sum(map(bytes_in, share.values())) for share in found]
    assert [rank for rank, size in enumerate(sizes) if size] == writers
    written = [sizes[rank] for rank in writers]
    assert max(written) - min(written) <= max(map(bytes_in, tensors.values()))


def test_moments_that_come_move_no_parameter_to_another_rank() -> None:
    before = shares({**PARAMETERS, **OWN}, [0, 1, 2], 3)
    after = shares({**PARAMETERS, **SLOTS, **OWN}, [0, 1, 2], 3)
    for one, other in zip(before, after):
        assert one.keys() - OWN.keys() == other.keys() & PARAMETERS.keys()


def test_the_same_mapping_is_dealt_once_and_another_anew() -> None:
    groups = [list(PARAMETERS)]
    for rank in range(2):
        dealt = Shares(rank, [0, 1])
        before = dealt.mine(PARAMETERS, groups)
        assert dealt.mine(PARAMETERS, groups) is before, "so that what is copied is sorted once, too"
        after = dealt.mine({**PARAMETERS, **OWN}, groups)
        assert OWN.keys() & after.keys() == (set() if rank else OWN.keys())


def test_ranks_that_see_another_directory_are_told_of_and_write_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "paddle_warm_callbacks"):
        found = run(3, lambda ranks: Shares.of(ranks, tmp_path / ("there" if ranks.rank == 1 else "here")))
    assert all(isinstance(each, Shares) for each in found)
    assert "rank 1 cannot write to rank 0's run directory" in caplog.text
    assert "2 of 3 ranks write" in caplog.text
    assert [sorted(share.mine(PARAMETERS, [list(PARAMETERS)])) for share in found][1] == []
    apart = run(2, lambda ranks: Shares.of(ranks, tmp_path / str(ranks.rank)))
    assert [sorted(share.mine(PARAMETERS, [list(PARAMETERS)])) for share in apart] == [sorted(PARAMETERS), []]
    assert "rank 0 writes alone" in caplog.text


def test_where_all_can_write_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert all(isinstance(found, Shares) for found in run(2, lambda ranks: Shares.of(ranks, tmp_path)))
    assert not caplog.records
