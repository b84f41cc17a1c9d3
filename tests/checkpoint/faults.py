"""A disk that stops or fails at the n-th thing asked of it, and forgets what it was not made to keep."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from paddle_warm_callbacks.checkpoint import durable


class Faults:
    """Count every write, flush, rename, removal and new directory of the package, and act at a chosen one.

    Args:
        patch: Undoes the instrumentation.
        act: Called with the number, from 1, and the name of each operation before it is done; may raise or exit.
    """

    def __init__(self, patch: pytest.MonkeyPatch, act: Callable[[int, str], None]) -> None:
        self._act = act
        self.operations: list[str] = []
        # What a power cut may take back: files whose bytes, and directories whose names, were not flushed.
        self._unflushed_files: set[Path] = set()
        self._unflushed_names: dict[
            Path, list[tuple[Path, Path | None]]
        ] = {}  # in a directory: (new, old or None)
        create = durable.create

        def creating(path: Path) -> Any:
            self.count(f"create {path.name}")
            file = create(path)
            self._unflushed_files.add(path)
            self._unflushed_names.setdefault(path.parent, []).append((path, None))
            return _File(self, path, file)

        patch.setattr(durable, "create", creating)
        self._patch(patch, os, "rename", self._renamed)
        self._patch(patch, os, "replace", lambda *_: None)
        self._patch(patch, os, "link", self._linked)
        self._patch(patch, os, "fsync", self._flushed)
        self._patch(patch, shutil, "rmtree", lambda *_: None, first=self._remove_half)
        self._patch(patch, Path, "mkdir", lambda *_: None)
        self._patch(patch, Path, "unlink", lambda *_: None)

    def _patch(
        self,
        patch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        after: Callable[..., None],
        first: Callable[..., None] = lambda *_: None,
    ) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.count(name)
            first(*arguments)
            result = original(*arguments, **options)
            after(*arguments)
            return result

        patch.setattr(owner, name, counted)

    def count(self, operation: str) -> None:
        """Note an operation that is about to be done."""
        self.operations.append(operation)
        self._act(len(self.operations), operation)

    def _flushed(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self._unflushed_files.discard(path)
        self._unflushed_names.pop(path, None)

    def _renamed(self, source: Path, target: Path) -> None:
        """Note a directory's new name, and that what is in it has moved."""
        self._unflushed_names.setdefault(target.parent, []).append((target, source))
        self._unflushed_files = {_moved(path, source, target) for path in self._unflushed_files}
        inside = self._unflushed_names.pop(source, [])
        if inside:
            self._unflushed_names[target] = [(_moved(path, source, target), old) for path, old in inside]

    def _linked(self, source: Path, target: Path) -> None:
        self._unflushed_names.setdefault(target.parent, []).append((target, None))

    def _remove_half(self, path: Path) -> None:
        """Stop in the middle of a removal too."""
        for entry in sorted(Path(path).iterdir())[::2]:
            os.unlink(entry)  # noqa: PTH108  # Path.unlink counts
        self.count("rmtree, half done")

    def forget_what_was_not_flushed(self) -> None:
        """Leave the disk as a power cut may: unflushed files half there, unflushed names gone."""
        for path in self._unflushed_files:
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)
        for directory in sorted(
            self._unflushed_names, reverse=True
        ):  # what is inside before what is around it
            for new, old in reversed(self._unflushed_names[directory]):
                if new.exists() and old is None:
                    new.unlink()
                elif new.exists() and old is not None:
                    new.rename(old)


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.name if path.parent == source else path


class _File:
    """A file each of whose writes is counted."""

    def __init__(self, faults: Faults, path: Path, file: BinaryIO) -> None:
        self._faults = faults
        self._path = path
        self._file = file

    def write(self, data: Any) -> int:
        if len(data) > 40:  # not every opcode
            self._faults.count(f"write {self._path.name}")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
