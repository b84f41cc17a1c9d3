"""Python's and NumPy's global generators, copied from their own memory.

``random.getstate()`` makes 625 numbers, and ``np.random.get_state()`` asks for 624 one by one: a tenth of a millisecond
behind a training step, of a save that should be felt for three. Where the words lie in a generator is found by looking
for those that it says it has; where they are not found, as in an interpreter with other objects, it is asked each time.
"""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np

Words = np.ndarray[Any, Any]

_COUNT = 624
_WORDS = struct.Struct(f"={_COUNT + 1}I")


def python_state(state: Any) -> tuple[int, Words, Any]:
    """Return what ``random.getstate()`` returned, its words as a uint32 array [625]."""
    version, words, gauss = state
    return version, np.frombuffer(_WORDS.pack(*words), np.uint32), gauss


class PythonGenerator:
    """The generator behind ``random.random()``.

    Args:
        generator: It, or another ``random.Random``.

    Attributes:
        found: Whether its words were found in its memory.
    """

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self._version, words, _ = python_state(generator.getstate())
        memory = _memory_of(generator)
        at = memory.find(words[:_COUNT].tobytes())
        # How many of them are used up comes before them.
        self.found = at >= 4 and memory[at - 4 : at] == words[_COUNT:].tobytes()
        self._memory = _view(id(generator) + at - 4, np.uint32, _COUNT + 1) if self.found else words

    def take(self) -> Callable[[], tuple[int, Words, Any]]:
        """Copy the state now, and return what makes :func:`python_state` of it."""
        if not self.found:
            state = self._generator.getstate()
            return lambda: python_state(state)
        copied, gauss = self._memory.copy(), getattr(self._generator, "gauss_next", None)
        return lambda: (self._version, np.roll(copied, -1), gauss)


class NumpyGenerator:
    """The generator behind ``np.random.random()``.

    Args:
        generator: It, or another ``RandomState``.

    Attributes:
        found: Whether its words, and the second number of a pair of Gaussian ones, were found in its memory.
    """

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._bits = getattr(generator, "_bit_generator", None)
        self._words = self._gauss = np.empty(0, np.uint32)
        at = _place_of_gauss(type(generator))
        self.found = at is not None and type(self._bits) is np.random.MT19937
        if self.found:
            assert at is not None
            assert self._bits is not None
            self._words = _view(self._bits.ctypes.state_address, np.uint32, _COUNT + 1)
            self._gauss = _view(id(generator) + at - 8, _GAUSS, 1)
            says: Any = generator.get_state()
            reads = self._made(self._words, self._gauss)
            self.found = repr(says[2:]) == repr(reads[2:]) and bool((says[1] == reads[1]).all())

    def take(self) -> Callable[[], tuple[Any, ...]]:
        """Copy the state now, and return what makes of it what ``get_state()`` would have returned."""
        if not self.found or self._generator._bit_generator is not self._bits:
            state = self._generator.get_state()
            return lambda: tuple(state)
        words, gauss = self._words.copy(), self._gauss.copy()
        return lambda: self._made(words, gauss)

    @staticmethod
    def _made(words: Words, gauss: Words) -> tuple[Any, ...]:
        has, value = gauss[0].item()
        return "MT19937", words[:_COUNT].copy(), int(words[_COUNT]), has, value


_GAUSS = np.dtype({"names": ["has", "value"], "formats": ["i4", "f8"], "offsets": [0, 8], "itemsize": 16})


def _place_of_gauss(kind: type[Any]) -> int | None:
    """Return where a RandomState has the second number of a pair: found in one that was given a certain number."""
    if kind is not np.random.RandomState:
        return None
    probe = np.random.RandomState(0)
    name, words, position, _, _ = cast(Any, probe.get_state())
    places = set()
    for number, has in ((0.1234567890123, 1), (-9.87654321e-99, 0), (3.3e300, 1)):
        probe.set_state((name, words, position, has, number))
        memory = _memory_of(probe)
        at = memory.find(struct.pack("=d", number))
        if at < 8 or memory[at - 8 : at - 4] != struct.pack("=i", has):
            return None
        places.add(at)
    return places.pop() if len(places) == 1 else None


def _memory_of(thing: Any) -> bytes:
    """Return the bytes of an object, without what it refers to; none where its ``id()`` is not its address."""
    if sys.implementation.name != "cpython":
        return b""
    return ctypes.string_at(id(thing), type(thing).__basicsize__)


def _view(address: int, dtype: Any, count: int) -> Words:
    dtype = np.dtype(dtype)
    return np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype)


# Neither module ever has another: seeding and setting a state change these.
_python = PythonGenerator(random.getstate.__self__)  # type: ignore[attr-defined]
_numpy = NumpyGenerator(np.random.get_state.__self__)  # type: ignore[attr-defined]


def take() -> Callable[[], dict[str, Any]]:
    """Copy the state of both now, in 3 microseconds, and return what makes plain values of it, on any thread."""
    python, numpy = _python.take(), _numpy.take()
    return lambda: {"python": python(), "numpy": numpy()}
