"""Where things are: local directories, and URLs of any kind, opened through fsspec."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError

# How many seconds storage may take to answer a question whose answer is short, with all that its library tries again.
ANSWER_VARIABLE = "PADDLE_WARM_CALLBACKS_SECONDS_TO_ANSWER"
_SECONDS_TO_ANSWER = 120

T = TypeVar("T")

S3 = frozenset({"s3", "s3a"})
_GOOGLE = frozenset({"gs", "gcs"})
# For an answer. botocore counts from when a request begins to be sent, and on a slow line that takes its time.
_S3_SECONDS = 60
# There are no directories there, and making one would make the bucket, which nobody asked for if its name is mistyped.
_OBJECT_STORES = frozenset({"s3", "s3a", "oss", "gs", "gcs", "abfs", "az"})

# What a scheme's package is called among our extras.
_EXTRAS = {
    "gcs": "gs", "gs": "gs", "hdfs": "hdfs", "hf": "hf", "http": "http", "https": "http", "oss": "oss", "s3": "s3",
    "s3a": "s3",
}  # fmt: skip
# What fsspec's file system imports no sooner than a place is opened.
_IMPORTED_LATE = {"hdfs": "pyarrow"}


def is_url(text: str) -> bool:
    """Return whether ``text`` is a URL rather than a path."""
    return "://" in text


def local_directory(given: Any, where: str, remedy: str = "") -> Path:
    """Return a local directory's path, ``~`` expanded; it need not exist.

    Raises:
        InvalidArgumentError: ``given`` is no path, empty, or a URL; or a file is in its way.
    """
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given) or is_url(str(given)):
        raise InvalidArgumentError(
            "not a local directory",
            where=where,
            received=repr(given),
            expected='a path, such as "runs/defects"',
            remedy=remedy,
        )
    path = Path(given).expanduser()
    parts = (path, *path.parents)
    # os.path's answer no where a directory above may not be looked into.
    in_the_way = next((part for part in parts if os.path.exists(part) and not os.path.isdir(part)), None)  # noqa: PTH110, PTH112
    if in_the_way is not None:
        raise InvalidArgumentError(
            "a file is where the directory would be",
            where=where,
            received=str(path),
            expected="a directory, or a path at which one can be made",
            remedy=f"{in_the_way} is a file: name another directory",
        )
    return path


def opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL or local path, and the path on it without a slash at its end.

    What fsspec remembers of listings is forgotten: some file systems take a file's size from there, and others than
    this process write.

    Raises:
        SourceError: No such scheme, or the package it needs is not installed.
    """
    import fsspec.config  # slow to import, and nothing local needs it
    import fsspec.core

    options: dict[str, Any] = {}
    if not S3.isdisjoint({url.partition("://")[0]}):
        chosen = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"read_timeout": _S3_SECONDS, **chosen}
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise _cannot_be_opened(url, error) from error
    files.invalidate_cache()
    return files, str(path).rstrip("/")


def require_scheme(url: str) -> None:
    """Check that a URL or local path could be opened, without asking anybody.

    Raises:
        SourceError: No such scheme, or the package it needs is not installed.
    """
    if not is_url(url):
        return
    import fsspec

    scheme = url.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
        if scheme in _IMPORTED_LATE:
            importlib.import_module(_IMPORTED_LATE[scheme])
    except (ImportError, ValueError) as error:
        raise _cannot_be_opened(url, error) from error


def _cannot_be_opened(url: str, error: Exception) -> SourceError:
    scheme = url.partition("://")[0]
    extra = _EXTRAS.get(scheme)
    return SourceError(
        f"URLs that begin with {scheme}:// cannot be opened",
        where=url,
        received=str(error),
        expected="a scheme that fsspec knows, with its package installed",
        remedy=f'pip install "paddle-warm-callbacks[{extra}]"'
        if extra
        else f"pip install the fsspec package for {scheme}://",
    )


def answered(url: str, ask: Callable[[], T], arrived: Callable[[], int] = lambda: 0) -> T:
    """Return what ``ask`` returns, which asks a storage that may be silent; it waits no longer than the limit.

    The limit is ``PADDLE_WARM_CALLBACKS_SECONDS_TO_ANSWER`` seconds of the environment, else 120. Some storage
    libraries wait for ever, or for as long again at each of their retries. A question without an answer is left to a
    daemon thread, which ends when its library gives up. fsspec has a file system for each thread: open it before.

    Args:
        url: Whom is asked; a local path is waited for.
        ask: The question.
        arrived: How much of a long answer has come, so far: while it changes, the limit begins anew.

    Raises:
        TimeoutError: There was no answer in time.
        InvalidArgumentError: The variable is no number of seconds.
        Exception: Whatever ``ask`` raises.
    """
    if not is_url(url):
        return ask()
    seconds = _seconds_to_answer()
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="checkpoint-question", daemon=True).start()
    before = arrived()
    while not wait([answer], seconds).done:
        so_far = arrived()
        if so_far == before:
            raise TimeoutError(
                f"no answer within {seconds:g} s; {ANSWER_VARIABLE} in the environment sets how many to wait"
            )
        before = so_far
    return answer.result()


def _seconds_to_answer() -> float:
    given = os.environ.get(ANSWER_VARIABLE) or str(_SECONDS_TO_ANSWER)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise InvalidArgumentError(
            "not a number of seconds",
            where=f"{ANSWER_VARIABLE} in the environment",
            received=repr(given),
            expected="a number above 0",
            remedy=f"unset it to wait for {_SECONDS_TO_ANSWER} s",
        )
    return seconds


def protocols(files: Any) -> frozenset[str]:
    """Return the schemes that a file system goes by."""
    return frozenset({files.protocol} if isinstance(files.protocol, str) else files.protocol)


def make_directory(files: Any, path: str) -> None:
    """Make a directory and those above it, where the file system has such."""
    if _OBJECT_STORES.isdisjoint(protocols(files)):
        files.makedirs(path, exist_ok=True)


def require_bucket(files: Any, path: str) -> None:
    """Check that the bucket of an S3 or Google path is there: a search in one that is not finds nothing, silently.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It could not be reached.
    """
    spoken = protocols(files)
    if not S3.isdisjoint(spoken):
        files.call_s3("list_objects_v2", Bucket=files.split_path(path)[0], MaxKeys=1)
    elif not _GOOGLE.isdisjoint(spoken):
        files.ls(path.partition("/")[0], max_results=1)


def bytes_at(files: Any, path: str) -> bytes | None:
    """Return a small file's bytes, or None if it is not there."""
    try:
        data: bytes = files.cat_file(path)
    except FileNotFoundError:
        return None
    return data
