"""Uploads behind training: a thread that copies committed checkpoints to a mirror, the newest first in line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.store import Checkpoint
from paddle_warm_callbacks.errors import CheckpointWriteError

logger = logging.getLogger("paddle_warm_callbacks")

_ATTEMPTS = 3
_SECONDS_BETWEEN = 2.0


class MirrorThread:
    """Copy checkpoints to a URL, one at a time, on a thread of its own.

    A checkpoint that is submitted while another waits takes its place: a mirror slower than the saves gets the newest
    each time it is free, and ``passed_over`` counts those it never gets. An upload is tried three times; if it fails,
    the next checkpoint is tried in its turn. Nothing is deleted at the mirror.

    Args:
        url: The mirror's root: any fsspec URL.
        on_copied: Called with the name of each checkpoint that has arrived and the seconds since it was submitted, on
            the mirror's thread; must be quick.

    Attributes:
        passed_over: Checkpoints that were replaced by newer ones before their upload began.
    """

    def __init__(self, url: str, on_copied: Callable[[str, float], None] | None = None) -> None:
        self._url = url
        self._on_copied = on_copied
        self.passed_over = 0
        self._changed = threading.Condition()
        # These are read and written under the condition.
        self._waiting: Checkpoint | None = None
        self._submitted = 0.0
        self._uploading: Checkpoint | None = None
        self._failure: CheckpointWriteError | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, checkpoint: Checkpoint) -> None:
        """Have ``checkpoint`` copied; returns at once."""
        with self._changed:
            if self._waiting is not None:
                self.passed_over += 1
                logger.info("%s is not mirrored: %s overtook it", self._waiting.name, checkpoint.name)
            self._waiting, self._submitted = checkpoint, time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint-mirror", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def unfinished(self) -> tuple[str, ...]:
        """Return the names of the checkpoints that are still needed: uploading, or next."""
        with self._changed:
            return tuple(c.name for c in (self._uploading, self._waiting) if c is not None)

    def close(self) -> None:
        """Wait for the last upload and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def raise_failure(self) -> None:
        """Raise CheckpointWriteError, once, if the last upload failed: the mirror lacks the newest checkpoint."""
        with self._changed:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closing)
                if self._waiting is None:
                    return
                checkpoint, self._waiting = self._waiting, None
                submitted = self._submitted
                self._uploading = checkpoint
            failure = self._upload(checkpoint)
            if failure is None and self._on_copied is not None:
                self._on_copied(checkpoint.name, time.monotonic() - submitted)
            with self._changed:
                self._uploading = None
                self._failure = failure

    def _upload(self, checkpoint: Checkpoint) -> CheckpointWriteError | None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                mirror.upload(checkpoint, self._url)
            # Every storage library raises its own; none of them may end training, and close reports the last.
            except Exception as error:
                logger.warning(
                    "copying %s to %s failed (%d of %d): %s",
                    checkpoint.name,
                    self._url,
                    attempt,
                    _ATTEMPTS,
                    error,
                )
                failure = _mirror_error(checkpoint, self._url, error)
                with self._changed:
                    if attempt == _ATTEMPTS or self._changed.wait_for(
                        lambda: self._waiting is not None, _SECONDS_BETWEEN
                    ):
                        return failure
            else:
                return None
        return None


def _mirror_error(checkpoint: Checkpoint, url: str, error: Exception) -> CheckpointWriteError:
    failure = CheckpointWriteError(
        "the newest checkpoint is committed, but could not be copied to the mirror",
        where=f"{checkpoint.path} -> {url}",
        received=f"{type(error).__name__}: {error}",
        expected="a mirror that can be written to",
        remedy="copy the directory yourself: a copied checkpoint is as good as the original",
    )
    failure.__cause__ = error
    return failure
