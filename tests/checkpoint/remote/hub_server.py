"""A small Hugging Face Hub on this machine's loopback: the few requests that HfFileSystem reads a file with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.checkpoint.remote.loopback import served

TOKEN, MODEL = "hf_hunter2", "someone/defects"


class Hub:
    """What the one private model's repository holds, and what was asked of it.

    Attributes:
        files: (revision, path) to bytes.
        gets: (path, first byte) of each GET of a file.
        cuts: So many of the next files' answers end in the middle, with the connection.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.gets: list[tuple[str, int]] = []
        self.cuts = 0


@contextmanager
def serving() -> Iterator[tuple[Hub, str]]:
    """Yield the hub and its address, for HF_ENDPOINT."""
    hub = Hub()
    with served(_Handler, hub=hub) as address:
        yield hub, address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith(f"api/models/{MODEL}/tree/"):
            self._tree(*path[len(f"api/models/{MODEL}/tree/") :].partition("/")[::2])
        elif path == f"api/models/{MODEL}" or path.startswith(f"api/models/{MODEL}/revision/"):
            self._repository(path[len(f"api/models/{MODEL}/revision/") :] or "main")
        elif path.startswith(f"{MODEL}/resolve/"):
            self._file(*path[len(f"{MODEL}/resolve/") :].partition("/")[::2])
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _repository(self, revision: str) -> None:
        if revision not in {held for held, _ in self.hub.files}:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        self._json({"id": MODEL, "_id": "1", "sha": "0" * 40, "private": True, "tags": [], "siblings": []})

    def _tree(self, revision: str, folder: str) -> None:
        inside = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for (held, path), data in self.hub.files.items():
            if held == revision and path.startswith(inside):
                name = inside + path[len(inside) :].partition("/")[0]
                oid = hashlib.sha1(data).hexdigest()
                file = {"type": "file", "oid": oid, "size": len(data), "path": name}
                entries[name] = (
                    file if name == path else {"type": "directory", "oid": "1" * 40, "path": name, "size": 0}
                )
        if not entries and folder:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        self._json(list(entries.values()))

    def _file(self, revision: str, path: str) -> None:
        data = self.hub.files.get((revision, path))
        if data is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        first, last = 0, len(data) - 1
        asked = self.headers.get("Range")
        if asked is not None:
            begin, _, end = asked.partition("=")[2].partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.hub.gets.append((path, first))
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Content-Length", str(last - first + 1))
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        body = data[first : last + 1]
        if self.hub.cuts > 0 and self.command == "GET":
            self.hub.cuts -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        if self.command == "GET":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""
