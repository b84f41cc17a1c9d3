"""Directories that appear whole and go whole: written under another name, renamed; renamed away, deleted."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.checkpoint.names import STAGING
from paddle_warm_callbacks.errors import CheckpointWriteError, InvalidArgumentError

logger = logging.getLogger("paddle_warm_callbacks")


def place(directory: Path, write: Callable[[Path], object]) -> None:
    """Have a directory written under another name, and give it its own once it is whole and on disk.

    One that has the name already goes once the new one is on disk.

    Args:
        directory: Where it is to be.
        write: Writes the files, and has them on disk, into the empty directory it is called with.

    Raises:
        CheckpointWriteError: It could not be written. What ``write`` raises besides is passed on.
    """
    staged = directory.parent / f"{STAGING}{directory.name}-{uuid.uuid4().hex[:8]}"
    try:
        durable.make_directory(directory.parent)
        staged.mkdir()
        write(staged)
        if directory.exists():
            remove(directory)
        durable.rename_directory(staged, directory)
    except (OSError, InvalidArgumentError) as error:
        _discard(staged)
        raise write_error("a checkpoint could not be written", directory, error) from error
    except BaseException:
        _discard(staged)
        raise


def remove(directory: Path) -> None:
    """Take its name from a directory, then delete it.

    Raises:
        CheckpointWriteError: It has its name and is whole, or has lost its name and is left to :func:`sweep`.
    """
    doomed = directory.parent / f"{STAGING}deleted-{directory.name}-{uuid.uuid4().hex[:8]}"
    try:
        durable.rename_directory(directory, doomed)
        durable.remove_directory(doomed)
    except OSError as error:
        raise write_error("a checkpoint could not be deleted", directory, error) from error


def sweep(parent: Path) -> int:
    """Delete what dead processes left half written or half deleted in ``parent``; return how many.

    Raises:
        CheckpointWriteError: One could not be deleted.
    """
    swept = 0
    try:
        for entry in os.listdir(parent) if parent.exists() else ():  # noqa: PTH208  # quick among 10,000
            if entry.startswith(STAGING):
                durable.remove_directory(parent / entry)
                swept += 1
    except OSError as error:
        raise write_error("what a dead process left cannot be deleted", parent, error) from error
    return swept


def write_error(what: str, where: Path, error: Exception) -> CheckpointWriteError:
    """Build the error for what a disk did not do, or an argument did not allow."""
    return CheckpointWriteError(
        what,
        where=str(where),
        received=str(error)
        if isinstance(error, InvalidArgumentError)
        else f"{type(error).__name__}: {error}",
        expected="a directory on a disk with room, that this process may write to",
        remedy="checkpoints committed before it are intact",
    )


def _discard(staged: Path) -> None:
    try:
        durable.remove_directory(staged)
    except OSError as error:
        logger.warning("%s is left behind until the next run sweeps it: %s", staged, error)
