"""Random generators that a data set, its transforms or a collate function have of their own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from paddle_warm_callbacks.hapi import attributes, rng

# A data set's lists of samples and of files are long, and hold none.
_LONGEST = 64
_DEEPEST = 8
_MOST = 10_000


class OwnGenerators:
    """Those found among the attributes of some objects, in what these hold, and in what that holds.

    Found are NumPy's ``Generator`` and ``RandomState`` and Python's ``random.Random``; not those in closures, in
    attributes of classes or modules, or in containers of more than 64 items.

    Args:
        holders: A data set, a collate function, or None.
    """

    def __init__(self, *holders: Any) -> None:
        self._found = _found(holders)

    def __bool__(self) -> bool:
        return bool(self._found)

    def capture(self) -> list[Any]:
        """Return their states, as plain values and arrays that alias nothing."""
        return [attributes.generator_state(generator) for generator in self._found]

    def restore(self, states: Sequence[Any]) -> None:
        """Put back what :meth:`capture` returned in a process that had built the same objects."""
        for generator, state in zip(self._found, states):
            attributes.restore_generator(generator, state)

    def reseed(self, run_seed: int, *position: int) -> None:
        """Seed each from the run, a position and its own number."""
        for number, generator in enumerate(self._found):
            seed = rng.mixed(run_seed, *position, number)
            if isinstance(generator, np.random.Generator):
                fresh = type(generator.bit_generator)(seed)
                generator.bit_generator.state = fresh.state
            else:
                generator.seed(seed)


def _found(holders: Sequence[Any]) -> list[Any]:
    # Those of the process are captured as such.
    seen = {id(random._inst), id(np.random.mtrand._rand)}
    found: list[Any] = []
    level = list(holders)
    for _ in range(_DEEPEST):
        deeper: list[Any] = []
        for value in level:
            if id(value) in seen or len(seen) > _MOST:
                continue
            seen.add(id(value))
            if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
                found.append(value)
            else:
                deeper.extend(_held(value))
        level = deeper
    return found


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, (type, ModuleType, FunctionType)):
        return
    if isinstance(value, MethodType):
        yield value.__self__
        return
    parts = value if isinstance(value, (list, tuple)) else value.values() if isinstance(value, dict) else ()
    if 0 < len(parts) <= _LONGEST:
        yield from parts
    yield from getattr(value, "__dict__", {}).values()
