"""What the names in a pickle may stand for: arrays, dtypes and plain containers, built here and never by what is named.

A pickle asks for functions by name and to have them called. Nothing of the kind is done: a name on the list below is
answered by a function of this module that does for genuine files what the named one would have done, and refuses any
other arguments.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Spend = Callable[[int], None]

_DEEPEST = 100


class Refused(Exception):
    """The file asks for what genuine files never ask for; the reader adds where."""


class Payload:
    """Bytes of the file that are probably an array's, kept writable so that the array needs no copy.

    Attributes:
        data: uint8 [bytes].
        taken: Whether an array is made of them already.
    """

    __slots__ = ("data", "taken")

    def __init__(self, data: Array) -> None:
        self.data = data
        self.taken = False


class LongText:
    """Text that is probably an array's bytes, as protocols 2 and 3 write them: given up once the array is made.

    The memo would keep it as long as the file is read, and with it a second copy of every array.

    Attributes:
        data: uint8 [bytes] in UTF-8; None once given up.
    """

    __slots__ = ("data",)

    def __init__(self, data: Array) -> None:
        self.data: Array | None = data

    def take(self) -> str:
        """Return the text, once."""
        if self.data is None:
            raise Refused("the text of an array, used again")
        text = str(self.data.data, "utf-8", "surrogatepass")
        self.data = None
        return text


class PendingArray:
    """An array between the request to make it and the one that fills it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Array | None = None


class PendingDtype:
    """A dtype whose byte order comes in a second step."""

    __slots__ = ("value",)

    def __init__(self, value: np.dtype[Any]) -> None:
        self.value = value


class Mark:
    """Where a run of items on the interpreter's stack begins."""


@dataclass(frozen=True)
class Known:
    """A name on the list; ``build`` is ours, and is given the arguments and a check on memory."""

    name: str
    build: Callable[[tuple[Any, ...], Spend], Any]


class Settling:
    """Replace what stood in for arrays and bytes by the real ones, once the whole value is there."""

    def __init__(self, spend: Spend) -> None:
        self._spend = spend
        self._settled: dict[int, Any] = {}
        self._open: set[int] = set()

    def settle(self, value: Any, depth: int) -> Any:
        """Return what ``value`` really is, and what it holds; ``depth`` counts the containers around it."""
        kind = type(value)
        if kind is PendingArray:
            if value.value is None:
                raise Refused("an array that is never filled")
            return value.value
        if kind is Payload:
            self._spend(value.data.size)
            return value.data.tobytes()
        if kind is LongText:
            if id(value) not in self._settled:
                self._spend(value.data.size if value.data is not None else 0)
                self._settled[id(value)] = value.take()
            return self._settled[id(value)]
        if kind in (PendingDtype, Known, Mark):
            raise Refused("a function, class or dtype for a value")
        if kind not in (dict, OrderedDict, list, tuple):
            return value
        if id(value) in self._settled:
            return self._settled[id(value)]
        if id(value) in self._open or depth > _DEEPEST:
            raise Refused("a container within itself, or nested too deep")
        self._open.add(id(value))
        settled = self._settle_container(value, depth + 1)
        self._open.remove(id(value))
        self._settled[id(value)] = settled
        return settled

    def _settle_container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            for key, item in value.items():
                filled = item.value if type(item) is PendingArray else None
                value[key] = self.settle(item, depth) if filled is None else filled
            return value
        if isinstance(value, list):
            value[:] = [self.settle(item, depth) for item in value]
            return value
        return tuple(self.settle(item, depth) for item in value)


def raw_bytes(value: Any, spend: Spend) -> Array:
    """Return uint8 [bytes] to make an array of: the file's own memory at first use, a copy after that."""
    if isinstance(value, Payload):
        if not value.taken:
            value.taken = True
            return value.data
        spend(value.data.size)
        return value.data.copy()
    if isinstance(value, str):  # written by Python 2
        return _latin1(value, spend)
    if not isinstance(value, bytes):
        raise Refused(f"an array made of {type(value).__name__}")
    spend(len(value))
    return _uint8(bytearray(value))


def make_array(shape: Any, dtype: Any, fortran: Any, raw: Array) -> Array:
    """Return the array of these bytes, writable.

    Raises:
        Refused: The shape, the dtype and the number of bytes do not belong together.
    """
    if not isinstance(dtype, PendingDtype):
        raise Refused("an array whose dtype is none")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise Refused("an array whose shape is none")
    if math.prod(shape) * dtype.value.itemsize != raw.size:
        raise Refused(f"an array of shape {shape} and {dtype.value} in {raw.size} bytes")
    try:
        return raw.view(dtype.value).reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError, TypeError) as error:
        raise Refused(f"an array of shape {shape}: {error}") from error


def fill_array(pending: PendingArray, state: Any, spend: Spend) -> None:
    """Do what ``ndarray.__setstate__`` would: ``(version, shape, dtype, is_fortran, bytes)``."""
    if pending.value is not None:
        raise Refused("an array filled twice")
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise Refused("an array filled with something else than its state")
    shape, dtype, fortran, raw = state[-4:]
    array = make_array(shape, dtype, fortran, raw_bytes(raw, spend))
    if not array.dtype.isnative:  # __setstate__ swaps such bytes
        spend(array.nbytes)
        array = array.astype(array.dtype.newbyteorder("="))
    pending.value = array


def set_byte_order(pending: PendingDtype, state: Any) -> None:
    """Do what ``dtype.__setstate__`` would for a number type; fields and metadata are refused."""
    plain = (
        isinstance(state, tuple)
        and len(state) >= 5
        and state[1] in ("<", ">", "|", "=")
        and all(part is None for part in state[2:5])
    )
    if not plain:
        raise Refused("a dtype with fields or metadata")
    pending.value = pending.value.newbyteorder(state[1])


def hashable(value: Any) -> Any:
    """Return ``value`` if it may be a key: a plain value or a flat tuple of some, whose hash cannot run away."""
    if type(value) is str:
        return value
    scalars = (str, int, float, bytes, type(None), np.generic)
    if isinstance(value, scalars) or (
        isinstance(value, tuple) and all(isinstance(v, scalars) for v in value)
    ):
        return value
    raise Refused(f"a key that is a {type(value).__name__}")


def reconstruct(arguments: tuple[Any, ...], _: Spend) -> Any:
    """Return the array that NumPy's function of this name begins."""
    if len(arguments) != 3 or arguments[0] is not NDARRAY:
        raise Refused("another class than numpy.ndarray to be built as an array")
    return PendingArray()


def _frombuffer(arguments: tuple[Any, ...], spend: Spend) -> Any:
    if len(arguments) != 4 or arguments[3] not in ("C", "F"):
        raise Refused("an array from a buffer with other arguments than bytes, dtype, shape, order")
    data, dtype, shape, order = arguments
    return make_array(shape, dtype, order == "F", raw_bytes(data, spend))


def _scalar(arguments: tuple[Any, ...], spend: Spend) -> Any:
    if len(arguments) != 2:
        raise Refused("a scalar without dtype and bytes")
    return make_array((1,), arguments[0], False, raw_bytes(arguments[1], spend))[0]


def dtype_of(arguments: tuple[Any, ...], _: Spend | None = None) -> PendingDtype:
    """Return the dtype that ``numpy.dtype`` would make of these arguments; number types only."""
    code = arguments[0] if arguments else None
    # Number types only: no objects, which would be pointers, and no records.
    if not isinstance(code, str):  # whose text may be without bounds
        raise Refused(f"a dtype named by a {type(code).__name__}")
    if not re.fullmatch(r"[biufc]\d{1,2}", code):
        raise Refused(f"dtype {code[:100]!r}")
    try:
        return PendingDtype(np.dtype(code))
    except TypeError as error:
        raise Refused(f"dtype {code!r}") from error


def _encode(arguments: tuple[Any, ...], spend: Spend) -> Any:
    text = arguments[0] if len(arguments) == 2 and arguments[1] == "latin1" else None
    if not isinstance(text, (str, LongText)):
        raise Refused("an encoding of something else than text as latin1")
    return Payload(_latin1(text.take() if isinstance(text, LongText) else text, spend))


def _latin1(text: str, spend: Spend) -> Array:
    spend(len(text))
    try:
        return _uint8(bytearray(text, "latin1"))
    except UnicodeEncodeError as error:
        raise Refused("bytes as text that is not latin1") from error


def _uint8(data: bytearray) -> Array:
    return np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)


def _eval(arguments: tuple[Any, ...], _: Spend) -> Any:
    # Paddle writes a raw DenseTensor as eval("data", {"data": array}), and this is all that it means.
    if len(arguments) == 2 and arguments[0] == "data" and isinstance(arguments[1], dict):
        held = arguments[1]
        if list(held) == ["data"] and isinstance(held["data"], (PendingArray, np.ndarray)):
            return held["data"]
    raise Refused("an expression to be evaluated")


def _empty_bytes(arguments: tuple[Any, ...], _: Spend) -> Any:
    if arguments:
        raise Refused("bytes built from something")
    return b""


def _ordered(arguments: tuple[Any, ...], spend: Spend) -> Any:
    if not arguments:
        return OrderedDict()
    if len(arguments) == 1 and isinstance(arguments[0], list):
        pairs = arguments[0]
        if all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            spend(16 * len(pairs))
            return OrderedDict((hashable(pair[0]), pair[1]) for pair in pairs)
    raise Refused("an OrderedDict of something else than pairs")


def _sequence(kind: type, check: Callable[[Any], Any]) -> Callable[..., Any]:
    def build(arguments: tuple[Any, ...], spend: Spend) -> Any:
        if len(arguments) != 1 or not isinstance(arguments[0], (list, tuple)):
            raise Refused(f"a {kind.__name__} of something else than a sequence")
        spend(8 * len(arguments[0]))
        return kind(check(item) for item in arguments[0])

    return build


def _class(_arguments: tuple[Any, ...], _: Spend) -> Any:
    raise Refused("a class called that is only ever named")


NDARRAY = Known("numpy.ndarray", _class)

_BUILDERS: dict[str, Callable[..., Any]] = {
    "_codecs encode": _encode,
    "collections OrderedDict": _ordered,
    "numpy dtype": dtype_of,
    **{f"{python} bytes": _empty_bytes for python in ("builtins", "__builtin__")},
    **{f"{python} eval": _eval for python in ("builtins", "__builtin__")},
    **{f"{python} tuple": _sequence(tuple, lambda item: item) for python in ("builtins", "__builtin__")},
    **{f"{python} set": _sequence(set, hashable) for python in ("builtins", "__builtin__")},
    **{f"{python} frozenset": _sequence(frozenset, hashable) for python in ("builtins", "__builtin__")},
    **{f"numpy.{core}.multiarray _reconstruct": reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": _frombuffer for core in ("core", "_core")},
}

# Exact pairs of module and name; no attribute of an allowed name is ever looked up.
ALLOWED: dict[tuple[str, str], Known] = {
    ("numpy", "ndarray"): NDARRAY,
    **{
        (name.split(" ")[0], name.split(" ")[1]): Known(name.replace(" ", "."), build)
        for name, build in _BUILDERS.items()
    },
}
