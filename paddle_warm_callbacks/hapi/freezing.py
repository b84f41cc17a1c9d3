"""What of a network is trainable: parameters by structured name, and the norm layers that go with them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np

from paddle_warm_callbacks.errors import InvalidArgumentError
from paddle_warm_callbacks.hapi import norms
from paddle_warm_callbacks.hapi.gradient_guard import GradientGuard
from paddle_warm_callbacks.plan.stages import StagePlan

_EVERYTHING = ("", ".", ".*", ".+", "^.*", "^.*$")


class Freezer:
    """Freeze and thaw a network until closed; then everything is the user's again.

    What moves in forward, such as running statistics, stands among ``named_parameters()`` with ``stop_gradient=True``:
    it is never thawed, whatever a pattern says.

    Args:
        network: The Layer.

    Attributes:
        names: Structured names of the parameters that an optimizer may move.
        sizes: Their numbers of elements, by name.
    """

    def __init__(self, network: Any) -> None:
        self._parameters = _movable(network)
        self.names = tuple(self._parameters)
        self.sizes = trainable_sizes(network)
        self._users = {name: p.stop_gradient for name, p in self._parameters.items()}
        self._norms = norms.NormGuard(network, [name for name, frozen in self._users.items() if not frozen])
        self._gradients = GradientGuard(network)

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
        self._gradients.close()
        for name, parameter in self._parameters.items():
            parameter.stop_gradient = self._users[name]
        self._norms.close()


def trained_names(network: Any, plan: StagePlan) -> tuple[tuple[str, ...], ...]:
    """Return for each stage of ``plan`` what it trains: a pattern for everything thaws nothing the user froze.

    Args:
        network: As the user has it; no :class:`Freezer` is at work.
        plan: The stages.

    Raises:
        PatternError: A pattern names no parameter.
        InvalidArgumentError: A stage trains nothing.
    """
    parameters = _movable(network)
    frozen_by_user = set(frozen_names(network))
    found = []
    for stage, names in zip(plan.stages, plan.trainable_names(parameters)):
        naming = [pattern for pattern in stage.trainable if pattern not in _EVERYTHING]
        named = {name for name in names if any(re.search(pattern, name) for pattern in naming)}
        trained = tuple(name for name in names if name in named or name not in frozen_by_user)
        if not trained:
            raise InvalidArgumentError(
                "a stage trains nothing: the network came frozen, and its pattern names everything and so nothing",
                where=f"Stage({stage.start}, trainable) [{stage.unit}]",
                received=f"{' | '.join(stage.trainable)}, and stop_gradient=True in all {len(names)} parameters",
                expected="a parameter that is not frozen, or a pattern that names one",
                remedy="set stop_gradient=False in what may be trained, or name it",
            )
        found.append(trained)
    return tuple(found)


def frozen_names(network: Any) -> tuple[str, ...]:
    """Return the parameters an optimizer may move but for their ``stop_gradient=True``, by structured name."""
    return tuple(name for name, parameter in _movable(network).items() if parameter.stop_gradient)


def trainable_sizes(network: Any) -> dict[str, int]:
    """Return the number of elements of each parameter that an optimizer may move, by structured name."""
    return {name: int(np.prod(parameter.shape)) for name, parameter in _movable(network).items()}


def _movable(network: Any) -> dict[str, Any]:
    fixed = {id(tensor) for tensor in norms.moved_by_forward(network)}
    return {name: parameter for name, parameter in network.named_parameters() if id(parameter) not in fixed}
