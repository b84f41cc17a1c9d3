"""The base of our callbacks: hooks that come after everyone else's, from one :class:`FitLoop`."""

from __future__ import annotations

from typing import Any

import paddle

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi.fit_loop import FitLoop


class FitCallback(paddle.callbacks.Callback):  # type: ignore[misc]  # Paddle is untyped
    """Join the running ``Model.fit`` and receive its events after all other callbacks have had theirs.

    Subclasses override the hooks below; each does nothing by default. A subclass whose state must survive a
    restart also defines ``state_dict()`` and ``load_state_dict(state)``, as any user callback may: plain values,
    arrays and containers of them are saved in each checkpoint and given back before :meth:`fit_started`.

    Attributes:
        order: Position among our callbacks, whatever the order in the user's list; lower is called first.
    """

    order = 50

    def __init__(self) -> None:
        super().__init__()
        self.loop: FitLoop | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Keep the parameters and join the fit that hands them out; ``evaluate`` and ``predict`` are not joined."""
        super().set_params(params)
        self.loop = FitLoop.join(self)

    @classmethod
    def hears(cls, hook: str) -> bool:
        """Return whether this class does anything at ``hook``; what does nothing is not called at every step."""
        return getattr(cls, hook) is not getattr(FitCallback, hook)

    def fit_opened(self, loop: FitLoop) -> None:
        """Restore what training continues from; may set ``loop.progress``. All ``on_train_begin`` have been called."""

    def fit_started(self, loop: FitLoop) -> None:
        """Act on the position training starts at, which is ``loop.progress``."""

    def fit_ready(self, loop: FitLoop) -> None:
        """Act once all of our callbacks have started; next come everyone's ``on_epoch_begin``."""

    def epoch_starting(self, loop: FitLoop) -> None:
        """Act before the first batch of an epoch, or of what is left of it, is loaded."""

    def step_starting(self, loop: FitLoop) -> None:
        """Act between a batch's loading and its forward pass; ``loop.progress`` is this step."""

    def step_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Act after a step and every callback's ``on_train_batch_end``; ``loop.progress`` counts the step."""

    def epoch_completed(self, loop: FitLoop, logs: dict[str, Any], eval_logs: dict[str, Any] | None) -> None:
        """Act after an epoch and its evaluation; ``loop.progress`` is the start of the next. No evaluation: None."""

    def fit_ended(self, loop: FitLoop, logs: dict[str, Any]) -> None:
        """Act at the normal end, after every callback's ``on_train_end``."""

    def interrupted(self, loop: FitLoop) -> None:
        """Act on an exception or Ctrl-C that is ending fit between two steps: the tensors are ``loop.progress``'s."""

    def fit_closed(self, loop: FitLoop) -> None:
        """Undo every change made to the user's objects. Called once per fit: after a return, an exception or Ctrl-C."""


def require_alone(
    loop: FitLoop, kind: type[FitCallback], what: str, *, expected: str = "one", remedy: str
) -> None:
    """Refuse a second callback of this kind in a fit.

    Args:
        loop: Of the fit.
        kind: The class.
        what: What two would do to each other.
        expected: What one is enough for.
        remedy: What to do instead.

    Raises:
        InvalidArgumentError: There is more than one.
    """
    count = sum(isinstance(callback, kind) for callback in loop.callbacks)
    if count > 1:
        raise InvalidArgumentError(
            what,
            where="Model.fit(callbacks=)",
            received=f"{count} {kind.__name__}",
            expected=expected,
            remedy=remedy,
        )
