"""Messages between the ranks of one run: small, pushed, and beside Paddle's collectives.

A collective blocks until the last rank has come, cannot be given up, and ends the process in C++ when a rank has died.
Paddle's TCPStore takes 44 ms for a call, does not tell of a rank's death, and serves one thread. So rank 0 listens on a
socket of its own and all others connect to it; the store tells them, once a fit, where. What they exchange is JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Callable, Protocol

from paddle_warm_callbacks.errors import RankError

logger = logging.getLogger("paddle_warm_callbacks")

Message = list[Any]
Received = Callable[[int, Message], None]

# How long a rank that is done waits for the others to have read what it said.
_SECONDS_FOR_GOODBYES = 10.0
BYE = "bye"
LOST = "lost"


class Bulletin(Protocol):
    """Where rank 0 can pin a text that all ranks see: Paddle's store, or a dictionary in a test."""

    def put(self, text: str) -> None:
        """Pin the text."""

    def take(self) -> str | None:
        """Return it, or None while it is not there."""


class RankChannel:
    """One end of the connections between rank 0 and every other rank.

    Args:
        rank: Of this process, from 0.
        size: Number of ranks.
        bulletin: For the address.
        host: Name or address by which the others reach rank 0.
        seconds: How long to wait for the others to connect.
        received: Called with (rank, message) for each message, on a thread of the channel, one at a time for each rank;
            with ``["bye"]`` when that rank has closed its end, and ``["lost"]`` when its process ended without.

    Raises:
        RankError: A rank did not connect in time; it is named.
    """

    def __init__(
        self, rank: int, size: int, bulletin: Bulletin, host: str, seconds: float, received: Received
    ) -> None:
        self.rank = rank
        self.size = size
        self._received = received
        self._connections: dict[int, Connection] = {}
        self._sending = threading.Lock()
        self._leaving = threading.Event()
        self._readers: list[threading.Thread] = []
        self._waited = False
        if rank == 0:
            self._gather(bulletin, host, seconds)
        else:
            self._connect(bulletin, seconds)

    def listen(self) -> None:
        """Begin to hand out what comes in; what came before is not lost."""
        for peer in self._connections:
            reader = threading.Thread(
                target=self._read, args=(peer,), name=f"rank-{peer}-reader", daemon=True
            )
            self._readers.append(reader)
            reader.start()

    def send(self, rank: int, message: Message) -> None:
        """Send to ``rank`` (from rank 0 to any other, from another to rank 0); one that is gone is passed over."""
        self._send_bytes(rank, json.dumps(message, allow_nan=False).encode("ascii"))

    def send_all(self, message: Message) -> None:
        """Send from rank 0 to every other rank."""
        data = json.dumps(message, allow_nan=False).encode("ascii")
        for rank in self._connections:
            self._send_bytes(rank, data)

    def close(self, *, patient: bool) -> None:
        """Say goodbye and end the threads.

        Args:
            patient: Wait a little for the others' goodbyes, so that nobody loses a message of ours that is under way.
        """
        self._leaving.set()
        self.send_all([BYE])
        deadline = time.monotonic() + (_SECONDS_FOR_GOODBYES if patient else 0.0)
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        for connection in self._connections.values():
            _shut(connection)
        for reader in self._readers:
            reader.join()
        for connection in self._connections.values():
            connection.close()

    def _gather(self, bulletin: Bulletin, host: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        key = secrets.token_bytes(16)
        with Listener((host, 0), backlog=self.size, authkey=key) as listener:
            bulletin.put(json.dumps([host, listener.address[1], key.hex()]))
            accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            accepting.start()
            accepting.join(max(0.0, deadline - time.monotonic()))
            self._waited = True
        missing = sorted(set(range(1, self.size)) - set(self._connections))
        if missing:
            raise missing_error("the start of fit", missing, seconds)

    def _accept(self, listener: Listener) -> None:
        while len(self._connections) < self.size - 1:
            try:
                connection = listener.accept()
                _send_at_once(connection)
                self._connections[int(json.loads(connection.recv_bytes()))] = connection
            except Exception as error:  # a stranger at the door, without the key or with other manners
                if self._waited:
                    return
                logger.warning("a connection to rank 0 was refused: %s: %s", type(error).__name__, error)

    def _connect(self, bulletin: Bulletin, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (text := bulletin.take()) is None:
            if time.monotonic() > deadline:
                raise missing_error("the start of fit", [0], seconds)
            time.sleep(0.02)
        host, port, key = json.loads(text)
        problem = ["no answer"]

        def call() -> None:
            try:
                connection = Client((host, port), authkey=bytes.fromhex(key))
                _send_at_once(connection)
                connection.send_bytes(json.dumps(self.rank).encode("ascii"))
                self._connections[0] = connection
            except (OSError, EOFError, AuthenticationError) as error:
                problem[0] = f"{type(error).__name__}: {error}"

        calling = threading.Thread(target=call, daemon=True)  # neither call takes a time limit
        calling.start()
        calling.join(max(0.0, deadline - time.monotonic()))
        if 0 not in self._connections:
            raise RankError(
                "rank 0 cannot be reached",
                where=f"rank {self.rank}, {host}:{port}",
                received=problem[0],
                expected="a connection: the ranks of a run talk to rank 0 over TCP, on a port of its choice",
                remedy="look at the log of rank 0; let the machines of the job reach each other on all ports",
            )

    def _send_bytes(self, rank: int, data: bytes) -> None:
        try:
            with self._sending:
                self._connections[rank].send_bytes(data)
        except OSError as error:
            logger.debug("rank %d was not told: %s", rank, error)  # its reader tells that it is gone

    def _read(self, rank: int) -> None:
        connection = self._connections[rank]
        while True:
            try:
                message = json.loads(connection.recv_bytes())
            except (EOFError, OSError):
                if not self._leaving.is_set():
                    self._received(rank, [LOST])
                return
            self._received(rank, message)
            if message[0] == BYE:
                return


def _send_at_once(connection: Connection) -> None:
    """Let no message wait for the acknowledgement of the one before it: that takes the peer's kernel 40 ms."""
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _shut(connection: Connection) -> None:
    """End both directions, which wakes whoever reads; closing would not, and would give the number to another file."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def missing_error(what: str, missing: list[int], seconds: float) -> RankError:
    """Return the error for ranks that did not come."""
    return RankError(
        f"{named(missing)} did not come to {what}",
        where=what,
        received=f"nothing from {named(missing)} for {seconds:g} seconds",
        expected="every rank, with the same callbacks: pass them to fit on all ranks, not on rank 0 alone",
        remedy="look at that rank's log; if it is only slow, set PADDLE_WARM_CALLBACKS_RANK_SECONDS higher",
    )


def named(ranks: list[int] | Mapping[int, Any]) -> str:
    """Write ranks as words.

    >>> named([2]), named([1, 3])
    ('rank 2', 'ranks 1, 3')
    """
    numbers = ", ".join(map(str, sorted(ranks)))
    return f"rank {numbers}" if len(ranks) == 1 else f"ranks {numbers}"
