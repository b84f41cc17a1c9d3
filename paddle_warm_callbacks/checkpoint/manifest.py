"""The manifest: the small file, written last, that says what a checkpoint consists of and where training stood.

Its first line is the digest of all that follows it, so that no bit of a checkpoint is unprotected: the manifest covers
every other file, and itself. The digests of single tensors are in a file of their own, which keeps the manifest small:
to find the best of 10,000 checkpoints is to read 10,000 manifests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from paddle_warm_callbacks.checkpoint import jsonvalue
from paddle_warm_callbacks.checkpoint.digests import ALGORITHM, digest_of
from paddle_warm_callbacks.errors import CorruptCheckpointError, InvalidArgumentError
from paddle_warm_callbacks.progress import Progress

MANIFEST = "manifest.json"
TENSORS = "tensors.json"
# How a checkpoint lies on disk, and the version of the manifest that says so.
LAYOUTS = ("native", "shards")
VERSION, SHARDS_VERSION = 1, 2

_PREFIX = b'{"digest": "'
_DIGEST_LETTERS = 32


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint: its size in bytes and the digest of its bytes."""

    size: int
    digest: str


@dataclass(frozen=True)
class TensorEntry:
    """One array in one of the files.

    Attributes:
        name: The keys to it in the file, joined by ``/``.
        file: The file's name.
        shape: Its shape.
        dtype: NumPy's name of its dtype; bfloat16 is uint16.
        offset: Bytes before it in the file.
        digest: Of its bytes, in C order.
        shard: Where the layout is ``"shards"``: the file its bytes are in; ``file`` then says which of the native
            layout's files would hold it.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    digest: str
    shard: str = ""

    @property
    def stored_in(self) -> str:
        """The file its bytes are in."""
        return self.shard or self.file

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        import numpy as np  # late: a listing of manifests does without

        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of, and the position of the run it was taken at.

    Attributes:
        files: File name to size and digest, of every file but the manifest itself.
        progress: The position.
        epoch_completed: Whether it was taken after an epoch and its evaluation.
        metrics: Metric name to value at that position.
        metadata: The user's own values, such as ``"labels"``.
        parent: Digest of the manifest the run was resumed or warm-started from, or None.
        writer: Package name to version, of what wrote the checkpoint.
        created: When it was written: UTC, ISO 8601. For people; nothing is decided by it.
        algorithm: Name of the digests' algorithm.
        version: Of this format.
    """

    files: Mapping[str, FileEntry]
    progress: Progress
    epoch_completed: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    writer: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    algorithm: str = ALGORITHM
    version: int = VERSION

    @property
    def size(self) -> int:
        """Bytes of all files together, the manifest not counted."""
        return sum(entry.size for entry in self.files.values())

    def to_bytes(self) -> bytes:
        """Return the manifest file's bytes.

        Raises:
            NotEncodable: A value of ``metadata`` has no JSON form.
        """
        record = {
            "version": self.version,
            "algorithm": self.algorithm,
            "created": self.created,
            "progress": self.progress.to_json(),
            "epoch_completed": self.epoch_completed,
            "metrics": jsonvalue.encode(dict(self.metrics)),
            "metadata": jsonvalue.encode(dict(self.metadata)),
            "parent": self.parent,
            "writer": dict(self.writer),
            "files": {name: asdict(entry) for name, entry in self.files.items()},
        }
        rest = b'", ' + json.dumps(record, indent=1, allow_nan=False).encode("ascii")[1:].lstrip() + b"\n"
        return _PREFIX + digest_of(rest).encode("ascii") + rest

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """Read the manifest file's bytes.

        Raises:
            CorruptCheckpointError: They are not exactly what `to_bytes` returned, or of a newer version.
        """
        begins = len(_PREFIX) + _DIGEST_LETTERS
        rest = data[begins:]
        if data[:begins] != _PREFIX + digest_of(rest).encode("ascii"):
            raise CorruptCheckpointError(
                "the manifest's bytes are not what was written", where=where,
                received=f"{len(data)} bytes whose digest is not the one they begin with",
                remedy="use the checkpoint before it",
            )  # fmt: skip
        record = json.loads(data)
        # Where no key begins with $, what was encoded is what it was: most manifests, and it is done a thousand times.
        decode = jsonvalue.decode if b'"$' in data else _as_it_is
        if record.get("version", 0) > SHARDS_VERSION or record.get("algorithm") != ALGORITHM:
            raise CorruptCheckpointError(
                "the checkpoint was written by a newer version of this package", where=where,
                received=f"format {record.get('version')}, digests by {record.get('algorithm')}",
                expected=f"format {SHARDS_VERSION} or less, digests by {ALGORITHM}",
                remedy="pip install --upgrade paddle-warm-callbacks",
            )  # fmt: skip
        try:
            return cls(
                files={
                    name: FileEntry(entry["size"], entry["digest"]) for name, entry in record["files"].items()
                },
                progress=Progress.from_json(record["progress"]),
                epoch_completed=bool(record["epoch_completed"]),
                metrics={name: float(value) for name, value in decode(record["metrics"]).items()},
                metadata=decode(record["metadata"]),
                parent=record["parent"],
                writer=record["writer"],
                created=record["created"],
                algorithm=record["algorithm"],
                version=record["version"],
            )
        except (KeyError, TypeError, AttributeError, InvalidArgumentError) as error:
            raise CorruptCheckpointError(
                "the manifest lacks what it must say", where=where,
                received=f"{type(error).__name__}: {error}", expected=f"format {SHARDS_VERSION} or less",
                remedy="it was not written by this package",
            ) from error  # fmt: skip


def _as_it_is(value: Any) -> Any:
    return value


def tensors_to_bytes(tensors: tuple[TensorEntry, ...]) -> bytes:
    """Return the bytes of the file that lists every tensor, one a line."""
    # asdict, and json with an indent, hold the interpreter ten times as long, and training beside it waits for that.
    records = (
        {key: value for key, value in vars(entry).items() if key != "shard" or value} for entry in tensors
    )
    return ("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n").encode("ascii")


def tensors_from_bytes(data: bytes) -> tuple[TensorEntry, ...]:
    """Read :func:`tensors_to_bytes`'s bytes, which a manifest has vouched for."""
    return tuple(TensorEntry(**{**record, "shape": tuple(record["shape"])}) for record in json.loads(data))
