"""Files and checkpoints fetched from URLs into a local cache, once, whole, by one process at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import filelock
from tqdm import tqdm

from paddle_warm_callbacks.checkpoint import durable, mirror
from paddle_warm_callbacks.checkpoint.manifest import MANIFEST
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.checkpoint.urls import answered, is_url, opened
from paddle_warm_callbacks.errors import SourceError, WarmCallbacksError
from paddle_warm_callbacks.secrets import cause, redacted

logger = logging.getLogger("paddle_warm_callbacks")

# Of this environment variable, else ~/.cache/paddle_warm_callbacks.
CACHE_VARIABLE = "PADDLE_WARM_CALLBACKS_CACHE"
_ATTEMPTS = 3
_SECONDS_BETWEEN = 1.0
_PIECE_BYTES = 1 << 22


def cache_dir() -> Path:
    """Return the cache's directory; it need not exist."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "paddle_warm_callbacks"


def run_directory(url: str) -> Path:
    """Return the local directory that a run at ``url`` works in on this machine: its checkpoints pass through it."""
    url = url.rstrip("/")
    return cache_dir() / "runs" / f"{_name(url)}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetch_file(url: str) -> Path:
    """Return a local copy of the file at ``url``, downloading it unless that very version is in the cache.

    An interrupted download goes on where it stopped, in this call (three attempts) or in a later one; a second process
    waits for the first. The size is compared with what the server says. On a terminal a bar shows how far it is. A
    server that falls silent is given up, as :func:`~paddle_warm_callbacks.checkpoint.urls.answered` says.

    Raises:
        SourceError: There is no such file, or it could not be fetched.
    """
    files, path = opened(url)
    try:
        size, version = answered(url, lambda: (files.size(path), _version(files, path)))
    # Every storage library raises its own.
    except Exception as error:
        raise _unreachable(url, error) from cause(error)
    place = cache_dir() / _key(url, version, size)
    target = place / (_name(path) or "file")
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(str(place) + ".lock"):
        if not target.exists():
            _fetch(files, path, url, size, target)
    return target


def fetch_checkpoint(url: str) -> Checkpoint:
    """Return a verified local copy of the checkpoint directory at ``url``.

    Raises:
        SourceError: There is no checkpoint, or it could not be fetched.
        CorruptCheckpointError: What came is not what its manifest says.
    """
    files, path = opened(url)
    try:
        manifest: bytes = answered(url, lambda: files.cat_file(f"{path}/{MANIFEST}"))
    except Exception as error:
        raise _unreachable(f"{url}/{MANIFEST}", error) from cause(error)
    place = cache_dir() / _key(url, hashlib.sha256(manifest).hexdigest(), None)
    target = place / path.rsplit("/", 1)[-1]
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(str(place) + ".lock"):
        if not target.exists():
            try:
                mirror.download(url, target)
            except WarmCallbacksError:
                raise
            except Exception as error:
                raise _unreachable(url, error) from cause(error)
    checkpoint = Checkpoint(target)
    checkpoint.verify()
    return checkpoint


def _name(path: str) -> str:
    """Return the last part of a path or URL, without secrets: names of files are shown and logged."""
    return redacted(path if is_url(path) else f"path://{path}").partition("?")[0].rsplit("/", 1)[-1]


def _version(files: Any, path: str) -> str:
    """Return what changes when the remote file does, as far as its storage tells."""
    info = files.info(path)
    # fsspec takes a file at an HTTP URL for unchanging; its server's headers know better.
    known = [str(info[name]) for name in ("ETag", "Last-Modified", "LastModified", "mtime") if name in info]
    return " ".join([str(files.ukey(path)), *known])


def _key(url: str, version: str, size: int | None) -> str:
    return hashlib.sha256(f"{url}\n{version}\n{size}".encode()).hexdigest()[:32]


def _fetch(files: Any, path: str, url: str, size: int | None, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    logger.info("downloading %s (%s bytes) to %s", url, "?" if size is None else f"{size:,}", target)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _append(files, path, url, part, size)
            found = part.stat().st_size
            if size is None or found == size:
                break
            if found > size:
                part.unlink()
            raise OSError(f"{found:,} bytes came, {size:,} were announced")
        except Exception as error:
            logger.warning("downloading %s failed (%d of %d): %s", url, attempt, _ATTEMPTS, error)
            if attempt == _ATTEMPTS:
                raise _unreachable(url, error) from cause(error)
            time.sleep(_SECONDS_BETWEEN * attempt)
    with part.open("rb+") as file:
        durable.flush(file)
    part.replace(target)


def _append(files: Any, path: str, url: str, part: Path, size: int | None) -> None:
    """Copy the rest of a remote file to ``part``, with a progress bar; all of it where its size is not known."""
    resume = size is not None
    # As much is read ahead as a block, of which s3fs's own is 50 MB: much for a narrow line in the time of one answer.
    remote = answered(url, lambda: files.open(path, "rb", block_size=_PIECE_BYTES))
    with part.open("ab" if resume else "wb") as out, remote:
        begun = out.tell()
        if begun:
            remote.seek(begun)
        # None shows the bar where someone is looking: on a terminal.
        name = part.stem
        with tqdm(desc=name, initial=begun, total=size, unit="B", unit_scale=True, disable=None) as bar:
            while piece := answered(url, lambda: remote.read(_PIECE_BYTES)):
                out.write(piece)
                bar.update(len(piece))


def _unreachable(url: str, error: Exception) -> SourceError:
    return SourceError(
        "the source could not be fetched",
        where=url,
        received=f"{type(error).__name__}: {error}",
        expected="a file or checkpoint that can be read",
        remedy="check the URL and the credentials; what came so far is kept, and trying again goes on from it",
    )
