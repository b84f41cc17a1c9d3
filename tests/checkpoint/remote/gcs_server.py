"""A small Google Cloud Storage on this machine's loopback: the calls of its JSON API that gcsfs makes, with tokens.

Its address has Google's host name as its path: where gcsfs sees an emulator instead, it does not delete in batches as
it does at Google. Objects lie in memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.checkpoint.remote.loopback import served

# A token that counts, and that of an account which may do nothing here.
TOKEN, STRANGER, BUCKET = "ya29.hunter2-of-gcs", "ya29.of-somebody-else", "models"
_PREFIX = "/storage.googleapis.com"
# Of a larger object a part is copied by each request, which the client repeats; the real one does so by time.
_BYTES_PER_REWRITE = 1 << 22
# What is sent in chunks comes in multiples of this, but for the last.
_CHUNK_BYTES = 1 << 18


class Store:
    """What the bucket holds, and what was asked of it.

    Attributes:
        objects: Key to bytes.
        requests: (method, key, names of the query's parameters) of each request that had a token that counts.
        most_keys: How many a listing has at most; the client asks for the next page.
        cut_after: Downloads end after so many bytes, with the connection; None: none does.
        batched: How many objects were deleted in batches.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.written: dict[str, datetime] = {}
        self.generations: dict[str, int] = {}
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self.requests: list[tuple[str, str, frozenset[str]]] = []
        self.most_keys = 3
        self.cut_after: int | None = None
        self.batched = 0
        self.guard = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        with self.guard:
            self.objects[key] = data
            self.written[key] = datetime.now(timezone.utc)
            self.generations[key] = self.generations.get(key, 0) + 1


@contextmanager
def serving() -> Iterator[tuple[Store, str]]:
    """Yield the one bucket's content and the address, for STORAGE_EMULATOR_HOST."""
    store = Store()
    with served(_Handler, store=store) as address:
        yield store, f"{address}{_PREFIX}"


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._check_token()
            if not parts.path.startswith(f"{_PREFIX}/"):
                raise _Refused(404, "Not Found")
            self._dispatch(parts.path[len(_PREFIX) :], query, body)
        except _Refused as refused:
            self._json({"error": {"code": refused.status, "message": str(refused)}}, refused.status)

    def __getattr__(self, name: str) -> Any:
        if name in ("do_GET", "do_POST", "do_PUT", "do_DELETE"):
            return self._answer
        raise AttributeError(name)

    def _check_token(self) -> None:
        token = (self.headers.get("Authorization") or "").partition("Bearer ")[2]
        if token == STRANGER:
            raise _Refused(403, "the account does not have storage.objects.get access to the object.")
        if token != TOKEN:
            raise _Refused(401, "Invalid Credentials")

    def _dispatch(self, path: str, query: dict[str, str], body: bytes) -> None:
        if path == "/batch/storage/v1":
            self._delete_batch(body)
            return
        match = re.fullmatch(
            r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/([^/]+)(?:/rewriteTo/b/([^/]+)/o/([^/]+))?)?)?",
            path,
        )
        if match is None:
            raise _Refused(404, "Not Found")
        kind, *names = match.groups()
        bucket, key, other, target = (None if name is None else unquote(name) for name in names)
        if bucket != BUCKET or other not in (None, BUCKET):
            raise _Refused(404, "The specified bucket does not exist.")
        self.store.requests.append((self.command, key or query.get("name", ""), frozenset(query)))
        if kind == "/upload":
            self._upload(query, body)
        elif target is not None:
            self._rewrite(key or "", target, query)
        elif self.command == "DELETE":
            self._remove(key or "")
            self._send(204, b"")
        elif key is not None and query.get("alt") == "media":
            self._media(key)
        elif key is not None:
            self._json(self._metadata(key))
        elif path.endswith("/o"):
            self._json(self._listing(query))
        else:
            self._json({"kind": "storage#bucket", "name": BUCKET, "location": "US"})

    # -- requests ------------------------------------------------------------------------------------------------------

    def _media(self, key: str) -> None:
        data = self._object(key)
        first, last = 0, len(data) - 1
        asked = self.headers.get("Range")
        headers = {"Content-Type": "application/octet-stream"}
        if asked is not None:
            begin, _, end = asked.partition("=")[2].partition("-")
            first, last = int(begin or 0), min(int(end or last), last)
            if first > last:
                raise _Refused(416, "Request range not satisfiable")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(206 if asked else 200, data[first : last + 1], headers, cut=self.store.cut_after)

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        if "upload_id" in query:
            self._chunk(query["upload_id"], body)
        elif query.get("uploadType") == "multipart":
            key, data = self._two_parts(body)
            self.store.put(key, data)
            self._json(self._metadata(key))
        elif query.get("uploadType") == "resumable":
            key = str(json.loads(body)["name"])
            with self.store.guard:
                number = f"upload{len(self.store.uploads)}"
                self.store.uploads[number] = (key, bytearray())
            there = f"http://{self.headers['Host']}{_PREFIX}/upload/storage/v1/b/{BUCKET}/o"
            self._send(
                200,
                b"",
                {"Location": f"{there}?uploadType=resumable&name={quote(key, '')}&upload_id={number}"},
            )
        else:
            raise _Refused(400, "uploadType is neither multipart nor resumable")

    def _two_parts(self, body: bytes) -> tuple[str, bytes]:
        """Return the name and the content of a multipart upload."""
        boundary = re.search('boundary="([^"]+)"', self.headers["Content-Type"])
        assert boundary is not None
        mark = b"--" + boundary[1].encode()
        _, described, rest = body.split(mark, 2)
        content = rest[: rest.rindex(b"\n" + mark + b"--")]
        return str(json.loads(described.partition(b"\n\n")[2])["name"]), content.partition(b"\n\n")[2]

    def _chunk(self, number: str, body: bytes) -> None:
        """Take a piece of an upload that was begun; "bytes 0-9/*" says that more will come."""
        if number not in self.store.uploads:
            raise _Refused(404, "No such upload")
        key, data = self.store.uploads[number]
        if self.command == "DELETE":
            del self.store.uploads[number]
            self._send(499, b"")
            return
        said = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range") or "")
        if said is None or int(said[1] or len(data)) != len(data):
            raise _Refused(400, "Content-Range does not follow what is there")
        data += body
        if said[3] != "*" and int(said[3]) == len(data):
            self.store.put(key, bytes(data))
            self._json(self._metadata(key))
        elif len(body) % _CHUNK_BYTES:
            raise _Refused(400, "a chunk that is not the last has to be a multiple of 256 KiB")
        else:
            self._send(308, b"", {"Range": f"bytes=0-{len(data) - 1}"})

    def _rewrite(self, key: str, target: str, query: dict[str, str]) -> None:
        data = self._object(key)
        copied = int(query.get("rewriteToken", "0")) + _BYTES_PER_REWRITE
        answer = {
            "kind": "storage#rewriteResponse",
            "objectSize": str(len(data)),
            "done": copied >= len(data),
        }
        if copied < len(data):
            self._json({**answer, "totalBytesRewritten": str(copied), "rewriteToken": str(copied)})
            return
        self.store.put(target, data)
        self._json({**answer, "totalBytesRewritten": str(len(data)), "resource": self._metadata(target)})

    def _delete_batch(self, body: bytes) -> None:
        answers = []
        for name in re.findall(rb"^DELETE \S+/o/(\S+) HTTP/1.1$", body, re.MULTILINE):
            try:
                self._remove(unquote(name.decode()))
                self.store.batched += 1
                said = "HTTP/1.1 204 No Content\r\n\r\n"
            except _Refused as refused:
                error = {"error": {"code": refused.status, "message": str(refused)}}
                said = f"HTTP/1.1 {refused.status} Not Found\r\n\r\n{json.dumps(error)}\r\n"
            answers.append(f"--batch_of_ours\r\nContent-Type: application/http\r\n\r\n{said}\r\n")
        data = "".join([*answers, "--batch_of_ours--\r\n"]).encode()
        self._send(200, data, {"Content-Type": "multipart/mixed; boundary=batch_of_ours"})

    def _remove(self, key: str) -> None:
        with self.store.guard:
            if self.store.objects.pop(key, None) is None:
                raise _Refused(404, f"No such object: {BUCKET}/{key}")

    # -- answers -------------------------------------------------------------------------------------------------------

    def _object(self, key: str) -> bytes:
        if key not in self.store.objects:
            raise _Refused(404, f"No such object: {BUCKET}/{key}")
        return self.store.objects[key]

    def _metadata(self, key: str) -> dict[str, str]:
        data = self._object(key)
        digest = base64.b64encode(hashlib.md5(data).digest()).decode()
        moment = self.store.written[key].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return {
            "kind": "storage#object", "bucket": BUCKET, "name": key, "size": str(len(data)), "md5Hash": digest,
            "etag": digest, "generation": str(self.store.generations[key]), "metageneration": "1",
            "timeCreated": moment, "updated": moment, "storageClass": "STANDARD",
        }  # fmt: skip

    def _listing(self, query: dict[str, str]) -> dict[str, Any]:
        prefix, delimiter, after = (query.get(name, "") for name in ("prefix", "delimiter", "pageToken"))
        most = min(int(query.get("maxResults") or 1000), self.store.most_keys)
        entries: dict[str, bool] = {}
        for key in sorted(key for key in list(self.store.objects) if key.startswith(prefix)):
            inside, found, _ = key[len(prefix) :].partition(delimiter or "\0")
            name = f"{prefix}{inside}{delimiter}" if found else key
            if name > after:
                entries[name] = bool(found)
        shown = list(entries)[:most]
        listing: dict[str, Any] = {
            "kind": "storage#objects",
            "prefixes": [name for name in shown if entries[name]],
            "items": [self._metadata(name) for name in shown if not entries[name]],
        }
        return {**listing, "nextPageToken": shown[-1]} if len(entries) > most else listing

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})

    def _send(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        if cut is not None and len(data) > cut:
            data = data[:cut]
            self.close_connection = True
        # Of two questions gcsfs drops the second when the first is answered.
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""
