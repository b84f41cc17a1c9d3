"""Writes to tensors, held back while these are being copied.

Between two optimizer steps a script's tensors can be written to by its callbacks and by its network's own code, through
``set_value`` (which ``set_state_dict`` uses too); by the optimizer, in the one method that every way to take a step
leads to, a GradScaler's too; and by operations in place, which are not held back but noticed
(:class:`~paddle_warm_callbacks.hapi.staging.Copying`).
"""

from __future__ import annotations

import inspect
import threading
import time
from typing import Any

import paddle

from paddle_warm_callbacks.hapi.staging import Copying

_STEPS = ("step", "minimize")
_WRITE = "_apply_optimize"

_guard = threading.Lock()
_open: list[HoldBack] = []


class HoldBack:
    """Make an optimizer's writes, and ``Tensor.set_value``, wait for the copy that is under way, until closed.

    Args:
        optimizer: One that :meth:`works_for`.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._copying: Copying | None = None
        self._apply = getattr(optimizer, _WRITE)
        setattr(optimizer, _WRITE, self._wait_and_apply)
        with _guard:
            _open.append(self)
            if len(_open) == 1:
                _SetValue.hold()

    @staticmethod
    def works_for(optimizer: Any) -> bool:
        """Return whether all that ``optimizer`` writes, it writes in the method that is held back here.

        That is known of Paddle's own. LBFGS, those that wrap another, and those with a ``step`` of a user's are not.
        """
        steps = [inspect.unwrap(getattr(type(optimizer), name)) for name in _STEPS]
        return all(
            step.__module__.startswith("paddle.optimizer.") and _WRITE in step.__code__.co_names
            for step in steps
        )

    def until(self, copying: Copying) -> None:
        """Hold writes back until ``copying`` is over."""
        self._copying = copying

    def wait(self) -> None:
        """Block while tensors are being copied."""
        copying = self._copying
        if copying is not None and not copying.over:
            began = time.perf_counter()
            copying.wait()
            copying.seconds_held += time.perf_counter() - began

    def close(self) -> None:
        """Give the optimizer and ``Tensor.set_value`` back."""
        if vars(self._optimizer).get(_WRITE) == self._wait_and_apply:
            delattr(self._optimizer, _WRITE)
        with _guard:
            _open.remove(self)
            if not _open:
                _SetValue.release()

    def _wait_and_apply(self, *args: Any, **options: Any) -> Any:
        self.wait()
        return self._apply(*args, **options)


class _SetValue:
    """Stand in for ``Tensor.set_value`` while anything may have to be held back."""

    original: Any = None
    stand_in: Any = None

    @classmethod
    def hold(cls) -> None:
        original = cls.original = paddle.Tensor.set_value

        def set_value(tensor: Any, *args: Any, **options: Any) -> Any:
            for hold in tuple(_open):
                hold.wait()
            return original(tensor, *args, **options)

        cls.stand_in = set_value
        paddle.Tensor.set_value = set_value

    @classmethod
    def release(cls) -> None:
        if paddle.Tensor.set_value is cls.stand_in:
            paddle.Tensor.set_value = cls.original
