"""Arrays in the two forms in which nearly all of them come, each taken in one step in place of some twenty-five.

The opcodes of an array are the same for every array but the first: NumPy, pickled in protocol 4, repeats them with
references into the memo, and :mod:`~paddle_warm_callbacks.checkpoint.pickle_writer` writes them out each time.
Interpreting them one by one takes longer than copying a small array. So a regular expression recognises the whole run,
and what the run would do is done at once, to the same stack, memo and budget. Whatever is the least bit different is
left to the interpreter, opcode by opcode, and so is every refusal: nothing is refused here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint import pickle_values as values
from paddle_warm_callbacks.checkpoint.pickle_input import PickleInput

MARK = values.Mark()

_GET = rb"(?:h.|j.{4})"
_INT = rb"(?:K.|M..|J.{4})"
# One, two, three or more of them, and the tuple made of them; none is in groups 1 to 4 for shape ().
_SHAPE = rb"(?:(%b)\x85\x94|(%b{2})\x86\x94|(%b{3})\x87\x94|\((%b{4,32})t\x94|\))" % (_INT, _INT, _INT, _INT)
# The header of the bytes: their number is the one group of three that matches.
_BYTES = rb"(?:C(.)|B(.{4})|\x8e(.{8}))"
# _reconstruct(ndarray, (0,), b"b"), then BUILD with (1, shape, dtype, False, bytes), all but the shape out of the memo
_REPEATED = re.compile(
    rb"(%b{2}K\x00\x85\x94%b)\x87\x94R\x94\(K\x01%b(%b)\x89%b" % (_GET, _GET, _SHAPE, _GET, _BYTES), re.DOTALL
)
_REFERENCES = re.compile(rb"(%b)(%b)K\x00\x85\x94(%b)" % (_GET, _GET, _GET), re.DOTALL)
_END_OF_REPEATED = b"\x94t\x94b"
# The same, with names and dtype written out, and nothing put into the memo
_WRITTEN_OUT = re.compile(
    rb"\x8c\x15numpy\.core\.multiarray\x8c\x0c_reconstruct\x93\x8c\x05numpy\x8c\x07ndarray\x93"
    rb"K\x00\x85C\x01b\x87R\(K\x01\((%b{0,32})t(\x8c\x05numpy\x8c\x05dtype\x93"
    rb"\x8c(?:\x02([biufc]\d)|\x03([biufc]\d\d))\x89\x88\x87R"
    rb"\(K\x03\x8c\x01([<>|])NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb)\x89%b" % (_INT, _BYTES),
    re.DOTALL,
)
_END_OF_WRITTEN_OUT = b"tb"
_BINGET, _SHORT_BINUNICODE, _MEMOIZE, _FRAME = b"h\x8c\x94\x95"
_FRAME_BYTES = 9
# Bytes of a key's opcodes, at most.
_KEY_BYTES = 259
# What an array and its key are counted for.
_OPCODES = 30
_ZERO = (0,)


class ArrayRuns(PickleInput):
    """The stack and the memo of an interpreter, and the step that takes whole arrays."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._at = 0  # of the opcode in work, from the pickle's first byte
        self._stack: list[Any] = []
        self._memo: list[Any] = []
        self._far: dict[
            int, Any
        ] = {}  # what the file put into the memo with a gap before it, and all that follows
        self._referred: dict[bytes, tuple[Any, ...]] = {}
        self._dtypes: dict[bytes, values.PendingDtype] = {}

    def arrays(self, most: int) -> int:
        """Take the arrays of one of the two forms, and keys between them, that begin at the opcode in work.

        Args:
            most: Opcodes after which to stop, about.

        Returns:
            How many were done, about; 0 if there is no such array, and nothing was done.
        """
        done = 0
        at = self._next - 1
        while done < most and not self._far and self._array(at):
            done += _OPCODES
            if not self._key():
                break
            at = self._next
        return done

    def _array(self, at: int) -> bool:
        """Take an array, if one that is in order begins at this byte of the window."""
        repeated = self._window[at] == _BINGET
        found = (_REPEATED if repeated else _WRITTEN_OUT).match(self._window, at)
        if found is None:
            return False
        built_by: tuple[Any, ...] | None = ()
        if repeated:
            references, one, two, three, more, dtype_run, *counts = found.groups()
            built_by = self._referred.get(references) or self._refer(references)
            dtype = self._in_memo(dtype_run)
            shape = _shape(one or two or three or more or b"")
        else:
            ints, dtype_run, short, long, order, *counts = found.groups()
            dtype = self._dtypes.get(dtype_run) or self._dtype(dtype_run, short or long, order)
            shape = _shape(ints)
        count = int.from_bytes(counts[0] or counts[1] or counts[2], "little")
        if (
            built_by is None
            or shape is None
            or type(dtype) is not values.PendingDtype
            or not dtype.value.isnative
            or math.prod(shape) * dtype.value.itemsize != count
            or not 0 < count <= self._size - self._begun - found.end()
            or count > self._budget
        ):
            return False
        pending = values.PendingArray()
        self._next = found.end()
        raw = self._payload(count)
        whole = self._at_end(_END_OF_REPEATED if repeated else _END_OF_WRITTEN_OUT)
        if repeated:
            self._memo += (_ZERO, built_by, pending, shape) if shape else (_ZERO, built_by, pending)
            if whole:
                self._memo += (raw, (1, shape, dtype, False, raw))
        if not whole:
            self._stack += (pending, MARK, 1, shape, dtype, False, raw)
        else:
            if type(raw) is bytes:
                self._budget -= count
                pending.value = np.ndarray(shape, dtype.value, bytearray(raw))
            else:
                raw.taken = True
                pending.value = np.ndarray(shape, dtype.value, raw.data)
            self._stack.append(pending)
        return True

    def _key(self) -> bool:
        """Take the text that comes next, if one does and what is behind it is in the window."""
        window, at = self._window, self._next
        if at + _KEY_BYTES > self._low or window[at] != _SHORT_BINUNICODE:
            return False
        end = at + 2 + window[at + 1]
        self._at = self._begun + at
        self._stack.append(str(window[at + 2 : end], "utf-8", "surrogatepass"))
        self._next = end
        if window[end] == _MEMOIZE:
            self._memo.append(self._stack[-1])
            self._next = end + 1
        return True

    def _refer(self, references: bytes) -> tuple[Any, ...] | None:
        """Return the arguments in an array's first opcodes; None if they are not what an array takes."""
        found = _REFERENCES.fullmatch(references)
        assert found is not None
        function, kind, code = (self._in_memo(reference) for reference in found.groups())
        if (
            type(function) is not values.Known
            or function.build is not values.reconstruct
            or kind is not values.NDARRAY
            or type(code) is not bytes
        ):
            return None
        self._referred[references] = (kind, _ZERO, code)
        return kind, _ZERO, code

    def _in_memo(self, reference: bytes) -> Any:
        """Return what an opcode takes from the memo; None of what is not there."""
        index = reference[1] if len(reference) == 2 else int.from_bytes(reference[1:], "little")
        return self._memo[index] if index < len(self._memo) else None

    def _dtype(self, run: bytes, name: bytes, order: bytes) -> values.PendingDtype | None:
        """Return the dtype that is written out; None if there is none of this name."""
        try:
            dtype = values.dtype_of((name.decode("ascii"),))
        except values.Refused:
            return None
        values.set_byte_order(dtype, (3, order.decode("ascii"), None, None, None))
        self._dtypes[run] = dtype
        return dtype

    def _at_end(self, end: bytes) -> bool:
        """Take the opcodes of an array behind its bytes, if these are they."""
        if self._next >= self._low:
            self._look_ahead(0)
        window, at = self._window, self._next
        if window.startswith(end, at):
            self._next += len(end)
            return True
        # Large bytes stand between two frames.
        behind = at + _FRAME_BYTES
        if not window.startswith(end, behind) or window[at] != _FRAME:
            return False
        if int.from_bytes(window[at + 1 : behind], "little") > self._left() - _FRAME_BYTES:
            return False
        self._next = behind + len(end)
        return True


def _shape(ints: bytes) -> tuple[int, ...] | None:
    """Return the numbers that these opcodes push; None if one of them is negative."""
    shape = []
    at = 0
    while at < len(ints):
        code = ints[at]
        if code == 0x4B:  # BININT1
            shape.append(ints[at + 1])
            at += 2
        elif code == 0x4D:  # BININT2
            shape.append(ints[at + 1] | ints[at + 2] << 8)
            at += 3
        else:
            if ints[at + 4] & 0x80:
                return None
            shape.append(int.from_bytes(ints[at + 1 : at + 5], "little"))
            at += 5
    return tuple(shape)
