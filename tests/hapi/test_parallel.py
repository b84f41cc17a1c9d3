"""Agreements and boundaries between ranks that are threads of this process, over real connections."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from paddle_warm_callbacks.errors import RankError, UnsupportedFitError, in_a_line
from paddle_warm_callbacks.hapi.boundaries import Boundaries
from paddle_warm_callbacks.hapi.parallel import ConnectedRanks, Ranks
from paddle_warm_callbacks.hapi.rank_channel import _shut


class Board:
    """A bulletin for threads."""

    def __init__(self) -> None:
        self._text: str | None = None

    def put(self, text: str) -> None:
        self._text = text

    def take(self) -> str | None:
        return self._text


def run(size: int, act: Callable[[ConnectedRanks], Any], seconds: float = 10.0) -> list[Any]:
    """Return what ``act`` returned on each rank, or the exception it raised."""
    board = Board()

    def rank(number: int) -> Any:
        ranks = ConnectedRanks(number, size, board, "127.0.0.1", seconds)
        failure: str | None = None
        try:
            return act(ranks)
        except Exception as error:
            failure = in_a_line(error)
            return error
        finally:
            ranks.close(failure)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))


def test_all_get_what_rank_0_decides_from_all_parts() -> None:
    outcomes = run(4, lambda ranks: ranks.agree("a sum", ranks.rank + 1, sum))
    assert outcomes == [10, 10, 10, 10]


def test_each_gets_its_own_part_exactly_and_rounds_do_not_mix() -> None:
    def act(ranks: ConnectedRanks) -> list[Any]:
        return [
            ranks.agree(
                f"round {n}", np.float32(n + ranks.rank), lambda parts: [p * 2 for p in parts], each=True
            )
            for n in range(50)
        ]

    for rank, found in enumerate(run(3, act)):
        assert found == [np.float32(2 * (n + rank)) for n in range(50)]


def test_one_rank_agrees_with_itself() -> None:
    alone = Ranks()
    assert not alone.many
    assert alone.agree("a sum", 4, sum) == 4
    assert alone.agree("a share", 4, lambda parts: parts, each=True) == 4
    assert alone.agree("being there") is None


def test_what_one_rank_fails_of_is_told_to_all() -> None:
    def act(ranks: ConnectedRanks) -> None:
        if ranks.rank == 2:
            raise ZeroDivisionError("the reason")
        ranks.agree("the next save")

    first, second, third = run(3, act)
    assert isinstance(third, ZeroDivisionError)
    for error in (first, second):
        assert isinstance(error, RankError)
        assert error.where == "rank 2"
        assert "ZeroDivisionError: the reason" in str(error)


def test_what_rank_0_decides_wrongly_is_raised_there_and_told_to_the_others() -> None:
    def refuse(parts: Any) -> None:
        raise FileNotFoundError("no checkpoint")

    first, second = run(2, lambda ranks: ranks.agree("the start", None, refuse))
    assert isinstance(first, FileNotFoundError)
    assert isinstance(second, RankError)
    assert "rank 0 has failed: FileNotFoundError: no checkpoint" in second.what


@pytest.mark.parametrize("missing", [0, 2])
def test_a_rank_that_does_not_come_is_named_after_the_time_limit(missing: int) -> None:
    released = threading.Event()

    def act(ranks: ConnectedRanks) -> Any:
        if ranks.rank == missing:
            released.wait(20)
            return None
        began = time.monotonic()
        try:
            ranks.agree("the save of step 7")
        finally:
            waited.append(time.monotonic() - began)
            released.set()

    waited: list[float] = []
    found = run(3, act, seconds=0.5)
    errors = [error for error in found if error is not None]
    assert errors
    assert all(isinstance(error, RankError) for error in errors)
    assert any(f"rank {missing} did not come to the save of step 7" in error.what for error in errors)
    assert max(waited) < 10


def test_a_rank_that_never_connects_is_named() -> None:
    with pytest.raises(RankError, match="ranks 1, 2 did not come to the start of fit"):
        ConnectedRanks(0, 3, Board(), "127.0.0.1", 0.2)
    with pytest.raises(RankError, match="rank 0 did not come to the start of fit"):
        ConnectedRanks(1, 3, Board(), "127.0.0.1", 0.2)


def test_a_rank_whose_process_dies_is_told_at_once() -> None:
    def act(ranks: ConnectedRanks) -> Any:
        if ranks.rank == 1:
            ranks.channel._leaving.set()
            for connection in ranks.channel._connections.values():
                _shut(connection)  # as the kernel does for a dead process
            return None
        began = time.monotonic()
        with pytest.raises(RankError, match="rank 1") as caught:
            ranks.agree("the next save")
        return caught.value.what, time.monotonic() - began

    found = run(3, act, seconds=60)
    assert found[0][0] == "rank 1 is gone"
    assert found[2][0].startswith("rank 1 has failed: its process is gone")
    assert found[0][1] < 20
    assert found[2][1] < 20


def test_ranks_at_different_places_are_told_so() -> None:
    first, second = run(2, lambda ranks: ranks.agree("step 3" if ranks.rank == 0 else "stage 2"))
    assert "rank 1 came to something else than step 3" in first.what
    assert "rank 1: stage 2" in first.received
    assert isinstance(second, RankError)


def test_a_rank_that_has_ended_its_fit_is_not_waited_for() -> None:
    def act(ranks: ConnectedRanks) -> None:
        if ranks.rank == 0:
            ranks.agree("one more epoch")

    first, second = run(2, act, seconds=60)
    assert second is None
    assert "rank 1 has left fit, and is needed for one more epoch" in first.what


# -- boundaries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_an_order_of_any_rank_is_done_by_all_at_the_same_boundary(seed: int) -> None:
    passes, size = 60, 4
    step = threading.Barrier(size)

    def act(ranks: ConnectedRanks) -> list[tuple[int, str]]:
        boundaries = Boundaries.of(ranks)
        ranks.agree("the first step")
        pausing = random.Random(seed * 10 + ranks.rank)
        found = []
        for number in range(1, passes + 1):
            step.wait()  # the all-reduce of the step's gradients
            time.sleep(pausing.random() / 500)
            if pausing.random() < 0.03:
                boundaries.ask(f"order of {ranks.rank} at {number}")
            found += [(number, order) for order in sorted(boundaries.passed())]
        boundaries.finished()
        ranks.agree("the end")
        return found

    found = run(size, act)
    assert found[0] == found[1] == found[2] == found[3]
    orders = [order for _, order in found[0]]
    assert len(orders) == len(set(orders))
    for number, order in found[0]:
        asked = int(order.rpartition(" ")[2])
        assert number >= asked


def test_orders_come_through_while_no_rank_passes_a_boundary_or_waits_for_one() -> None:
    def act(ranks: ConnectedRanks) -> list[frozenset[str]]:
        boundaries = Boundaries.of(ranks)
        ranks.agree("the first step")
        if ranks.rank == 1:
            boundaries.ask("save")
            boundaries.ask("save")  # the same order, once
        time.sleep(0.3)
        return [boundaries.passed() for _ in range(3)]

    assert run(2, act) == [[frozenset({"save"}), frozenset(), frozenset()]] * 2


def test_a_second_callback_that_orders_saves_is_refused() -> None:
    def act(ranks: ConnectedRanks) -> None:
        Boundaries.of(ranks)
        with pytest.raises(UnsupportedFitError, match="a second PeriodicCheckpoint"):
            Boundaries.of(ranks)

    assert run(2, act) == [None, None]


def test_after_the_last_boundary_of_one_rank_no_rank_does_anything() -> None:
    def act(ranks: ConnectedRanks) -> frozenset[str]:
        boundaries = Boundaries.of(ranks)
        ranks.agree("the first step")
        if ranks.rank == 1:
            boundaries.finished()
        ranks.agree("one has finished")
        boundaries.ask("SIGTERM")
        time.sleep(0.3)
        found = boundaries.passed()
        ranks.agree("the end")
        return found

    assert run(2, act) == [frozenset(), frozenset()]
