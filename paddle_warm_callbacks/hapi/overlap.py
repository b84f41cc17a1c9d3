"""The state, copied while training goes on where that is safe, and at once where it is not."""

from __future__ import annotations

import logging
from typing import Any

from paddle_warm_callbacks.hapi import training_state
from paddle_warm_callbacks.hapi.fit_loop import FitLoop
from paddle_warm_callbacks.hapi.hold_back import HoldBack
from paddle_warm_callbacks.hapi.shares import Shares
from paddle_warm_callbacks.hapi.staging import Copying, StagingBuffers
from paddle_warm_callbacks.hapi.tensor_layout import TensorLayout
from paddle_warm_callbacks.hapi.training_state import TensorState

logger = logging.getLogger("paddle_warm_callbacks")


class OverlappedCopies:
    """Capture a run's tensors into buffers that are used again from one checkpoint to the next.

    A copy behind training during which something was changed in place is worthless: :meth:`take_torn` says so once, and
    from then on every copy of this fit is made at once. So is one of tensors that are no longer the run's, or are no
    longer where they were, which the thread that copies finds out; the next copy is of the right ones.
    """

    def __init__(self) -> None:
        self._buffers = StagingBuffers()
        self._hold: HoldBack | None = None
        self._torn = self._stale = self._look_closely = False

    def open(self, optimizer: Any) -> None:
        """Allow copies behind training, if what ``optimizer`` writes can be held back."""
        self._torn = self._stale = self._look_closely = False
        if HoldBack.works_for(optimizer):
            self._hold = HoldBack(optimizer)

    def close(self) -> None:
        """Hold nothing back any more, and let go of the tensors and of the buffers."""
        self._at_once_from_now_on()
        self._buffers = StagingBuffers()

    def may_glance(self, *, behind: bool) -> bool:
        """Return whether the thread that copies can be left to find out where the tensors are."""
        return behind and self._hold is not None and not self._look_closely

    def capture(
        self, loop: FitLoop, where: TensorLayout, *, behind: bool, shares: Shares | None, glance: bool = False
    ) -> tuple[TensorState, Copying | None]:
        """Return the tensors' copies; with a :class:`Copying`, they are to be made yet, by :meth:`run`."""
        self._look_closely = False
        if behind and self._hold is not None:
            return training_state.capture_tensors_behind(loop, where, self._buffers, shares, glance=glance)
        return training_state.capture_tensors(loop, where, self._buffers, shares), None

    def hold_for(self, copying: Copying) -> None:
        """Hold writes back until ``copying`` has been run, which another thread has been told to do."""
        if self._hold is not None:
            self._hold.until(copying)

    def run(self, copying: Copying) -> bool:
        """Make the copy, on any thread; return whether it is worth anything."""
        whole = copying.run()
        if copying.stale:
            self._stale = True
        elif not whole:
            self._torn = True
        return whole

    def wait(self) -> None:
        """Block while a copy is being made."""
        if self._hold is not None:
            self._hold.wait()

    def take_torn(self) -> bool:
        """Return whether a copy since the last call was worthless."""
        torn, stale = self._torn, self._stale
        self._torn = self._stale = False
        if stale:
            self._look_closely = True
            logger.info(
                "tensors have come, gone or moved since the last save: this step's state is saved instead"
            )
        if torn:
            self._at_once_from_now_on()
            logger.warning(
                "parameters were changed in place between two optimizer steps, while they were being copied: that copy "
                "is dropped, this step's state is saved instead, and from now on training waits for copies"
            )
        return torn or stale

    def _at_once_from_now_on(self) -> None:
        if self._hold is not None:
            self._hold.close()
            self._hold = None
