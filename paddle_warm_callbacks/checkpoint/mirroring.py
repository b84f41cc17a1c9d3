"""Uploads behind training: a thread that copies committed checkpoints to a mirror, the newest first in line."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.own_thread import OwnThread
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.errors import CheckpointWriteError, WarmCallbacksError
from paddle_warm_callbacks.plan.retention import KeepBest
from paddle_warm_callbacks.secrets import cause

logger = logging.getLogger("paddle_warm_callbacks")

# A minute in all, in which a server may be restarted; a newer checkpoint ends the waiting.
_ATTEMPTS = 7
_SECONDS_BETWEEN = 1.0
# What trying again does not mend: a bucket that is gone, credentials that do not count.
_FINAL = (FileNotFoundError, PermissionError, WarmCallbacksError)


@dataclass(frozen=True)
class MirrorEvent:
    """One checkpoint that has arrived at the mirror.

    Attributes:
        name: The checkpoint's name.
        seconds: From its commit to its arrival.
        bytes_sent: Bytes of files that went over the line for it.
        passed_over: Checkpoints so far that newer ones overtook before their upload began.
    """

    name: str
    seconds: float
    bytes_sent: int
    passed_over: int


class MirrorThread(OwnThread):
    """Copy checkpoints to a mirror, one at a time, on a thread of its own.

    A checkpoint that is submitted while another waits takes its place: a mirror slower than the saves gets the newest
    each time it is free, and ``passed_over`` counts those it never gets. An upload that fails is tried again, after
    one second, two, four and so on, for a minute, and goes on where it stopped; a newer checkpoint takes its place.

    Args:
        mirror: Where to.
        on_copied: Called with a :class:`MirrorEvent` for each checkpoint that has arrived, on the mirror's thread; must
            be quick.

    Attributes:
        passed_over: Checkpoints that were replaced by newer ones before their upload began.
    """

    def __init__(
        self,
        mirror: Mirror,
        on_copied: Callable[[MirrorEvent], None] | None = None,
        ranking: KeepBest | None = None,
    ) -> None:
        super().__init__("checkpoint-mirror")
        self._mirror = mirror
        self._writer = MirrorWriter(mirror, ranking)
        self._on_copied = on_copied
        self.passed_over = 0
        self._waiting: Checkpoint | None = None
        self._submitted = 0.0
        self._behind_since: float | None = None
        self._uploading: Checkpoint | None = None

    def submit(self, checkpoint: Checkpoint) -> None:
        """Have ``checkpoint`` copied; returns at once."""
        with self._changed:
            if self._waiting is not None:
                self.passed_over += 1
                logger.info("%s is not mirrored: %s overtook it", self._waiting.name, checkpoint.name)
            self._waiting, self._submitted = checkpoint, time.monotonic()
            if self._behind_since is None:
                self._behind_since = self._submitted
            self._work_came()

    def unfinished(self) -> tuple[str, ...]:
        """Return the names of the checkpoints that are still needed: uploading, or next."""
        with self._changed:
            return tuple(c.name for c in (self._uploading, self._waiting) if c is not None)

    def lag(self) -> float:
        """Return for how many seconds the mirror has lacked a checkpoint that was submitted; 0 if it has the newest."""
        with self._changed:
            return 0.0 if self._behind_since is None else time.monotonic() - self._behind_since

    def close(self) -> None:
        """Wait for the last upload and end the threads."""
        self._end()
        self._writer.close()

    def _has_work(self) -> bool:
        return self._waiting is not None

    def _do_work(self) -> None:
        with self._changed:
            assert self._waiting is not None
            checkpoint, self._waiting = self._waiting, None
            submitted = self._submitted
            self._uploading = checkpoint
        failure = self._upload(checkpoint, submitted)
        with self._changed:
            self._uploading = None
            self._failure = failure
            if failure is None:
                newer = self._waiting is not None  # submitted while this one was on its way
                self._behind_since = self._submitted if newer else None

    def _upload(self, checkpoint: Checkpoint, submitted: float) -> CheckpointWriteError | None:
        sent = self._writer.bytes_sent
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._writer.copy(checkpoint)
            # Every storage library raises its own; none of them may end training, and close reports the last.
            except Exception as error:
                failure = self._failed(checkpoint, attempt, error)
                with self._changed:
                    if (
                        attempt == _ATTEMPTS
                        or isinstance(error, _FINAL)
                        or self._changed.wait_for(lambda: self._waiting is not None, _pause(attempt))
                    ):
                        return failure
            else:
                if self._on_copied is not None:
                    seconds, sent = time.monotonic() - submitted, self._writer.bytes_sent - sent
                    self._on_copied(MirrorEvent(checkpoint.name, seconds, sent, self.passed_over))
                return None
        return None

    def _failed(self, checkpoint: Checkpoint, attempt: int, error: Exception) -> CheckpointWriteError:
        url = self._mirror.url
        logger.warning(
            "copying %s to %s failed (%d of %d): %s", checkpoint.name, url, attempt, _ATTEMPTS, error
        )
        failure = CheckpointWriteError(
            "the newest checkpoint is committed, but could not be copied to the mirror",
            where=f"{checkpoint.path} -> {url}",
            received=f"{type(error).__name__}: {error}",
            expected="a mirror that can be written to",
            remedy="copy the directory yourself: a copied checkpoint is as good as the original",
        )
        failure.__cause__ = cause(error)
        return failure


def _pause(attempt: int) -> float:
    """Return seconds before the next attempt, of which there are many when a server comes back to many clients."""
    return _SECONDS_BETWEEN * float(1 << attempt - 1) * random.uniform(0.75, 1.25)
