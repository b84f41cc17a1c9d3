"""Draws from Paddle's generator in the thread that loads data: found, for training may draw from the same one."""

from __future__ import annotations

import logging
from typing import Any, Callable

from paddle_warm_callbacks.hapi import rng

logger = logging.getLogger("paddle_warm_callbacks")

_REMEDY = "draw from NumPy's or Python's generator there, or load in a worker: num_workers=1"
RACE = (
    "the data set draws from Paddle's generator in the thread that loads, and training draws from it too: which of the "
    "two draws first is chance, so that two uninterrupted runs differ and no resume is exact; " + _REMEDY
)
UNRECORDED = (
    "the data set draws from Paddle's generator in the thread that loads, and has no indices: an interrupted run will "
    "not go on exactly; " + _REMEDY
)


class PaddleDraws:
    """Watch Paddle's generator around what a loader without workers does for each batch.

    While the first batch of an epoch is loaded, training waits: what is drawn then, the loading thread draws. After
    that, what is drawn between two batches, training draws. A loader whose first batch draws nothing is asked no more.
    On Paddle 2.6, whose generator cannot be read, nothing is found.

    Args:
        by_index: Whether :meth:`loading` is told of each batch; else of an epoch's first alone.

    Attributes:
        drawn: Whether the loading thread has been seen to draw.
        problem: What to tell the user of it; empty while there is nothing.
    """

    def __init__(self, *, by_index: bool) -> None:
        self._by_index = by_index
        self._works = rng.paddle_state_is_whole()
        self._first = True
        self._before: Any = None
        self._after: Any = None
        self.drawn = False
        self.problem = ""

    def begin_epoch(self) -> None:
        """Take note that the next batch is an epoch's first, or the first of what is left of it."""
        self._first = True
        self._after = None

    def loading(self) -> None:
        """Take note that a batch is about to be loaded."""
        if not self._works or not (self._first or self.drawn) or self.problem:
            return
        self._before = rng.capture_paddle()
        if self._after is not None and self._before != self._after:
            self._tell(RACE)

    def collate(self, users: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap the collate function, the last thing that is done for a batch."""

        def collate_and_look(samples: Any) -> Any:
            batch = users(samples)
            self._loaded()
            return batch

        return collate_and_look

    def _loaded(self) -> None:
        if not self._works or not (self._first or self.drawn) or self.problem:
            return
        self._after = rng.capture_paddle()
        if self._first:
            self._first = False
            self.drawn = self._after != self._before
            if self.drawn and not self._by_index:
                self._tell(UNRECORDED)

    def _tell(self, problem: str) -> None:
        self.problem = problem
        logger.warning("%s", problem)
