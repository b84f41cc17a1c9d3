"""Agreements among threads of one process, as the ranks of a run agree: without Paddle, and without a network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.shares import Agree
from paddle_warm_callbacks.errors import RankError


class Meeting:
    """Where ``size`` ranks agree.

    Args:
        size: How many.
        seconds: How long each waits for another.

    Attributes:
        said: What was agreed on, in order.
    """

    def __init__(self, size: int, seconds: float = 20.0) -> None:
        self._size = size
        self._seconds = seconds
        self._changed = threading.Condition()
        self._parts: dict[int, dict[int, tuple[str, str]]] = {}
        self._outcomes: dict[int, str] = {}
        self.said: list[str] = []

    def of(self, rank: int) -> Agree:
        """Return how one rank agrees."""
        rounds = 0

        def agree(what: str, mine: Any, decide: Callable[[Sequence[Any]], Any] | None, /) -> Any:
            nonlocal rounds
            number, rounds = rounds, rounds + 1
            with self._changed:
                parts = self._parts.setdefault(number, {})
                parts[rank] = what, json.dumps(jsonvalue.encode(mine))
                self._changed.notify_all()
                if rank == 0:
                    self._wait(
                        lambda: len(parts) == self._size, what, lambda: set(range(self._size)) - set(parts)
                    )
                    assert {there for there, _ in parts.values()} == {what}
                    self.said.append(what)
                    decoded = [jsonvalue.decode(json.loads(parts[each][1])) for each in sorted(parts)]
                    outcome = None if decide is None else decide(decoded)
                    self._outcomes[number] = json.dumps(jsonvalue.encode(outcome))
                    self._changed.notify_all()
                else:
                    self._wait(lambda: number in self._outcomes, what, lambda: {0})
                return jsonvalue.decode(json.loads(self._outcomes[number]))

        return agree

    def _wait(self, ready: Callable[[], bool], what: str, missing: Callable[[], set[int]]) -> None:
        if not self._changed.wait_for(ready, self._seconds):
            raise RankError(f"rank {min(missing())} did not come to {what}")


def on_each(size: int, act: Callable[[int], Any]) -> list[Any]:
    """Return, by rank, what ``act`` returned or raised there, all of them at the same time."""

    def rank(number: int) -> Any:
        try:
            return act(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))
