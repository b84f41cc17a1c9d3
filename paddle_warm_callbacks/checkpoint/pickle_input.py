"""The bytes of a pickle, one after the other: no memory is taken for what the file does not have."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np

from paddle_warm_callbacks.checkpoint import pickle_values as values

# From here on bytes are read into an array at once; below, they are as likely something else.
PAYLOAD_BYTES = 4096
_LONGEST_NAME_BYTES = 512
# Room for what a file legitimately holds twice: constants of a few bytes.
_SPARE_BYTES = 1 << 20
# Read ahead at once, for opcodes are of a few bytes and asking the file for each costs more than all the rest.
_WINDOW_BYTES = 1 << 13
# The opcodes of an array: names, dtype, a shape of as many as 32 numbers; and of its key.
_AHEAD_BYTES = 640


class PickleInput:
    """A file's bytes, the place in them, and how much memory the file may still take.

    The window and the place in it are read by the loop over the opcodes itself, for a call costs more than an opcode.

    Args:
        file: At the pickle's first byte.
        size: Bytes from there to the end of the file.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._window = b""  # what was read and is not all used
        self._next = 0  # of the window's bytes
        self._low = 0  # from this byte of the window on there may be more to look ahead to
        self._begun = 0  # where the window begins, from the pickle's first byte
        self._budget = size + _SPARE_BYTES

    def _take(self, count: int) -> bytes:
        end = self._next + count
        if end > len(self._window):
            self._fill(count)
            end = self._next + count
        data = self._window[self._next : end]
        self._next = end
        return data

    def _byte(self) -> int:
        if self._next >= len(self._window):
            self._fill(1)
        self._next += 1
        return self._window[self._next - 1]

    def _fill(self, count: int) -> None:
        """Have ``count`` bytes in the window."""
        self._require(count)
        window = self._window[self._next :]
        self._begun += self._next
        self._next = 0
        while len(window) < count:
            left = self._size - self._begun - len(window)
            more = self._file.read(min(max(count - len(window), _WINDOW_BYTES), left))
            if not more:
                raise values.Refused(f"{count} bytes where the file ends after {len(window)}")
            window += more
        all_read = self._begun + len(window) >= self._size
        self._window = window
        self._low = len(window) - (0 if all_read else _AHEAD_BYTES)

    def _look_ahead(self, least: int) -> None:
        """Have in the window what an array's opcodes take, or what is left of the file, and ``least`` bytes."""
        if self._next >= self._low:
            self._fill(max(least, min(_AHEAD_BYTES, self._left())))

    def _require(self, count: int) -> None:
        left = self._left()
        if count > left:
            raise values.Refused(f"{count:,} bytes where {left:,} are left")

    def _left(self) -> int:
        return self._size - self._begun - self._next

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if number < 0 and form == "<i":
            raise values.Refused(f"{number} bytes")
        return number

    def _line(self) -> str:
        self._fill(min(_LONGEST_NAME_BYTES, self._left()))
        end = self._window.find(b"\n", self._next, self._next + _LONGEST_NAME_BYTES)
        if end < 0:
            raise values.Refused("a name that does not end")
        line = self._window[self._next : end]
        self._next = end + 1
        return line.decode("utf-8")

    def _budget_for(self, count: int) -> None:
        """Account for memory that is taken beyond the bytes read once; a file cannot multiply itself."""
        self._budget -= count
        if self._budget < 0:
            raise values.Refused("much more memory than the file has bytes")

    def _payload(self, count: int) -> Any:
        """Take bytes that may be an array's: in memory of their own from a size on."""
        if count < PAYLOAD_BYTES:
            return self._take(count)
        self._require(count)
        data = np.empty(count, np.uint8)
        view = data.data
        held = self._window[self._next : self._next + count]
        view[: len(held)] = held
        self._next += len(held)
        filled = len(held)
        while filled < count:
            more = self._file.readinto(view[filled:])  # type: ignore[attr-defined]  # every binary file has it
            if not more:
                raise values.Refused(f"{count:,} bytes where the file ends after {filled:,}")
            filled += more
            self._begun += more
        return values.Payload(data)
