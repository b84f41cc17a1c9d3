"""What is taken of the global generators is what they say of themselves, then and not later."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_warm_callbacks.hapi import host_generators, rng
from paddle_warm_callbacks.hapi.host_generators import NumpyGenerator, PythonGenerator

DRAWS: dict[str, Callable[[], Any]] = {
    "nothing yet": lambda: None,
    "a word": lambda: (random.random(), np.random.rand(1)),
    "half a pair of Gaussian numbers": lambda: (random.gauss(0, 1), np.random.randn(1)),
    "the other half": lambda: (random.gauss(0, 1), np.random.randn(1)),
    "more words than there are": lambda: (random.getrandbits(32 * 700), np.random.bytes(4 * 700)),
    "another seed": lambda: (random.seed(5), np.random.seed(5)),
    "half a pair of the new ones": lambda: (random.gauss(0, 1), np.random.randn(1)),
}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    before = rng.capture()
    random.seed(1)
    np.random.seed(1)
    paddle.seed(1)
    yield
    rng.restore(before)


def draw_all() -> None:
    for draw in DRAWS.values():
        draw()
    paddle.rand([1000])


def plain(state: Any) -> Any:
    """Return nested values with their types, arrays as bytes."""
    if isinstance(state, np.ndarray):
        return state.dtype.str, state.shape, state.tobytes()
    if isinstance(state, (tuple, list)):
        return type(state), [plain(item) for item in state]
    return type(state), state


def test_what_is_read_from_their_memory_is_what_they_say() -> None:
    assert host_generators._python.found
    assert host_generators._numpy.found
    seen = set()
    for draw in DRAWS.values():
        draw()
        python, numpy = host_generators.python_state(random.getstate()), tuple(np.random.get_state())
        read = host_generators.take()()
        assert plain(read["python"]) == plain(python)
        assert plain(read["numpy"]) == plain(numpy)
        seen.add((repr(plain(python)), repr(plain(numpy))))
    assert len(seen) == len(DRAWS), "each has changed both"


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


def test_a_generator_that_is_put_in_the_place_of_numpys_is_asked() -> None:
    generator = np.random.RandomState(1)
    reader = NumpyGenerator(generator)
    assert reader.found
    generator._bit_generator = np.random.MT19937(2)
    assert plain(reader.take()()) == plain(tuple(generator.get_state()))


def test_where_nothing_is_found_the_generators_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_generators, "_memory_of", lambda thing: b"")
    python, numpy = PythonGenerator(random.Random(1)), NumpyGenerator(np.random.RandomState(1))
    assert (python.found, numpy.found) == (False, False)
    assert plain(python.take()()) == plain(host_generators.python_state(random.Random(1).getstate()))
    assert plain(numpy.take()()) == plain(tuple(np.random.RandomState(1).get_state()))
