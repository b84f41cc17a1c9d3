"""Paddle's own files, ``.pdparams`` and ``.pdopt``: read without executing anything in them, written as they are made.

What is written is what ``paddle.save`` stores, so ``paddle.load`` and ``paddle.Model.load`` read it without this
package; what they wrote is read here, of protocol 2 to 5.
"""

from __future__ import annotations

import io
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np
import numpy.typing as npt

from paddle_warm_callbacks.checkpoint.digests import PIECE_BYTES, Buffer, digest_of, new_digest
from paddle_warm_callbacks.checkpoint.pickle_reader import read_pickle
from paddle_warm_callbacks.checkpoint.pickle_writer import write_pickle
from paddle_warm_callbacks.errors import UnsafeFileError

NAME_TABLE = "StructuredToParameterName@@"
# Protocols 2 and 3 cannot hold a parameter above 1 GiB in one piece; this says how the pieces go together.
_PIECES = "UnpackBigParamInfor@@"
_MOST_DIMENSIONS = 32

Array = npt.NDArray[Any]
PathOrFile = Union[str, "os.PathLike[str]", BinaryIO]


@dataclass(frozen=True)
class WrittenTensor:
    """What was written of one array.

    Attributes:
        name: The keys to it, joined by ``/``.
        shape: Its shape.
        dtype: NumPy's name of its dtype; bfloat16 is uint16.
        offset: Bytes before it in the file.
        digest: Of its bytes, in C order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    digest: str


@dataclass(frozen=True)
class WrittenFile:
    """What was written: size in bytes, digest of the whole file, and the arrays in it in order."""

    size: int
    digest: str
    tensors: tuple[WrittenTensor, ...]


def read_pdparams(source: PathOrFile, *, keep_names: bool = False, size: int | None = None) -> Any:
    """Read a ``.pdparams``, ``.pdopt``, ``.pdema`` or ``.states`` file; nothing in it is executed.

    Args:
        source: A path, or a binary file, read from where it stands to its end.
        keep_names: Keep the table of generated names, under ``"StructuredToParameterName@@"``.
        size: Bytes to the end of a binary file that cannot seek; None: found out.

    Returns:
        What ``paddle.load(source, return_numpy=True)`` returns, bit for bit: as a rule a dictionary of arrays.
        Parameters stored in pieces are put together; named tensors are plain arrays; bfloat16 is uint16. Each array
        is writable and in memory once.

    Raises:
        UnsafeFileError: The file asks for anything but arrays, plain values and containers of them, claims more bytes
            than it has, or is cut off. The error names what, and the offset.
        OSError: It cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size, str(source), keep_names)
    where = str(getattr(source, "name", "") or "a file object")
    if size is not None:
        return _read(source, size, where, keep_names)
    if source.seekable():
        start = source.tell()
        size = source.seek(0, os.SEEK_END) - start
        source.seek(start)
        return _read(source, size, where, keep_names)
    data = source.read()
    return _read(io.BytesIO(data), len(data), where, keep_names)


def write_pdparams(
    file: BinaryIO, contents: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> WrittenFile:
    """Write ``contents`` as ``paddle.save`` would, from the arrays' own memory, and digest it on the way.

    The interpreter's lock is not held while arrays are digested and written. Nothing is flushed to disk.

    Args:
        file: Open for writing; the digest and the offsets count from where it stands.
        contents: Arrays, ``(generated name, array)`` pairs, plain values, and dictionaries, lists and tuples of them.
            The arrays must not change until this returns.
        names: Structured to generated name, stored as the name table; ``paddle.load`` names its tensors by it. None:
            no table, as in a file with nested tensors. An optimizer's is ``{}`` or its keys to themselves.

    Raises:
        InvalidArgumentError: A value that cannot be stored.
        OSError: Writing failed; the file is worthless.
    """
    stream = _DigestingStream(file)
    content = dict(contents)
    if names is not None:
        content[NAME_TABLE] = dict(names)
    write_pickle(content, stream.write, stream.write_array)
    return WrittenFile(stream.size, stream.digest.hexdigest(), tuple(stream.tensors))


class _DigestingStream:
    """A file that remembers what passes by."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = new_digest()
        self.size = 0
        self.tensors: list[WrittenTensor] = []

    def write(self, data: Buffer) -> None:
        self.digest.update(data)
        self._file.write(data)
        self.size += len(data)

    def write_array(self, name: str, array: Array, data: Buffer) -> None:
        offset = self.size
        if len(data) <= PIECE_BYTES:
            self.write(data)
            digest = digest_of(data)
        else:
            digesting = new_digest()
            view = memoryview(data)
            for start in range(0, len(data), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                digesting.update(piece)
                self.write(piece)
            digest = digesting.hexdigest()
        self.tensors.append(WrittenTensor(name, array.shape, array.dtype.name, offset, digest))


def _read(file: BinaryIO, size: int, where: str, keep_names: bool) -> Any:
    value = read_pickle(file, size, where)
    if not isinstance(value, dict):
        return without_names(value)
    if _PIECES in value:
        _put_together(value, where)
    if NAME_TABLE not in value:
        return without_names(value)
    if not keep_names:
        del value[NAME_TABLE]
    return value


def _put_together(value: dict[Any, Any], where: str) -> None:
    """Join parameters stored in pieces, as Paddle does: joined ones stand at the end."""
    table = value.pop(_PIECES)
    try:
        for key, record in table.items():
            parts, shape = record["slices"], record["OriginShape"]
            # Anything else may take for ever to be hashed, or to be multiplied.
            if not all(type(part) is str for part in parts):
                raise TypeError("a piece whose name is none")
            if len(shape) > _MOST_DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
                raise TypeError("a shape that is none")
            pieces = [value.pop(part) for part in parts]
            if not pieces or not all(isinstance(piece, np.ndarray) and piece.ndim == 1 for piece in pieces):
                raise TypeError("a piece is not a flat array")
            if math.prod(shape) != sum(piece.size for piece in pieces):
                raise ValueError("the pieces do not fill the shape")
            value[key] = np.concatenate(pieces).reshape(shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnsafeFileError(
            "a parameter stored in pieces cannot be put together", where=f"{where}, {_PIECES}",
            received=f"{type(error).__name__}: {error}", expected="pieces that are all there, each used once",
        ) from error  # fmt: skip


def _is_named(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], np.ndarray)
    )


def without_names(value: Any) -> Any:
    """Replace ``(name, array)`` pairs by their arrays, wherever they stand."""
    if _is_named(value):
        return value[1]
    if type(value) in (dict, OrderedDict):
        for key in value:
            value[key] = without_names(value[key])
        return value
    if type(value) is list:
        value[:] = [without_names(item) for item in value]
        return value
    if type(value) is tuple:
        return tuple(without_names(item) for item in value)
    return value
