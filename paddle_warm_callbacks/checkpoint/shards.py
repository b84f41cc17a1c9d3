"""The layout ``"shards"``: what has not changed since the checkpoint before is not written again.

Tensors stand back to back in shard files, which are never changed once they are written. A tensor whose bytes are in a
shard of the checkpoint before is found there, and that shard gets a second name, a hard link, in the new checkpoint's
directory: so every directory holds all that it needs, whatever becomes of the others, and copies, mirrors and verifies
by itself. A shard of which less than half would still be used is not linked: what is used of it is written again, so
that a checkpoint takes at most twice the room of its tensors.

What is shared on disk is also damaged together. That is why ``"native"`` is the default: there each checkpoint has
bytes of its own, which Paddle reads without this package.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddle_warm_callbacks.checkpoint import durable, jsonvalue
from paddle_warm_callbacks.checkpoint.digests import digest_of, digest_of_file, new_digest
from paddle_warm_callbacks.checkpoint.manifest import FileEntry, TensorEntry
from paddle_warm_callbacks.errors import CorruptCheckpointError

logger = logging.getLogger("paddle_warm_callbacks")

STRUCTURE = "structure.json"
_ALIGNED = 64  # for whoever maps a shard into memory
_PIECE = 1 << 20

Parts = Mapping[str, tuple[Mapping[str, Any], "Mapping[str, str] | None"]]


@dataclass(frozen=True)
class Base:
    """A checkpoint whose shards may be shared.

    Attributes:
        directory: Its directory.
        files: As its manifest says.
        tensors: As its ``tensors.json`` says.
    """

    directory: Path
    files: Mapping[str, FileEntry]
    tensors: tuple[TensorEntry, ...]


class _Array(NamedTuple):
    file: str
    name: str
    array: np.ndarray[Any, Any]
    data: memoryview[int]
    digest: str


class _Place(NamedTuple):
    shard: str
    offset: int


class Linker:
    """Give shards of an earlier checkpoint a name in a new one's directory, if they are what they were.

    A shard is read and compared before its first new name, and again if its file was touched since; not each time.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, int]] = {}

    def written(self, path: Path) -> None:
        """Take a shard for good, for this process has just written it."""
        self._seen[path.name] = _identity(path)

    def link(self, base: Path, shard: str, expected: FileEntry, directory: Path) -> bool:
        """Return whether ``directory`` now has the shard; False if it must be written again."""
        try:
            if self._seen.get(shard) != _identity(base / shard):
                if digest_of_file(base / shard) != (expected.size, expected.digest):
                    logger.warning("%s is not what was written: its tensors are written again", base / shard)
                    return False
                self._seen[shard] = _identity(base / shard)
            os.link(base / shard, directory / shard)
        except (
            OSError
        ) as error:  # gone, unreadable; a file system without hard links, or with no more for this file
            logger.info("%s is not shared: %s", base / shard, error)
            return False
        return True


def write_tensors(
    directory: Path, parts: Parts, base: Base | None, linker: Linker
) -> tuple[dict[str, FileEntry], list[TensorEntry], int]:
    """Write the tensors of ``parts``, and how they go together, into ``directory``; all of it on disk on return.

    Args:
        directory: The new checkpoint's.
        parts: File of the native layout to its content and its table of generated names.
        base: The checkpoint before, or None.
        linker: Of the store.

    Returns:
        Entries of the files; of the tensors; bytes that were written, links not counted.
    """
    arrays: list[_Array] = []
    structure = {
        file: {"content": _without_arrays(content, file, "", arrays), "names": names}
        for file, (content, names) in parts.items()
    }
    files, places = _linked(directory, {array.digest for array in arrays}, base, linker)
    fresh = {array.digest: array for array in arrays if array.digest not in places}
    written = 0
    if fresh:
        shard = f"shard-{digest_of(''.join(fresh).encode('ascii'))}.bin"
        files[shard] = _write_shard(directory / shard, fresh, places)
        linker.written(directory / shard)
        written += files[shard].size
    data = json.dumps(jsonvalue.encode(structure), allow_nan=False).encode("ascii")
    durable.write_file(directory / STRUCTURE, data)
    files[STRUCTURE] = FileEntry(len(data), digest_of(data))
    entries = [
        TensorEntry(
            a.name,
            a.file,
            a.array.shape,
            a.array.dtype.name,
            places[a.digest].offset,
            a.digest,
            places[a.digest].shard,
        )
        for a in arrays
    ]
    return files, entries, written + len(data)


def _linked(
    directory: Path, wanted: set[str], base: Base | None, linker: Linker
) -> tuple[dict[str, FileEntry], dict[str, _Place]]:
    """Link those shards of ``base`` that hold enough of what is wanted; return them, and what is where in them."""
    files: dict[str, FileEntry] = {}
    places: dict[str, _Place] = {}
    if base is None:
        return files, places
    by_shard: dict[str, dict[str, TensorEntry]] = {}
    for tensor in base.tensors:
        if tensor.digest in wanted:
            by_shard.setdefault(tensor.stored_in, {})[tensor.digest] = tensor
    for shard, found in by_shard.items():
        used = sum(tensor.nbytes for tensor in found.values())
        if 2 * used >= base.files[shard].size and linker.link(
            base.directory, shard, base.files[shard], directory
        ):
            files[shard] = base.files[shard]
            places.update({digest: _Place(shard, tensor.offset) for digest, tensor in found.items()})
    return files, places


def _write_shard(path: Path, arrays: Mapping[str, _Array], places: dict[str, _Place]) -> FileEntry:
    digest, size = new_digest(), 0
    with durable.create(path) as file:
        for key, array in arrays.items():
            places[key] = _Place(path.name, size)
            for piece in (*_pieces(array.data), memoryview(bytes(-len(array.data) % _ALIGNED))):
                digest.update(piece)
                file.write(piece)
                size += len(piece)
        durable.flush(file)
    return FileEntry(size, digest.hexdigest())


def _pieces(data: memoryview[int]) -> Iterator[memoryview[int]]:
    return (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))


def _without_arrays(value: Any, file: str, path: str, arrays: list[_Array]) -> Any:
    """Return ``value`` with each array's number in its place, and add the arrays to ``arrays``."""
    if isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
        data = plain.reshape(-1).view(np.uint8).data
        arrays.append(_Array(file, path, value, data, digest_of(data)))
        return np.array(len(arrays) - 1)
    if isinstance(value, tuple):
        named = len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], np.ndarray)
        return tuple(
            _without_arrays(item, file, path if named else _joined(path, i), arrays)
            for i, item in enumerate(value)
        )
    if isinstance(value, list):
        return [_without_arrays(item, file, _joined(path, i), arrays) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _without_arrays(item, file, _joined(path, key), arrays) for key, item in value.items()}
    return value


def _joined(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def read_part(directory: Path, structure: bytes, tensors: tuple[TensorEntry, ...], file: str) -> Any:
    """Return what the native layout's ``file`` would hold, each tensor compared with its digest; None if nothing.

    Args:
        directory: The checkpoint's.
        structure: The bytes of its ``structure.json``, which its manifest has vouched for.
        tensors: All of them, likewise.
        file: Such as ``model.pdparams``.

    Raises:
        CorruptCheckpointError: A tensor is not what was written.
        OSError: A shard cannot be read.
    """
    decoded = jsonvalue.decode(json.loads(structure))
    if file not in decoded:
        return None
    return _with_arrays(decoded[file]["content"], lambda number: _read(directory, tensors[number]))


def _with_arrays(value: Any, read: Any) -> Any:
    if isinstance(value, np.ndarray):
        return read(int(value))
    if isinstance(value, tuple):
        return tuple(_with_arrays(item, read) for item in value)
    if isinstance(value, list):
        return [_with_arrays(item, read) for item in value]
    if isinstance(value, dict):
        return {key: _with_arrays(item, read) for key, item in value.items()}
    return value


def _read(directory: Path, tensor: TensorEntry) -> np.ndarray[Any, Any]:
    flat = np.empty(tensor.nbytes, np.uint8)
    with (directory / tensor.stored_in).open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        into, count = flat.data, 0
        while count < tensor.nbytes and (more := file.readinto(into[count:])):
            count += more
    if digest_of(flat.data) != tensor.digest:
        raise CorruptCheckpointError(
            "a tensor of the checkpoint is not what was written",
            where=f"{directory / tensor.stored_in}, {tensor.name}",
            received=f"{count} bytes at {tensor.offset}, digest {digest_of(flat.data)}",
            expected=f"{tensor.nbytes} bytes, digest {tensor.digest}",
            remedy="use a mirror's copy, or an older checkpoint that does not share this shard",
        )
    array: np.ndarray[Any, Any] = flat.view(np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
