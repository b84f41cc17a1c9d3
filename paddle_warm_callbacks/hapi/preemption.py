"""Signals that say the machine is about to be taken away: remembered, so that training can save and stop."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Callable

from paddle_warm_callbacks.errors import InvalidArgumentError

logger = logging.getLogger("paddle_warm_callbacks")

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

# Of Linux's <sys/prctl.h>.
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2


def signals_named(names: bool | Sequence[str], where: str) -> tuple[signal.Signals, ...]:
    """Return the signals of these names; True stands for :data:`SIGNALS`, False for none.

    Raises:
        InvalidArgumentError: A name is no signal's, or is one's that cannot be caught.
    """
    if isinstance(names, bool):
        return SIGNALS if names else ()
    found = tuple(signal.Signals.__members__.get(name) for name in names)
    if isinstance(names, str) or None in found or {signal.SIGKILL, signal.SIGSTOP} & set(found):
        raise InvalidArgumentError(
            "not signals that can be caught",
            where=where,
            received=repr(names),
            expected='True, False, or names such as ("SIGTERM", "SIGUSR2")',
        )
    return tuple(signal.Signals[name] for name in names)


class SignalFlag:
    """Catch signals by raising a flag instead of ending the process.

    A handler of Python's runs in the main thread between two of its instructions, so not while that thread waits for
    data inside the loader. The number of the signal arrives at a socket at once all the same
    (``signal.set_wakeup_fd``), where a thread of ours reads it.

    Args:
        signals: Which.

    Attributes:
        received: The name of the first signal that came, or None.
    """

    def __init__(self, signals: Sequence[signal.Signals] = SIGNALS) -> None:
        self.received: str | None = None
        self._signals = tuple(signals)
        self._previous: dict[int, Any] = {}
        self._previous_of_parent: int | None = None

    def install(self, at_once: Callable[[], None], *, with_parent: bool = False) -> None:
        """Put the handlers in place; Python allows that in the main thread only, elsewhere this says so and returns.

        Args:
            at_once: Called, in a thread of its own, as soon as the first of the signals comes.
            with_parent: Let the end of the parent process count as SIGTERM, where the system is Linux: the ranks of a
                launcher that is killed would run on as orphans, with nobody to stop or restart them.
        """
        if threading.current_thread() is not threading.main_thread():
            logger.warning(
                "fit does not run in the main thread: signals will not be turned into a checkpoint"
            )
            return
        self.received = None
        self._at_once = at_once
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._users_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, name="paddle-warm-signals", daemon=True)
        self._watcher.start()
        for number in self._signals:
            self._previous[number] = signal.signal(number, self._raise_flag)
        if with_parent:
            self._previous_of_parent = _signal_at_parents_end(signal.SIGTERM)

    def uninstall(self) -> None:
        """Give the previous handlers back; one that is a function is called now if its signal had come."""
        if not self._previous:
            return
        previous, self._previous = self._previous, {}
        if self._previous_of_parent is not None:
            _signal_at_parents_end(self._previous_of_parent)
            self._previous_of_parent = None
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._users_fd)
        # Ends the watcher. To close it would not: workers that live on, an evaluation's persistent ones, hold a copy.
        self._writer.shutdown(socket.SHUT_RDWR)
        self._writer.close()
        self._watcher.join()
        self._reader.close()
        for number, handler in previous.items():
            if self.received == signal.Signals(number).name and callable(handler):
                handler(number, None)

    def worker_init(self, users: Callable[[int], Any] | None) -> Callable[[int], None]:
        """Wrap a DataLoader's ``worker_init_fn`` so that its workers outlive a signal to the whole process group.

        Paddle's workers inherit the trainer's handlers: without this they would raise the trainer's flag in vain, or
        die and take the batch that training waits for with them.
        """

        def start(worker: int) -> None:
            signal.set_wakeup_fd(-1)
            for number in self._signals:
                signal.signal(number, signal.SIG_IGN)
            if users is not None:
                users(worker)

        return start

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        self._remember(number)

    def _remember(self, number: int) -> bool:
        first = self.received is None
        if first:
            self.received = signal.Signals(number).name
            logger.warning("%s received: saving at the next step's end, then stopping", self.received)
        return first

    def _watch(self) -> None:
        acted = False
        while True:
            numbers = self._reader.recv(16)
            if not numbers:
                return
            ours = [number for number in numbers if number in self._signals]
            if ours and not acted:
                acted = True
                self._remember(ours[0])
                self._at_once()


def _signal_at_parents_end(number: int) -> int | None:
    """Set which signal this process gets when its parent ends, 0 for none; return which it was, or None: no Linux."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return None
    before = ctypes.c_int()
    prctl(_PR_GET_PDEATHSIG, ctypes.byref(before))
    prctl(_PR_SET_PDEATHSIG, int(number))
    return before.value
