"""Files of weights that commands write: whole or not at all, and never over another file unasked."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.checkpoint.numbers import Array
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.errors import InvalidArgumentError

_SAFETENSORS = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "BF16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64",
}  # fmt: skip


def check_target(out: str, *, force: bool) -> Path:
    """Return the path to write to, before anything long is begun.

    Raises:
        InvalidArgumentError: Its suffix is not one we write, its directory is not there, or it exists and ``force`` is
            not given.
    """
    path = Path(out).expanduser()
    if path.suffix not in (".pdparams", ".safetensors"):
        raise InvalidArgumentError(
            "the suffix says which format to write", where=out, received=path.suffix or "no suffix",
            expected=".pdparams or .safetensors",
        )  # fmt: skip
    if not path.parent.is_dir():
        raise InvalidArgumentError(
            "the directory to write to is not there", where=out, received=f"no directory {path.parent}",
            remedy=f"mkdir -p {path.parent}",
        )  # fmt: skip
    if path.is_dir() or (path.exists() and not force):
        raise InvalidArgumentError(
            "there is something by that name already", where=out,
            received="a directory" if path.is_dir() else f"a file of {path.stat().st_size:,} bytes",
            remedy="choose another name" + ("" if path.is_dir() else ", or replace it with --force"),
        )  # fmt: skip
    return path


def write_weights(path: Path, tensors: Mapping[str, Array]) -> int:
    """Write tensors in the format of ``path``'s suffix, on disk when this returns; return the file's bytes.

    Raises:
        InvalidArgumentError: A tensor of a type that the format does not have.
        OSError: It could not be written; whatever was at ``path`` is as it was.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with durable.create(beside) as file:
            if path.suffix == ".safetensors":
                write_safetensors(file, tensors)
            else:
                # No table of generated names: they would name the tensors of another process.
                write_pdparams(file, tensors)
            durable.flush(file)
            size = file.tell()
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    durable.flush_directory(path.parent)
    return size


def write_safetensors(file: BinaryIO, tensors: Mapping[str, Array]) -> None:
    """Write a safetensors file, its tensors in the order given; uint16 is bfloat16, as in Paddle's files.

    Raises:
        InvalidArgumentError: A tensor of a type that the format does not have; nothing was written.
    """
    table = {}
    end = 0
    for name, array in tensors.items():
        if array.dtype.name not in _SAFETENSORS:
            raise InvalidArgumentError(
                "a safetensors file cannot hold a tensor of this type", where=name, received=array.dtype.name,
                expected=", ".join(sorted(_SAFETENSORS)), remedy="write a .pdparams file",
            )  # fmt: skip
        begin, end = end, end + array.nbytes
        dtype = _SAFETENSORS[array.dtype.name]
        table[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    header = json.dumps(table).encode("utf-8")
    # The tensors begin at a multiple of 8, as the format's own library has it.
    header += b" " * (-len(header) % 8)
    file.write(struct.pack("<Q", len(header)) + header)
    for array in tensors.values():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)
