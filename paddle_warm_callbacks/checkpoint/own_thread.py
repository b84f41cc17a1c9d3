"""A thread for work behind training: begun with the first work, ended on request, failures kept for the caller."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Union

from paddle_warm_callbacks.errors import CheckpointWriteError, RankError

Failure = Union[CheckpointWriteError, RankError]


class OwnThread(ABC):
    """Work on a thread of its own, whenever there is something to do.

    What there is to do, subclasses keep in attributes of their own. Those, and the ones here, are read and written
    under the condition ``_changed``.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._failure: Failure | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _has_work(self) -> bool:
        """Return whether there is something to do; called under the condition."""

    @abstractmethod
    def _do_work(self) -> None:
        """Do it; called on the thread, without the condition. What it raises would be lost: it keeps ``_failure``."""

    def _work_came(self) -> None:
        """Have the thread begin; called under the condition."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _end(self) -> None:
        """Wait until what there is to do is done and the thread has ended; does nothing the second time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def raise_failure(self) -> None:
        """Raise what is kept, once; do nothing if nothing failed."""
        with self._changed:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_work() or self._closing)
                if not self._has_work():
                    return
            self._do_work()
