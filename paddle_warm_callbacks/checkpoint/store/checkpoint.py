"""One committed checkpoint: its files read, and compared with what its manifest promises."""

from __future__ import annotations

import io
import json
import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paddle_warm_callbacks.checkpoint import jsonvalue, shards, staging
from paddle_warm_callbacks.checkpoint.digests import PIECE_BYTES, digest_of, digest_of_file, new_digest
from paddle_warm_callbacks.checkpoint.manifest import (
    MANIFEST,
    TENSORS,
    Manifest,
    TensorEntry,
    tensors_from_bytes,
)
from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams, without_names
from paddle_warm_callbacks.errors import CheckpointError, CorruptCheckpointError, UnsafeFileError
from paddle_warm_callbacks.progress import Progress

logger = logging.getLogger("paddle_warm_callbacks")


class Checkpoint:
    """Read one committed checkpoint; nothing is read before it is asked for.

    It needs nothing outside its directory, which may have been copied or renamed.

    Args:
        path: The checkpoint's directory.

    Attributes:
        name: The directory's name.
        path: The directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.path = str(self._path)
        self.name = self._path.name

    def __repr__(self) -> str:
        return f"Checkpoint({self.path!r})"

    @property
    def manifest(self) -> Manifest:
        """What it consists of; CorruptCheckpointError if the manifest is missing or damaged."""
        return self._manifest[0]

    @property
    def progress(self) -> Progress:
        """The position it was taken at; reads the manifest."""
        return self.manifest.progress

    @property
    def digest(self) -> str:
        """Digest of the manifest's bytes, and so of everything the checkpoint holds."""
        return self._manifest[1]

    @cached_property
    def _manifest(self) -> tuple[Manifest, str]:
        where = self._path / MANIFEST
        try:
            data = where.read_bytes()
        except OSError as error:
            raise self._unreadable(MANIFEST, error) from error
        return Manifest.from_bytes(data, str(where)), digest_of(data)

    def verify(self) -> None:
        """Read every byte and compare it with what was written.

        Raises:
            CorruptCheckpointError: A file is missing, longer or shorter, or differs; the error names it, and the
                tensors hit.
        """
        for file in self.manifest.files:
            try:
                size, digest = digest_of_file(self._path / file)
            except OSError as error:
                raise self._unreadable(file, error) from error
            self._compare(file, size, digest)

    def read_model(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return structured name to array, verified while it is read; bfloat16 is uint16."""
        return self._native(staging.MODEL)

    def read_optimizer(self) -> dict[str, Any]:
        """Return the content of ``model.pdopt``, verified while it is read; empty if there is none."""
        return self._native(staging.OPTIMIZER)

    def read_extra(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what ``state_dict()`` leaves out, verified while it is read; empty if there is nothing."""
        return self._native(staging.EXTRA)

    def read_state(self) -> dict[str, Any]:
        """Return the rest of the state, verified."""
        state: dict[str, Any] = jsonvalue.decode(json.loads(self._small(staging.STATE)))
        return state

    def read_tensors(self) -> tuple[TensorEntry, ...]:
        """Return every tensor's name, file, shape, dtype and digest, verified; the tensors themselves are not read."""
        return tensors_from_bytes(self._small(TENSORS))

    def to_share(self) -> shards.Base | None:
        """Return what a checkpoint to come may share with it; None if it is of the native layout, or damaged."""
        try:
            if shards.STRUCTURE not in self.manifest.files:
                return None
            return shards.Base(self._path, self.manifest.files, self.read_tensors())
        except CorruptCheckpointError as error:
            logger.warning("nothing is shared with %s: %s", self.name, error)
            return None

    def _native(self, file: str) -> dict[str, Any]:
        if shards.STRUCTURE in self.manifest.files:
            return self._sharded(file)
        if file not in self.manifest.files:
            return {}
        try:
            with (self._path / file).open("rb", buffering=0) as raw:
                return self._read_verified(file, raw)
        except OSError as error:
            raise self._unreadable(file, error) from error

    def _sharded(self, file: str) -> dict[str, Any]:
        structure, tensors = self._small(shards.STRUCTURE), self.read_tensors()
        try:
            content = shards.read_part(self._path, structure, tensors, file)
        except OSError as error:
            raise self._unreadable(Path(error.filename or file).name, error) from error
        unnamed: dict[str, Any] = without_names(content or {})
        return unnamed

    def _read_verified(self, file: str, raw: io.FileIO) -> dict[str, Any]:
        digesting = _DigestingReader(raw)
        refused: UnsafeFileError | None = None
        value: Any = None
        try:
            value = read_pdparams(io.BufferedReader(digesting, 1 << 16), size=digesting.length)
        except UnsafeFileError as error:
            refused = error
        digesting.drain()
        # Damage first: a file that is not what was written need not be readable.
        self._compare(file, digesting.size, digesting.digest.hexdigest())
        if refused is not None:
            raise refused
        content: dict[str, Any] = value
        return content

    def _small(self, file: str) -> bytes:
        try:
            data = (self._path / file).read_bytes()
        except OSError as error:
            raise self._unreadable(file, error) from error
        self._compare(file, len(data), digest_of(data))
        return data

    def _compare(self, file: str, size: int, digest: str) -> None:
        expected = self.manifest.files.get(file)
        if expected is None:
            raise CorruptCheckpointError(
                "the manifest does not know a file that every checkpoint has", where=f"{self.path}/{file}"
            )
        if (size, digest) != (expected.size, expected.digest):
            hit = "" if size != expected.size else self._tensors_hit(file)
            raise CorruptCheckpointError(
                "a file of the checkpoint is not what was written",
                where=f"{self.path}/{file}",
                received=f"{size} bytes, digest {digest}{hit}",
                expected=f"{expected.size} bytes, digest {expected.digest}",
                remedy="use the checkpoint before it, or a mirror's copy",
            )

    def _tensors_hit(self, file: str) -> str:
        """Name the damaged tensors, for the error's sake; says nothing where that cannot be told."""
        if file == TENSORS:
            return ""
        hit = []
        try:
            with (self._path / file).open("rb") as opened:
                for tensor in self.read_tensors():
                    if tensor.stored_in == file:
                        opened.seek(tensor.offset)
                        if digest_of(opened.read(tensor.nbytes)) != tensor.digest:
                            hit.append(tensor.name)
        except (OSError, CheckpointError) as error:
            logger.debug("which tensors of %s are damaged cannot be told: %s", self.path, error)
        more = f" and {len(hit) - 3} more" if len(hit) > 3 else ""
        return f"; damaged: {', '.join(hit[:3])}{more}" if hit else ""

    def _unreadable(self, file: str, error: OSError) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            "a file of the checkpoint cannot be read",
            where=f"{self.path}/{file}",
            received=f"{type(error).__name__}: {error.strerror or error}",
            expected="a readable file",
            remedy="use the checkpoint before it, or a mirror's copy",
        )


class _DigestingReader(io.RawIOBase):
    """A file that digests what is read of it, front to back."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self.length = os.fstat(raw.fileno()).st_size
        self.digest = new_digest()
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        self.size += count
        return count

    def drain(self) -> None:
        """Digest what nobody has read."""
        rest = bytearray(PIECE_BYTES)
        while self.readinto(rest):
            pass
