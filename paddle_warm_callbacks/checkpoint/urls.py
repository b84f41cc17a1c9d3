"""Where things are: local directories, and URLs of any kind, opened through fsspec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec.core

from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError

# There are no directories there, and making one would make the bucket, which nobody asked for if its name is mistyped.
_OBJECT_STORES = frozenset({"s3", "s3a", "oss", "gs", "gcs", "abfs", "az"})

# What a scheme's package is called among our extras.
_EXTRAS = {"http": "http", "https": "http", "oss": "oss", "s3": "s3"}


def is_url(text: str) -> bool:
    """Return whether ``text`` is a URL rather than a path."""
    return "://" in text


def local_directory(given: Any, where: str, remedy: str = "") -> Path:
    """Return a local directory's path, ``~`` expanded; whether it exists is not asked.

    Raises:
        InvalidArgumentError: ``given`` is no path, empty, or a URL.
    """
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given) or is_url(str(given)):
        raise InvalidArgumentError(
            "not a local directory",
            where=where,
            received=repr(given),
            expected='a path, such as "runs/defects"',
            remedy=remedy,
        )
    return Path(given).expanduser()


def opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL or local path, and the path on it without a slash at its end.

    Raises:
        SourceError: No such scheme, or the package it needs is not installed.
    """
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        extra = _EXTRAS.get(scheme)
        raise SourceError(
            f"URLs that begin with {scheme}:// cannot be opened",
            where=url,
            received=str(error),
            expected="a scheme that fsspec knows, with its package installed",
            remedy=f'pip install "paddle-warm-callbacks[{extra}]"'
            if extra
            else f"pip install the fsspec package for {scheme}://",
        ) from error
    return files, str(path).rstrip("/")


def protocols(files: Any) -> frozenset[str]:
    """Return the schemes that a file system goes by."""
    return frozenset({files.protocol} if isinstance(files.protocol, str) else files.protocol)


def make_directory(files: Any, path: str) -> None:
    """Make a directory and those above it, where the file system has such."""
    if _OBJECT_STORES.isdisjoint(protocols(files)):
        files.makedirs(path, exist_ok=True)


def bytes_at(files: Any, path: str) -> bytes | None:
    """Return a small file's bytes, or None if it is not there."""
    try:
        data: bytes = files.cat_file(path)
    except FileNotFoundError:
        return None
    return data
