"""A reader of pickles that executes nothing: an interpreter of the opcodes that genuine files consist of.

Python's own unpickler with a filter on names would keep strangers' functions out, yet still allocate what a file merely
claims to hold, overflow the C stack on a deeply nested key, and call real constructors with hostile arguments. The
opcodes between the tensors are few, so they are interpreted here, in Python: every length is checked against the bytes
that are left before memory is taken, and each error names the offset. Those of a common array are taken in one step,
by :mod:`~paddle_warm_callbacks.checkpoint.pickle_arrays`.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Any, BinaryIO, Callable, NoReturn

from paddle_warm_callbacks.checkpoint import pickle_values as values
from paddle_warm_callbacks.checkpoint.file_kinds import BEGINNING_BYTES, PICKLE, kind_of
from paddle_warm_callbacks.checkpoint.pickle_arrays import MARK, ArrayRuns
from paddle_warm_callbacks.checkpoint.pickle_input import PAYLOAD_BYTES
from paddle_warm_callbacks.errors import UnsafeFileError

# A genuine file has about 25 for a tensor. Each may leave an object of some 64 bytes in memory.
_MOST_OPCODES = 10_000_000
_LONGEST_INT_BYTES = 1024


def read_pickle(file: BinaryIO, size: int, where: str) -> Any:
    """Return the value of a pickle; arrays are writable.

    Args:
        file: At the pickle's first byte; left somewhere behind it.
        size: Bytes from there to the end of the file. No more memory than about this is taken for arrays.
        where: For error messages, a path.

    Raises:
        UnsafeFileError: Something other than arrays, plain values and containers of them; or a length, shape or
            nesting that is absurd; or a truncated file. Nothing of it was executed.
        OSError: The file cannot be read.
    """
    return _Interpreter(file, size, where).run()


class _Interpreter(ArrayRuns):
    def __init__(self, file: BinaryIO, size: int, where: str) -> None:
        super().__init__(file, size)
        self._where = where

    def run(self) -> Any:
        opcodes = _OPCODES
        try:
            self._begin()
            stack, memo = self._stack, self._memo
            left = _MOST_OPCODES
            while left > 0:
                left -= 1
                self._at = self._begun + self._next
                if self._next >= self._low:
                    self._look_ahead(1)
                code = self._window[self._next]
                self._next += 1
                # Most opcodes are these, told apart here because a call for each would cost more than they do.
                if code == 0x94:  # MEMOIZE
                    self.memoize(len(memo) + len(self._far)) if self._far else memo.append(stack[-1])
                elif code == 0x68:  # BINGET
                    done = self.arrays(left)
                    if done:
                        left -= done
                    else:
                        stack.append(self.recall(self._byte()))
                elif code == 0x4B:  # BININT1
                    stack.append(self._byte())
                elif code == 0x8C:  # SHORT_BINUNICODE
                    # as long as the name of the module that an array which is written out begins with
                    done = self.arrays(left) if self._window[self._next : self._next + 1] == b"\x15" else 0
                    if done:
                        left -= done
                    else:
                        stack.append(str(self._take(self._byte()), "utf-8", "surrogatepass"))
                elif code == 0x2E:  # STOP
                    if len(stack) != 1:
                        raise values.Refused(f"an end with {len(stack)} values in hand")
                    return values.Settling(self._budget_for).settle(stack[0], 0)
                else:
                    step = opcodes.get(code)
                    if step is None:
                        raise values.Refused(_REFUSED.get(code, f"opcode 0x{code:02x}, which is none"))
                    step(self)
            raise values.Refused(f"more than {_MOST_OPCODES:,} opcodes")
        except values.Refused as refused:
            self._refuse(str(refused), refused)
        except (IndexError, KeyError) as error:  # the stack or the memo lacks what the opcode takes
            self._refuse("an opcode without its operands", error)
        except (UnicodeDecodeError, ValueError, OverflowError, TypeError, RecursionError) as error:
            self._refuse(f"{type(error).__name__}: {error}", error)

    def _begin(self) -> None:
        """Say what a file is that is commonly taken for one of parameters."""
        if self._size == 0:
            raise UnsafeFileError(
                "the file is empty", where=self._where, expected="a file written by paddle.save"
            )
        first = self._take(1)
        beginning = self._window[:BEGINNING_BYTES]
        kind = kind_of(beginning)
        if first == b"\x80" and kind in (PICKLE, None):  # None: of a protocol that is refused by its number
            self.proto()
            return
        raise UnsafeFileError(
            "the file is not one that paddle.save writes",
            where=self._where,
            received=f"a file that begins with {beginning[:8]!r}" if kind is None else kind.seems,
            expected="a pickle of protocol 2 to 5",
            remedy="check that the download is complete" if kind is None else kind.remedy,
        )

    def _refuse(self, what: str, cause: Exception) -> NoReturn:
        raise UnsafeFileError(
            f"the file asks for what no file of parameters needs: {what}",
            where=f"{self._where}, byte {self._at}",
            received=what,
            expected="arrays of numbers, plain values, and dictionaries, lists and tuples of them",
            remedy="nothing of it was executed; get the file from whoever wrote it again, as paddle.save writes it",
        ) from cause

    # -- stack and memo ----------------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is MARK:
            raise values.Refused("a mark for a value")
        return value

    def _pop_run(self) -> list[Any]:
        """Take the items after the last mark, and the mark."""
        stack = self._stack
        place = len(stack) - 1
        while stack[place] is not MARK:
            place -= 1
            if place < 0:
                raise values.Refused("items without a mark")
        items = stack[place + 1 :]
        del stack[place:]
        return items

    def _top(self) -> Any:
        return self._stack[-1]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def memoize(self, index: int) -> None:
        """Put the top of the stack into the memo; at any place, and over what is there, if the file says so."""
        value, memo = self._stack[-1], self._memo
        if index < len(memo):
            memo[index] = value
            self._referred.clear()
        elif index == len(memo) and not self._far:
            memo.append(value)
        else:
            self._far[index] = value

    def recall(self, index: int) -> Any:
        """Return what the memo has at a place."""
        return self._memo[index] if index < len(self._memo) else self._far[index]

    # -- opcodes -----------------------------------------------------------------------------------------------------

    def proto(self) -> None:
        version = self._take(1)[0]
        if not 2 <= version <= 5:
            raise values.Refused(f"pickle protocol {version}")

    def frame(self) -> None:
        self._require(self._number("<Q"))  # where frames end is no concern of ours

    def text(self, count: int) -> None:
        if count >= PAYLOAD_BYTES:
            self._push(values.LongText(self._payload(count).data))
            return
        self._push(str(self._take(count), "utf-8", "surrogatepass"))

    def old_text(self, count: int) -> None:
        self._push(str(self._take(count), "latin1"))

    def long(self, count: int) -> None:
        if count > _LONGEST_INT_BYTES:
            raise values.Refused(f"an int of {count:,} bytes")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def global_(self) -> None:
        module = self._line()
        self._name(module, self._line())

    def stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:  # whose text may be without bounds
            raise values.Refused(f"a name of a {type(module).__name__} and a {type(name).__name__}")
        allowed = values.ALLOWED.get((module, name))
        if allowed is None:
            raise values.Refused(f"{module}.{name}"[:200])
        self._push(allowed)

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, values.Known):
            raise values.Refused(f"a call of a {type(function).__name__}")
        if not isinstance(arguments, tuple):
            raise values.Refused(f"a call of {function.name} with a {type(arguments).__name__}")
        try:
            self._push(function.build(arguments, self._budget_for))
        except values.Refused as refused:
            raise values.Refused(f"{refused}, by {function.name}") from refused

    def build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, values.PendingArray):
            values.fill_array(target, state, self._budget_for)
        elif isinstance(target, values.PendingDtype):
            values.set_byte_order(target, state)
        else:
            raise values.Refused(f"attributes set on a {type(target).__name__}")

    def append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise values.Refused(f"items appended to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise values.Refused(f"keys set on a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2]):
            target[values.hashable(key)] = value

    def add_items(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not set:
            raise values.Refused(f"members added to a {type(target).__name__}")
        target.update(map(values.hashable, items))

    def dictionary(self) -> None:
        items = self._pop_run()
        self._push({})
        self.set_items(items)

    def tuple_of(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        if len(items) < count or any(item is MARK for item in items):
            raise values.Refused("a tuple of what is not there")
        self._stack[-count:] = [items]

    def drop(self) -> None:
        self._stack.pop()

    def drop_run(self) -> None:
        self._pop_run()

    def duplicate(self) -> None:
        self._push(self._top())

    def binary_float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])


def _unsigned(form: str, then: Callable[[_Interpreter, int], None]) -> Callable[[_Interpreter], None]:
    if form == "<B":
        return lambda machine: then(machine, machine._byte())
    return lambda machine: then(machine, machine._number(form))


def _push_new(make: Callable[[_Interpreter], Any]) -> Callable[[_Interpreter], None]:
    return lambda machine: machine._push(make(machine))


def _push_payload(machine: _Interpreter, count: int) -> None:
    machine._push(machine._payload(count))


def _get(machine: _Interpreter, index: int) -> None:
    machine._push(machine.recall(index))


def _signed_int(machine: _Interpreter) -> int:
    number: int = struct.unpack("<i", machine._take(4))[0]
    return number


_OPCODES: dict[int, Callable[[_Interpreter], None]] = {
    code[0]: step
    for code, step in (
        (b"\x80", _Interpreter.proto),
        (b"\x95", _Interpreter.frame),
        (b"(", lambda machine: machine._push(MARK)),
        (b"0", _Interpreter.drop),
        (b"1", _Interpreter.drop_run),
        (b"2", _Interpreter.duplicate),
        (b"N", _push_new(lambda _: None)),
        (b"\x88", _push_new(lambda _: True)),
        (b"\x89", _push_new(lambda _: False)),
        (b"J", _push_new(_signed_int)),
        (b"M", _push_new(lambda machine: machine._number("<H"))),
        (b"\x8a", _unsigned("<B", _Interpreter.long)),
        (b"\x8b", _unsigned("<i", _Interpreter.long)),
        (b"G", _Interpreter.binary_float),
        (b"X", _unsigned("<I", _Interpreter.text)),
        (b"\x8d", _unsigned("<Q", _Interpreter.text)),
        (b"U", _unsigned("<B", _Interpreter.old_text)),
        (b"T", _unsigned("<i", _Interpreter.old_text)),
        (b"C", _unsigned("<B", _push_payload)),
        (b"B", _unsigned("<I", _push_payload)),
        (b"\x8e", _unsigned("<Q", _push_payload)),
        (b"\x96", _unsigned("<Q", _push_payload)),
        (b"]", _push_new(lambda _: [])),
        (b"}", _push_new(lambda _: {})),
        (b")", _push_new(lambda _: ())),
        (b"\x8f", _push_new(lambda _: set())),
        (b"a", lambda machine: machine.append([machine._pop()])),
        (b"e", lambda machine: machine.append(machine._pop_run())),
        (b"l", _push_new(lambda machine: machine._pop_run())),
        (b"s", lambda machine: machine.set_items([machine._pop(), machine._pop()][::-1])),
        (b"u", lambda machine: machine.set_items(machine._pop_run())),
        (b"d", _Interpreter.dictionary),
        (b"\x90", lambda machine: machine.add_items(machine._pop_run())),
        (b"\x91", _push_new(lambda machine: frozenset(map(values.hashable, machine._pop_run())))),
        (b"t", _push_new(lambda machine: tuple(machine._pop_run()))),
        (b"\x85", lambda machine: machine.tuple_of(1)),
        (b"\x86", lambda machine: machine.tuple_of(2)),
        (b"\x87", lambda machine: machine.tuple_of(3)),
        (b"q", _unsigned("<B", _Interpreter.memoize)),
        (b"r", _unsigned("<I", _Interpreter.memoize)),
        (b"j", _unsigned("<I", _get)),
        (b"c", _Interpreter.global_),
        (b"\x93", _Interpreter.stack_global),
        (b"R", _Interpreter.reduce),
        (b"b", _Interpreter.build),
    )
}

_REFUSED = {
    code[0]: f"{meaning} (opcode {code!r})"
    for code, meaning in (
        (b"\x81", "an instance of a class"),
        (b"\x92", "an instance of a class"),
        (b"i", "an instance of a class"),
        (b"o", "an instance of a class"),
        (b"P", "an object of another store"),
        (b"Q", "an object of another store"),
        (b"\x82", "a name of the extension registry"),
        (b"\x83", "a name of the extension registry"),
        (b"\x84", "a name of the extension registry"),
        (b"\x97", "a buffer outside the file"),
        (b"\x98", "a buffer outside the file"),
        *((code, "an opcode of pickle protocol 0") for code in (b"I", b"L", b"F", b"S", b"V", b"p", b"g")),
    )
}
