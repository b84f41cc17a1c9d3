"""What of a network is trainable: parameters by structured name, and the norm layers that go with them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np

from paddle_warm_callbacks.hapi import norms
from paddle_warm_callbacks.plan.stages import StagePlan

_EVERYTHING = ("", ".", ".*", ".+", "^.*", "^.*$")


class Freezer:
    """Freeze and thaw a network until closed; then everything is the user's again.

    Running statistics stand among ``named_parameters()`` with ``stop_gradient=True``: they are never thawed, whatever a
    pattern says.

    Args:
        network: The Layer.

    Attributes:
        names: Structured names of the parameters that an optimizer may move.
        sizes: Their numbers of elements, by name.
        frozen_by_user: Those that had ``stop_gradient=True`` before.
    """

    def __init__(self, network: Any) -> None:
        self._parameters = _movable(network)
        self.names = tuple(self._parameters)
        self.sizes = trainable_sizes(network)
        self._users = {name: p.stop_gradient for name, p in self._parameters.items()}
        self.frozen_by_user = frozenset(name for name, frozen in self._users.items() if frozen)
        self._norms = norms.NormGuard(network, set(self.names) - self.frozen_by_user)

    def respecting_the_user(self, plan: StagePlan) -> tuple[tuple[str, ...], ...]:
        """Return for each stage of ``plan`` what it trains: a pattern for everything thaws nothing the user froze.

        Raises:
            PatternError: A pattern names no parameter.
        """
        found = []
        for stage, names in zip(plan.stages, plan.trainable_names(self.names)):
            naming = [pattern for pattern in stage.trainable if pattern not in _EVERYTHING]
            named = {name for name in names if any(re.search(pattern, name) for pattern in naming)}
            found.append(tuple(name for name in names if name in named or name not in self.frozen_by_user))
        return tuple(found)

    def apply(self, trainable: Collection[str], *, freeze_norm: bool) -> None:
        """Make exactly ``trainable`` trainable; with ``freeze_norm``, norms none of whose parameters is, are frozen.

        A norm without a scale and shift to train goes with the layer before it that has something to train.
        """
        for name, parameter in self._parameters.items():
            if parameter.stop_gradient and name in trainable:
                parameter.clear_gradient()  # what it got while it was frozen, if anything, is no gradient of this step
            parameter.stop_gradient = name not in trainable
        self._norms.apply(trainable, freeze=freeze_norm)

    def close(self) -> None:
        """Give the user's settings back."""
        for name, parameter in self._parameters.items():
            parameter.stop_gradient = self._users[name]
        self._norms.close()


def trainable_sizes(network: Any) -> dict[str, int]:
    """Return the number of elements of each parameter that an optimizer may move, by structured name."""
    return {name: int(np.prod(parameter.shape)) for name, parameter in _movable(network).items()}


def _movable(network: Any) -> dict[str, Any]:
    fixed = {id(tensor) for tensor in norms.statistics(network)}
    return {name: parameter for name, parameter in network.named_parameters() if id(parameter) not in fixed}
