"""The norm of the gradients, between the backward pass and the optimizer's step."""

from __future__ import annotations

import math
from typing import Any

from paddle.nn.clip import merge_selected_rows


class GradientNorm:
    """Measure the L2 norm over all gradients an optimizer step is about to use: unscaled, summed, not yet clipped.

    Measuring waits for the device and reads every gradient once, so it is done only where asked for.

    Args:
        network: The Layer whose parameters count.
        optimizer: Gets an attribute ``minimize``, which ``Model.train_batch`` calls, until :meth:`close`.
    """

    def __init__(self, network: Any, optimizer: Any) -> None:
        self._parameters = network.parameters()
        self._optimizer = optimizer
        self._minimize = optimizer.minimize
        self._wanted = False
        self._measured: float | None = None
        optimizer.minimize = self._measure_and_minimize

    def request(self) -> None:
        """Have the next optimizer step measured."""
        self._wanted = True

    def take(self) -> float | None:
        """Return what was measured since the last call, or None."""
        measured, self._measured = self._measured, None
        return measured

    def close(self) -> None:
        """Give the optimizer back."""
        del self._optimizer.minimize

    def _measure_and_minimize(self, *args: Any, **kwargs: Any) -> Any:
        if self._wanted:
            self._wanted = False
            self._measured = _norm(self._parameters)
        return self._minimize(*args, **kwargs)


def _norm(parameters: list[Any]) -> float:
    total = 0.0
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None or parameter.stop_gradient:
            continue
        if gradient.is_selected_rows():  # of an embedding with sparse=True
            total += float((merge_selected_rows(gradient).numpy().astype("float32") ** 2).sum())
        else:
            total += float((gradient.astype("float32") ** 2).sum())
    return math.sqrt(total)
