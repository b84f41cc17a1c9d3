"""Between a client and an HTTP server: requests that are refused, never answered, cut off in the middle, or slow."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Callable, Optional

_PIECE = 1 << 16
_CODES = {403: b"AccessDenied", 500: b"InternalError", 503: b"ServiceUnavailable"}


@dataclass(frozen=True)
class Fault:
    """What befalls one request.

    Attributes:
        status: The answer instead of the server's own, 403, 500 or 503; 0: the server's.
        cut_after: Cut the connection once so many bytes of the request's body have passed; None: not.
        silent_for: Seconds without an answer, after which the connection is cut; 0: it is answered.
    """

    status: int = 0
    cut_after: int | None = None
    silent_for: float = 0.0


Chooser = Callable[[str, str], Optional[Fault]]


class FaultyProxy:
    """Pass HTTP requests on to a server on this machine; a context manager.

    Args:
        port: The server's.

    Attributes:
        choose: Asked with method and path of each request what befalls it; None: nothing.
        bytes_per_second: How fast request bodies pass, all together; None: as they come.
        requests: Method and path of each request so far.
        bytes_up: Bytes of request bodies that were passed on.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self.choose: Chooser = lambda method, path: None
        self.bytes_per_second: float | None = None
        self.requests: list[tuple[str, str]] = []
        self.bytes_up = 0
        self._guard = threading.Lock()
        self._free = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._listener.close()

    def times(self, count: int, fault: Fault, pattern: str = "") -> None:
        """Let ``fault`` befall the next ``count`` requests whose method and path match ``pattern``."""
        left = [count]

        def choose(method: str, path: str) -> Fault | None:
            with self._guard:
                if left[0] and re.search(pattern, f"{method} {path}"):
                    left[0] -= 1
                    return fault
            return None

        self.choose = choose

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head, body = _read_head(client)
            if not head:
                return
            method, path = head.split(b" ", 2)[:2]
            self.requests.append((method.decode(), path.decode()))
            fault = self.choose(method.decode(), path.decode()) or Fault()
            if fault.silent_for:
                self._closing.wait(fault.silent_for)
                return
            if fault.status:
                _drain(client, head, len(body))
                reason = b"<Error><Code>%s</Code><Message>not now</Message></Error>" % _CODES[fault.status]
                client.sendall(
                    b"HTTP/1.1 %d Refused\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n"
                    b"Connection: close\r\n\r\n%s" % (fault.status, len(reason), reason)
                )
                return
            self._relay(client, head, body, fault)

    def _relay(self, client: socket.socket, head: bytes, body: bytes, fault: Fault) -> None:
        # One request a connection: what the server closes after its answer needs no knowledge of where that ends.
        head = re.sub(rb"\r\nConnection: [^\r]*", b"", head, flags=re.IGNORECASE)
        head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with socket.create_connection(("127.0.0.1", self._server)) as server:
            server.sendall(head)
            up = threading.Thread(target=self._up, args=(client, server, body, fault), daemon=True)
            up.start()
            with contextlib.suppress(OSError):
                while piece := server.recv(_PIECE):
                    client.sendall(piece)
            _shut(client)
            _shut(server)
            up.join(10)

    def _up(self, client: socket.socket, server: socket.socket, body: bytes, fault: Fault) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            piece = body or client.recv(_PIECE)
            while piece:
                if fault.cut_after is not None and passed + len(piece) > fault.cut_after:
                    _shut(server)
                    _shut(client)
                    return
                self._wait_for(len(piece))
                server.sendall(piece)
                passed += len(piece)
                with self._guard:
                    self.bytes_up += len(piece)
                piece = client.recv(_PIECE)

    def _wait_for(self, count: int) -> None:
        if self.bytes_per_second is None:
            return
        with self._guard:
            now = time.monotonic()
            self._free = max(self._free, now) + count / self.bytes_per_second
            until = self._free
        self._closing.wait(until - now)


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_PIECE)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def _drain(client: socket.socket, head: bytes, have: int) -> None:
    if re.search(rb"expect: 100-continue", head, re.IGNORECASE):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    left = (int(length.group(1)) if length else 0) - have
    while left > 0:
        piece = client.recv(min(left, _PIECE))
        if not piece:
            return
        left -= len(piece)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
