"""A checkpoint's files, written and flushed into a directory that does not have the checkpoint's name yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddle_warm_callbacks.checkpoint import durable, jsonvalue, shards
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents, Elsewhere
from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import (
    MANIFEST,
    SHARDS_VERSION,
    TENSORS,
    VERSION,
    FileEntry,
    Manifest,
    TensorEntry,
    tensors_to_bytes,
)
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams

MODEL = "model.pdparams"
OPTIMIZER = "model.pdopt"
EXTRA = "extra.pdparams"
STATE = "state.json"


@dataclass(frozen=True)
class Written:
    """What was written of a checkpoint.

    Attributes:
        manifest: Its manifest.
        tensors: What its ``tensors.json`` says.
        bytes_written: How many bytes; those shared with the checkpoint before are not among them.
    """

    manifest: Manifest
    tensors: tuple[TensorEntry, ...]
    bytes_written: int


def write_files(directory: Path, contents: CheckpointContents) -> Written:
    """Write every file of a checkpoint into ``directory``, the manifest last; all of it is on disk on return.

    The arrays' bytes pass through memory once: digested and handed to the kernel piece by piece. All files are written
    before the first is waited for, so that the disk is busy throughout.

    Args:
        directory: Exists and is empty.
        contents: Its arrays must not change until this returns.

    Raises:
        InvalidArgumentError: A value that cannot be stored, before anything large is written.
        OSError: Writing failed; the directory is worthless.
    """
    manifest_of = _prepared(contents, VERSION)  # refuses what cannot be stored while nothing is written yet
    state = _state(contents)
    files: dict[str, FileEntry] = {}
    tensors: list[TensorEntry] = []
    opened: list[BinaryIO] = []
    try:
        for name, (arrays, names) in _parts(contents).items():
            file = durable.create(directory / name)
            opened.append(file)
            written = write_pdparams(file, arrays, names)
            files[name] = FileEntry(written.size, written.digest)
            tensors += [
                TensorEntry(t.name, name, t.shape, t.dtype, t.offset, t.digest) for t in written.tensors
            ]
        for name, data in ((STATE, state), (TENSORS, tensors_to_bytes(tuple(tensors)))):
            file = durable.create(directory / name)
            opened.append(file)
            file.write(data)
            files[name] = FileEntry(len(data), digest_of(data))
        for file in opened:
            durable.flush(file)
    finally:
        for file in opened:
            file.close()
    manifest = manifest_of(files)
    return _finished(directory, manifest, tensors, manifest.size)


def write_shards(
    directory: Path,
    contents: CheckpointContents,
    base: shards.Base | None,
    linker: shards.Linker,
    others: shards.Others | None = None,
) -> Written:
    """Write a checkpoint in the layout ``"shards"``, otherwise as :func:`write_files` does.

    Args:
        directory: Exists and is empty.
        contents: Its arrays must not change until this returns.
        base: The checkpoint before, whose shards are shared; or None.
        linker: Of the store.
        others: Who writes what an :class:`Elsewhere` in ``contents`` stands for.

    Raises:
        InvalidArgumentError: A value that cannot be stored.
        CheckpointWriteError: Of ``others``, one could not write its share.
        OSError: Writing failed; the directory is worthless.
    """
    manifest_of = _prepared(contents, SHARDS_VERSION)
    state = _state(contents)
    files, tensors, bytes_written = shards.write_tensors(directory, _parts(contents), base, linker, others)
    for name, data in ((STATE, state), (TENSORS, tensors_to_bytes(tuple(tensors)))):
        durable.write_file(directory / name, data)
        files[name] = FileEntry(len(data), digest_of(data))
        bytes_written += len(data)
    return _finished(directory, manifest_of(files), tensors, bytes_written)


def _finished(
    directory: Path, manifest: Manifest, tensors: Sequence[TensorEntry], bytes_written: int
) -> Written:
    durable.write_file(directory / MANIFEST, manifest.to_bytes())
    durable.flush_directory(directory)
    return Written(manifest, tuple(tensors), bytes_written)


def _state(contents: CheckpointContents) -> bytes:
    return json.dumps(jsonvalue.encode(dict(contents.state)), allow_nan=False).encode("ascii")


def _prepared(contents: CheckpointContents, version: int) -> Callable[[Mapping[str, FileEntry]], Manifest]:
    """Return a function from the files to the manifest, for contents whose values can be stored."""

    def manifest_of(files: Mapping[str, FileEntry]) -> Manifest:
        return Manifest(
            files=files,
            progress=contents.progress,
            epoch_completed=contents.epoch_completed,
            metrics={name: float(value) for name, value in contents.metrics.items()},
            metadata=dict(contents.metadata),
            parent=contents.parent,
            writer=dict(contents.writer),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            version=version,
        )

    jsonvalue.encode(dict(manifest_of({}).metadata))
    return manifest_of


def _parts(contents: CheckpointContents) -> dict[str, tuple[Mapping[str, Any], Mapping[str, str] | None]]:
    """Return content and name table of each file in Paddle's own format."""
    parts: dict[str, tuple[Mapping[str, Any], Mapping[str, str] | None]] = {
        MODEL: (contents.model, contents.model_names)
    }
    if contents.optimizer:
        parts[OPTIMIZER] = (contents.optimizer, _optimizer_names(contents.optimizer))
    if contents.extra:
        parts[EXTRA] = (contents.extra, {})
    return parts


def _optimizer_names(optimizer: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the table ``paddle.save`` adds: an accumulator's key is its name; with nested tensors there is none."""
    if any(isinstance(value, Mapping) and _holds_array(value) for value in optimizer.values()):
        return None
    return {name: name for name, value in optimizer.items() if _is_array(value)}


def _holds_array(values: Mapping[str, Any]) -> bool:
    return any(
        _is_array(value)
        or (isinstance(value, tuple) and any(_is_array(part) for part in value))
        or (isinstance(value, Mapping) and _holds_array(value))
        for value in values.values()
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Elsewhere))
