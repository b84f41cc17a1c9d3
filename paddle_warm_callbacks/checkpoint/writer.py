"""Checkpoints written behind training: one thread, one checkpoint in flight, failures handed back to the caller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror
from paddle_warm_callbacks.checkpoint.mirroring import MirrorEvent, MirrorThread
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import CheckpointWriteError, WarmCallbacksError
from paddle_warm_callbacks.plan.retention import RetentionPolicy

logger = logging.getLogger("paddle_warm_callbacks")


@dataclass(frozen=True)
class SaveEvent:
    """One committed checkpoint.

    Attributes:
        name: The checkpoint's name.
        seconds_blocked: How long ``submit`` waited for the write before it.
        seconds_to_durable: From then to the commit being on disk.
        bytes_written: Of all its files; what it shares with the checkpoint before is not counted.
    """

    name: str
    seconds_blocked: float
    seconds_to_durable: float
    bytes_written: int


@dataclass(frozen=True)
class _Request:
    contents: CheckpointContents
    ready: Callable[[], bool] | None
    seconds_blocked: float
    submitted: float


class BackgroundWriter:
    """Commit checkpoints on a thread of its own, then delete what the policy lets go, then copy to the mirror.

    One checkpoint is in flight, so that memory holds one copy of the state: a second :meth:`submit` waits until the
    first is durable. It waits for the local disk only, never for the mirror, which has its own thread.

    A failure is raised once, as CheckpointWriteError, by whichever of :meth:`submit`, :meth:`wait` and :meth:`close`
    comes next; what was committed before is intact, and the writer goes on working.

    Args:
        store: Where to; its lock should be held by this process.
        keep: What stays after each commit; None: everything.
        mirror: Where each committed checkpoint is copied to; None: no copies. See :class:`MirrorThread`.
        on_commit: Called with a :class:`SaveEvent` after each commit, on the writer's thread; must be quick.
        on_mirrored: Called with a :class:`MirrorEvent` for each checkpoint that has arrived at the mirror, on the
            mirror's thread; must be quick.

    Attributes:
        waited: How many ``submit`` calls had to wait for the checkpoint before theirs.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        keep: RetentionPolicy | None = None,
        mirror: Mirror | str | None = None,
        on_commit: Callable[[SaveEvent], None] | None = None,
        on_mirrored: Callable[[MirrorEvent], None] | None = None,
    ) -> None:
        self._store = store
        self._keep = keep
        to = Mirror.of(mirror)
        self._mirror = None if to is None else MirrorThread(to, on_mirrored)
        self._on_commit = on_commit
        self.waited = 0
        self._changed = threading.Condition()
        # All four are read and written under the condition.
        self._request: _Request | None = None
        self._failure: CheckpointWriteError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, contents: CheckpointContents, ready: Callable[[], bool] | None = None) -> None:
        """Hand over a checkpoint; returns at once, or when the one before it is durable.

        Args:
            contents: Its arrays must not change until :meth:`wait` has returned.
            ready: Called first, on the writer's thread: fills the arrays, and returns whether they are to be written.

        Raises:
            CheckpointWriteError: An earlier one failed; ``contents`` was not taken.
        """
        started = time.monotonic()
        with self._changed:
            assert not self._closing, "submit after close"
            self.waited += self._request is not None
            self._wait_until_idle()
            now = time.monotonic()
            self._request = _Request(contents, ready, now - started, now)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def copy(self, checkpoint: Checkpoint) -> None:
        """Have a checkpoint that was committed earlier copied to the mirror, if there is one; returns at once."""
        if self._mirror is not None:
            self._mirror.submit(checkpoint)

    def mirror_lag(self) -> float | None:
        """Return for how many seconds the mirror has lacked something; None without a mirror."""
        return None if self._mirror is None else self._mirror.lag()

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is in flight."""
        with self._changed:
            return self._request is not None

    def wait(self) -> None:
        """Block until what was submitted is durable, and older checkpoints are deleted; not for the mirror.

        Raises:
            CheckpointWriteError: It failed.
        """
        with self._changed:
            self._wait_until_idle()

    def close(self) -> None:
        """Wait for everything, the mirror included, and end the threads; does nothing the second time.

        Raises:
            CheckpointWriteError: The last checkpoint, or its copy to the mirror, failed. The threads have ended.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        try:
            if thread is not None:
                thread.join()
        finally:
            if self._mirror is not None:
                self._mirror.close()
        self._raise_failure()
        if self._mirror is not None:
            self._mirror.raise_failure()

    def _wait_until_idle(self) -> None:
        self._changed.wait_for(lambda: self._request is None)
        self._raise_failure()

    def _raise_failure(self) -> None:
        with self._changed:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._request is not None or self._closing)
                request = self._request
            if request is None:
                return
            failure = None
            try:
                self._write(request)
            except CheckpointWriteError as error:
                failure = error
            # Whatever it is, training must hear of it: an exception would end here with the thread.
            except BaseException as error:
                failure = _unforeseen(error)
            with self._changed:
                self._request = None
                self._failure = failure or self._failure
                self._changed.notify_all()

    def _write(self, request: _Request) -> None:
        if request.ready is not None and not request.ready():
            return
        checkpoint = self._store.commit(request.contents)
        durable = time.monotonic()
        if self._mirror is not None:
            self._mirror.submit(checkpoint)
        if self._on_commit is not None:
            self._on_commit(_event(checkpoint, request, durable, self._store.bytes_written))
        if self._keep is not None:
            self._store.retain(self._keep, spare=() if self._mirror is None else self._mirror.unfinished())


def _event(checkpoint: Checkpoint, request: _Request, durable: float, bytes_written: int) -> SaveEvent:
    return SaveEvent(checkpoint.name, request.seconds_blocked, durable - request.submitted, bytes_written)


def _unforeseen(error: BaseException) -> CheckpointWriteError:
    failure = CheckpointWriteError(
        error.what if isinstance(error, WarmCallbacksError) else "a checkpoint could not be written",
        where=error.where if isinstance(error, WarmCallbacksError) else "",
        received=error.received
        if isinstance(error, WarmCallbacksError)
        else f"{type(error).__name__}: {error}",
        expected="a whole checkpoint",
        remedy="checkpoints committed before it are intact",
    )
    failure.__cause__ = error
    return failure
