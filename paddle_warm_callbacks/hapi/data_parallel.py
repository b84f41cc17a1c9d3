"""Gradients averaged over ranks while what is trainable changes."""

from __future__ import annotations

from typing import Any


class GradientAveraging:
    """Have a model's DataParallel average the gradients of exactly the parameters that are trainable now.

    DataParallel makes its reducer when ``paddle.Model`` is built, for the parameters that are trainable then. One that
    is thawed later is left out: each rank moves it by its own gradient, and nothing says so. One that is frozen later
    is waited for: the step after raises. So the reducer is made anew at each change. The user's setting of
    ``find_unused_parameters`` is kept.

    Args:
        model: The ``paddle.Model``; on one rank it has no DataParallel, and nothing is done.
    """

    def __init__(self, model: Any) -> None:
        self._parallel = getattr(model._adapter, "ddp_model", None)
        self._covered: frozenset[str] | None = None

    def follow(self) -> None:
        """Make the reducer anew if what is trainable has changed since the last call."""
        if self._parallel is None:
            return
        trainable = frozenset(p.name for p in self._parallel.parameters() if not p.stop_gradient)
        if trainable == self._covered or not trainable:
            return
        self._covered = trainable
        # The gradients' nodes keep pointers to every reducer that was ever made: freed, the next backward pass crashes.
        self._parallel.__dict__.setdefault("_reducers_before", []).append(self._parallel._reducer)
        self._parallel.init_reducer()
