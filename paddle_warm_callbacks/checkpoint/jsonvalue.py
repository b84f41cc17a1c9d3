"""Python values to JSON and back, exactly and without pickle.

Plain values are themselves: None, booleans, ints, finite floats, strings, lists, and dictionaries with keys that are
strings. Everything else is an object with one key that begins with ``$`` and says what it is, ``{"$tuple": [1, 2]}``;
so is a dictionary that could be mistaken for one.

NumPy is imported where an array is met: to list a run is to read a thousand manifests without one.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Callable

from paddle_warm_callbacks.errors import CorruptCheckpointError, InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np

# Ints outside this go as text: other JSON readers would round them, and Python refuses to parse very long ones.
_SAFE_INT = 2**63
# Far deeper than state is, and well short of Python's own limit.
_DEEPEST = 100
_NUMERIC = "biufcSUmM"


class NotEncodable(InvalidArgumentError):
    """A value is of a type that has no JSON form here.

    Attributes:
        path: Where in the outermost value it was found, such as ``$['callbacks'][0]``.
        type: Its type.
    """

    def __init__(self, path: str, type_: type, why: str = "") -> None:
        self.path = path
        self.type = type_
        super().__init__(
            why or "a value cannot be stored as JSON",
            where=path,
            received=f"{type_.__module__}.{type_.__qualname__}",
            expected="None, bool, int, float, str, bytes, list, tuple, dict, set, deque, NumPy array or scalar",
        )


def encode(value: Any) -> Any:
    """Return ``value`` as what ``json.dumps`` takes; nothing in it aliases ``value``.

    :func:`decode` gives it back equal and of the same types: floats and arrays to the bit, dtypes and byte order kept
    (memory order is not: arrays come back C-contiguous).

    Raises:
        NotEncodable: A value, key or item of another type (subclasses included), object arrays, a container within
            itself or more than 100 deep.
    """
    return _encode(value, "$", 0)


def decode(encoded: Any) -> Any:
    """Return the value that :func:`encode` was given; arrays are new and writable.

    Raises:
        CorruptCheckpointError: ``encoded`` is nothing that :func:`encode` returns.
    """
    try:
        return _decode(encoded)
    except (ValueError, TypeError, LookupError, RecursionError, struct.error, binascii.Error) as error:
        raise CorruptCheckpointError(
            "a stored value is not one that this package writes",
            received=f"{type(error).__name__}: {error}",
            expected="what jsonvalue.encode returns",
            remedy="the file was edited, or written by a newer version of this package",
        ) from error


def _encode(value: Any, path: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise NotEncodable(path, type(value), "a value holds itself, or is nested too deep")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_SAFE_INT <= value < _SAFE_INT else {"$int": hex(value)}
    if kind is float:
        finite = value - value == 0.0
        return value if finite else {"$float": struct.pack(">d", value).hex()}
    if kind is bytes:
        return {"$bytes": _text(value)}
    if kind is list:
        return _items(value, path, depth)
    if kind is dict:
        return _encode_dict(value, path, depth)
    if kind in (tuple, set, frozenset):
        return {f"${kind.__name__}": _items(value, path, depth)}
    if kind is OrderedDict:
        return {"$ordered": _pairs(value, path, depth)}
    if kind is deque:
        return {"$deque": [_items(value, path, depth), value.maxlen]}
    if kind.__module__ == "numpy":
        return _encode_numpy(value, path)
    raise NotEncodable(path, kind)


def _encode_numpy(value: Any, path: str) -> Any:
    import numpy as np

    kind = type(value)
    if kind is np.ndarray and value.dtype.kind in _NUMERIC and value.dtype.itemsize:
        return {"$array": [value.dtype.str, list(value.shape), _text(value.tobytes())]}
    if isinstance(value, np.generic) and value.dtype.kind in _NUMERIC:
        array = np.array(value)  # of the empty string: one letter wide, where its own dtype has no width
        return {"$scalar": [array.dtype.str, _text(array.tobytes())]}
    raise NotEncodable(path, kind)


def _encode_dict(value: dict[Any, Any], path: str, depth: int) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{path}[{key!r}]", depth + 1) for key, item in value.items()}
    return {"$dict": _pairs(value, path, depth)}


def _pairs(value: dict[Any, Any], path: str, depth: int) -> list[Any]:
    return [
        [_encode(key, f"{path} key {key!r}", depth + 1), _encode(item, f"{path}[{key!r}]", depth + 1)]
        for key, item in value.items()
    ]


def _items(values: Any, path: str, depth: int) -> list[Any]:
    return [_encode(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(values)]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def _decode(encoded: Any) -> Any:
    if isinstance(encoded, list):
        return [_decode(item) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    tag = next(iter(encoded), "")
    if not tag.startswith("$"):
        return {key: _decode(item) for key, item in encoded.items()}
    if len(encoded) != 1:
        raise ValueError(f"{tag} among other keys")
    return _DECODERS[tag](encoded[tag])


def _decode_array(record: Any) -> Any:
    import numpy as np

    dtype, shape, text = record
    return np.frombuffer(bytearray(_bytes(text)), _dtype(dtype)).reshape([int(n) for n in shape])


def _decode_scalar(record: Any) -> Any:
    import numpy as np

    dtype, text = record
    return np.frombuffer(_bytes(text), _dtype(dtype))[0]


def _dtype(text: str) -> np.dtype[Any]:
    if not re.fullmatch(rf"[<>|=][{_NUMERIC}]\d+(\[\d*\w+\])?", text):
        raise ValueError(f"dtype {text!r}")
    import numpy as np

    return np.dtype(text)


def _decode_deque(record: Any) -> Any:
    items, maxlen = record
    return deque(map(_decode, items), maxlen)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$int": lambda text: int(text, 16),
    "$float": lambda text: struct.unpack(">d", bytes.fromhex(text))[0],
    "$bytes": _bytes,
    "$tuple": lambda items: tuple(map(_decode, items)),
    "$set": lambda items: set(map(_decode, items)),
    "$frozenset": lambda items: frozenset(map(_decode, items)),
    "$dict": lambda pairs: {_decode(key): _decode(item) for key, item in pairs},
    "$ordered": lambda pairs: OrderedDict((_decode(key), _decode(item)) for key, item in pairs),
    "$deque": _decode_deque,
    "$array": _decode_array,
    "$scalar": _decode_scalar,
}
