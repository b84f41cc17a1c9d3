"""Reading safetensors files: a length, a JSON table, and the tensors' bytes."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint.file_kinds import SAFETENSORS, FileKind, kind_of_file
from paddle_warm_callbacks.errors import UnsafeFileError

# bfloat16 is uint16, as in Paddle's own files. 8-bit floats have no NumPy type and are refused by name.
_DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
# The format's own limit.
_LONGEST_TABLE_BYTES = 100_000_000


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return name to array, in the order of the file's table; bfloat16 is uint16.

    Raises:
        UnsafeFileError: The table is not one, or does not describe exactly the bytes that follow it.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _LONGEST_TABLE_BYTES):
                raise ValueError(f"a table of {length:,} bytes in a file of {size:,}")
            table = json.loads(file.read(length))
            table.pop("__metadata__", None)
            spans = [(*_span(record, size - 8 - length), name) for name, record in table.items()]
            _require_gapless(spans, size - 8 - length)
            arrays = {}
            for begin, _, dtype, shape, name in sorted(spans, key=lambda span: span[:2]):
                file.seek(8 + length + begin)
                array = np.empty(shape, dtype)
                if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                    raise ValueError(f"{name} is cut off")
                arrays[name] = array
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
            kind = kind_of_file(Path(path))
            if kind is None or kind is SAFETENSORS:
                kind = FileKind(f"{type(error).__name__}: {error}", "get the file again")
            raise UnsafeFileError(
                "the file is not a whole safetensors file", where=str(path), received=kind.seems,
                expected="a table that describes the bytes after it", remedy=kind.remedy,
            ) from error  # fmt: skip
    return {name: arrays[name] for name in table}


def _span(record: Any, room: int) -> tuple[int, int, str, tuple[int, ...]]:
    begin, end = record["data_offsets"]
    shape = tuple(record["shape"])
    if record["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {record['dtype']!r}")
    dtype = _DTYPES[record["dtype"]]
    if not all(type(n) is int and n >= 0 for n in (begin, end, *shape)) or not begin <= end <= room:
        raise ValueError(f"offsets {begin}, {end} and shape {shape} in {room:,} bytes")
    if math.prod(shape) * np.dtype(dtype).itemsize != end - begin:
        raise ValueError(f"shape {shape} of {record['dtype']} in {end - begin:,} bytes")
    return begin, end, dtype, shape


def _require_gapless(spans: list[Any], room: int) -> None:
    place = 0
    for begin, end, *_ in sorted(spans, key=lambda span: span[:2]):
        if begin != place:
            raise ValueError(f"a gap or an overlap at byte {min(begin, place)}")
        place = end
    if place != room:
        raise ValueError(f"{room - place:,} bytes that belong to no tensor")
