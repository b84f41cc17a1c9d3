"""Work on a thread of its own: in order, ended with nothing undone, and failures told once."""

from __future__ import annotations

import threading

import pytest

from paddle_warm_callbacks.checkpoint.own_thread import OwnThread
from paddle_warm_callbacks.errors import CheckpointWriteError


class Numbers(OwnThread):
    def __init__(self) -> None:
        super().__init__("numbers")
        self.waiting: list[int] = []
        self.done: list[int] = []
        self.may_begin = threading.Event()

    def submit(self, number: int) -> None:
        with self._changed:
            self.waiting.append(number)
            self._work_came()

    def close(self) -> None:
        self._end()
        self.raise_failure()

    def _has_work(self) -> bool:
        return bool(self.waiting)

    def _do_work(self) -> None:
        assert self.may_begin.wait(30)
        with self._changed:
            number = self.waiting.pop(0)
            self.done.append(number)
            if number < 0:
                self._failure = CheckpointWriteError(f"{number} is below zero")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "numbers"]


def test_the_end_comes_after_the_last_work_and_leaves_no_thread() -> None:
    numbers = Numbers()
    assert threads() == []
    for number in (1, 2, 3):
        numbers.submit(number)
    assert threads() == ["numbers"]
    assert numbers.done == []
    numbers.may_begin.set()
    numbers.close()
    assert numbers.done == [1, 2, 3]
    assert threads() == []


def test_what_never_had_work_never_had_a_thread_and_ends_twice() -> None:
    numbers = Numbers()
    numbers.close()
    numbers.close()
    assert threads() == []


def test_a_failure_is_raised_once_and_does_not_end_the_work() -> None:
    numbers = Numbers()
    numbers.may_begin.set()
    for number in (1, -2, 3):
        numbers.submit(number)
    with pytest.raises(CheckpointWriteError, match="-2 is below zero"):
        numbers.close()
    assert numbers.done == [1, -2, 3]
    numbers.close()
