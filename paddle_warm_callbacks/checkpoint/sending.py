"""Files on their way to another file system: in parallel parts where it is S3, and only what is not there already.

What is at an S3 path is compared by its ETag, which of an object sent in parts is the MD5 of its parts' MD5s. The parts
are chosen by the file's size alone, so this module can tell from the local file what the ETag must be, and an upload
that broke off, with the process or without, goes on where it stopped: objects that are there stay, and so do the parts
of an unfinished one. Where a server's ETags are something else, such as with its own keys, all of it is sent again.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paddle_warm_callbacks.checkpoint import durable
from paddle_warm_callbacks.checkpoint.digests import digest_of_file
from paddle_warm_callbacks.checkpoint.manifest import FileEntry
from paddle_warm_callbacks.checkpoint.urls import S3, protocols

logger = logging.getLogger("paddle_warm_callbacks")

# Memory that uploads take: so many parts of this size. S3 wants parts of 5 MiB at least, and at most 10,000 of them.
_PARTS_AT_ONCE = 4
_PART_BYTES = 8 << 20
_MOST_PARTS = 10_000
_PIECE_BYTES = 1 << 20
_LOCAL = frozenset({"file", "local"})
# What copies an object itself when it is told to; on others a copy would pass through this machine.
_COPY_THEMSELVES = frozenset({"abfs", "az", "file", "gcs", "gs", "local", "memory", "oss", "s3", "s3a"})


class Throttle:
    """Let bytes pass at no more than a rate, over any number of threads.

    Args:
        bytes_per_second: The rate; None: any.
    """

    def __init__(self, bytes_per_second: float | None) -> None:
        self._rate = bytes_per_second
        self._guard = threading.Lock()
        self._free = 0.0

    def take(self, count: int) -> None:
        """Block until ``count`` bytes may pass."""
        if self._rate is None:
            return
        with self._guard:
            now = time.monotonic()
            starts = max(self._free, now)
            self._free = starts + count / self._rate
        time.sleep(starts - now)


class Sender:
    """Send files to a file system, from any number of threads; a context manager.

    Args:
        files: An fsspec file system.
        bytes_per_second: A limit for all files together; None: there is none.

    Attributes:
        at_once: Parts of one file that are on their way at the same time.
        bytes_sent: Bytes of files that went over the line so far; copies made by the other side do not count.
    """

    def __init__(self, files: Any, bytes_per_second: float | None = None) -> None:
        self.files = files
        self.bytes_sent = 0
        self.at_once = _PARTS_AT_ONCE
        self._throttle = Throttle(bytes_per_second)
        self._limited = bytes_per_second is not None
        self._guard = threading.Lock()
        self._listing = threading.Lock()
        spoken = protocols(files)
        self._s3 = not S3.isdisjoint(spoken)
        self._local = not _LOCAL.isdisjoint(spoken)
        self._copies = not _COPY_THEMSELVES.isdisjoint(spoken)
        self._parts = ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="checkpoint-part")

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._parts.shutdown(cancel_futures=True)

    def send(self, path: Path, target: str, entry: FileEntry, like: str | None = None) -> None:
        """Have a file's bytes at ``target``; nothing is sent if they are there, or can be copied from ``like``.

        Args:
            path: The local file, which is what ``entry`` says.
            target: Where to, on the file system.
            entry: Its size and digest.
            like: A path on the file system where a file of the same digest is, or was; None: none is known.

        Raises:
            OSError: The file system refused, or was not reached; also what its own library raises for that.
        """
        if like is not None and self._copies and self._copied(like, target, entry):
            return
        if self._s3:
            _S3Upload(self, path, target).run()
        elif not (self._local and _is_file(Path(target), entry)):
            self._put(path, target)
        found = self._size(target)
        if found is not None and found != entry.size:
            raise OSError(f"{target} has {found} bytes after {entry.size} were sent")

    def sweep(self, under: str) -> None:
        """Give up what unfinished uploads below a path have left, where the storage keeps, and charges for, such."""
        if not self._s3:
            return
        bucket, prefix, _ = self.files.split_path(under)
        begun = self.files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix.rstrip('/')}/")
        for upload in begun.get("Uploads", ()):
            place = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            self.files.call_s3("abort_multipart_upload", **place)

    def _copied(self, like: str, target: str, entry: FileEntry) -> bool:
        if like == target:
            return False
        try:
            if self._size(like) != entry.size:
                return False
            self.files.cp_file(like, target)
        except FileNotFoundError:
            return False
        return self._size(target) == entry.size

    def _size(self, path: str) -> int | None:
        """Return a file's size: of now, though some take it from a listing that another thread has just made."""
        with self._listing:
            self.files.invalidate_cache()
            size: int | None = self.files.size(path)
            return size

    def _put(self, path: Path, target: str) -> None:
        if self._limited:
            with path.open("rb") as source, self.files.open(target, "wb") as sink:
                while piece := source.read(_PIECE_BYTES):
                    with self._passing(len(piece)):
                        sink.write(piece)
        else:
            with self._passing(path.stat().st_size):
                self.files.put_file(str(path), target)
        if self._local:
            with Path(target).open("rb+") as file:
                durable.flush(file)

    @contextmanager
    def _passing(self, count: int) -> Iterator[None]:
        """Wait until bytes may pass, and count them once they have."""
        self._throttle.take(count)
        yield
        with self._guard:
            self.bytes_sent += count


class _S3Upload:
    """One file on its way to one S3 object."""

    def __init__(self, sender: Sender, path: Path, target: str) -> None:
        self._sender = sender
        self._path = path
        bucket, key, _ = sender.files.split_path(target)
        self._place = {"Bucket": bucket, "Key": key}
        self._target = target
        self._size = path.stat().st_size
        least = -(-self._size // _MOST_PARTS)
        self._part_bytes = max(_PART_BYTES, -(-least // _PIECE_BYTES) * _PIECE_BYTES)
        self._count = -(-self._size // self._part_bytes)

    def run(self) -> None:
        if self._is_there():
            logger.debug("%s is there already", self._target)
        elif self._count <= 1:
            with self._sender._passing(self._size):
                self._call("put_object", Body=self._path.read_bytes())
        else:
            self._send_parts()
        self._sender.files.invalidate_cache(self._target)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._sender.files.call_s3(method, **self._place, **arguments)
        return answer

    def _is_there(self) -> bool:
        try:
            head = self._call("head_object")
        except FileNotFoundError:
            return False
        if head["ContentLength"] != self._size:
            return False
        digests = [hashlib.md5(self._read(number), usedforsecurity=False) for number in range(self._count)]
        if self._count <= 1:
            return any(_etag(head) == digest.hexdigest() for digest in digests)
        whole = hashlib.md5(b"".join(digest.digest() for digest in digests), usedforsecurity=False)
        return _etag(head) == f"{whole.hexdigest()}-{self._count}"

    def _send_parts(self) -> None:
        begun, there = self._begun()
        upload = begun or str(self._call("create_multipart_upload")["UploadId"])
        turns = threading.Semaphore(self._sender.at_once)

        def send(number: int) -> str:
            with turns:
                return self._send_part(upload, number, there.get(number + 1))

        futures = [self._sender._parts.submit(send, number) for number in range(self._count)]
        try:
            etags = [future.result() for future in futures]
        except Exception:
            # On a line too slow for as many, each is given up before its turn is over: next time one after the other.
            self._sender.at_once = 1
            raise
        finally:
            for future in futures:
                future.cancel()
        self._sender.at_once = min(_PARTS_AT_ONCE, 2 * self._sender.at_once)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        self._call("complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts})

    def _begun(self) -> tuple[str | None, dict[int, str]]:
        """Return an unfinished upload to this key and the ETags of the parts it has; None if none can be found."""
        bucket, key = self._place["Bucket"], self._place["Key"]
        try:
            begun = self._sender.files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
            uploads = [upload for upload in begun.get("Uploads", ()) if upload["Key"] == key]
            if not uploads:
                return None, {}
            upload = str(uploads[-1]["UploadId"])
            parts = self._call("list_parts", UploadId=upload).get("Parts", ())
        # Who may write need not be allowed to list; and what was listed may be completed or given up by now.
        except OSError as error:
            logger.debug("%s is sent from its beginning: %s", self._target, error)
            return None, {}
        return upload, {part["PartNumber"]: _etag(part) for part in parts}

    def _send_part(self, upload: str, number: int, there: str | None) -> str:
        data = self._read(number)
        if there is not None and there == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return there
        with self._sender._passing(len(data)):
            answer = self._call("upload_part", UploadId=upload, PartNumber=number + 1, Body=data)
        return str(answer["ETag"])

    def _read(self, number: int) -> bytes:
        with self._path.open("rb", buffering=0) as file:
            file.seek(number * self._part_bytes)
            return file.read(self._part_bytes)


def _etag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _is_file(path: Path, entry: FileEntry) -> bool:
    try:
        return path.stat().st_size == entry.size and digest_of_file(path) == (entry.size, entry.digest)
    except FileNotFoundError:
        return False
