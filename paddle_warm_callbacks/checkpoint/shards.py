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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from paddle_warm_callbacks.checkpoint import durable, jsonvalue
from paddle_warm_callbacks.checkpoint.contents import Elsewhere
from paddle_warm_callbacks.checkpoint.digests import digest_of, digest_of_file, new_digest
from paddle_warm_callbacks.checkpoint.manifest import FileEntry, TensorEntry
from paddle_warm_callbacks.errors import CheckpointWriteError, CorruptCheckpointError

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


@dataclass(frozen=True)
class Stored:
    """Where the bytes of an array are.

    Attributes:
        shape: Of the array.
        dtype: NumPy's name of its dtype.
        digest: Of its bytes, in C order and little-endian.
        shard: The file they are in.
        offset: Bytes before them in it.
    """

    shape: tuple[int, ...]
    dtype: str
    digest: str
    shard: str
    offset: int


@dataclass(frozen=True)
class Share:
    """What one process has written of a checkpoint, all of it on disk.

    Attributes:
        files: Its shards, written and linked.
        stored: Where each array is, by the key it was given under.
        bytes_written: Links not counted.
    """

    files: Mapping[str, FileEntry] = field(default_factory=dict)
    stored: Mapping[str, Stored] = field(default_factory=dict)
    bytes_written: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for another rank."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Share:
        """Return what :meth:`to_json` was called on."""
        return cls(
            {name: FileEntry(**entry) for name, entry in record["files"].items()},
            {
                key: Stored(**{**place, "shape": tuple(place["shape"])})
                for key, place in record["stored"].items()
            },
            record["bytes_written"],
        )


class Others(Protocol):
    """The other processes, where several write a checkpoint together."""

    def begin(self, directory: Path, base: Base | None) -> None:
        """Let them write their shares into ``directory``, and share with ``base``."""

    def gathered(self) -> Share:
        """Return what they have written, once all have; raise if one could not, once none writes any more."""


class _Leaf(NamedTuple):
    file: str
    name: str
    value: np.ndarray[Any, Any] | Elsewhere

    def key(self, number: int) -> str:
        return self.value.key if isinstance(self.value, Elsewhere) else str(number)


class _Array(NamedTuple):
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
        except FileExistsError:  # another rank, whose share has as much of it, was first
            return (base / shard).samefile(directory / shard)
        except (
            OSError
        ) as error:  # gone, unreadable; a file system without hard links, or no more for this file
            logger.info("%s is not shared: %s", base / shard, error)
            return False
        return True


def write_tensors(
    directory: Path, parts: Parts, base: Base | None, linker: Linker, others: Others | None = None
) -> tuple[dict[str, FileEntry], list[TensorEntry], int]:
    """Write the tensors of ``parts``, and how they go together, into ``directory``; all of it on disk on return.

    Args:
        directory: The new checkpoint's.
        parts: File of the native layout to its content and its table of generated names.
        base: The checkpoint before, or None.
        linker: Of the store.
        others: Who writes what an :class:`Elsewhere` stands for.

    Returns:
        Entries of the files; of the tensors; bytes that were written, links not counted.

    Raises:
        CheckpointWriteError: Of ``others``, one could not write, or none has written an array.
    """
    leaves: list[_Leaf] = []
    structure = {
        file: {"content": _without_arrays(content, file, "", leaves), "names": names}
        for file, (content, names) in parts.items()
    }
    own = {
        leaf.key(number): leaf.value
        for number, leaf in enumerate(leaves)
        if not isinstance(leaf.value, Elsewhere)
    }
    theirs = Share()
    if others is not None:
        others.begin(directory, base)
    try:
        ours = write_share(directory, own, base, linker, salt="" if others is None else directory.name)
    finally:
        if others is not None:
            theirs = others.gathered()
    stored = {**theirs.stored, **ours.stored}
    data = json.dumps(jsonvalue.encode(structure), allow_nan=False).encode("ascii")
    durable.write_file(directory / STRUCTURE, data)
    files = {**theirs.files, **ours.files, STRUCTURE: FileEntry(len(data), digest_of(data))}
    entries = [_entry(leaf, stored.get(leaf.key(number))) for number, leaf in enumerate(leaves)]
    return files, entries, ours.bytes_written + theirs.bytes_written + len(data)


def write_share(
    directory: Path,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    base: Base | None,
    linker: Linker,
    *,
    salt: str = "",
) -> Share:
    """Write those of ``arrays`` that ``base`` does not have, and link what it has; all of it on disk on return.

    Args:
        directory: The new checkpoint's.
        arrays: By a key that the caller knows them by.
        base: The checkpoint before, or None.
        linker: Of this process.
        salt: Different for each process that writes into ``directory``, so that their shards' names are.
    """
    found = {key: _digested(array) for key, array in arrays.items()}
    files, places = _linked(directory, {array.digest for array in found.values()}, base, linker)
    fresh = {array.digest: array for array in found.values() if array.digest not in places}
    written = 0
    if fresh:
        shard = f"shard-{digest_of((salt + ''.join(fresh)).encode())}.bin"
        files[shard] = _write_shard(directory / shard, fresh, places)
        linker.written(directory / shard)
        written = files[shard].size
    stored = {
        key: Stored(
            a.array.shape, a.array.dtype.name, a.digest, places[a.digest].shard, places[a.digest].offset
        )
        for key, a in found.items()
    }
    return Share(files, stored, written)


def _entry(leaf: _Leaf, stored: Stored | None) -> TensorEntry:
    if stored is None:
        raise CheckpointWriteError(
            "no rank has written a tensor",
            where=f"{leaf.file}, {leaf.name}",
            received="its share from every rank, and it is in none",
            expected="the same network and optimizer on every rank",
            remedy="checkpoints committed before it are intact",
        )
    return TensorEntry(
        leaf.name, leaf.file, stored.shape, stored.dtype, stored.offset, stored.digest, stored.shard
    )


def _digested(array: np.ndarray[Any, Any]) -> _Array:
    plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    data = plain.reshape(-1).view(np.uint8).data
    return _Array(array, data, digest_of(data))


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


def _without_arrays(value: Any, file: str, path: str, leaves: list[_Leaf]) -> Any:
    """Return ``value`` with each array's number in its place, and add the arrays to ``leaves``."""
    if _is_leaf(value):
        leaves.append(_Leaf(file, path, value))
        return np.array(len(leaves) - 1)
    if isinstance(value, tuple):
        named = len(value) == 2 and isinstance(value[0], str) and _is_leaf(value[1])
        return tuple(
            _without_arrays(item, file, path if named else _joined(path, i), leaves)
            for i, item in enumerate(value)
        )
    if isinstance(value, list):
        return [_without_arrays(item, file, _joined(path, i), leaves) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _without_arrays(item, file, _joined(path, key), leaves) for key, item in value.items()}
    return value


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Elsewhere))


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
