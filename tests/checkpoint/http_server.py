"""An HTTP server on this machine that knows ranges and entity tags, and can break off."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Files:
    """What is served, and what was asked for.

    Attributes:
        content: Path to bytes.
        gets: (path, first byte) of every GET.
        seconds_a_get: How long each GET waits before it answers.
        silent_after: A GET gets so many bytes, and waits for the rest until the server ends; None: none does.
        seconds_a_piece: How long each tenth of an answer above 1 MB takes.
        break_from: A GET that wants this byte, or later ones, gets half and then no connection; None: none does.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.gets: list[tuple[str, int]] = []
        self.seconds_a_get = 0.0
        self.break_from: int | None = None
        self.silent_after: int | None = None
        self.seconds_a_piece = 0.0
        self.ended = threading.Event()


@contextmanager
def serving() -> Iterator[tuple[Files, str]]:
    """Yield the files and the address they are served at."""
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._headers()

        def do_GET(self) -> None:
            found = self._headers()
            if found is None:
                return
            body, last = found
            time.sleep(files.seconds_a_get)
            if files.break_from is not None and last >= files.break_from:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            if files.silent_after is not None and len(body) > files.silent_after:
                self.wfile.write(body[: files.silent_after])
                files.ended.wait()
                self.close_connection = True
                return
            piece = -(-len(body) // 10)
            for begin in range(0, len(body), max(piece, 1)):
                time.sleep(files.seconds_a_piece if len(body) > 1_000_000 else 0.0)
                self.wfile.write(body[begin : begin + piece])

        def _headers(self) -> tuple[bytes, int] | None:
            content = files.content.get(self.path)
            if content is None:
                self.send_error(404)
                return None
            first, last = 0, len(content) - 1
            asked = self.headers.get("Range")
            if asked is not None:
                start, _, end = asked.removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(end or last), last)
            if self.command == "GET":
                files.gets.append((self.path, first))
            self.send_response(200 if asked is None else 206)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:16]}"')
            self.send_header("Content-Length", str(last - first + 1))
            if asked is not None:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            return content[first : last + 1], last

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield files, f"http://127.0.0.1:{server.server_port}"
    finally:
        files.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
