"""What of a network is trainable: parameters by structured name, and the statistics of its norm layers."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import paddle
from paddle.nn.layer.norm import _BatchNormBase

from paddle_warm_callbacks.plan.stages import StagePlan

_WITH_STATISTICS = (_BatchNormBase, paddle.nn.BatchNorm)
_STATISTICS = ("_mean", "_variance")
_EVERYTHING = ("", ".", ".*", ".+", "^.*", "^.*$")


class Freezer:
    """Freeze and thaw a network until closed; then everything is the user's again.

    Running statistics stand among ``named_parameters()`` with ``stop_gradient=True``: they are never thawed, whatever a
    pattern says. A frozen norm layer runs as in evaluation, although every ``train_batch`` calls ``network.train()``.

    Args:
        network: The Layer.

    Attributes:
        names: Structured names of the parameters that an optimizer may move.
        sizes: Their numbers of elements, by name.
        frozen_by_user: Those that had ``stop_gradient=True`` before.
    """

    def __init__(self, network: Any) -> None:
        self._norms = _norms(network)
        self._parameters = _movable(network)
        self.names = tuple(self._parameters)
        self.sizes = trainable_sizes(network)
        self._users = {name: p.stop_gradient for name, p in self._parameters.items()}
        self.frozen_by_user = frozenset(name for name, frozen in self._users.items() if frozen)
        self._frozen_norms: set[int] = set()
        self._hooks = [
            norm.register_forward_pre_hook(self._as_in_evaluation) for norm in self._norms.values()
        ]

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
        """Make exactly ``trainable`` trainable; with ``freeze_norm``, norms none of whose parameters is, are frozen."""
        wanted = set(trainable)
        for name, parameter in self._parameters.items():
            parameter.stop_gradient = name not in wanted
        self._frozen_norms = {
            id(norm)
            for name, norm in self._norms.items()
            if freeze_norm and not any(self._belongs(parameter, name) for parameter in wanted)
        }

    def close(self) -> None:
        """Give the user's settings back."""
        for name, parameter in self._parameters.items():
            parameter.stop_gradient = self._users[name]
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _belongs(self, parameter: str, norm: str) -> bool:
        own = [p for p in self._parameters if p.rpartition(".")[0] == norm]
        # A norm without scale and shift goes with the layers around it.
        around = norm if own else norm.rpartition(".")[0]
        return parameter.startswith(f"{around}.") if around else True

    def _as_in_evaluation(self, layer: Any, inputs: Any) -> None:
        if id(layer) in self._frozen_norms:
            layer.training = False


def trainable_sizes(network: Any) -> dict[str, int]:
    """Return the number of elements of each parameter that an optimizer may move, by structured name."""
    return {name: int(np.prod(parameter.shape)) for name, parameter in _movable(network).items()}


def _norms(network: Any) -> dict[str, Any]:
    layers = network.named_sublayers(include_self=True)
    return {name: layer for name, layer in layers if isinstance(layer, _WITH_STATISTICS)}


def _movable(network: Any) -> dict[str, Any]:
    statistics = {id(getattr(norm, part)) for norm in _norms(network).values() for part in _STATISTICS}
    return {
        name: parameter for name, parameter in network.named_parameters() if id(parameter) not in statistics
    }
