"""Reading the parameters of an inference model: values in ``.pdiparams``, their names in the files beside it.

A ``.pdiparams`` is one tensor after another in Paddle's binary format, without names, in the order of their names.
Those are in ``.pdiparams.info`` (Paddle 2, with the structured ones), in ``.pdmodel`` (Paddle 2, a protocol buffer) or
in ``.json`` (Paddle 3). Nothing of these is executed.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddle_warm_callbacks.checkpoint.file_kinds import PADDLE_TENSORS, kind_of_file
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.errors import SourceError, UnsafeFileError

SUFFIX = ".pdiparams"
# What beside the parameters has their names, the best first: ends that take the place of SUFFIX.
BESIDE = (".pdiparams.info", ".json", ".pdmodel")

# VarType.Type of Paddle's framework.proto; bfloat16 is uint16.
_DTYPES = {
    0: "?", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8",
    20: "u1", 21: "i1", 22: "<u2", 23: "<c8", 24: "<c16",
}  # fmt: skip
_DENSE_TENSOR = 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_DIMENSIONS = 32
_LONGEST_DESCRIPTION_BYTES = 4096


@dataclass(frozen=True)
class InferenceParameters:
    """The parameters of an inference model.

    Attributes:
        arrays: Name to array, in the order of the file.
        structured: Whether the names are those of the Layer's ``state_dict()``; else Paddle's generated ones
            (``linear_0.w_0``).
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    structured: bool


def read_inference_parameters(
    path: str | os.PathLike[str], names: str | os.PathLike[str] | None = None
) -> InferenceParameters:
    """Return the parameters of the inference model whose ``.pdiparams`` is at ``path``.

    Args:
        path: The ``.pdiparams``.
        names: The file that has their names; None: looked for beside it.

    Raises:
        SourceError: Nothing beside it has the names.
        UnsafeFileError: One of the files is not what Paddle writes, or they do not belong together.
        OSError: They cannot be read.
    """
    path = Path(path)
    _require_tensors(path)
    known = _names(path, _beside(path) if names is None else Path(names))
    tensors = list(_tensors(path))
    if len(tensors) != len(known):
        raise _refused(path, f"{len(tensors)} tensors, and {len(known)} names beside them")
    structured = None not in known.values() and len(set(known.values())) == len(known)
    called = {old: new if structured and new is not None else old for old, new in known.items()}
    return InferenceParameters(
        {called[name]: tensor for name, tensor in zip(sorted(known), tensors)}, structured
    )


def _require_tensors(path: Path) -> None:
    """Say of a file that is something else what it is, before its names are looked for beside it."""
    kind = kind_of_file(path)
    if kind is not None and kind is not PADDLE_TENSORS:
        raise _refused(path, kind.seems, kind.remedy)


def _beside(path: Path) -> Path:
    candidates = [path.with_suffix(end) for end in BESIDE]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise no_names(str(path), [candidate.name for candidate in candidates])


def no_names(where: str, tried: list[str]) -> SourceError:
    """Return the error that none of the files that could have the parameters' names is there."""
    return SourceError(
        "the parameters of an inference model have no names by themselves",
        where=where,
        received=f"no {', '.join(tried[:-1])} or {tried[-1]} beside it",
        expected="the file that was exported with it",
        remedy="put it there, or give the .pdparams file that the model was exported from",
    )


def _names(path: Path, beside: Path) -> Mapping[str, str | None]:
    """Return the generated name of each parameter, and its structured one where it is known."""
    try:
        if beside.suffix == ".info":
            records = read_pdparams(beside)
            return {name: record.get("structured_name") for name, record in records.items()}
        data = beside.read_bytes()
        if beside.suffix == ".json":
            return dict.fromkeys(_names_of_program(json.loads(data)))
        return dict.fromkeys(_names_of_model(data))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _refused(path, f"{type(error).__name__} in the names beside it: {error}") from error


def _names_of_program(content: Any) -> Iterator[str]:
    """Yield the parameters' names of a program of Paddle 3: ``{"#": "p", "A": [flags …, name]}``."""
    for operation in content["program"]["regions"][0]["blocks"][0]["ops"]:
        if operation["#"] == "p":
            name = operation["A"][3]
            if not isinstance(name, str):
                raise TypeError("a parameter whose name is none")
            yield name


def _names_of_model(data: bytes) -> Iterator[str]:
    """Yield the parameters' names of a ``ProgramDesc``: the persistable tensors of its first block."""
    blocks = [value for number, value in _fields(data) if number == 1]
    for number, described in _fields(blocks[0]):
        if number != 3:  # a VarDesc
            continue
        variable = dict(_fields(described))
        kind = dict(_fields(variable[2])).get(1)  # its VarType's type
        if variable.get(3) and kind == _DENSE_TENSOR:  # persistable; feed and fetch lists are, too
            yield variable[1].decode("utf-8")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of a protocol buffer's fields; of a repeated one each."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        value: Any
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"a field of wire type {kind}")
        if at > len(data):
            raise ValueError("a field that is cut off")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _tensors(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while file.tell() < size:
            try:
                yield _tensor(file, size)
            except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
                raise _refused(path, f"{error} before byte {file.tell()}") from error


def _tensor(file: BinaryIO, size: int) -> np.ndarray[Any, Any]:
    version, levels = struct.unpack("<IQ", file.read(12))
    if version != 0 or levels > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor of version {version} with {levels} levels")
    for _ in range(levels):
        (length,) = struct.unpack("<Q", file.read(8))
        _require(length, size - file.tell())
        file.seek(length, os.SEEK_CUR)
    version, length = struct.unpack("<Ii", file.read(8))
    if version != 0 or not 0 < length <= _LONGEST_DESCRIPTION_BYTES:
        raise ValueError(f"a tensor of version {version}, described in {length} bytes")
    described = list(_fields(file.read(length)))
    shape = tuple(value for number, value in described if number == 2)
    code = dict(described)[1]
    if code not in _DTYPES:
        raise ValueError(f"a tensor of type {code}")
    dtype = np.dtype(_DTYPES[code])
    if len(shape) > _MOST_DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        raise ValueError(f"a tensor of shape {shape}")
    _require(math.prod(shape) * dtype.itemsize, size - file.tell())
    array = np.empty(shape, dtype)
    if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:  # type: ignore[attr-defined]
        raise ValueError("a tensor that is cut off")
    return array


def _require(count: int, left: int) -> None:
    if count > left:
        raise ValueError(f"{count:,} bytes where {left:,} are left")


def _refused(
    path: Path, what: str, remedy: str = "get the files again, all from one export"
) -> UnsafeFileError:
    return UnsafeFileError(
        "the files are not an inference model that Paddle exports",
        where=str(path),
        received=what,
        expected="tensors in Paddle's binary format, and as many names beside them",
        remedy=remedy,
    )
