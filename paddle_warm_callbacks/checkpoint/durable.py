"""Files and directories that are whole and on disk when a call returns, or not there at all.

A rename is atomic, but neither it nor the bytes it names survive a power cut by themselves: the file must be flushed
before the rename, and the directory that holds the name after it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

# Holds the small pieces between two tensors; a tensor larger than this goes to the kernel without another copy.
_BUFFER_BYTES = 1 << 16
_EAGER_BYTES = 8 << 20


class _EagerFile(io.FileIO):
    """A new file whose bytes set out for the disk while later ones are still to come.

    The kernel would begin with all of them at the flush, after the processor's work instead of beside it: of 205 MB,
    that is a third of the time until they are durable.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")
        self._written = self._begun = 0

    def write(self, data: Any) -> int:
        count = super().write(data)
        self._written += count
        if self._written - self._begun >= _EAGER_BYTES and hasattr(os, "posix_fadvise"):
            # Linux begins to write what is said not to be needed, and keeps it in memory until it is written.
            with contextlib.suppress(OSError):
                os.posix_fadvise(
                    self.fileno(), self._begun, self._written - self._begun, os.POSIX_FADV_DONTNEED
                )
            self._begun = self._written
        return count


def create(path: Path) -> BinaryIO:
    """Open a new file for writing; FileExistsError if there is one."""
    return io.BufferedWriter(_EagerFile(path), _BUFFER_BYTES)


def flush(file: BinaryIO) -> None:
    """Block until what was written to ``file`` is on disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_directory(path: Path) -> None:
    """Block until the names in a directory are on disk: files made, renamed or removed in it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot flush a directory, and need not: EINVAL is how they say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, each of them on disk when the call returns."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    flush_directory(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Make a new file that holds ``data``, on disk when the call returns; its name needs `flush_directory`."""
    with create(path) as file:
        file.write(data)
        flush(file)


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of a small file at once: a reader sees the old bytes or the new ones.

    One process at a time; what one that died had begun to write is written over.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    try:
        write_file(beside, data)
        os.replace(beside, path)  # noqa: PTH105  # tests make this very call fail
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush_directory(path.parent)


def rename_directory(source: Path, target: Path) -> None:
    """Give a directory its new name beside the old one, on disk when the call returns.

    Raises:
        OSError: ``target`` exists and is not an empty directory, or the rename failed; ``source`` is as it was.
    """
    os.rename(source, target)  # noqa: PTH104  # tests make this very call fail
    flush_directory(target.parent)


def remove_directory(path: Path) -> None:
    """Delete a directory and what is in it; one that is gone already is fine."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():  # something in it vanished meanwhile, and the rest is still there
            shutil.rmtree(path)
