"""Objects that are written once: of two who write the same one at the same time, one succeeds and the other is told.

Where the storage itself refuses a second writer, that decides. A local file system does (a hard link to a name that
exists), and so does S3 (``If-None-Match: *``), of which not every server that speaks its protocol takes notice: each is
tried on an object that exists before it is trusted.

Elsewhere this rule decides. Each writer first writes a claim, an object of its own beside the one it wants, and then
lists the claims: it goes on only if its own is the only one, else it leaves the object to nobody. Of two writers at
least the later one sees both claims, so never do both go on; it may happen that neither does, and both try the next.
It needs storage that lists what was written as soon as it is written, as HDFS, OSS and Google's do.
"""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.checkpoint.urls import S3, make_directory, protocols

_MARKER = "registry.json"
_MARKER_BYTES = b'{"format": 1}\n'
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
_LOCAL = frozenset({"file", "local"})


class ExclusiveWriter:
    """Create objects below a root, each at most once.

    Args:
        files: An fsspec file system.
        root: A path on it.
    """

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root
        self._local = not _LOCAL.isdisjoint(protocols(files))
        self._conditional: bool | None = None if not S3.isdisjoint(protocols(files)) else False

    def create(self, path: str, data: bytes) -> bool:
        """Write the object at ``path``, whole; return False if it is there, or its name was given up.

        Args:
            path: On the file system.
            data: No two calls have the same.

        Raises:
            OSError: The storage was not reached, or refused.
        """
        if self._local:
            created = _link(Path(path), data)
            if created is not None:
                return created
        elif self._is_conditional():
            # A refusal may be of a repetition: the first time it was written, and the answer was lost.
            return self._put(path, data) or self._files.cat_file(path) == data
        return self._claim(path, data)

    def _is_conditional(self) -> bool:
        if self._conditional is None:
            marker = f"{self._root}/{_MARKER}"
            self._put(marker, _MARKER_BYTES)
            self._conditional = not self._put(marker, _MARKER_BYTES)
        return self._conditional

    def _put(self, path: str, data: bytes) -> bool:
        try:
            self._files.pipe_file(path, data, mode="create")
        except OSError as error:
            if _is_refusal(error):
                return False
            raise
        return True

    def _claim(self, path: str, data: bytes) -> bool:
        claims, own = f"{path}.claims", uuid.uuid4().hex
        make_directory(self._files, claims)
        self._files.pipe_file(f"{claims}/{own}", b"")
        self._files.invalidate_cache()
        if [str(found).rsplit("/", 1)[-1] for found in self._files.ls(claims, detail=False)] != [own]:
            return False
        self._files.pipe_file(path, data)
        return True


def _is_refusal(error: OSError) -> bool:
    """Return whether a conditional write was refused because the object is there; s3fs has no one way to say so."""
    response = getattr(error.__cause__, "response", None) or {}
    # ConditionalRequestConflict: somebody else's write of the same object is under way, and will have come first.
    refusals = ("PreconditionFailed", "412", "ConditionalRequestConflict")
    return isinstance(error, FileExistsError) or response.get("Error", {}).get("Code") in refusals


def _link(path: Path, data: bytes) -> bool | None:
    """Create a local file that is whole and on disk as soon as it has its name; None: this disk has no hard links."""
    durable.make_directory(path.parent)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        durable.write_file(beside, data)
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            return None
        raise
    finally:
        beside.unlink(missing_ok=True)
    durable.flush_directory(path.parent)
    return True
