"""The process's random number generators: Python's, NumPy's global one, and Paddle's on every device in use."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import paddle
from paddle.framework import core

State = dict[str, Any]


def capture() -> State:
    """Return the state of all global generators as plain values and arrays."""
    return take()()


def take() -> Callable[[], State]:
    """Take the state of all global generators; :func:`capture`'s answer can be made of it later, which takes longer.

    Returns:
        What makes it, on any thread: nothing that is drawn, seeded or set meanwhile changes what was taken.
    """
    host, records = _take_host(), [generator.get_state() for generator in _paddle_generators()]
    return lambda: {**host(), "paddle": [_plain_paddle(record) for record in records]}


def _take_host() -> Callable[[], State]:
    python, numpy = random.getstate(), np.random.get_state()
    return lambda: {"python": _plain_python(*python), "numpy": tuple(numpy)}


def _plain_python(version: int, words: tuple[int, ...], gauss: float | None) -> tuple[Any, ...]:
    return version, np.array(words, np.uint32), gauss


def capture_paddle() -> list[tuple[tuple[int, ...], bytes]]:
    """Return the state of Paddle's generators."""
    return [_plain_paddle(generator.get_state()) for generator in _paddle_generators()]


def restore(state: Mapping[str, Any]) -> None:
    """Put all global generators back into ``state``, as :func:`capture` returned it."""
    restore_host(state)
    restore_paddle(state)


def capture_host() -> State:
    """Return the state of the generators that data loading draws from: Python's and NumPy's global ones."""
    return _take_host()()


def restore_host(state: Mapping[str, Any]) -> None:
    """Put Python's and NumPy's global generators back."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(int(word) for word in words), gauss))
    np.random.set_state(tuple(state["numpy"]))


def same_host(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether nothing was drawn from Python's or NumPy's global generator between two captures."""
    return _flat(one) == _flat(other)


def restore_paddle(state: Mapping[str, Any]) -> None:
    """Put Paddle's generators back; generators of devices that are not here are left alone.

    So is the CPU's where only one of two Paddles, that which saved and this one, has the engine in its record.
    """
    for number, (generator, (fields, engine)) in enumerate(zip(_paddle_generators(), state["paddle"])):
        if number == 0 and not (engine and paddle_state_is_whole()):
            continue
        if engine:
            fields = (*fields, list(engine))
        kind: Any = type(generator.get_state())
        record = kind.__new__(kind)
        record.__setstate__(tuple(fields))
        generator.set_state(record)


def paddle_state_is_whole() -> bool:
    """Return whether Paddle's CPU generator can be saved at all: in Paddle 2.6 its record lacks the engine.

    Where it cannot, :func:`reseed` at each step makes the draws a function of the position instead.
    """
    return len(core.default_cpu_generator().get_state().__getstate__()) > 3


def paddle_seed() -> int:
    """Return the seed that Paddle's CPU generator was last given."""
    return int(core.default_cpu_generator().initial_seed())


def reseed(run_seed: int, *position: int) -> None:
    """Seed Paddle's generators from the run and a position, in about 10 microseconds; no other generator is touched."""
    paddle.seed(mixed(run_seed, *position))


def mixed(run_seed: int, *position: int) -> int:
    """Return a seed, 32 bits, made of the run's and a position."""
    return int(np.random.SeedSequence([run_seed, *position]).generate_state(1)[0])


def reseed_host(run_seed: int, *position: int) -> None:
    """Seed Python's and NumPy's global generators from the run and a position."""
    python, numpy = np.random.SeedSequence([run_seed, *position]).generate_state(2)
    random.seed(int(python))
    np.random.seed(int(numpy))


def _paddle_generators() -> list[Any]:
    generators = [core.default_cpu_generator()]
    # Not run on a GPU yet: the device generators answer to the same calls there.
    if paddle.is_compiled_with_cuda() and paddle.device.get_device().startswith("gpu"):
        generators += [core.default_cuda_generator(i) for i in range(core.get_cuda_device_count())]
    return generators


def _plain_paddle(record: Any) -> tuple[tuple[int, ...], bytes]:
    fields = record.__getstate__()
    engine = bytes(fields[3]) if len(fields) > 3 else b""
    return tuple(fields[:3]), engine


def _flat(state: Mapping[str, Any]) -> tuple[Any, ...]:
    version, words, gauss = state["python"]
    algorithm, keys, *rest = state["numpy"]
    return version, np.asarray(words).tobytes(), gauss, algorithm, np.asarray(keys).tobytes(), *rest
