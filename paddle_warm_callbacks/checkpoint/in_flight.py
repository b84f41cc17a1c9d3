"""Work behind training: one thread, one checkpoint in flight, failures handed back to the caller."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from paddle_warm_callbacks.checkpoint.own_thread import Failure, OwnThread
from paddle_warm_callbacks.errors import CheckpointWriteError, RankError, WarmCallbacksError

logger = logging.getLogger("paddle_warm_callbacks")

Contents = TypeVar("Contents")


@dataclass(frozen=True)
class SaveEvent:
    """One committed checkpoint.

    Attributes:
        name: The checkpoint's name.
        seconds_blocked: How long ``submit`` waited for the write before it.
        seconds_to_durable: From then to the commit being on disk.
        bytes_written: Of all its files; what it shares with the checkpoint before is not counted. On a rank above 0:
            of that rank's share, 0 if it has none.
    """

    name: str
    seconds_blocked: float
    seconds_to_durable: float
    bytes_written: int


@dataclass(frozen=True)
class Request(Generic[Contents]):
    """What was submitted.

    Attributes:
        contents: As given to :meth:`InFlight.submit`.
        ready: Fills the arrays, and returns whether they are to be written.
        seconds_blocked: How long the caller has waited.
        submitted: When, by the monotonic clock.
    """

    contents: Contents
    ready: Callable[[], bool]
    seconds_blocked: float
    submitted: float

    def event(self, name: str, bytes_written: int) -> SaveEvent:
        """Return the event of its being durable now."""
        return SaveEvent(name, self.seconds_blocked, time.monotonic() - self.submitted, bytes_written)


class InFlight(OwnThread, Generic[Contents]):
    """Write what is submitted on a thread of its own.

    One checkpoint is in flight, so that memory holds one copy of the state: a second :meth:`submit` waits until the
    first is durable.

    A failure is raised once, as CheckpointWriteError (or RankError, where ranks cannot go on together), by whichever of
    :meth:`submit`, :meth:`wait` and :meth:`close` comes next; what was committed before is intact, and the writer goes
    on working.
    """

    def __init__(self) -> None:
        super().__init__("checkpoint-writer")
        self._request: Request[Contents] | None = None

    @abstractmethod
    def write(self, request: Request[Contents]) -> None:
        """Write one checkpoint; called on the thread. Whatever it raises is handed to the caller."""

    def submit(self, contents: Contents, ready: Callable[[], bool] | None = None) -> None:
        """Hand over a checkpoint; returns at once, or when the one before it is durable.

        Args:
            contents: Its arrays must not change until :meth:`wait` has returned.
            ready: Called first, on the writer's thread: fills the arrays, and returns whether they are to be written.

        Raises:
            CheckpointWriteError: An earlier one failed; ``contents`` was not taken.
            RankError: Another rank, needed for an earlier one, has failed or is missing.
        """
        started = time.monotonic()
        with self._changed:
            assert not self._closing, "submit after close"
            self._wait_until_idle()
            now = time.monotonic()
            self._request = Request(contents, ready or _ready, now - started, now)
            self._work_came()

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is in flight."""
        with self._changed:
            return self._request is not None

    def wait(self) -> None:
        """Block until what was submitted is durable.

        Raises:
            CheckpointWriteError: It failed.
            RankError: Another rank has failed or is missing.
        """
        with self._changed:
            self._wait_until_idle()

    def close(self) -> None:
        """Wait for everything and end the thread; does nothing the second time.

        Raises:
            CheckpointWriteError: The last checkpoint failed. The thread has ended.
            RankError: Another rank has failed or is missing. The thread has ended.
        """
        self._end()
        self.raise_failure()

    def _wait_until_idle(self) -> None:
        self._changed.wait_for(lambda: self._request is None)
        self.raise_failure()

    def _has_work(self) -> bool:
        return self._request is not None

    def _do_work(self) -> None:
        with self._changed:
            request = self._request
        assert request is not None
        failure = self._failure_of(request)
        del request  # its arrays may be given up for larger ones before the next comes
        with self._changed:
            self._request = None
            self._failure = failure or self._failure
            self._changed.notify_all()

    def _failure_of(self, request: Request[Contents]) -> Failure | None:
        """Write, and return what training must hear of: an exception would end with the thread."""
        try:
            self.write(request)
        except CheckpointWriteError as error:
            return error
        except RankError as error:
            # Training may be waiting for that very rank, in a collective that cannot be left.
            logger.error("a checkpoint was not written: %s", error.what)
            return error
        except BaseException as error:
            return _unforeseen(error)
        return None


def _ready() -> bool:
    return True


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
