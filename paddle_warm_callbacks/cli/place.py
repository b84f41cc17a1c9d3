"""One checkpoint's directory, on this machine or at a URL, read through fsspec file by file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import (
    MANIFEST,
    TENSORS,
    Manifest,
    TensorEntry,
    tensors_from_bytes,
)
from paddle_warm_callbacks.checkpoint.urls import is_url
from paddle_warm_callbacks.errors import CorruptCheckpointError, SourceError, WarmCallbacksError
from paddle_warm_callbacks.secrets import cause


class LocalFiles:
    """This machine's files, opened as those of an fsspec file system are, without importing it."""

    def open(self, path: str, mode: str) -> Any:
        """Open a file."""
        return Path(path).open(mode)  # the caller closes it


@dataclass(frozen=True)
class Place:
    """One checkpoint's directory, wherever it is.

    Attributes:
        name: The directory's name.
        where: Its path or URL.
        files: The fsspec file system it is on, or `LocalFiles`.
        root: Its path there.
    """

    name: str
    where: str
    files: Any
    root: str

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            CorruptCheckpointError: It is missing or damaged.
            SourceError: It could not be reached.
        """
        return Manifest.from_bytes(self.read(MANIFEST), f"{self.where}/{MANIFEST}")

    def tensors(self, manifest: Manifest) -> tuple[TensorEntry, ...]:
        """Read the list of tensors; errors as :meth:`verified`."""
        return tensors_from_bytes(self.verified(TENSORS, manifest))

    def verified(self, file: str, manifest: Manifest) -> bytes:
        """Return a small file's bytes, which are what was written.

        Raises:
            CorruptCheckpointError: It is missing or damaged.
            SourceError: It could not be reached.
        """
        data = self.read(file)
        promised = manifest.files.get(file)
        if promised is None or (len(data), digest_of(data)) != (promised.size, promised.digest):
            raise CorruptCheckpointError(
                "a file of the checkpoint is not what was written",
                where=f"{self.where}/{file}",
                received=f"{len(data)} bytes, digest {digest_of(data)}",
                expected=f"{promised.size} bytes, digest {promised.digest}" if promised else "",
                remedy="use the checkpoint before it, or a mirror's copy",
            )
        return data

    def read(self, file: str) -> bytes:
        """Return a file's bytes; errors as :meth:`open`."""
        with self.open(file) as opened_file:
            return opened_file.read()

    @contextlib.contextmanager
    def open(self, file: str) -> Iterator[BinaryIO]:
        """Open a file, and give what goes wrong while it is read its name.

        Raises:
            CorruptCheckpointError: It is missing, or, on this machine, cannot be read.
            SourceError: It could not be reached.
        """
        try:
            with self.files.open(f"{self.root}/{file}", "rb") as opened_file:
                yield opened_file
        # Every storage library raises its own.
        except Exception as error:
            if isinstance(error, WarmCallbacksError) or not (
                is_url(self.where) or isinstance(error, OSError)
            ):
                raise
            if isinstance(error, FileNotFoundError) or not is_url(self.where):
                raise CorruptCheckpointError(
                    "a file of the checkpoint cannot be read",
                    where=f"{self.where}/{file}",
                    received="no such file"
                    if isinstance(error, FileNotFoundError)
                    else f"{type(error).__name__}: {error}",
                    expected="a readable file",
                    remedy="use the checkpoint before it, or a mirror's copy",
                ) from error
            raise unreachable(f"{self.where}/{file}", error) from cause(error)


def unreachable(where: str, error: Exception) -> SourceError:
    """Build the error for what a file system did not give, for whatever reason."""
    return SourceError(
        "it could not be reached",
        where=where,
        received=f"{type(error).__name__}: {error}",
        expected="a URL that can be read",
        remedy="check the URL, the network and the credentials",
    )
