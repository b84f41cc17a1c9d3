"""A writer of the pickles that Paddle reads, opcode by opcode, so that tensors go from memory to disk without a copy.

``pickle.dump`` holds the interpreter's lock while it copies every tensor into its own buffers. Here only the few bytes
between tensors are made in Python; a tensor's own memory is handed to the file as it is.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from paddle_warm_callbacks.checkpoint.digests import Buffer
from paddle_warm_callbacks.errors import InvalidArgumentError

_PROTOCOL = 4
# Read by every NumPy: 2.x keeps the name for exactly this, 1.x knows no other.
_NUMPY = "numpy.core.multiarray"

Array = npt.NDArray[Any]
Write = Callable[[Buffer], Any]
WriteArray = Callable[[str, Array, Buffer], Any]


def write_pickle(value: Mapping[str, Any], write: Write, write_array: WriteArray) -> None:
    """Write ``value`` as a pickle of protocol 4.

    Args:
        value: Arrays of numbers, None, bool, int, float, str, bytes, NumPy scalars, and lists, tuples and
            dictionaries of those.
        write: Takes the bytes between arrays.
        write_array: Takes the path of keys to an array, joined by ``/``, the array, and its bytes in C order.

    Raises:
        InvalidArgumentError: A value of another type, at its path.
    """
    write(b"\x80" + bytes([_PROTOCOL]))
    _Writer(write, write_array).any(value, "")
    write(b".")


class _Writer:
    def __init__(self, write: Write, write_array: WriteArray) -> None:
        self._write = write
        self._write_array = write_array

    def any(self, value: Any, path: str) -> None:
        """Write any value; ``path`` is where it stands."""
        kind = type(value)
        if isinstance(value, np.ndarray):
            self._array(value, path)
        elif isinstance(value, np.generic):
            self._scalar(value, path)
        elif value is None or kind is bool:
            self._write({None: b"N", True: b"\x88", False: b"\x89"}[value])
        elif kind is int:
            self._write(_int(value))
        elif kind is float:
            self._write(b"G" + struct.pack(">d", value))
        elif kind is str:
            self._write(_text(value))
        elif kind is bytes:
            self._write(_bytes_header(len(value)) + value)
        elif kind is tuple:
            self._tuple(value, path)
        elif kind is list:
            self._write(b"](")
            for index, item in enumerate(value):
                self.any(item, f"{path}/{index}")
            self._write(b"e")
        elif isinstance(value, Mapping):
            self._mapping(value, path)
        else:
            raise _refused(path, value)

    def _mapping(self, value: Mapping[Any, Any], path: str) -> None:
        self._write(b"}(")
        for key, item in value.items():
            if type(key) not in (str, int):
                raise _refused(f"a key of {path or 'the dictionary'}", key)
            self.any(key, path)
            self.any(item, f"{path}/{key}" if path else str(key))
        self._write(b"u")

    def _tuple(self, value: tuple[Any, ...], path: str) -> None:
        # (generated name, array) is how Paddle stores a named tensor, and stands for that one tensor.
        named = len(value) == 2 and type(value[0]) is str and isinstance(value[1], np.ndarray)
        self._write(b"(")
        for index, item in enumerate(value):
            self.any(item, path if named else f"{path}/{index}")
        self._write(b"t")

    def _array(self, value: Array, path: str) -> None:
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        shape = b"".join(map(_int, value.shape)) + b"t"
        self._write(_NEW_ARRAY + shape + _dtype(value.dtype, path) + b"\x89" + _bytes_header(value.nbytes))
        whole = np.ascontiguousarray(value)  # of a contiguous array: itself, but for shape ()
        self._write_array(path, value, whole.reshape(-1).view(np.uint8).data)
        self._write(b"tb")

    def _scalar(self, value: np.generic[Any], path: str) -> None:
        data = value.tobytes()
        self._write(_global(_NUMPY, "scalar") + _dtype(value.dtype, path))
        self._write(_bytes_header(len(data)) + data + b"\x86R")


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


def _dtype(dtype: np.dtype[Any], path: str) -> bytes:
    if dtype.kind not in "biufc":
        raise _refused(path, dtype)
    return _dtype_of_numbers(dtype)


@functools.lru_cache
def _dtype_of_numbers(dtype: np.dtype[Any]) -> bytes:
    code = _text(dtype.str[1:])
    order = _text("|" if dtype.itemsize == 1 else "<" if dtype.str[0] == "<" else ">")
    state = b"(K\x03" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return _global("numpy", "dtype") + code + b"\x89\x88\x87R" + state


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return (b"\x8c" + bytes([len(data)]) if len(data) < 256 else b"X" + struct.pack("<I", len(data))) + data


# _reconstruct(ndarray, (0,), b"b").__setstate__((1, shape, dtype, False, bytes)), which is what NumPy writes
_NEW_ARRAY = _global(_NUMPY, "_reconstruct") + _global("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R(K\x01("


def _bytes_header(count: int) -> bytes:
    if count < 256:
        return b"C" + bytes([count])
    return b"B" + struct.pack("<I", count) if count < 1 << 32 else b"\x8e" + struct.pack("<Q", count)


def _int(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) < 256:
        return b"\x8a" + bytes([len(data)]) + data
    return b"\x8b" + struct.pack("<i", len(data)) + data


def _refused(path: str, value: Any) -> InvalidArgumentError:
    return InvalidArgumentError(
        "a value cannot be stored in a Paddle file",
        where=path,
        received=value.str
        if isinstance(value, np.dtype)
        else f"{type(value).__module__}.{type(value).__qualname__}",
        expected="an array or scalar of numbers, None, bool, int, float, str, bytes, list, tuple or dict",
        remedy="put other values into the checkpoint's state or metadata",
    )
