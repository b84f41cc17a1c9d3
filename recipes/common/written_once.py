"""Data that a recipe makes for its embedded default: written once, and whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def write_once(directory: Path, write: Callable[[Path], None]) -> None:
    """Have a folder written, unless it is there already.

    It appears by a rename, whole or not at all; what an interrupted writing has left is removed first.

    Args:
        directory: The folder.
        write: Writes what is to be in it into the empty folder that it is given.
    """
    if directory.exists():
        return
    half_written = directory.with_name(f".{directory.name}-being-written")
    shutil.rmtree(half_written, ignore_errors=True)
    half_written.mkdir(parents=True)
    write(half_written)
    half_written.rename(directory)
