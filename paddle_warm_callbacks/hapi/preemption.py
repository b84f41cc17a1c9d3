"""Signals that say the machine is about to be taken away: remembered, so that training can save and stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any, Callable, Dict, Optional, Sequence

logger = logging.getLogger("paddle_warm_callbacks")

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class SignalFlag:
    """Catch signals by raising a flag instead of ending the process.

    Args:
        signals: Which.

    Attributes:
        received: The name of the first signal that came, or None.
    """

    def __init__(self, signals: Sequence[signal.Signals] = SIGNALS) -> None:
        self.received: Optional[str] = None
        self._signals = tuple(signals)
        self._previous: Dict[int, Any] = {}

    def install(self) -> None:
        """Put the handlers in place; Python allows that in the main thread only, elsewhere this says so and returns."""
        if threading.current_thread() is not threading.main_thread():
            logger.warning("fit does not run in the main thread: signals will not be turned into a checkpoint")
            return
        for number in self._signals:
            self._previous[number] = signal.signal(number, self._raise_flag)

    def uninstall(self) -> None:
        """Give the previous handlers back; one that is a function is called now if its signal had come."""
        came, previous = self.received, self._previous
        self._previous = {}
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number, handler in previous.items():
            if came == signal.Signals(number).name and callable(handler):
                handler(number, None)

    def worker_init(self, users: Optional[Callable[[int], Any]]) -> Callable[[int], None]:
        """Wrap a DataLoader's ``worker_init_fn`` so that its workers outlive a signal to the whole process group.

        Paddle's workers inherit the trainer's handlers: without this they would raise the trainer's flag in vain, or
        die and take the batch that training waits for with them.
        """
        signals = self._signals

        def start(worker: int) -> None:
            for number in signals:
                signal.signal(number, signal.SIG_IGN)
            if users is not None:
                users(worker)

        return start

    def _raise_flag(self, number: int, frame: Optional[FrameType]) -> None:
        if self.received is None:
            self.received = signal.Signals(number).name
            logger.warning("%s received: saving at the next step's end, then stopping", self.received)
