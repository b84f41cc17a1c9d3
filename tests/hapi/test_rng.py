"""What is taken of the global generators is what they say of themselves, then and not later."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi import rng


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    before = rng.capture()
    random.seed(1)
    np.random.seed(1)
    paddle.seed(1)
    yield
    rng.restore(before)


def draw_all() -> None:
    random.gauss(0, 1)
    random.getrandbits(32 * 700)
    np.random.randn(1)
    np.random.bytes(4 * 700)
    paddle.rand([1000])


def plain(state: Any) -> Any:
    """Return nested values with their types, arrays as bytes."""
    if isinstance(state, np.ndarray):
        return state.dtype.str, state.shape, state.tobytes()
    if isinstance(state, (tuple, list)):
        return type(state), [plain(item) for item in state]
    return type(state), state


def test_what_was_taken_stays_what_it_was_and_what_follows_is_drawn_again() -> None:
    np.random.randn(1)
    taken = rng.take()
    now = rng.capture()
    drawn = random.random(), np.random.randn(3).tolist()
    draw_all()
    assert plain(list(taken().values())) == plain(list(now.values()))
    assert plain(list(rng.capture().values())) != plain(list(now.values()))
    rng.restore(taken())
    assert (random.random(), np.random.randn(3).tolist()) == drawn


def test_paddles_record_is_a_copy() -> None:
    generator: Any = paddle.framework.core.default_cpu_generator()
    changes: list[Callable[[], Any]] = [lambda: paddle.seed(77), lambda: generator.manual_seed(5)]
    if rng.paddle_state_is_whole():  # else no draw is seen in it
        changes.append(lambda: paddle.rand([10_000]))
    for change in changes:
        taken, now = rng.take(), rng.capture_paddle()
        change()
        assert taken()["paddle"] == now
        assert rng.capture_paddle() != now, "the control"
